"""Train a small policy with KL-Cov on one CPU, in under a minute, and print its entropy."""

from repro import policies
from repro.tasks import AccuracyReward, get_task
from repro.trainer import CovGRPOConfig, CovGRPOTrainer

model, tokenizer = policies.load("s")
task = get_task("arithmetic")
problems = task.dataset("train", seed=0, size=256)
config = CovGRPOConfig(entropy_control="kl_cov", steps_per_generation=4, per_device_train_batch_size=128, max_steps=24,
    max_completion_length=16, learning_rate=1e-3, bf16=False, logging_steps=4, report_to="none")  # fmt: skip
trainer = CovGRPOTrainer(model, AccuracyReward(task), args=config, train_dataset=problems, processing_class=tokenizer)
trainer.train()
for log in trainer.state.log_history[:-1]:
    print(f"step {log['step']:2}  entropy {log['entropy/response_mean']:.3f} nat  reward {log['reward']:.2f}")
