"""Graph of a workflow: connections between nodes, checked before processing.

This module only imports what `Graph` needs; `bids_sr.engine.nipype_workflow` converts a graph to
a workflow.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from bids_sr.engine.nodes import GraphError, Handle, Node, Passage, Scope, Wire
from bids_sr.engine.port import REQUIRED
from bids_sr.engine.provenance import Provenance
from bids_sr.engine.step import Part
from bids_sr.io.word_lists import enumerate_words

_MAX_NAMED_OWNERS = 3  # larger numbers of runs or participants are counted
_INCOMPLETE_NOTE = "Unfinished steps are described in the future tense or without results."


class Graph:
    """Graph of a scope and its inner scopes, with complete inputs and settings.

    `wires` are the connections of each node, by input, and `settings` of each node include
    defaults. Raises `GraphError` if an input is missing or of another kind; the message names the
    node.
    """

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.nodes = [node for inner_scope in scope.inward() for node in inner_scope.nodes]
        self.wires = {node: dict(_iterate_wires(node)) for node in self.nodes}
        provenance = Provenance(self.wires, scope.store, scope.uri)
        for node in self.nodes:
            if node.step is scope.store:
                node.settings = {**node.settings, **provenance.sidecar_entries(node)}
        self.settings = {
            node: {
                name: node.get_setting(name)
                for name in node.step.settings
                if name not in self.wires[node]
            }
            for node in self.nodes
        }

    def methods_text(self, find_folder: Callable[[Node], Path | None] = lambda _: None) -> str:
        """Return the methods text in processing order.

        A text appears once, however many runs it concerns. Paragraphs end after a text with a
        final line feed, and after each part. Texts that concern only some of the runs or
        participants follow in paragraphs that begin with their names.

        `find_folder` returns the folder of a completed node, None for other nodes. By default, no
        node is complete. Completed nodes are described from their folders. Paragraphs are in
        Markdown, separated by empty lines. If some nodes are not complete, the last paragraph
        states this.
        """
        passages_by_text: dict[tuple[Part, str], list[Passage]] = {}
        for passage in self.scope.texts:
            passages_by_text.setdefault((passage.part, passage.text), []).append(passage)
        texts_by_part: dict[Part, dict[str, dict[str, None]]] = {part: {"": {}} for part in Part}
        is_incomplete = False
        for (part, planned_text), passages in passages_by_text.items():
            nodes = [passage.node for passage in passages if passage.node is not None]
            folders = [path for node in nodes if (path := find_folder(node))]
            n_unfinished = len(nodes) - len(folders)
            is_incomplete |= n_unfinished > 0
            describe = next(filter(None, (passage.describe for passage in passages)), None)
            text = describe(folders, n_unfinished) if folders and describe else planned_text
            texts = texts_by_part[part].setdefault(self._name_owners(passages), {})
            texts.setdefault(text if text.endswith("\n") else f"{text} ")
        paragraphs = [
            paragraph
            for texts_by_owners in texts_by_part.values()
            for owners, texts in texts_by_owners.items()
            for paragraph in _make_paragraphs(owners, "".join(texts))
        ]
        if is_incomplete:
            paragraphs.append(_INCOMPLETE_NOTE)
        return "\n\n".join(paragraphs) + "\n"

    def _name_owners(self, passages: Sequence[Passage]) -> str:
        """Return the runs or participants that a text concerns; "" if this is the whole call."""
        runs, participants = (
            dict.fromkeys(names)
            for names in zip(
                *((passage.run, f"sub-{passage.participant}") for passage in passages), strict=True
            )
        )
        scopes = list(self.scope.inward())
        if "" not in runs:
            names, noun = list(runs), "runs"
            n_all = len({scope.run for scope in scopes if scope.run})
        else:
            names, noun = list(participants), "participants"
            n_all = len({scope.participant for scope in scopes if scope.participant})
        if len(names) >= n_all or any(not passage.participant for passage in passages):
            return ""
        if len(names) <= _MAX_NAMED_OWNERS:
            return f"In {enumerate_words(names)}"
        return f"In {len(names)} of {n_all} {noun}"


def _iterate_wires(node: Node) -> Iterator[tuple[str, Wire]]:
    """Yield the handles of a node's inputs, and of settings from other nodes."""
    for name, handles in node.inputs.items():
        port = node.step.inputs.get(name)
        if isinstance(handles, Handle):
            wire = Wire((handles,))
        elif isinstance(handles, Mapping):
            names = tuple(handles) if port is not None and port.container == "dict" else ()
            wire = Wire(tuple(handles.values()), names)
        else:
            wire = Wire(tuple(handles))
        if not wire.handles:
            if port is not None and port.default is REQUIRED:
                raise GraphError(f"{node}: the required input {name} is empty")
            continue
        for handle in wire.handles:
            if port and handle.node and not (handle.port and port.accepts(handle.port)):
                raise GraphError(
                    f"{node}: the input {name} has type {port}, but {handle.source} provides type"
                    f" {handle.port}"
                )
        yield name, wire
    for name, port in node.step.inputs.items():
        if name not in node.inputs and port.container is None and port.default is REQUIRED:
            raise GraphError(f"{node}: the required input {name} is not connected")


def _make_paragraphs(owners: str, text: str) -> list[str]:
    """Return the paragraphs of a text; a text on some runs or participants is one paragraph.

    `owners` is the result of `Graph._name_owners`.
    """
    if owners:
        return [f"{owners}: {' '.join(text.split())}"]
    paragraphs = [" ".join(lines.split()) for lines in text.split("\n")]
    return [paragraph for paragraph in paragraphs if paragraph]
