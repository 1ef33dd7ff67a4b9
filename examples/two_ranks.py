"""The same training on two processes: ``torchrun --nproc_per_node=2 examples/two_ranks.py``, on GPUs or without any.

KL-Cov's tokens are chosen over the rollout of both ranks, so the result is that of one process with twice the batch.
On GPUs ``accelerate launch --num_processes 2`` does as well; with ``--cpu`` it starts one process without MPI.
"""

import torch

from repro import policies
from repro.tasks import AccuracyReward, get_task
from repro.trainer import CovGRPOConfig, CovGRPOTrainer

model, tokenizer = policies.load("s")
gpu = torch.cuda.is_available()
config = CovGRPOConfig(
    entropy_control="kl_cov",
    per_device_train_batch_size=32,  # of each rank
    steps_per_generation=4,
    max_completion_length=16,
    learning_rate=1e-3,
    max_steps=8,
    logging_steps=4,
    ddp_backend="nccl" if gpu else "gloo",
    use_cpu=not gpu,
    bf16=False,
    report_to="none",
    save_strategy="no",
    disable_tqdm=True,
)
task = get_task("arithmetic")
problems = task.dataset("train", seed=0, size=256)
trainer = CovGRPOTrainer(model, AccuracyReward(task), args=config, train_dataset=problems, processing_class=tokenizer)
trainer.train()
if trainer.accelerator.is_main_process:
    for log in trainer.state.log_history[:-1]:
        entropy, chosen, pool = (log[name] for name in ("entropy/response_mean", "selected/count", "selected/pool"))
        print(f"step {log['step']}  entropy {entropy:.3f} nat  {chosen:.0f} of a rollout's {pool:.0f} tokens chosen")
    print(f"{trainer.accelerator.num_processes} ranks")
