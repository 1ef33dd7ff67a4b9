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
# # Open questions, by runs of our own
#
# What the paper leaves undecided: whether it is the covariance or the loosened clip, which tokens are selected and out
# of which pool, where methods fail, what random rewards do, what counts at equal entropy, and where kept entropy pays.
# `profile` names a scale of the study in `configs/profiles/`, without one `cpu`, and in Colab `colab` if its base is pinned;
# `seeds` replaces the seeds of each arm where given.
#
# Runs are read from their records. A run that is not recorded yet is trained here first.

# %% tags=["parameters"]
profile: str | None = None
seeds: list[int] | None = None

# %%
from repro import claims
from repro.book import display, hosted
from repro.book.figures import controls as figures
from repro.claims.measures import controls as measures
from repro.runs import load_or_train
from repro.runs.profiles import load_profile

profile = profile or hosted.default_profile("claims/controls")
questions = [
    claim for claim in claims.load_ledger().claims if claim.page == "claims/controls"
]
loaded = load_profile(profile)
arms = [*figures.ARMS, *(arm for claim in questions for arm in claim.arms)]
runs = {
    arm: [load_or_train(config) for config in loaded.configs(arm, seeds)]
    for arm in dict.fromkeys(arms)
}
everything = [run for group in runs.values() for run in group]
findings = {claim.id: claims.measure(claim, everything) for claim in questions}

for run in everything:
    assert run.metrics["step"].tolist() == list(range(1, run.config.max_steps + 1))
    assert run.evaluations["step"].max() == run.config.max_steps, run.name
    assert run.metrics["entropy/token_mean"].min() >= 0, run.name
# The sample of an optimizer step holds all of its sequences, so that what is selected can be chosen again.
for run in runs["kl_cov"] + runs["grpo8"]:
    sequences = run.config.prompts_per_rollout * run.config.num_generations
    sampled = run.tokens.groupby("step")["sequence"].nunique()
    assert (sampled == sequences // run.config.updates_per_rollout).all(), run.name
# Tossed coins are right half of the time, whatever the policy does.
for run in runs[figures.RANDOM]:
    assert abs(run.metrics["reward"].mean() - 0.5) < 0.1, run.name

# %% [markdown]
# ## The covariance, or the loosened clip?
#
# KL-Cov and its absence at four clip ranges.

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-clip-grid", "caption": "{glue:text}`clip_grid_caption:s`"}, "image": {"alt": "Two panels of dots by clip range: entropy and accuracy, without covariance control and with KL-Cov."}}
display.show(
    figures.clip_grid(runs),
    clip_grid_caption=figures.clip_grid_caption(runs),
)

# %% [markdown]
# ## Which tokens?
#
# What KL-Cov selects during training.

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-selected", "caption": "{glue:text}`selected_caption:s`"}, "image": {"alt": "Two panels against steps: share of the selected tokens with a positive advantage, and with a probability under 0.1."}}
display.show(
    figures.selected(runs),
    selected_caption=figures.selected_caption(runs),
)

# %% [markdown]
# ## Out of which pool?
#
# In training, and afterwards on recorded tokens, where only the pool differs.

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-scope", "caption": "{glue:text}`scope_caption:s`"}, "image": {"alt": "Three panels of dots by pool of the selection: share of tokens selected, entropy and accuracy."}}
display.show(
    figures.scope(runs),
    scope_caption=figures.scope_caption(runs),
)

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-overlap", "caption": "{glue:text}`overlap_caption:s`"}, "image": {"alt": "Overlap of the top tokens within micro-batches with those of the whole step, against the size of a micro-batch."}}
display.show(
    figures.overlap(runs),
    overlap_caption=figures.overlap_caption(runs),
)

# %% [markdown]
# ## Collapse, hold or explode?
#
# KL-Cov with one update per rollout is refused by the trainer: its penalty has no gradient there.

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-failure-map", "caption": "{glue:text}`failure_map_caption:s`"}, "image": {"alt": "A grid of methods by updates per rollout, each cell saying how many runs collapse, hold or explode."}}
display.show(
    figures.failure_map(runs),
    failure_map_caption=figures.failure_map_caption(runs),
)

# %% [markdown]
# ## Random rewards

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-random", "caption": "{glue:text}`random_rewards_caption:s`"}, "image": {"alt": "Two panels against steps: entropy and accuracy under random rewards."}}
display.show(
    figures.random_rewards(runs),
    random_rewards_caption=figures.random_rewards_caption(runs),
)

# %% [markdown]
# ## At equal entropy
#
# Two controllers with the same targets.

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-plane", "caption": "{glue:text}`plane_caption:s`"}, "image": {"alt": "Arms in the plane of entropy and accuracy: KL-Cov and an entropy bonus at three targets, and five arms without a controller."}}
display.show(
    figures.plane(runs),
    plane_caption=figures.plane_caption(runs),
)

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-tracking", "caption": "{glue:text}`tracking_caption:s`"}, "image": {"alt": "Three panels against steps, one per target: the entropy of both controllers and a line at the target."}}
display.show(
    figures.tracking(runs),
    tracking_caption=figures.tracking_caption(runs),
)

# %% [markdown]
# ## Where kept entropy pays

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-pays", "caption": "{glue:text}`pays_caption:s`"}, "image": {"alt": "Two panels of dots: accuracy that KL-Cov adds to GRPO without a clip and to plain GRPO, with something to explore and with a single strategy."}}
display.show(
    figures.pays(findings["exploration"]),
    pays_caption=figures.pays_caption(findings["exploration"]),
)

# %% [markdown]
# ## Predictions and what came of them
#
# Each range was written into the ledger, with its reason, before the runs. The book's prose takes its numbers from here.

# %%
studies = claims.other_studies(
    profile, [finding for group in findings.values() for finding in group]
)
for claim in questions:
    mine = findings[claim.id]
    assert len(mine) == len(claim.subclaims)
    said = str(claims.headline(claim, mine))
    print(f"{claim.number}. {claim.title} {said}")
    display.table(claims.table(claim, mine, studies), css="verdicts with-prediction")
    display.glue(
        **{f"verdict_{claim.id}": said},
        **{finding.subclaim: finding.ours for finding in mine},
        **{f"{finding.subclaim}_verdict": finding.word for finding in mine},
    )
display.glue(
    profile=profile,
    rollouts=measures.common_rollout(everything),
    steps=measures.common_steps(runs["kl_cov"] + runs["kl_cov_clip_20"]),
    **measures.describe({arm: runs[arm] for arm in figures.LEVEL_ARMS}),
)

# %% [markdown]
# ## Provenance

# %% tags=["hide-input"]
display.table(display.provenance(everything), css="facts")
