"""The house itself: which room may import which, what stays light, how long a file is, and that links lead somewhere."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
SOURCE = TOP / "src" / "bakeoff"
FILES = sorted(SOURCE.rglob("*.py"))
CODE = [*FILES, *sorted((TOP / "tests").rglob("*.py")), *sorted((TOP / "benchmarks").rglob("*.py"))]
PAGES = [TOP / "README.md", TOP / "CONTRIBUTING.md", *sorted((TOP / "docs").rglob("*.md"))]
LONGEST = 300

TIERS = (
    {"errors", "slots", "seeds"},
    {"recipe", "nets", "arms", "data"},
    {"composition", "door", "build", "tracking"},
    {"reproduction", "training", "diagnostics", "sweep", "report"},
    {"commands", "bakeoff"},
)
"""Rooms from the ground up: a room imports what stands below it, or beside it."""

FORBIDDEN = {
    "nets": {"recipe", "arms", "data"},
    "arms": {"recipe", "nets", "data"},
    "data": {"recipe", "nets", "arms"},
    "recipe": {"nets", "arms", "data"},
    "composition": {"tracking"},
    "tracking": {"build", "composition", "nets", "arms", "data"},
    "report": {"sweep", "training", "build", "composition"},
    "reproduction": {"training", "sweep", "report"},
}
"""Of what stands below or beside, what a room leaves alone all the same."""

UPWARD: dict[tuple[str, str], str] = {}
"""Imports inside a function that go up on purpose: (room, room) -> why."""

HOMES = {
    "mlflow": {"tracking/", "training/preload.py"},
    # A report starts from the store alone, so importances put the stored trials into a study in memory.
    "optuna": {"sweep/study.py", "report/importance.py"},
    "hydra": {"composition.py", "build.py", "commands/"},
    "pytorch_lightning": {"training/", "data/module.py", "diagnostics/"},
    "torchvision": {"data/", "diagnostics/", "training/"},
}
"""Which files may import a library at all."""

HEAVY = ("torch", "pytorch_lightning", "torchvision", "mlflow", "optuna", "scipy", "sklearn", "plotly", "pandas", "numpy")


def statements(path: Path) -> Iterator[tuple[str, bool]]:
    """Every module that a file imports when it runs (not for type checkers alone), and whether it does so at its top level."""

    def walk(node: ast.AST, top: bool) -> Iterator[tuple[str, bool]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            if isinstance(child, ast.Import):
                yield from ((alias.name, top) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0 and child.module is not None, f"{path}: relative import"
                whole = child.module == "bakeoff"
                yield from ((f"bakeoff.{alias.name}" if whole else child.module, top) for alias in child.names)
            else:
                yield from walk(child, top and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef))

    return walk(ast.parse(path.read_text(encoding="utf-8")), True)


def room(name: str) -> str:
    """The room of a file (relative to the package) or of a dotted module."""
    parts = name.removesuffix(".py").split("/") if "/" in name or name.endswith(".py") else name.split(".")[1:]
    return "bakeoff" if not parts or parts[0] == "__init__" else parts[0]


def tier(name: str) -> int:
    found = [height for height, rooms in enumerate(TIERS) if name in rooms]
    assert found, f"bakeoff.{name} is a room that the house's plan does not know: give it a tier"
    return found[0]


def arrows() -> Iterator[tuple[str, str, str]]:
    """(file, its room, the room that it imports), of different rooms."""
    for path in FILES:
        here = path.relative_to(SOURCE).as_posix()
        for module, _ in statements(path):
            if module.split(".")[0] == "bakeoff" and room(module) != room(here):
                yield here, room(here), room(module)


def test_arrows_run_one_way() -> None:
    found = [
        f"{file} imports {there}"
        for file, here, there in arrows()
        if (tier(there) > tier(here) or there in FORBIDDEN.get(here, set())) and (here, there) not in UPWARD
    ]
    assert not found


def test_rooms_of_one_height_do_not_import_each_other_in_a_circle() -> None:
    edges = {(here, there) for _, here, there in arrows() if (here, there) not in UPWARD}
    reach = set(edges)
    while more := {(a, d) for a, b in reach for c, d in edges if b == c} - reach:
        reach |= more
    assert not sorted({tuple(sorted(pair)) for pair in reach if pair[::-1] in reach and pair[0] != pair[1]})


def test_every_exception_is_still_needed() -> None:
    assert set(UPWARD) <= {(here, there) for _, here, there in arrows()}


@pytest.mark.parametrize("library", HOMES)
def test_libraries_stay_in_their_rooms(library: str) -> None:
    found = []
    for path in FILES:
        here = path.relative_to(SOURCE).as_posix()
        if any(module.split(".")[0] == library for module, _ in statements(path)) and not here.startswith(tuple(HOMES[library])):
            found.append(here)
    assert not found


def test_no_import_of_sweep_names_torch() -> None:
    named = {path.name: {module.split(".")[0] for module, _ in statements(path)} for path in (SOURCE / "sweep").glob("*.py")}
    assert named
    assert not {name for name, modules in named.items() if modules & {"torch", "pytorch_lightning"}}


def test_what_must_be_light_imports_nothing_heavy_at_its_top() -> None:
    light = [path for room in ("", "commands", "sweep", "tracking") for path in (SOURCE / room).glob("*.py")]
    found = {
        f"{path.relative_to(SOURCE)}: {module}"
        for path in light
        if path.name != "study.py"
        for module, top in statements(path)
        if top and module.split(".")[0] in HEAVY
    }
    assert not found


MODULES = "import sys; loaded = sorted({name.split('.')[0] for name in sys.modules} & set(%r)); print(*loaded)" % (HEAVY,)  # noqa: UP031


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("--help", 0),
        ("--version", 0),
        ("list", 0),
        ("list optimizer --json", 0),
        ("train --cfg job", 0),
        ("train optimizer=adamm", 2),
        ("train optimizer.lr=-1", 2),
        ("train data.batch_sise=3", 2),
        ("sweep nothing", 2),
        ("sweep quickstart optimizer=adamm", 2),
        ("show", 0),
        ("show nothing", 2),
        ("show activations reach=0", 2),
        ("trian", 2),
    ],
)
def test_light_lines_load_nothing_heavy(line: str, code: int, tmp_path: Path) -> None:
    script = f"""
