"""The probe of one optimizer step against full softmax in float64, and against what the theorems say."""

import dataclasses

import pandas as pd
import pytest
import torch
from peft import LoraConfig, get_peft_model

from repro.errors import ConfigError
from repro.probe import ProbeCallback, States, snapshot, step_effect

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


def test_masked_places_are_not_states(policy, states):
    model = policy().eval()
    before = snapshot(model, states)
    found = step_effect(states, before, before)
    poisoned = dataclasses.replace(
        before, hidden=torch.where(states.completion_mask.bool().unsqueeze(2), before.hidden, NAN)
    )
    assert step_effect(states, poisoned, poisoned) == found
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
