"""The probe of one optimizer step against full softmax in float64, and against what the theorems say."""

import dataclasses
import math

import pandas as pd
import pytest
import torch
from peft import LoraConfig, get_peft_model

from repro.errors import ConfigError
from repro.trainer.probe import ProbeCallback, Snapshot, States, snapshot, step_effect

from .conftest import history

NAN = float("nan")


@pytest.fixture
def states(batch) -> States:
    return States.of(batch()[1])


def peaked(model):
    """An untrained policy is almost uniform, where covariances with log pi almost vanish: sharpen it."""
    with torch.no_grad():
        model.lm_head.weight.mul_(20)
    return model


def log_softmax(model, states, temperature=1.0):
    """Log-probabilities of the whole vocabulary at the states, ``[B, T, V]`` in float64, by the model's own forward."""
    ids = torch.cat([states.prompt_ids, states.completion_ids], 1)
    attention = torch.cat([states.prompt_mask, states.completion_mask], 1)
    with torch.no_grad():
        logits = model(input_ids=ids, attention_mask=attention).logits.double() / temperature
    return logits[:, -states.completion_ids.size(1) - 1 : -1].log_softmax(-1)


def stepped(model, states, learning_rate, temperature=1.0):
    """A gradient step on the policy gradient of the states' advantages."""
    ids = torch.cat([states.prompt_ids, states.completion_ids], 1)
    attention = torch.cat([states.prompt_mask, states.completion_mask], 1)
    logits = model(input_ids=ids, attention_mask=attention).logits / temperature
    log_probs = logits[:, -states.completion_ids.size(1) - 1 : -1].log_softmax(-1)
    taken = log_probs.gather(2, states.completion_ids.unsqueeze(2)).squeeze(2)
    mask = states.completion_mask
    loss = -(taken * states.advantages.unsqueeze(1) * mask).sum() / mask.sum()
    loss.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= learning_rate * parameter.grad
            parameter.grad = None


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_every_number_from_full_softmax(policy, states, temperature):
    model = policy().eval()
    start = log_softmax(model, states, temperature)
    before = snapshot(model, states)
    stepped(model, states, 0.5, temperature)
    found = step_effect(states, before, snapshot(model, states), temperature=temperature)
    end = log_softmax(model, states, temperature)

    keep = states.completion_mask.bool()
    start, end = start[keep], end[keep]  # [states, V]
    entropy, next_entropy = -(start.exp() * start).sum(1), -(end.exp() * end).sum(1)
    change = end - start  # equals the change of logits up to a constant per state
    centred = start + entropy.unsqueeze(1)
    taken = start.gather(1, states.completion_ids[keep].unsqueeze(1)).squeeze(1)
    advantage = states.advantages.double().unsqueeze(1).expand(keep.shape)[keep]
    excess = taken + entropy
    assert found.entropy_before == pytest.approx(entropy.mean().item(), rel=1e-5)
    assert found.entropy_after == pytest.approx(next_entropy.mean().item(), rel=1e-5)
    assert found.entropy_change == pytest.approx((next_entropy - entropy).mean().item(), rel=1e-3)
    assert found.lemma1 == pytest.approx((start.exp() * centred * change).sum(1).mean().item(), rel=1e-3)
    assert found.theorem2_state == pytest.approx((advantage * excess).mean().item(), rel=1e-3)
    assert found.theorem1_state == pytest.approx((taken.exp() * advantage * excess).mean().item(), rel=1e-3)
    for name, x in (("theorem2_token", advantage), ("theorem1_token", taken.exp() * advantage)):
        expected = ((taken - taken.mean()) * (x - x.mean())).mean().item()
        assert getattr(found, name) == pytest.approx(expected, rel=1e-3, abs=1e-7), name

    surprise = taken.exp() * excess
    centre = (start.exp() ** 2 * centred).sum(1)
    assert found.centred_state == pytest.approx((advantage * (surprise - centre)).mean().item(), rel=1e-3)
    assert found.centred_token == pytest.approx((advantage * (surprise - surprise.mean())).mean().item(), rel=1e-3)
    counted = advantage != 0
    predicted, moved = -(advantage * excess)[counted], (next_entropy - entropy)[counted]
    assert 0 < counted.sum() < len(counted) and (moved != 0).all()
    assert found.polarity == pytest.approx((predicted * moved > 0).double().mean().item(), abs=0.02)
    up, rises = (predicted > 0).double().mean().item(), (moved > 0).double().mean().item()
    assert found.polarity_chance == pytest.approx(up * rises + (1 - up) * (1 - rises), abs=0.02)


