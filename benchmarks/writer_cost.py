"""What the process beside a training costs that brings its journal to the store, over the same by MLflow's own client.

One run of ten epochs with artifacts and net, into a fresh SQLite store: CPU seconds and memory of the writer, and the wait for it at the
end. Then the points of metrics a second of one run: into an SQLite store, or into the server or database of --uri.

python benchmarks/writer_cost.py
python benchmarks/writer_cost.py --uri http://127.0.0.1:5000 --points 30000
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bakeoff.run_files.journal import Journal
from bakeoff.run_files.run_dir import RunDir, RunManifest, new_run_id
from bakeoff.tracking.client import default_uri, ensure_schema

EPOCHS, STEPS, EPOCH_SECONDS = 10, 50, 0.5
CHANNELS, SIZE, CLASSES = 3, 32, 10

WRITER = """
import sys, threading, time
from pathlib import Path
from bakeoff.training.writer import Writer
root, uri = sys.argv[1:]
writer = Writer(root, uri=uri)
print("ready", flush=True)
peak = 0
def watch():
    global peak
    try:
        while True:
            peak = int(Path(f"/proc/{writer.pid}/status").read_text().split("VmHWM:")[1].split()[0])
            time.sleep(0.005)
    except (OSError, IndexError):
        pass
threading.Thread(target=watch, daemon=True).start()
sys.stdin.readline()
begun = time.perf_counter()
assert not writer.close()
print(time.perf_counter() - begun, peak / 1000)
"""

REPLAY = """
import sys
from pathlib import Path
from bakeoff.run_files.run_dir import RunDir
from bakeoff.tracking.replay import replay_run
replay_run(RunDir(Path(sys.argv[1])), uri=sys.argv[2])
"""

CLIENT = """
import json, sys
from pathlib import Path
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
uri, batch = sys.argv[2], int(sys.argv[3])
client = MlflowClient(uri)
experiment = client.get_experiment_by_name("client")
experiment = experiment.experiment_id if experiment else client.create_experiment("client")
for folder in map(Path, sys.argv[1].split(",")):
    run = client.create_run(experiment).info.run_id
    metrics = []
    for line in map(json.loads, (folder / "journal.jsonl").read_text().splitlines()):
        if line["kind"] == "params":
            client.log_batch(run, params=[Param(k, v) for k, v in line["values"].items()])
        elif line["kind"] == "tags":
            client.log_batch(run, tags=[RunTag(k, v) for k, v in line["values"].items()])
        elif line["kind"] == "artifact":
            client.log_artifact(run, str(folder / line["path"]))
        elif line["kind"] == "metrics":
            metrics += [Metric(k, v, line["ts"], line["step"]) for k, v in line["values"].items()]
            if len(metrics) >= batch:
                client.log_batch(run, metrics=metrics)
                metrics = []
        elif line["kind"] == "model":
            import mlflow.pytorch, numpy as np, torch
            mlflow.set_tracking_uri(uri)
            net = torch.nn.Sequential(torch.nn.Conv2d(3, 64, 3), torch.nn.Flatten(), torch.nn.Linear(57600, 10)).eval()
            example = np.zeros((2, 3, 32, 32), dtype=np.float32)
            with mlflow.start_run(run):
                mlflow.pytorch.log_model(net, name="model", input_example=example, serialization_format="pt2")
    if metrics:
        client.log_batch(run, metrics=metrics)
    client.set_terminated(run)
