"""Groups without spread are dropped and replaced: which ones, by which prompts, with which advantages and metrics."""

import json
import math

import pytest
import torch
from datasets import IterableDataset
from trl import GRPOConfig

from repro.errors import ConfigError
from repro.trainer import CovGRPOConfig
from repro.trainer.filter_groups import Choice, PromptStream, choose_groups, have_spread

from .conftest import (
    FixedCovGRPOTrainer,
    FixedGRPOTrainer,
    history,
    numbered_prompts,
    parameters,
    text_reward,
)
from .test_distributed import run

NAN = math.nan
FILTER = {"filter_groups": True}
KL_COV = {"entropy_control": "kl_cov", "entropy_control_fraction": 0.05}
CLIP_COV = {"entropy_control": "clip_cov", "entropy_control_fraction": 0.05, "clip_cov_low": 0.0}


def test_spread_of_a_table():
    rewards = torch.tensor(
        [[1.0, 0], [1, 0], [1, 0], [0, 1], [NAN, NAN], [1, 0], [NAN, NAN], [NAN, NAN], [0, NAN], [0, 1]]
    )
    #       sums, weights 1, 1:  1       1        1       1       unscored   1       both unscored            0      1
    assert have_spread(rewards, torch.ones(2), 2).tolist() == [False, False, False, False, True]
    # Each by itself: 1 and 0 differ in the second group, though their sums do not.
    assert have_spread(rewards, torch.ones(2), 2, summed=False).tolist() == [False, True, False, False, False]
    # By the first alone: 1, 1 | 1, 0 | -, 1 | -, - | 0, 0.
    assert have_spread(rewards, torch.tensor([1.0, 0]), 2).tolist() == [False, True, False, False, False]
    assert have_spread(rewards, torch.tensor([0.0, 1]), 2, summed=False).tolist() == [False, True, False, False, False]


def test_the_stream_is_the_order_of_trls_sampler(make):
    trainer = make()
    sampler = trainer._get_train_sampler()
    passes = [list(sampler)[::4] for _ in range(2)]  # 64 prompts, 8 a rollout, each repeated for 4 slices
    expected = [row for rows in passes for block in range(0, 256, 32) for row in rows[block : block + 8]]
    stream = PromptStream(64, trainer.args.seed)
    assert stream.peek(128) == expected
    stream.position = 60
    assert stream.peek(8, skip=3) == expected[63:71]
    assert PromptStream(3, None, position=2).peek(5) == [2, 0, 1, 2, 0]


def scripted(*spread: int):
    """A sampler with a known answer for each group, and what it was asked for."""
    asked = []
    left = list(map(bool, spread))

    def sample(count):
        asked.append(count)
        return [left.pop(0) for _ in range(count)]

    return sample, asked


def test_choice_is_the_first_groups_with_spread():
    sample, asked = scripted(1, 1, 1, 1)
    assert choose_groups(sample, 4, max_attempts=3) == Choice([0, 1, 2, 3], filled=0, used=4, attempts=1)
    # Half is kept, so the 2 that are missing take 4 more; of those the second and third do, and the last goes back.
    sample, asked = scripted(1, 0, 0, 1, 0, 1, 1, 1)
    assert choose_groups(sample, 4, max_attempts=3) == Choice([0, 3, 5, 6], filled=0, used=7, attempts=2)
    assert asked == [4, 4]
    # A quarter: 3 missing would take 12, but a rollout is 4.
    sample, asked = scripted(0, 0, 1, 0, 0, 0, 0, 0, 1, 1, 1, 0)
    assert choose_groups(sample, 4, max_attempts=3) == Choice([2, 8, 9, 10], filled=0, used=11, attempts=3)
    assert asked == [4, 4, 4]
    # 3 of 4 kept: 1 missing takes 4/3, so 2; with a multiple of 3 (ranks), 3.
    sample, asked = scripted(1, 0, 1, 1, 1, 1, 1)
    assert choose_groups(sample, 4, max_attempts=3).used == 5 and asked == [4, 2]
    sample, asked = scripted(1, 0, 1, 1, 1, 1, 0, 1, 1, 1)
    assert choose_groups(sample, 6, max_attempts=3, multiple=3).used == 8 and asked == [6, 3]


