"""A sheet -> a `Plan`: every arm in every block composed, its spaces and points resolved, and the hash over all that matters."""

from __future__ import annotations

import hashlib
import itertools
import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bakeoff.config import compose
from bakeoff.config.compose import ComposedConfig
from bakeoff.config.renamed_targets import recorded_targets
from bakeoff.config.schema import SCIENCE, RunConfig
from bakeoff.config.search_space import SearchSpace
from bakeoff.config.slots import GROUPS, package_data_dir
from bakeoff.errors import ConfigError, PlanError, join_choices, near_miss
from bakeoff.sweep import fairness
from bakeoff.sweep.candidates import Point, ends, points
from bakeoff.sweep.fairness import FairnessFinding
from bakeoff.sweep.overrides import parsed, text
from bakeoff.sweep.settings import Tuning
from bakeoff.sweep.spec import SweepSpec, read_spec

VERSION = 2
WHOLE = "all"
"""What a block is called in a sweep without blocks."""


@dataclass(frozen=True)
class PlannedArm:
    """One arm in one block: its run before tuning, the spaces that it is tuned in, and its points ({} where the sampler draws them).

    The points are those of all studies in turn. `parameters` and `steps` are known once the cell has been examined.
    """

    arm: str
    block: str
    choices: dict[str, Any]
    overrides: tuple[str, ...]
    run: RunConfig
    spaces: dict[str, SearchSpace]
    points: tuple[Point, ...]
    parameters: int | None = None
    steps: int | None = None

    @property
    def title(self) -> str:
        """A short name for runs and tables."""
        return self.arm if self.block == WHOLE else f"{self.arm}-{self.block}"


@dataclass(frozen=True)
class Plan:
    """A sweep, whole and checked: what its hash stands for, what plan.json holds, and what the workers run."""

    sheet: SweepSpec
    cells: tuple[PlannedArm, ...]
    trust: tuple[str, ...]
    hash: str
    differs: tuple[FairnessFinding, ...] = ()

    @property
    def name(self) -> str:
        """The sweep's name."""
        return self.sheet.name

    @property
    def title(self) -> str:
        """Its MLflow experiment, and its folder: the name and the hash."""
        return f"{self.name}-{self.hash[:8]}"

    @property
    def site(self) -> RunConfig:
        """A run whose site (folders, tracking, devices) is the sweep's."""
        return self.cells[0].run

    @property
    def trials(self) -> int:
        """Tuning runs in all."""
        return sum(len(cell.points) for cell in self.cells)

    @property
    def runs(self) -> int:
        """Runs in all up to the first look, the confirming ones included."""
        return self.trials + len(self.cells) * len(self.sheet.seeds)

    @property
    def lanes(self) -> tuple[tuple[int, int], ...]:
        """(cell, study) of everything that is tuned on its own."""
        return tuple((cell, study) for cell in range(len(self.cells)) for study in range(self.sheet.budget.studies))

    def slice_of(self, lane: int) -> tuple[Point, ...]:
        """The points of one study of one cell."""
        cell, study = self.lanes[lane]
        each = len(self.cells[cell].points) // self.sheet.budget.studies
        return self.cells[cell].points[study * each : (study + 1) * each]

    def seeds_of(self, lane: int, count: int) -> tuple[int, ...]:
        """The confirming seeds of one study, of the first `count`: dealt out in turn, so that every seed confirms one setting of an arm."""
        return self.sheet.confirm.pool[:count][self.lanes[lane][1] :: self.sheet.budget.studies]

    def examined(self, facts: Sequence[tuple[int, int]]) -> Plan:
        """The plan with each cell's (parameters, steps), and what arms differ in by them. `FairnessError`."""
        cells = tuple(replace(cell, parameters=size, steps=steps) for cell, (size, steps) in zip(self.cells, facts, strict=True))
        found = fairness.sizes(self.sheet, cells, [size for size, _ in facts])
        kept = [finding for finding in self.differs if finding.rule != "parameters"]
        return replace(self, cells=cells, differs=(*kept, *fairness.raise_unallowed(self.sheet, found)))

    @property
    def command(self) -> str:
        """The line that runs it, and resumes it."""
        name = self.name if is_named(self.sheet.origin) else str(self.sheet.origin)
        return shlex.join(["bakeoff", "sweep", name, *self.sheet.words])

    def tree(self) -> dict[str, Any]:
        """plan.json: everything resolved, in plain types."""
        sheet = self.sheet
        return {
            "version": VERSION,
            "name": self.name,
            "hash": self.hash,
            "question": sheet.question,
            "metric": {"name": sheet.metric, "goal": sheet.goal},
            "margin": sheet.margin,
            "factors": {key: list(found) for key, found in sheet.factors.items()},
            "blocks": {key: list(found) for key, found in sheet.blocks.items()},
            "tune": {key: [entry(tuning) for tuning in found] for key, found in sheet.tune.items()},
            "budget": {**asdict(sheet.budget), "trials": max(len(self.slice_of(lane)) for lane in range(len(self.lanes)))},
            "prune": None if sheet.prune is None else asdict(sheet.prune),
            "confirm": {
                "seeds": list(sheet.seeds),
                "max_seeds": len(sheet.confirm.pool),
                "looks": list(sheet.confirm.looks),
                "pool": list(sheet.confirm.pool),
            },
            "baseline": sheet.baseline,
            "allow": list(sheet.allow),
            "differs": [asdict(finding) for finding in self.differs],
            "fixed": {key: parsed(key, value) for key, value in sheet.fixed.items() if key != "trust" and not key.startswith("tracking")},
            "scale": sheet.scale,
            "overrides": list(sheet.words),
            "command": self.command,
            "cells": [{**resolved(cell), **described(cell)} for cell in self.cells],
        }


