"""Stands in for repro.runs.training in a copy of the repository: instant runs with all that real ones record.

Entropy decays from the base policy's, accuracy follows it by the law of claim 2, and each arm has a rate, a level of
entropy and a law of its own, drawn from its name. Nothing here is a result: the numbers are for the book's layout.
"""

import zlib
from dataclasses import dataclass

import numpy as np
import pandas as pd

TOKEN_SAMPLES = 12
FIRST_ENTROPY = 0.6
TOP_COVARIANCE = {"0.0002": 2.3, "0.002": 2.1, "0.02": 1.5, "0.2": 0.7, "0.5": 0.3}
TEXT = ("s", "1", "7", "=", "4", "<eos>")
SMALL_NOISE = 0.002


@dataclass(frozen=True)
class Trained:
    metrics: pd.DataFrame
    evaluations: pd.DataFrame
    tokens: pd.DataFrame
    probe: pd.DataFrame
    answers: pd.DataFrame
    timing: dict[str, float]
    threads: int


@dataclass(frozen=True)
class Shape:
    """An arm's curves: rollouts until entropy has fallen by a factor e, where it ends, and the law's a and ceiling."""

    rollouts: float
    entropy: float
    a: float
    ceiling: float

    def entropy_after(self, rollouts):
        return self.entropy + (FIRST_ENTROPY - self.entropy) * np.exp(-rollouts / self.rollouts)

    def accuracy_at(self, entropy):
        return self.ceiling - self.a * (np.exp(entropy) - 1)


def shape(config):
    """The arm's shape; that of an arm with an entropy to hold ends there."""
    draw = np.random.default_rng(zlib.crc32(config.arm.encode())).uniform(size=4)
    level = config.trainer.get("entropy_target", 0.01 + 0.25 * draw[1] ** 2)
    return Shape(2.5 + 2.5 * draw[0], level, 0.3 + 0.15 * draw[2], 0.72 + 0.12 * draw[3])


def train(config, *, on_step=None, options=None, checkpoints=None):
    rng = np.random.default_rng([zlib.crc32(config.arm.encode()), config.seed])
    mine = shape(config)
    step = np.arange(1, config.max_steps + 1)
    noise = np.exp(rng.normal(0, 0.03, config.max_steps) + rng.normal(0, 0.05))
    entropy = mine.entropy_after((step - 1) / config.updates_per_rollout) * noise
    if on_step is not None:
        on_step(config.max_steps, config.max_steps, float(entropy[-1]), None)
    tokens = made_up_tokens(config, rng, entropy)
    return Trained(
        made_up_metrics(config, rng, mine, entropy),
        made_up_evaluations(config, rng, mine),
        tokens,
        made_up_probe(config, rng, mine) if config.probe_every else pd.DataFrame(),
        pd.DataFrame(),
        {
            **{"generation": 3.1, "scoring": 0.8, "update": 5.2, "other": 0.9, "evaluation": 1.4},
            "generated_tokens": config.max_steps * tokens_of_a_step(config),
        },
        1,
    )


def sequences_of_a_step(config):
    return config.prompts_per_rollout * config.num_generations // config.updates_per_rollout


def tokens_of_a_step(config):
    return len(TEXT) * sequences_of_a_step(config)


def made_up_metrics(config, rng, mine, entropy):
    """A row per optimizer step; what is known of a rollout only stands at its first."""
    steps = config.max_steps
    first = np.arange(steps) % config.updates_per_rollout == 0
    reward = np.full(steps, 0.5) if config.reward == "random" else mine.accuracy_at(entropy) - 0.02
    clips = config.epsilon is not None and config.trainer.get("entropy_control") != "kl_cov"
    drift = 0.01 * (np.arange(steps) % config.updates_per_rollout)
    columns = {
        "step": np.arange(1, steps + 1),
        "loss": rng.normal(0, 0.05, steps),
        "grad_norm": rng.uniform(0.2, 0.6, steps),
        "completions/mean_length": np.where(first, 5.4 + 1.2 * (1 - entropy / FIRST_ENTROPY), np.nan),
        "completions/clipped_ratio": np.where(first, 0.0, np.nan),
        "reward": np.where(first, reward + rng.normal(0, 0.02, steps), np.nan),
        "frac_reward_zero_std": np.where(first, 0.2, np.nan),
        "entropy": entropy,
        "entropy/token_mean": entropy,
        "entropy/response_mean": 1.05 * entropy,
        "covariance/mean": 0.02 * entropy,
        **{f"covariance/top_{top}": value * entropy / FIRST_ENTROPY for top, value in TOP_COVARIANCE.items()},
        "ratio/mean": 1 + 0.1 * drift,
        "ratio/min": 1 - 5 * drift,
        "ratio/max": 1 + 10 * drift,
        "ratio/kl": drift**2,
        "clip_ratio/low_mean": drift / 4 * clips,
        "clip_ratio/high_mean": drift / 2 * clips,
    }
    if "entropy_control" in config.trainer:
        columns |= made_up_selection(config, rng)
    return pd.DataFrame(columns)


