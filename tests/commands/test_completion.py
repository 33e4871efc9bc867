"""The shell completes the words of the command that stands on the line, and of no other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bakeoff.commands.main import COMMANDS, main

ASK = """
bakeoff() { "%s" -P -m bakeoff.commands.main "$@"; }
%s
COMP_LINE=$1; COMP_POINT=${#1}; read -ra COMP_WORDS <<< "$1"
[[ $1 == *' ' ]] && COMP_WORDS+=('')
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_bakeoff
echo "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("bakeoff ", list(COMMANDS)),
        ("bakeoff check model=vgg19", ["model=vgg19", "model=vgg19_bn"]),
        ("bakeoff train optimizer=adamw", ["optimizer=adamw"]),
        ("bakeoff sweep qui", ["quickstart"]),
        ("bakeoff sweep quickstart optimizer.l", ["optimizer.lr="]),
        ("bakeoff sweep trai", []),
        ("bakeoff schema run ", []),
        ("bakeoff list optimizer adamw", ["adamw"]),
        ("bakeoff completion ", ["bash", "zsh"]),
    ],
)
def test_words_are_those_of_the_command(line: str, expected: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "bash"]) == 0
    script = tmp_path / "ask.sh"
    script.write_text(ASK % (sys.executable, capsys.readouterr().out), encoding="utf-8")
    answer = subprocess.run(["bash", str(script), line], capture_output=True, text=True, check=True)
    assert answer.stdout.split() == expected, answer.stderr
