"""Nodes of a graph, their scopes, and handles of their outputs.

A node is a call of a step in a `bids_sr.engine.flow.Flow`. Nodes belong to scopes, such as a
participant, a run, or a series of the run.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, NoReturn

from bids_sr.engine.port import REQUIRED, Port
from bids_sr.engine.step import AnyStep, Part


class GraphError(ValueError):
    """Error in a graph: a missing or mistyped input or setting, or a step called twice."""


def scope_name(name: str) -> str:
    """Return the name of the scope of a participant or run.

    Nipype only accepts letters, digits and underscores.

    >>> scope_name("sub-01_task-tap+rest")
    'sub_01_task_tap__rest_wf'
    """
    return name.replace("+", "__").replace("-", "_") + "_wf"


def get_owner(node: object) -> tuple[str, str]:
    """Return participant label and run name of a nipype node, "" if missing; see `Scope.owner`."""
    return getattr(node, "owner", ("", ""))


@dataclass(frozen=True)
class Handle:
    """Placeholder of a value in a flow: an output of a node, or a given value or file.

    `name` is the name of the output, or of the input for which the value is given.
    """

    source: "Node | object"
    name: str

    def __bool__(self) -> NoReturn:
        raise TypeError(f"{self.source}: {self.name} is not known before the workflow runs")

    __iter__ = __len__ = __bool__

    @property
    def node(self) -> "Node | None":
        """Node that computes the value; None for a given value."""
        return self.source if isinstance(self.source, Node) else None

    @property
    def port(self) -> Port | None:
        """Port of the output; None for a plain or given value."""
        return self.source.step.outputs[self.name] if isinstance(self.source, Node) else None


# handles of an input
Handles = Handle | Sequence[Handle] | Mapping[str, Handle]


class Passage(NamedTuple):
    """Sentences of the methods text, as they are before a run.

    The sentences concern the participant label and run name `participant` and `run`. Both are ""
    if the sentences concern the whole call, and `run` is "" if they concern a participant. `node`
    is described again after it has ended; None if the sentences do not change. `describe` returns
    this description, given the folders of completed nodes with the same text, and the number of
    nodes that have not ended.
    """

    part: Part
    text: str
    participant: str = ""
    run: str = ""
    node: "Node | None" = None
    describe: Callable[[Sequence[Path], int], str] | None = None


@dataclass(eq=False, repr=False, slots=True)
class Node:
    """Call of a step.

    `inputs` are handles by input, in a list or dictionary for inputs with several artifacts. A
    light node only copies small files, in less time than a process needs to start. For
    `references`, see `bids_sr.engine.flow.Flow.store`.
    """

    step: AnyStep
    scope: "Scope"
    name: str
    settings: Mapping[str, object]
    inputs: Mapping[str, Handles]
    is_light: bool = False
    references: Mapping[str, Handle] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.scope.path}.{self.name}"

    __repr__ = __str__

    @property
    def reads(self) -> Sequence[Path]:
        """Files that the step reads because its settings name them."""
        return self.step.list_read_files(self.get_setting)

    def get_setting(self, name: str) -> object:
        """Return a setting of the call, or the default of the step."""
        if name in self.settings:
            return self.settings[name]
        default = self.step.settings[name].default
        if default is REQUIRED:
            raise GraphError(f"{self}: no setting {name}")
        return default


@dataclass(eq=False, repr=False)
class Scope:
    """Part of a graph that becomes a nipype workflow.

    `outer` is None for the outermost scope. `store` is the step that stores files; if None,
    nothing is stored. `uri` returns the URI of a given file among the sources of stored files.
    `inner` scopes are oldest first. `texts` is the methods text of the whole graph. `participant`
    and `run` are "" if the nodes belong to none. `high_resolution` states whether the nodes
    process volumes of the high-resolution grid.
    """

    name: str
    outer: "Scope | None" = None
    store: AnyStep | None = None
    uri: Callable[[Path], str] = str
    inner: list["Scope"] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    texts: list[Passage] = field(default_factory=list)
    participant: str = ""
    run: str = ""
    high_resolution: bool = False

    def __repr__(self) -> str:
        return self.path

    @property
    def path(self) -> str:
        """Names of the scopes, outermost first."""
        return ".".join(scope.name for scope in [*self.outward()][::-1])

    @property
    def owner(self) -> tuple[str, str]:
        """Participant (label) and run that the nodes belong to; "" if there is none."""
        return self.participant, self.run

    def outward(self) -> Iterator["Scope"]:
        """Yield this scope and all enclosing scopes."""
        yield self
        if self.outer:
            yield from self.outer.outward()

    def inward(self) -> Iterator["Scope"]:
        """Yield this scope and all inner scopes, oldest first."""
        yield self
        for scope in self.inner:
            yield from scope.inward()


class Wire(NamedTuple):
    """Handles for an input; `names` are the keys of a dictionary of artifacts, otherwise empty."""

    handles: tuple[Handle, ...]
    names: tuple[str, ...] = ()