"""
"""Logs what journals hold, as a user would: folders, store, and how many points a call takes."""


def child_usage(command: list[str], **options: Any) -> tuple[float, float, float, str]:
    """Run a command, and return its wall and CPU seconds, those of its children included, its memory in MB, and what it printed."""
    begun = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, **options) as process:
        assert process.stdout is not None
        printed = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, f"{command[2][:60]!r} ended with {process.returncode}"
    return time.perf_counter() - begun, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1000, printed


def new_run(root: Path) -> RunDir:
    """Return the folder of a new run."""
    return RunDir.create(root, config_text="seed: 1\n", job=RunManifest(id=new_run_id(), name="adam", experiment="writer"))


def train(folder: RunDir, *, pause: float) -> float:
    """Write what a run of ten epochs writes, with a net of 578,000 weights, and return the CPU seconds that writing the net took."""
    from torch import nn

    from bakeoff.training.model_files import write_model_files

    with folder.locked(), Journal(folder.journal) as journal:
        journal.start(folder.read_job())
        journal.artifact("config.yaml")
        journal.params({f"group.key{i}": i for i in range(80)})
        for epoch in range(EPOCHS):
            for step in range(epoch * STEPS, (epoch + 1) * STEPS):
                journal.metrics({"train/loss": 1 / (step + 1), "train/accuracy": 0.5, "lr": 0.1, "grad_norm": 1.0}, step=step)
            journal.metrics({"val/loss": 0.5, "val/accuracy": 0.5}, step=epoch)
            time.sleep(pause)
        net = nn.Sequential(nn.Conv2d(CHANNELS, 64, 3), nn.Flatten(), nn.Linear(57600, CLASSES)).eval()
        begun = time.process_time()
        write_model_files(folder, net, input_shape=(CHANNELS, SIZE, SIZE))
        traced = time.process_time() - begun
        (folder.checkpoints / "last.ckpt").write_bytes(os.urandom(5_000_000))
        journal.model(input_shape=(CHANNELS, SIZE, SIZE), classes=CLASSES, requirements=["torch==2.14.1"])
        journal.artifact("checkpoints/last.ckpt", artifact_path="checkpoints")
        journal.end("FINISHED")
    return traced


def measure_run() -> dict[str, float]:
    """Measure the writer beside one run, and MLflow's client with the same run after it."""
    with tempfile.TemporaryDirectory() as place:
        root, uri = Path(place) / "runs", default_uri(Path(place))
        folder = new_run(root)
        command = [sys.executable, "-c", WRITER, str(root), uri]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdin is not None
            process.stdout.readline()
            traced = train(folder, pause=EPOCH_SECONDS)
            (pid,) = map(int, Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split())
            ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15]
            process.stdin.write("\n")
            process.stdin.flush()
            wait, memory = map(float, process.stdout.readline().split())
            _, _, usage = os.wait4(process.pid, 0)
            process.returncode = 0
        beside = sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
        empty = child_usage([sys.executable, "-c", "from bakeoff.training.writer import Writer"])
        cpu = usage.ru_utime + usage.ru_stime - empty[1]
        _, client_cpu, client_memory, _ = child_usage([sys.executable, "-c", CLIENT, str(folder.path), uri, "200"])
        return {
            "writer CPU, s": cpu,
            "of that beside the training, s": beside,
            "CPU of the process that trained, for the net, s": traced,
            "wait at the end, s": wait,
            "writer memory, MB": memory,
            "client CPU, s": client_cpu,
            "client memory, MB": client_memory,
            "CPU over client": cpu / client_cpu,
            "memory over client": memory / client_memory,
        }


def measure_points(uri: str | None, *, points: int) -> dict[str, float]:
    """Measure a replay of many points, its start and end included, and MLflow's client with as many, in batches of 1,000 and of 4."""
    with tempfile.TemporaryDirectory() as place:
        root, address = Path(place) / "runs", uri or default_uri(Path(place))
        ensure_schema(address)
        rates = {}
        for name, code, number, arguments in (
            ("writer", REPLAY, points, ()),
            ("client, 1,000 a call", CLIENT, points // 5, ("1000",)),
            ("client, a call a step", CLIENT, points // 50, ("4",)),
        ):
            folder = new_run(root)
            with Journal(folder.journal) as journal:
                journal.start(folder.read_job())
                for step in range(number // 4):
                    journal.metrics({"train/loss": 1 / (step + 1), "train/accuracy": 0.5, "lr": 0.1, "grad_norm": 1.0}, step=step)
                journal.end("FINISHED")
            seconds, *_ = child_usage([sys.executable, "-c", code, str(folder.path), address, *arguments])
            rates[f"{name}, points/s"] = number / seconds
        rates["writer over client, 1,000 a call"] = rates["writer, points/s"] / rates["client, 1,000 a call, points/s"]
        return rates


def main() -> int:
    """Measure, and print a table and JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--uri", help="a server or a database; without it: SQLite, and the costs of a run")
    parser.add_argument("--points", type=int, default=200_000)
    args = parser.parse_args()
    figures = {} if args.uri else measure_run()
    figures |= measure_points(args.uri, points=args.points)
    for name, value in figures.items():
        print(f"{name:<48} {value:>10,.2f}")
    print(json.dumps({"figures": {name: round(value, 3) for name, value in figures.items()}, "load": round(os.getloadavg()[0], 2)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
