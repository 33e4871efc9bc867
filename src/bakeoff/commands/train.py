"""`bakeoff train [key=value ...]`: one run, a grid of runs with -m, or a stopped run that goes on with resume=RUN_ID.

Every job is composed and checked before anything is made or started.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import json
import shlex
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bakeoff.commands.arguments import CommandParser
from bakeoff.config import compose
from bakeoff.config.targets import trust_modules, trust_word
from bakeoff.errors import BakeoffError, ConfigError, echo, interrupt_on_signal, printable, redact

if TYPE_CHECKING:
    from bakeoff.config.compose import ComposedConfig
    from bakeoff.config.schema import RunConfig
    from bakeoff.training.run_lifecycle import TrainedRun

RESUME_KEYS = ("tracking.", "trust=", "resume=", "trainer.progress=", "hydra.")
"""Overrides that a resumed run takes from this command line; everything else is the run's own."""
HELP_FLAGS = ("help", "hydra_help", "shell_completion", "version")
SHOW_FLAGS = ("cfg", "info")
INFO = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
HELP = """usage: bakeoff train [-m] [flags] [key=value ...]

Trains a net and logs the run to MLflow. A key left out keeps its default.

choices   model activation initializer optimizer scheduler loss data
          experiment trainer tracking; `bakeoff list` names all of them, and
          `bakeoff list optimizer adam` the arguments of one
common    optimizer.lr optimizer.weight_decay scheduler.warmup model.dropout
          data.batch_size data.subset data.augment.flip trainer.max_epochs
          trainer.max_steps trainer.clip trainer.accelerator trainer.precision
          seed test name diagnostics tracking.experiment tracking.uri
          resume=RUN_ID goes on with a stopped run

flags     -m, --multirun    a grid: every combination of values such as 1,2,3
          --cfg job         print the config with all keys, and train nothing
          --json            the result as one JSON object
          --config-dir DIR  a folder of your own configs, searched before conf/
          --hydra-help      Hydra's further flags

examples  bakeoff train
          bakeoff train model=vgg11 optimizer=adam optimizer.lr=1e-3
          bakeoff train data=cifar10 data.download=true trainer.max_epochs=20
          bakeoff train -m optimizer=sgd,adam 'seed=range(1,4)'
          bakeoff train trainer.max_steps=1 test=true   # does it run at all?
          bakeoff train resume=RUN_ID"""


def main(argv: list[str]) -> int:
    """Compose, check, train, and print each run's result."""
    args = parse_flags(argv)
    signal.signal(signal.SIGTERM, interrupt_on_signal)
    hydra_words = [word for word in argv if word != "--json" and word not in args.overrides] + args.overrides
    if any(getattr(args, flag) for flag in HELP_FLAGS):
        return show_help(args, hydra_words)
    with compose.hydra_session(args.config_dir):
        lines = compose.split_multirun(args.overrides) if args.multirun else [args.overrides]
        jobs = [compose.compose_in_session(line) for line in lines]
        if not any(getattr(args, flag) for flag in SHOW_FLAGS):
            trust_modules(itertools.chain.from_iterable(job.trust for job in jobs))
            if args.multirun and not any(job.resume for job in jobs):
                validate_jobs(jobs)
                compose.record_multirun(args.overrides)
    if any(getattr(args, flag) for flag in SHOW_FLAGS):
        return compose.show_by_hydra(hydra_words, config_dir=args.config_dir)
    resumed = any(job.resume is not None for job in jobs)
    if resumed and len(jobs) > 1:
        raise ConfigError("resume: continues a single run; leave -m out")
    if resumed:
        outcomes = [resume(jobs[0], args.overrides)]
    elif args.multirun:
        outcomes = train_grid(name_jobs([job.run for job in jobs], lines), to_stderr=args.json)
    else:
        outcomes = [train_single(jobs[0].run)]
    if args.json:
        trees = [to_json(outcome) for outcome in outcomes]
        print(json.dumps(trees if args.multirun and not resumed else trees[0]))
    elif resumed or not args.multirun:
        print_outcome(outcomes[0])
    return exit_code(outcomes)


