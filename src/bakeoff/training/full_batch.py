"""What an optimizer of one deterministic function asks of a run: the whole training set as one batch."""

from __future__ import annotations

import torch

from bakeoff.config.schema import RunConfig
from bakeoff.config.targets import resolve_target
from bakeoff.errors import ConfigError


def check_batch(run: RunConfig, *, images: int) -> None:
    """Errors: ConfigError where the optimizer is L-BFGS and a batch is not all the training images, or comes in parts, or in float16.

    L-BFGS builds its curvature from differences of gradients of one function, and evaluates it several times a step (Liu, Nocedal
    1989): with a new batch a step those differences are noise, and parts of a batch would be summed anew at each evaluation.
    """
    kind = resolve_target("optimizer", run.optimizer)
    if not (isinstance(kind, type) and issubclass(kind, torch.optim.LBFGS)):
        return
    rules = (
        ("data.batch_size", run.data.batch_size, images, f"all {images} training images as one batch (fewer with data.subset)"),
        ("trainer.accumulate", run.trainer.accumulate, 1, "1"),
    )
    for key, value, needed, rule in rules:
        if value != needed:
            raise ConfigError(f"{key}={value}: {kind.__name__} evaluates one function several times a step and needs {rule}")
    if run.trainer.precision == "16-mixed":
        raise ConfigError(f"trainer.precision=16-mixed: {kind.__name__} does not go with the scaled gradients of float16")
