"""Values that no run or sweep can have: each gets one line and exit code 2 at once, and leaves nothing behind."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from bakeoff.commands.main import main

LINES = [
    ("train data.workers=1000000", "data.workers=1000000: must be less than or equal to 256"),
    ("train trainer.threads=100000000", "trainer.threads=100000000: must be less than or equal to 1024"),
    ("train trainer.devices=500 data.batch_size=500", "trainer.devices=500: must be less than or equal to 64"),
    ("train trainer.max_epochs=10000000000000", "trainer.max_epochs=10000000000000: must be less than or equal to"),
    ("train data.eval_batch_size=99999999999999999999", "data.eval_batch_size=99999999999999999999: must be"),
    ("train data.size=100000000", "data.size=100000000: must be less than or equal to 8192"),
    ("train tracking.system_every=1e-300", "tracking.system_every=1e-300: must be greater than or equal to 0.1"),
    ("train seed=9223372036854775808", "seed=9223372036854775808: must be less than 9223372036854775808"),
    ("train seed=" + "9" * 4301, "a whole number may have 40 digits"),
    ("train name=" + "a" * 300, "must have at most 200 characters"),
    ("train tracking.experiment=" + "a" * 300, "must have at most 200 characters"),
    ("train tracking.folder=" + "a" * 300, "tracking.folder=aaa"),
    ("train data.root=" + "a/" * 5000, "too long"),
    ("train a" + ".a" * 3000 + "=1", "nested too deeply"),
    ("train optimizer.lr=" + "[" * 3000, "nested too deeply"),
    ("train optimizer=sgd.yaml", "optimizer=sgd.yaml: a choice has the name of its file without the ending: optimizer=sgd"),
    ("train optimizer=../optimizer/adam", "optimizer=../optimizer/adam: must be the name of a choice, not a path"),
    ("train optimizer=./adam", "optimizer=./adam: must be the name of a choice, not a path"),
    ("train data.root=~/data", "data.root=~/data: a value that begins with ~ needs quotes, as in \"data.root='~/data'\""),
    ("train --info nosuch", "argument --info/-i: invalid choice: 'nosuch'"),
    ("show optimizers --out /dev/null/x", "--out=/dev/null/x: cannot be written"),
    ("train optimizer=[0,[]]", "optimizer=[0,[]]: must be the name of a choice"),
    ("train optimizer=null", "optimizer=null: must be the name of a choice"),
    ("train ~optimizer.lr", "~optimizer.lr: a key cannot be taken out; give it another value, as in optimizer.lr=VALUE"),
    ("train =1", "=1: not understood"),
    ("train trust=[nosuch]", "trust=[nosuch]: Python finds no module of this name"),
    ("train -cp", "--config-name and --config-path: not supported"),
    ("train --config-path /tmp", "--config-name and --config-path: not supported"),
    ("train --config-name=other", "--config-name and --config-path: not supported"),
    ("train --nosuch", "unrecognized arguments: --nosuch; flags: --json"),
    ("train seed=x --json optimizer=adam", "seed=x: must be integer"),
    ("train -m seed=range(1,0)", "seed=range(1,0): holds no value"),
    ("train -m seed=range(1,3,0)", "seed=range(1,3,0): range() arg 3 must not be zero"),
    ("train -m seed=range(0,1000000000)", "makes more than 10000 runs"),
    ("sweep quickstart budget.trials=1000000000000", "budget.trials=1000000000000: must be less than or equal to 10000"),
    ("sweep quickstart confirm.seeds=1000000000", "confirm.seeds=1000000000: must be less than or equal to 10000"),
    ("sweep quickstart budget.studies=1000000", "budget.studies=1000000: must be less than or equal to 1000"),
    ("sweep quickstart seed=9223372036854775805", "pass 2^63"),
    ("sweep quickstart workers=100000000", "workers=100000000: must be a whole number"),
    ("sweep " + "n" * 300 + ".yaml", "the file's name must be up to 100 letters"),
    ("check -cp", "unrecognized arguments: -cp"),
    ("sync tracking.uri=x", "tracking.uri=x: expected sqlite:///FILE"),
    ("sync tracking.folder=nosuch", "tracking.folder=nosuch: no such folder"),
    ("clean tracking.folder=/dev/null", "tracking.folder=/dev/null: no such folder"),
    ("completion bash x", "bash x: completion supports bash, zsh"),
    ("train hydra.searchpath=[pkg://this]", "hydra.searchpath: is fixed"),
    ("train name=a\0b", "holds a zero byte"),
    ("ui --port abc", "invalid int value: 'abc'"),
]
SWEEPS = {
    "factors: {optimizer: [1]}": "factors.optimizer=1: must be names of choices",
    "factors: {optimizer: [1, 2]}": "factors.optimizer=1: must be names of choices",
    "factors: {optimizer: [no, yes]}": "factors.optimizer=false: must be names of choices",
    "factors: {optimizer: no}": "factors.optimizer=false: must be names of choices",
    "factors: {optimizer: [sgd, adam.yaml]}": "optimizer=adam.yaml: a choice has the name of its file without the ending",
    "factors: {optimizer: [sgd, adam]}\nbudget: {trials: 1e12}": "budget.trials=1000000000000.0: must be integer",
    "factors: {optimizer: [sgd, adam]}\nconfirm: {seeds: 1e9}": "confirm.seeds=1000000000.0: must be",
    "factors: {optimizer: [sgd, adam]}\nconfirm: {seeds: [9223372036854775808]}": "confirm.seeds=[9223372036854775808]: must be",
    "factors: {optimizer: [sgd, adam]}\nconfirm: {seeds: [9223372036854775807]}": "pass 2^63",
    "factors: {optimizer: [sgd, adam]}\ntune: {optimizer.lr: {low: 1, high: " + "9" * 4301 + "}}": "a whole number may have 40 digits",
    f"factors: {{optimizer.lr: [{', '.join(str(i) for i in range(1500))}]}}": "1500 arms, in all blocks together; 1000 are",
    "factors: {optimizer: [sgd, adam]}\n\tfixed: {}": "line 4",
    "factors: [optimizer]": "factors: must be a mapping",
}


def refused(line: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run a line that is to be refused, and return what standard error says."""
    before = sorted(Path().rglob("*"))
    start = time.process_time()
    assert main(line) == 2
    assert time.process_time() - start < 3
    out, err = capsys.readouterr()
    assert (err.count("\n"), err[:9]) == (1, "bakeoff: "), err
    assert out == "" or line[0] == "list", "list shows the choices that it can read"
    assert len(err) < 1500
    assert sorted(Path().rglob("*")) == before
    return err


