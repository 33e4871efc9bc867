"""Turn a request into a `Plan`: every arm in every block composed, its spaces and points resolved, and the hash over all that matters."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bakeoff.config import compose
from bakeoff.config.compose import ComposedConfig
from bakeoff.config.renamed_targets import recorded_targets
from bakeoff.config.schema import SCIENCE, RunConfig, without_added
from bakeoff.config.search_space import SearchSpace
from bakeoff.config.slots import GROUPS, package_data_dir
from bakeoff.errors import ConfigError, PlanError, join_choices, near_miss, redact
from bakeoff.run_files.stored_plan import ADDED_STUDIES, VERSION, StoredPlan
from bakeoff.sweep import fairness
from bakeoff.sweep.candidates import Point, ends, points, study_points
from bakeoff.sweep.fairness import FairnessFinding
from bakeoff.sweep.overrides import parsed, text
from bakeoff.sweep.planned_arm import WHOLE, PlannedArm
from bakeoff.sweep.request import SweepRequest, read_request
from bakeoff.sweep.spec import SweepSpec, TuneEntry


@dataclass(frozen=True)
class Plan:
    """A sweep, whole and checked: what its hash stands for, what plan.json holds, and what the workers run."""

    request: SweepRequest
    planned_arms: tuple[PlannedArm, ...]
    trust: tuple[str, ...]
    hash: str
    differs: tuple[FairnessFinding, ...] = ()

    @property
    def spec(self) -> SweepSpec:
        """What the sweep file declares, with the command line applied."""
        return self.request.spec

    @property
    def name(self) -> str:
        """The sweep's name."""
        return self.request.name

    @property
    def title(self) -> str:
        """Its MLflow experiment, and its folder: the name and the hash."""
        return f"{self.name}-{self.hash[:8]}"

    @property
    def site(self) -> RunConfig:
        """A run whose site (folders, tracking, devices) is the sweep's."""
        return self.planned_arms[0].run

    @property
    def trials(self) -> int:
        """Tuning runs in all."""
        return sum(len(planned_arm.points) for planned_arm in self.planned_arms)

    @property
    def runs(self) -> int:
        """Runs in all up to the first look, the confirming ones included."""
        return self.runs_at(seeds=len(self.spec.confirm.first_seeds), studies=self.spec.studies)

    def tuning_studies(self, studies: int) -> tuple[tuple[int, int], ...]:
        """(planned arm, study) of everything that is tuned on its own, study by study, so that further studies come last.

        Args:
            studies: How many studies each arm has in each block.
        """
        return tuple((planned_arm, study) for study in range(studies) for planned_arm in range(len(self.planned_arms)))

    def arm_and_study(self, study_index: int) -> tuple[int, int]:
        """(planned arm, study) at a place among the tuning studies, however many there are."""
        study, arm_index = divmod(study_index, len(self.planned_arms))
        return arm_index, study

    def trials_a_study(self, arm_index: int) -> int:
        """Tuning runs of one study of a planned arm."""
        return len(self.planned_arms[arm_index].points) // self.spec.studies

    def slice_of(self, study_index: int) -> tuple[Point, ...]:
        """The points of one study of one planned arm: those of the plan's own studies are listed in it, those of later ones follow."""
        arm_index, study = self.arm_and_study(study_index)
        planned_arm, each = self.planned_arms[arm_index], self.trials_a_study(arm_index)
        if study < self.spec.studies:
            return planned_arm.points[study * each : (study + 1) * each]
        return study_points(planned_arm.spaces, budget=self.spec.budget, seed=planned_arm.run.seed, study=study)

    def studies_at(self, seeds: int) -> int:
        """How many studies each arm has in each block once the analysis at `seeds` seeds is due, of those that the plan holds."""
        first, studies = len(self.spec.confirm.first_seeds), self.spec.studies
        return studies * (seeds // first) if studies > 1 and first else studies

    def study_of_place(self, place: int) -> int:
        """The study that the seed at a place of the pool confirms: each analysis deals its seeds to its own studies in turn."""
        first, studies = len(self.spec.confirm.first_seeds), self.spec.studies
        return place // first * studies + place % first % studies if studies > 1 else 0

    def seeds_of(self, study_index: int, count: int) -> tuple[int, ...]:
        """The confirming seeds of one study, so that every seed confirms one setting of an arm.

        Args:
            study_index: The study's place among the tuning studies.
            count: Seeds of the pool up to the current analysis. Studies beyond a plan's only one have seeds behind the pool instead.
        """
        _, study = self.arm_and_study(study_index)
        confirm = self.spec.confirm
        if study and self.spec.studies == 1:
            each = -(-len(confirm.first_seeds) // ADDED_STUDIES)
            start = max(confirm.pool) + 1 + (study - 1) * each
            return tuple(range(start, start + each))
        return tuple(seed for place, seed in enumerate(confirm.pool[:count]) if self.study_of_place(place) == study)

    def runs_at(self, *, seeds: int, studies: int) -> int:
        """Runs in all with so many seeds of the pool, and so many studies of each arm in each block."""
        return sum(
            self.trials_a_study(arm_index) + len(self.seeds_of(study_index, seeds))
            for study_index, (arm_index, _) in enumerate(self.tuning_studies(studies))
        )

    def examined(self, facts: Sequence[tuple[int, int, int]]) -> Plan:
        """Return the plan with what is known once nets and data have been built, and the differences between arms that follow.

        Args:
            facts: (parameters, steps, test images) of each planned arm.

        Raises:
            PlanError: The margin is smaller than one test image.
            FairnessError: The nets are too far apart in size.
        """
        planned_arms = tuple(
            replace(planned_arm, parameters=size, steps=steps, test_images=images)
            for planned_arm, (size, steps, images) in zip(self.planned_arms, facts, strict=True)
        )
        images = min(images for *_, images in facts)
        if self.judges_accuracy and self.spec.margin * images < 1 - 1e-9:
            raise PlanError(
                f"margin={self.spec.margin:g}: one of the {images} test images is {100 / images:.2g} points; it must be that or more"
            )
        composed_config = fairness.sizes(self.request, planned_arms, [size for size, *_ in facts])
        kept = [finding for finding in self.differs if finding.rule != "parameters"]
        return replace(self, planned_arms=planned_arms, differs=(*kept, *fairness.raise_unallowed(self.request, composed_config)))

    @property
    def judges_accuracy(self) -> bool:
        """Whether arms are compared by their accuracy on test images."""
        return bool(self.spec.confirm.first_seeds) and self.spec.metric.name.endswith("accuracy")

    @property
    def margin_warning(self) -> str | None:
        """Why the test images cannot show a difference of the margin, in one line; None where they can, or are not known yet."""
        from bakeoff.stats.resolution import DISAGREEMENT, images_resolution

        counts = [planned_arm.test_images for planned_arm in self.planned_arms if planned_arm.test_images is not None]
        if not counts or not self.judges_accuracy or self.spec.margin >= images_resolution(min(counts)):
            return None
        half_width = images_resolution(min(counts))
        return (
            f"margin={self.spec.margin:g}: {min(counts)} test images cannot show so little: two nets that disagree on "
            f"{100 * DISAGREEMENT:g} % of the images differ by +-{100 * half_width:.2g} points by the choice of images alone; take "
            f"margin={math.ceil(1000 * half_width) / 1000:g}, or more test images"
        )

    @property
    def command(self) -> str:
        """The line that runs it, and resumes it."""
        name = self.name if is_named(self.request.path) else str(self.request.path)
        own = [] if self.request.config_dir is None else ["--config-dir", self.request.config_dir]
        return shlex.join(["bakeoff", "sweep", name, *own, *map(redact, self.request.overrides)])

    def stored(self) -> StoredPlan:
        """The plan as plan.json holds it, with everything resolved."""
        spec, request = self.spec, self.request
        fixed = {key: parsed(key, value) for key, value in request.fixed.items() if key != "trust" and not key.startswith("tracking")}
        return StoredPlan.model_validate(
            {
                "version": VERSION,
                "name": self.name,
                "hash": self.hash,
                "question": spec.question,
                "metric": spec.metric.model_dump(),
                "margin": spec.margin,
                "factors": spec.factors,
                "blocks": spec.blocks,
                "tune": {key: [entry(key, tuning) for tuning in entries] for key, entries in spec.tune.items()},
                "budget": {
                    **budget_tree(spec),
                    "trials": max(self.trials_a_study(arm_index) for arm_index in range(len(self.planned_arms))),
                    "grow": spec.studies > 1,
                },
                "prune": None if spec.prune is None else spec.prune.model_dump(),
                "confirm": {
                    "seeds": spec.confirm.first_seeds,
                    "max_seeds": len(spec.confirm.pool),
                    "looks": spec.confirm.analyses,
                    "pool": spec.confirm.pool,
                },
                "baseline": spec.baseline,
                "allow": spec.allow,
                "differs": [asdict(finding) for finding in self.differs],
                "fixed": fixed,
                "scale": request.scale,
                "overrides": tuple(map(redact, request.overrides)),
                "command": self.command,
                "cells": [{**resolved(planned_arm), **described(planned_arm)} for planned_arm in self.planned_arms],
            }
        )

    def tree(self) -> dict[str, Any]:
        """The plan in plain types, as plan.json holds it."""
        return self.stored().to_tree()


def is_named(path: Path) -> bool:
    """Whether a sweep's file is composed_config by its name alone."""
    return path.parent == Path("sweeps") or path.parent == package_data_dir("sweeps")


def make_plan(
    name: str,
    *,
    overrides: Sequence[str] = (),
    config_dir: str | Path | None = None,
    early: Callable[[SweepRequest, ComposedConfig], None] | None = None,
) -> Plan:
    """The plan of a sweep: read, composed and checked as far as that goes without torch. `PlanError` or `ConfigError` in one line.

    `early` is called with the first planned arm's composition, for what can start while the others are composed.
    """
    request = read_request(name, overrides=overrides, config_dir=config_dir)
    with compose.hydra_session(config_dir):
        made: list[PlannedArm] = []
        trust: tuple[str, ...] = ()
        for arm, block in itertools.product(assignments(request.spec.factors), assignments(request.spec.blocks)):
            planned_arm, composed_config = composed(request, arm, block)
            if not made and early is not None:
                early(request, composed_config)
            made.append(planned_arm)
            trust = composed_config.trust
    for key, entries in request.spec.tune.items():
        # Entries for arms that the line has narrowed away are not missed.
        if not any(key in planned_arm.spaces for planned_arm in made) and not all(tuning.only_for for tuning in entries):
            raise PlanError(untunable(request, key, made))
    labels = [(planned_arm.arm, planned_arm.block) for planned_arm in made]
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice is not None:
        raise PlanError(f"{request.path.name}: two arms are called {twice[0]}")
    arms = list(dict.fromkeys(planned_arm.arm for planned_arm in made))
    if request.spec.baseline is not None and request.spec.baseline not in arms:
        raise PlanError(
            f"baseline={request.spec.baseline}: no arm is called so{near_miss(request.spec.baseline, arms)}; arms: {join_choices(arms)}"
        )
    differs = fairness.raise_unallowed(request, fairness.examined(request, made))
    return Plan(request=request, planned_arms=tuple(made), trust=trust, hash=digest(request, made), differs=differs)


def composed(request: SweepRequest, arm: Mapping[str, Any], block: Mapping[str, Any]) -> tuple[PlannedArm, ComposedConfig]:
    """One planned arm, and its composition."""
    choices = {**block, **arm}
    overrides = tuple(f"{key}={value}" for key, value in {**request.fixed, **{key: text(value) for key, value in choices.items()}}.items())
    label = f"{name_of(arm)} in {name_of(block)}" if block else name_of(arm)
    try:
        composed_config = compose.compose_in_session(overrides)
    except ConfigError as error:
        raise type(error)(f"{error} [arm {label}]") from None
    if composed_config.run.test:
        raise PlanError("test=true: the test set is for the confirming stage, which scores it once")
    analyses = len(request.spec.confirm.analyses) or 1
    studies = request.spec.studies * analyses if request.spec.studies > 1 else 1
    if composed_config.run.seed + studies > 2**63:
        raise PlanError(f"seed={composed_config.run.seed}: the seeds of {studies} studies, which count on from there, pass 2^63")
    twice = set(range(composed_config.run.seed, composed_config.run.seed + studies)) & set(request.spec.confirm.pool)
    if twice:
        raise PlanError(f"seed={composed_config.run.seed}: tuning would use the confirming seed {min(twice)}; those must be fresh")
    spaces = tuning_spaces(request, composed_config, choices, label)
    for key, space in spaces.items():
        for end in ends(space):
            try:
                composed_config.check(composed_config.run.replace(**{key: end}))
            except ConfigError as error:
                raise PlanError(f"tune.{key}: an end of the space is not allowed: {error} [arm {label}]") from None
    planned_arm = PlannedArm(
        arm=name_of(arm),
        block=name_of(block),
        choices=choices,
        overrides=overrides,
        run=composed_config.run,
        spaces=spaces,
        points=points(spaces, budget=request.spec.budget, studies=request.spec.studies, seed=composed_config.run.seed),
        decay_kind=composed_config.descriptions["optimizer"].decay_kind if "optimizer" in composed_config.descriptions else None,
    )
    return planned_arm, composed_config


def tuning_spaces(request: SweepRequest, composed_config: ComposedConfig, choices: Mapping[str, Any], label: str) -> dict[str, SearchSpace]:
    """Return the space of each tuned key for one planned arm, by the first entry that fits it, without keys that its run lacks."""
    held, spaces = composed_config.run.flat(), {}
    for key, entries in request.spec.tune.items():
        mine = next((tuning for tuning in entries if tuning.fits(choices)), None)
        if mine is None:
            continue
        own = mine.parse_space(key)
        space = composed_config.spaces.get(key) if own is None else own if key in held else None
        if space is not None:
            spaces[key] = space
        elif mine.only_for:
            lack = "has no such key" if key not in held else "declares no space for it"
            raise PlanError(f"tune.{key}: is for an arm that {lack} [arm {label}]")
    if request.spec.budget.sampler == "cmaes" and spaces and (len(spaces) < 2 or any(space.choices for space in spaces.values())):
        raise PlanError(
            f"budget.sampler=cmaes: needs two or more tuned keys, all of them numbers; {', '.join(spaces)} is tuned [arm {label}]"
        )
    return spaces


def untunable(request: SweepRequest, key: str, planned_arms: Sequence[PlannedArm]) -> str:
    """Why a key cannot be tuned."""
    held = sorted({name for planned_arm in planned_arms for name in planned_arm.run.flat() if not name.startswith("choices.")})
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


def entry(key: str, tuning: TuneEntry) -> dict[str, Any]:
    """One entry of `tune` in plain types."""
    space = tuning.parse_space(key)
    return {"space": None if space is None else asdict(space), "for": tuning.only_for}


def budget_tree(spec: SweepSpec) -> dict[str, Any]:
    """The budget in plain types, with the number of studies; `choose: best` stays out, as in plans that knew no other choice."""
    tree = spec.budget.model_dump() | {"studies": spec.studies}
    return {key: value for key, value in tree.items() if (key, value) != ("choose", "best")}


def described(planned_arm: PlannedArm) -> dict[str, Any]:
    """What of a planned arm follows from what decides its outcome."""
    return {
        "choices": planned_arm.choices,
        "overrides": list(map(redact, planned_arm.overrides)),
        "parameters": planned_arm.parameters,
        "steps": planned_arm.steps,
    }


def resolved(planned_arm: PlannedArm) -> dict[str, Any]:
    """What of a planned arm decides its outcome."""
    # What a space leaves at its default stays out, so that a new setting changes no hash of plans without it.
    spaces = {
        key: {name: value for name, value in asdict(space).items() if value or name != "complement"}
        for key, space in planned_arm.spaces.items()
    }
    science = planned_arm.run.fields_of_kind(SCIENCE)
    return {
        "arm": planned_arm.arm,
        "block": planned_arm.block,
        "spaces": spaces,
        "points": list(planned_arm.points),
        "recipe": recorded_targets(science | {slot: without_added(slot, science[slot]) for slot in ("initializer", "scheduler")}),
    }


def digest(request: SweepRequest, planned_arms: Sequence[PlannedArm]) -> str:
    """Return the SHA-256 over what decides the outcome and the verdict.

    That is recipes, spaces, budget, pruner, analyses, metric, margin, and what arms may differ in.
    Workers, devices, threads, folders, addresses, the wording of the question and the order of the arms are no part of it.
    """
    science: dict[str, Any] = {
        "version": VERSION,
        "name": request.name,
        "metric": [request.spec.metric.name, request.spec.metric.goal],
        "margin": request.spec.margin,
        "budget": budget_tree(request.spec),
        "prune": None if request.spec.prune is None else request.spec.prune.model_dump(),
        "seeds": [list(request.spec.confirm.first_seeds), list(request.spec.confirm.pool)],
        "allow": list(request.spec.allow),
        "baseline": request.spec.baseline,
        "cells": sorted(
            (resolved(planned_arm) for planned_arm in planned_arms),
            key=lambda planned_arm: (str(planned_arm["arm"]), str(planned_arm["block"])),
        ),
    }
    if request.spec.studies > 1:
        # Plans with a fixed number of studies, which came before, have other hashes.
        science["grow"] = True
    return hashlib.sha256(json.dumps(science, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
