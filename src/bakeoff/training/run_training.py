"""The conductor of one run: from a run folder to its result, in this process (or this rank)."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import time
import traceback
import warnings
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import DDPStrategy, SingleDeviceStrategy

from bakeoff import builders, seeds
from bakeoff.config.compose import load_frozen
from bakeoff.config.schema import RunConfig, fingerprint
from bakeoff.data.datamodule import ImageDataModule
from bakeoff.diagnostics.callback import DiagnosticsCallback, RunStart
from bakeoff.errors import BakeoffError
from bakeoff.runs.journal import Journal, NullJournal
from bakeoff.runs.provenance import collect_provenance, provenance_tags
from bakeoff.runs.run_dir import RunDir, RunManifest
from bakeoff.runs.system_metrics import SystemMetricsSampler
from bakeoff.training import checkpoints
from bakeoff.training.callbacks.progress_bar import TrainingProgressBar
from bakeoff.training.lightning_module import ClassificationModule


@dataclass
class RunResult:
    """How a run ended: what result.json holds. Metrics are the last ones; non-finite numbers are kept as strings in the file."""

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

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        tree = asdict(self)
        for group in ("metrics", "best"):
            tree[group] = {name: value if math.isfinite(value) else str(value) for name, value in tree[group].items()}
        return tree

    @classmethod
    def of(cls, tree: dict[str, Any]) -> RunResult:
        """From `plain`."""
        known = {name: tree[name] for name in cls.__dataclass_fields__ if name in tree}
        for group in ("metrics", "best"):
            known[group] = {name: float(value) for name, value in known.get(group, {}).items()}
        return cls(**known)


def train_from_dir(path: Path, *, progress: bool = False) -> RunResult:
    """Train the run of a run folder, from its newest checkpoint where there is one, and write result.json.

    A run that is done already is not trained again. A failure of the run's own is its result (`failed`, with the reason), and is raised
    on after that; a kill or Ctrl-C leaves no result, so that the run can be taken up again. `BusyError` where another process trains it.
    """
    folder = RunDir(path)
    before = folder.read_result()
    if before is not None:
        return RunResult.of(before)
    job = folder.read_job()
    run = load_frozen(folder.config.read_text(), origin=str(folder.config))
    chief = int(os.environ.get("RANK", "0")) == 0
    with folder.locked() if chief else contextlib.nullcontext():
        journal = Journal(folder.journal) if chief else NullJournal()
        journal.start(job)
        try:
            return run_training(run, job, folder, journal, chief=chief, progress=progress)
        except Exception as error:
            reason = str(error) if isinstance(error, BakeoffError) else f"{type(error).__name__}: {error}"
            if chief:
                (folder.path / "traceback.txt").write_text(traceback.format_exc())
                journal.artifact("traceback.txt")
                journal.end("FAILED", reason=reason)
                folder.write_result(RunResult(job.id, job.name, "failed", " ".join(reason.split()), fingerprint=fingerprint(run)).plain())
            raise
        except BaseException as error:
            journal.end("KILLED", reason=f"stopped by {type(error).__name__}")
            raise
        finally:
            journal.close()


def run_training(run: RunConfig, job: RunManifest, folder: RunDir, journal: Journal, *, chief: bool, progress: bool) -> RunResult:
    """Between the journal's start and its end."""
    silence_lightning()
    set_determinism(run)
    state = checkpoints.read_latest_checkpoint(folder.checkpoints)
    trainer = make_trainer(run)
    data = builders.make_data(run)
    data.trainer = trainer
    data.setup("fit")
    total = data.total_steps(run.trainer.max_epochs)
    keep = Checkpointer(folder.checkpoints, every=run.trainer.checkpoint_every, chief=chief)
    watch: DiagnosticsCallback | None = None

    def report(values: dict[str, float], step: int) -> None:
        journal.metrics(values, step=step)
        if watch is not None:
            watch.record_metrics(values, step)

    task = ClassificationModule(run, total_steps=total, steps_per_epoch=data.steps_per_epoch, report=report, keep=keep, state=state)
    if chief:
        log_run_metadata(run, job, folder, journal, data, task)
    if progress and chief:
        trainer.callbacks.append(TrainingProgressBar(title=job.name, total_steps=total))  # type: ignore[attr-defined]
    trainer.fit_loop.max_epochs = data.epochs(run.trainer.max_epochs)
    if state is not None:
        set_start_epoch(trainer, epoch=state["epoch"])
        data.load_state_dict({"epoch": state["epoch"], "skip": state["skip"]})
    if chief and run.diagnostics != "none":
        start = RunStart(title=job.name, total_steps=total, chance_loss=task.guessing, step=task.step)
        watch = DiagnosticsCallback(run, journal, run_dir=folder.path, loader=data.train_dataloader(), start=start)
        trainer.callbacks.append(watch)  # type: ignore[attr-defined]
    began = time.perf_counter()
    with SystemMetricsSampler(journal, every=run.tracking.system_every) if chief else contextlib.nullcontext():
        if state is None or not state["diverged"]:
            trainer.fit(task, datamodule=data)
        if trainer.received_sigterm or (task.step < total and task.diverged is None):
            raise KeyboardInterrupt
        seconds = time.perf_counter() - began
        if watch is not None:
            watch.write_page(task.net, task.weights(), task.loss, data)
        if run.test:
            trainer.test(task, datamodule=data, verbose=False)
            # Beside the final net the one that validation liked best: both are scored on the same single look at the test set.
            best = checkpoints.read_checkpoint(folder.checkpoints / "best.ckpt") if chief else None
            task.judged = trainer.strategy.broadcast(best["net"] if best is not None else None)
            if task.judged is not None:
                trainer.test(task, datamodule=data, verbose=False)
    result = RunResult(
        id=job.id,
        name=job.name,
        status="diverged" if task.diverged else "finished",
        reason=task.diverged or "",
        metrics={name: value for name, value in task.latest.items() if name != "lr"},
        best=task.best,
        steps=task.step,
        epochs=math.ceil(task.step / data.steps_per_epoch),
        seconds=seconds,
        images_per_second=task.speed,
        fingerprint=fingerprint(run),
    )
    if chief:
        log_run_end(run, job, folder, journal, result)
    return result