@pytest.mark.parametrize(("line", "words"), LINES, ids=[line[:40] for line, _ in LINES])
def test_a_line(line: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert words in refused(line.split(" "), capsys)


@pytest.mark.parametrize(("text", "words"), SWEEPS.items(), ids=[text[:40] for text in SWEEPS])
def test_a_sweep_file(text: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(f"question: which?\nmetric: val/accuracy\n{text}\n", encoding="utf-8")
    assert words in refused(["sweep", "mine.yaml", "--plan"], capsys)


def test_a_named_pipe_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own/optimizer").mkdir(parents=True)
    os.mkfifo("own/optimizer/pipe.yaml")
    os.mkfifo("pipe.yaml")
    for line in (["train", "--config-dir", "own"], ["sweep", "pipe.yaml"]):
        assert "pipe.yaml" in refused(line, capsys)


@pytest.mark.parametrize("content", [b"_target_: \xff", b"\t_target_: torch.nn.ReLU", b"a: &a [*a]", b"x: " + b"9" * 4301])
def test_a_choice_file(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own/activation").mkdir(parents=True)
    (tmp_path / "own/activation/mine.yaml").write_bytes(content)
    assert "mine.yaml: line 1" in refused(["train", "activation=mine", "--config-dir", "own"], capsys)
