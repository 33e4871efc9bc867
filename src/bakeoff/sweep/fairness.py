"""What makes arms unequal without being what is compared: found before a trial is run, and refused unless the sweep file allows it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bakeoff.config.schema import SCIENCE
from bakeoff.config.slots import SLOTS
from bakeoff.errors import PlanError
from bakeoff.sweep.overrides import flat, text
from bakeoff.sweep.planned_arm import PlannedArm
from bakeoff.sweep.request import SweepRequest
from bakeoff.sweep.spec import RULES

EXACT = {
    "trainer.max_epochs": "steps",
    "trainer.max_steps": "steps",
    "data.batch_size": "batch",
    "trainer.accumulate": "batch",
    "trainer.precision": "precision",
    "optimizer.decay_all": "decay_all",
}
"""Keys that only a factor of that very name declares: a choice that brings them along does not."""
PREFIXED = {"scheduler": "schedule", "data": "data", "seed": "data"}
"""Nodes whose difference a factor of the node's own name declares, too."""
SIZES = ("model", "data")
"""Factors that are a net's size: parameters may then differ."""
PARAMETERS = 1.05
"""The most by which the parameters of two arms may differ, as a ratio."""


VOLUMES = 1.1
"""The most by which the volumes of the spaces of two arms may differ, as a ratio."""


@dataclass(frozen=True)
class FairnessFinding:
    """Arms that differ in what `rule` watches, and how."""

    rule: str
    text: str


class FairnessError(PlanError):
    """The arms of a sweep differ in something that its file does not declare; `lines` has one complaint each."""

    def __init__(self, lines: Sequence[str]) -> None:
        """Keep the complaints and join them into the message."""
        super().__init__("; ".join(lines))
        self.lines = tuple(lines)


def raise_unallowed(request: SweepRequest, findings: Sequence[FairnessFinding]) -> tuple[FairnessFinding, ...]:
    """The findings that the sweep file allows; `FairnessError` where there are others."""
    refused = [finding for finding in findings if finding.rule not in request.spec.allow]
    if refused:
        raise FairnessError(
            [
                f"{request.path.name}: {finding.rule}: {finding.text}; if that is intended, set allow: [{finding.rule}]"
                for finding in refused
            ]
        )
    return tuple(findings)


def examined(request: SweepRequest, planned_arms: Sequence[PlannedArm]) -> list[FairnessFinding]:
    """All that can be describe_values from the recipes alone, one finding a rule, in the rules' order."""
    findings = [*values(request, planned_arms), *tuned(request, planned_arms), *decays(planned_arms)]
    first = {finding.rule: finding for finding in reversed(findings)}
    return [first[rule] for rule in RULES if rule in first]


def values(request: SweepRequest, planned_arms: Sequence[PlannedArm]) -> Iterator[FairnessFinding]:
    """Keys of the recipe that differ between the arms of a block without being a factor."""
    for block_arms in by_block(planned_arms).values():
        recipes = {planned_arm.arm: dict(flat(planned_arm.run.fields_of_kind(SCIENCE))) for planned_arm in block_arms}
        for key in dict.fromkeys(key for recipe in recipes.values() for key in recipe):
            # A choice without the switch leaves norms and biases out, as the switch's default does.
            missing = False if key == "optimizer.decay_all" else None
            mine = {arm: recipe.get(key, missing) for arm, recipe in recipes.items()}
            if len({text(value) for value in mine.values()}) > 1 and not declared(request, key):
                yield FairnessFinding(rule_of(key), f"{key} differs between arms: {describe_values(mine)}")


def tuned(request: SweepRequest, planned_arms: Sequence[PlannedArm]) -> Iterator[FairnessFinding]:
    """Keys that tuning would set differently for each arm although they must be alike, and arms that are not tuned where others are."""
    for key in dict.fromkeys(key for planned_arm in planned_arms for key in planned_arm.spaces):
        rule = EXACT.get(key) or (rule_of(key) if key.partition(".")[0] in ("data", "seed") else None)
        if rule is not None:
            yield FairnessFinding(rule, f"tune.{key} would give each arm a value of its own")
    for block_arms in by_block(planned_arms).values():
        budgets = {planned_arm.arm: len(planned_arm.points) for planned_arm in block_arms}
        if len(set(budgets.values())) > 1:
            yield FairnessFinding("tuning", f"arms get different numbers of tuning runs: {describe_values(budgets)}")
        volumes = {planned_arm.arm: decades(planned_arm) for planned_arm in block_arms if planned_arm.spaces}
        if volumes and max(volumes.values()) > VOLUMES * min(volumes.values()):
            sizes = {arm: float(f"{volume:.3g}") for arm, volume in volumes.items()}
            yield FairnessFinding("space", f"arms are searched with equal trials over unequal spaces, in decades: {describe_values(sizes)}")


