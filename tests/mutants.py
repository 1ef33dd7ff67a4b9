"""Small ways to break the code, each with the tests that should notice: what `make mutants` runs.

A replacement is one piece of text that occurs exactly once in its file. A test of the default run checks that, so that
whoever rewrites a line here finds its mutant too.
"""

from dataclasses import dataclass

TRAINER = "tests/trainer/test_methods.py"
MONITOR = "tests/trainer/test_monitor.py"
LOSSES = "tests/test_losses.py"
TOKENS = "tests/ops/test_tokens.py"


@dataclass(frozen=True)
class Mutant:
    """What is broken, in which file of ``src/repro``, by which replacement, and the tests that should notice."""

    what: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


MUTANTS = (
    Mutant(
        "penalty with the wrong sign",
        "losses.py",
        "coef * (log_probs - old_log_probs).abs()",
        "-coef * (log_probs - old_log_probs).abs()",
        (LOSSES,),
    ),
    Mutant(
        "penalty without the absolute value",
        "losses.py",
        "coef * (log_probs - old_log_probs).abs()",
        "coef * (log_probs - old_log_probs)",
        (LOSSES,),
    ),
    Mutant(
        "penalty squared",
        "losses.py",
        "coef * (log_probs - old_log_probs).abs()",
        "coef * (log_probs - old_log_probs).square()",
        (LOSSES,),
    ),
    Mutant(
        "penalty detached",
        "losses.py",
        "coef * (log_probs - old_log_probs).abs()",
        "coef * (log_probs - old_log_probs).abs().detach()",
        (LOSSES,),
    ),
    Mutant(
        "penalty on what is not selected",
        "losses.py",
        "torch.where(selected != 0, coef",
        "torch.where(selected == 0, coef",
        (LOSSES,),
    ),
    Mutant(
        "mean over padding",
        "losses.py",
        "return (terms + penalty).sum() / tokens",
        "return (terms + penalty).mean()",
        (LOSSES,),
    ),
    Mutant(
        "mean not protected where all is masked",
        "losses.py",
        "return (terms + penalty).sum() / tokens",
        "return (terms + penalty).sum() / (mask != 0).sum()",
        (LOSSES,),
    ),
    Mutant(
        "policy gradient with the wrong sign",
        "losses.py",
        "terms = -advantages * ratio",
        "terms = advantages * ratio",
        (LOSSES,),
    ),
    Mutant(
        "clip takes the better of the two",
        "losses.py",
        "torch.maximum(terms, clipped_terms)",
        "torch.minimum(terms, clipped_terms)",
        (LOSSES,),
    ),
    Mutant(
        "lower clip bound lost",
        "losses.py",
        "torch.clamp(ratio, lowest, highest)",
        "torch.clamp(ratio, None, highest)",
        (LOSSES,),
    ),
    Mutant(
        "clipped tokens stay candidates of Clip-Cov",
        "losses.py",
        "exclude=clipped, minimum=minimum",
        "exclude=None, minimum=minimum",
        (LOSSES,),
    ),
    Mutant(
        "drawn tokens leave the denominator",
        "losses.py",
        "return terms.sum() / tokens",
        "return terms.sum() / (tokens - selected.sum())",
        (LOSSES,),
    ),
    Mutant(
        "covariance not centred in the advantage",
        "ops/torch_ops.py",
        "zip((x, y), means, strict=True)",
        "zip((x, y), means * torch.tensor([1.0, 0.0]), strict=True)",
        (TOKENS,),
    ),
    Mutant(
        "quota off by one",
        "ops/common.py",
        "max(minimum, tokens * ratio[0] // ratio[1])",
        "max(minimum, tokens * ratio[0] // ratio[1] + 1)",
        (TOKENS,),
    ),
    Mutant(
        "floor of one token missing",
        "ops/common.py",
        "max(minimum, tokens * ratio[0] // ratio[1])",
        "tokens * ratio[0] // ratio[1]",
        (TOKENS,),
    ),
    Mutant(
        "quota rounded up",
        "ops/common.py",
        "tokens * ratio[0] // ratio[1])",
        "-(-tokens * ratio[0] // ratio[1]))",
        (TOKENS,),
    ),
    Mutant(
        "band with its lower bound inside",
        "ops/torch_ops.py",
        "(keep != 0) & (values > low)",
        "(keep != 0) & (values >= low)",
        (TOKENS,),
    ),
    Mutant(
        "band with its upper bound inside",
        "ops/torch_ops.py",
        "(values > low) & (values < high)",
        "(values > low) & (values <= high)",
        (TOKENS,),
    ),
    Mutant(
        "masked tokens are candidates",
        "ops/torch_ops.py",
        "candidates = (keep != 0) & (values",
        "candidates = (values",
        (TOKENS,),
    ),
    Mutant(
        "ties all selected",
        "ops/torch_ops.py",
        "level = places[left == threshold][: quota - len(above)]",
        "level = places[left == threshold]",
        (TOKENS,),
    ),
    Mutant(
        "ties by highest index",
        "ops/torch_ops.py",
        "level = places[left == threshold][: quota - len(above)]",
        "level = places[left == threshold][len(above) - quota :]",
        (TOKENS,),
    ),
    Mutant(
        "every draw the same",
        "trainer/methods/pool.py",
        "            generator=self.generator,\n",
        "            generator=torch.Generator().manual_seed(0),\n",
        (TRAINER,),
    ),
    Mutant(
        "rollout selected on its advantages alone",
        "trainer/trainer.py",
        "self._select(old, old, batch",
        "self._select(torch.zeros_like(old), old, batch",
        (TRAINER,),
    ),
    Mutant(
        "step selected on the old log-probabilities",
        "trainer/trainer.py",
        "selection = self._select(log_probs, log_probs if old is None else old, advantages",
        "selection = self._select(log_probs if old is None else old, old, advantages",
        (TRAINER,),
    ),
    Mutant(
        "tool tokens counted",
        "trainer/aggregate.py",
        'return mask * batch["tool_mask"] if "tool_mask" in batch else mask',
        "return mask",
        (TRAINER,),
    ),
    Mutant(
        "window not looked ahead",
        "trainer/trainer.py",
        'self.args.effective_scope == "step" and steps > 1',
        'self.args.effective_scope == "step" and steps > 99',
        (TRAINER,),
    ),
    Mutant(
        "window begins one micro-batch late",
        "trainer/trainer.py",
        "(self._step + ahead) % slices",
        "(self._step + ahead + 1) % slices",
        (TRAINER,),
    ),
    Mutant(
        "Clip-Cov leaves the advantages",
        "trainer/trainer.py",
        'batch["advantages"] = self.control.advantages(advantages, selection.selected)',
        'batch["advantages"] = advantages',
        (TRAINER,),
    ),
    Mutant(
        "penalty normalised per micro-batch",
        "trainer/aggregate.py",
        "/ processes * accumulation / steps_per_generation",
        "/ processes / steps_per_generation",
        (TRAINER,),
    ),
    Mutant(
        "sequence mean over padding",
        "trainer/aggregate.py",
        "values.sum(-1) / mask.sum(-1).clamp(min=1.0)",
        "values.mean(-1)",
        (TRAINER,),
    ),
    Mutant("padding penalised", "trainer/aggregate.py", "    values = values * mask\n", "", (TRAINER,)),
    Mutant(
        "coefficient ignored",
        "trainer/methods/kl_cov.py",
        "selected, self.coef)",
        "selected, 1.0)",
        ("tests/trainer/test_golden.py",),
    ),
    Mutant(
        "Clip-Cov without its own clip range",
        "trainer/config.py",
        'if self.ratio_clip == "method" and self.method.clip_range is not None:\n',
        "if False:\n",
        (TRAINER,),
    ),
    Mutant(
        "on-policy KL-Cov accepted",
        "trainer/config.py",
        "if self.on_policy and not self.method.acts_on_policy:",
        "if False:",
        ("tests/trainer/test_mistakes.py",),
    ),
    Mutant(
        "response mean weighted by tokens",
        "trainer/monitor.py",
        '"entropy/response_mean"] = total["response entropy"] / total["responses"].clamp(min=1)',
        '"entropy/response_mean"] = total["entropy"] / total["tokens"].clamp(min=1)',
        (MONITOR,),
    ),
    Mutant(
        "top mean over one token too many",
        "trainer/monitor.py",
        "sums[counts.long() - 1]",
        "sums[counts.long()]",
        (MONITOR,),
    ),
    Mutant(
        "top fractions not protected from rounding",
        "trainer/monitor.py",
        "(fractions * tokens + 5e-7)",
        "(fractions.float() * tokens - 1e-6)",
        (MONITOR,),
    ),
    Mutant(
        "smallest ratio over padding too",
        "trainer/monitor.py",
        "torch.where(keep, ratio, math.inf).amin()",
        "ratio.amin()",
        (MONITOR,),
    ),
    Mutant(
        "an empty step has entropy 0",
        "trainer/monitor.py",
        'total["tokens"] == 0, math.nan)',
        'total["tokens"] == 0, 0.0)',
        (MONITOR,),
    ),
    Mutant(
        "an empty step moves the controller",
        "trainer/methods/kl_cov.py",
        "torch.where(entropy.isnan(), self.coef, moved)",
        "moved",
        ("tests/trainer/test_truncated.py",),
    ),
    Mutant(
        "metrics of the last micro-batch alone",
        "trainer/monitor.py",
        "self._sums[name] = self._sums[name] + total if name in self._sums else total",
        "self._sums[name] = total",
        (MONITOR,),
    ),
    Mutant(
        "leave-one-out mean includes the one",
        "trainer/advantages.py",
        "(groups.nansum(1, keepdim=True) - groups) / others",
        "groups.nansum(1, keepdim=True) / (others + 1)",
        ("tests/trainer/test_advantages.py",),
    ),
    Mutant(
        "returns so far instead of to go",
        "trainer/advantages.py",
        "centred.flip(1).cumsum(1).flip(1)",
        "centred.cumsum(1)",
        ("tests/trainer/test_advantages.py",),
    ),
    Mutant(
        "whitening over sequences instead of tokens",
        "trainer/advantages.py",
        "torch.where(rewards.isnan(), 0, lengths)",
        "torch.where(rewards.isnan(), 0, torch.ones_like(lengths))",
        ("tests/trainer/test_advantages.py",),
    ),
    Mutant(
        "reward model learns from the opposite",
        "trainer/prime.py",
        "reward.sum(1), outcomes[rows].nan_to_num(nan=0.0)",
        "-reward.sum(1), outcomes[rows].nan_to_num(nan=0.0)",
        ("tests/trainer/test_prime.py",),
    ),
    Mutant(
        "probe one position late",
        "trainer/probe.py",
        "hidden[:, -length - 1 : -1].clone()",
        "hidden[:, -length:].clone()",
        ("tests/trainer/test_probe.py",),
    ),
    Mutant(
        "draw not restored on resume",
        "trainer/trainer.py",
        '        self.generator.set_state(state["generator"].cpu())\n',
        "",
        ("tests/trainer/test_resume.py",),
    ),
    Mutant(
        "rollout not restored on resume",
        "trainer/trainer.py",
        'self._step, self._buffered_inputs = state["step"], state["buffered_inputs"]',
        'self._step = state["step"]',
        ("tests/trainer/test_resume.py",),
    ),
)
