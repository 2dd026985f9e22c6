"""Sources of stored files: the stored or given files that each is made of, from the graph.

From a stored artifact, each input is followed upward to the nearest artifact that is stored
(``bids::…``) or file that was given. What is not stored is passed through, and names only what the
other sources do not list themselves. Settings that a node makes, such as a number of volumes, are
no files and are passed over.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

from bids_sr.io.dataset_description import dataset_of
from bids_sr.pipeline.nodes import Handle, Node, Wire
from bids_sr.pipeline.store import derivative_path

_NO_SIDECAR = frozenset({".safetensors"})
"""Files without a sidecar: what they are made of is listed beside them."""
_SERIES = "_bold.nii.gz"  # the parent of a series is always named
_SPACES = ("", "boldref", "T1w")
"""Spaces of images of the graph; those of templates have no image in it."""


class Provenance:
    """Sources of stored files.

    Parameters
    ----------
    wires : Mapping[Node, Mapping[str, Wire]]
        What each node takes.
    store : object
        Step that stores files.
    uri : Callable[[Path], str]
        How a given file is named.
    """

    def __init__(
        self,
        wires: Mapping[Node, Mapping[str, Wire]],
        store: object,
        uri: Callable[[Path], str],
    ) -> None:
        self.wires, self.uri = wires, uri
        self.stored: dict[Handle, str] = {}
        for node in (one for one in wires if one.step is store):
            (handle,) = wires[node]["files"].handles
            if path := _stored_path(node, handle):
                self.stored[handle] = f"bids::{path}"
        self.handles = {uri: handle for handle, uri in self.stored.items()}
        self._sources = cache(self._find_sources)
        self._ancestors = cache(self._find_ancestors)

    def sidecar_entries(self, node: Node) -> dict[str, object]:
        """Return sources and spatial references of a stored artifact.

        Settings ``sources`` and ``references`` of the storing step; empty for figures and given
        files.
        """
        (handle,) = self.wires[node]["files"].handles
        source = handle.node
        if source is None or (handle.port is not None and handle.port.kind.drawn):
            return {}
        uri = self.stored.get(handle, "")
        entities = node.settings["own_entities"]
        spaces = [entities.get("space", "")] if isinstance(entities, Mapping) else [*_SPACES]
        spaces = spaces if not uri or uri.endswith(".nii.gz") else []
        images = {space: node.references[space] for space in spaces if space in node.references}
        references = {
            space: self.stored[image] for space, image in images.items() if image in self.stored
        }
        return {
            "sources": [one for one in self._nearest_sources(source) if one != uri],
            "references": {space: one for space, one in references.items() if one != uri},
        }

    def _nearest_sources(self, node: Node) -> list[str]:
        """Return sources of the outputs of a node, without those that others of them list."""
        uris = self._sources(node)
        further = [self._ancestors(self.handles[uri]) for uri in uris if uri in self.handles]
        return [
            uri
            for uri, direct in uris.items()
            if direct or uri.endswith(_SERIES) or not any(uri in before for before in further)
        ]

    def _find_ancestors(self, handle: Handle) -> frozenset[str]:
        """Return all that a stored artifact goes back to."""
        assert handle.node is not None
        uris = frozenset(self._sources(handle.node))
        known = (self.handles[uri] for uri in uris if uri in self.handles)
        return uris.union(*(self._ancestors(one) for one in known))

    def _find_sources(self, node: Node) -> dict[str, bool]:
        """Return what a node takes, by URI: whether it is a source itself."""
        uris = {one if isinstance(one, str) else self.uri(one): True for one in node.reads}
        for name in (one for one in node.step.inputs if one not in node.step.monitored):
            wire = self.wires[node].get(name)
            for handle in wire.handles if wire else ():
                for uri, direct in self._above(handle):
                    uris[uri] = uris.get(uri, False) or direct
        return uris

    def _above(self, handle: Handle) -> Iterator[tuple[str, bool]]:
        """Yield an artifact where it is stored or given, else what it is made of."""
        if handle.node is None:
            yield from ((self.uri(path), True) for path in _files(handle.source))
            return
        stored = self.stored.get(handle)
        if stored is None:
            yield from ((uri, False) for uri in self._sources(handle.node))
            return
        yield stored, True
        if Path(stored).suffix in _NO_SIDECAR:
            yield from self._sources(handle.node).items()


def _stored_path(node: Node, handle: Handle) -> str:
    """Return the path of a stored artifact relative to all results.

    It is "" for nowhere, or if the names of the files tell it.
    """
    entities = node.settings["own_entities"]
    if not isinstance(entities, Mapping) or handle.port is None:
        return ""
    common = node.settings["entities"]
    assert isinstance(common, Mapping)
    extension = entities.get("extension") or handle.port.kind.extension_stored
    named = {**common, **entities, "extension": extension}
    if not extension or node.settings["in_output"]:
        return derivative_path(named) if extension else ""
    datasets, exported_as = node.settings["datasets"], node.settings["exported_as"]
    assert isinstance(datasets, Sequence)
    assert isinstance(exported_as, Mapping)
    if not datasets:
        return ""
    root = dataset_of(Path(), datasets[0])
    return root.joinpath(derivative_path({**named, **exported_as})).as_posix()


def _files(value: object) -> Iterator[Path]:
    """Yield files among what was given."""
    if isinstance(value, Path):
        yield value
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from _files(one)
