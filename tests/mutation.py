"""Breaks the selection, loss and monitor code in small ways, one at a time, and tells whether a test notices.

    python tests/mutation.py [NUMBER ...]

Each mutation replaces one piece of text, which must occur exactly once, in a copy of ``src``; the tests named with it
run on the copy, in a process of their own. Prints a table and exits with 1 if a mutation survives. Not part of the
default test run: it takes minutes.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TRAINER = "tests/trainer/test_methods.py"
MONITOR = "tests/trainer/test_monitor.py"
LOSSES = "tests/test_losses.py"
TOKENS = "tests/ops/test_tokens.py"


@dataclass(frozen=True)
class Mutation:
    """What is broken, where, by which replacement, and the tests that should notice."""

    what: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


MUTATIONS = (
    Mutation(
        "penalty with the wrong sign",
        "losses.py",
        "coef * (log_probs - old_log_probs).abs()",
        "-coef * (log_probs - old_log_probs).abs()",
        (LOSSES,),
    ),
    Mutation(
        "penalty without the absolute value",
        "losses.py",
        "coef * (log_probs - old_log_probs).abs()",
        "coef * (log_probs - old_log_probs)",
        (LOSSES,),
    ),
    Mutation(
        "penalty squared",
        "losses.py",
        "coef * (log_probs - old_log_probs).abs()",
        "coef * (log_probs - old_log_probs).square()",
        (LOSSES,),
    ),
    Mutation(
        "penalty detached",
        "losses.py",
        "coef * (log_probs - old_log_probs).abs()",
        "coef * (log_probs - old_log_probs).abs().detach()",
        (LOSSES,),
    ),
    Mutation(
        "penalty on what is not selected",
        "losses.py",
        "torch.where(selected != 0, coef",
        "torch.where(selected == 0, coef",
        (LOSSES,),
    ),
    Mutation("mean over padding", "losses.py", "keep.sum().clamp(min=1)", "keep.numel()", (LOSSES,)),
    Mutation(
        "mean not protected where all is masked",
        "losses.py",
        "torch.where(keep, values, 0.0).sum() / keep.sum().clamp(min=1)",
        "torch.where(keep, values, 0.0).sum() / keep.sum()",
        (LOSSES,),
    ),
    Mutation(
        "policy gradient with the wrong sign",
        "losses.py",
        "terms = -advantages * ratio",
        "terms = advantages * ratio",
        (LOSSES,),
    ),
    Mutation(
        "clip takes the better of the two",
        "losses.py",
        "torch.maximum(terms, clipped_terms)",
        "torch.minimum(terms, clipped_terms)",
        (LOSSES,),
    ),
    Mutation(
        "lower clip bound lost",
        "losses.py",
        "torch.clamp(ratio, lowest, highest)",
        "torch.clamp(ratio, None, highest)",
        (LOSSES,),
    ),
    Mutation(
        "clipped tokens stay candidates of Clip-Cov",
        "losses.py",
        "exclude=clipped, minimum=minimum",
        "exclude=None, minimum=minimum",
        (LOSSES,),
    ),
    Mutation(
        "drawn tokens leave the denominator",
        "losses.py",
        "torch.where(selected, 0.0, terms).sum() / tokens",
        "torch.where(selected, 0.0, terms).sum() / (tokens - selected.sum())",
        (LOSSES,),
    ),
    Mutation(
        "covariance not centred in the advantage",
        "ops/torch_ops.py",
        "zip((x, y), means, strict=True)",
        "zip((x, y), means * torch.tensor([1.0, 0.0]), strict=True)",
        (TOKENS,),
    ),
    Mutation(
        "quota off by one",
        "ops/common.py",
        "max(minimum, tokens * ratio[0] // ratio[1])",
        "max(minimum, tokens * ratio[0] // ratio[1] + 1)",
        (TOKENS,),
    ),
    Mutation(
        "floor of one token missing",
        "ops/common.py",
        "max(minimum, tokens * ratio[0] // ratio[1])",
        "tokens * ratio[0] // ratio[1]",
        (TOKENS,),
    ),
    Mutation(
        "quota rounded up",
        "ops/common.py",
        "tokens * ratio[0] // ratio[1])",
        "-(-tokens * ratio[0] // ratio[1]))",
        (TOKENS,),
    ),
    Mutation(
        "band with its lower bound inside",
        "ops/torch_ops.py",
        "(keep != 0) & (values > low)",
        "(keep != 0) & (values >= low)",
        (TOKENS,),
    ),
    Mutation(
        "band with its upper bound inside",
        "ops/torch_ops.py",
        "(values > low) & (values < high)",
        "(values > low) & (values <= high)",
        (TOKENS,),
    ),
    Mutation(
        "masked tokens are candidates",
        "ops/torch_ops.py",
        "candidates = (keep != 0) & (values",
        "candidates = (values",
        (TOKENS,),
    ),
    Mutation(
        "ties all selected",
        "ops/torch_ops.py",
        "level = places[left == threshold][: quota - len(above)]",
        "level = places[left == threshold]",
        (TOKENS,),
    ),
    Mutation(
        "ties by highest index",
        "ops/torch_ops.py",
        "level = places[left == threshold][: quota - len(above)]",
        "level = places[left == threshold][len(above) - quota :]",
        (TOKENS,),
    ),
    Mutation(
        "every draw the same",
        "trainer/trainer.py",
        "                generator=self.generator,\n",
        "                generator=torch.Generator().manual_seed(0),\n",
        (TRAINER,),
    ),
    Mutation(
        "rollout selected on its advantages alone",
        "trainer/trainer.py",
        "self._select(old, old, batch",
        "self._select(torch.zeros_like(old), old, batch",
        (TRAINER,),
    ),
    Mutation(
        "step selected on the old log-probabilities",
        "trainer/trainer.py",
        "selection = self._select(log_probs, log_probs if old is None else old, advantages",
        "selection = self._select(log_probs if old is None else old, old, advantages",
        (TRAINER,),
    ),
    Mutation(
        "tool tokens counted",
        "trainer/aggregate.py",
        'return mask * batch["tool_mask"] if "tool_mask" in batch else mask',
        "return mask",
        (TRAINER,),
    ),
    Mutation(
        "window not looked ahead",
        "trainer/trainer.py",
        'self.args.effective_scope == "step" and steps > 1',
        'self.args.effective_scope == "step" and steps > 99',
        (TRAINER,),
    ),
    Mutation(
        "window begins one micro-batch late",
        "trainer/trainer.py",
        "(self._step + ahead) % slices",
        "(self._step + ahead + 1) % slices",
        (TRAINER,),
    ),
    Mutation(
        "Clip-Cov leaves the advantages",
        "trainer/trainer.py",
        'batch["advantages"] = torch.where(selection.selected, 0.0, advantages)',
        'batch["advantages"] = advantages',
        (TRAINER,),
    ),
    Mutation(
        "penalty normalised per micro-batch",
        "trainer/aggregate.py",
        "/ processes * accumulation / steps_per_generation",
        "/ processes / steps_per_generation",
        (TRAINER,),
    ),
    Mutation(
        "sequence mean over padding",
        "trainer/aggregate.py",
        "values.sum(-1) / mask.sum(-1).clamp(min=1.0)",
        "values.mean(-1)",
        (TRAINER,),
    ),
    Mutation("padding penalised", "aggregate.py", "    values = values * mask\n", "", (TRAINER,)),
    Mutation(
        "coefficient ignored",
        "trainer/trainer.py",
        "selection.selected, self.kl_cov_coef)",
        "selection.selected, 1.0)",
        ("tests/trainer/test_golden.py",),
    ),
    Mutation(
        "Clip-Cov without its own clip range",
        "trainer/config.py",
        'if self.ratio_clip == "method" and self.entropy_control == "clip_cov":',
        "if False:",
        (TRAINER,),
    ),
    Mutation(
        "on-policy KL-Cov accepted",
        "trainer/config.py",
        'if self.entropy_control == "kl_cov" and self.on_policy:',
        "if False:",
        ("tests/trainer/test_config.py",),
    ),
    Mutation(
        "response mean weighted by tokens",
        "trainer/monitor.py",
        '"entropy/response_mean"] = total["response entropy"] / total["responses"].clamp(min=1)',
        '"entropy/response_mean"] = total["entropy"] / total["tokens"].clamp(min=1)',
        (MONITOR,),
    ),
    Mutation(
        "top mean over one token too many", "monitor.py", "sums[counts.long() - 1]", "sums[counts.long()]", (MONITOR,)
    ),
    Mutation(
        "top fractions not protected from rounding",
        "trainer/monitor.py",
        "(fractions * tokens + 5e-7)",
        "(fractions.float() * tokens - 1e-6)",
        (MONITOR,),
    ),
    Mutation(
        "smallest ratio over padding too",
        "trainer/monitor.py",
        "torch.where(keep, ratio, math.inf).amin()",
        "ratio.amin()",
        (MONITOR,),
    ),
    Mutation(
        "clipped share whatever the advantage's sign",
        "trainer/monitor.py",
        "keep & (ratio > 1 + high) & (advantages > 0)",
        "keep & (ratio > 1 + high)",
        (MONITOR,),
    ),
    Mutation(
        "metrics of the last micro-batch alone",
        "trainer/monitor.py",
        "self._sums[name] = self._sums[name] + total if name in self._sums else total",
        "self._sums[name] = total",
        (MONITOR,),
    ),
    Mutation(
        "leave-one-out mean includes the one",
        "trainer/advantages.py",
        "(groups.nansum(1, keepdim=True) - groups) / others",
        "groups.nansum(1, keepdim=True) / (others + 1)",
        ("tests/trainer/test_advantages.py",),
    ),
    Mutation(
        "returns so far instead of to go",
        "trainer/advantages.py",
        "centred.flip(1).cumsum(1).flip(1)",
        "centred.cumsum(1)",
        ("tests/trainer/test_advantages.py",),
    ),
    Mutation(
        "whitening over sequences instead of tokens",
        "trainer/advantages.py",
        "torch.where(rewards.isnan(), 0, lengths)",
        "torch.where(rewards.isnan(), 0, torch.ones_like(lengths))",
        ("tests/trainer/test_advantages.py",),
    ),
    Mutation(
        "reward model learns from the opposite",
        "trainer/prime.py",
        "reward.sum(1), outcomes[rows].nan_to_num(nan=0.0)",
        "-reward.sum(1), outcomes[rows].nan_to_num(nan=0.0)",
        ("tests/trainer/test_prime.py",),
    ),
    Mutation(
        "probe one position late",
        "trainer/probe.py",
        "hidden[:, -length - 1 : -1].clone()",
        "hidden[:, -length:].clone()",
        ("tests/trainer/test_probe.py",),
    ),
    Mutation(
        "draw not restored on resume",
        "trainer/trainer.py",
        '        self.generator.set_state(state["generator"].cpu())\n',
        "",
        ("tests/trainer/test_resume.py",),
    ),
    Mutation(
        "rollout not restored on resume",
        "trainer/trainer.py",
        'self._step, self._buffered_inputs = state["step"], state["buffered_inputs"]',
        'self._step = state["step"]',
        ("tests/trainer/test_resume.py",),
    ),
)


def survives(mutation: Mutation, folder: Path) -> bool:
    """Whether all the tests pass although the code is broken.

    Raises:
        SystemExit: where the text to replace does not occur exactly once.
    """
    source = folder / "src"
    shutil.copytree(ROOT / "src", source, ignore=shutil.ignore_patterns("__pycache__"))
    path = source / "repro" / mutation.file
    text = path.read_text()
    if text.count(mutation.old) != 1:
        raise SystemExit(
            f"{mutation.what}: {mutation.old!r} occurs {text.count(mutation.old)} times in {mutation.file}"
        )
    path.write_text(text.replace(mutation.old, mutation.new))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *mutation.tests],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(source), "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode not in (0, 1):
        raise SystemExit(f"{mutation.what}: the tests did not run\n{done.stdout[-2000:]}")
    return done.returncode == 0


def main(numbers: list[int]) -> int:
    survivors = 0
    for number, mutation in enumerate(MUTATIONS, 1):
        if numbers and number not in numbers:
            continue
        with tempfile.TemporaryDirectory() as folder:
            alive = survives(mutation, Path(folder))
        survivors += alive
        print(f"{number:3}  {'SURVIVES' if alive else 'caught':8}  {mutation.file:20}  {mutation.what}", flush=True)
    print(f"{survivors} survive")
    return int(survivors > 0)


if __name__ == "__main__":
    sys.exit(main([int(argument) for argument in sys.argv[1:]]))
