"""A sweep of 200 tiny trials under random kills, freezes, busy stores and full disks, its books compared with an undisturbed twin's.

The twin runs once. Then the same sweep runs again and again, each time in a folder of its own, until the time is over: every few seconds a
process of it is killed or frozen, its store is locked, or its disk filled. Whenever its command ends, the same line is started again. In
the end both must have the same runs with the same results to the last bit, the same counts in the store, and the same verdict.

python benchmarks/soak.py --minutes 10 --seed 1

It prints what was done to the sweep, and exits with code 1 at the first difference. Full disks need the right to mount a tmpfs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import yaml

ARMS = ("sgd", "momentum", "adam", "lion")
TINY = {"model.width": 0.05, "data.subset": 320, "data.batch_size": 32, "trainer.max_epochs": 1, "trainer.checkpoint_every": 3}
TINY |= {"trainer.threads": 1, "trainer.accelerator": "cpu", "trainer.log_every": 1, "diagnostics": "none"}
BAKEOFF = [sys.executable, "-c", "import sys; from bakeoff.commands.main import main; sys.exit(main())"]
SWEEP = ["sweep", "sweeps/soak.yaml", "workers=2"]
ROOM = "400m"
"""Size of the disk of the runs, but while it is full."""
RESTARTS = 300
"""Starts of the command after which it counts as one that does not get on."""


def prepare(folder: Path, *, runs: int) -> Path:
    """Make a working folder with the sweep, and return it."""
    (folder / "sweeps").mkdir(parents=True)
    each = max(2, runs // len(ARMS))
    seeds = max(2, each * 2 // 5)
    sheet = {
        "question": "Which optimizer?",
        "factors": {"optimizer": list(ARMS)},
        "metric": "val/accuracy",
        "margin": 0.05,
        "allow": ["decay"],
        "tune": {"optimizer.lr": "space"},
        "budget": {"trials": each - seeds, "studies": 1, "choose": "best"},
        "confirm": {"seeds": seeds},
        "fixed": TINY,
    }
    (folder / "sweeps" / "soak.yaml").write_text(yaml.safe_dump(sheet))
    return folder


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run([*BAKEOFF, *words], cwd=folder, capture_output=True, text=True, check=False)


def read_books(folder: Path) -> dict[str, Any]:
    """Return all that must be the same: each run's result without times, the store's counts of it, and the report."""
    books: dict[str, Any] = {}
    for path in folder.glob("runs/*/[!.]*/result.json"):
        tree = json.loads(path.read_text())
        books[tree["name"]] = {name: tree.get(name) for name in ("status", "reason", "metrics", "best", "steps", "fingerprint")}
    with contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as database:
        rows = database.execute("SELECT name, status, run_uuid FROM runs WHERE lifecycle_stage = 'active'").fetchall()
        logged = "FROM metrics WHERE key NOT LIKE 'system/%'"
        counts = dict(database.execute(f"SELECT run_uuid, COUNT(*) {logged} GROUP BY run_uuid").fetchall())
        points = f"SELECT run_uuid, COUNT(*) FROM (SELECT DISTINCT run_uuid, key, step {logged}) GROUP BY run_uuid"
        distinct = dict(database.execute(points).fetchall())
    for name, number in Counter(name for name, *_ in rows).items():
        books.setdefault(name, {})["in the store"] = number
    for name, status, run_id in rows:
        books[name] |= {"stored status": status, "values": counts.get(run_id, 0), "values without repeats": distinct.get(run_id, 0)}
    # How often it was begun is not compared.
    books.pop("summary", None)
    report = run(folder, "report", "soak", "--json", "--out", "report-of-the-books")
    tree = json.loads(report.stdout) if report.returncode == 0 else {"error": report.stderr}
    books["report"] = {name: value for name, value in tree.items() if name in ("runs", "winner", "grade", "verdict", "error")}
    return books


def differences(books: dict[str, Any], twin: dict[str, Any]) -> list[str]:
    """Return one line for each entry that is not the same."""
    return [f"{name}: {books.get(name)} and not {twin.get(name)}" for name in sorted({*books, *twin}) if books.get(name) != twin.get(name)]


class Faults:
    """What is done to a sweep in a folder, by a seeded generator."""

    def __init__(self, folder: Path, generator: random.Random) -> None:
        """Fill no disk where nothing may be mounted."""
        self.folder, self.generator, self.done = folder, generator, Counter[str]()
        self.disk = folder / "runs"
        self.disk.mkdir()
        self.has_disk = mount(self.disk, f"size={ROOM}", "-t", "tmpfs", "none")
        self.kinds: list[Callable[[psutil.Process], None]] = [self.kill] * 4 + [self.freeze] * 3 + [self.lock_store] * 2 + [self.interrupt]
        self.kinds += [self.fill_disk] * 2 if self.has_disk else []

    def strike(self, command: psutil.Process) -> None:
        """Do one thing to a running command."""
        with contextlib.suppress(psutil.Error, sqlite3.Error):
            self.generator.choice(self.kinds)(command)

    def victim(self, command: psutil.Process) -> psutil.Process:
        """Choose a process of the command's tree."""
        return self.generator.choice([command, *command.children(recursive=True)])

    def kill(self, command: psutil.Process) -> None:
        """Send SIGKILL to one process."""
        self.victim(command).kill()
        self.done["killed"] += 1

    def interrupt(self, command: psutil.Process) -> None:
        """Stop the command as a batch system does."""
        command.send_signal(signal.SIGTERM)
        self.done["stopped"] += 1

    def freeze(self, command: psutil.Process) -> None:
        """Stop one process for some seconds."""
        victim = self.victim(command)
        victim.suspend()
        time.sleep(self.generator.uniform(0.5, 5.0))
        victim.resume()
        self.done["frozen"] += 1

    def lock_store(self, command: psutil.Process) -> None:
        """Hold the store's file for some seconds."""
        if (self.folder / "mlflow.db").exists():
            with contextlib.closing(sqlite3.connect(self.folder / "mlflow.db", timeout=2, isolation_level=None)) as database:
                database.execute("BEGIN EXCLUSIVE")
                time.sleep(self.generator.uniform(1.0, 8.0))
            self.done["store locked"] += 1

    def fill_disk(self, command: psutil.Process) -> None:
        """Leave the runs a few kilobytes for some seconds."""
        usage = os.statvfs(self.disk)
        used = (usage.f_blocks - usage.f_bfree) * usage.f_frsize
        if mount(self.disk, f"remount,size={used + self.generator.choice([8, 64, 256]) * 1024}"):
            time.sleep(self.generator.uniform(0.5, 4.0))
            mount(self.disk, f"remount,size={ROOM}")
            self.done["disk filled"] += 1

    def close(self) -> None:
        """Unmount the disk."""
        if self.has_disk:
            subprocess.run(["umount", "-l", str(self.disk)], check=True)


