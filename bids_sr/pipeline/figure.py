"""Figures of the report: one function that draws, and declares what it shows, where and in which words.

A figure is a step: its parameters are what is drawn, by the names of the artifacts, and what it draws is stored among
the derivatives under the names of its declarations, by which the page finds it.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Generic, NamedTuple, ParamSpec, Union

from bids_sr.config.memory_model import Need
from bids_sr.pipeline.artifacts import Derivative
from bids_sr.pipeline.artifacts import Figure as FigureKind
from bids_sr.pipeline.step import Keep, Step
from bids_sr.reports.sections import Shown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

P = ParamSpec("P")
Content = Union["Figure", str]
"""A figure, or a fragment of HTML."""


class Drawn(NamedTuple):
    """What was drawn, the desc by which its declaration is known, and its contrast, where it shows one of several."""

    desc: str
    content: Content
    contrast: str = ""


class FigureStep(Step[P, list[Derivative]], Generic[P]):
    """A function that draws as a step; `shown` are its declarations."""

    shown: tuple[Shown, ...] = ()


def figure(
    *shown: Shown, memory: Need | None = None
) -> Callable[[Callable[P, Iterator[Drawn] | Content | None]], FigureStep[P]]:
    """Declare a function as a figure.

    Parameters
    ----------
    shown : what it shows. A function of one figure may return its content, or None where there is nothing to see; one
        of several yields `Drawn`, each with the desc of one of these (and its label, where it is declared to have one).
    memory : what it adds to a process

    Examples
    --------
    >>> from bids_sr.pipeline.artifacts import Image
    >>> @figure(Shown("zooms", "motion", html=True, missing="size of the voxels"))
    ... def show_zooms(boldref: Image) -> str:
    ...     return f"<p>{boldref.affine[0][0]} mm</p>"
    >>> list(show_zooms.inputs), [each.desc for each in show_zooms.shown]
    (['boldref'], ['zooms'])
    """

    def decorated(function: Callable[P, Iterator[Drawn] | Content | None]) -> FigureStep[P]:
        @wraps(function)
        def draw(*args: P.args, **kwargs: P.kwargs) -> list[Derivative]:
            found = function(*args, **kwargs)
            if found is None:
                return []
            every = found if isinstance(found, Iterator) else [Drawn(shown[0].desc, found)]
            return [_stored(each, shown) for each in every]

        signature = inspect.signature(function).replace(return_annotation=list[FigureKind])
        vars(draw)["__signature__"] = signature
        made = FigureStep(draw, memory=memory, keep={function.__name__: Keep(dataset="figures", level="minimal")})
        made.shown = shown
        return made

    return decorated


def _stored(drawn: Drawn, shown: Sequence[Shown]) -> Derivative:
    """What was drawn with its entities; ValueError where it was not declared."""
    html = isinstance(drawn.content, str)
    for each in shown:
        if each.html == html and each.is_of(drawn.desc):
            contrast = {"contrast": drawn.contrast} if drawn.contrast else {}
            return Derivative(drawn.content, {**contrast, "desc": drawn.desc, "suffix": each.suffix})
    raise ValueError(f"no {'HTML' if html else 'figure'} {drawn.desc} is declared, only {[one.desc for one in shown]}")