def is_named(path: Path) -> bool:
    """Whether a sweep's file is found by its name alone."""
    return path.parent == Path("sweeps") or path.parent == package_data_dir("sweeps")


def make_plan(
    name: str,
    *,
    words: Sequence[str] = (),
    config_dir: str | Path | None = None,
    early: Callable[[SweepSpec, ComposedConfig], None] | None = None,
) -> Plan:
    """The plan of a sweep: read, composed and checked as far as that goes without torch. `PlanError` or `ConfigError` in one line.

    `early` is called with the first cell's composition, for what can start while the others are composed.
    """
    sheet = read_spec(name, words=words, config_dir=config_dir)
    with compose.hydra_session(config_dir):
        made: list[PlannedArm] = []
        trust: tuple[str, ...] = ()
        for arm, block in itertools.product(assignments(sheet.factors), assignments(sheet.blocks)):
            cell, found = composed(sheet, arm, block)
            if not made and early is not None:
                early(sheet, found)
            made.append(cell)
            trust = found.trust
    for key, entries in sheet.tune.items():
        # Entries for arms that the line has narrowed away are not missed.
        if not any(key in cell.spaces for cell in made) and not all(tuning.where for tuning in entries):
            raise PlanError(untunable(sheet, key, made))
    labels = [(cell.arm, cell.block) for cell in made]
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice is not None:
        raise PlanError(f"{sheet.origin.name}: two arms are called {twice[0]}")
    arms = list(dict.fromkeys(cell.arm for cell in made))
    if sheet.baseline is not None and sheet.baseline not in arms:
        raise PlanError(f"baseline={sheet.baseline}: no arm is called so{near_miss(sheet.baseline, arms)}; arms: {join_choices(arms)}")
    differs = fairness.raise_unallowed(sheet, fairness.examined(sheet, made))
    return Plan(sheet=sheet, cells=tuple(made), trust=trust, hash=digest(sheet, made), differs=differs)


def composed(sheet: SweepSpec, arm: Mapping[str, Any], block: Mapping[str, Any]) -> tuple[PlannedArm, ComposedConfig]:
    """One cell, and its composition."""
    choices = {**block, **arm}
    overrides = tuple(f"{key}={value}" for key, value in {**sheet.fixed, **{key: text(value) for key, value in choices.items()}}.items())
    label = f"{name_of(arm)} in {name_of(block)}" if block else name_of(arm)
    try:
        found = compose.compose_in_session(overrides)
    except ConfigError as error:
        raise type(error)(f"{error} [arm {label}]") from None
    if found.run.test:
        raise PlanError("test=true: the test set is for the confirming stage, which scores it once")
    twice = set(range(found.run.seed, found.run.seed + sheet.budget.studies)) & set(sheet.confirm.pool)
    if twice:
        raise PlanError(f"seed={found.run.seed}: tuning would use the confirming seed {min(twice)}; those must be fresh")
    spaces = tuning_spaces(sheet, found, choices, label)
    for key, space in spaces.items():
        for end in ends(space):
            try:
                found.check(found.run.replace(**{key: end}))
            except ConfigError as error:
                raise PlanError(f"tune.{key}: an end of the space is not allowed: {error} [arm {label}]") from None
    cell = PlannedArm(
        arm=name_of(arm),
        block=name_of(block),
        choices=choices,
        overrides=overrides,
        run=found.run,
        spaces=spaces,
        points=points(spaces, budget=sheet.budget, seed=found.run.seed),
    )
    return cell, found


