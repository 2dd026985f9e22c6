"""The interface class of nipype that a step has: its traits follow from the signature."""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Literal, get_args, get_origin

from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    InputMultiObject,
    SimpleInterface,
    TraitedSpec,
    traits,
)
from nipype.interfaces.base.support import Bunch

from bids_sr.pipeline.port import REQUIRED, Port, bare, port_of

INPUTS_CHECKSUM = "inputs_checksum"
"""Trait of `bids_sr.pipeline.input_checksums`."""
_KNOWN = {int: traits.Int, float: traits.Float, bool: traits.Bool, str: traits.Str, Path: File}


def interface_class(
    function: Callable[..., object],
    inputs: Mapping[str, Port],
    settings: Mapping[str, inspect.Parameter],
    outputs: Mapping[str, Port | None],
    *,
    run: Callable[[Mapping[str, object], Path], dict[str, object]],
    **own: object,
) -> type[SimpleInterface]:
    """The interface class of a step, with a trait for each parameter and output.

    `function`: pickle finds the class, and its specifications, as attributes ``interface`` of what
    has its name. `run`: runs it with the values of its traits in a folder; gives its outputs by
    name.
    """

    def run_interface(interface: SimpleInterface, runtime: Bunch) -> Bunch:
        interface._results = run(interface.inputs.get_traitsfree(), Path(runtime.cwd))
        return runtime

    def made(name: str, base: type, fields: Mapping[str, object]) -> type:
        place = {
            "__module__": function.__module__,
            "__qualname__": f"{function.__qualname__}.interface{name}",
        }
        return type(base)(
            f"{function.__name__}{name}".replace(".", "_"), (base,), {**fields, **place}
        )

    input_traits: dict[str, object] = {name: _file_trait(port) for name, port in inputs.items()}
    input_traits |= {
        f"{name}_names": traits.List(traits.Str)
        for name, port in inputs.items()
        if port.many == "dict"
    }
    input_traits |= {name: _setting_trait(one) for name, one in settings.items()}
    # nipype sees only the size and time of files
    input_traits[INPUTS_CHECKSUM] = traits.Str()
    if "device" in settings:  # set by the scheduler, which lends the GPU to one step at a time
        input_traits["use_gpu"] = traits.Bool(False, usedefault=True, nohash=True)
    given = {name: File(exists=True) if port else traits.Any() for name, port in outputs.items()}
    specs = {
        "input_spec": made(".input_spec", BaseInterfaceInputSpec, input_traits),
        "output_spec": made(".output_spec", TraitedSpec, given),
    }
    return made("", SimpleInterface, {**specs, **own, "_run_interface": run_interface})


def _file_trait(port: Port) -> traits.TraitType:
    needed = port.default is REQUIRED
    if port.many is None:
        return File(exists=True, mandatory=needed)
    return InputMultiObject(File(exists=True), mandatory=needed)


def _setting_trait(parameter: inspect.Parameter) -> traits.TraitType:
    """Return the trait of a setting.

    A default enters the hash of the node, so that a new one runs it again.
    """
    trait = _trait(parameter.annotation)
    default = parameter.default
    if default is REQUIRED:
        return trait(mandatory=True)
    return trait if default is None else trait(default, usedefault=True)


def _trait(hint: object) -> traits.TraitType:
    inner = bare(hint)
    origin = get_origin(inner)
    args = get_args(inner)
    known_trait = next((trait for known, trait in _KNOWN.items() if known is inner), traits.Any)()
    if origin is Annotated:
        return _trait(args[0])
    if origin is Literal:
        known_trait = traits.Enum(*args)
    elif origin is tuple and args[-1] is not Ellipsis:
        known_trait = traits.Tuple(*map(_trait, args))
    elif origin is list and args and port_of(args[0]) is None:
        known_trait = traits.List(_trait(args[0]))
    elif origin in (dict, Mapping):
        known_trait = traits.Dict()
    return known_trait if inner is hint else traits.Either(None, known_trait)
