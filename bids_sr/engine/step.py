"""Steps: functions whose typed signature is the interface of a node.

A parameter annotated with a kind (`bids_sr.engine.artifacts`) is an artifact from another step.
`here` is the folder of the step, and all other parameters are settings. Steps are called like any
function. The nipype interface of a step loads the artifacts, calls the function and saves the
results. A dataclass as a parameter stands for its fields, and a dataclass as the return type for
the outputs. The interface is created on first use, so that modules with steps import neither
nipype nor the libraries of the computation.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from contextvars import ContextVar
from dataclasses import KW_ONLY, MISSING, Field, dataclass, fields, is_dataclass
from enum import IntEnum, StrEnum
from functools import cache, cached_property, update_wrapper
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

from bids_sr.engine.artifacts import Artifact
from bids_sr.engine.memory import Need
from bids_sr.engine.port import REQUIRED, Port, make_port, without_none
from bids_sr.io.context_values import set_value

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from nipype.interfaces.base import SimpleInterface

_P = ParamSpec("_P")
_R = TypeVar("_R", covariant=True)
HERE = cast("Path", None)
"""Default of the parameter `here` of a step: the folder of the step, which the caller creates."""


class Part(IntEnum):
    """Parts of the methods text, in the order of processing."""

    ACQUISITION = 0
    ANATOMY = 1
    PAIR = 2
    PREPROCESSING = 3
    SERIES = 4
    MAPS = 5
    EVALUATION = 6
    SOFTWARE = 7


class Stage(StrEnum):
    """Stages of a call, in the order of processing, with their texts on the console."""

    STRUCTURAL_PREPARATION = "structural scans: bias correction, brain extraction and registration"
    STRUCTURAL = "structural scans: training and super-resolution of all contrasts"
    ANATOMY = (
        "anatomical images: bias-field correction, brain mask, template registration and atlas"
    )
    OTHER_PROGRAMS = "series from other programs"
    HEAD_MOTION = "head-motion and slice-timing correction"
    REGISTRATION = "registration"
    SEEDS = "seed time series"
    CALIBRATION = "calibration"
    PRIOR = "prior SD maps"
    TRAINING = "training"
    SUPER_RESOLUTION = "super-resolution and baseline methods"
    MAPS = "activation maps"
    EVALUATION = "evaluation"
    EXPORT = "files for other software"
    FIGURES = "figures"
    COMBINATION = "combination of runs"
    STORAGE = "storing the outputs"


class Caller(Protocol):
    """Object that receives the calls of steps instead of their functions."""

    def call(self, step: "Step[..., object]", arguments: Mapping[str, object]) -> object:
        """Return placeholders of a step's outputs, or the outputs themselves."""
        ...


_CURRENT_CALLER: ContextVar[Caller | None] = ContextVar("caller", default=None)


def redirect_calls(caller: Caller | None) -> AbstractContextManager[None]:
    """Let `caller` receive the calls of steps within the context; None calls their functions."""
    return set_value(_CURRENT_CALLER, caller)


