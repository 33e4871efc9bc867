"""docs/choices.md has every choice with its own words: as `bakeoff list` prints them, so that the page cannot lag behind conf/."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bakeoff.commands.list import about_choices
from bakeoff.config.slots import SLOTS

TOP = Path(__file__).resolve().parents[2]
PAGE = (TOP / "docs" / "choices.md").read_text(encoding="utf-8")
README = (TOP / "README.md").read_text(encoding="utf-8")
GROUPS = (*SLOTS, "experiment", "sweep")


def rows(group: str) -> str:
    """A group's table, as the page has to hold it."""
    lines = [f"| `{name}` | {about.replace('|', chr(92) + '|')} |" for name, about in about_choices(group, None).items()]
    return "\n".join([f"| `{group}` | |" if group == "sweep" else f"| `{group}=` | |", "|---|---|", *lines]) + "\n"


@pytest.mark.parametrize("group", GROUPS)
def test_the_page_has_every_choice_in_its_own_words(group: str) -> None:
    assert rows(group) in PAGE, f"docs/choices.md lags behind; its table of {group} is now\n{rows(group)}"


def test_the_page_has_no_other_choice() -> None:
    assert set(re.findall(r"^\| `(\w+)=?` \| \|$", PAGE, flags=re.MULTILINE)) == set(GROUPS)
    named = re.findall(r"^\| `(\w+)` \| [^\s|]", PAGE, flags=re.MULTILINE)
    assert len(named) == sum(len(about_choices(group, None)) for group in GROUPS)


def test_the_readme_has_every_sweep_with_its_question() -> None:
    found = dict(re.findall(r"^\| `bakeoff sweep (\w+)` \| (.*?) \|", README, flags=re.MULTILINE))
    assert found == about_choices("sweep", None)
