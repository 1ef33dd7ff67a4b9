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
# # Measuring the collapse
#
# The measurements behind claim 1: during plain GRPO, how much of the entropy goes, and how much of the gain comes, in
# the first 1/12 and the first 1/3 of training; how much entropy is left at the end; and whether performance saturates.
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
from repro.book.figures import collapse as figures
from repro.claims.measures import collapse as measures
from repro.runs import load_or_train
from repro.runs.profiles import load_profile

profile = profile or hosted.default_profile("claims/collapse")
claim, length = (
    claims.load_ledger().claim(name) for name in ("collapse", "collapse_length")
)
configs = load_profile(profile).configs(claim.arm, seeds)
runs = [load_or_train(config) for config in configs]

# %% [markdown]
# A record holds a row of metrics for every optimizer step, and evaluations at the start, at fixed steps and at the end.

# %%
for run in runs:
    metrics, evaluations = run.metrics, run.evaluations
    assert metrics["step"].tolist() == list(range(1, run.config.max_steps + 1)), (
        run.name
    )
    assert evaluations["step"].min() == 0, run.name
    assert evaluations["step"].max() == run.config.max_steps, run.name
    assert metrics["entropy/response_mean"].min() >= 0, run.name
    assert evaluations["accuracy/mean"].between(0, 1).all(), run.name

# %% [markdown]
# ## Accuracy and entropy during training

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-collapse", "caption": "{glue:text}`collapse_caption:s`"}, "image": {"alt": "Two panels against optimizer steps: validation accuracy above, policy entropy below, with marks at 1/12 and 1/3 of training."}}
display.show(figures.collapse(runs), collapse_caption=figures.collapse_caption(runs))

# %% [markdown]
# ## How early it happens
#
# The paper prints the shares at 1/12 and 1/3 of training.

# %%
findings = claims.measure(claim, runs)
assert len(findings) == len(claim.subclaims)
assert all(finding.n == len(runs) for finding in findings)

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-shares", "caption": "{glue:text}`shares_caption:s`"}, "image": {"alt": "Bars: shares of the fall of entropy and of the gain at 1/12 and at 1/3 of training, with the paper's printed shares as diamonds."}}
display.show(
    figures.shares(claim, findings),
    shares_caption=figures.shares_caption(claim, findings),
)

# %% [markdown]
# The shape can be held against the one curve of the paper that is plotted in full.

# %% tags=["hide-input"] mystnb={"figure": {"name": "fig-against-paper", "caption": "{glue:text}`against_paper_caption:s`"}, "image": {"alt": "Two panels against the fraction of training: shares of the gain and of the fall of entropy, our curves over points read off the paper."}}
display.show(
    figures.against_paper(runs),
    against_paper_caption=figures.against_paper_caption(runs),
)

# %% [markdown]
# ## Verdicts
#
# Each range was written into the ledger, with its reason, before the runs.

# %%
studies = claims.other_studies(profile, findings)
display.table(claims.table(claim, findings, studies), css="verdicts with-range")

# %% [markdown]
# A share of a whole depends on where the whole ends: the same shares, had training ended earlier.

# %%
shorter = claims.measure(length, runs)
display.table(claims.table(length, shorter, {}), css="verdicts with-prediction")

# %%
print(
    f"Claim {claim.number} with profile {profile}: {claims.headline(claim, findings)}"
)

# %% [markdown]
# The book's prose takes its numbers from here.

# %% tags=["hide-input"]
display.glue(
    profile=profile,
    seeds=f"{len(runs)} seed{'s' * (len(runs) != 1)}",
    steps=runs[0].config.max_steps,
    verdict=str(claims.headline(claim, findings)),
    **{finding.subclaim: finding.ours for finding in findings + shorter},
    **{
        f"{finding.subclaim}_verdict": finding.word for finding in findings + shorter
    },
    **measures.describe(runs),
)

# %% [markdown]
# ## Provenance

# %% tags=["hide-input"]
display.table(display.provenance(runs), css="facts")
