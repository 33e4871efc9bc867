"""A killed fork server is started again as it was, and a sweep ends as if nothing had been."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

Start = Callable[..., subprocess.Popen[str]]
Finish = Callable[..., tuple[int, str, str]]
PROGRAM = """
import json, os, signal
from multiprocessing import forkserver
from bakeoff.training.processes import RUN_DIR_VARIABLE, THREAD_VARIABLES, forkserver_context

NAMES = (*THREAD_VARIABLES, "PYTHONSAFEPATH", "RANK", RUN_DIR_VARIABLE)

def say(pipe):
    import torch
    pipe.send([torch.get_num_threads(), *map(os.environ.get, NAMES)])

def ask(context):
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=say, args=(sender,))
    process.start()
    sender.close()
    answer = receiver.recv()
    process.join()
    return answer

if __name__ == "__main__":
    os.environ.update({"RANK": "1", RUN_DIR_VARIABLE: "other"})
    context = forkserver_context(threads=1, preload=("torch",))
    answers = [ask(context)]
    for _ in range(2):
        pid = forkserver._forkserver._forkserver_pid
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        answers.append(ask(context))
    print(json.dumps([answers, os.environ.get("OMP_NUM_THREADS"), os.environ["RANK"]]))
"""


def test_a_fork_server_is_started_again_with_the_same_variables(work_folder: Path) -> None:
    (work_folder / "program.py").write_text(PROGRAM)
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    done = subprocess.run([sys.executable, "program.py"], env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    answers, threads, rank = json.loads(done.stdout)
    assert answers == [[1, "1", "1", "1", "1", None, None]] * 3 and (threads, rank) == (None, "1")


def fork_servers(process: subprocess.Popen[str]) -> list[psutil.Process]:
    children = psutil.Process(process.pid).children()
    return [child for child in children if any("forkserver import main" in word for word in child.cmdline())]


def results() -> dict[str, Any]:
    """Run -> what its result says, but times."""
    trees = [json.loads(path.read_text()) for path in Path("runs").glob("*/*/result.json")]
    return {tree["name"]: [tree["status"], tree["metrics"], tree["best"], tree["steps"]] for tree in trees}


@pytest.mark.slow
def test_a_sweep_whose_fork_server_is_killed_ends_as_its_twin(
    start: Start, finish: Finish, work_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _, err = finish("sweep", "small", "workers=2")
    assert code == 0, err
    whole = results()
    twin = work_folder / "twin"
    twin.mkdir()
    (twin / "sweeps").symlink_to(work_folder / "sweeps")
    monkeypatch.chdir(twin)
    process, kills = start("sweep", "small", "workers=2"), 0
    while process.poll() is None:
        time.sleep(0.05)
        if kills < 2 and len(results()) >= 2 * kills:
            for server in fork_servers(process):
                server.kill()
                kills += 1
    _, err = process.communicate()
    assert process.returncode == 0 and "Traceback" not in err and kills == 2, err
    assert len(whole) == 8 and results() == whole
