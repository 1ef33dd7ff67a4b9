"""Trains with fixed rollouts and writes what happened: run by tests on one process and on two.

python ranks.py OUTPUT_FOLDER {NAME: SETTINGS, ...}_AS_JSON
"""

import importlib.util
import json
import os
import sys
import warnings
from pathlib import Path
from unittest import mock

import torch
from accelerate import PartialState
from accelerate.utils import DistributedType
from torch.distributed.tensor import DTensor
from transformers import PrinterCallback
from trl.trainer import grpo_trainer

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
    """Notes each rollout's prompts, and the selected places by prompt, place in the group and position.

    What is selected of micro-batches is noted where they have the order of the rollout, with ``in_order``.
    """

    def _generate_and_score_completions(self, inputs):
        batch = super()._generate_and_score_completions(inputs)
        self.prompts.append(self.processing_class.batch_decode(batch["prompt_ids"], skip_special_tokens=True))
        selected = batch.get("cov_selected", torch.zeros_like(batch["completion_mask"]))
        for row, position in selected.nonzero().tolist():
            self.places.append([inputs[row]["prompt"], row % self.num_generations, position])
        return batch

    def _control(self, batch, *args):
        super()._control(batch, *args)
        if self.args.effective_scope == "micro":
            prompts = self.processing_class.batch_decode(batch["prompt_ids"], skip_special_tokens=True)
            for row, position in batch["cov_selection"].selected.nonzero().tolist():
                self.places.append([prompts[row], row % self.num_generations, position])


def shard_on_cpus() -> None:
    """Let accelerate shard where `accelerate launch` asked for FSDP: for processes of MULTI_CPU 1.15 would not."""
    begin = PartialState.__init__

    def begin_as_gpus(self, *args, **kwargs):
        begin(self, *args, **kwargs)
        if self.distributed_type == DistributedType.MULTI_CPU:
            self.distributed_type = DistributedType.MULTI_GPU

    PartialState.__init__ = begin_as_gpus


def main(folder: Path, settings: dict) -> None:
    folder.mkdir(exist_ok=True)
    warnings.simplefilter("ignore")
    backend = {"ddp_backend": "gloo"} if int(os.environ.get("WORLD_SIZE", "1")) > 1 else {}
    tokenizer = make_tokenizer(get_task("arithmetic"))
    torch.manual_seed(1)
    reward = half if settings.pop("reward", "text") == "half" else kit.text_reward
    # TRL shuffles a rollout's rows on each rank before it cuts them into micro-batches.
    shuffle = (lambda rows: rows) if settings.pop("in_order", False) else grpo_trainer.shuffle_sequence_dict
    trainer = Watched(
        model=make_model("s", tokenizer),
        reward_funcs=reward,
        args=CovGRPOConfig(output_dir=str(folder / "out"), **backend, **(kit.SETTINGS | settings)),
        train_dataset=kit.numbered_prompts(),
        processing_class=tokenizer,
    )
    trainer.places, trainer.prompts = [], []
    trainer.remove_callback(PrinterCallback)
    with mock.patch.object(grpo_trainer, "shuffle_sequence_dict", shuffle):
        trainer.train()
    rank = trainer.accelerator.process_index
    (folder / f"places_{rank}.json").write_text(json.dumps(trainer.places))
    (folder / f"prompts_{rank}.json").write_text(json.dumps(trainer.prompts))
    # A sharded parameter is put together by all ranks.
    found = kit.parameters(trainer)
    sharded = sorted(name for name, value in found.items() if isinstance(value, DTensor))
    whole = {name: value.full_tensor() if name in sharded else value for name, value in found.items()}
    if rank == 0:
        (folder / "sharded.json").write_text(json.dumps(sharded))
        (folder / "history.json").write_text(json.dumps(kit.history(trainer)))
        torch.save(whole, folder / "parameters.pt")


if __name__ == "__main__":
    if os.environ.get("ACCELERATE_USE_FSDP") == "true":
        shard_on_cpus()
    for name, settings in json.loads(sys.argv[2]).items():
        main(Path(sys.argv[1]) / name, settings)
