"""Ports: artifacts that are parameters or return values of steps."""

import inspect
import types
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from bids_sr.engine.artifacts import Artifact, ArtifactKind, ClassKind

REQUIRED = inspect.Parameter.empty
_LISTING = "_files.txt"  # paths, one per line
_CONTAINERS: Mapping[object, Literal["list", "dict"]] = {
    list: "list",
    Sequence: "list",
    dict: "dict",
    Mapping: "dict",
}


@dataclass(frozen=True, slots=True)
class Port:
    """Artifact that a step takes or returns: its kind, and whether it is one or several.

    Several artifacts are a list or a dictionary.
    """

    kind: ArtifactKind[Any]
    container: Literal["list", "dict"] | None = None
    default: object = REQUIRED

    def __str__(self) -> str:
        return f"{f'a {self.container} of ' if self.container else ''}{self.kind.name}"

    def accepts(self, output: "Port") -> bool:
        """Return whether an output of another step has this kind."""
        return self.kind.accepts(output.kind)

    def load(self, value: object, stack: ExitStack, names: object = None) -> object:
        """Return the value of a file or files; values that are not files are returned unchanged.

        Series are closed together with `stack`.

        `names` contains the keys of a dictionary of artifacts, in order, and is otherwise not
        used.
        """
        if self.container is None:
            if not isinstance(value, (str, Path)):
                return value
            loaded_value = self.kind.load(Path(value))
            if hasattr(loaded_value, "close"):
                stack.callback(loaded_value.close)
            return loaded_value
        files = [
            file
            for file in _flatten(value)
            if not (isinstance(file, Path) and self.kind.is_sidecar(file))
        ]
        values = [Port(self.kind).load(file, stack) for file in files]
        return (
            dict(zip(_as_list(names), values, strict=True)) if self.container == "dict" else values
        )

    def save(self, value: object, stem: Path) -> str:
        """Save a value, or a list or iterator of values together with a file that lists them.

        The list is used so that the scheduler handles one file instead of hundreds.
        """
        if self.container is None:
            return str(self.kind.save(value, stem))
        saved_files = [
            self.kind.save(item, stem.with_name(f"{stem.name}{number}"))
            for number, item in enumerate(
                value if isinstance(value, Iterator) else _as_list(value)
            )
        ]
        listing = stem.with_name(f"{stem.name}{_LISTING}")
        listing.write_text(
            "".join(f"{path}\n" for files in saved_files for path in _as_list(files)),
            encoding="utf-8",
        )
        return str(listing)


def _flatten(value: object) -> Iterator[object]:
    """Yield given files, the content of lists of files, and other values unchanged."""
    for item in _as_list(value):
        path = Path(item) if isinstance(item, str) else item
        if isinstance(path, Path) and path.name.endswith(_LISTING):
            yield from map(Path, path.read_text(encoding="utf-8").splitlines())
        else:
            yield path


def _as_list(value: object) -> Sequence[object]:
    """Return a list unchanged, None as an empty list, and other values as a list of one."""
    if isinstance(value, (list, tuple)):
        return value
    return [] if value is None else [value]


def make_port(hint: object, default: object = REQUIRED) -> Port | None:
    """Return the port for an annotation; None for a setting or a plain value.

    `default` is the default of the parameter, ``REQUIRED`` if there is none.
    """
    item_hint = without_none(hint)
    container = _CONTAINERS.get(get_origin(item_hint))
    if container is not None:
        key_and_value_hints = get_args(item_hint)
        item_hint = without_none(key_and_value_hints[-1 if container == "dict" else 0])
    if isinstance(item_hint, type) and issubclass(item_hint, Artifact):
        return Port(ClassKind(item_hint), container, default)
    kinds = [
        metadata
        for metadata in getattr(item_hint, "__metadata__", ())
        if isinstance(metadata, ArtifactKind)
    ]
    return Port(kinds[0], container, default) if kinds else None


def without_none(hint: object) -> object:
    """Return an annotation without None, unchanged if several other types remain."""
    if get_origin(hint) not in (Union, types.UnionType):
        return hint
    other_types = [arg for arg in get_args(hint) if arg is not types.NoneType]
    return other_types[0] if len(other_types) == 1 else hint
