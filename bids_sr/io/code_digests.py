"""Digests of the code of a function, with everything that it uses of the program.

Earlier results are only valid if the code that computed them has not changed. The version does not
decide this: it stays the same in an edited checkout, and most code is the same in two versions.

Source files are parsed, not imported. A function depends on the *definitions* whose names it
contains (functions, classes and variables that its module defines or imports), and these on
others. A class is one definition with all of its methods. Imports within functions and on first
use (`bids_sr.io.lazy`) count; comments, docstrings and other packages do not.
"""

import gc
import hashlib
import math
import os
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from bids_sr.io.checksums import checksum
from bids_sr.io.code_modules import (
    ALL,
    ON_IMPORT,
    Definition,
    Module,
    iterate_imports,
    read_module,
)
from bids_sr.io.code_text import NO_CODE, CodeText, DottedName
from bids_sr.io.frozen import frozen

_SUBMODULES = "__path__"  # variable of packages whose modules are found at run time
_FIND_DATA, _DATA_FOLDER = "path", "HERE"
_START_FIELD = 19  # start (clock ticks) among the fields that follow the name in /proc/PID/stat


@frozen
class _Content:
    """Digest of a definition's own statements, and the definitions that they name."""

    digest: str
    dependencies: frozenset[Definition] = frozenset()


class SourceCode:
    """Source code of a package, parsed on demand.

    `folder` is the folder of the package, with its name. `data` is the module of the package whose
    folder contains data files; "" if there are no data files. Its variable ``HERE`` is the folder,
    and its function ``path`` finds a file by name. A definition with the name of a file as a
    literal text depends on the file. The modules `labels` only label results, such as the version,
    and are ignored. `start` is the start of this process (s since the epoch). The digest of a file
    that was changed later differs from its digest in later processes, because the code that runs
    may be older than the file.
    """

    def __init__(
        self,
        folder: Path,
        *,
        data: str = "",
        labels: Collection[str] = (),
        start: float = math.inf,
    ) -> None:
        self._package, self._start = folder.name, start
        self._data, self._labels = data, frozenset(labels)
        self._files = dict(_iterate_modules(folder))
        self._data_files = dict(_iterate_data_files(self._files[data].parent)) if data else {}
        self._modules: dict[str, Module] = {}
        self._contents: dict[Definition, _Content] = {}

    def add_module(self, name: str, file: Path) -> None:
        """Add a module from outside of the package."""
        self._files.setdefault(name, file)

    def compute_digest(self, module: str, name: str) -> str:
        """Return the digest of a definition and of all definitions that it depends on."""
        lines = [
            f"{definition.module} {definition.name} {self._read(definition).digest}\n"
            for definition in sorted(self.list_dependencies(module, name))
        ]
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def list_dependencies(self, module: str, name: str) -> set[Definition]:
        """Return a definition and all definitions that it depends on."""
        dependencies = {Definition(module, name)}
        unread_definitions = [*dependencies]
        while unread_definitions:
            new_definitions = self._read(unread_definitions.pop()).dependencies - dependencies
            unread_definitions += new_definitions
            dependencies |= new_definitions
        return dependencies

    def _read(self, definition: Definition) -> _Content:
        """Return the content of a definition, which is read once."""
        if definition not in self._contents:
            self._contents[definition] = self._read_statements(definition)
        return self._contents[definition]

    def _read_statements(self, definition: Definition) -> _Content:
        """Return the content of a definition from its statements."""
        name, module = definition.name, self._parse(definition.module)
        if module.name in self._labels:
            return _Content(digest="")
        if module.name == self._data and name in self._data_files:
            file = self._data_files[name]
            return _Content(digest=f"{checksum(file)} {self._find_late_change(file)}")
        if name == ON_IMPORT:
            text = module.other_statements
            package = module.name.rpartition(".")[0]
            dependencies = {Definition(package, ON_IMPORT)} if package in self._files else set()
        else:
            text = module.definitions.get(name, NO_CODE)
            dependencies = {Definition(module.name, ON_IMPORT), *self._iterate_parts(definition)}
        dependencies.update(self._iterate_named(text, module))
        if definition == (self._data, _FIND_DATA):
            dependencies.discard(Definition(module.name, _DATA_FOLDER))
        return _Content(
            digest=f"{text.digest} {self._find_late_change(self._files[module.name])}",
            dependencies=frozenset(dependencies),
        )

    def _iterate_parts(self, definition: Definition) -> Iterator[Definition]:
        """Yield the definitions that a name stands for, except for its own statements."""
        module = self._parse(definition.module)
        if definition.name == ALL:
            for name in (*module.definitions, *module.imports):
                yield Definition(module.name, name)
        elif definition.name == _SUBMODULES:
            for name in self._files:
                if name.startswith(f"{module.name}."):
                    yield Definition(name, ALL)
        elif definition == (self._data, _DATA_FOLDER):
            yield from (Definition(self._data, name) for name in self._data_files)
        for imported in module.imports.get(definition.name, ()):
            yield from self._resolve(imported)

    def _iterate_named(self, text: CodeText, module: Module) -> Iterator[Definition]:
        """Yield the definitions that statements of a module name."""
        imports: dict[str, set[Definition]] = {}
        for statement in text.imports:
            for name, definition in iterate_imports(statement, module.package):
                imports.setdefault(name, set()).add(definition)
                yield from (
                    Definition(item.module, ON_IMPORT) for item in self._resolve(definition)
                )

        def look_up(dotted_name: DottedName) -> Iterator[Definition]:
            name, *attributes = dotted_name
            if name in module.definitions or name in (ALL, _SUBMODULES):
                yield Definition(module.name, name)
            for definition in imports.get(name, set()) | module.imports.get(name, set()):
                yield from self._resolve(definition, attributes)

        for dotted_name in text.names:
            yield from look_up(dotted_name)
        for literal in text.texts:
            if literal in self._data_files:
                yield Definition(self._data, literal)
            elif literal.startswith(f"{self._package}."):
                if literal in self._files:
                    yield Definition(literal, ALL)
                elif literal[:-1] in self._files:  # followed by the name of a module
                    yield Definition(literal[:-1], _SUBMODULES)

    def _resolve(
        self, definition: Definition, attributes: Sequence[str] = ()
    ) -> Iterator[Definition]:
        """Yield the definition that attributes of an imported name refer to.

        Nothing is yielded for other packages.
        """
        module, names = definition.module, [definition.name, *attributes]
        if definition.name == ALL:
            names = [*attributes]
        while (
            names
            and (submodule := f"{module}.{names[0]}") in self._files
            and not self._parse(module).binds(names[0])
        ):
            module, names = submodule, names[1:]
        if module in self._files:
            yield Definition(module, names[0] if names else ALL)

    def _parse(self, name: str) -> Module:
        """Return a module, which is parsed once."""
        if name not in self._modules:
            with _without_garbage_collection():  # takes longer than parsing, and finds nothing
                self._modules[name] = read_module(name, self._files[name])
        return self._modules[name]

    def _find_late_change(self, file: Path) -> str:
        """Return the time of a change after the start (ns), or "" if the file was not changed."""
        state = file.stat()
        return str(state.st_mtime_ns) if state.st_mtime > self._start else ""


