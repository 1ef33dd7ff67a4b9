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
# # The change of entropy and the covariance
#
# The measurements behind claim 3: the paper's identities on exact tables of logits; the entropy change of every
# optimizer step of on-policy training, beside all covariances that are to predict it; the paper's Fig. 8 and Table 1
# from our runs; and which tokens have the largest covariance.
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
from repro.book.figures import covariance as figures
from repro.claims.measures import covariance as measures
from repro.runs import load_or_train
from repro.runs.profiles import load_profile

profile = profile or hosted.default_profile("claims/covariance")
ledger = claims.load_ledger()
claim, question = ledger.claim("covariance"), ledger.claim("covariance_predictors")
loaded = load_profile(profile)
arms = ("rate_1e5", "rate_5e5", "probe", "rate_1e3")
groups = [
    [load_or_train(config) for config in loaded.configs(arm, seeds)] for arm in arms
]
probes = groups[arms.index("probe")]
runs = [run for group in groups for run in group]

# Every update is on-policy, and every step is probed on the responses of its update.
for run in runs:
    assert run.config.updates_per_rollout == 1, run.name
    assert run.probe["step"].tolist() == list(range(1, run.config.max_steps + 1)), (
        run.name
    )
    change = run.probe["entropy_after"] - run.probe["entropy_before"]
    assert (change - run.probe["entropy_change"]).abs().max() < 1e-9, run.name
    assert (run.probe["learning_rate"] == run.config.learning_rate).all(), run.name
    tokens = measures.first_tokens(run)
    above = tokens[tokens["advantage"] > tokens["advantage"].mean()]
    assert (above["covariance"] <= measures.sign_bound(run) + 1e-4).all(), run.name

# %% [markdown]
# ## The identities, exactly

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-tabular", "caption": "{glue:text}`tabular_caption:s`"}, "image": {"alt": "Above, errors of three statements falling with the square of the step. Below, a cloud of points: the term of the states against Lemma 1's term."}}
display.show(
    figures.tabular(),
    tabular_caption=figures.tabular_caption(),
)

# %% [markdown]
# ## Lemma 1 on a language model
#
# The covariance is exact over the vocabulary and the change of the logits is measured, so the slope must be 1 for a small
# step.

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-lemma", "caption": "{glue:text}`lemma_caption:s`"}, "image": {"alt": "Points: minus the entropy change of a step against Lemma 1's covariance, with the line of slope 1."}}
display.show(
    figures.lemma(probes),
    lemma_caption=figures.lemma_caption(probes),
)

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-rates", "caption": "{glue:text}`rates_caption:s`"}, "image": {"alt": "The slope against Lemma 1's covariance at four learning rates, with the line at 1."}}
display.show(
    figures.rates(groups),
    rates_caption=figures.rates_caption(groups),
)

# %% [markdown]
# ## The paper's Fig. 8

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-curves", "caption": "{glue:text}`curves_caption:s`"}, "image": {"alt": "Four panels against steps: covariance over responses and minus the entropy change, ours above and the paper's below."}}
display.show(
    figures.curves(probes),
    curves_caption=figures.curves_caption(probes),
)

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-accuracy-groups", "caption": "{glue:text}`accuracy_groups_caption:s`"}, "image": {"alt": "Two panels against steps: the covariance over responses of prompts with 1/8, 4/8 and 7/8 right, ours and the paper's."}}
display.show(
    figures.accuracy_groups(probes),
    accuracy_groups_caption=figures.accuracy_groups_caption(probes),
)

# %% [markdown]
# ## Which covariance predicts a step
#
# The theorems' covariances are per unit of the learning rate of plain gradient steps, and training uses Adam: their
# slopes mean nothing, and R2 is the squared correlation.

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-predictors", "caption": "{glue:text}`predictors_caption:s`"}, "image": {"alt": "For nine covariances, dots of correlation with minus the entropy change, in all of training and in its first and last third."}}
display.show(
    figures.predictors(probes),
    predictors_caption=figures.predictors_caption(probes),
)

# %% tags=["hide-input"]
display.table(measures.predictor_table(probes))

# %% [markdown]
# ## Which tokens have the largest covariance, and a bandit with a bonus or a penalty

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-top", "caption": "{glue:text}`top_caption:s`"}, "image": {"alt": "Above, mean covariance against the top share of tokens, ours and Table 1. Below, covariance against probability of the top 2 % of tokens by the sign of the advantage."}}
display.show(
    figures.top(probes),
    top_caption=figures.top_caption(probes),
)

# %% tags=["hide-input"]
display.table(measures.first_step_table(probes))

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-bandit", "caption": "{glue:text}`bandit_caption:s`"}, "image": {"alt": "Four curves against steps: reward short of the best under an entropy bonus and a covariance penalty, constant and annealed."}}
display.show(
    figures.bandit(),
    bandit_caption=figures.bandit_caption(),
)

# %% [markdown]
# ## Verdicts
#
# Each range was written into the ledger, with its reason, before the runs: first the paper's claim, then what we and other
# papers predict.

# %%
findings = claims.measure(claim, runs)
predictions = claims.measure(question, runs)
assert len(findings) == len(claim.subclaims)
everything = findings + predictions
studies = claims.other_studies(profile, everything)
for entry, css in ((claim, "with-range"), (question, "with-prediction")):
    mine = [finding for finding in everything if finding.claim == entry.id]
    display.table(claims.table(entry, mine, studies), css=f"verdicts {css}")

# %% tags=["hide-input"]
display.glue(
    profile=profile,
    seeds=f"{len(probes)} seed{'s' * (len(probes) != 1)}",
    steps=probes[0].config.max_steps,
    rate=f"{probes[0].config.learning_rate:g}",
    verdict=str(claims.headline(claim, findings)),
    verdict_predictors=str(claims.headline(question, predictions)),
    **{finding.subclaim: finding.ours for finding in everything},
    **{f"{finding.subclaim}_verdict": finding.word for finding in everything},
    **measures.describe(probes),
)

# %% [markdown]
# ## Provenance

# %% tags=["hide-input"]
display.table(display.provenance(runs), css="facts")
