"""Texts of users and strangers reach the terminal spelt out: names of arms, runs and choices, questions, advice."""

from __future__ import annotations

import ast
import io
import json
from pathlib import Path

import pytest
import yaml
from rich.console import Console

import bakeoff
from bakeoff.commands.check import print_tables
from bakeoff.commands.main import main
from bakeoff.diagnostics.checks.check_context import CheckResult
from bakeoff.errors import echo
from bakeoff.sweep.arm_progress import ArmProgress
from bakeoff.sweep.plan import make_plan
from bakeoff.sweep.progress import SweepProgress, progress_table

HOSTILE = "own\x1b[2J\x9b31m\r\u202e[/bold][link=http://x]y"
SOURCES = Path(bakeoff.__file__).parent


def is_spelt_out(text: str) -> bool:
    return r"own\x1b[2J\x9b31m\r\u202e[/bold][link=http://x]y" in text and not set(text) & set("\x1b\x9b\r\u202e")


def names_called(node: ast.AST) -> set[str]:
    calls = [call.func for call in ast.walk(node) if isinstance(call, ast.Call)]
    return {func.id if isinstance(func, ast.Name) else func.attr for func in calls if isinstance(func, ast.Name | ast.Attribute)}


def test_all_output_goes_through_one_function() -> None:
    for path in SOURCES.rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        for call in ast.walk(ast.parse(source)):
            if not isinstance(call, ast.Call):
                continue
            where, arguments = f"{path}:{call.lineno}", [name for argument in call.args for name in names_called(argument)]
            if isinstance(call.func, ast.Name) and call.func.id == "print":
                is_constant = all(isinstance(argument, ast.Constant | ast.BinOp) for argument in call.args)
                assert is_constant or {"printable", "dumps"} & set(arguments) or path.name == "reproduce.py", where
            elif isinstance(call.func, ast.Name) and call.func.id == "Text" and "from rich" in source:
                assert "printable" in arguments or isinstance(call.args[0], ast.Attribute), where
            elif isinstance(call.func, ast.Attribute) and call.func.attr == "write":
                assert not ast.unparse(call.func.value).startswith(("sys.stdout", "sys.stderr")), where


def test_echo(capsys: pytest.CaptureFixture[str]) -> None:
    echo(HOSTILE)
    echo(HOSTILE, err=True)
    out, err = capsys.readouterr()
    assert is_spelt_out(out) and is_spelt_out(err)


def test_the_table_of_a_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tree = {"question": HOSTILE, "factors": {"optimizer": ["sgd", "adam"]}, "metric": "val/accuracy"}
    Path("own.yaml").write_text(yaml.safe_dump(tree))
    plan = make_plan("own.yaml")
    progress = ArmProgress(HOSTILE, HOSTILE, planned=1, seeds=1, setting={f"optimizer.{HOSTILE}": HOSTILE})
    screen = io.StringIO()
    Console(file=screen, width=800).print(progress_table(plan, [progress]))
    lines = [line for line in screen.getvalue().splitlines() if "own" in line]
    assert len(lines) == 2 and lines[0].startswith(r"own\x1b[2J\x9b31m \u202e[/bold][link=http://x]y") and is_spelt_out(lines[1]), lines
    display = SweepProgress(plan, workers=1)
    display.console = Console(file=screen, width=800)
    display.event({"name": HOSTILE, "status": "failed", "reason": HOSTILE, "params": {"a": HOSTILE}}, [progress])
    assert screen.getvalue().splitlines()[-1].count("own") == 3 and is_spelt_out(screen.getvalue().splitlines()[-1])


def test_the_tables_of_a_check(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "800")
    print_tables([CheckResult("data", "look", HOSTILE, HOSTILE, HOSTILE)], [[HOSTILE] * 8])
    assert all(is_spelt_out(line) for line in capsys.readouterr().out.splitlines() if "own" in line)


def test_lists_and_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "conf" / "activation" / "mine.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(f"about: {json.dumps(HOSTILE)}\n_target_: torch.nn.ReLU\n")
    (tmp_path / "conf" / "activation" / "\x1b[2J.yaml").write_text("_target_: torch.nn.ReLU\n")
    assert main(["list", "activation", "--config-dir", "conf"]) == 0
    out, _ = capsys.readouterr()
    assert is_spelt_out(out) and r"  \x1b[2J" in out
    for line in (
        [HOSTILE],
        ["train", HOSTILE],
        ["train", f"optimizer={HOSTILE}"],
        ["report", HOSTILE],
        ["sweep", HOSTILE],
        ["show", HOSTILE],
    ):
        assert main(line) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.count("\n") == 1 and not set(err) & set("\x1b\x9b\r\u202e"), err


def test_a_terminal_that_knows_few_letters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "conf" / "activation" / "mine.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("about: größer als ½\n_target_: torch.nn.ReLU\n", encoding="utf-8")
    screen = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", screen)
    assert main(["list", "activation", "--config-dir", str(tmp_path / "conf")]) == 0
    screen.seek(0)
    assert r"gr\xf6\xdfer als \xbd" in screen.read()
