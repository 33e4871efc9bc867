"""The layout that CONTRIBUTING.md draws, compared with the imports of the code."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
SOURCE = TOP / "src" / "bakeoff"
FILES = sorted(SOURCE.rglob("*.py"))
CODE = [*FILES, *sorted((TOP / "tests").rglob("*.py")), *sorted((TOP / "benchmarks").rglob("*.py"))]
PAGES = [TOP / "README.md", TOP / "CONTRIBUTING.md", *sorted((TOP / "docs").rglob("*.md"))]
CONTRIBUTING = (TOP / "CONTRIBUTING.md").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Import:
    """One import of a module.

    Attributes:
        module: Dotted name of what is imported.
        top_level: Whether it runs when the importing module is imported.
        type_only: Whether only type checkers see it.
    """

    module: str
    top_level: bool
    type_only: bool


def module_name(path: Path) -> str:
    """Return the dotted name of a source file."""
    return ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in FILES}


@cache
def imports_of(path: Path) -> tuple[Import, ...]:
    """Return every import of a source file, wherever it is."""

    def walk(node: ast.AST, *, top_level: bool, type_only: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            hidden = type_only or (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test))
            if isinstance(child, ast.Import):
                yield from (Import(alias.name, top_level, type_only) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0 and child.module is not None, f"{path}: relative import"
                for alias in child.names:
                    submodule = f"{child.module}.{alias.name}"
                    yield Import(submodule if submodule in MODULES else child.module, top_level, type_only)
            else:
                inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
                yield from walk(child, top_level=top_level and not inside, type_only=hidden)

    return tuple(walk(ast.parse(path.read_text(encoding="utf-8")), top_level=True, type_only=False))


def room_of(module: str) -> str:
    """Return the room of a dotted module name: its package or module right below `bakeoff`."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "bakeoff"


def block_after(heading: str) -> str:
    """Return the first code block behind a heading of CONTRIBUTING.md."""
    match = re.search(rf"^## {re.escape(heading)}$.*?^```\w*\n(.*?)^```$", CONTRIBUTING, flags=re.MULTILINE | re.DOTALL)
    assert match is not None, f"CONTRIBUTING.md has no code block under {heading!r}"
    return match[1]


def layers() -> list[set[str]]:
    """Return the layers of rooms that CONTRIBUTING.md draws, from the top one down."""
    lines = [line.split("#")[0].split() for line in block_after("Layers").splitlines()]
    return [set(rooms) for rooms in lines if rooms]


def table_after(heading: str) -> list[list[str]]:
    """Return the rows of the tables behind a heading of CONTRIBUTING.md, without their heads."""
    section = CONTRIBUTING.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = section.splitlines()
    rows = [
        line.strip("|").split("|")
        for line, following in zip(lines, [*lines[1:], ""], strict=True)
        if line.startswith("|") and not line.startswith("|---") and not following.startswith("|---")
    ]
    return [[cell.strip() for cell in row] for row in rows]


LAYERS = layers()
RULES = [(row[0].strip("`"), set(re.findall(r"`(\w+)`", row[1]))) for row in table_after("Never imported")]
LIBRARIES = {row[0].strip("`"): tuple(re.findall(r"`([\w./]+)`", row[1])) for row in table_after("Libraries")}


def depth(room: str) -> int:
    """Return the number of a room's layer, 0 at the top."""
    numbers = [number for number, rooms in enumerate(LAYERS) if room in rooms]
    assert len(numbers) == 1, f"CONTRIBUTING.md names {room} in {len(numbers)} layers"
    return numbers[0]


def test_every_room_has_a_layer() -> None:
    assert {room_of(name) for name in MODULES} == set().union(*LAYERS)


def test_rooms_import_only_layers_below() -> None:
    upward = {
        (module_name(path), target.module)
        for path in FILES
        for target in imports_of(path)
        if target.module.split(".")[0] == "bakeoff"
        and room_of(target.module) != room_of(module_name(path))
        and depth(room_of(target.module)) <= depth(room_of(module_name(path)))
    }
    assert not upward


@pytest.mark.parametrize(("room", "forbidden"), RULES)
def test_what_a_room_never_imports(room: str, forbidden: set[str]) -> None:
    assert forbidden
    broken = {
        f"{module_name(path)} imports {target.module}"
        for path in FILES
        if room_of(module_name(path)) == room
        for target in imports_of(path)
        if target.module.split(".")[0] in forbidden or (target.module.startswith("bakeoff.") and room_of(target.module) in forbidden)
    }
    assert not broken


def test_no_modules_import_each_other_in_a_circle() -> None:
    imported = {name: {target.module for target in imports_of(path)} & set(MODULES) - {name} for name, path in MODULES.items()}
    TopologicalSorter(imported).prepare()  # raises CycleError with the circle


@pytest.mark.parametrize("library", LIBRARIES)
def test_libraries_stay_where_contributing_says(library: str) -> None:
    places = LIBRARIES[library]
    importers = {
        path.relative_to(SOURCE).as_posix()
        for path in FILES
        if any(target.module.split(".")[0] == library and not target.type_only for target in imports_of(path))
    }
    assert importers, f"nothing imports {library}"
    assert not {file for file in importers if not file.startswith(places)}
    assert not {place for place in places if not any(file.startswith(place) for file in importers)}, "named, but imports it no more"


def test_code_names_in_contributing_exist() -> None:
    rooms = {room_of(name) for name in MODULES}
    names = {
        name for name in re.findall(r"`([a-z_]+(?:\.\w+)+)`", CONTRIBUTING) if name.split(".")[0] in rooms and not name.endswith(".py")
    }
    assert names
    missing = set()
    for name in names:
        parts = ["bakeoff", *name.split(".")]
        length = next(n for n in range(len(parts), 0, -1) if ".".join(parts[:n]) in MODULES)
        owner = importlib.import_module(".".join(parts[:length]))
        if len(parts) > length + 1 or (len(parts) > length and not hasattr(owner, parts[length])):
            missing.add(name)
    assert not missing


def test_files_and_folders_in_contributing_exist() -> None:
    named = set(re.findall(r"`((?:src|tests|conf|sweeps|docs|docker|benchmarks)/[\w./-]*)`", CONTRIBUTING))
    assert named
    assert not {name for name in named if not (TOP / name).exists()}


def test_no_two_test_files_share_a_name() -> None:
    names = [path.name for path in (TOP / "tests").rglob("test_*.py")]
    assert len(names) == len(set(names))


def test_tests_mirror_the_rooms() -> None:
    beyond = {"adding", "compatibility", "conf", "docs", "faults", "hostile", "house"}
    folders = {path.parent.relative_to(TOP / "tests").parts[0] for path in (TOP / "tests").rglob("test_*.py")}
    assert folders - beyond <= {room_of(name) for name in MODULES}


def test_file_names_say_a_subject() -> None:
    assert not [path for path in CODE if path.stem in {"utils", "util", "helpers", "helper", "common", "misc"}]


@pytest.mark.parametrize("page", PAGES, ids=[page.relative_to(TOP).as_posix() for page in PAGES])
def test_links_lead_to_files(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text) + re.findall(r"<img[^>]+src=\"([^\"]+)\"", text)
    local = [target for target in targets if not re.match(r"[a-z]+:", target)]
    assert not [target for target in local if not (page.parent / target).exists()]
