"""Sources of stored files, determined from the graph.

Each input of a stored artifact is followed upward to the nearest artifact that is stored
(``bids::…``) or given. Artifacts that are not stored are passed through, and only contribute
sources that other sources do not list. Settings computed by nodes, such as a number of volumes,
are not files and are ignored.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

from bids_sr.engine.nodes import Handle, Node, Wire
from bids_sr.engine.store import derivative_path
from bids_sr.io.dataset_description import dataset_root
from bids_sr.io.grids import BOLDREF, FIRST_BOLDREF

# extensions of files without a sidecar; their sources are listed in addition to them
_EXTENSIONS_WITHOUT_SIDECAR = frozenset({".safetensors"})
_SERIES_ENDING = "_bold.nii.gz"  # series are listed even if another source lists them
# spaces of images in the graph; images in template space are not part of it
_SPACES = ("", BOLDREF, FIRST_BOLDREF, "T1w")


class Provenance:
    """Sources of stored files.

    `wires` are the connections of each node, `store` is the step that stores files, and `uri`
    returns the URI of a given file.
    """

    def __init__(
        self,
        wires: Mapping[Node, Mapping[str, Wire]],
        store: object,
        uri: Callable[[Path], str],
    ) -> None:
        self.wires, self.uri = wires, uri
        self.stored_uris: dict[Handle, str] = {}
        for node in wires:
            for handle in wires[node]["files"].handles if node.step is store else ():
                if path := _find_relative_path(node, handle):
                    self.stored_uris[handle] = f"bids::{path}"
        self.handles = {uri: handle for handle, uri in self.stored_uris.items()}
        self._sources = cache(self._find_sources)
        self._ancestors = cache(self._find_ancestors)

    def sidecar_entries(self, node: Node) -> dict[str, object]:
        """Return sources and spatial references of a stored artifact.

        These are the settings ``sources`` and ``references`` of the storing step; the result is
        empty for figures and given files.
        """
        handles = self.wires[node]["files"].handles
        source_nodes = dict.fromkeys(
            handle.node
            for handle in handles
            if handle.node is not None and not (handle.port and handle.port.kind.is_figure)
        )
        if not source_nodes:
            return {}
        uri = self.stored_uris.get(handles[0], "")
        entities = node.settings["own_entities"]
        spaces: Sequence[str] = ()
        if not uri or uri.endswith(".nii.gz"):
            spaces = [entities.get("space", "")] if isinstance(entities, Mapping) else _SPACES
        images = {space: node.references[space] for space in spaces if space in node.references}
        references = {
            space: self.stored_uris[image]
            for space, image in images.items()
            if image in self.stored_uris
        }
        return {
            "sources": [
                *dict.fromkeys(
                    source_uri
                    for source in source_nodes
                    for source_uri in self._list_reduced_sources(source)
                    if source_uri != uri
                )
            ],
            "references": {
                space: source_uri for space, source_uri in references.items() if source_uri != uri
            },
        }

    def _list_reduced_sources(self, node: Node) -> list[str]:
        """Return the sources of a node's outputs, except for sources listed by another source."""
        uris = self._sources(node)
        ancestor_sets = [self._ancestors(self.handles[uri]) for uri in uris if uri in self.handles]
        return [
            uri
            for uri, is_direct in uris.items()
            if is_direct
            or uri.endswith(_SERIES_ENDING)
            or not any(uri in ancestors for ancestors in ancestor_sets)
        ]

    def _find_ancestors(self, handle: Handle) -> frozenset[str]:
        """Return all direct and indirect sources of a stored artifact."""
        assert handle.node is not None
        uris = frozenset(self._sources(handle.node))
        handles = (self.handles[uri] for uri in uris if uri in self.handles)
        return uris.union(*(self._ancestors(source) for source in handles))

    def _find_sources(self, node: Node) -> dict[str, bool]:
        """Return the inputs of a node by URI, and whether they are direct sources."""
        uris = {self.uri(path): True for path in node.reads}
        for name in node.step.inputs:
            wire = None if name in node.step.monitored else self.wires[node].get(name)
            for handle in wire.handles if wire else ():
                for uri, is_direct in self._iterate_sources(handle):
                    uris[uri] = uris.get(uri, False) or is_direct
        return uris

    def _iterate_sources(self, handle: Handle) -> Iterator[tuple[str, bool]]:
        """Yield an artifact if it is stored or given, otherwise its sources."""
        if handle.node is None:
            yield from ((self.uri(path), True) for path in _iterate_files(handle.source))
            return
        stored_uri = self.stored_uris.get(handle)
        if stored_uri is None:
            yield from ((uri, False) for uri in self._sources(handle.node))
            return
        yield stored_uri, True
        if Path(stored_uri).suffix in _EXTENSIONS_WITHOUT_SIDECAR:
            yield from self._sources(handle.node).items()


def _find_relative_path(node: Node, handle: Handle) -> str:
    """Return the path of a stored artifact relative to the output directory.

    The path is "" if the artifact is not stored, or if the entities are in the file names.
    """
    entities = node.settings["own_entities"]
    if not isinstance(entities, Mapping) or handle.port is None:
        return ""
    common = node.settings["entities"]
    assert isinstance(common, Mapping)
    extension = entities.get("extension") or handle.port.kind.stored_extension
    name_entities = {**common, **entities, "extension": extension}
    if not extension:
        return ""
    if node.settings["in_output"]:
        return derivative_path(name_entities)
    datasets, exported_as = node.settings["datasets"], node.settings["exported_as"]
    assert isinstance(datasets, Sequence)
    assert isinstance(exported_as, Mapping)
    if not datasets:
        return ""
    root = dataset_root(Path(), datasets[0])
    return root.joinpath(derivative_path({**name_entities, **exported_as})).as_posix()


def _iterate_files(value: object) -> Iterator[Path]:
    """Yield the files within a value."""
    if isinstance(value, Path):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _iterate_files(item)