def tuning_spaces(sheet: SweepSpec, found: ComposedConfig, choices: Mapping[str, Any], label: str) -> dict[str, SearchSpace]:
    """key -> the space that one cell is tuned in: the first entry that is for it. Keys that its run does not have are left out."""
    held, spaces = found.run.flat(), {}
    for key, entries in sheet.tune.items():
        mine = next((tuning for tuning in entries if tuning.fits(choices)), None)
        if mine is None:
            continue
        space = found.spaces.get(key) if mine.space is None else mine.space if key in held else None
        if space is not None:
            spaces[key] = space
        elif mine.where:
            lack = "has no such key" if key not in held else "declares no space for it"
            raise PlanError(f"tune.{key}: is for an arm that {lack} [arm {label}]")
    if sheet.budget.sampler == "cmaes" and spaces and (len(spaces) < 2 or any(space.choices for space in spaces.values())):
        raise PlanError(
            f"budget.sampler=cmaes: needs two or more tuned keys, all of them numbers; {', '.join(spaces)} is tuned [arm {label}]"
        )
    return spaces


def untunable(sheet: SweepSpec, key: str, cells: Sequence[PlannedArm]) -> str:
    """Why a key cannot be tuned."""
    held = sorted({name for cell in cells for name in cell.run.flat() if not name.startswith("choices.")})
    if key in held:
        return f"tune.{key}=space: no arm declares a space for it; give one, as {{low: 1e-4, high: 1, log: true}}"
    return f"tune.{key}: no arm has this key{near_miss(key, held)}"


def assignments(values: Mapping[str, tuple[Any, ...]]) -> list[dict[str, Any]]:
    """Every combination of the values, the last key running fastest."""
    return [dict(zip(values, row, strict=True)) for row in itertools.product(*values.values())]


def name_of(assignment: Mapping[str, Any]) -> str:
    """What a combination is called: `adam`, `adam+elu`, `lr=0.1`."""
    words = [str(value) if key in GROUPS else f"{key.rpartition('.')[2]}={text(value)}" for key, value in assignment.items()]
    return "+".join(word.replace("/", "_") for word in words) or WHOLE


def entry(tuning: Tuning) -> dict[str, Any]:
    """One entry of `tune` in plain types."""
    return {"space": None if tuning.space is None else asdict(tuning.space), "for": {key: list(known) for key, known in tuning.where}}


def described(cell: PlannedArm) -> dict[str, Any]:
    """What of a cell follows from what decides its outcome."""
    return {"choices": cell.choices, "overrides": list(cell.overrides), "parameters": cell.parameters, "steps": cell.steps}


def resolved(cell: PlannedArm) -> dict[str, Any]:
    """What of a cell decides its outcome."""
    # What a space leaves at its default stays out, so that a new setting changes no hash of plans without it.
    spaces = {
        key: {name: value for name, value in asdict(space).items() if value or name != "complement"} for key, space in cell.spaces.items()
    }
    return {
        "arm": cell.arm,
        "block": cell.block,
        "spaces": spaces,
        "points": list(cell.points),
        "recipe": recorded_targets(cell.run.fields_of_kind(SCIENCE)),
    }


def digest(sheet: SweepSpec, cells: Sequence[PlannedArm]) -> str:
    """SHA-256 over what decides the outcome and how it is judged: recipes, spaces, budget, pruner, looks, metric, margin,
    and what arms may differ in.

    Workers, devices, threads, folders, addresses, the wording of the question and the order of the arms are no part of it.
    """
    science = {
        "version": VERSION,
        "name": sheet.name,
        "metric": [sheet.metric, sheet.goal],
        "margin": sheet.margin,
        "budget": asdict(sheet.budget),
        "prune": None if sheet.prune is None else asdict(sheet.prune),
        "seeds": [list(sheet.seeds), list(sheet.confirm.pool)],
        "allow": list(sheet.allow),
        "baseline": sheet.baseline,
        "cells": sorted((resolved(cell) for cell in cells), key=lambda cell: (str(cell["arm"]), str(cell["block"]))),
    }
    return hashlib.sha256(json.dumps(science, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