def decades(planned_arm: PlannedArm) -> float:
    """The volume of an arm's search space: the product of the decades of its logarithmic ranges; other ranges count as 1."""
    return math.prod(math.log10(space.high / space.low) for space in planned_arm.spaces.values() if space.log)


def decays(planned_arms: Sequence[PlannedArm]) -> Iterator[FairnessFinding]:
    """L2 in one arm and decoupled weight decay in another, where both decay at all."""
    for block_arms in by_block(planned_arms).values():
        kinds = {planned_arm.arm: kind_of_decay(planned_arm) for planned_arm in block_arms if decaying(planned_arm)}
        if len(set(kinds.values())) > 1:
            yield FairnessFinding("decay", f"weight decay is not the same thing in all arms: {describe_values(kinds)}")


def sizes(request: SweepRequest, planned_arms: Sequence[PlannedArm], parameters: Sequence[int]) -> list[FairnessFinding]:
    """Nets of one block whose numbers of parameters are further apart than `PARAMETERS`, unless the net is what is compared."""
    if any(key.partition(".")[0] in SIZES for key in request.spec.factors):
        return []
    counts = {id(planned_arm): count for planned_arm, count in zip(planned_arms, parameters, strict=True)}
    for block_arms in by_block(planned_arms).values():
        mine = {planned_arm.arm: counts[id(planned_arm)] for planned_arm in block_arms}
        if max(mine.values()) > PARAMETERS * min(mine.values()):
            return [FairnessFinding("parameters", f"the arms' nets are more than 5 % apart in parameters: {describe_values(mine)}")]
    return []


def declared(request: SweepRequest, key: str) -> bool:
    """Whether a key's difference is the factor itself. `trainer` and `experiment` bundle settings, and declare none of them."""
    if key in request.spec.factors:
        return True
    return key not in EXACT and any(factor in SLOTS and key.startswith(f"{factor}.") for factor in request.spec.factors)


def rule_of(key: str) -> str:
    """The rule that watches a key."""
    return EXACT.get(key) or PREFIXED.get(key.partition(".")[0], "recipe")


def decaying(planned_arm: PlannedArm) -> bool:
    """Whether an arm's optimizer decays weights, at its own value or anywhere in the space that it is tuned in."""
    space = planned_arm.spaces.get("optimizer.weight_decay")
    return bool(planned_arm.run.optimizer.get("weight_decay")) or (space is not None and space.high > 0)


def kind_of_decay(planned_arm: PlannedArm) -> str:
    """What an arm's weight decay is, as the file of its optimizer says: `L2`, `decoupled`, or in words; else that it is not known."""
    return planned_arm.decay_kind or f"unknown for {str(planned_arm.run.optimizer['_target_']).rpartition('.')[2]}"


def by_block(planned_arms: Sequence[PlannedArm]) -> dict[str, list[PlannedArm]]:
    """The planned arms of each block."""
    by_block: dict[str, list[PlannedArm]] = {}
    for planned_arm in planned_arms:
        by_block.setdefault(planned_arm.block, []).append(planned_arm)
    return by_block


def describe_values(values: Mapping[str, Any]) -> str:
    """`10 (sgd, adam), 20 (lion)`: values with their arms, which may be many."""
    groups: dict[str, list[str]] = {}
    for arm, value in values.items():
        groups.setdefault("not set" if value is None else text(value), []).append(arm)
    shown = [f"{value} ({', '.join(arms[:3])}{f' and {len(arms) - 3} more' if len(arms) > 3 else ''})" for value, arms in groups.items()]
    return ", ".join([*shown[:4], *(["..."] if len(shown) > 4 else [])])
