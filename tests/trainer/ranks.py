"""Trains with fixed rollouts and writes what happened: run by test_distributed.py on one process and on two.

python ranks.py OUTPUT_FOLDER {NAME: SETTINGS, ...}_AS_JSON
"""

import importlib.util
import json
import os
import sys
import warnings
from pathlib import Path

import torch
from transformers import PrinterCallback

from repro.policies.family import make_model, make_tokenizer
from repro.tasks import get_task
from repro.trainer import CovGRPOConfig

spec = importlib.util.spec_from_file_location("kit", Path(__file__).with_name("conftest.py"))
kit = importlib.util.module_from_spec(spec)
spec.loader.exec_module(kit)


def half(prompts: list[str], completions: list[str], **_: object) -> list[float]:
    """Rewards that differ in groups whose first number is odd alone."""
    even = [int(prompt[0]) % 2 == 0 for prompt in prompts]
    rewards = kit.text_reward(completions)
    return [
        1.0 if right else reward + index % 4 for index, (right, reward) in enumerate(zip(even, rewards, strict=True))
    ]


class Watched(kit.FixedCovGRPOTrainer):
    """Notes each rollout's prompts, and its selected places by prompt, place in the group and position."""

    def _generate_and_score_completions(self, inputs):
        batch = super()._generate_and_score_completions(inputs)
        self.prompts.append(self.processing_class.batch_decode(batch["prompt_ids"], skip_special_tokens=True))
        selected = batch.get("cov_selected", torch.zeros_like(batch["completion_mask"]))
        for row, position in selected.nonzero().tolist():
            self.places.append([inputs[row]["prompt"], row % self.num_generations, position])
        return batch


def main(folder: Path, settings: dict) -> None:
    folder.mkdir(exist_ok=True)
    warnings.simplefilter("ignore")
    backend = {"ddp_backend": "gloo"} if int(os.environ.get("WORLD_SIZE", "1")) > 1 else {}
    tokenizer = make_tokenizer(get_task("arithmetic"))
    torch.manual_seed(1)
    reward = half if settings.pop("reward", "text") == "half" else kit.text_reward
    trainer = Watched(
        model=make_model("s", tokenizer),
        reward_funcs=reward,
        args=CovGRPOConfig(output_dir=str(folder / "out"), **backend, **(kit.SETTINGS | settings)),
        train_dataset=kit.numbered_prompts(),
        processing_class=tokenizer,
    )
    trainer.places, trainer.prompts = [], []
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    rank = trainer.accelerator.process_index
    (folder / f"places_{rank}.json").write_text(json.dumps(trainer.places))
    (folder / f"prompts_{rank}.json").write_text(json.dumps(trainer.prompts))
    if rank == 0:
        (folder / "history.json").write_text(json.dumps(kit.history(trainer)))
        torch.save(kit.parameters(trainer), folder / "parameters.pt")


if __name__ == "__main__":
    for name, settings in json.loads(sys.argv[2]).items():
        main(Path(sys.argv[1]) / name, settings)
