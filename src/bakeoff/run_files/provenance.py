"""Where a result comes from: the code's commit and what was changed on top of it, versions, and the machine."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from bakeoff.machine import available_cores

PACKAGES = ("bakeoff", "torch", "torchvision", "pytorch-lightning", "hydra-core", "mlflow", "optuna", "numpy")
DIFF_BYTES = 1_000_000
UNTRACKED = 200
GIT = ("git", "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "protocol.allow=never")
"""git that starts no program which a repository names, and asks no server."""
_remembered: dict[str, Any] = {}


def collect_provenance() -> dict[str, Any]:
    """Describe the code, the packages and the machine of this process, or what `remember_provenance` has found of them.

    Returns:
        Plain JSON: `git` (see `describe_checkout`; a wheel has none), packages, python, os, cpu, cores, memory_gb and gpus.
    """
    return {**(_remembered or _describe_process()), "gpus": _gpus()}


def remember_provenance() -> None:
    """Describe all but the GPUs once, for this process and those forked from it: they run the code that it has loaded by now."""
    _remembered.update(_describe_process())


def _describe_process() -> dict[str, Any]:
    return {
        "git": describe_checkout(Path(__file__).resolve()),
        "packages": _versions(),
        "python": platform.python_version(),
        "os": platform.platform(),
        "cpu": _cpu(),
        "cores": available_cores(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
    }


def provenance_tags(provenance: Mapping[str, Any]) -> dict[str, str]:
    """Return the tags of a run's provenance.

    Args:
        provenance: What `collect_provenance` returned.

    Returns:
        Values by tag: all but the diff and the list of files.
    """
    git = provenance["git"] or {}
    tags = {f"git.{k}": str(git[k]) for k in ("commit", "branch", "dirty", "diff_cut") if k in git}
    if "commit" in git:
        tags["mlflow.source.git.commit"] = git["commit"]
    tags |= {f"version.{name}": version for name, version in provenance["packages"].items()}
    tags |= {name: str(provenance[name]) for name in ("python", "os", "cpu", "cores", "memory_gb")}
    return {**tags, **({"gpus": ", ".join(provenance["gpus"])} if provenance["gpus"] else {})}


def describe_checkout(file: Path) -> dict[str, Any] | None:
    """Describe the git checkout of a source file.

    Args:
        file: The source file.

    Returns:
        commit, branch, dirty, diff (against the commit, applicable by `git apply`, at most 1 MB), diff_cut and untracked (the first 200
        names). None where no checkout tracks the file, as in an environment that lies within another project's checkout.
    """
    if _git(file.parent, "ls-files", "--error-unmatch", file.name) is None:
        return None
    top = (_git(file.parent, "rev-parse", "--show-toplevel") or b"").decode().strip()
    root = Path(top)
    commit = _git(root, "rev-parse", "--verify", "HEAD")
    if not top or commit is None:
        return None
    diff = _git(root, "diff", "HEAD", "--binary", "--no-color", "--no-ext-diff", "--no-textconv") or b""
    untracked = (_git(root, "ls-files", "--others", "--exclude-standard", "-z") or b"").decode(errors="replace").split("\0")
    names = [name for name in untracked if name]
    return {
        "commit": commit.decode().strip(),
        "branch": (_git(root, "rev-parse", "--abbrev-ref", "HEAD") or b"").decode().strip(),
        "dirty": bool(diff or names),
        "diff": diff[:DIFF_BYTES].decode(errors="replace"),
        "diff_cut": len(diff) > DIFF_BYTES,
        "untracked": names[:UNTRACKED],
    }


def _git(folder: Path, *arguments: str) -> bytes | None:
    """What git prints, None where it fails or is not installed. Settings of the user's shell must not point it elsewhere."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")} | {"GIT_OPTIONAL_LOCKS": "0"}
    try:
        completed = subprocess.run([*GIT, *arguments], cwd=folder, env=environment, capture_output=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return completed.stdout if completed.returncode == 0 else None


def _versions() -> dict[str, str]:
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _cpu() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        return platform.processor() or platform.machine()
    return platform.processor() or platform.machine()


def _gpus() -> list[str]:
    """Names, only where this process has loaded torch: asking must not cost an import. It opens CUDA, so ask where the training runs."""
    torch = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "cuda") or not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
