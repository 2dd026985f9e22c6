"""Nodes of a graph, the scopes they stand in, and handles of their outputs.

A node is a call of a step in a `bids_sr.pipeline.flow.Flow`. Nodes stand in scopes, such as a
participant, a run, and a series of the run.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, NoReturn, TypeVar

from bids_sr.pipeline.port import REQUIRED, Port
from bids_sr.pipeline.step import AnyStep, Part
from bids_sr.sr.method import Cost

_T = TypeVar("_T")


class GraphError(ValueError):
    """An input or setting that is missing, or of the wrong kind, or a step called twice."""


def scope_name(name: str) -> str:
    """Return the name of the scope of a participant or run.

    Nipype takes letters, digits and underscores only.

    >>> scope_name("sub-01_task-tap+rest")
    'sub_01_task_tap__rest_wf'
    """
    return name.replace("+", "__").replace("-", "_") + "_wf"


def owner_of(node: object) -> tuple[str, str]:
    """Return label of the participant and name of the run of a nipype node; see `Scope.owner`.

    Each is empty if there is none.
    """
    return getattr(node, "owner", ("", ""))


@dataclass(frozen=True)
class Handle:
    """Stand-in for a value in a flow: an output of a node, or a value or file that was given.

    `name`: name of the output, or of the input that the value was given for.
    """

    source: "Node | object"
    name: str

    def __bool__(self) -> NoReturn:
        raise TypeError(f"{self.source}: {self.name} is not known before the workflow runs")

    __iter__ = __len__ = __bool__

    @property
    def node(self) -> "Node | None":
        """The node that makes the value; None for what was given."""
        return self.source if isinstance(self.source, Node) else None

    @property
    def port(self) -> Port | None:
        """How the value is kept in files; None for a plain value, and for what was given."""
        return self.source.step.outputs[self.name] if isinstance(self.source, Node) else None


class Passage(NamedTuple):
    """Sentences of the methods text, as they are before a run.

    `node`: node that they are about, if what it did is described after it has ended; None for
    sentences that stay. `describe`: gives that description, of the folders of the nodes of one
    text that have ended, and of the number of those that have not.
    """

    part: Part
    text: str
    node: "Node | None" = None
    describe: Callable[[Sequence[Path], int], str] | None = None


@dataclass(eq=False, repr=False, slots=True)
class Node:
    """A call of a step.

    `inputs`: handles by input, in a list or dictionary for inputs of several artifacts. `light`:
    whether it only copies small files, in less time than a process needs to start. `references`:
    see `bids_sr.pipeline.flow.Flow.store`. `expected_cost`: see
    `bids_sr.pipeline.flow.expect_cost`; None: that of the step with its settings.
    """

    step: AnyStep
    scope: "Scope"
    name: str
    settings: Mapping[str, object]
    inputs: Mapping[str, Handle | Sequence[Handle] | Mapping[str, Handle]]
    light: bool = False
    references: Mapping[str, Handle] = field(default_factory=dict)
    expected_cost: Cost | None = None

    def __str__(self) -> str:
        return f"{self.scope.path}.{self.name}"

    __repr__ = __str__

    @property
    def cost(self) -> Cost:
        """Processor time of the step with its settings."""
        cost = self.step.cost if self.expected_cost is None else self.expected_cost
        return cost if isinstance(cost, Cost) else self._evaluate(cost)

    @property
    def reads(self) -> Sequence[Path | str]:
        """Files, or their URIs, that the step reads because its settings name them."""
        reads = self.step.reads
        return () if reads is None else self._evaluate(reads)

    def _evaluate(self, function: Callable[..., _T]) -> _T:
        """Call a function with the settings that its parameters name."""
        names = inspect.signature(function).parameters
        return function(**{name: self.setting(name) for name in names})

    def setting(self, name: str) -> object:
        """Return a setting of the call, or the default of the step."""
        if name in self.settings:
            return self.settings[name]
        default = self.step.settings[name].default
        if default is REQUIRED:
            raise GraphError(f"{self}: no setting {name}")
        return default


@dataclass(eq=False, repr=False)
class Scope:
    """Part of a graph, as a workflow of nipype.

    Parameters
    ----------
    name : str
        Name of the workflow.
    outer : Scope | None
        Scope around it; None for the outermost.
    store : AnyStep | None
        Step that stores files; None stores nothing.
    uri : Callable[[Path], str]
        How a given file is named among the sources of what is stored.
    inner : list[Scope]
        Scopes in it, oldest first.
    nodes : list[Node]
        Its nodes.
    texts : list[Passage]
        Methods text of the whole graph.
    participant, run : str
        Label of the participant and name of the run that it belongs to; "" for those of the scope
        around it.
    high_resolution : bool
        Whether its nodes work on volumes of the high-resolution grid.
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

    def within(
        self, name: str, *, participant: str = "", run: str = "", high_resolution: bool = False
    ) -> "Scope":
        """Add an inner scope and return it."""
        inner = Scope(
            name,
            self,
            self.store,
            self.uri,
            texts=self.texts,
            participant=participant,
            run=run,
            high_resolution=high_resolution or self.high_resolution,
        )
        self.inner.append(inner)
        return inner

    @property
    def path(self) -> str:
        """Names of the scopes, outermost first."""
        return ".".join(one.name for one in [*self.outward()][::-1])

    @property
    def owner(self) -> tuple[str, str]:
        """Participant (label) and run that its nodes belong to; "" if there is none."""
        participants = (one.participant for one in self.outward() if one.participant)
        runs = (one.run for one in self.outward() if one.run)
        return next(participants, ""), next(runs, "")

    def outward(self) -> Iterator["Scope"]:
        """Yield this scope and those around it."""
        yield self
        if self.outer:
            yield from self.outer.outward()

    def inward(self) -> Iterator["Scope"]:
        """Yield this scope and those in it, oldest first."""
        yield self
        for scope in self.inner:
            yield from scope.inward()


class Wire(NamedTuple):
    """Handles of one input; `names`: keys of a dictionary of artifacts, otherwise empty."""

    handles: tuple[Handle, ...]
    names: tuple[str, ...] = ()