def test_a_spent_choice_is_filled_with_the_earliest_dropped():
    sample, _ = scripted(0, 1, 0, 0, 0, 0, 0, 0)
    assert choose_groups(sample, 4, max_attempts=2) == Choice([1, 0, 2, 3], filled=3, used=8, attempts=2)
    sample, _ = scripted(0, 0, 0, 0)
    assert choose_groups(sample, 4, max_attempts=1) == Choice([0, 1, 2, 3], filled=4, used=4, attempts=1)


def test_where_nothing_is_dropped_nothing_changes(train):
    """Two epochs: the order of the second is TRL's too."""
    settings = {"rows": 16, "max_steps": 16, "logging_steps": 4, "reward": lambda completions, **_: varied(completions)}
    plain, ours = train(FixedGRPOTrainer, GRPOConfig, **settings), train(**FILTER, **settings)
    assert [log["frac_reward_zero_std"] for log in history(plain)] == [0.0] * 4
    for expected, found in zip(history(plain), history(ours), strict=True):
        assert {name: found[name] for name in expected} == expected
    for name, value in parameters(plain).items():
        assert torch.equal(parameters(ours)[name], value), name
    assert {"filter_groups/kept": 1.0, "filter_groups/attempts": 1.0, "filter_groups/prompts": 8.0}.items() <= (
        history(ours)[-1].items()
    )
    assert [log["filter_groups/passes"] for log in history(ours)] == [0.5, 1.0, 1.5, 2.0]


def varied(completions):
    """Every completion of a group another reward."""
    return [float(index % 4) for index in range(len(completions))]


def half(prompts, completions, **_):
    """All right where the first number is even: such groups have no spread."""
    return [1.0 if int(p[0]) % 2 == 0 else float(i % 4) for i, p in enumerate(prompts)]


class Watched(FixedCovGRPOTrainer):
    """Notes each rollout's prompts as TRL gets them, and its advantages."""

    def _generate_and_score_completions(self, inputs):
        batch = super()._generate_and_score_completions(inputs)
        texts = self.processing_class.batch_decode(batch["prompt_ids"], skip_special_tokens=True)
        self.rollouts = [*getattr(self, "rollouts", []), (texts[::4], batch["advantages"].clone())]
        return batch


@pytest.mark.parametrize("method", [{}, KL_COV, CLIP_COV, KL_COV | {"entropy_control_scope": "micro"}])
def test_a_rollout_is_the_next_prompts_with_spread(train, method):
    trainer = train(Watched, reward=half, max_steps=8, **FILTER, **method)
    order = [trainer.train_dataset[row]["prompt"] for row in PromptStream(64, trainer.args.seed).peek(64)]
    expected = [prompt for prompt in order if int(prompt[0]) % 2]
    assert [prompts for prompts, _ in trainer.rollouts] == [expected[:8], expected[8:16]]
    # (0 1 2 3 - 1.5) / (1.291 + 1e-4), in every group: none was scored with its neighbours.
    scaled = torch.tensor([-1.5, -0.5, 0.5, 1.5]) / (1.2909944 + 1e-4)
    for _, advantages in trainer.rollouts:
        torch.testing.assert_close(advantages.view(8, 4), scaled.expand(8, 4))
    used = [order.index(expected[7]) + 1, order.index(expected[15]) + 1]
    logs = [history(trainer)[0], history(trainer)[4]]
    assert [log["filter_groups/prompts"] for log in logs] == [used[0], used[1] - used[0]]
    assert [log["filter_groups/passes"] for log in logs] == [used[0] / 64, used[1] / 64]
    assert all(log["filter_groups/attempts"] >= 2 and log["filter_groups/filled"] == 0 for log in logs)
    assert all(log["frac_reward_zero_std"] == 0 and log["reward"] == 1.5 for log in logs)
    assert all(0.3 < log["filter_groups/kept"] < 1 for log in logs)
    assert all(log["filter_groups/reward"] == pytest.approx(1 + 0.5 * log["filter_groups/kept"]) for log in logs)
    assert all("filter_groups/kept" not in log for log in history(trainer)[1:4])


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        # The batch: 8 groups of 0 1 2 3 have a standard deviation of sqrt(40/31) = 1.1359 around 1.5.
        ({"scale_rewards": "batch"}, [-1.5 / 1.1360, -0.5 / 1.1360, 0.5 / 1.1360, 1.5 / 1.1360]),
        ({"advantage_estimator": "rloo"}, [-2.0, -2 / 3, 2 / 3, 2.0]),
    ],
)
def test_advantages_over_the_batch_are_of_the_kept_groups(train, how, expected):
    trainer = train(Watched, reward=half, max_steps=1, **FILTER, **how)
    torch.testing.assert_close(
        trainer.rollouts[0][1].view(8, 4), torch.tensor(expected).expand(8, 4), rtol=1e-4, atol=0
    )


