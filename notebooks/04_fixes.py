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
# # Measuring the fixes
#
# The measurements behind claim 4: what Clip-Cov, KL-Cov, clip-higher, an entropy bonus and a reference KL do to entropy,
# accuracy, pass@k and length, beside plain GRPO and beside GRPO without a clip. All arms start from one base policy.
#
# Runs are read from their records. A run that is not recorded yet is trained here first.

# %% tags=["parameters"]
profile: str | None = None
seeds: list[int] | None = None

# %% [markdown]
# `profile` names a scale of the study in `configs/profiles/`. Without one it is `cpu`, and in Colab with a GPU `colab` if that
# has this page's runs. `seeds` replaces the profile's seeds where given.

# %%
from repro import claims
from repro.book import display, hosted
from repro.book.figures import fixes as figures
from repro.claims.measures import fixes as measures
from repro.runs import load_or_train
from repro.runs.profiles import load_profile

profile = profile or hosted.default_profile("claims/fixes")
ledger, loaded = claims.load_ledger(), load_profile(profile)
ids = (
    "fixes",
    "fixes_plain",
    "fixes_clipping",
    "fixes_delay",
    "fixes_coverage",
    "fixes_regularisers",
    "fixes_control",
    "fixes_table",
)
entries = [ledger.claim(name) for name in ids]
names = dict.fromkeys(arm for entry in entries for arm in entry.arms)
arms = {
    name: [load_or_train(config) for config in loaded.configs(name, seeds)]
    for name in names
}
runs = [run for group in arms.values() for run in group]

# %% [markdown]
# Everything starts from the same policy, on the same schedule, and differs in what its arm says alone: the unclipped
# arms clip nothing, the restricted tokens are as many as they should be, and the arms without restriction have none.

# %%
assert len({run.config.base_sha256 for run in runs}) == 1
for run in runs:
    assert run.config.updates_per_rollout == 8, run.name
    assert run.evaluations["step"].max() == run.config.max_steps, run.name
    assert run.metrics["entropy/response_mean"].min() >= 0, run.name
for run in arms["kl_cov"]:
    assert abs(run.metrics["selected/fraction"].mean() - 0.02) < 0.005, run.name
for run in arms["grpo8"] + arms["unclipped"]:
    assert measures.selected_per_rollout(run) == 0, run.name
for run in arms["unclipped"] + arms["kl_cov"]:
    assert (
        run.metrics[["clip_ratio/low_mean", "clip_ratio/high_mean"]].max().max() == 0
    ), run.name

# %% [markdown]
# ## Entropy, accuracy and length

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-fixes-curves", "caption": "{glue:text}`fixes_curves_caption:s`"}, "image": {"alt": "Three rows against optimizer steps, entropy, accuracy and length of responses: five methods of ours on the left, the paper's four on the right."}}
display.show(figures.curves(arms), fixes_curves_caption=figures.curves_caption(arms))

# %% [markdown]
# ## Differences in accuracy, and what could have been seen

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-fixes-differences", "caption": "{glue:text}`fixes_differences_caption:s`"}, "image": {"alt": "For four methods, the seeds' differences in accuracy to plain GRPO with interval, over a grey bar of differences too small to detect, and the paper's as diamonds."}}
display.show(
    figures.differences(arms),
    fixes_differences_caption=figures.differences_caption(arms),
)

# %% [markdown]
# ## Coverage

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-fixes-coverage", "caption": "{glue:text}`fixes_coverage_caption:s`"}, "image": {"alt": "Above, pass@k against k for five methods. Below, its difference to plain GRPO with intervals."}}
display.show(
    figures.coverage(arms), fixes_coverage_caption=figures.coverage_caption(arms)
)

# %% [markdown]
# ## Coefficients and fractions

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-fixes-levels", "caption": "{glue:text}`fixes_levels_caption:s`"}, "image": {"alt": "Five rows, entropy on the left and accuracy on the right against the level of a setting: entropy bonus, reference KL, KL-Cov's weight and fraction, Clip-Cov's fraction."}}
display.show(figures.levels(arms), fixes_levels_caption=figures.levels_caption(arms))

# %% [markdown]
# ## Table 2, three ways

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-fixes-table", "caption": "{glue:text}`fixes_table_caption:s`"}, "image": {"alt": "Two panels, 7B and 32B: for four methods the printed average, the mean weighted by responses and the plain mean of Table 2."}}
display.show(figures.table_2(), fixes_table_caption=figures.table_2_caption())

# %% [markdown]
# ## Verdicts
#
# Each range was written into the ledger, with its reason, before the runs; the arithmetic on Table 2 was known before.

# %%
findings = {entry.id: claims.measure(entry, runs) for entry in entries}
found = [finding for group in findings.values() for finding in group]
studies = claims.other_studies(profile, found)
for entry in entries:
    assert len(findings[entry.id]) == len(entry.subclaims)
    css = "with-range" if entry.kind == claims.Kind.CLAIM else "with-prediction"
    shown = claims.table(entry, findings[entry.id], studies)
    display.table(shown, css=f"verdicts {css}")

# %% [markdown]
# The book's prose takes its numbers from here.

# %% tags=["hide-input"]
display.glue(
    profile=profile,
    seeds=f"{len(arms['grpo8'])} seed{'s' * (len(arms['grpo8']) != 1)}",
    steps=arms["grpo8"][0].config.max_steps,
    steps_levels=arms["bonus_1e2"][0].config.max_steps,
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