def exit_code(outcomes: Sequence[TrainedRun]) -> int:
    """Return 1 where a run failed, else 3 where the store lags, else 0: a diverged run came to its end, too."""
    from bakeoff.training.writer import EXIT_LAGGING

    if any(outcome.result.status in ("failed", "stopped") for outcome in outcomes):
        return 1
    return EXIT_LAGGING if any(outcome.lagging for outcome in outcomes) else 0


def show_help(args: argparse.Namespace, words: Sequence[str]) -> int:
    """Print the page of this command, or let Hydra print its own, which it makes from a composed config."""
    if args.help:
        echo(HELP)
        return 0
    if args.hydra_help:
        with compose.hydra_session(args.config_dir):
            compose.check_hydra_nodes(args.overrides)
    return compose.show_by_hydra(words, config_dir=args.config_dir)


def parse_flags(argv: list[str]) -> argparse.Namespace:
    """Read Hydra's flags, which its own parser has in private, and --json."""
    parser = CommandParser(prog="bakeoff train", add_help=False)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--multirun", "-m", action="store_true")
    parser.add_argument("--run", "-r", action="store_true")
    parser.add_argument("--config-dir", "-cd", type=Path)
    parser.add_argument("--help", "-h", action="store_true")
    parser.add_argument("--hydra-help", action="store_true")
    parser.add_argument("--version", action="store_true")
    parser.add_argument("--shell-completion", "-sc", action="store_true")
    parser.add_argument("--cfg", "-c", choices=("job", "hydra", "all"))
    parser.add_argument("--resolve", action="store_true")
    parser.add_argument("--package", "-p")
    parser.add_argument("--info", "-i", nargs="?", const="all", choices=INFO)
    parser.add_argument("overrides", nargs="*")
    for flag, short in (("--config-name", "-cn"), ("--config-path", "-cp")):
        parser.add_argument(flag, short, nargs="?", const="", dest="own_config")
    args = parser.parse_intermixed_args(argv)
    if args.own_config is not None:
        raise ConfigError("--config-name and --config-path: not supported; --config-dir names a folder of your own, searched before conf/")
    modes = [flag for flag in ("run", "multirun", "cfg", "info", "shell_completion") if getattr(args, flag)]
    if len(modes) > 1:
        raise ConfigError(f"{' and '.join('--' + mode.replace('_', '-') for mode in modes)}: only one of them goes on a line")
    return args


def train_single(run: RunConfig) -> TrainedRun:
    """Train one run in this process."""
    from bakeoff.tracking.client import check_usable, usable_uri

    check_usable(usable_uri(run.tracking.uri))  # before torch is imported, which takes seconds
    from bakeoff.training.run_lifecycle import train_run

    return train_run(run, progress=run.trainer.progress)


def validate_jobs(jobs: Sequence[ComposedConfig]) -> None:
    """Validate every job of a grid before the first one starts."""
    from bakeoff.tracking.client import check_usable, usable_uri

    for uri in {job.run.tracking.uri for job in jobs}:
        check_usable(usable_uri(uri))
    from bakeoff import builders

    for job in jobs:
        builders.validate_run(job.run)


def name_jobs(runs: Sequence[RunConfig], lines: Sequence[Sequence[str]]) -> list[RunConfig]:
    """Return the runs of a grid, those without a name named by the words of their lines that differ between the lines."""
    varying = [
        " ".join(redact(word).replace("/", "_") for word, *others in zip(line, *lines, strict=True) if len(set(others)) > 1)
        for line in lines
    ]
    pairs = zip(runs, varying, strict=True)
    return [run if run.name is not None or not words else run.replace(name=printable(words)[:200]) for run, words in pairs]


