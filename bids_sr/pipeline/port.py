"""Ports: the artifact that a parameter or a returned value of a step stands for."""

import inspect
import types
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from bids_sr.pipeline.artifacts import Kind

REQUIRED = inspect.Parameter.empty
_LISTING = "_files.txt"  # paths, one a line


@dataclass(frozen=True, slots=True)
class Port:
    """An artifact that a step takes or makes: its kind, and whether it is one or several.

    Several are a list, or given by name.
    """

    kind: Kind[Any]
    many: Literal["list", "dict"] | None = None
    default: object = REQUIRED

    def __str__(self) -> str:
        return f"{f'a {self.many} of ' if self.many else ''}{type(self.kind).__name__.strip('_')}"

    def takes(self, made: "Port") -> bool:
        """Whether what another step makes is of this kind."""
        return isinstance(made.kind, type(self.kind)) or isinstance(self.kind, type(made.kind))

    def load(self, value: object, stack: ExitStack, names: object = None) -> object:
        """Return the value of a file or files.

        Series are closed with the stack. What is no file is a value itself.

        `names`: keys of a dictionary of artifacts, in order; otherwise not used. Returns the
        artifact in memory, or several as a list or dictionary.
        """
        if self.many is None:
            if not isinstance(value, (str, Path)):
                return value
            found = self.kind.load(Path(value))
            if hasattr(found, "close"):
                stack.callback(found.close)
            return found
        files = [
            each
            for each in _listed(value)
            if not (isinstance(each, Path) and self.kind.is_beside(each))
        ]
        loaded = [Port(self.kind).load(each, stack) for each in files]
        return dict(zip(_several(names), loaded, strict=True)) if self.many == "dict" else loaded

    def save(self, value: object, stem: Path) -> str:
        """Save a value, or a list of values with a file that lists theirs.

        The scheduler then handles one file in the place of hundreds.
        """
        if self.many is None:
            return str(self.kind.save(value, stem))
        saved = [
            self.kind.save(each, stem.with_name(f"{stem.name}{number}"))
            for number, each in enumerate(_several(value))
        ]
        listing = stem.with_name(f"{stem.name}{_LISTING}")
        listing.write_text(
            "".join(f"{path}\n" for found in saved for path in _several(found)), encoding="utf-8"
        )
        return str(listing)


def _listed(value: object) -> Iterator[object]:
    """Files that are given or listed, and what is no file as it is."""
    for each in _several(value):
        path = Path(each) if isinstance(each, str) else each
        if isinstance(path, Path) and path.name.endswith(_LISTING):
            yield from map(Path, path.read_text(encoding="utf-8").splitlines())
        else:
            yield path


def _several(value: object) -> Sequence[object]:
    """A list as it is, anything else as a list of one, None as an empty one."""
    return value if isinstance(value, (list, tuple)) else [] if value is None else [value]


_SEVERAL: Mapping[object, Literal["list", "dict"]] = {
    list: "list",
    Sequence: "list",
    dict: "dict",
    Mapping: "dict",
}


def port_of(hint: object, default: object = REQUIRED) -> Port | None:
    """The port that an annotation stands for; None for a setting or a plain value.

    `default`: default of the parameter; ``REQUIRED`` where there is none.
    """
    hint = bare(hint)
    several = _SEVERAL.get(get_origin(hint))
    hint = bare(get_args(hint)[-1 if several == "dict" else 0]) if several else hint
    kinds = [each for each in getattr(hint, "__metadata__", ()) if isinstance(each, Kind)]
    return Port(kinds[0], several, default) if kinds else None


def bare(hint: object) -> object:
    """An annotation without the None that may stand in it.

    Annotation without None; unchanged if several others remain.
    """
    if get_origin(hint) not in (Union, types.UnionType):
        return hint
    rest = [each for each in get_args(hint) if each is not types.NoneType]
    return rest[0] if len(rest) == 1 else hint