import contextlib, io
from bakeoff.commands.main import main
err = io.StringIO()
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(err):
    try:
        found = main({line.split()!r})
    except SystemExit as stop:
        found = int(stop.code or 0)
assert found == {code}, (found, err.getvalue())
assert {code} == 0 or err.getvalue().count("\\n") == 1, err.getvalue()
{MODULES}
"""
    ended = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split() == []
    assert not list(tmp_path.iterdir()), "a line that starts nothing leaves nothing behind"


def test_the_package_is_light() -> None:
    ended = subprocess.run([sys.executable, "-c", f"import bakeoff; {MODULES}"], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout.split()) == (0, []), ended.stderr


@pytest.mark.parametrize("path", CODE, ids=[path.relative_to(TOP).as_posix() for path in CODE])
def test_no_file_is_long(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= LONGEST, f"{path.relative_to(TOP)} has {lines} lines"


def test_files_are_nouns_of_the_science() -> None:
    assert not [path for path in CODE if path.stem in {"utils", "util", "helpers", "helper", "common", "misc"}]


@pytest.mark.parametrize("page", PAGES, ids=[page.relative_to(TOP).as_posix() for page in PAGES])
def test_links_lead_to_files(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text) + re.findall(r"<img[^>]+src=\"([^\"]+)\"", text)
    local = [target for target in targets if not re.match(r"[a-z]+:", target)]
    assert not [target for target in local if not (page.parent / target).exists()]
