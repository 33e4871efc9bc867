"""The sweep's own run in the store, which carries its plan and its report; and the notes about earlier plans of the same name."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bakeoff.errors import StoreError
from bakeoff.run_files.atomic import write_atomic
from bakeoff.run_files.journal import Journal
from bakeoff.run_files.run_dir import ID_LENGTH, RunDir, RunManifest
from bakeoff.run_files.stored_plan import read_stored_plan
from bakeoff.sweep.arm_progress import ArmProgress
from bakeoff.sweep.overrides import flat, text
from bakeoff.sweep.plan import Plan

PLAN, REPORT = "plan.json", "report"


class Summary:
    """The summary run of a plan: open while the sweep runs."""

    def __init__(self, plan: Plan, *, root: Path, uri: str) -> None:
        """Open the summary run under `root`, or make it; `uri` is the store's address."""
        own = hashlib.sha256(f"{plan.hash}/summary".encode()).hexdigest()[:ID_LENGTH]
        there = next((root / plan.title).glob(f"[!.]*-{own}"), None)
        whole = json.dumps(plan.tree(), indent=2) + "\n"
        if there is None:
            job = RunManifest(
                id=own,
                name="summary",
                experiment=plan.title,
                kind="summary",
                tags={
                    "sweep": plan.name,
                    "sweep.hash": plan.hash,
                    "sweep.tuned": ",".join(plan.spec.tune),
                    "mlflow.note.content": f"{plan.spec.question}\n\n`{plan.command}`",
                },
                tracking_uri=uri,
            )
            self.folder = RunDir.create(root, config_text=whole, job=job)
        else:
            self.folder = RunDir(there)
        # The first line that ran the plan stays its plan.json: others may differ in workers and folders alone.
        if not (self.folder.path / PLAN).exists():
            write_atomic(self.folder.path / PLAN, whole)
            write_atomic(root / plan.title / PLAN, whole)
        self.lock = contextlib.ExitStack()
        self.lock.enter_context(self.folder.locked())
        self.journal, self.ended = Journal(self.folder.journal), False
        self.journal.start(self.folder.read_job())
        self.journal.artifact(PLAN)

    def record_counts(self, arms_progress: Sequence[ArmProgress], *, seeds: int, studies: int) -> None:
        """Write the counts that a report needs beside the runs.

        Args:
            arms_progress: How often pruning was wrong is counted over these.
            seeds: Seeds of the plan's pool up to the completed analysis.
            studies: Studies of each arm in each block.
        """
        sums = {name: sum(getattr(arm_progress, name) for arm_progress in arms_progress) for name in ("pruned", "audited", "wrong")}
        self.journal.tags({"sweep.seeds": seeds, "sweep.studies": studies, **{f"prune.{name}": count for name, count in sums.items()}})

    def attach(self, report: Path) -> None:
        """Take the report's files along."""
        home = self.folder.path / REPORT
        shutil.rmtree(home, ignore_errors=True)
        shutil.copytree(report, home)
        self.journal.artifact(REPORT, artifact_path=REPORT)

    def end(self, status: Any, *, reason: str = "") -> None:
        """Close it; a second call does nothing."""
        if not self.ended:
            self.journal.end(status, reason=reason)
            self.journal.close()
            self.lock.close()
            self.ended = True


def siblings(plan: Plan, *, root: Path) -> list[str]:
    """One line about the newest other plan of the same name, where this plan has not been run yet."""
    if (root / plan.title / PLAN).exists():
        return []
    known = [path for path in root.glob(f"{plan.name}-*/{PLAN}") if path.parent.name[len(plan.name) + 1 :].isalnum()]
    if not known:
        return []
    newest = max(known, key=lambda path: path.stat().st_mtime)
    try:
        old = read_stored_plan(newest).to_tree()
    except StoreError as error:
        return [f"{plan.title} is a new plan beside {newest.parent.name}: {error}"]
    differences = difference(old, plan.tree())
    more = f" and {len(differences) - 4} more" if len(differences) > 4 else ""
    return [f"{plan.title} is a new plan beside {newest.parent.name}: {'; '.join(differences[:4])}{more}"]


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What differs between two plan.json trees, one line a key; for the note that a changed plan is a sibling."""
    parts = ("metric", "margin", "factors", "blocks", "tune", "budget", "prune", "confirm", "allow", "baseline", "fixed")
    before, after = (dict(flat({part: tree.get(part) for part in parts})) for tree in (old, new))
    differences = changes(before, after)
    if differences:
        return differences
    planned_arms = [
        {(planned_arm["arm"], planned_arm["block"]): dict(flat(planned_arm["recipe"])) for planned_arm in tree.get("cells", ())}
        for tree in (old, new)
    ]
    for label in planned_arms[0].keys() & planned_arms[1].keys():
        differences += changes(planned_arms[0][label], planned_arms[1][label])
    return sorted(set(differences)) or ["spaces or defaults"]


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """`key: before -> after` for every key that differs."""
    return [
        f"{key}: {describe_value(old.get(key))} -> {describe_value(new.get(key))}" for key in {**old, **new} if old.get(key) != new.get(key)
    ]


def describe_value(value: Any) -> str:
    """A value in a message."""
    return "not set" if value is None else text(value)
