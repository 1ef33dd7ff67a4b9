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
# # Measuring the law
#
# The measurements behind claim 2: performance R follows entropy H as R = -a exp(H) + b. How well it fits, what it
# predicts from the early part of training, and whether a and b depend on the algorithm, the size of the model and the
# training data. The same questions are put to the paper's own curves.
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
from repro.book.figures import law as figures
from repro.book.figures import law_null
from repro.runs import load_or_train
from repro.runs.profiles import load_profile

profile = profile or hosted.default_profile("claims/law")
ledger = claims.load_ledger()
entries = [
    ledger.claim(name) for name in ("law", "law_null", "law_control", "law_paper")
]
loaded = load_profile(profile)
names = dict.fromkeys(arm for entry in entries for arm in entry.arms)
groups = {
    arm: [load_or_train(config) for config in loaded.configs(arm, seeds)]
    for arm in (*names, "kl_target_20")
}
runs = [run for group in groups.values() for run in group]
grpo, grpo8 = groups["grpo"], groups["grpo8"]

for run in runs:
    assert run.evaluations["step"].is_monotonic_increasing, run.name
    assert run.evaluations["accuracy/mean"].between(0, 1).all(), run.name
    assert run.metrics[claims.ENTROPY].min() >= 0, run.name
findings = {entry.id: claims.measure(entry, runs) for entry in entries}
for entry in entries:
    assert len(findings[entry.id]) == len(entry.subclaims)
algorithms, sizes, data, controlled = figures.compared(groups)

# %% [markdown]
# ## The fit

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-law", "caption": "{glue:text}`fit_caption:s`"}, "image": {"alt": "Above, accuracy against entropy with a fitted curve per seed. Below, residuals against steps."}}
display.show(
    figures.fit(grpo),
    fit_caption=figures.fit_caption(grpo),
)

# %% tags=["hide-input"]
display.table(figures.fit_table(grpo))

# %% [markdown]
# ## Early prediction
#
# Every form is fitted to the same evaluations and scored on the later ones.

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-law-early", "caption": "{glue:text}`early_caption:s`"}, "image": {"alt": "Two panels of accuracy against steps with the predicted curve after a dotted line; below, errors of five forms at two cuts."}}
display.show(
    figures.early(grpo),
    early_caption=figures.early_caption(grpo),
)

# %% tags=["hide-input"]
display.table(figures.predictions_table(grpo))

# %% [markdown]
# ## Algorithms, sizes, training data, null models
#
# Runs that are compared are cut to the steps that all of them have. Null models are the same fit with the wrong entropy,
# or with none.

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-law-algorithms", "caption": "{glue:text}`algorithms_caption:s`"}, "image": {"alt": "Accuracy against entropy for four algorithms; below, a and b of each beside a grey band."}}
display.show(
    figures.coefficients(algorithms),
    algorithms_caption=figures.coefficients_caption(algorithms),
)

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-law-sizes", "caption": "{glue:text}`sizes_caption:s`"}, "image": {"alt": "Three panels against parameters: a, b and the ceiling, with a line through the smaller sizes and a diamond at the largest."}}
display.show(
    figures.sizes(sizes),
    sizes_caption=figures.sizes_caption(sizes),
)

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-law-data", "caption": "{glue:text}`data_caption:s`"}, "image": {"alt": "Accuracy against entropy for three training sets; below, a and b of each beside a grey band."}}
display.show(
    figures.coefficients(data),
    data_caption=figures.coefficients_caption(data),
)

# %% tags=["hide-input"]
display.table(figures.coefficients_table(algorithms))
display.table(figures.sizes_table(sizes))
display.table(figures.trend_table(sizes))
display.table(figures.coefficients_table(data))
display.table(law_null.null_table(grpo))

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-law-null", "caption": "{glue:text}`null_models_caption:s`"}, "image": {"alt": "Dots per seed for the law and five null models: the share of the variance of accuracy that each explains, sampled and greedy."}}
display.show(
    law_null.null_models(grpo),
    null_models_caption=law_null.null_models_caption(grpo),
)

# %% [markdown]
# ## Entropy under control

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-law-controlled", "caption": "{glue:text}`controlled_caption:s`"}, "image": {"alt": "Accuracy against entropy: the baseline's evaluations and law, and the ends of runs with controlled entropy."}}
display.show(
    figures.controlled(grpo8, controlled),
    controlled_caption=figures.controlled_caption(grpo8, controlled),
)

# %% tags=["hide-input"]
display.table(figures.controlled_table(grpo8, controlled))

# %% [markdown]
# ## The paper's own curves

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-law-paper", "caption": "{glue:text}`paper_curves_caption:s`"}, "image": {"alt": "Above, performance against entropy of three of the paper's runs with fitted curves. Below, residuals of the early fits along training."}}
display.show(
    figures.paper_curves(),
    paper_curves_caption=figures.paper_curves_caption(),
)

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-law-paper-sizes", "caption": "{glue:text}`paper_sizes_caption:s`"}, "image": {"alt": "Three panels against parameters: a, b and the ceiling of five Qwen2.5 models, with a line through the smaller ones and a diamond at 32B."}}
display.show(
    figures.paper_sizes(),
    paper_sizes_caption=figures.paper_sizes_caption(),
)

# %% tags=["hide-input"]
display.table(figures.paper_table())
display.table(figures.paper_sizes_table())

# %% [markdown]
# ## Verdicts and provenance
#
# Each range was written into the ledger, with its reason, before the runs.

# %%
found = [finding for group in findings.values() for finding in group]
studies = claims.other_studies(profile, found)
for entry in entries:
    css = "with-range" if entry.kind == claims.Kind.CLAIM else "with-prediction"
    shown = claims.table(entry, findings[entry.id], studies)
    display.table(shown, css=f"verdicts {css}")
display.glue(
    profile=profile,
    **{
        f"verdict_{entry.id}": str(claims.headline(entry, found))
        for entry in entries
    },
    **{finding.subclaim: finding.ours for finding in found},
    **{f"{finding.subclaim}_verdict": finding.word for finding in found},
    **figures.glued(groups),
)
display.table(display.provenance(runs), css="facts")