def test_response_covariances_by_loops(policy, states):
    """Group by group with Python floats; shuffled rows give the same."""
    model = policy().eval()
    before = snapshot(model, states)
    found = step_effect(states, before, before)
    taken = log_softmax(model, states).gather(2, states.completion_ids.unsqueeze(2)).squeeze(2)
    groups: dict[tuple, list] = {}
    for row in range(len(taken)):
        length = int(states.completion_mask[row].sum())
        mean = taken[row, :length].mean().item()
        groups.setdefault(tuple(states.prompt_ids[row].tolist()), []).append((mean, states.advantages[row].item()))
    assert len(groups) == 8
    expected = {"theorem1_response": [], "theorem2_response": []}
    for members in groups.values():
        x = torch.tensor([mean for mean, _ in members], dtype=torch.float64)
        a = torch.tensor([advantage for _, advantage in members], dtype=torch.float64)
        expected["theorem1_response"].append(((x - x.mean()) * (x.exp() * a - (x.exp() * a).mean())).mean())
        expected["theorem2_response"].append(((x - x.mean()) * (a - a.mean())).mean())
    for name, values in expected.items():
        assert getattr(found, name) == pytest.approx(torch.stack(values).mean().item(), rel=1e-3), name
    by_accuracy: dict[float, list] = {}
    for members, value in zip(groups.values(), expected["theorem1_response"], strict=True):
        by_accuracy.setdefault(sum(advantage > 0 for _, advantage in members) / len(members), []).append(value)
    assert 0.5 in by_accuracy and 0.125 not in by_accuracy
    row = found.row()
    assert row["theorem1_response_at_0.5"] == pytest.approx(torch.stack(by_accuracy[0.5]).mean().item(), rel=1e-3)
    assert math.isnan(row["theorem1_response_at_0.125"]) and math.isnan(row["theorem1_response_at_0.875"])
    order = torch.randperm(32, generator=torch.Generator().manual_seed(0))
    shuffled = States(*(getattr(states, field.name)[order] for field in dataclasses.fields(States)))
    again = step_effect(shuffled, snapshot(model, shuffled), snapshot(model, shuffled))
    assert again.theorem2_response == pytest.approx(found.theorem2_response, rel=1e-5)


def test_lemma_1_predicts_small_steps_to_second_order(policy, states):
    """Entropy change + Cov is of order step^2: a tenth of the step, about a hundredth of the error."""
    errors = []
    for learning_rate in (1e-4, 1e-5):
        model = peaked(policy()).double().eval()
        before = snapshot(model, states)
        stepped(model, states, learning_rate)
        effect = step_effect(states, before, snapshot(model, states))
        errors.append(abs(effect.entropy_change + effect.lemma1))
        assert abs(effect.entropy_change) > 1e-5
    assert errors[1] < 0.02 * errors[0]
    assert errors[1] < 0.1 * abs(effect.entropy_change)


def test_state_estimates_are_unbiased(policy, states):
    """Weighting every token of the vocabulary by its probability gives the exact covariances of the theorems."""
    model = policy().eval()
    one = States(*(getattr(states, field.name)[:1] for field in dataclasses.fields(States)))
    one = dataclasses.replace(one, completion_ids=one.completion_ids[:, :1], completion_mask=torch.ones(1, 1))
    start = log_softmax(model, one)[0, 0]
    advantage = torch.linspace(-1, 2, len(start), dtype=torch.float64)
    sums = {"theorem1_state": 0.0, "theorem2_state": 0.0}
    for token in range(len(start)):
        sampled = dataclasses.replace(
            one, completion_ids=torch.tensor([[token]]), advantages=advantage[token : token + 1]
        )
        taken = snapshot(model, sampled)
        effect = step_effect(sampled, taken, taken)
        for name in sums:
            sums[name] += start[token].exp().item() * getattr(effect, name)
    probs = start.exp()

    def covariance(x):
        return ((probs * start * x).sum() - (probs * start).sum() * (probs * x).sum()).item()

    assert sums["theorem2_state"] == pytest.approx(covariance(advantage), rel=1e-4)
    assert sums["theorem1_state"] == pytest.approx(covariance(probs * advantage), rel=1e-4)


def test_centred_state_is_the_first_order_of_a_step_on_one_sample(policy, states):
    """In a table of logits the gradient of A log pi(y) is A (onehot(y) - pi): minus Lemma 1 of it, by hand."""
    model = peaked(policy()).eval()
    start = log_softmax(model, states)
    found = snapshot(model, states)
    found = step_effect(states, found, found)
    onehot = torch.nn.functional.one_hot(states.completion_ids, start.size(-1))
    delta = states.advantages.double().view(-1, 1, 1) * (onehot - start.exp())
    centred = start - (start.exp() * start).sum(-1, keepdim=True)
    covariance = (start.exp() * centred * delta).sum(-1)[states.completion_mask.bool()]
    assert found.centred_state == pytest.approx(covariance.mean().item(), rel=1e-3)


