# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Measuring on Countdown
#
# The measurements on the second testbed: policies that search aloud for a way to reach a target from four numbers.
# The gates that plain GRPO had to meet first, the claims again, six criteria of selection at one dose, longer runs, and
# hotter rollouts.
#
# Runs are read from their records. A run that is not recorded yet is trained here first, which takes minutes each.

# %% tags=["parameters"]
profile: str | None = None
seeds: list[int] | None = None

# %% [markdown]
# `profile` names a scale of the study in `configs/profiles/`. Without one it is `cpu`, and in Colab with a GPU `colab` if that
# has this page's runs. `seeds` replaces the profile's seeds where given.

# %%
from repro import claims
from repro.book import display, hosted
from repro.book.figures import search as figures
from repro.claims.measures import search as measures
from repro.runs import load_or_train
from repro.runs.profiles import load_profile

profile = profile or hosted.default_profile("claims/search")
ledger, loaded = claims.load_ledger(), load_profile(profile)
ids = (
    "regime",
    "search_collapse",
    "search_law",
    "search_covariance",
    "search_fixes",
    "search_room",
    "search_selection",
    "search_long",
    "search_fresh",
    "regime_hot",
    "search_hot",
)
entries = [ledger.claim(name) for name in ids]
names = dict.fromkeys(arm for entry in entries for arm in entry.arms)
names.update(dict.fromkeys(arm for group in figures.DOSES.values() for arm in group))
arms = {
    name: [load_or_train(config) for config in loaded.configs(name, seeds)]
    for name in names
}
runs = [run for group in arms.values() for run in group]

# %% [markdown]
# With one seed all arms start from one policy, on one schedule but for those trained for longer, and groups without spread are
# filtered and refilled.

# %%
for seed in {run.config.seed for run in runs}:
    beside = [run for run in runs if run.config.seed == seed]
    assert len({run.config.base_sha256 for run in beside}) == 1, seed
    apart = ("search_probe", *figures.LONG)
    compared = [run for run in beside if run.config.arm not in apart]
    assert len({run.config.max_steps for run in compared}) == 1, seed
for run in runs:
    assert run.config.trainer["filter_groups"], run.name
    assert run.evaluations["step"].max() == run.config.max_steps, run.name
for run in arms["search_grpo8"] + arms["search_unclipped"] + arms["search_clip_two"]:
    assert "selected/fraction" not in run.metrics, run.name

# %% [markdown]
# ## Entropy, accuracy and length

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-search-curves", "caption": "{glue:text}`search_curves_caption:s`"}, "image": {"alt": "Three panels against rollouts, entropy, accuracy and length of responses, for plain GRPO, its other clips, a slower one, KL-Cov and Clip-Cov."}}
display.show(
    figures.curves(arms), search_curves_caption=figures.curves_caption(arms)
)

# %% [markdown]
# ## The law

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-search-law", "caption": "{glue:text}`search_law_caption:s`"}, "image": {"alt": "Above, accuracy against entropy along each seed's run, with the fitted law. Below, what the law leaves."}}
display.show(figures.law(arms), search_law_caption=figures.law_caption(arms))

# %% [markdown]
# ## Each method against its own baseline

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-search-contrasts", "caption": "{glue:text}`search_contrasts_caption:s`"}, "image": {"alt": "Two panels with a row for each comparison: the ratio of entropies and the difference of accuracies at the end, seeds as circles with intervals."}}
display.show(
    figures.contrasts(arms), search_contrasts_caption=figures.contrasts_caption(arms)
)

# %% tags=["hide-input"]
display.table(figures.tests_table(arms))

# %% [markdown]
# ## Which tokens, at one dose

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-search-selection", "caption": "{glue:text}`search_selection_caption:s`"}, "image": {"alt": "Two panels with a row for each of six criteria: entropy and accuracy at the end against nothing removed."}}
display.show(
    figures.selection(arms), search_selection_caption=figures.selection_caption(arms)
)

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-search-fresh", "caption": "{glue:text}`search_fresh_caption:s`"}, "image": {"alt": "Two panels with three rows, covariance against random tokens, Clip-Cov's draw against covariance, and the draw against random tokens: entropy and accuracy at the end on further seeds."}}
display.show(figures.fresh(arms), search_fresh_caption=figures.fresh_caption(arms))

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-search-doses", "caption": "{glue:text}`search_doses_caption:s`"}, "image": {"alt": "Two panels against the share of the gradient removed, entropy and accuracy at the end of runs, for the largest covariances and for tokens at random."}}
display.show(figures.doses(arms), search_doses_caption=figures.doses_caption(arms))

# %% [markdown]
# ## Training that goes on, and hotter rollouts

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-search-long", "caption": "{glue:text}`search_long_caption:s`"}, "image": {"alt": "Three panels against rollouts, entropy, accuracy and length of responses, for GRPO without a clip and KL-Cov, four times as long."}}
display.show(figures.longer(arms), search_long_caption=figures.longer_caption(arms))

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-search-hot", "caption": "{glue:text}`search_hot_caption:s`"}, "image": {"alt": "Three panels against rollouts, entropy, accuracy and length of responses, for plain GRPO, GRPO without a clip and KL-Cov, rollouts at a temperature of 1.2."}}
display.show(figures.hotter(arms), search_hot_caption=figures.hotter_caption(arms))

# %% [markdown]
# ## Verdicts
#
# The gates were written before plain GRPO was run on the bases, and everything else before any other arm. The book's prose takes
# its numbers from the cell after the tables.

# %%
findings = {entry.id: claims.measure(entry, runs) for entry in entries}
found = [finding for group in findings.values() for finding in group]
studies = claims.other_studies(profile, found)
for entry in entries:
    assert len(findings[entry.id]) == len(entry.subclaims)
    css = "with-range" if entry.kind == claims.Kind.CLAIM else "with-prediction"
    shown = claims.table(entry, findings[entry.id], studies)
    display.table(shown, css=f"verdicts {css}")

# %% tags=["hide-input"]
display.glue(
    profile=profile,
    **{
        f"verdict_{entry.id}": str(claims.headline(entry, found))
        for entry in entries
    },
    **{finding.subclaim: finding.ours for finding in found},
    **{f"{finding.subclaim}_verdict": finding.word for finding in found},
    **measures.describe(arms),
)

# %% [markdown]
# ## Provenance

# %% tags=["hide-input"]
display.table(display.provenance(runs), css="facts")
