"""The training of one run in this process (or this rank): from a run directory to its result."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import traceback
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from bakeoff import builders, seeds
from bakeoff.config.compose import load_frozen
from bakeoff.config.schema import RunConfig, fingerprint
from bakeoff.data.datamodule import ImageDataModule
from bakeoff.errors import BakeoffError, FolderError, MachineError, redact_text, signal_of
from bakeoff.machine import fault_of
from bakeoff.run_files import checkpoints
from bakeoff.run_files.journal import Journal, NullJournal
from bakeoff.run_files.provenance import collect_provenance, provenance_tags
from bakeoff.run_files.run_dir import RunDir
from bakeoff.run_files.settling import log_outcome, settle_run
from bakeoff.run_files.system_metrics import SystemMetricsSampler
from bakeoff.training.callbacks.checkpointing import training_seconds
from bakeoff.training.journal_logger import JournalLogger
from bakeoff.training.lightning_module import ClassificationModule
from bakeoff.training.model_files import write_trained_model
from bakeoff.training.trainer import (
    RunContext,
    make_callbacks,
    make_timer,
    make_trainer,
    resolve_accelerator,
    set_determinism,
    silence_lightning,
)


@dataclass
class RunResult:
    """How a run ended: what result.json holds. The metrics are the last ones."""

    id: str
    name: str
    status: str
    reason: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    best: dict[str, float] = field(default_factory=dict)
    steps: int = 0
    epochs: int = 0
    seconds: float = 0.0
    images_per_second: float = 0.0
    fingerprint: str = ""

    def to_json_dict(self) -> dict[str, Any]:
        """Return the content of result.json; numbers that are not finite become strings."""
        content = asdict(self)
        for group in ("metrics", "best"):
            content[group] = {name: value if math.isfinite(value) else str(value) for name, value in content[group].items()}
        return content

    @classmethod
    def from_json_dict(cls, content: dict[str, Any]) -> RunResult:
        """Return the result of `to_json_dict`'s content; fields of a later version are ignored."""
        fields = {name: content[name] for name in cls.__dataclass_fields__ if name in content}
        for group in ("metrics", "best"):
            fields[group] = {name: float(value) for name, value in fields.get(group, {}).items()}
        return cls(**fields)


def train_from_dir(path: Path, *, progress: bool = False) -> RunResult:
    """Train the run of a run directory, from its newest checkpoint where there is one, and write result.json.

    A run that is done already is not trained again. A failure of the run's own is its result (`failed`, with the reason), and is raised
    after that; a fault of the machine, a kill or Ctrl-C leaves no result, so that the run can be resumed.

    Args:
        path: The run directory.
        progress: Show a progress bar.

    Raises:
        BusyError: Another process is training the run.
        MachineError: The machine failed: its disk, its memory, a device, or another rank.
    """
    try:
        return train_or_log_failure(path, progress=progress)
    except Exception as error:
        kind = fault_of(error)
        if kind is None:
            raise
        raise MachineError(describe(error), kind=kind) from error


def describe(error: Exception) -> str:
    """Return what an error says, with its type where it is not one of ours."""
    return str(error) if isinstance(error, BakeoffError) else redact_text(f"{type(error).__name__}: {error}")


def train_or_log_failure(path: Path, *, progress: bool) -> RunResult:
    """Train the run of a run directory as `train_from_dir` says, which names the faults of the machine."""
    run_dir = RunDir(path)
    content = run_dir.read_result()
    if content is not None:
        settle_run(run_dir)
        return RunResult.from_json_dict(content)
    manifest = run_dir.read_job()
    run = load_frozen(run_dir.read_config(), origin=str(run_dir.config))
    is_rank_zero = int(os.environ.get("RANK", "0")) == 0
    with run_dir.locked() if is_rank_zero else contextlib.nullcontext():
        journal = Journal(run_dir.journal) if is_rank_zero else NullJournal()
        context = RunContext(run=run, manifest=manifest, run_dir=run_dir, journal=journal, progress=progress, is_rank_zero=is_rank_zero)
        journal.start(manifest)
        try:
            with builders.data_errors(run):
                return run_training(context)
        except Exception as error:
            if fault_of(error) is None:
                log_failure(context, error)
            else:
                # Where another rank has failed, its failure is the run's.
                result = run_dir.read_result()
                with contextlib.suppress(FolderError):
                    journal.end("KILLED" if result is None else "FAILED", reason=describe(error) if result is None else result["reason"])
            raise
        except BaseException as error:
            stop = signal_of(error).name if isinstance(error, KeyboardInterrupt) else type(error).__name__
            with contextlib.suppress(FolderError):
                journal.end("KILLED", reason=f"stopped by {stop}")
            raise
        finally:
            journal.close()


