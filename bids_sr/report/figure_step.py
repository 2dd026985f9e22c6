"""Report figures: steps that draw, and declare content, place and texts of the figure.

A drawn figure is stored with a description, and the report is assembled from these descriptions.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Generic, NamedTuple, ParamSpec, Union, cast

from bids_sr.engine.artifacts import Derivative, Figure as FigureKind
from bids_sr.engine.memory import Need
from bids_sr.engine.step import Stage, Step, step
from bids_sr.io.series import map_label
from bids_sr.io.smoothing_words import smoothing_text
from bids_sr.report.evaluation_rows import current_labels, label_series
from bids_sr.report.sections import FigureSpec

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_P = ParamSpec("_P")
_LABELS = "series_labels"  # setting of every figure: labels of series that replace their names
FigureContent = Union["Figure", str]
"""Figure, or HTML fragment."""


class FigureDrawing(NamedTuple):
    """Drawn content, with the desc of its declaration, and its contrast and smoothing.

    `fwhm_mm` is the smoothing of the maps, and `input_fwhm_mm` of the series before
    super-resolution (FWHM). `label` is the name of a method, if there is one figure per
    method. `caption` replaces the caption of the declaration, "" to keep it.
    """

    desc: str
    content: FigureContent
    contrast: str = ""
    fwhm_mm: float = 0.0
    input_fwhm_mm: float = 0.0
    label: str = ""
    caption: str = ""


class _Drawing(Derivative):
    """Derivative whose content may be a matplotlib figure."""

    __slots__ = ()

    def save_content(self, stem: Path) -> Path:
        if isinstance(self.content, str):
            return super().save_content(stem)
        from bids_sr.report.figures.svg_files import save_svg

        return save_svg(cast("Figure", self.content), stem.with_suffix(".svg"))


class FigureStep(Step[_P, list[Derivative]], Generic[_P]):
    """Drawing function as a step; `declarations` contains its declarations.

    Figures are saved one after another, so that only one is in memory: all objects of all figures
    would also slow down garbage collection.
    """

    declarations: tuple[FigureSpec, ...] = ()

    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> list[Derivative]:
        """Call the function, or the current receiver of calls; see `Step`.

        Labels of series are passed on as a setting, because the step may run in another process.
        """
        if labels := current_labels():
            kwargs[_LABELS] = dict(labels)
        result: object = super().__call__(*args, **kwargs)
        return list(result) if isinstance(result, Iterator) else cast("list[Derivative]", result)


def figure(
    *declarations: FigureSpec,
    memory: Need | None = None,
) -> Callable[[Callable[_P, Iterator[FigureDrawing] | FigureContent | None]], FigureStep[_P]]:
    """Declare a function as a figure.

    Parameters
    ----------
    *declarations : FigureSpec
        Declarations of the content. A function of one figure may return its content, or None if
        there is nothing to show. A function of several figures yields `FigureDrawing`, each with
        the desc of a declaration.
    memory : Need | None, optional
        Memory that the step adds to a process.

    Returns
    -------
    Callable[[Callable[P, Iterator[FigureDrawing] | FigureContent | None]], FigureStep[P]]
        Decorator that turns a function into a figure step.

    Examples
    --------
    >>> from bids_sr.engine.artifacts import Image
    >>> @figure(FigureSpec("zooms", "motion", html=True, missing="size of the voxels"))
    ... def show_zooms(boldref: Image) -> str:
    ...     return f"<p>{boldref.affine[0][0]} mm</p>"
    >>> list(show_zooms.inputs), [declaration.desc for declaration in show_zooms.declarations]
    (['boldref'], ['zooms'])
    """

    def decorate(
        function: Callable[_P, Iterator[FigureDrawing] | FigureContent | None],
    ) -> FigureStep[_P]:
        @wraps(function)
        def draw(*args: _P.args, **kwargs: _P.kwargs) -> Iterator[Derivative]:
            labels = cast("Mapping[str, str] | None", kwargs.pop(_LABELS, None))
            with label_series(labels or {}):
                content = function(*args, **kwargs)
                if content is None:
                    return
                drawings = (
                    content
                    if isinstance(content, Iterator)
                    else [FigureDrawing(declarations[0].desc, content)]
                )
                for drawing in drawings:
                    yield _make_derivative(drawing, declarations)

        signature = inspect.signature(function)
        labels_parameter = inspect.Parameter(
            _LABELS,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Mapping[str, str] | None,
        )
        signature = signature.replace(
            parameters=[*signature.parameters.values(), labels_parameter],
            return_annotation=list[FigureKind],
        )
        vars(draw)["__signature__"] = signature
        figure_step = FigureStep(
            # a call returns a list
            cast("Callable[_P, list[Derivative]]", draw),
            step(Stage.FIGURES, memory=memory),
        )
        figure_step.declarations = declarations
        return figure_step

    return decorate


def _make_derivative(drawing: FigureDrawing, declarations: Sequence[FigureSpec]) -> Derivative:
    """Return a drawing as a derivative; raise ValueError if it was not declared."""
    is_html = isinstance(drawing.content, str)
    for declaration in declarations:
        if declaration.html == is_html and declaration.desc == drawing.desc:
            contrast = {"contrast": drawing.contrast} if drawing.contrast else {}
            method = drawing.label[:1].upper() + drawing.label[1:]
            desc = map_label(drawing.desc + method, drawing.fwhm_mm)
            return _Drawing(
                drawing.content,
                {**contrast, "desc": desc, "suffix": declaration.suffix},
                _make_note(drawing, declaration),
            )
    raise ValueError(
        f"the {'HTML page' if is_html else 'figure'} {drawing.desc} is not among the declared"
        f" figures {[declaration.desc for declaration in declarations]}"
    )


def _make_note(drawing: FigureDrawing, declaration: FigureSpec) -> dict[str, object]:
    """Return the note on a figure.

    See `bids_sr.report.stored_figures.StoredFigure`.
    """
    placeholders = {
        "contrast": drawing.contrast or "n/a",
        "smoothing": smoothing_text(drawing.fwhm_mm, drawing.input_fwhm_mm),
    }
    return {
        "figure": declaration.desc,
        "section": declaration.section,
        **placeholders,
        "label": drawing.label,
        "heading": declaration.heading.format(**placeholders),
        "caption": (drawing.caption or declaration.caption).format(**placeholders),
        "alt": "" if isinstance(drawing.content, str) else str(drawing.content.get_label()),
    }
