"""Steps: functions whose typed signature is the interface of a node.

A parameter annotated with a kind (`bids_sr.pipeline.artifacts`) is an artifact, given by the step
that makes it; `here` is the folder of the step; every other parameter is a setting. A step is
called like any function. Its interface for nipype loads the artifacts, calls it and saves what it
returns; it is made when it is first asked for, so that a module of steps imports neither nipype
nor what its steps compute with.

Report figures: one function each, which draws and declares what is shown.

It declares what the figure shows, where and in which words.

A figure is a step: its parameters are what is drawn, by the names of the artifacts. What it draws
is stored among the derivatives with a note of what it shows and in which words, from which the
page is made.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property, update_wrapper, wraps
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Generic,
    Literal,
    NamedTuple,
    ParamSpec,
    Protocol,
    TypeVar,
    Union,
    get_args,
    overload,
)

from bids_sr.config.machine import Need
from bids_sr.config.section import Level
from bids_sr.config.spaces import Seed
from bids_sr.pipeline.artifacts import REQUIRED, Derivative, bare, port_of
from bids_sr.pipeline.artifacts import Figure as FigureKind
from bids_sr.report.sections import Shown
from bids_sr.series import map_label
from bids_sr.sr.method import Cost
from bids_sr.sr.recipe_changes import RecipeChange

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from nipype.interfaces.base import SimpleInterface


_P = ParamSpec("_P")
_R = TypeVar("_R", covariant=True)


class Lookup(Protocol):
    """Value of a setting, by its name; `KeyError` where no scope has one of that name.

    Of those that texts and names of files are made of it says the types.
    """

    @overload
    def __call__(self, name: Literal["tr", "start_time"], /) -> float: ...
    @overload
    def __call__(
        self, name: Literal["max_train_minutes", "fd_censor", "enorm_censor"], /
    ) -> float | None: ...
    @overload
    def __call__(self, name: Literal["factor", "grid_mm"], /) -> tuple[float, ...]: ...
    @overload
    def __call__(self, name: Literal["smoothing", "band_pass"], /) -> Sequence[float]: ...
    @overload
    def __call__(self, name: Literal["axis_order"], /) -> tuple[int, ...]: ...
    @overload
    def __call__(self, name: Literal["contrasts"], /) -> Mapping[str, object]: ...
    @overload
    def __call__(self, name: Literal["level"], /) -> Level: ...
    @overload
    def __call__(
        self,
        name: Literal[
            "suffixes", "kinds", "thresholds", "methods", "method_names", "minus_others"
        ],
        /,
    ) -> Sequence[str]: ...
    @overload
    def __call__(
        self, name: Literal["highres_entities", "lowres_entities", "space_entities"], /
    ) -> Mapping[str, str]: ...
    @overload
    def __call__(
        self,
        name: Literal[
            "method",
            "recipe",
            "series_name",
            "pair_tag",
            "roi",
            "template_space",
            "atlas",
            "anat_align",
            "anat_scale",
            "anat_mask",
            "anat_tools",
            "primary",
            "baselines",
            "drift",
        ],
        /,
    ) -> str: ...
    @overload
    def __call__(self, name: Literal["recipe_changes"], /) -> tuple[RecipeChange, ...]: ...
    @overload
    def __call__(self, name: Literal["seeds"], /) -> Sequence[Seed]: ...
    @overload
    def __call__(self, name: Literal["nuisance"], /) -> list[str] | None: ...
    @overload
    def __call__(self, name: str, /) -> object: ...


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


Varies = Mapping[str, Sequence[str]]
TextAfter = Callable[[Lookup, Sequence[Path], int], str]
"""Sentences on what steps did: from settings, the folders of those that have ended, and the number
of those that have not.
"""
_LITTLE = Cost(always=0.1)


@dataclass(frozen=True, slots=True)
class Keep:
    """How an artifact is stored among the derivatives.

    Parameters
    ----------
    entities : Mapping[str, str] | Callable[[Lookup], Mapping[str, str]] | None
        Long entity names to labels, besides those of the scope; None: files tell them.
    sidecar : Mapping[str, object] | Callable[[Lookup], Mapping[str, object]] | str
        Metadata by key, or the artifact that holds them.
    facts : str
        Artifact with metadata known only after the step; empty for none.
    provenance : bool
        Whether the sidecar tells what made the file.
    dataset : Literal['output', 'primary', 'figures']
        Where it is stored: all results, primary series' data set, or figures.
    exported_as : Mapping[str, str] | Callable[[Lookup], Mapping[str, str] | None] | None
        Entities that differ in the data set for other programs; None keeps it out.
    level : Level | Callable[[Lookup], Level]
        Lowest level of storage that has it among all results.
    among : Callable[[Lookup], Sequence[Mapping[str, str]]] | None
        Entities of the files to store, each a choice; None stores all.
    varies : Varies | Callable[[Lookup], Varies]
        Entities by which files with a shared sidecar differ, with differing keys.

    Attributes
    ----------
    entities : long names to labels, beside those of the scope; None: the names of its files tell
        them
    sidecar : metadata, or the name of the artifact that holds them
    facts : name of an artifact that holds further metadata, known only once the step has run; ""
        for none
    provenance : whether the sidecar tells what made it
    dataset : where it is stored: among all results, or only in the data set of the primary series
        for other programs (`bids_sr.pipeline.store`); figures are stored where the report is made
        of them
    exported_as : what of the entities is another one in that data set, where it is linked, an
        empty label for none; None: it is not there
    level : the smallest level (``--level``) at which it is among all results
    among : of an artifact of several files, entities of those that are stored, each a choice; None
        stores all
    varies : of an artifact of several files, entities by which files differ that share a sidecar,
        each with the keys that differ with it, or a function that gives them; these keys stand in
        a sidecar a folder higher
    """

    entities: Mapping[str, str] | Callable[[Lookup], Mapping[str, str]] | None = None
    sidecar: Mapping[str, object] | Callable[[Lookup], Mapping[str, object]] | str = field(
        default_factory=dict
    )
    facts: str = ""
    provenance: bool = False
    dataset: Literal["output", "primary", "figures"] = "output"
    exported_as: Mapping[str, str] | Callable[[Lookup], Mapping[str, str] | None] | None = None
    level: Level | Callable[[Lookup], Level] = "standard"
    among: Callable[[Lookup], Sequence[Mapping[str, str]]] | None = None
    varies: Varies | Callable[[Lookup], Varies] = field(default_factory=dict)


class Step(Generic[_P, _R]):
    """A function as a step; see `step`.

    `function`: function whose annotations tell artifacts from settings. `makes`: artifacts that it
    returns, in order; empty for its own name. `keep`: how artifacts are stored, by name; None
    stores none. `text_after`: what is said instead of `text` once it has ended; None: the same.
    `memory`: what it adds to a process; None takes the usual need. `small`: whether
    it handles only small tables, faster than a job starts. `resumes`: whether a killed step goes
    on from what its folder holds. `reads`: gives files or URIs that settings name; None for none.
    `monitored`: artifacts that only a log shows, which are no sources of what it makes. `awaited`:
    whether what it makes is shown as soon as it ends.
    """

    __name__: str
    __qualname__: str

    def __init__(
        self,
        function: Callable[_P, _R],
        makes: Sequence[str] = (),
        *,
        part: Part = Part.OPENING,
        text: str | Callable[[Lookup], str] = "",
        text_after: TextAfter | None = None,
        keep: Mapping[str, Keep] | None = None,
        memory: Need | None = None,
        cost: Cost | Callable[[Lookup], Cost] = _LITTLE,
        small: bool = False,
        resumes: bool = False,
        reads: Callable[[Lookup], Sequence[Path | str]] | None = None,
        monitored: Sequence[str] = (),
        awaited: bool = False,
    ) -> None:
        update_wrapper(self, function)
        self.function = function
        self.part = part
        self.text = text
        self.text_after = text_after
        self.keep = keep or {}
        self.memory = memory or Need()
        self.cost = cost
        self.small, self.awaited = small, awaited
        self.resumes, self.reads, self.monitored = resumes, reads, frozenset(monitored)
        signature = inspect.signature(function)
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
        if len(hints) != len(names) or self.keep.keys() - set(names):
            raise TypeError(
                f"the outputs {', '.join(names)} of {function.__name__} do not match its return"
                f" type {returned} or the derivatives {self.keep}"
            )
        self.outputs = {name: port_of(hint) for name, hint in zip(names, hints, strict=True)}

    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        return self.function(*args, **kwargs)

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


def step(
    *,
    makes: str | Sequence[str] = (),
    part: Part = Part.OPENING,
    text: str | Callable[[Lookup], str] = "",
    text_after: TextAfter | None = None,
    keep: Mapping[str, Keep] | None = None,
    memory: Need | None = None,
    cost: Cost | Callable[[Lookup], Cost] = _LITTLE,
    small: bool = False,
    resumes: bool = False,
    reads: Callable[[Lookup], Sequence[Path | str]] | None = None,
    monitored: Sequence[str] = (),
    awaited: bool = False,
) -> Callable[[Callable[_P, _R]], Step[_P, _R]]:
    """Declare a function as a step.

    Parameters
    ----------
    makes : str | Sequence[str], optional
        Name of the artifact that it returns, or names, in order; that of the function where there
        is none.
    part, text : Part, optional
        Its sentences in the methods text, or a function that is given a look-up of settings, and
        their place. They may depend on settings only, so that they are known before a run.
    text_after : TextAfter | None, optional
        Sentences that take the place of `text` when the step has ended, made of what is in its
        folder; steps of one `text` are described together. In this case `text` is in the future
        tense.
    keep : Mapping[str, Keep] | None, optional
        How those of its artifacts are stored that are kept, by name.
    memory : Need | None, optional
        What it adds to a process.
    cost : Cost | Callable[[Lookup], Cost], optional
        Processor time, or a function of the settings. Priorities and the time left rest on it.
    small : bool, optional
        It handles small tables alone, in less time than a job of a cluster needs to start.
    resumes : bool, optional
        Its folder stays where it was killed, and it goes on from what it finds there.
    reads : Callable[[Lookup], Sequence[Path | str]] | None, optional
        Files, or their URIs, that it reads because its settings name them.
    monitored : Sequence[str], optional
        Artifacts that only a log shows, such as a held-out pair: they are no sources of what the
        step makes.
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
        part=part,
        text=text,
        text_after=text_after,
        keep=keep,
        memory=memory,
        cost=cost,
        small=small,
        resumes=resumes,
        reads=reads,
        monitored=monitored,
        awaited=awaited,
    )


