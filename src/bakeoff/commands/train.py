"""`bakeoff train [key=value ...]`: one run, a grid of runs with -m, or a run taken up again with resume=RUN_ID.

All of Hydra's flags work (--cfg job, --info, --config-dir, ...). Every job is composed and checked before anything is made or started.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bakeoff import builders
from bakeoff.config import compose
from bakeoff.config.slots import SLOTS, package_data_dir
from bakeoff.errors import BakeoffError, ConfigError

if TYPE_CHECKING:
    from bakeoff.config.compose import ComposedConfig
    from bakeoff.training.run_lifecycle import TrainedRun

OWN = ("tracking.", "trust=", "resume=", "trainer.progress=", "hydra.")
"""Overrides that a resumed run takes from this command line; all the rest is the run's own."""


def main(argv: list[str]) -> int:
    """Compose, check, train, and print each run's result."""
    from hydra._internal.utils import get_args_parser

    as_json = "--json" in argv
    words = [word for word in argv if word != "--json"]
    args = get_args_parser().parse_args(words)
    folder = None if args.config_dir is None else Path(args.config_dir)
    shows = args.help or args.hydra_help or args.shell_completion or args.cfg or args.info or args.experimental_rerun
    jobs: list[ComposedConfig] = []
    if not (args.help or args.hydra_help or args.shell_completion):
        with compose.hydra_session(folder):
            jobs = [compose.compose_in_session(job) for job in (expand(args.overrides) if args.multirun else [args.overrides])]
    if shows:
        return hydra(words, folder, lambda config: None)
    trust(job.trust for job in jobs)
    resumed = [job for job in jobs if job.resume is not None]
    if resumed:
        if len(jobs) > 1:
            raise ConfigError("resume: takes up one run; leave -m out")
        return resume(jobs[0], args.overrides, as_json=as_json)
    return grid(jobs, words, folder, as_json=as_json) if args.multirun else single(words, folder, as_json=as_json)


def expand(overrides: Sequence[str]) -> list[list[str]]:
    """The jobs of a -m line, as Hydra's own sweeper makes them."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    state = GlobalHydra.instance().hydra
    assert state is not None
    try:
        parsed = OverridesParser.create(config_loader=state.config_loader).parse_overrides(list(overrides))
        return [job for batch in BasicSweeper.split_arguments(parsed, None) for job in batch]
    except HydraException as error:
        raise compose.explain_hydra_error(error, overrides) from None


def hydra(words: Sequence[str], folder: Path | None, task: Any) -> int:
    """Hand the line over to Hydra: the one `@hydra.main`."""
    import hydra as library

    compose.register_search_path()
    # The user's folder goes in front, where Hydra's own flag would put it behind conf/.
    flags = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    flags.add_argument("--config-dir", "-cd")
    top = package_data_dir("conf") if folder is None else folder.resolve()
    sys.argv = ["bakeoff", *flags.parse_known_args(list(words))[1]]

    @library.main(config_path=str(top), config_name="run", version_base="1.3")
    def job(config: Any) -> Any:
        return task(config)

    job()
    return 0


def trust(homes: Any) -> None:
    """Hand the homes named on the command line on to this process, its children and the writer."""
    from bakeoff.config.targets import TRUST_VARIABLE, trusted_modules

    named = [*trusted_modules(), *(home for each in homes for home in each)]
    if named:
        os.environ[TRUST_VARIABLE] = ",".join(dict.fromkeys(named))


def composed(config: Any) -> ComposedConfig:
    """What Hydra hands to a job, as this project's own composition."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    tree = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert isinstance(tree, dict)
    chosen = {group: str(name) for group, name in HydraConfig.get().runtime.choices.items() if group in SLOTS}
    return compose.from_config_tree({str(key): value for key, value in tree.items()}, choices=chosen)


def single(words: Sequence[str], folder: Path | None, *, as_json: bool) -> int:
    """One run in this process."""
    from bakeoff.training.run_lifecycle import train_run

    outcomes: list[TrainedRun] = []
    errors: list[BaseException] = []

    def job(config: Any) -> None:
        try:
            run = composed(config).run
            outcomes.append(train_run(run, progress=run.trainer.progress))
        except BaseException as error:  # Hydra would print it in its own way and exit with 1
            errors.append(error)

    hydra(words, folder, job)
    for error in errors:
        raise error
    tell(outcomes[0], as_json=as_json)
    return exit_code(outcomes)


