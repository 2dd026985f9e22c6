"""Nipype interfaces made from plain functions that read files and yield figures (SVG) or fragments of HTML."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NewType, get_type_hints

from nipype.interfaces.base import BaseInterfaceInputSpec, File, InputMultiObject, SimpleInterface, TraitedSpec, traits

ANATOMICAL, PAIR, FUNCTIONAL, SCANS = "T1w", "T2starw", "bold", "metrics"
FileName = NewType("FileName", str)
"""A file that exists; nipype looks at its time of change, so that a figure is drawn anew from a new file."""
NO_FILE = FileName("")
_TRAITS: Mapping[Any, Callable[..., Any]] = {
    FileName: lambda **kind: File(exists=True, **kind),
    Sequence[FileName]: lambda **kind: InputMultiObject(File(exists=True), **kind),
    Sequence[str]: lambda **kind: traits.List(traits.Str, **kind),
    Sequence[Any]: traits.List,
    Mapping[str, Any]: traits.Dict,
    str: traits.Str,
    bool: traits.Bool,
    int: traits.Int,
    int | None: traits.Int,
}


class Drawn(NamedTuple):
    """A figure (or a fragment of HTML, where it is text) and the entities under which the report finds it."""

    content: Any
    desc: str
    suffix: str = FUNCTIONAL
    contrast: str = ""


class Reportlet(SimpleInterface):
    """Draw from files, and name what was drawn; see `reportlet`."""

    class output_spec(TraitedSpec):
        out_files = traits.List(File(exists=True), desc="figures (SVG) or fragments of HTML")
        out_entities = traits.List(traits.Dict, desc="of each file: desc, contrast, suffix, extension, datatype")

    draw: Callable[..., Iterator[Drawn]]

    def _run_interface(self, runtime: Any) -> Any:
        from bids_sr.reports.figures.svg_files import save_svg

        self._results: dict[str, list[Any]] = {"out_files": [], "out_entities": []}
        for content, desc, suffix, contrast in self.draw(**self.inputs.get_traitsfree()):
            extension = ".html" if isinstance(content, str) else ".svg"
            path = Path(runtime.cwd) / ("_".join(filter(None, [contrast, desc, suffix])) + extension)
            if isinstance(content, str):
                path.write_text(content, encoding="utf-8")
            else:
                save_svg(content, path)
            entities = {"datatype": "figures", "desc": desc, "suffix": suffix, "extension": extension}
            self._results["out_files"].append(str(path))
            self._results["out_entities"].append(entities | ({"contrast": contrast} if contrast else {}))
        return runtime


def reportlet(draw: Callable[..., Iterator[Drawn]]) -> Any:
    """Interface class of a drawing function, to be used as a decorator.

    Each keyword of the function is an input, of the trait that belongs to its annotation; those without a default
    are mandatory. Inputs that are not set keep the function's default.
    """
    hints = get_type_hints(draw)
    parameters = inspect.signature(draw).parameters.values()
    inputs = {p.name: _TRAITS[hints[p.name]](mandatory=p.default is inspect.Parameter.empty) for p in parameters}
    place = {"__module__": draw.__module__, "__doc__": draw.__doc__}
    spec_place = {"__module__": draw.__module__, "__qualname__": f"{draw.__name__}.input_spec"}
    spec = type(BaseInterfaceInputSpec)(f"{draw.__name__}InputSpec", (BaseInterfaceInputSpec,), inputs | spec_place)
    return type(draw.__name__, (Reportlet,), {**place, "input_spec": spec, "draw": staticmethod(draw)})
