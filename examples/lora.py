"""Fine-tune any causal language model by path with LoRA and KL-Cov: ``python examples/lora.py CHECKPOINT [OUTPUT]``.

Put your prompts and your reward in the place of the sums; everything else carries over to a GPU.
"""

import random
import re
import sys

import torch
from datasets import Dataset
from peft import LoraConfig

from repro.trainer import CovGRPOConfig, CovGRPOTrainer

checkpoint, output = (*sys.argv[1:3], "lora-kl-cov")[:2]
draw = random.Random(0)
sums = [(draw.randrange(100), draw.randrange(100)) for _ in range(256)]
data = Dataset.from_dict({"prompt": [f"{a} + {b} =" for a, b in sums], "answer": [str(a + b) for a, b in sums]})


def right(completions, answer, **_):
    """1 where the first number of the completion is the answer."""
    found = [re.search(r"\d+", text) for text in completions]
    return [float(match is not None and match.group() == want) for match, want in zip(found, answer, strict=True)]


config = CovGRPOConfig(
    output_dir=output,
    entropy_control="kl_cov",
    per_device_train_batch_size=16,
    steps_per_generation=4,  # 4 updates of a rollout: on-policy, KL-Cov would do nothing and is refused
    num_generations=8,
    filter_groups=True,  # drop prompts that are always or never solved, and draw others
    max_completion_length=12,
    learning_rate=1e-4,  # LoRA takes a higher one than all weights do
    max_steps=16,
    logging_steps=4,
    bf16=torch.cuda.is_available(),
    save_strategy="no",
    report_to="none",
)
adapter = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
trainer = CovGRPOTrainer(checkpoint, right, args=config, train_dataset=data, peft_config=adapter)
trainer.train()
trainer.save_model(output)
for log in trainer.state.log_history[:-1]:
    reward = log["filter_groups/reward"]
    print(f"step {log['step']:2}  entropy {log['entropy/response_mean']:.3f} nat  reward {reward:.2f}")
