"""Postpones most of torchmetrics, of which Lightning needs two classes, and which takes a third of its import time.

Importing this module is enough, before Lightning is imported. `torchmetrics` is the real package all the same: the first use of another
name runs its `__init__`, which imports torchvision.models, scipy.signal and all metrics.
"""

from __future__ import annotations

import importlib
import logging
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import Any

PACKAGE = "torchmetrics"
CLASSES = {"Metric": "torchmetrics.metric", "MetricCollection": "torchmetrics.collections"}
"""What Lightning takes from the package, and where the package takes it from."""


class PostponedPackage(ModuleType):
    """A package whose `__init__` runs when a name is asked for that the package does not have yet."""

    def __getattr__(self, name: str) -> Any:
        """Run the package's `__init__`, and look the name up again."""
        loader = self.__spec__.loader if self.__spec__ is not None else None
        assert isinstance(loader, PostponingLoader)
        loader.run_init(self)
        return getattr(self, name)


class PostponingLoader(SourceFileLoader):
    """Loads a package without running its `__init__`; where that fails, as usual."""

    def exec_module(self, module: ModuleType) -> None:
        """Give the package the classes that Lightning needs."""
        before = dict(vars(module))
        try:
            vars(module)["_logger"] = logging.getLogger(PACKAGE)  # which its modules take from it
            vars(module)["__version__"] = importlib.import_module(f"{PACKAGE}.__about__").__version__
            importlib.import_module(f"{PACKAGE}.utilities")  # first, since it and the classes' modules import each other
            vars(module).update({name: getattr(importlib.import_module(home), name) for name, home in CLASSES.items()})
            module.__class__ = PostponedPackage
        except (ImportError, AttributeError):  # another version, whose modules need more of the package
            for name in [name for name in sys.modules if name.startswith(f"{PACKAGE}.")]:
                del sys.modules[name]
            vars(module).clear()
            vars(module).update(before)
            self.run_init(module)

    def run_init(self, module: ModuleType) -> None:
        """Run the package's `__init__` in the package."""
        module.__class__ = ModuleType
        super().exec_module(module)


class PostponingFinder(MetaPathFinder):
    """Finds the package for `PostponingLoader`."""

    def find_spec(self, fullname: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Return the package's own spec with the other loader; None for all other modules."""
        spec = PathFinder.find_spec(fullname) if fullname == PACKAGE else None
        if spec is not None and type(spec.loader) is SourceFileLoader:
            spec.loader = PostponingLoader(spec.loader.name, spec.loader.path)
        return spec


if not any(isinstance(finder, PostponingFinder) for finder in sys.meta_path):
    sys.meta_path.insert(0, PostponingFinder())
