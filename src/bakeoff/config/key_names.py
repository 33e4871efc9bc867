"""The key that a user means by a name that is no key: the names of Lightning, Hydra and torch, and the last words of ours."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bakeoff.errors import join_choices, near_miss

FOREIGN = {
    "accumulate_grad_batches": "trainer.accumulate",
    "bs": "data.batch_size",
    "dataset": "data",
    "epochs": "trainer.max_epochs",
    "gpus": "trainer.devices",
    "grad_clip": "trainer.clip",
    "gradient_clip": "trainer.clip",
    "gradient_clip_val": "trainer.clip",
    "init": "initializer",
    "learning_rate": "optimizer.lr",
    "log_every_n_steps": "trainer.log_every",
    "lr_scheduler": "scheduler",
    "max_grad_norm": "trainer.clip",
    "n_epochs": "trainer.max_epochs",
    "net": "model",
    "num_epochs": "trainer.max_epochs",
    "num_workers": "data.workers",
    "opt": "optimizer",
    "random_seed": "seed",
    "steps": "trainer.max_steps",
    "train_batch_size": "data.batch_size",
    "val_batch_size": "data.eval_batch_size",
    "val_split": "data.val_fraction",
    "wd": "optimizer.weight_decay",
    "enable_progress_bar": "trainer.progress",
    "default_root_dir": "tracking.folder",
    "experiment_name": "tracking.experiment",
    "tracking_uri": "tracking.uri",
    "data_dir": "data.root",
    "image_size": "data.size",
    "img_size": "data.size",
    "l1": "penalty.l1",
    "lr": "optimizer.lr",
    "batch_size": "data.batch_size",
    "max_epochs": "trainer.max_epochs",
    "max_steps": "trainer.max_steps",
    "weight_decay": "optimizer.weight_decay",
    "l2": "penalty.l2",
}
"""A name of Lightning's, Hydra's or a common one -> our key."""
FOR_SWEEPS = {"trials": "budget.trials", "n_trials": "budget.trials", "seeds": "confirm.seeds", "studies": "budget.studies"}
"""A name -> our key, which only sweeps have."""
LINES = {
    "fast_dev_run": "trainer.max_steps=1 test=true is one step, one validation and one test",
    "limit_train_batches": "trainer.max_steps=N ends after N batches, and data.subset=N takes N images",
    "limit_val_batches": "data.subset=N takes N training and validation images",
    "limit_test_batches": "the test set is scored as a whole, once, where test=true",
    "overfit_batches": "bakeoff check fits one batch; data.subset=N trains on N images",
    "callbacks": "the callbacks of a run are its own; diagnostics=full measures the most",
    "logger": "runs are logged to MLflow; tracking.uri=ADDRESS says to which store",
    "ckpt_path": "resume=RUN_ID goes on with a run",
    "resume_from_checkpoint": "resume=RUN_ID goes on with a run",
    "workers": "data.workers decodes images; a sweep's workers=N trains N runs at a time",
    "check_val_every_n_epoch": "every epoch is validated",
    "gradient_clip_algorithm": "trainer.clip limits the norm",
}
"""A name for which there is no key -> what to type instead."""


def suggest_key(name: str, *, keys: Iterable[str], siblings: Sequence[str]) -> str:
    """Return what to say behind `NAME: no such key`: the keys that `name` may mean, else those beside it.

    Args:
        name: The dotted name that was typed.
        keys: All dotted keys of the composed config.
        siblings: The keys beside the wrong one.
    """
    last, everything = name.rpartition(".")[2], list(keys)
    if last in LINES:
        return f"; {LINES[last]}"
    same = [key for key in everything if key.rpartition(".")[2] == last]
    meant = [FOREIGN[last]] if last in FOREIGN else same
    if meant:
        return f" (did you mean {' or '.join(meant[:4])}?)"
    if last in FOR_SWEEPS:
        return f"; a sweep has {FOR_SWEEPS[last]}, as in bakeoff sweep NAME {FOR_SWEEPS[last]}=5"
    return f"{near_miss(last, siblings)}; keys: {join_choices(siblings)}"