def test_batch_estimators_see_the_kept_groups_alone(train):
    """REINFORCE++ whitens over the rollout: with the dropped groups' rewards, all 1, the mean would not be 0."""
    trainer = train(Watched, reward=half, max_steps=1, advantage_estimator="reinforce++", **FILTER)
    inputs = trainer._buffered_inputs
    advantages = torch.cat([part["advantages"] for part in inputs])
    lengths = torch.cat([part["completion_mask"].sum(1) for part in inputs])
    assert (advantages * lengths).sum().item() == pytest.approx(0, abs=1e-4)
    assert trainer._rewards_per_func.shape == (32, 1) and trainer._rewards_per_func.mean() == 1.5


def test_a_bound_that_is_reached_is_said_and_trains_as_trl_would(train):
    right = {"reward": lambda completions, **_: [1.0] * len(completions), "max_steps": 8}
    with pytest.warns(UserWarning, match="after 3 attempts, 8 of a rollout's 8 groups are still without") as said:
        ours = train(Watched, **FILTER, filter_groups_max_attempts=3, **right)
    assert len([w for w in said if "filter_groups" in str(w.message)]) == 1
    order = [ours.train_dataset[row]["prompt"] for row in PromptStream(64, ours.args.seed).peek(32)]
    assert [prompts for prompts, _ in ours.rollouts] == [order[:8], order[24:]]
    logs = history(ours)
    assert logs[0]["filter_groups/filled"] == 1 and logs[0]["filter_groups/kept"] == 0
    assert logs[4]["filter_groups/prompts"] == 24 and logs[4]["frac_reward_zero_std"] == 1
    assert [log["loss"] for log in logs] == [0.0] * 8 and all(log["grad_norm"] == 0 for log in logs)


def test_a_partly_filled_rollout_keeps_its_shape_and_trls_loss(train):
    """One attempt keeps 8 prompts: the loss is what TRL has for them, whichever place in the batch they have."""
    settings = {"steps_per_generation": 1, "per_device_train_batch_size": 32, "max_steps": 1, "reward": half}
    plain = train(FixedGRPOTrainer, GRPOConfig, **settings)
    with pytest.warns(UserWarning, match="filter_groups: after 1 attempts"):
        ours = train(**FILTER, filter_groups_max_attempts=1, **settings)
    assert 0 < history(ours)[0]["filter_groups/filled"] < 1
    assert history(ours)[0]["grad_norm"] == pytest.approx(history(plain)[0]["grad_norm"], rel=1e-4)


SAVE = {"save_strategy": "steps", "save_steps": 1, "max_steps": 12, "learning_rate": 2e-3, "rows": 24}


def test_resumed_equals_uninterrupted(train):
    """24 prompts, half of them dropped: every rollout is most of a pass, and step 5 is within the second."""
    whole = train(Watched, reward=half, **FILTER, **KL_COV, **SAVE)
    taken = [prompts for prompts, _ in whole.rollouts]
    assert len({tuple(prompts) for prompts in taken}) == 3
    checkpoint = f"{whole.args.output_dir}/checkpoint-5"
    resumed = train(Watched, reward=half, resume=checkpoint, **FILTER, **KL_COV, **SAVE)
    assert [prompts for prompts, _ in resumed.rollouts] == taken[2:]
    for found, expected in zip(history(resumed), history(whole), strict=True):
        assert found | {"num_tokens": 0} == expected | {"num_tokens": 0}
    for name, value in parameters(whole).items():
        assert torch.equal(parameters(resumed)[name], value), name
    with pytest.raises(ConfigError, match="made with filter_groups=True and this trainer has filter_groups=False"):
        train(Watched, reward=half, resume=checkpoint, **KL_COV, **SAVE)


def test_every_prompt_is_used_once_a_pass(train):
    trainer = train(Watched, reward=half, rows=24, max_steps=16, **FILTER)
    taken = [prompt for prompts, _ in trainer.rollouts for prompt in prompts]
    with_spread = sorted(prompt for prompt in trainer.train_dataset["prompt"] if int(prompt[0]) % 2)
    assert len(with_spread) == 12 and len(taken) == 32
    assert sorted(taken[:12]) == sorted(taken[12:24]) == with_spread


