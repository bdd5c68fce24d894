"""Importing a folder's code so that several folders live in one process.

Every folder has a `custom.py`, and many have a module `preprocessing` beside it. Here each folder is a
package of its own with a unique name, and its modules are that package's: two folders never see each
other's. The folder's code still writes `import preprocessing`, because its modules run with an `__import__`
that looks in their folder first.
"""

from __future__ import annotations

import builtins
import importlib
import itertools
import re
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import (
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    ModuleSpec,
    PathFinder,
    SourceFileLoader,
)
from pathlib import Path
from types import ModuleType
from typing import Any

from typing_extensions import override

_numbers = itertools.count(1)
_plain_names = threading.RLock()


class FolderModules(MetaPathFinder):
    """One folder's modules, as submodules of a package that exists only in memory."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.package = f"headgate_folder_{next(_numbers)}_{re.sub(r'[^0-9A-Za-z]', '_', name)}"
        self._builtins: Mapping[str, Any] = vars(builtins) | {"__import__": self._import}
        self._has: dict[str, bool] = {}
        self._aliases: _PlainNames | None = None
        package = ModuleType(self.package)
        package.__path__ = [str(folder)]
        sys.modules[self.package] = package
        sys.meta_path.insert(0, self)

    def load(self, name: str) -> ModuleType:
        """The folder's module `name`, imported once. Raises whatever its code raises."""
        return importlib.import_module(f"{self.package}.{name}")

    def has(self, name: str) -> bool:
        """Whether `name` is a module or a package of the folder."""
        if name not in self._has:
            spec = self.find_spec(f"{self.package}.{name}", [str(self.folder)])
            # A folder without __init__.py may be data, or bear an installed package's name: no code.
            self._has[name] = spec is not None and spec.loader is not None
        return self._has[name]

    @contextmanager
    def plain_names(self) -> Iterator[None]:
        """While this lasts, `custom` and the folder's other modules can be found by their plain names too.

        For what does not go through an import statement: unpickling an object of a class defined in the
        folder, `importlib.import_module("preprocessing")`. One folder at a time, process-wide.
        """
        with _plain_names:
            self._aliases = aliases = _PlainNames(self)
            sys.meta_path.insert(0, aliases)
            try:
                yield
            finally:
                self._aliases = None
                sys.meta_path.remove(aliases)
                for name in aliases.given:
                    sys.modules.pop(name, None)

    def close(self) -> None:
        """Forget the modules. Objects made by them live on."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        for name in [name for name in sys.modules if name.partition(".")[0] == self.package]:
            del sys.modules[name]

    @override
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not fullname.startswith(f"{self.package}."):
            return None
        for entry in path or ():
            finder = FileFinder(
                entry, (ExtensionFileLoader, EXTENSION_SUFFIXES), (SourceFileLoader, SOURCE_SUFFIXES)
            )
            spec = finder.find_spec(fullname)
            if spec is None:
                continue
            if isinstance(spec.loader, SourceFileLoader):
                spec.loader = _FolderLoader(fullname, spec.loader.path, self._builtins)
            return spec
        return None

    def _import(
        self,
        name: str,
        globals: Mapping[str, Any] | None = None,
        locals: Mapping[str, Any] | None = None,
        fromlist: Sequence[str] = (),
        level: int = 0,
    ) -> ModuleType:
        top = name.partition(".")[0]
        if level or not self.has(top):
            return builtins.__import__(name, globals, locals, fromlist, level)
        module = builtins.__import__(f"{self.package}.{name}", globals, locals, fromlist, 0)
        if self._aliases is not None:  # unpickling calls this too, and then looks into sys.modules
            self._aliases.give(name)
        return module if fromlist else sys.modules[f"{self.package}.{top}"]


class _FolderLoader(SourceFileLoader):
    """Runs a module with builtins whose `__import__` knows the folder."""

    def __init__(self, fullname: str, path: str, namespace: Mapping[str, Any]) -> None:
        super().__init__(fullname, path)
        self._namespace = namespace

    @override
    def exec_module(self, module: ModuleType) -> None:
        module.__dict__["__builtins__"] = self._namespace
        super().exec_module(module)


class _PlainNames(MetaPathFinder, Loader):
    """Gives the folder's modules out under their plain names, where nothing installed has that name."""

    def __init__(self, modules: FolderModules) -> None:
        self._modules = modules
        self._specs: dict[str, ModuleSpec | None] = {}
        self.given: list[str] = []

    @override
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        top, _, below = fullname.partition(".")
        if not self._modules.has(top) or (not below and PathFinder.find_spec(fullname) is not None):
            return None
        if below and top not in self.given:
            return None
        return ModuleSpec(fullname, self)

    def give(self, name: str) -> None:
        """Make `name` and the packages that it is in known, except where the name is taken."""
        parts = name.split(".")
        for end in range(1, len(parts) + 1):
            dotted = ".".join(parts[:end])
            if dotted not in sys.modules:
                sys.modules[dotted] = self._modules.load(dotted)
                self.given.append(dotted)
            elif dotted not in self.given:
                return

    @override
    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = self._modules.load(spec.name)
        self._specs[spec.name] = module.__spec__
        self.given.append(spec.name)
        return module

    @override
    def exec_module(self, module: ModuleType) -> None:
        """It ran when it was created; only its own spec, which the import system replaced, comes back."""
        alias = module.__spec__.name if module.__spec__ else ""
        module.__spec__ = self._specs[alias]