def _iterate_modules(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield names and files of the modules of a package."""
    for root, _, names in os.walk(folder):
        package = ".".join([folder.name, *Path(root).relative_to(folder).parts])
        for name in names:
            if name == "__init__.py":
                yield package, Path(root, name)
            elif name.endswith(".py"):
                yield f"{package}.{name.removesuffix('.py')}", Path(root, name)


def _iterate_data_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield relative paths, and files, of all files in a folder that are not code."""
    for file in folder.rglob("*"):
        if file.is_file() and file.suffix not in (".py", ".pyc"):
            yield file.relative_to(folder).as_posix(), file


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Disable the search for cyclic garbage within the context."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@cache
def compute_code_digest(function: Callable[..., object]) -> str:
    """Return the digest of a function of bids-sr, or of another module that uses bids-sr.

    The result is "" if the function has no source file.
    """
    code, module = read_program(), function.__module__
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None:
        return ""
    code.add_module(module, Path(file))
    return code.compute_digest(module, function.__qualname__.partition(".")[0])


@cache
def read_program() -> SourceCode:
    """Return the source code of bids-sr."""
    package = __name__.partition(".")[0]
    return SourceCode(
        Path(__file__).parents[1],
        data=f"{package}.boilerplate",
        labels=[f"{package}.version"],
        start=_find_start(),
    )


def _find_start() -> float:
    """Return the start time of this process (s since the epoch)."""
    fields = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    # the number of ticks is rounded down; no code is loaded within a tick of 0.01 s
    seconds_after_boot = (int(fields[_START_FIELD]) + 1) / os.sysconf("SC_CLK_TCK")
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + seconds_after_boot