def grid(jobs: Sequence[ComposedConfig], words: Sequence[str], folder: Path | None, *, as_json: bool) -> int:
    """Every job of a -m line in a process tree of its own; one that fails does not stop the others."""
    from bakeoff.tracking.writer import Writer
    from bakeoff.training import processes
    from bakeoff.training import run_lifecycle as one

    threads = min(each.run.trainer.threads or max(1, builders.available_cores() // each.run.trainer.devices) for each in jobs)
    context = processes.forkserver_context(threads=threads)
    for each in jobs:
        one.validate_run(each.run)
    outcomes: list[TrainedRun] = []
    stopped: list[BaseException] = []

    def job(config: Any) -> None:
        if stopped:
            return
        try:
            outcomes.append(one.train_in_subprocess(composed(config).run, context=context))
        except BaseException as error:  # Hydra would print it in its own way and exit with 1
            stopped.append(error)
            return
        print(f"[{len(outcomes)}/{len(jobs)}] {sentence(outcomes[-1])}", file=sys.stderr, flush=True)

    with Writer(Path(jobs[0].run.tracking.folder), context=context):
        hydra(words, folder, job)
    for error in stopped:
        raise error
    if as_json:
        print(json.dumps([plain(outcome) for outcome in outcomes]))
    else:
        for outcome in outcomes:
            print(sentence(outcome))
    return exit_code(outcomes)


def resume(job: ComposedConfig, overrides: Sequence[str], *, as_json: bool) -> int:
    """Take a run up where it stopped, with its own config."""
    from bakeoff.runs.run_dir import find_run_dir
    from bakeoff.tracking.store import resolve_run
    from bakeoff.training import run_lifecycle as one

    foreign = [word for word in overrides if not word.startswith(OWN)]
    if foreign:
        raise ConfigError(f"resume={job.resume}: the run goes on with its own config; {foreign[0]} cannot change it")
    assert job.resume is not None
    root = Path(job.run.tracking.folder)
    try:
        folder = find_run_dir(root, job.resume)
    except BakeoffError as unknown:
        try:
            stored = resolve_run(one.tracking_uri_of(job.run), job.resume)
        except BakeoffError:
            raise unknown from None
        folder = find_run_dir(root, stored.data.tags["bakeoff.id"])
    outcome = one.resume_run(folder, progress=job.run.trainer.progress)
    tell(outcome, as_json=as_json)
    return exit_code([outcome])


def exit_code(outcomes: Sequence[TrainedRun]) -> int:
    """0 where every run came to its end, a diverged one included."""
    return 1 if any(outcome.result.status == "failed" for outcome in outcomes) else 0


def plain(outcome: TrainedRun) -> dict[str, Any]:
    """A result for JSON."""
    return {**outcome.result.plain(), "folder": str(outcome.folder), "tracking_uri": outcome.uri}


def sentence(outcome: TrainedRun) -> str:
    """One line about a run."""
    result = outcome.result
    figures = [f"{name} {result.metrics[name]:.4f}" for name in ("val/accuracy", "val/loss", "test/accuracy") if name in result.metrics]
    return "  ".join([result.id, f"{result.status:<8}", result.name, *figures, *([result.reason] if result.reason else [])])


def tell(outcome: TrainedRun, *, as_json: bool) -> None:
    """A run's result on standard output."""
    if as_json:
        print(json.dumps(plain(outcome)))
        return
    result = outcome.result
    print(f"{result.name}: {result.status}{' (' + result.reason + ')' if result.reason else ''}")
    for name, value in result.metrics.items():
        if name.startswith(("val/", "test/", "train/epoch")):
            print(f"  {name:<21} {value:.4f}")
    print(f"  {'steps, seconds':<21} {result.steps}, {result.seconds:.1f}")
    print(f"  {'run':<21} {result.id}")
    print(f"  {'folder':<21} {outcome.folder}")
    print(f"  {'again':<21} bakeoff reproduce {result.id}")
