"""The sweep's own run in the store, which carries its plan and its report; and the notes about earlier plans of the same name."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from bakeoff.sweep.plan import Plan, difference
from bakeoff.tracking.folders import ID_LENGTH, Job, RunFolder, write_atomic
from bakeoff.tracking.journal import Journal

PLAN, REPORT = "plan.json", "report"


def readdress(experiment: Path, *, uri: str) -> None:
    """Send all runs of a sweep to one store: the address is no part of a plan, so a resumed sweep may have another."""
    for path in experiment.glob("[!.]*/job.json"):
        folder = RunFolder(path.parent)
        job = folder.read_job()
        if job.tracking_uri != uri:
            write_atomic(folder.job, dataclasses.replace(job, tracking_uri=uri).to_json())


class Summary:
    """The summary run of a plan: open while the sweep runs."""

    def __init__(self, plan: Plan, *, root: Path, uri: str) -> None:
        own = hashlib.sha256(f"{plan.hash}/summary".encode()).hexdigest()[:ID_LENGTH]
        there = next((root / plan.title).glob(f"[!.]*-{own}"), None)
        text = json.dumps(plan.tree(), indent=2) + "\n"
        if there is None:
            job = Job(
                id=own,
                name="summary",
                experiment=plan.title,
                kind="summary",
                tags={
                    "sweep": plan.name,
                    "sweep.hash": plan.hash,
                    "sweep.tuned": ",".join(plan.sheet.tune),
                    "mlflow.note.content": f"{plan.sheet.question}\n\n`{plan.command}`",
                },
                tracking_uri=uri,
            )
            self.folder = RunFolder.create(root, config_text=text, job=job)
        else:
            self.folder = RunFolder(there)
        # The first line that ran the plan stays its plan.json: others may differ in workers and folders alone.
        if not (self.folder.path / PLAN).exists():
            write_atomic(self.folder.path / PLAN, text)
            write_atomic(root / plan.title / PLAN, text)
        self.journal, self.ended = Journal(self.folder.journal), False
        self.journal.start(self.folder.read_job())
        self.journal.artifact(PLAN)

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
            self.ended = True


def siblings(plan: Plan, *, root: Path) -> list[str]:
    """One line about the newest other plan of the same name, where this plan has not been run yet."""
    if (root / plan.title / PLAN).exists():
        return []
    known = [path for path in root.glob(f"{plan.name}-*/{PLAN}") if path.parent.name[len(plan.name) + 1 :].isalnum()]
    if not known:
        return []
    newest = max(known, key=lambda path: path.stat().st_mtime)
    old = json.loads(newest.read_text(encoding="utf-8"))
    found = difference(old, plan.tree())
    more = f" and {len(found) - 4} more" if len(found) > 4 else ""
    return [f"{plan.title} is a new plan beside {newest.parent.name}: {'; '.join(found[:4])}{more}"]
