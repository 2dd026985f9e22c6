"""Steps as calls: inside a `Flow` a call of a step adds a node, and returns handles.

::

    with Flow(root), subworkflow("sub_01_task_tap_wf"):
        bold = import_series(path, tr=2.0, axis_order=(0, 1, 2))  # a node
        boldref = average_volumes(bold, n_dummy=3)  # connected with it

A handle stands for what a node will make. To a type checker it has the type of the value, so that
the call of a step is checked like any call. The steps can run in the order of the
calls.

Outside a `Flow`, a call computes: inside `Eager` by way of files, as in a workflow, otherwise in
memory.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar, Token
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar, cast

from bids_sr.pipeline.nodes import GraphError, Handle, Node, Passage, Scope
from bids_sr.pipeline.port import Port
from bids_sr.pipeline.step import Caller, Part, Step, called_by
from bids_sr.sr.method import Cost

if TYPE_CHECKING:
    from bids_sr.pipeline.artifacts import Facts, Image, Regressors, Series, Table, Transforms

_T = TypeVar("_T")
_FLOW: ContextVar["Flow | None"] = ContextVar("flow", default=None)
_PART: ContextVar[str] = ContextVar("part", default="")
"""Name of the innermost subworkflow of calls that compute."""


class Flow(Caller):
    """Nodes of a workflow.

    Parameters
    ----------
    scope : Scope
        Outermost scope; nodes are added to it. Its `store` is the step that stores files; None
        stores nothing.
    """

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self._stored = self._described = True

    def __enter__(self) -> Self:
        self._token: Token[Flow | None] = _FLOW.set(self)
        self._caller = called_by(self)
        self._caller.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._caller.__exit__(kind, error, traceback)
        _FLOW.reset(self._token)

    def call(self, step: Step[..., object], arguments: Mapping[str, object]) -> object:
        """Add a node.

        Parameters
        ----------
        step : Step
            Step that is called.
        arguments : Mapping[str, object]
            Arguments of the call by name: handles, values and files.

        Returns
        -------
        object
            Handle of the output, or a tuple of handles if the step has several outputs.
        """
        if any(node.name == step.__name__ for node in self.scope.nodes):
            raise GraphError(
                f"{self.scope.path}: the step {step.__name__} is called twice; call it in a"
                " subworkflow of its own"
            )
        wires: dict[str, Handle | Sequence[Handle] | Mapping[str, Handle]] = {}
        settings: dict[str, object] = {}
        for name, value in arguments.items():
            if port := step.inputs.get(name):
                if (wire := _wire(name, value, port)) is not None:
                    wires[name] = wire
            elif isinstance(value, Handle):
                wires[name] = value
            else:
                settings[name] = value
        node = Node(step, self.scope, step.__name__, settings, wires)
        self.scope.nodes.append(node)
        made = tuple(Handle(node, output) for output in step.outputs)
        return made if len(made) > 1 else made[0]

    def store(
        self,
        artifact: Handle,
        settings: Mapping[str, object],
        *,
        facts: Handle | None,
        references: Mapping[str, Handle],
    ) -> None:
        """Add the step that stores an artifact, beside the step that makes it.

        Parameters
        ----------
        artifact : Handle
            What is stored.
        settings : Mapping[str, object]
            Settings of the storing step.
        facts : Handle | None
            Artifact with further metadata.
        references : Mapping[str, Handle]
            Image that has the grid of a stored image, by the label of its space ("": none).
        """
        source = artifact.node
        store = self.scope.store
        if store is None or not self._stored or source is None:
            return
        wires = {"files": artifact, **({} if facts is None else {"sidecar": facts})}
        light = artifact.port is not None and artifact.port.kind.light
        name = f"keep_{artifact.name}"
        source.scope.nodes.append(
            Node(
                store,
                source.scope,
                name,
                settings,
                wires,
                light,
                dict(references),
            )
        )

    def say(
        self,
        part: Part,
        text: str,
        *,
        made: object = None,
        describe: Callable[[Sequence[Path], int], str] | None = None,
    ) -> None:
        """Add sentences to the methods text; see `bids_sr.pipeline.flow.say`.

        Parameters
        ----------
        part : Part
            Where the sentences stand.
        text : str
            Sentences in Markdown.
        made : object, optional
            Handle of the step that `describe` is about.
        describe : Callable[[Sequence[Path], int], str] | None, optional
            Sentences that replace `text` as soon as the step has ended.
        """
        if text and self._described:
            node = made.node if isinstance(made, Handle) and describe is not None else None
            self.scope.texts.append(Passage(part, text, node, describe))

    @contextmanager
    def inside(
        self,
        name: str,
        *,
        participant: str,
        run: str,
        high_resolution: bool,
        stored: bool,
        described: bool,
    ) -> Iterator[None]:
        """Add nodes to an inner scope for a while; see `subworkflow`.

        Parameters
        ----------
        name : str
            Name of the inner scope.
        participant, run : str
            Label of the participant and name of the run; "": as the scope around it.
        high_resolution : bool
            Whether the nodes work on volumes of the high-resolution grid.
        stored, described : bool
            Whether anything is stored of the calls, and whether the methods text describes them.

        Yields
        ------
        None
            While the block runs.
        """
        before = self.scope, self._stored, self._described
        there = (one for one in self.scope.inner if one.name == name)
        self.scope = next(there, None) or self.scope.within(
            name, participant=participant, run=run, high_resolution=high_resolution
        )
        self._stored, self._described = self._stored and stored, self._described and described
        try:
            yield
        finally:
            self.scope, self._stored, self._described = before


def _wire(
    name: str, value: object, port: Port
) -> Handle | Sequence[Handle] | Mapping[str, Handle] | None:
    """Return handles of an input; None if nothing is given for it."""

    def handle(one: object) -> Handle:
        return one if isinstance(one, Handle) else Handle(one, name)

    if value is None:
        return None
    if isinstance(value, Handle) or port.many is None:
        return handle(value)
    if isinstance(value, Mapping):
        return {str(key): handle(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return tuple(map(handle, value))
    return handle(value)


@contextmanager
def subworkflow(
    name: str,
    *,
    participant: str = "",
    run: str = "",
    high_resolution: bool = False,
    stored: bool = True,
    described: bool = True,
) -> Iterator[None]:
    """Put the nodes of the calls inside into a workflow of their own, inside that around it.

    If that has a workflow of this name, nodes are added to it. Outside a `Flow`, `Eager` reports
    the steps inside with this name, and nothing else changes.

    Parameters
    ----------
    name : str
        Name of the workflow: letters, digits and underscores.
    participant, run : str, default=""
        Label of the participant and name of the run that the nodes belong to, for messages and
        for the order of computation; empty: as in the workflow around it.
    high_resolution : bool, default=False
        Whether the nodes work on volumes of the high-resolution grid, for the time they take.
    stored, described : bool, default=True
        Whether anything is stored of these calls, and whether the methods text describes them.

    Yields
    ------
    None
        While the block runs.
    """
    flow = _FLOW.get()
    if flow is None:
        with _named(name):
            yield
        return
    with flow.inside(
        name,
        participant=participant,
        run=run,
        high_resolution=high_resolution,
        stored=stored,
        described=described,
    ):
        yield


@contextmanager
def _named(part: str) -> Iterator[None]:
    """Name what calls that compute are part of."""
    token = _PART.set(part)
    try:
        yield
    finally:
        _PART.reset(token)


def say(
    part: Part,
    text: str,
    *,
    made: object = None,
    describe: Callable[[Sequence[Path], int], str] | None = None,
) -> None:
    """Add sentences to the methods text.

    Each text is there once, however often it is added. Outside a `Flow` nothing is added.

    Parameters
    ----------
    part : Part
        Where the sentences stand.
    text : str
        Sentences in Markdown; a final line feed ends the paragraph. Empty: nothing is added.
    made : object, optional
        Handle of the step that `describe` is about.
    describe : Callable[[Sequence[Path], int], str] | None, optional
        Sentences that replace `text`, which is in the future tense, as soon as the step has ended.
        Gets the folders of the steps of this text that have ended, and the number of others.
    """
    flow = _FLOW.get()
    if flow is not None:
        flow.say(part, text, made=made, describe=describe)


def expect_cost(made: object, cost: Cost) -> None:
    """Say what processor time a step takes, if that depends on more than its settings.

    Outside a `Flow` nothing changes.

    Parameters
    ----------
    made : object
        Handle of an output of the step.
    cost : Cost
        Takes the place of the cost of the step.
    """
    if isinstance(made, Handle) and made.node is not None:
        made.node.expected_cost = cost


def current_flow() -> Flow | None:
    """Return the flow that calls add nodes to; None if calls compute."""
    return _FLOW.get()


def transforms_in(file: Path) -> "Transforms":
    """Give transforms that a file of another program holds: steps load it like their own."""
    return cast("Transforms", file)


def series_in(file: Path) -> "Series":
    """Give a series that a file holds."""
    return cast("Series", file)


def image_in(file: Path) -> "Image":
    """Give an image that a file holds."""
    return cast("Image", file)


def table_in(file: Path) -> "Table":
    """Give a table that a file of another program holds."""
    return cast("Table", file)


def facts_in(file: Path) -> "Facts":
    """Give facts that a file holds: steps load it like their own."""
    return cast("Facts", file)


def events_in(file: Path) -> "Regressors":
    """Give events that a BIDS table holds."""
    return cast("Regressors", file)


def joined(lists: Iterable[list[_T]]) -> list[_T]:
    """Give lists that several nodes make as one list."""
    values = list(lists)
    if any(isinstance(value, Handle) for value in values):
        return cast("list[_T]", values)
    return [one for value in values for one in value]


class Eager(Caller):
    """Run steps when they are called, one after the other in this process.

    Steps exchange files, as in a workflow, so that values equal the results of the program; each
    call returns what its files hold. Series are open until the block ends.

    Parameters
    ----------
    folder : Path
        Folder of the steps' own folders.
    report : Callable[[str], object]
        Is told the name of each step before it runs, after that of its subworkflow.
    """

    def __init__(self, folder: Path, report: Callable[[str], object] = str) -> None:
        self._folder, self._report = folder, report
        self._stack = ExitStack()
        self._n_calls = 0

    def __enter__(self) -> Self:
        self._caller = ExitStack()
        self._caller.enter_context(called_by(self))
        self._caller.enter_context(_named(""))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._caller.__exit__(kind, error, traceback)
        self._stack.close()

    def call(self, step: Step[..., object], arguments: Mapping[str, object]) -> object:
        """Run a step.

        Parameters
        ----------
        step : Step
            Step that is called.
        arguments : Mapping[str, object]
            Arguments of the call by name.

        Returns
        -------
        object
            Its output, or a tuple of outputs if it has several; None for those it did not make.
        """
        name = step.__name__.replace("_", " ")
        part = _PART.get()
        self._report(f"{part}: {name}" if part else name)
        self._n_calls += 1
        here = self._folder / f"{self._n_calls}_{step.__name__}"
        here.mkdir()
        given: dict[str, object] = {}
        for key, value in arguments.items():
            port = step.inputs.get(key)
            if port is not None and port.many == "dict" and isinstance(value, Mapping):
                given[key], given[f"{key}_names"] = list(value.values()), list(value)
            elif value is not None or port is None:
                given[key] = value
        with called_by(None):
            files = step.on_files(given, here)
        made = tuple(self._loaded(port, files.get(key)) for key, port in step.outputs.items())
        return made if len(made) > 1 else made[0]

    def _loaded(self, port: Port | None, value: object) -> object:
        if port is None or value is None:
            return value
        return port.load(value, self._stack)
