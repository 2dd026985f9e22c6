"""Report figures: steps that draw, and declare what is shown, where and in what words.

What a figure draws is stored with a note of what it shows. The page is made of these notes.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Generic, NamedTuple, ParamSpec, Union

from bids_sr.config.memory import Need
from bids_sr.pipeline.artifacts import Derivative
from bids_sr.pipeline.artifacts import Figure as FigureKind
from bids_sr.pipeline.step import Step
from bids_sr.report.sections import Shown
from bids_sr.series import map_label
from bids_sr.sr.method import Cost

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_P = ParamSpec("_P")
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
    *shown: Shown, memory: Need | None = None, cost: Cost | Callable[..., Cost] = _USUAL
) -> Callable[[Callable[_P, Iterator[Drawn] | Content | None]], FigureStep[_P]]:
    """Declare a function as a figure.

    Parameters
    ----------
    *shown : Shown
        What it shows. A function of one figure may return its content, or None where there is
        nothing to see; one of several yields `Drawn`, each with the desc of one of these.
    memory : Need | None, optional
        What it adds to a process.
    cost : Cost | Callable[..., Cost], optional
        Processor time, or a function whose parameters are settings of the step.

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

    See `bids_sr.report.figure_archive.ArchivedFigure`.
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
