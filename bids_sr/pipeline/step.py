"""Steps: functions whose typed signature is the interface of a node.

A parameter annotated with a kind (`bids_sr.pipeline.artifacts`) is an artifact, given by the step
that makes it; `here` is the folder of the step; every other parameter is a setting. A step is
called like any function. Its interface for nipype loads the artifacts, calls it and saves what it
returns; it is made when it is first requested, so that a module of steps imports neither nipype
nor what its steps compute with.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from enum import IntEnum
from functools import cached_property, update_wrapper
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Generic,
    ParamSpec,
    Protocol,
    TypeVar,
    cast,
    get_args,
)

from bids_sr.config.memory import Need
from bids_sr.pipeline.port import REQUIRED, bare, port_of
from bids_sr.sr.method import Cost

if TYPE_CHECKING:
    from nipype.interfaces.base import SimpleInterface


_P = ParamSpec("_P")
_R = TypeVar("_R", covariant=True)


def enumerated(words: Sequence[str]) -> str:
    """Return words as a sentence lists them.

    >>> enumerated(["a", "b", "c"])
    'a, b and c'

    Words joined by commas, the last by ``and``; empty without any.
    """
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


class Part(IntEnum):
    """Parts of the methods text, in the order of the processing."""

    OPENING = 0
    ANATOMY = 1
    PAIR = 2
    PREPROCESSING = 3
    SERIES = 4
    MAPS = 5
    EVALUATION = 6


_LITTLE = Cost(always=0.1)


class Caller(Protocol):
    """Receiver of calls of steps, in the place of their functions."""

    def call(self, step: "Step[..., object]", arguments: Mapping[str, object]) -> object:
        """Return what stands for the outputs of a step, or the outputs themselves."""
        ...


_CALLER: ContextVar[Caller | None] = ContextVar("caller", default=None)
HERE = cast("Path", None)
"""Default of the parameter `here` of a step: the folder of the step, which its caller makes."""


@contextmanager
def called_by(caller: Caller | None) -> Iterator[None]:
    """Have a caller take the calls of steps for a while; None: their functions are called."""
    token = _CALLER.set(caller)
    try:
        yield
    finally:
        _CALLER.reset(token)


class Step(Generic[_P, _R]):
    """A function as a step; see `step`.

    `function`: function whose annotations tell artifacts from settings. `makes`: artifacts that it
    returns, in order; empty for its own name. `memory`: memory that it adds to a process; None
    takes the usual need. `cost`: processor time. `small`: whether it handles only small tables,
    faster than a job starts. `resumes`: whether a killed step resumes from the files of its
    folder. `reads`: gives files or URIs that settings name; None if missing. `monitored`:
    artifacts that only a log shows, which are not sources of its outputs. `awaited`: whether its
    outputs are shown as soon as it ends.
    """

    __name__: str
    __qualname__: str

    def __init__(
        self,
        function: Callable[_P, _R],
        makes: Sequence[str] = (),
        *,
        memory: Need | None = None,
        cost: Cost | Callable[..., Cost] = _LITTLE,
        small: bool = False,
        resumes: bool = False,
        reads: Callable[..., Sequence[Path | str]] | None = None,
        monitored: Sequence[str] = (),
        awaited: bool = False,
    ) -> None:
        update_wrapper(self, function)
        self.function = function
        self.memory = memory or Need()
        self.cost = cost
        self.small, self.awaited = small, awaited
        self.resumes, self.reads, self.monitored = resumes, reads, frozenset(monitored)
        self._signature = signature = inspect.signature(function)
        ports = {
            name: port_of(one.annotation, one.default)
            for name, one in signature.parameters.items()
        }
        self.inputs = {name: port for name, port in ports.items() if port is not None}
        self.settings = {
            name: one
            for name, one in signature.parameters.items()
            if not ports[name] and name != "here"
        }
        self.needs_folder = "here" in ports
        names = tuple(makes) or (function.__name__,)
        returned = signature.return_annotation
        hints = get_args(returned) if len(names) > 1 else (returned,)
        if len(hints) != len(names):
            raise TypeError(
                f"the outputs {', '.join(names)} of {function.__name__} do not match its return"
                f" type {returned}"
            )
        for needs in (cost, reads):
            unknown = set(inspect.signature(needs).parameters) if callable(needs) else set()
            if unknown := unknown - self.settings.keys():
                raise TypeError(
                    f"cost or reads of {function.__name__} depend on {', '.join(sorted(unknown))},"
                    " which are no settings of the step"
                )
        self.outputs = {name: port_of(hint) for name, hint in zip(names, hints, strict=True)}

    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Call the function, or what takes calls of steps in its place; see `called_by`."""
        caller = _CALLER.get()
        if caller is None:
            return self.function(*args, **kwargs)
        arguments = self._signature.bind(*args, **kwargs).arguments
        return cast("_R", caller.call(self, arguments))

    def on_files(self, inputs: Mapping[str, object], here: Path) -> dict[str, object]:
        """Load artifacts, call the function, and save what it returns.

        The files have the names of the artifacts.

        Files of artifacts and plain values, by output; None is left out.
        """
        with ExitStack() as stack:
            values = {
                name: (
                    self.inputs[name].load(value, stack, inputs.get(f"{name}_names"))
                    if name in self.inputs
                    else self._setting(name, value)
                )
                for name, value in inputs.items()
                if name in self.inputs or name in self.settings
            }
            # of an empty list nothing is given
            for name, port in self.inputs.items():
                if port.many and port.default is not REQUIRED and not values.get(name, True):
                    del values[name]
            if self.needs_folder:
                values["here"] = here
            function: Callable[..., object] = self.function
            returned = function(**values)
            made = (
                returned if isinstance(returned, tuple) and len(self.outputs) > 1 else (returned,)
            )
            return dict(self._saved(made, here))

    def _setting(self, name: str, value: object) -> object:
        """Convert a setting to the type of the function.

        Nipype holds a path as text, so that the content of the file enters the hash.
        """
        is_path = value is not None and bare(self.settings[name].annotation) is Path
        return Path(str(value)) if is_path else value

    def _saved(self, made: tuple[object, ...], here: Path) -> Iterator[tuple[str, object]]:
        for (name, port), value in zip(self.outputs.items(), made, strict=True):
            if value is not None:
                yield name, value if port is None else port.save(value, here / name)

    @cached_property
    def interface(self) -> "type[SimpleInterface]":
        """Return the nipype interface class.

        Pickle finds it, and its specifications, as attributes of this step.
        """
        from bids_sr.pipeline.nipype_interface import interface_class

        own = {"__doc__": self.__doc__, "step": self, "_can_resume": self.resumes}
        return interface_class(
            self.function, self.inputs, self.settings, self.outputs, run=self.on_files, **own
        )