def mount(place: Path, options: str, *words: str) -> bool:
    """Mount, or mount again with other options; return whether it was allowed."""
    return subprocess.run(["mount", "-o", options, *words, str(place)], capture_output=True, check=False).returncode == 0


def soak(folder: Path, faults: Faults, *, until: float) -> list[str]:
    """Run the sweep to its end with faults until a time (of time.monotonic); return what is wrong apart from its books."""
    wrong, codes = list[str](), Counter[int]()
    with open(folder / "output.txt", "a", encoding="utf-8") as output:
        while True:
            process = subprocess.Popen([*BAKEOFF, *SWEEP], cwd=folder, stdout=output, stderr=output, start_new_session=True)
            command = psutil.Process(process.pid)
            while process.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(faults.generator.uniform(0.3, 6.0) if time.monotonic() < until else 600.0)
                if process.poll() is None and time.monotonic() < until:
                    faults.strike(command)
            codes[process.returncode] += 1
            if process.returncode in (0, 3):
                break
            if process.returncode not in (75, 143, -signal.SIGKILL, -signal.SIGTERM):
                wrong.append(f"the command ended with exit code {process.returncode}")
            if sum(codes.values()) > RESTARTS or len(wrong) > 5:
                wrong.append("the sweep does not come to its end")
                return wrong
    synced = run(folder, "sync")
    if synced.returncode:
        wrong.append(f"sync ended with exit code {synced.returncode}: {synced.stderr[-300:]}")
    if "Traceback" in (folder / "output.txt").read_text():
        wrong.append(f"a traceback in {folder / 'output.txt'}")
    print(f"{dict(faults.done)}; exit codes {dict(codes)}", flush=True)
    return wrong


def main() -> int:
    """Run the twin, then the disturbed sweeps, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long faults are made, not counting the twin")
    parser.add_argument("--runs", type=int, default=200, help="runs of a sweep, about")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where everything is left, for a look; by default it is removed")
    args = parser.parse_args()
    generator = random.Random(args.seed)
    with tempfile.TemporaryDirectory(prefix="soak-") as temporary:
        place = args.folder or Path(temporary)
        start, twin_folder = time.monotonic(), prepare(place / "twin", runs=args.runs)
        done = run(twin_folder, *SWEEP)
        assert done.returncode == 0, done.stderr
        twin = read_books(twin_folder)
        assert "error" not in twin["report"], twin["report"]
        print(f"twin: {len(twin) - 1} runs in {time.monotonic() - start:.0f} s", flush=True)
        until, rounds = time.monotonic() + 60 * args.minutes, 0
        while time.monotonic() < until or not rounds:
            rounds += 1
            folder = prepare(place / f"round-{rounds}", runs=args.runs)
            faults = Faults(folder, generator)
            try:
                wrong = soak(folder, faults, until=until)
                wrong += differences(read_books(folder), twin)
            finally:
                faults.close()
            for line in wrong:
                print(f"round {rounds}: {line[:600]}")
            if wrong:
                return 1
        print(f"{rounds} rounds: the same books")
    return 0


if __name__ == "__main__":
    sys.exit(main())
