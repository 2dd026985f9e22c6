"""Checksums of steps, which change with the content of their input files and with their code."""

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from bids_sr.engine.graph import Graph
from bids_sr.engine.nodes import Node
from bids_sr.io.checksums import checksum
from bids_sr.io.code_digests import digest_files, digest_program, find_outside_file


def compute_checksums(graph: Graph, nodes: Iterable[Node] | None = None) -> dict[Node, str]:
    """Return a checksum per step of its code and the content of all files that it depends on.

    Code and files of earlier steps are included, because a step may pass its input on unchanged,
    with the old modification time.

    The result has `nodes` and all steps that they depend on; all steps if `nodes` is None.
    """
    checksums: dict[Node, str] = {}
    for node in graph.nodes if nodes is None else nodes:
        _add_checksum(node, graph, checksums)
    return checksums


def _add_checksum(node: Node, graph: Graph, checksums: dict[Node, str]) -> None:
    """Add the checksum of a step after the checksums of all steps that it depends on."""
    unresolved_nodes = [node]
    while unresolved_nodes:
        current = unresolved_nodes[-1]
        sources = [
            handle.node
            for wire in graph.wires[current].values()
            for handle in wire.handles
            if handle.node is not None
        ]
        if unresolved_sources := [source for source in sources if source not in checksums]:
            unresolved_nodes += unresolved_sources
            continue
        own_file = find_outside_file(current.step.function)
        checksum_parts = [
            digest_program(),
            *([] if own_file is None else [digest_files(own_file)]),
            *(checksum(path) for path in _list_input_files(graph, current)),
            *(checksums[source] for source in sources),
        ]
        checksums[current] = hashlib.sha256(" ".join(checksum_parts).encode()).hexdigest()
        unresolved_nodes.pop()


def _list_input_files(graph: Graph, node: Node) -> list[Path]:
    """Return the input files of a step that are not outputs of other steps.

    These are artifacts given to the graph, files in settings, and files that the step declares
    (`reads`). A file may be listed more than once.
    """
    external_artifacts = [
        handle.source
        for wire in graph.wires[node].values()
        for handle in wire.handles
        if handle.node is None
    ]
    files = [path for path in node.reads if path.is_file()]
    return [*_iterate_files([external_artifacts, graph.settings[node]]), *files]


def _iterate_files(value: object) -> Iterator[Path]:
    """Yield the existing files within a value, in order."""
    if isinstance(value, Path):
        if value.is_file():
            yield value
    elif isinstance(value, Mapping):
        for item_value in value.values():
            yield from _iterate_files(item_value)
    elif isinstance(value, list | tuple):
        for item_value in value:
            yield from _iterate_files(item_value)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for item in dataclasses.fields(value):
            yield from _iterate_files(getattr(value, item.name))
