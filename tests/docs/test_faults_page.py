"""docs/faults.md names every test file of faults and hostile inputs, and only files that are there."""

from __future__ import annotations

import re
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]


def test_every_promise_has_tests_and_every_test_a_promise() -> None:
    page = (TOP / "docs" / "faults.md").read_text(encoding="utf-8")
    rows = [row for row in page.splitlines() if row.startswith("| ") and row != "| promise | test |"]
    named = {path for row in rows for path in re.findall(r"`([\w/]+\.py)`", row.split("|")[2])}
    assert all(re.search(r"`[\w/]+\.py`", row.split("|")[2]) for row in rows)
    assert [path for path in sorted(named) if not (TOP / path).is_file()] == []
    files = {str(path.relative_to(TOP)) for room in ("faults", "hostile") for path in (TOP / "tests" / room).glob("test_*.py")}
    assert sorted(files - named) == []
