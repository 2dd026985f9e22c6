"""Steps: functions whose typed signature is the interface of a node.

A parameter annotated with a kind (`bids_sr.pipeline.artifacts`) is an artifact from another step.
`here` is the folder of the step, and all other parameters are settings. Steps are called like any
function. The nipype interface of a step loads the artifacts, calls the function and saves the
results. A dataclass as a parameter stands for its fields, and a dataclass as the return type for
the outputs. The interface is created on first use, so that modules with steps import neither
nipype nor the libraries of the computation.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import MISSING, Field, fields, is_dataclass
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
from bids_sr.pipeline.port import REQUIRED, make_port, without_none
from bids_sr.run_time import RunTime

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from nipype.interfaces.base import SimpleInterface


_P = ParamSpec("_P")
_R = TypeVar("_R", covariant=True)


class Part(IntEnum):
    """Parts of the methods text, in the order of processing."""

    OPENING = 0
    ANATOMY = 1
    PAIR = 2
    PREPROCESSING = 3
    SERIES = 4
    MAPS = 5
    EVALUATION = 6


_LITTLE = RunTime(always=0.1)


class Caller(Protocol):
    """Object that receives the calls of steps instead of their functions."""

    def call(self, step: "Step[..., object]", arguments: Mapping[str, object]) -> object:
        """Return placeholders of a step's outputs, or the outputs themselves."""
        ...


_CALLER: ContextVar[Caller | None] = ContextVar("caller", default=None)
HERE = cast("Path", None)
"""Default of the parameter `here` of a step: the folder of the step, which the caller creates."""


@contextmanager
def redirect_calls(caller: Caller | None) -> Iterator[None]:
    """Let `caller` receive the calls of steps within the context; None calls their functions."""
    token = _CALLER.set(caller)
    try:
        yield
    finally:
        _CALLER.reset(token)


def _record_class(annotation: object) -> type | None:
    """Return the dataclass of an annotation, with or without None; None for other annotations."""
    kind = without_none(annotation)
    return kind if isinstance(kind, type) and is_dataclass(kind) else None


def _flat_parameters(parameters: Iterable[inspect.Parameter]) -> Iterator[inspect.Parameter]:
    """Yield parameters, with the fields of records in place of the records.

    All fields of a record that may be None are optional.
    """
    for parameter in parameters:
        record = _record_class(parameter.annotation)
        if record is None:
            yield parameter
            continue
        for field_parameter in _flat_parameters(
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                annotation=field.type,
                default=_field_default(field),
            )
            for field in fields(record)
        ):
            optional = parameter.default is None and field_parameter.default is REQUIRED
            yield field_parameter.replace(default=None) if optional else field_parameter


def _field_default(field: "Field[object]") -> object:
    """Return the default of a field; REQUIRED if there is none."""
    if field.default_factory is not MISSING:
        return field.default_factory()
    return REQUIRED if field.default is MISSING else field.default


def _flatten(
    record_class: "type[DataclassInstance]", record: object
) -> Iterator[tuple[str, object]]:
    """Yield names and values of the fields of a record class, and of the records in it.

    `record` may belong to a subclass, whose additional fields are omitted.
    """
    for field in fields(record_class):
        value, inner = getattr(record, field.name), _record_class(field.type)
        if inner is None:
            yield field.name, value
        elif value is not None:
            yield from _flatten(inner, value)


def _build_record(record: "type[DataclassInstance]", values: dict[str, object]) -> object:
    """Return a record whose fields are removed from `values`.

    None if all fields, and those of the records in it, are None or missing.
    """
    arguments: dict[str, object] = {}
    for field in fields(record):
        inner = _record_class(field.type)
        if inner is not None:
            arguments[field.name] = _build_record(inner, values)
        elif field.name in values:
            arguments[field.name] = values.pop(field.name)
    present = any(value is not None for value in arguments.values())
    return record(**arguments) if present else None