AnyStep = Step[..., object]


def step(
    *,
    makes: str | Sequence[str] = (),
    memory: Need | None = None,
    cost: Cost | Callable[..., Cost] = _LITTLE,
    small: bool = False,
    resumes: bool = False,
    reads: Callable[..., Sequence[Path | str]] | None = None,
    monitored: Sequence[str] = (),
    awaited: bool = False,
) -> Callable[[Callable[_P, _R]], Step[_P, _R]]:
    """Declare a function as a step.

    Parameters
    ----------
    makes : str | Sequence[str], optional
        Name of the artifact that it returns, or names, in order; that of the function where there
        is none.
    memory : Need | None, optional
        What it adds to a process.
    cost : Cost | Callable[..., Cost], optional
        Processor time, or a function whose parameters are settings of the step. Priorities and the
        time left rest on it.
    small : bool, optional
        It handles small tables alone, in less time than a job of a cluster needs to start.
    resumes : bool, optional
        Its folder stays where it was killed, and it goes on from what it finds there.
    reads : Callable[..., Sequence[Path | str]] | None, optional
        Files, or their URIs, that it reads because its settings name them: a function whose
        parameters are settings of the step.
    monitored : Sequence[str], optional
        Artifacts that only a log shows, such as a held-out pair: they are no sources of its
        outputs.
    awaited : bool, optional
        What it makes is shown as soon as it ends, such as the verdict of a run; the scheduler
        prefers the steps that it waits for.

    Returns
    -------
    Callable[[Callable[P, R]], Step[P, R]]
        Decorator that makes a step of a function.

    Examples
    --------
    >>> from bids_sr.pipeline.artifacts import Image, Mask
    >>> @step()
    ... def brain(boldref: Image, *, closing_mm: float = 8.0) -> Mask:
    ...     return boldref.like(boldref.data > closing_mm)
    >>> list(brain.inputs), list(brain.settings), list(brain.outputs)
    (['boldref'], ['closing_mm'], ['brain'])
    """
    names = (makes,) if isinstance(makes, str) else makes
    return lambda function: Step(
        function,
        names,
        memory=memory,
        cost=cost,
        small=small,
        resumes=resumes,
        reads=reads,
        monitored=monitored,
        awaited=awaited,
    )