def train_grid(runs: Sequence[RunConfig], *, to_stderr: bool) -> list[TrainedRun]:
    """Train validated runs one after the other, each in a process tree of its own; one that fails does not stop the others.

    A line is printed for each as it ends.
    """
    from bakeoff import builders
    from bakeoff.tracking.client import pass_on_uri
    from bakeoff.training import processes
    from bakeoff.training.run_lifecycle import tracking_uri_of, train_in_subprocess
    from bakeoff.training.writer import Writer

    for run in runs:
        pass_on_uri(tracking_uri_of(run))
    context = processes.forkserver_context(threads=min(map(builders.threads_per_process, runs)))
    outcomes: list[TrainedRun] = []
    writers: list[Writer] = []
    with contextlib.ExitStack() as stack:
        for folder, uri in dict.fromkeys((run.tracking.folder, tracking_uri_of(run)) for run in runs):
            writers.append(stack.enter_context(Writer(Path(folder), uri=uri)))
        for run in runs:
            outcomes.append(train_in_subprocess(run, context=context))
            echo(f"[{len(outcomes)}/{len(runs)}] {summary_line(outcomes[-1])}", err=to_stderr)
        lagging = any([writer.close() for writer in writers])
    return [dataclasses.replace(outcome, lagging=lagging) for outcome in outcomes]


def resume(job: ComposedConfig, overrides: Sequence[str]) -> TrainedRun:
    """Go on with a run where it stopped, with its own config."""
    from bakeoff.run_files.run_dir import find_run_dir
    from bakeoff.tracking.store import resolve_run
    from bakeoff.training.run_lifecycle import resume_run, tracking_uri_of

    foreign = [word for word in overrides if not word.startswith(RESUME_KEYS)]
    if foreign:
        raise ConfigError(f"resume={job.resume}: the run continues its own config; {foreign[0]} cannot change it")
    assert job.resume is not None
    root = Path(job.run.tracking.folder)
    try:
        folder = find_run_dir(root, job.resume)
    except BakeoffError as unknown:
        try:
            stored = resolve_run(tracking_uri_of(job.run), job.resume)
        except BakeoffError:
            raise unknown from None
        folder = find_run_dir(root, stored.data.tags["bakeoff.id"])
    named, uri = folder.read_job().tracking_uri, tracking_uri_of(job.run)
    if named not in ("", redact(uri)):
        echo(f"bakeoff: the run was tracked in {named}, and continues in tracking.uri={redact(uri)}", err=True)
    return resume_run(folder, uri=uri, progress=job.run.trainer.progress)


def to_json(outcome: TrainedRun) -> dict[str, Any]:
    """Return a result in plain types."""
    return {**outcome.result.to_json_dict(), "folder": str(outcome.run_dir), "tracking_uri": outcome.tracking_uri}


def summary_line(outcome: TrainedRun) -> str:
    """Return one line about a run."""
    result = outcome.result
    figures = [f"{name} {result.metrics[name]:.4f}" for name in ("val/accuracy", "val/loss", "test/accuracy") if name in result.metrics]
    return printable("  ".join([result.id, f"{result.status:<8}", result.name, *figures, *([result.reason] if result.reason else [])]))


def print_outcome(outcome: TrainedRun) -> None:
    """Print a run's result."""
    from bakeoff.tracking.client import default_uri

    result = outcome.result
    echo(f"{result.name}: {result.status}{' (' + result.reason + ')' if result.reason else ''}")
    for name, value in result.metrics.items():
        if name.startswith(("val/", "test/", "train/epoch")):
            echo(f"  {name:<21} {value:.4f}")
    echo(f"  {'steps, seconds':<21} {result.steps}, {result.seconds:.1f}")
    echo(f"  {'run':<21} {result.id}")
    echo(f"  {'folder':<21} {outcome.run_dir}")
    where = f" {shlex.quote(f'tracking.uri={outcome.tracking_uri}')}" if outcome.tracking_uri != default_uri(Path.cwd()) else ""
    echo(f"  {'again':<21} bakeoff reproduce {result.id}{where}{trust_word()}")