def test_polarity_of_hand_made_states():
    """Three states at whose likely token the entropy falls, rises and rises."""
    rows = torch.tensor([[2.0, 0.0, 0.0], [2.0, 0.0, 0.0], [2.0, 0.0, 0.0]]).log_softmax(-1).unsqueeze(1)
    moved = torch.tensor([[3.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]).unsqueeze(1)
    head = torch.eye(3)
    one = torch.ones(3, 1, dtype=torch.long)

    def effect(advantages):
        states = States(one, one, torch.zeros(3, 1, dtype=torch.long), one, torch.tensor(advantages))
        return step_effect(states, Snapshot(rows, head, None, None), Snapshot(moved, head, None, None))

    # A likely token of advantage +1 should lower the entropy, of -1 raise it; a state without advantage does not count.
    assert effect([1.0, -1.0, 0.0]).polarity == 1 and effect([1.0, -1.0, 0.0]).polarity_chance == 0.5
    assert effect([-1.0, 1.0, -1.0]).polarity == pytest.approx(1 / 3)
    # Predicted up, down, up and found down, up, up: by chance 2/3 x 2/3 + 1/3 x 1/3.
    assert effect([-1.0, 1.0, -1.0]).polarity_chance == pytest.approx(5 / 9)
    assert math.isnan(effect([0.0, 0.0, 0.0]).polarity)


def test_masked_places_are_not_states(policy, states):
    model = policy().eval()
    before = snapshot(model, states)
    found = step_effect(states, before, before)
    poisoned = dataclasses.replace(
        before, hidden=torch.where(states.completion_mask.bool().unsqueeze(2), before.hidden, NAN)
    )
    assert step_effect(states, poisoned, poisoned).row() == pytest.approx(found.row(), rel=0, abs=0, nan_ok=True)
    assert found.entropy_change == found.lemma1 == 0


def test_snapshot_does_not_follow_the_model(policy, states):
    model = policy().train()
    before = snapshot(model, states)
    weight = before.weight.clone()
    stepped(model, states, 1.0)
    assert torch.equal(before.weight, weight) and not torch.equal(model.lm_head.weight, weight)
    assert model.training


def test_in_training(make, policy, states):
    probe = ProbeCallback(states, every=2)
    trainer = make(
        model=peaked(policy()), callbacks=[probe], optim="sgd", learning_rate=2e-5, lr_scheduler_type="constant"
    )
    trainer.train()
    frame = probe.frame()
    assert isinstance(frame, pd.DataFrame) and list(frame["step"]) == [1, 3]
    assert (frame["learning_rate"] == 2e-5).all()
    assert (frame["entropy_change"] != 0).all()
    # A small step at all states of a first-order method: Lemma 1 holds to a few percent.
    assert frame["entropy_change"].to_numpy() == pytest.approx(-frame["lemma1"].to_numpy(), rel=0.1)
    # The second measured step begins where the first's successor ended, so entropies are continuous, not equal.
    assert frame["entropy_before"][1] != frame["entropy_after"][0]


def test_states_of_the_moment(make, policy, states):
    """A function is asked before each measured step, and both snapshots of a step are at its answer."""
    halves = [
        States(*(getattr(states, f.name)[rows] for f in dataclasses.fields(States)))
        for rows in (slice(8), slice(8, 32))
    ]
    asked = []

    def current():
        asked.append(len(asked))
        return halves[asked[-1]]

    probe = ProbeCallback(current, every=2)
    model = policy()
    expected = [step_effect(half, *2 * [snapshot(policy(), half)]).entropy_before for half in halves]
    make(model=model, callbacks=[probe], optim="sgd", learning_rate=1e-9).train()
    assert asked == [0, 1]
    frame = probe.frame()
    assert list(frame["step"]) == [1, 3]
    assert (frame.drop(columns="step").dtypes == "float64").all()
    assert frame["entropy_before"].to_numpy() == pytest.approx(expected, rel=1e-5)
    assert expected[0] != pytest.approx(expected[1], rel=1e-5)


def test_training_is_not_disturbed(train, states):
    assert history(train()) == history(train(callbacks=[ProbeCallback(states)]))


def test_softcapped_heads(policy, states):
    model = policy().eval()
    model.config.final_logit_softcapping = 0.5
    found = snapshot(model, states)
    capped = step_effect(states, found, found)
    plain = dataclasses.replace(found, softcap=None)
    assert capped.entropy_before > step_effect(states, plain, plain).entropy_before
    taken = found.log_probs(states.completion_ids, 1.0)
    logits = 0.5 * torch.tanh(found.hidden @ found.weight.T / 0.5)
    expected = logits.log_softmax(-1).gather(2, states.completion_ids.unsqueeze(2)).squeeze(2)
    torch.testing.assert_close(taken, expected)


def test_adapters_below_the_head_are_probed(policy, states):
    model = get_peft_model(policy(), LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    found = snapshot(model, states)
    torch.testing.assert_close(found.hidden, snapshot(policy().eval(), states).hidden)


def test_refusals(policy, states):
    scaled = policy()
    scaled.config.logit_scale = 0.5
    with pytest.raises(ConfigError, match="logit_scale=0.5: such heads are not probed"):
        snapshot(scaled, states)
    adapted = get_peft_model(policy(), LoraConfig(r=2, target_modules=["lm_head"], task_type="CAUSAL_LM"))
    with pytest.raises(ConfigError, match=r"one nn\.Linear: no adapter on it"):
        snapshot(adapted, states)
    with pytest.raises(ConfigError, match="every=0: pass a number of optimizer steps"):
        ProbeCallback(states, every=0)
