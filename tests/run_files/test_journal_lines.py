from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bakeoff.errors import FolderError
from bakeoff.run_files.journal import Journal, NullJournal, read_journal, scan_journal
from bakeoff.run_files.run_dir import RunDir
from bakeoff.run_files.system_metrics import SystemMetricsSampler


def kinds(path: Path) -> list[str]:
    return [line["kind"] for line in read_journal(path)]


def test_every_kind_of_line(make_folder: Callable[..., RunDir]) -> None:
    folder = make_folder(kind="trial", tags={"sweep": "s"})
    with Journal(folder.journal) as journal:
        assert not journal.resumed
        journal.start(folder.read_job())
        journal.params({"lr": 0.1, "net": None})
        journal.tags({"note": "x"})
        journal.metrics({"a": 0.1 + 0.2}, step=3)
        journal.dataset("digits", digest="d", source="scikit-learn", context="training", profile={"n": 5})
        journal.artifact("config.yaml", artifact_path="recipe")
        journal.model(input_shape=(1, 8, 8), classes=10, requirements=["torch"])
        journal.end("FAILED", reason="two\nlines")
    lines = list(read_journal(folder.journal))
    assert [line["kind"] for line in lines] == ["start", "params", "tags", "metrics", "dataset", "artifact", "model", "end"]
    assert lines[0]["tags"] == {"sweep": "s", "kind": "trial"} and lines[1]["values"] == {"lr": "0.1", "net": "None"}
    assert lines[3]["values"]["a"] == 0.1 + 0.2  # to the last bit
    assert lines[-1]["reason"] == "two lines"


def test_resumed_journal_keeps_each_step_once(make_folder: Callable[..., RunDir]) -> None:
    path = make_folder().journal
    with Journal(path) as journal:
        journal.start(make_folder().read_job())
        for step in range(5):
            journal.metrics({"a": step}, step=step)
        journal.metrics({"b": 1}, step=2)
    with Journal(path) as journal:
        assert journal.resumed and journal.last_step("a") == 4 and journal.last_step("c") is None
        for step in range(3, 8):
            journal.metrics({"a": step, "b": step}, step=step)
        journal.metrics({"a": 9}, step=0)
    points = [(k, line["step"], v) for line in read_journal(path) if line["kind"] == "metrics" for k, v in line["values"].items()]
    assert sorted(p for p in points if p[0] == "a") == [("a", s, float(s)) for s in range(8)]
    assert sorted(p for p in points if p[0] == "b") == [("b", 2, 1.0), *(("b", s, float(s)) for s in range(3, 8))]


@pytest.mark.parametrize("cut", range(1, 40, 3))
def test_torn_last_line_costs_that_line_only(make_folder: Callable[..., RunDir], cut: int) -> None:
    path = make_folder().journal
    with Journal(path) as journal:
        journal.metrics({"a": 1}, step=1)
        journal.metrics({"a": 2}, step=2)
    os.truncate(path, path.stat().st_size - cut)
    before = len(list(read_journal(path)))
    with Journal(path) as journal:
        journal.metrics({"a": 2}, step=2)
        journal.metrics({"a": 3}, step=3)
    steps = [line["step"] for line in read_journal(path)]
    assert before == 1 and steps == [1, 2, 3]


def test_garbage_in_the_middle_is_left_out(make_folder: Callable[..., RunDir]) -> None:
    path = make_folder().journal
    good = b'{"kind": "tags", "values": {}}'
    path.write_bytes(b"\n".join([b"", b"\xff\xfe", good, b"[1]", b'{"step": 1}', b'{"kind": 3}', good, b'{"kind": "ta']))
    assert kinds(path) == ["tags", "tags"]
    assert [line is None for _, line in scan_journal(path)] == [True, True, False, True, True, True, False]
    middle = next(end for end, line in scan_journal(path) if line)
    assert sum(line is not None for _, line in scan_journal(path, offset=middle)) == 1


def test_nonfinite_is_a_string_and_a_tag_of_its_first_step(make_folder: Callable[..., RunDir]) -> None:
    path = make_folder().journal
    with Journal(path) as journal:
        journal.metrics({"loss": math.inf, "x": 1.0}, step=4)
        journal.metrics({"loss": math.nan}, step=5)
    with Journal(path) as journal:
        journal.metrics({"loss": -math.inf}, step=6)
    lines = list(read_journal(path))
    assert [line["values"].get("loss") for line in lines if line["kind"] == "metrics"] == ["inf", "nan", "-inf"]
    assert [line["values"] for line in lines if line["kind"] == "tags"] == [{"nonfinite/loss": "4"}]
    assert all(json.loads(raw, parse_constant=pytest.fail) for raw in path.read_text().splitlines())


def test_one_write_a_line(make_folder: Callable[..., RunDir], monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(make_folder().journal)
    sizes: list[int] = []
    real = os.write

    def counted(fd: int, data: bytes) -> int:
        sizes.append(data.count(b"\n"))
        return real(fd, data)

    monkeypatch.setattr(os, "write", counted)
    journal.metrics({f"layer/{i}": i for i in range(5000)}, step=1)
    assert sizes == [1]


def test_full_disk_is_told_and_does_not_spoil_the_next_line(make_folder: Callable[..., RunDir], monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_folder().journal
    journal = Journal(path)
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:10]))
    with pytest.raises(FolderError, match="full"):
        journal.metrics({"a": 1}, step=1)
    monkeypatch.setattr(os, "write", real)
    journal.metrics({"a": 2}, step=2)
    assert [line["step"] for line in read_journal(path)] == [2]


def test_artifact_must_lie_in_the_folder(make_folder: Callable[..., RunDir], tmp_path: Path) -> None:
    folder = make_folder()
    with Journal(folder.journal) as journal, pytest.raises(ValueError, match="not in the subpath"):
        journal.artifact(tmp_path / "mlflow.db")


def test_null_journal_writes_nothing(make_folder: Callable[..., RunDir]) -> None:
    folder = make_folder()
    with NullJournal() as journal:
        journal.start(folder.read_job())
        journal.metrics({"a": math.nan}, step=1)
        journal.artifact("/etc/hosts")
        journal.end("FINISHED")
    assert not folder.journal.exists()


def test_sampler_writes_mlflows_names_and_goes_on_after_a_resume(make_folder: Callable[..., RunDir]) -> None:
    import time

    path = make_folder().journal
    for _ in range(2):
        with Journal(path) as journal, SystemMetricsSampler(journal, every=0.02):
            before = len(list(read_journal(path)))
            until = time.monotonic() + 10
            while len(list(read_journal(path))) < before + 2 and time.monotonic() < until:
                time.sleep(0.01)
    lines = list(read_journal(path))
    assert [line["step"] for line in lines] == list(range(len(lines))) and len(lines) >= 4
    assert 0 <= lines[0]["values"]["system/cpu_utilization_percentage"] <= 100
    assert 0 < lines[0]["values"]["system/process_memory_usage_megabytes"] < lines[0]["values"]["system/system_memory_usage_megabytes"] * 10