def run_training(context: RunContext) -> RunResult:
    """Train and test between the journal's start and its end, and log the result."""
    run, run_dir = context.run, context.run_dir
    silence_lightning()
    set_determinism(run)
    state = checkpoints.read_latest_checkpoint(run_dir.checkpoints)
    if state is not None and not isinstance(state.get("step"), int):
        raise FolderError(f"{run_dir.checkpoints}: the checkpoint holds no whole number under the key step")
    logger = JournalLogger(context.journal, resumed_at=state["step"] if state is not None else 0)
    timer = make_timer(run, earlier_seconds=float((state or {}).get("seconds", 0.0)))
    trainer = make_trainer(run, callbacks=[*make_callbacks(context, logger, state), timer], logger=logger)
    data = builders.set_up_data(run, trainer=trainer)
    trainer.fit_loop.max_epochs = data.epochs(run.trainer.max_epochs)
    total_steps = data.total_steps(run.trainer.max_epochs)
    module = ClassificationModule(run, total_steps=total_steps, steps_per_epoch=data.steps_per_epoch)
    if context.is_rank_zero:
        log_run_metadata(context, data, module)
    sampler = SystemMetricsSampler(context.journal, every=run.tracking.system_every) if context.is_rank_zero else contextlib.nullcontext()
    with sampler, interrupts_raised(trainer):
        trainer.fit(module, datamodule=data)
        # Else divergence or the time limit has ended the training.
        if trainer.received_sigterm or (module.step < total_steps and module.diverged is None and not trainer.should_stop):
            raise SystemExit
        if run.test:
            test_last_and_best(context, trainer, module, data)
    is_cut = module.step < total_steps
    limit = f"trainer.max_time={run.trainer.max_time} ended it at step {module.step} of {total_steps}"
    reason = module.diverged or (limit if is_cut else "")
    result = RunResult(
        id=context.manifest.id,
        name=context.manifest.name,
        status="diverged" if module.diverged else "finished",
        reason=reason,
        metrics={name: value for name, value in module.latest_metrics.items() if name != "lr"},
        best=module.best_metrics,
        steps=module.step,
        epochs=math.ceil(module.step / data.steps_per_epoch),
        seconds=module.earlier_seconds + training_seconds(trainer),
        images_per_second=module.images_per_second,
        fingerprint=fingerprint(run),
    )
    if context.is_rank_zero:
        log_result(context, result)
    return result


@contextlib.contextmanager
def interrupts_raised(trainer: pl.Trainer) -> Iterator[None]:
    """Raise Ctrl-C and SIGTERM as KeyboardInterrupt, which Lightning turns into a SystemExit with the exit code 1 or 0."""
    try:
        yield
    except SystemExit as error:
        stop = error.__context__
        if isinstance(stop, KeyboardInterrupt):
            raise stop from None
        raise KeyboardInterrupt(*([signal.SIGTERM.name] if trainer.received_sigterm else [])) from None


def test_last_and_best(context: RunContext, trainer: pl.Trainer, module: ClassificationModule, data: ImageDataModule) -> None:
    """Score the final net and the one that validation liked best on the test set, which nothing else looks at."""
    module.net.load_state_dict(module.trained_weights())
    trainer.test(module, datamodule=data, verbose=False)
    best = checkpoints.read_checkpoint(context.run_dir.checkpoints / "best.ckpt") if context.is_rank_zero else None
    best_weights = trainer.strategy.broadcast(best["net"] if best is not None else None)
    if best_weights is not None:
        module.net.load_state_dict(best_weights)
        module.test_prefix = "test_best"
        trainer.test(module, datamodule=data, verbose=False)