def log_run_end(run: RunConfig, job: RunManifest, folder: RunDir, journal: Journal, result: RunResult) -> None:
    """The end of a run in the journal, then result.json, which decides."""
    journal.tags({"diverged": str(result.status == "diverged").lower(), **({"reason": result.reason} if result.reason else {})})
    # One number a run: MLflow's chart page draws a metric that knows no step but 0 as bars, and names without a group come last.
    best = {f"best_{name.replace('/', '_')}": value for name, value in result.best.items()}
    journal.metrics({**best, "seconds": result.seconds}, step=0)
    if job.export_model and result.status == "finished":
        packages = [f"{name}=={version(name)}" for name in ("torch", "torchvision", "bakeoff")]
        shape = (run.data.channels, run.data.size, run.data.size)
        journal.model(
            "bakeoff.training.checkpoints:load_trained_model", input_shape=shape, classes=run.data.num_classes, requirements=packages
        )
    if job.kind == "single":
        journal.artifact("checkpoints/last.ckpt", artifact_path="checkpoints")
    folder.write_result(result.plain())
    journal.end("FINISHED", reason=result.reason)


def log_run_metadata(
    run: RunConfig, job: RunManifest, folder: RunDir, journal: Journal, data: ImageDataModule, task: ClassificationModule
) -> None:
    """Everything about the run that is known before its first step."""
    facts = collect_provenance()
    diff = (facts["git"] or {}).get("diff", "")
    (folder.path / "provenance.json").write_text(json.dumps(facts, indent=2, default=str) + "\n")
    for name in ("config.yaml", "provenance.json"):
        journal.artifact(name)
    if diff:
        (folder.path / "git.diff").write_text(str(diff))
        journal.artifact("git.diff")
    flat = {name: value for name, value in run.flat().items() if not name.startswith(("choices.", "tracking."))}
    numerics = {"world_size": run.trainer.devices, "data_workers": data.workers, "cpu_threads": torch.get_num_threads()}
    counts = {
        "parameters": sum(p.numel() for p in task.net.parameters()),
        "total_steps": task.total_steps,
        "steps_per_epoch": task.steps_per_epoch,
    }
    streams = {f"seed.{name}": seeds.derive_seed(run.seed, name) for name in seeds.STREAMS}
    journal.params({**run.choices, **flat, **numerics, **counts, **streams, "accelerator": resolve_accelerator(run)})
    tags = {"fingerprint": fingerprint(run), "bakeoff.folder": str(folder.path.resolve())}
    tags |= {"data.digest": data.digest, "data.split_digest": data.split_digest}
    if run.test and job.kind == "single":
        tags["exploratory"] = "true"
    journal.tags(tags | task.facts | provenance_tags(facts))
    profile = {"train": data.n_train, "val": data.n_val, "test": data.n_test, "size": run.data.size, "classes": list(data.classes)}
    name, source = run.choices.get("data", "data"), run.data.source["_target_"]
    journal.dataset(name, digest=data.digest[:36], source=source, context="training", profile=profile)