def test_what_reward_functions_log_stays_with_its_completion(train, tmp_path):
    def reward(prompts, completions, log_extra, log_metric, **_):
        log_extra("seen", [f"{prompt}{completion}" for prompt, completion in zip(prompts, completions, strict=True)])
        log_metric("scored", float(len(prompts)))
        return half(prompts, completions)

    trainer = train(reward=reward, max_steps=1, log_completions=True, **FILTER)
    logs = trainer._logs
    assert len(logs["prompt"]) == 32 and {int(prompt[0]) % 2 for prompt in logs["prompt"]} == {1}
    assert list(logs["extra"]["seen"]) == [p + c for p, c in zip(logs["prompt"], logs["completion"], strict=True)]
    assert list(logs["advantages"])[:4] == pytest.approx([-1.1618, -0.3873, 0.3873, 1.1618], rel=1e-4)


def test_columns_reach_the_reward_and_evaluation_is_left_alone(make):
    seen = []

    def reward(prompts, completions, number, **_):
        seen.extend(zip(prompts, number, strict=True))
        return half(prompts, completions)

    trainer = make(reward=reward, max_steps=1, eval_dataset=numbered(8), per_device_eval_batch_size=8, **FILTER)
    trainer.train_dataset = numbered(64)
    trainer.train()
    assert len(seen) > 32 and all(prompt == f"{number % 10}+{number // 10}:" for prompt, number in seen)
    before = trainer.prompt_stream.position
    trainer.evaluate()
    assert trainer.prompt_stream.position == before


def numbered(count):
    return numbered_prompts(count).add_column("number", list(range(count)))


def test_refuses_what_it_cannot_do(make, settings):
    with pytest.raises(ConfigError, match="IterableDataset cannot be indexed: pass a datasets.Dataset"):
        stream = IterableDataset.from_generator(lambda: iter([{"prompt": "1+1:"}]))
        FixedCovGRPOTrainer(
            model=make().model,
            reward_funcs=text_reward,
            args=CovGRPOConfig(**(settings | FILTER)),
            train_dataset=stream,
            processing_class=make().processing_class,
        )


RANKS = {
    "none": {"scale_rewards": "batch"},
    "kl_cov": KL_COV,
    "spent": {"filter_groups_max_attempts": 1},
    # 3 groups of 4 on 2 ranks: the second is on both. A completion's place in its group is then not that on its rank,
    # from which the fixed completions are made, so that only the prompts compare.
    "groups on two ranks": {},
}


@pytest.mark.slow
def test_two_ranks_make_the_rollouts_of_one(tmp_path):
    """And no rank waits for another: all agree on how many attempts there are."""
    common = {"reward": "half", "num_iterations": 2, "optim": "sgd", "learning_rate": 1.0, "max_steps": 8}
    for processes in (1, 2):
        settings = {
            name: common
            | FILTER
            | {"steps_per_generation": 1, "per_device_train_batch_size": (12 if "two" in name else 16) // processes}
            | method
            for name, method in RANKS.items()
        }
        run(tmp_path / str(processes), processes, settings)
    for name in RANKS:
        (whole,), parts = (
            [json.loads(path.read_text()) for path in sorted((tmp_path / processes / name).glob("prompts_*.json"))]
            for processes in ("1", "2")
        )
        assert [[*first, *second] for first, second in zip(*parts, strict=True)] == whole
        logs = [json.loads((tmp_path / processes / name / "history.json").read_text()) for processes in ("1", "2")]
        weights = [
            torch.load(tmp_path / processes / name / "parameters.pt", weights_only=True) for processes in ("1", "2")
        ]
        kept = [log["filter_groups/kept"] for log in logs[0] if "filter_groups/kept" in log]
        assert len(kept) == 4 and min(kept) < 1
        for one, two in zip(*logs, strict=True):
            ours = [n for n in one if n.startswith(("filter_groups/", "selected/", "reward", "loss", "grad_norm"))]
            for metric in ours if "two" not in name else ["filter_groups/prompts", "filter_groups/attempts"]:
                assert metric not in one or math.isclose(two[metric], one[metric], rel_tol=2e-3, abs_tol=1e-5), metric
        for parameter, value in weights[0].items() if "two" not in name else ():
            torch.testing.assert_close(weights[1][parameter], value, rtol=1e-3, atol=1e-4, msg=parameter)
