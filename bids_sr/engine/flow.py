"""Steps as calls: inside a `Flow`, the call of a step adds a node and returns handles.

::

    with Flow(root), subworkflow("sub_01_task_tap_wf"):
        bold = import_series(path, tr=2.0, axis_order=(0, 1, 2))  # a node
        boldref = average_volumes(bold, n_dummy=3)  # connected to it

A handle represents a future output of a node. For a type checker, it has the type of the value, so
that calls of steps are checked like any other call. The order of calls is a valid order of
execution.

Outside a `Flow`, a call computes: within `Eager` using files, as in a workflow, and otherwise in
memory.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Self, TypeVar, cast

from bids_sr.engine.nodes import GraphError, Handle, Handles, Node, Passage, Scope
from bids_sr.engine.port import Port
from bids_sr.engine.step import Caller, Part, Step, redirect_calls
from bids_sr.io.context_values import set_value

_T = TypeVar("_T")
_CURRENT_FLOW: ContextVar["Flow | None"] = ContextVar("flow", default=None)
# name of the innermost subworkflow of calls that compute
_SUBWORKFLOW_NAME: ContextVar[str] = ContextVar("subworkflow_name", default="")


class Flow(ExitStack, Caller):
    """Nodes of a workflow.

    Parameters
    ----------
    scope : Scope
        Outermost scope that nodes are added to. Its `store` is the step that stores files; if
        None, nothing is stored.
    """

    def __init__(self, scope: Scope) -> None:
        super().__init__()
        self.scope = scope
        self.stored = self.described = True  # whether outputs are stored, and calls described

    def __enter__(self) -> Self:
        self.enter_context(set_value(_CURRENT_FLOW, self))
        self.enter_context(redirect_calls(self))
        return self

    def call(self, step: Step[..., object], arguments: Mapping[str, object]) -> object:
        """Add a node.

        Parameters
        ----------
        step : Step
            Called step.
        arguments : Mapping[str, object]
            Arguments of the call by name: handles, values and files.

        Returns
        -------
        object
            Handle of the output, or a tuple of handles if the step has several outputs.
        """
        if step.__name__ in [node.name for node in self.scope.nodes]:
            raise GraphError(
                f"{self.scope.path}: the step {step.__name__} is called twice; call it in a"
                " subworkflow of its own"
            )
        wires: dict[str, Handles] = {}
        settings: dict[str, object] = {}
        for name, value in arguments.items():
            if port := step.inputs.get(name):
                if (wire := _make_handles(name, value, port)) is not None:
                    wires[name] = wire
            elif isinstance(value, Handle):
                wires[name] = value
            else:
                settings[name] = value
        node = Node(step, self.scope, step.__name__, settings, wires)
        self.scope.nodes.append(node)
        handles = tuple(Handle(node, output) for output in step.outputs)
        return handles if len(handles) > 1 else handles[0]

    def store(
        self,
        artifacts: Sequence[Handle],
        settings: Mapping[str, object],
        *,
        facts: Mapping[str, Handle],
        references: Mapping[str, Handle],
    ) -> None:
        """Add the step that stores artifacts to the scope of the step that computes the last one.

        A step that leaves out files is added to the current scope, because it waits for later
        steps.

        Parameters
        ----------
        artifacts : Sequence[Handle]
            Artifacts to store.
        settings : Mapping[str, object]
            Settings of the storing step.
        facts : Mapping[str, Handle]
            Artifacts with further metadata, and with files to leave out, by parameter of the step.
        references : Mapping[str, Handle]
            Image with the grid of a stored image, by the label of its space, which may be "".
        """
        source = artifacts[-1].node
        store = self.scope.store
        if store is None or not self.stored or source is None:
            return
        wires: dict[str, Handle | Sequence[Handle]] = {
            "files": artifacts[0] if len(artifacts) == 1 else [*artifacts],
            **facts,
        }
        scope = self.scope if "left_out" in facts else source.scope
        node = Node(
            store,
            scope,
            f"store_{artifacts[0].name}",
            settings,
            wires,
            is_light=all(
                artifact.port is not None and artifact.port.kind.is_light for artifact in artifacts
            ),
            references=dict(references),
        )
        scope.nodes.append(node)


def _make_handles(name: str, value: object, port: Port) -> Handles | None:
    """Return the handles for an input; None if it is not given."""
    if value is None:
        return None
    if port.container is not None and isinstance(value, Mapping):
        return {str(key): _make_handle(name, item) for key, item in value.items()}
    if port.container is not None and isinstance(value, (list, tuple)):
        return tuple(_make_handle(name, item) for item in value)
    return _make_handle(name, value)


def _make_handle(name: str, value: object) -> Handle:
    """Return a handle unchanged, and the handle of a given value or file."""
    return value if isinstance(value, Handle) else Handle(value, name)


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
    """Add the nodes of calls in the context to a workflow within the enclosing workflow.

    If the enclosing workflow already contains a workflow of this name, nodes are added to it.
    Outside a `Flow`, only the names of steps that `Eager` reports change.

    Parameters
    ----------
    name : str
        Name of the workflow: letters, digits and underscores.
    participant, run : str, default=""
        Label of the participant and name of the run that the nodes belong to, for messages and for
        the order of computation; "" for the values of the enclosing workflow.
    high_resolution : bool, default=False
        Whether the nodes process volumes of the high-resolution grid, which affects their
        processor time.
    stored, described : bool, default=True
        Whether outputs of the calls are stored, and whether the methods text describes the calls.

    Yields
    ------
    None
        While the context is active.
    """
    flow = _CURRENT_FLOW.get()
    if flow is None:
        with set_value(_SUBWORKFLOW_NAME, name):
            yield
        return
    previous = flow.scope, flow.stored, flow.described
    outer = flow.scope
    scopes = [scope for scope in outer.inner if scope.name == name]
    if not scopes:
        scopes = [
            Scope(
                name,
                outer,
                outer.store,
                outer.uri,
                texts=outer.texts,
                participant=participant or outer.participant,
                run=run or outer.run,
                high_resolution=high_resolution or outer.high_resolution,
            )
        ]
        outer.inner += scopes
    flow.scope = scopes[0]
    flow.stored, flow.described = flow.stored and stored, flow.described and described
    try:
        yield
    finally:
        flow.scope, flow.stored, flow.described = previous


def add_methods_text(
    part: Part,
    text: str,
    *,
    output: object = None,
    describe: Callable[[Sequence[Path], int], str] | None = None,
) -> None:
    """Add sentences to the methods text.

    A text appears once, however often it is added. If it is added to some but not all runs or
    participants, these are named before the text. Outside a `Flow`, nothing is added.

    Parameters
    ----------
    part : Part
        Part of the text.
    text : str
        Sentences in Markdown; a final line feed ends the paragraph. If empty, nothing is added.
    output : object, optional
        Handle of an output of the step that `describe` concerns.
    describe : Callable[[Sequence[Path], int], str] | None, optional
        Returns the sentences that replace `text`, which is in the future tense, after the step has
        ended. The arguments are the folders of completed steps with this text, and the number of
        steps that have not ended.
    """
    flow = _CURRENT_FLOW.get()
    if flow is not None and text and flow.described:
        node = output.node if isinstance(output, Handle) and describe is not None else None
        flow.scope.texts.append(Passage(part, text, *flow.scope.owner, node, describe))


def describe_step(part: Part, output: object, describe: Callable[..., str]) -> None:
    """Add sentences on a step to the methods text; see `add_methods_text`.

    `describe` returns the sentences, before the step has ended without arguments.
    """
    add_methods_text(part, describe(), output=output, describe=describe)


def current_flow() -> Flow | None:
    """Return the current flow; None if calls of steps compute."""
    return _CURRENT_FLOW.get()


def as_artifact(file: Path) -> Any:
    """Return a file as an artifact that steps can load, of the kind that they expect."""
    return file


def concatenate(lists: Iterable[list[_T]]) -> list[_T]:
    """Concatenate lists, which may be outputs of several nodes."""
    values = list(lists)
    if any(isinstance(value, Handle) for value in values):
        return cast("list[_T]", values)
    return [item for value in values for item in value]


class Eager(ExitStack, Caller):
    """Context that runs steps when they are called, one after the other, in this process.

    Steps exchange files, as in a workflow, so that values are identical to the results of the
    program. Calls return the content of the files. Series remain open until the context ends.

    Parameters
    ----------
    folder : Path
        Folder that contains the folders of the steps.
    report : Callable[[str], object]
        Function called with the name of each step before it runs, preceded by its subworkflow.
    """

    def __init__(self, folder: Path, report: Callable[[str], object] = str) -> None:
        super().__init__()
        self._folder, self._report = folder, report
        self._n_calls = 0

    def __enter__(self) -> Self:
        self.enter_context(redirect_calls(self))
        self.enter_context(set_value(_SUBWORKFLOW_NAME, ""))
        return self

    def call(self, step: Step[..., object], arguments: Mapping[str, object]) -> object:
        """Run a step.

        Parameters
        ----------
        step : Step
            Called step.
        arguments : Mapping[str, object]
            Arguments of the call by name.

        Returns
        -------
        object
            Output of the step, or a tuple of outputs if there are several; missing outputs are
            None.
        """
        name = step.__name__.replace("_", " ")
        subworkflow_name = _SUBWORKFLOW_NAME.get()
        self._report(f"{subworkflow_name}: {name}" if subworkflow_name else name)
        self._n_calls += 1
        here = self._folder / f"{self._n_calls}_{step.__name__}"
        here.mkdir()
        inputs: dict[str, object] = {}
        for key, value in arguments.items():
            port = step.inputs.get(key)
            if port is not None and port.container == "dict" and isinstance(value, Mapping):
                inputs[key], inputs[f"{key}_names"] = list(value.values()), list(value)
            elif value is not None or port is None:
                inputs[key] = value
        with redirect_calls(None):
            files = step.run_on_files(inputs, here)
        values = tuple(
            files.get(key) if port is None or key not in files else port.load(files[key], self)
            for key, port in step.outputs.items()
        )
        return values if len(values) > 1 else values[0]