class Step(Generic[_P, _R]):
    """Function as a step; see `step`.

    A parameter whose type is a dataclass stands for its fields, which are artifacts and settings
    like other parameters. An argument may belong to a subclass, whose additional fields do not
    reach the step. The fields of a returned dataclass are the outputs.

    Parameters
    ----------
    function : callable
        Function whose annotations distinguish artifacts from settings.
    makes : sequence of str
        Names of the returned artifacts, in order; if empty, the name of the function.
    memory : Need or None
        Memory that the step adds to a process; None for the usual need.
    cost : RunTime or callable
        Processor time.
    small : bool
        Whether it only handles small tables, in less time than a job needs to start.
    resumes : bool
        Whether a killed step resumes from the files in its folder.
    reads : callable or None
        Returns files or URIs that settings name.
    monitored : sequence of str
        Artifacts that only appear in a log, and are not sources of the outputs.
    awaited : bool
        Whether outputs are shown as soon as the step ends.
    """

    __name__: str
    __qualname__: str

    def __init__(
        self,
        function: Callable[_P, _R],
        makes: Sequence[str] = (),
        *,
        memory: Need | None = None,
        cost: RunTime | Callable[..., RunTime] = _LITTLE,
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
        self._records = {
            name: record
            for name, parameter in signature.parameters.items()
            if (record := _record_class(parameter.annotation)) is not None
        }
        flat = list(_flat_parameters(signature.parameters.values()))
        parameters = {parameter.name: parameter for parameter in flat}
        if len(parameters) < len(flat):
            raise TypeError(f"two parameters of {function.__name__} have the same name")
        ports = {
            name: make_port(parameter.annotation, parameter.default)
            for name, parameter in parameters.items()
        }
        self.inputs = {name: port for name, port in ports.items() if port is not None}
        self.settings = {
            name: parameter
            for name, parameter in parameters.items()
            if not ports[name] and name != "here"
        }
        self.needs_folder = "here" in ports
        return_type = signature.return_annotation
        self._returned = None if make_port(return_type) else _record_class(return_type)
        if self._returned is not None:
            names = tuple(field.name for field in fields(self._returned))
            hints = tuple(field.type for field in fields(self._returned))
        else:
            names = tuple(makes) or (function.__name__,)
            hints = get_args(return_type) if len(names) > 1 else (return_type,)
        if len(hints) != len(names):
            raise TypeError(
                f"the outputs {', '.join(names)} of {function.__name__} do not match its return"
                f" type {return_type}"
            )
        for declaration in (cost, reads):
            unknown = (
                set(inspect.signature(declaration).parameters) if callable(declaration) else set()
            )
            if unknown := unknown - self.settings.keys() - self._records.keys():
                raise TypeError(
                    f"cost or reads of {function.__name__} depend on {', '.join(sorted(unknown))},"
                    " which are no settings of the step"
                )
        self.outputs = {name: make_port(hint) for name, hint in zip(names, hints, strict=True)}

    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Call the function, or the current receiver of calls; see `redirect_calls`."""
        caller = _CALLER.get()
        if caller is None:
            return self.function(*args, **kwargs)
        arguments: dict[str, object] = {}
        for name, value in self._signature.bind(*args, **kwargs).arguments.items():
            record_class = self._records.get(name)
            if record_class is None:
                arguments[name] = value
            elif value is not None:
                arguments |= _flatten(record_class, value)
        result = caller.call(self, arguments)
        if self._returned is not None:
            outputs = result if isinstance(result, tuple) else (result,)
            result = self._returned(**dict(zip(self.outputs, outputs, strict=True)))
        return cast("_R", result)

    def select_arguments(
        self, names: Iterable[str], get_setting: Callable[[str], object]
    ) -> dict[str, object]:
        """Return settings of a call by name, or records of settings by the parameter's name.

        `get_setting` returns the setting of a name.
        """
        arguments: dict[str, object] = {}
        for name in names:
            record = self._records.get(name)
            if record is None:
                arguments[name] = get_setting(name)
            else:
                flat = _flat_parameters([self._signature.parameters[name]])
                values = {field.name: get_setting(field.name) for field in flat}
                arguments[name] = _build_record(record, values)
        return arguments

    def on_files(self, inputs: Mapping[str, object], here: Path) -> dict[str, object]:
        """Load artifacts, call the function, and save the returned values in folder `here`.

        Files are named after the artifacts. Returns files of artifacts and plain values by output,
        without outputs that are None.
        """
        with ExitStack() as stack:
            values = {
                name: (
                    self.inputs[name].load(value, stack, inputs.get(f"{name}_names"))
                    if name in self.inputs
                    else self._convert_setting(name, value)
                )
                for name, value in inputs.items()
                if name in self.inputs or name in self.settings
            }
            # an empty list counts as not given
            for name, port in self.inputs.items():
                if port.container and port.default is not REQUIRED and not values.get(name, True):
                    del values[name]
            if self.needs_folder:
                values["here"] = here
            for name, record in self._records.items():
                if (argument := _build_record(record, values)) is not None:
                    values[name] = argument
            function: Callable[..., object] = self.function
            result = function(**values)
            if self._returned is not None:
                values_returned = tuple(getattr(result, name) for name in self.outputs)
            else:
                values_returned = (
                    result if isinstance(result, tuple) and len(self.outputs) > 1 else (result,)
                )
            return dict(self._save_outputs(values_returned, here))

    def _convert_setting(self, name: str, value: object) -> object:
        """Convert a setting to the type in the signature.

        Nipype stores a path as text, so that the content of the file is part of the hash.
        """
        is_path = value is not None and without_none(self.settings[name].annotation) is Path
        return Path(str(value)) if is_path else value

    def _save_outputs(
        self, results: tuple[object, ...], here: Path
    ) -> Iterator[tuple[str, object]]:
        """Yield name and file, or plain value, of the outputs that are not None."""
        for (name, port), value in zip(self.outputs.items(), results, strict=True):
            if value is not None:
                yield name, value if port is None else port.save(value, here / name)

    @cached_property
    def interface(self) -> "type[SimpleInterface]":
        """Nipype interface class.

        Pickle finds the class, and its specifications, as attributes of this step.
        """
        from bids_sr.pipeline.nipype_interface import interface_class

        attributes = {"__doc__": self.__doc__, "step": self, "_can_resume": self.resumes}
        return interface_class(
            self.function,
            self.inputs,
            self.settings,
            self.outputs,
            run=self.on_files,
            **attributes,
        )


AnyStep = Step[..., object]


def step(
    *,
    makes: str | Sequence[str] = (),
    memory: Need | None = None,
    cost: RunTime | Callable[..., RunTime] = _LITTLE,
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
        Name of the returned artifact, or names in order; by default, the name of the function.
    memory : Need | None, optional
        Memory that the step adds to a process.
    cost : RunTime | Callable[..., RunTime], optional
        Processor time, or a function whose parameters are settings of the step, or records of
        settings. Priorities and the remaining time depend on it.
    small : bool, optional
        Whether the step only handles small tables, in less time than a cluster job needs to start.
    resumes : bool, optional
        Whether the folder of a killed step remains, and the step resumes from the files in it.
    reads : Callable[..., Sequence[Path | str]] | None, optional
        Returns files, or their URIs, that the step reads because its settings name them; its
        parameters are settings of the step.
    monitored : Sequence[str], optional
        Artifacts that only appear in a log, such as a held-out pair; they are not sources of the
        outputs.
    awaited : bool, optional
        Whether outputs are shown as soon as the step ends, such as the verdict of a run; the
        scheduler prefers the steps that it depends on.

    Returns
    -------
    Callable[[Callable[P, R]], Step[P, R]]
        Decorator that turns a function into a step.

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