_USUAL = Cost(always=0.3)
Content = Union["Figure", str]
"""A figure, or a fragment of HTML."""


class Drawn(NamedTuple):
    """What was drawn, and the desc of its declaration; of several, what each of them shows.

    `label` is the name of a method, where each has a figure of its own.
    """

    desc: str
    content: Content
    contrast: str = ""
    fwhm_mm: float = 0.0
    label: str = ""


class FigureStep(Step[_P, list[Derivative]], Generic[_P]):
    """A function that draws as a step; `shown` are its declarations."""

    shown: tuple[Shown, ...] = ()


def figure(
    *shown: Shown, memory: Need | None = None, cost: Cost | Callable[[Lookup], Cost] = _USUAL
) -> Callable[[Callable[_P, Iterator[Drawn] | Content | None]], FigureStep[_P]]:
    """Declare a function as a figure.

    Parameters
    ----------
    *shown : Shown
        What it shows. A function of one figure may return its content, or None where there is
        nothing to see; one of several yields `Drawn`, each with the desc of one of these.
    memory : Need | None, optional
        What it adds to a process.
    cost : Cost | Callable[[Lookup], Cost], optional
        Processor time.

    Returns
    -------
    Callable[[Callable[P, Iterator[Drawn] | Content | None]], FigureStep[P]]
        Decorator that makes a figure step of a function.

    Examples
    --------
    >>> from bids_sr.pipeline.artifacts import Image
    >>> @figure(Shown("zooms", "motion", html=True, missing="size of the voxels"))
    ... def show_zooms(boldref: Image) -> str:
    ...     return f"<p>{boldref.affine[0][0]} mm</p>"
    >>> list(show_zooms.inputs), [each.desc for each in show_zooms.shown]
    (['boldref'], ['zooms'])
    """

    def decorated(function: Callable[_P, Iterator[Drawn] | Content | None]) -> FigureStep[_P]:
        @wraps(function)
        def draw(*args: _P.args, **kwargs: _P.kwargs) -> list[Derivative]:
            found = function(*args, **kwargs)
            if found is None:
                return []
            every = found if isinstance(found, Iterator) else [Drawn(shown[0].desc, found)]
            return [_stored(each, shown) for each in every]

        signature = inspect.signature(function).replace(return_annotation=list[FigureKind])
        vars(draw)["__signature__"] = signature
        made = FigureStep(
            draw,
            memory=memory,
            cost=cost,
            keep={function.__name__: Keep(dataset="figures", level="minimal")},
        )
        made.shown = shown
        return made

    return decorated


