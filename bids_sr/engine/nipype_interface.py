"""Nipype interface class of a step, with traits derived from the signature.

Result files of nipype contain the environment of the process, which can contain passwords. Result
files of these interfaces contain no environment (`benchmarks/upstream/nipype_environment.md`).
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, Protocol, get_args, get_origin

from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    InputMultiObject,
    SimpleInterface,
    TraitedSpec,
    traits,
)
from nipype.interfaces.base.support import Bunch
from nipype.interfaces.utility import Merge

from bids_sr.engine.port import REQUIRED, Port, make_port, without_none

CHECKSUM = "step_checksum"
"""Trait for the checksum of `bids_sr.engine.step_checksums`."""
_TRAIT_TYPES = {
    int: traits.Int,
    float: traits.Float,
    bool: traits.Bool,
    str: traits.Str,
    Path: File,
}


class _Wrapped(Protocol):
    """Step that an interface runs, as far as the interface uses it; see `bids_sr.engine.step`."""

    inputs: dict[str, Port]
    settings: dict[str, inspect.Parameter]
    outputs: dict[str, Port | None]
    resumes: bool

    @property
    def function(self) -> Callable[..., object]:
        """Function of the step."""
        ...

    def run_on_files(self, inputs: Mapping[str, object], here: Path) -> dict[str, object]:
        """Return files of artifacts and plain values by output, in the folder `here`."""
        ...


class _WithoutEnvironment:
    """Mixin for nipype interfaces whose result files do not contain the environment."""

    def _pre_run_hook(self, runtime: Bunch) -> Bunch:
        runtime.environ = {}
        return runtime

    def aggregate_outputs(
        self, runtime: Bunch | None = None, needed_outputs: Sequence[str] | None = None
    ) -> TraitedSpec:
        """Return the outputs after a run.

        Without a run, nipype would write a new result file with the environment. Raises
        `FileNotFoundError` in this case, after which nipype runs the step.
        """
        if runtime is None:
            raise FileNotFoundError("the result file of this step cannot be read")
        return super().aggregate_outputs(runtime, needed_outputs)  # type: ignore[misc]


class _StepInterface(_WithoutEnvironment, SimpleInterface):
    """Base class of the interfaces of steps."""


class MergeFiles(_WithoutEnvironment, Merge):
    """Interface that merges the inputs ``in1``, ``in2`` … into one list ``out``."""


def make_interface_class(step: _Wrapped) -> type[SimpleInterface]:
    """Return the interface class of a step, with a trait for each parameter and output.

    Pickle finds the class and its specifications as attributes ``interface`` of the object with
    the name of the function of the step.
    """
    function, inputs, settings = step.function, step.inputs, step.settings

    def run_interface(interface: SimpleInterface, runtime: Bunch) -> Bunch:
        interface._results = step.run_on_files(
            interface.inputs.get_traitsfree(), Path(runtime.cwd)
        )
        return runtime

    def make_class(name: str, base: type, fields: Mapping[str, object]) -> type:
        names = {
            "__module__": function.__module__,
            "__qualname__": f"{function.__qualname__}.interface{name}",
        }
        return type(base)(
            f"{function.__name__}{name}".replace(".", "_"), (base,), {**fields, **names}
        )

    input_traits: dict[str, object] = {
        name: _make_file_trait(port) for name, port in inputs.items()
    }
    input_traits |= {
        f"{name}_names": traits.List(traits.Str)
        for name, port in inputs.items()
        if port.container == "dict"
    }
    input_traits |= {name: _make_setting_trait(parameter) for name, parameter in settings.items()}
    # nipype only considers settings, and the size and time of files
    input_traits[CHECKSUM] = traits.Str()
    if "device" in settings:  # set by the scheduler, which assigns the GPU to one step at a time
        input_traits["use_gpu"] = traits.Bool(False, usedefault=True, nohash=True)
    output_traits = {
        name: File(exists=True) if port else traits.Any() for name, port in step.outputs.items()
    }
    specs = {
        "input_spec": make_class(".input_spec", BaseInterfaceInputSpec, input_traits),
        "output_spec": make_class(".output_spec", TraitedSpec, output_traits),
    }
    attributes = {"__doc__": step.__doc__, "step": step, "_can_resume": step.resumes}
    return make_class("", _StepInterface, {**specs, **attributes, "_run_interface": run_interface})


def _make_file_trait(port: Port) -> traits.TraitType:
    """Return the trait of an artifact."""
    is_required = port.default is REQUIRED
    if port.container is None:
        return File(exists=True, mandatory=is_required)
    return InputMultiObject(File(exists=True), mandatory=is_required)


def _make_setting_trait(parameter: inspect.Parameter) -> traits.TraitType:
    """Return the trait of a setting.

    Defaults are part of the node's hash, so that a changed default reruns the node.
    """
    trait = _make_trait(parameter.annotation)
    default = parameter.default
    if default is REQUIRED:
        return trait(mandatory=True)
    return trait if default is None else trait(default, usedefault=True)


def _make_trait(annotation: object) -> traits.TraitType:
    """Return the trait for an annotation; any type is accepted if it is unknown."""
    inner = without_none(annotation)
    if get_origin(inner) is Annotated:
        return _make_trait(get_args(inner)[0])
    trait = _make_trait_without_none(inner)
    return trait if inner is annotation else traits.Either(None, trait)


def _make_trait_without_none(annotation: object) -> traits.TraitType:
    """Return the trait for an annotation that does not include None."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return traits.Enum(*args)
    if origin is tuple and args[-1] is not Ellipsis:
        return traits.Tuple(*map(_make_trait, args))
    if origin is list and args and make_port(args[0]) is None:
        return traits.List(_make_trait(args[0]))
    if origin in (dict, Mapping):
        return traits.Dict()
    trait_type = next(
        (trait for python_type, trait in _TRAIT_TYPES.items() if python_type is annotation),
        traits.Any,
    )
    return trait_type()