def log_run_metadata(context: RunContext, data: ImageDataModule, module: ClassificationModule) -> None:
    """Log everything about the run that is known before its first step."""
    run, journal, run_path = context.run, context.journal, context.run_dir.path
    provenance = collect_provenance()
    diff = (provenance["git"] or {}).get("diff", "")
    (run_path / "provenance.json").write_text(json.dumps(provenance, indent=2, default=str) + "\n")
    for name in ("config.yaml", "provenance.json"):
        journal.artifact(name)
    if diff:
        (run_path / "git.diff").write_text(str(diff))
        journal.artifact("git.diff")
    journal.params(run_params(run, data, module))
    tags = {"fingerprint": fingerprint(run), "bakeoff.folder": str(run_path.resolve())}
    tags |= {"data.digest": data.digest, "data.split_digest": data.split_digest}
    if run.test and context.manifest.kind == "single":
        tags["exploratory"] = "true"
    journal.tags(tags | module.initializer_tags | provenance_tags(provenance))
    profile = {"train": data.n_train, "val": data.n_val, "test": data.n_test, "size": run.data.size, "classes": list(data.classes)}
    name, source = run.choices.get("data", "data"), run.data.source["_target_"]
    journal.dataset(name, digest=data.digest[:36], source=source, context="training", profile=profile)


def run_params(run: RunConfig, data: ImageDataModule, module: ClassificationModule) -> dict[str, object]:
    """Return the parameters of a run: its config, flat, and the numbers that follow from it."""
    numerics = {"world_size": run.trainer.devices, "data_workers": data.workers, "cpu_threads": torch.get_num_threads()}
    counts = {
        "parameters": sum(p.numel() for p in module.net.parameters()),
        "total_steps": module.total_steps,
        "steps_per_epoch": module.steps_per_epoch,
    }
    stream_seeds = {f"seed.{name}": seeds.derive_seed(run.seed, name) for name in seeds.STREAMS}
    return {**run.params(), **numerics, **counts, **stream_seeds, "accelerator": resolve_accelerator(run)}


def log_result(context: RunContext, result: RunResult) -> None:
    """Log the end of a run, and write result.json, which decides that it is done."""
    run, journal, manifest = context.run, context.journal, context.manifest
    log_outcome(journal, asdict(result))
    if manifest.export_model and result.status == "finished":
        packages = [f"{name}=={version(name)}" for name in ("torch", "torchvision", "bakeoff")]
        shape = (run.data.channels, run.data.size, run.data.size)
        try:
            write_trained_model(context.run_dir)
        except Exception as error:  # a net that cannot be traced has come to its result; who exports it says why it cannot be
            if fault_of(error) is not None:
                raise
        journal.model(input_shape=shape, classes=run.data.num_classes, requirements=packages)
    if manifest.kind == "single":
        journal.artifact("checkpoints/last.ckpt", artifact_path="checkpoints")
    # The result decides: every line but the journal's end, which others write where this process cannot, is on the disk before it.
    journal.sync()
    context.run_dir.write_result(result.to_json_dict())
    journal.end("FINISHED", reason=result.reason)


def log_failure(context: RunContext, error: Exception) -> None:
    """Log the end of a run that failed, and write result.json; of several ranks the first one to fail has its say."""
    if not context.is_rank_zero and context.run_dir.read_result() is not None:
        return
    reason = describe(error)
    (context.run_dir.path / "traceback.txt").write_text(redact_text(traceback.format_exc()))
    context.journal.artifact("traceback.txt")
    context.journal.end("FAILED", reason=reason)
    id, name = context.manifest.id, context.manifest.name
    result = RunResult(id, name, "failed", " ".join(reason.split()), fingerprint=fingerprint(context.run))
    context.run_dir.write_result(result.to_json_dict())