def _stored(drawn: Drawn, shown: Sequence[Shown]) -> Derivative:
    """What was drawn with its entities; ValueError where it was not declared."""
    html = isinstance(drawn.content, str)
    for figure in shown:
        if figure.html == html and figure.desc == drawn.desc:
            contrast = {"contrast": drawn.contrast} if drawn.contrast else {}
            desc = map_label(drawn.desc + drawn.label[:1].upper() + drawn.label[1:], drawn.fwhm_mm)
            return Derivative(
                drawn.content,
                {**contrast, "desc": desc, "suffix": figure.suffix},
                _note(drawn, figure),
            )
    raise ValueError(
        f"the {'HTML page' if html else 'figure'} {drawn.desc} is not among the declared figures"
        f" {[one.desc for one in shown]}"
    )


def _note(drawn: Drawn, shown: Shown) -> dict[str, object]:
    """Return the manifest entry of a figure.

    See `bids_sr.report.assembler.ArchivedFigure`.
    """
    smoothing = (
        f"smoothed with a {drawn.fwhm_mm:g} mm FWHM Gaussian kernel"
        if drawn.fwhm_mm
        else "not smoothed"
    )
    words = {"contrast": drawn.contrast or "n/a", "smoothing": smoothing}
    return {
        "figure": shown.desc,
        "section": shown.section,
        **words,
        "label": drawn.label,
        "heading": shown.heading.format(**words),
        "caption": shown.caption.format(**words),
        "alt": "" if isinstance(drawn.content, str) else str(drawn.content.get_label()),
    }
