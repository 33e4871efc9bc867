"""`bakeoff list` and the help pages: what they say, and that every line they print parses."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from bakeoff.commands.main import COMMANDS, main
from bakeoff.commands.train import HELP, parse_flags
from bakeoff.config import compose


def test_a_choice_is_described_with_its_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "optimizer", "adam", "--json"]) == 0
    described = json.loads(capsys.readouterr().out)
    rates = {row["key"]: row for row in described["arguments"]}
    assert described["target"] == "torch.optim.Adam"
    assert rates["optimizer.lr"] == {"key": "optimizer.lr", "default": 5e-4, "valid": "above 0", "searched": "1e-05 to 0.01, log"}
    assert main(["list", "optimizer", "adam"]) == 0
    assert "optimizer.betas         [0.9, 0.999]  at least 0 and below 1" in capsys.readouterr().out


def test_the_default_of_each_slot_is_marked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "optimizer", "model"]) == 0
    marked = [line.split()[0] for line in capsys.readouterr().out.splitlines() if "(default)" in line]
    assert marked == ["momentum", "alexnet_mini"]


def test_a_file_with_a_typo_hides_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "optimizer").mkdir()
    (tmp_path / "optimizer" / "bad.yaml").write_text("_target_: [torch", encoding="utf-8")
    (tmp_path / "optimizer" / "good.yaml").write_text("_target_: torch.optim.SGD\nabout: mine\n", encoding="utf-8")
    assert main(["list", "optimizer", "--config-dir", str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert "mine" in out and "nesterov" in out
    assert err.count("\n") == 1 and "bad.yaml: line " in err


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_help_page(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        assert main([command, "--help"]) == 0
    except SystemExit as exit_request:
        assert exit_request.code == 0
    assert capsys.readouterr().out.startswith(f"usage: bakeoff {command}")


def test_the_page_of_train_fits_a_screen_and_its_examples_compose() -> None:
    lines = HELP.splitlines()
    assert len(lines) <= 30 and max(map(len, lines)) <= 80
    examples = [line.replace("examples", "").strip() for line in lines if line.replace("examples", "").strip().startswith("bakeoff train")]
    assert len(examples) == 6
    for example in examples:
        words = shlex.split(example, comments=True)[2:]
        args = parse_flags(words)
        with compose.hydra_session():
            for job in compose.split_multirun(args.overrides) if args.multirun else [args.overrides]:
                compose.compose_in_session(job)


def test_the_keys_of_the_page_are_keys() -> None:
    keys = set(compose.compose().flat())
    common = HELP.partition("common ")[2].partition("resume=")[0].split()
    assert set(common) <= keys | {"scheduler.warmup"}, set(common) - keys