class Step(Generic[_P, _R]):
    """Function as a step; see `step`.

    A parameter whose type is a dataclass stands for its fields, which are artifacts and settings
    like other parameters. An argument may belong to a subclass, whose additional fields do not
    reach the step. The fields of a returned dataclass are the outputs.

    `function` has annotations that distinguish artifacts from settings. Without a declared memory,
    the step needs the usual memory.
    """

    __name__: str
    __qualname__: str

    def __init__(self, function: Callable[_P, _R], declaration: "step") -> None:
        update_wrapper(self, function)
        self.function, self.stage = function, declaration.stage
        self.memory = declaration.memory or Need()
        self.small, self.awaited = declaration.small, declaration.awaited
        self.resumes, self.reads = declaration.resumes, declaration.reads
        self.monitored = frozenset(declaration.monitored)
        self._signature = inspect.signature(function)
        self._records = {
            name: record_class
            for name, parameter in self._signature.parameters.items()
            if (record_class := _get_record_class(parameter.annotation)) is not None
        }
        parameters = self._collect_parameters()
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
        self._read_names = () if self.reads is None else self._list_names(self.reads)
        return_type = self._signature.return_annotation
        self._result_class = None if make_port(return_type) else _get_record_class(return_type)
        makes = declaration.makes
        self.outputs = self._collect_outputs((makes,) if isinstance(makes, str) else makes)

    def _collect_parameters(self) -> dict[str, inspect.Parameter]:
        """Return the parameters by name, with the fields of records in place of the records."""
        flat_parameters = list(_iterate_flat_parameters(self._signature.parameters.values()))
        parameters = {parameter.name: parameter for parameter in flat_parameters}
        if len(parameters) < len(flat_parameters):
            raise TypeError(f"two parameters of {self.__name__} have the same name")
        return parameters

    def _collect_outputs(self, makes: Sequence[str]) -> dict[str, Port | None]:
        """Return the ports of the outputs by name; None for a plain value.

        `makes` are the names of the returned artifacts; if empty, the name of the function.
        """
        return_type = self._signature.return_annotation
        if self._result_class is not None:
            names = tuple(field.name for field in fields(self._result_class))
            annotations = tuple(field.type for field in fields(self._result_class))
        else:
            names = tuple(makes) or (self.__name__,)
            annotations = get_args(return_type) if len(names) > 1 else (return_type,)
        if len(annotations) != len(names):
            raise TypeError(
                f"the outputs {', '.join(names)} of {self.__name__} do not match its return type"
                f" {return_type}"
            )
        return {
            name: make_port(annotation)
            for name, annotation in zip(names, annotations, strict=True)
        }

    def _list_names(self, declaration: Callable[..., object]) -> tuple[str, ...]:
        """Return the names of the parameters of `reads`.

        Raises `TypeError` if a parameter is not a setting of the step.
        """
        names = tuple(inspect.signature(declaration).parameters)
        if unknown := set(names) - self.settings.keys():
            raise TypeError(
                f"reads of {self.__name__} depends on {', '.join(sorted(unknown))},"
                " which are no settings of the step"
            )
        return names

    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Call the function, or the current receiver of calls; see `redirect_calls`."""
        caller = _CURRENT_CALLER.get()
        if caller is None:
            return self.function(*args, **kwargs)
        arguments: dict[str, object] = {}
        for name, value in self._signature.bind(*args, **kwargs).arguments.items():
            record_class = self._records.get(name)
            if record_class is None:
                arguments[name] = value
            elif value is not None:
                arguments |= _iterate_record_values(record_class, value)
        result = caller.call(self, arguments)
        if self._result_class is not None:
            outputs = result if isinstance(result, tuple) else (result,)
            result = self._result_class(**dict(zip(self.outputs, outputs, strict=True)))
        return cast("_R", result)

    def list_read_files(self, get_setting: Callable[[str], object]) -> Sequence[Path]:
        """Return the files that the step reads because its settings name them.

        `get_setting` returns the setting of a name.
        """
        if self.reads is None:
            return ()
        return self.reads(**{name: get_setting(name) for name in self._read_names})

    def run_on_files(self, inputs: Mapping[str, object], here: Path) -> dict[str, object]:
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
            if self._result_class is not None:
                results = tuple(getattr(result, name) for name in self.outputs)
            else:
                results = (
                    result if isinstance(result, tuple) and len(self.outputs) > 1 else (result,)
                )
            return {
                name: value if port is None else port.save(value, here / name)
                for (name, port), value in zip(self.outputs.items(), results, strict=True)
                if value is not None
            }

    def _convert_setting(self, name: str, value: object) -> object:
        """Convert a setting to the type in the signature.

        Nipype stores a path as text, so that the content of the file is part of the hash.
        """
        is_path = value is not None and without_none(self.settings[name].annotation) is Path
        return Path(str(value)) if is_path else value

    @cached_property
    def interface(self) -> "type[SimpleInterface]":
        """Nipype interface class.

        Pickle finds the class, and its specifications, as attributes of this step.
        """
        from bids_sr.engine.nipype_interface import make_interface_class

        return make_interface_class(self)


AnyStep = Step[..., object]


def _iterate_flat_parameters(
    parameters: Iterable[inspect.Parameter],
) -> Iterator[inspect.Parameter]:
    """Yield parameters, with the fields of records in place of the records.

    All fields of a record that may be None are optional.
    """
    for parameter in parameters:
        record = _get_record_class(parameter.annotation)
        if record is None:
            yield parameter
            continue
        for field_parameter in _iterate_flat_parameters(
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                annotation=field.type,
                default=_get_field_default(field),
            )
            for field in fields(record)
        ):
            optional = parameter.default is None and field_parameter.default is REQUIRED
            yield field_parameter.replace(default=None) if optional else field_parameter


def _get_field_default(field: "Field[object]") -> object:
    """Return the default of a field; REQUIRED if there is none."""
    if field.default_factory is not MISSING:
        return field.default_factory()
    return REQUIRED if field.default is MISSING else field.default


def _iterate_record_values(
    record_class: "type[DataclassInstance]", record: object
) -> Iterator[tuple[str, object]]:
    """Yield names and values of the fields of a record class, and of the records in it.

    `record` may belong to a subclass, whose additional fields are omitted.
    """
    for name, field_class in _list_fields(record_class):
        value = getattr(record, name)
        if field_class is None:
            yield name, value
        elif value is not None:
            yield from _iterate_record_values(field_class, value)


def _build_record(record: "type[DataclassInstance]", values: dict[str, object]) -> object:
    """Return a record whose fields are removed from `values`.

    None if all fields, and those of the records in it, are None or missing.
    """
    arguments: dict[str, object] = {}
    for name, field_class in _list_fields(record):
        if field_class is not None:
            arguments[name] = _build_record(field_class, values)
        elif name in values:
            arguments[name] = values.pop(name)
    present = any(value is not None for value in arguments.values())
    return record(**arguments) if present else None


@cache
def _list_fields(record_class: "type[DataclassInstance]") -> tuple[tuple[str, type | None], ...]:
    """Return names and record classes (None for plain values) of the fields of a record class."""
    return tuple((field.name, _get_record_class(field.type)) for field in fields(record_class))


def _get_record_class(annotation: object) -> type | None:
    """Return the record class of an annotation, with or without None; None for other types."""
    kind = without_none(annotation)
    if not isinstance(kind, type) or issubclass(kind, Artifact):
        return None
    return kind if is_dataclass(kind) else None


@dataclass(frozen=True)
class step:
    """Decorator that declares a function as a step.

    Parameters
    ----------
    stage : Stage
        Stage of the call, with which time and memory are listed and progress is shown.
    makes : str | Sequence[str], optional
        Name of the returned artifact, or names in order; by default, the name of the function.
    memory : Need | None, optional
        Memory that the step adds to a process.
    small : bool, optional
        Whether the step only handles small tables, in less time than a cluster job needs to start.
    resumes : bool, optional
        Whether the folder of a killed step remains, and the step resumes from the files in it.
    reads : Callable[..., Sequence[Path]] | None, optional
        Returns files that the step reads because its settings name them; its parameters are
        settings of the step.
    monitored : Sequence[str], optional
        Artifacts that only appear in a log, such as a held-out pair; they are not sources of the
        outputs.
    awaited : bool, optional
        Whether outputs are shown as soon as the step ends, such as the verdict of a run; the
        scheduler prefers the steps that it depends on.

    Examples
    --------
    >>> from bids_sr.engine.artifacts import Image, Mask
    >>> @step(Stage.HEAD_MOTION)
    ... def brain(boldref: Image, *, closing_mm: float = 8.0) -> Mask:
    ...     return boldref.like(boldref.data > closing_mm)
    >>> list(brain.inputs), list(brain.settings), list(brain.outputs)
    (['boldref'], ['closing_mm'], ['brain'])
    """

    stage: Stage
    _: KW_ONLY
    makes: str | Sequence[str] = ()
    memory: Need | None = None
    small: bool = False
    resumes: bool = False
    reads: Callable[..., Sequence[Path]] | None = None
    monitored: Sequence[str] = ()
    awaited: bool = False

    def __call__(self, function: Callable[_P, _R]) -> Step[_P, _R]:
        """Return the function as a step."""
        return Step(function, self)
