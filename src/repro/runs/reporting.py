"""A run's log as it trains, in the tool of one's choice: transformers' own callbacks, nothing of which trains."""

import importlib.util
from collections.abc import Sequence

from transformers import TrainerCallback, TrainingArguments

from repro.errors import ConfigError
from repro.paths import DISTRIBUTION, build_dir
from repro.runs.config import RunConfig


def check(report_to: Sequence[str]) -> None:
    """Find out before a model is loaded whether the tools are there.

    Raises:
        ConfigError: for one that is not installed.
    """
    for name in report_to:
        if importlib.util.find_spec(name) is None:
            raise ConfigError(f"report_to={name} needs the package {name}: install it, or leave it out")


def callbacks(report_to: Sequence[str], config: RunConfig, args: TrainingArguments) -> list[TrainerCallback]:
    """The callbacks of ``tensorboard``, ``trackio`` and ``wandb``; the arguments get the names that they show.

    TensorBoard's events of a run go to ``<build>/tensorboard/<run>/``; the other two keep theirs where their own
    settings say.
    """
    args.project, args.run_name = DISTRIBUTION, config.name
    return [_callback(name, config) for name in report_to]


def _callback(name: str, config: RunConfig) -> TrainerCallback:
    from transformers import integrations

    if name == "tensorboard":
        from torch.utils.tensorboard import SummaryWriter

        return integrations.TensorBoardCallback(SummaryWriter(str(build_dir() / "tensorboard" / config.name)))
    return {"trackio": integrations.TrackioCallback, "wandb": integrations.WandbCallback}[name]()
