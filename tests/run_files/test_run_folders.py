from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bakeoff.errors import BusyError, FolderError, NotFoundError
from bakeoff.run_files import file_locks
from bakeoff.run_files.atomic import write_atomic
from bakeoff.run_files.run_dir import RunDir, RunManifest, find_run_dir, iter_run_dirs, new_run_id


def test_job_survives_its_file(make_folder: Callable[..., RunDir]) -> None:
    folder = make_folder(kind="trial", tags={"sweep": "quickstart"}, export_model=True, tracking_uri="http://localhost:5000")
    job = folder.read_job()
    assert (job.kind, job.tags, job.export_model, job.tracking_uri) == ("trial", {"sweep": "quickstart"}, True, "http://localhost:5000")
    assert RunManifest.from_json(job.to_json()) == job


@pytest.mark.parametrize("text", ["{", "[]", '{"id": "xyz", "name": "a", "experiment": "b"}', '{"name": "a"}'])
def test_damaged_job_is_told_in_one_line(make_folder: Callable[..., RunDir], text: str) -> None:
    folder = make_folder()
    folder.job.write_text(text)
    with pytest.raises(FolderError, match=r"vgg11_adam-[0-9a-f]{12}: job\.json is damaged"):
        folder.read_job()


def test_folder_is_named_after_run_and_is_whole(make_folder: Callable[..., RunDir], tmp_path: Path) -> None:
    folder = make_folder(name="vgg/11 lr=0.1", experiment="../up")
    assert folder.path.parent.parent == tmp_path / "runs"
    assert folder.path.name.startswith("vgg_11_lr=0.1-")
    assert folder.config.read_text() == "seed: 1\n" and folder.checkpoints.is_dir()
    assert not [p for p in folder.path.parent.iterdir() if p.name.startswith(".")]


def test_unwritable_folder_names_the_key_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FolderError, match=r"^tracking\.folder=.*file.*: cannot make a run folder there"):
        RunDir.create(tmp_path / "file", config_text="", job=RunManifest(new_run_id(), "a", "b"))


def test_find_by_id_prefix_and_near_miss(make_folder: Callable[..., RunDir], tmp_path: Path) -> None:
    one, two = make_folder(id="abcdef012345"), make_folder(id="abcdef999999")
    root = tmp_path / "runs"
    assert find_run_dir(root, "abcdef012345") == one and find_run_dir(root, "abcdef9") == two
    assert set(iter_run_dirs(root)) == {one, two}
    with pytest.raises(NotFoundError, match="2 runs"):
        find_run_dir(root, "abcdef")
    with pytest.raises(NotFoundError, match="did you mean abcdef012345"):
        find_run_dir(root, "abcdef012344")
    with pytest.raises(NotFoundError):
        find_run_dir(root, "abcde")
    with pytest.raises(NotFoundError):
        find_run_dir(tmp_path / "nowhere", "abcdef012345")


def test_result_is_none_until_written_whole(make_folder: Callable[..., RunDir]) -> None:
    folder = make_folder()
    assert folder.read_result() is None
    folder.write_result({"id": "a", "name": "b", "status": "finished", "metrics": {"val/accuracy": 0.5}})
    assert folder.read_result() == {"id": "a", "name": "b", "status": "finished", "metrics": {"val/accuracy": 0.5}}
    folder.result.write_text('{"status": ')
    with pytest.raises(FolderError, match=r"result\.json"):
        folder.read_result()


def test_failed_atomic_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    write_atomic(path, "old")

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, "new")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_second_process_is_told_who_trains(make_folder: Callable[..., RunDir]) -> None:
    folder = make_folder()
    code = (
        "import sys; from pathlib import Path; from bakeoff.run_files.run_dir import RunDir\n"
        "with RunDir(Path(sys.argv[1])).locked(): print('held', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen([sys.executable, "-c", code, str(folder.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        assert folder.busy()
        with pytest.raises(BusyError, match=f"is being trained by pid {other.pid}$"), folder.locked():
            pass
    finally:
        other.kill()
        other.communicate()
    assert not folder.busy()  # a killed process leaves no lock behind
    with folder.locked():
        assert folder.busy()


def test_a_lock_that_is_a_link_leaves_its_target_alone(make_folder: Callable[..., RunDir], tmp_path: Path) -> None:
    folder, target = make_folder(), tmp_path / "target"
    target.write_text("precious")
    folder.lock.symlink_to(target)
    for lock in (folder.locked(), file_locks.hold_lock(folder.lock)):
        with pytest.raises(FolderError, match=r"/lock: cannot be locked: "), lock:
            pass
    assert target.read_text() == "precious"


def test_a_lock_keeps_out_processes_that_lock_the_file_without_filelock(make_folder: Callable[..., RunDir]) -> None:
    folder = make_folder()
    folder.lock.write_text("4242\n")  # as an earlier version held it
    with open(folder.lock, "r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert folder.busy()
        with pytest.raises(BusyError, match=r"by pid 4242$"), folder.locked():
            pass
    with folder.locked(), open(folder.lock) as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert folder.lock.read_text() == f"{os.getpid()}\n"


def test_light_to_import() -> None:
    code = "import sys, bakeoff.run_files.journal, bakeoff.run_files.run_dir, bakeoff.run_files.provenance, bakeoff.training.writer, json\n"
    code += "print(json.dumps([m for m in ('torch', 'mlflow', 'pandas', 'numpy') if m in sys.modules]))"
    assert json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout) == []