def made_up_selection(config, rng):
    """Columns of an arm that selects tokens; steps without any have shares that are no number."""
    pool = tokens_of_a_step(config)
    count = rng.binomial(pool, config.trainer["entropy_control_fraction"], config.max_steps)
    shares = {"positive_advantage": 0.15, "covariance": 1.2}
    shares |= {f"probability_{band}": 0.25 for band in ("below_0.1", "0.1_to_0.5", "0.5_to_0.9", "above_0.9")}
    return {
        "selected/count": count,
        "selected/fraction": count / pool,
        "selected/pool": np.full(config.max_steps, pool * config.updates_per_rollout),
        **{
            f"selected/{name}": np.where(count > 0, value * rng.uniform(0.5, 1.5, config.max_steps), np.nan)
            for name, value in shares.items()
        },
        "penalty/mean": 1e-4 * count,
        "kl_cov/coefficient": np.linspace(1, 1.5, config.max_steps),
    }


def made_up_evaluations(config, rng, mine):
    """A row per evaluation; the last draws more samples, and has pass@k for more k."""
    seed = rng.normal(0, 0.01)
    rows = []
    for step in sorted({*range(0, config.max_steps, config.eval_steps), config.max_steps}):
        samples = config.eval_samples_last if step == config.max_steps else config.eval_samples
        entropy = mine.entropy_after(step / config.updates_per_rollout)
        accuracy = float(mine.accuracy_at(1.05 * entropy) + seed + rng.normal(0, SMALL_NOISE))
        powers = [2**power for power in range(1, 11) if 2**power <= samples]
        rows.append(
            {
                "step": step,
                "accuracy/mean": accuracy,
                "accuracy/greedy": accuracy + 0.03,
                **{f"accuracy/pass@{k}": 1 - (1 - accuracy) ** (1 + entropy * np.log2(k)) for k in powers},
                **{f"accuracy/level_{level}": accuracy + 0.03 * (5.5 - level) for level in range(3, 9)},
                "completion_length/mean": 4.4 + (1 - entropy / FIRST_ENTROPY),
                "k": samples,
            }
        )
    return pd.DataFrame(rows)


def made_up_tokens(config, rng, entropy):
    """All tokens of some optimizer steps, with the covariance that their log-probabilities and advantages have."""
    sequences, positions = sequences_of_a_step(config), len(TEXT)
    frames = []
    for step in range(1, config.max_steps + 1, max(1, config.max_steps // TOKEN_SAMPLES)):
        states = rng.gamma(0.5, 2 * entropy[step - 1], sequences * positions)
        log_prob = -rng.exponential(states)
        advantage = np.repeat(rng.choice([-1.2, -0.5, 0.5, 1.6], sequences), positions)
        covariance = (log_prob - log_prob.mean()) * (advantage - advantage.mean())
        count = round(config.trainer.get("entropy_control_fraction", 0) * len(covariance))
        frames.append(
            pd.DataFrame(
                {
                    "step": step,
                    "sequence": np.repeat(np.arange(sequences), positions),
                    "position": np.tile(np.arange(positions), sequences),
                    "token": TEXT * sequences,
                    "log_prob": log_prob,
                    "entropy": states,
                    "advantage": advantage,
                    "covariance": covariance,
                    "selected": covariance.argsort().argsort() >= len(covariance) - count,
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def made_up_probe(config, rng, mine):
    """A row per probed step: what entropy did, and predictions of it that get worse from the first to the last."""
    step = np.arange(1, config.max_steps + 1, config.probe_every)
    before = mine.entropy_after(step - 1)
    change = mine.entropy_after(step) - before + rng.normal(0, 0.004, len(step))
    after = before + change
    table = {
        "step": step,
        "learning_rate": config.learning_rate,
        "entropy_change": after - before,
        "entropy_before": before,
        "entropy_after": after,
    }
    predictors = ("lemma1", "theorem1_state", "theorem2_state", "theorem1_token", "theorem2_token")
    predictors += ("theorem1_response", "theorem2_response", "centred_state", "centred_token")
    for place, name in enumerate(predictors):
        table[name] = -change + rng.normal(0, 0.001 * (1 + 2 * place), len(step))
    table |= {"polarity": rng.normal(0.6, 0.03, len(step)), "polarity_chance": rng.normal(0.52, 0.01, len(step))}
    for right in range(1, config.num_generations):
        here = -change * (1 + right / 8) + rng.normal(0, 0.01, len(step))
        # Not every step has a group of each accuracy.
        table[f"theorem1_response_at_{right / config.num_generations:g}"] = np.where(
            rng.random(len(step)) < 0.8, here, np.nan
        )
    return pd.DataFrame(table)
