"""What pyproject.toml declares, compared with what the code imports."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

from packaging.requirements import Requirement

TOP = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NOT_IMPORTED = {"cmaes"}
"""Optuna imports it for its CMA-ES sampler."""
OPTIONAL = {"pynvml": "nvidia-ml-py"}
"""Modules that may be missing, and the packages of an extra that bring them."""


def package_names(requirements: list[str]) -> set[str]:
    """Return the normalized package names of requirements."""
    return {normalize(re.split(r"[^\w.-]", requirement, maxsplit=1)[0]) for requirement in requirements}


def normalize(name: str) -> str:
    """Return a package name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def third_party_modules() -> dict[str, set[str]]:
    """Return the files that import each top-level module from outside the standard library."""
    files: dict[str, set[str]] = {}
    for path in (TOP / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            for top_level in {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names) - {"bakeoff"}:
                files.setdefault(top_level, set()).add(path.name)
    return files


def test_every_import_is_declared_and_every_dependency_imported() -> None:
    declared = package_names(PROJECT["dependencies"])
    distributions = packages_distributions()
    imported: set[str] = set()
    for module, files in third_party_modules().items():
        if module in OPTIONAL:
            continue
        packages = {normalize(package) for package in distributions.get(module, [])}
        assert packages & declared, f"{module}, imported by {sorted(files)}, is no dependency"
        imported |= packages
    assert declared - imported == NOT_IMPORTED


def test_constraints_are_versions_within_the_bounds() -> None:
    lines = [line for line in (TOP / "constraints.txt").read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    versions: dict[str, str] = {}
    for line in lines:
        name, _, version = line.partition("==")
        assert re.fullmatch(r"[a-z0-9-]+", name) and re.fullmatch(r"[0-9][0-9a-z.]*", version), line
        versions[name] = version
    requirements = [Requirement(text) for group in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()) for text in group]
    for requirement in requirements:
        known = versions.get(normalize(requirement.name))
        assert known in requirement.specifier if known else requirement.name in OPTIONAL.values(), requirement


def test_the_licence_of_every_dependency_is_listed() -> None:
    page = (TOP / "docs" / "dependencies.md").read_text(encoding="utf-8")
    listed = {name for row in page.splitlines() if row.startswith("| ") for name in row.split("|")[2].strip().split(", ")}
    constraints = (TOP / "constraints.txt").read_text(encoding="utf-8")
    assert set(re.findall(r"^([a-z0-9-]+)==", constraints, flags=re.MULTILINE)) <= listed
    for name, least in re.findall(r"^\| ([a-z-]+) \| ([0-9.]+) \|", page, flags=re.MULTILINE):
        assert any(re.match(rf"{name}>={re.escape(least)}\b", text) for text in PROJECT["dependencies"]), name


def test_optional_modules_have_an_extra() -> None:
    extras = package_names([requirement for extra in PROJECT["optional-dependencies"].values() for requirement in extra])
    assert set(OPTIONAL) <= set(third_party_modules())
    assert set(OPTIONAL.values()) <= extras
