"""Sources of stored files, from the graph: the stored or given files that each is made of.

From a stored artifact each wire is followed upward to the nearest artifact that is stored
(``bids::…``) or file that was given; what is not stored is passed through, and names only what the
other sources do not tell themselves. Settings that a step makes, such as a number of volumes, are
no files and are passed over. The image on whose grid a stored image lies is known in its scope as
``reference``.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from bids_sr.io.dataset_description import dataset_of
from bids_sr.pipeline.store import derivative_path

if TYPE_CHECKING:
    from bids_sr.pipeline.graph import Maker, Placed, Wire

_Wires = Mapping["Placed", Mapping[str, "Wire"]]
_Found = Iterator[tuple[str, bool]]
"""URIs, and whether each is a source itself, rather than a source of what is not stored."""
_NO_SIDECAR = frozenset({".safetensors"})
"""Files that tell nothing of themselves: what they are made of is named beside them."""
_SERIES = "_bold.nii.gz"  # the parent of a series is always named
_ALIGNED = {"": "reference", "T1w": "t1w_preproc"}
"""What images of a space lie on, by its name in the graph; the template's spaces are none of the
graph.
"""


class Provenance:
    """What stored files are made of."""

    def __init__(self, wires: _Wires, store: object, uri: Callable[[Path], str]) -> None:
        self.wires, self.uri = wires, uri
        self.stored: dict[Maker, str] = {}
        for placed in (each for each in wires if each.step is store):
            (maker,) = wires[placed]["files"].makers
            if path := _stored_path(placed, maker):
                self.stored[maker] = f"bids::{path}"
        self.maker = {uri: maker for maker, uri in self.stored.items()}
        self._made_of = cache(self._made_of_once)
        self._before = cache(self._before_once)

    def told(self, placed: "Placed") -> dict[str, object]:
        """Return the metadata for a storing step: its sources, and spatial reference by space.

        A storing step is the step that stores an artifact.

        Settings ``sources`` and ``references``; empty for figures and given files.
        """
        (maker,) = self.wires[placed]["files"].makers
        source = maker.placed
        if source is None or (maker.port is not None and maker.port.kind.drawn):
            return {}
        uri, own = self.stored.get(maker, ""), placed.settings["own_entities"]
        spaces = [own.get("space", "")] if isinstance(own, Mapping) else [*_ALIGNED]
        spaces = spaces if not uri or uri.endswith(".nii.gz") else []
        lies_on = {
            space: placed.scope.find(_ALIGNED[space]) for space in spaces if space in _ALIGNED
        }
        references = {
            space: self.stored[one]
            for space, one in lies_on.items()
            if one is not None and one.placed and one in self.stored
        }
        return {
            "sources": [each for each in self._told_once(source) if each != uri],
            "references": {space: one for space, one in references.items() if one != uri},
        }

    def _told_once(self, placed: "Placed") -> list[str]:
        """Sources of what a step makes, without those that others of them tell."""
        found = self._made_of(placed)
        further = [self._before(self.maker[uri]) for uri in found if uri in self.maker]
        return [
            uri
            for uri, itself in found.items()
            if itself or uri.endswith(_SERIES) or not any(uri in before for before in further)
        ]

    def _before_once(self, maker: "Maker") -> frozenset[str]:
        """All that a stored artifact goes back to."""
        assert maker.placed is not None
        found = frozenset(self._made_of(maker.placed))
        return found.union(*(self._before(self.maker[uri]) for uri in found if uri in self.maker))

    def _made_of_once(self, placed: "Placed") -> dict[str, bool]:
        """What a step takes, by URI."""
        read = placed.step.reads(placed.lookup) if placed.step.reads else ()
        found = {each if isinstance(each, str) else self.uri(each): True for each in read}
        for name in placed.step.inputs:
            wire = self.wires[placed].get(name)
            for maker in wire.makers if wire else ():
                for uri, itself in self._above(maker):
                    found[uri] = found.get(uri, False) or itself
        return found

    def _above(self, maker: "Maker") -> _Found:
        """An artifact where it is stored or given, else what it is made of."""
        if maker.placed is None:
            yield from ((self.uri(path), True) for path in _files(maker.source))
            return
        stored = self.stored.get(maker)
        if stored is None:
            yield from ((uri, False) for uri in self._made_of(maker.placed))
            return
        yield stored, True
        if Path(stored).suffix in _NO_SIDECAR:
            yield from self._made_of(maker.placed).items()


def _stored_path(placed: "Placed", maker: "Maker") -> str:
    """Return the path of a stored artifact relative to all results.

    It is "" for nowhere, or where the names of its files tell it.
    """
    own = placed.settings["own_entities"]
    if not isinstance(own, Mapping) or maker.port is None:
        return ""
    entities = placed.scope.setting("entities")
    assert isinstance(entities, Mapping)
    extension = own.get("extension") or maker.port.kind.extension_stored
    found = {**entities, **own, "extension": extension}
    if not extension or placed.settings["in_output"]:
        return derivative_path(found) if extension else ""
    names, exported_as = placed.scope.setting("datasets"), placed.settings["exported_as"]
    assert isinstance(names, Sequence)
    assert isinstance(exported_as, Mapping)
    return (
        dataset_of(Path(), names[0]).joinpath(derivative_path({**found, **exported_as})).as_posix()
        if names
        else ""
    )


def _files(given: object) -> Iterator[Path]:
    """Files among what was given."""
    if isinstance(given, Path):
        yield given
    elif isinstance(given, (list, tuple)):
        for each in given:
            yield from _files(each)