def make_trainer(run: RunConfig) -> pl.Trainer:
    """Lightning's Trainer as conf/trainer says; what Lightning would log, save or draw is this project's own."""
    settings, gpu = run.trainer, resolve_accelerator(run) == "gpu"
    parallel = settings.devices > 1 or settings.strategy == "ddp"
    strategy: pl.strategies.Strategy
    if parallel:
        strategy = DDPStrategy(process_group_backend="nccl" if gpu else "gloo", broadcast_buffers=True, gradient_as_bucket_view=True)
    else:
        strategy = SingleDeviceStrategy(device=torch.device("cuda:0" if gpu else "cpu"))
    return pl.Trainer(
        accelerator="gpu" if gpu else "cpu",
        devices=settings.devices,
        strategy=strategy,
        precision=settings.precision,
        max_epochs=settings.max_epochs,
        accumulate_grad_batches=settings.accumulate,
        gradient_clip_val=settings.clip,
        deterministic=settings.deterministic,
        sync_batchnorm=parallel and gpu,
        reload_dataloaders_every_n_epochs=1,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def resolve_accelerator(run: RunConfig) -> str:
    """`cpu` or `gpu`, with `auto` decided by what this machine has."""
    if run.trainer.accelerator != "auto":
        return run.trainer.accelerator
    return "gpu" if torch.cuda.is_available() else "cpu"


def set_determinism(run: RunConfig) -> None:
    """What bits depend on and the recipe does not: the number of threads, and algorithms that repeat."""
    if run.trainer.threads is not None:
        torch.set_num_threads(run.trainer.threads)
    if run.trainer.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def silence_lightning() -> None:
    """Lightning's hints about defaults that this project sets on purpose."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    logging.getLogger("lightning.fabric").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"pytorch_lightning.*|lightning_fabric.*")


def set_start_epoch(trainer: pl.Trainer, *, epoch: int) -> None:
    """Let a fresh Trainer begin at `epoch`: its own restart logic replays batches, so none of its state is saved."""
    current = trainer.fit_loop.epoch_progress.current
    for name in ("ready", "started", "processed", "completed"):
        setattr(current, name, epoch)


class Checkpointer:
    """Writes checkpoints: after every epoch's validation, every so many steps, and the net alone where validation is best so far."""

    def __init__(self, folder: Path, *, every: int | None, chief: bool) -> None:
        self.folder, self.every, self.chief = folder, every, chief

    def step(self, task: ClassificationModule) -> None:
        """In the middle of an epoch. Collective; rank 0 writes."""
        done = task.step - task.current_epoch * task.steps_per_epoch
        # Not behind the last step: what is left then is its validation, which a resumed fit would leave out.
        inside = 0 < done < task.steps_per_epoch and task.step < task.total_steps
        if self.every is not None and task.step % self.every == 0 and inside:
            self.save(task, epoch=task.current_epoch, skip=done * task.run.trainer.accumulate)

    def epoch(self, task: ClassificationModule) -> None:
        """After validation. Collective; rank 0 writes."""
        self.save(task, epoch=task.current_epoch + 1, skip=0)
        if self.chief and task.best.get("step") == task.step:
            checkpoints.save_checkpoint(self.folder, {"net": task.weights(), "metrics": task.best}, name="best")

    def save(self, task: ClassificationModule, *, epoch: int, skip: int) -> None:
        """The whole state, at micro-batch `skip` of `epoch`."""
        state = task.checkpoint(epoch=epoch, skip=skip)
        if self.chief:
            checkpoints.save_checkpoint(self.folder, state)
