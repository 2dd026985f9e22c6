"""Input files of steps, and checksums by which a step runs again when their content changes."""

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from bids_sr.io.checksums import checksum
from bids_sr.pipeline.graph import Graph, Placed


def input_files(graph: Graph, placed: Placed) -> list[Path]:
    """Return the files that a step reads and that no other step makes.

    These are artifacts given to the graph, files in settings, and files that the step declares
    (`reads`). A file may be listed more than once.
    """
    given = [
        maker.source
        for wire in graph.wires[placed].values()
        for maker in wire.makers
        if maker.placed is None
    ]
    files = [path for path in map(Path, placed.reads) if path.is_file()]
    return [*_files([given, graph.settings[placed]]), *files]


def inputs_checksums(graph: Graph) -> dict[Placed, str]:
    """Return a checksum per step that changes with the content of any file that it depends on.

    Files that earlier steps read count too: a step may hand its input on unchanged, with its old
    modification time.
    """
    checksums: dict[Placed, str] = {}
    for placed in graph.placed:
        _add_checksum(placed, graph, checksums)
    return checksums


def _add_checksum(placed: Placed, graph: Graph, checksums: dict[Placed, str]) -> None:
    """Add the checksum of a step after those of all steps that it depends on."""
    waiting = [placed]
    while waiting:
        step = waiting[-1]
        makers = [
            maker.placed
            for wire in graph.wires[step].values()
            for maker in wire.makers
            if maker.placed is not None
        ]
        if missing := [maker for maker in makers if maker not in checksums]:
            waiting += missing
            continue
        content = [checksum(path) for path in input_files(graph, step)]
        content += [checksums[maker] for maker in makers]
        checksums[step] = hashlib.sha256(" ".join(content).encode()).hexdigest()
        waiting.pop()


def _files(value: object) -> Iterator[Path]:
    """Yield the existing files within a value, in order."""
    if isinstance(value, Path):
        if value.is_file():
            yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _files(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _files(each)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for item in dataclasses.fields(value):
            yield from _files(getattr(value, item.name))
