"""Maps of a run, sorted by contrast, statistic, smoothing and series for figures."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from bids_sr.engine.artifacts import Derivative, Image, Mask, Volume
from bids_sr.glm.steps.map_comparison import SortedMaps, read_input_smoothing, sort_maps_of_run
from bids_sr.io.frozen import frozen
from bids_sr.io.series import ACQUIRED, MEASURED, get_kind
from bids_sr.report.figure_step import FigureDrawing
from bids_sr.report.figure_steps.display_grids import read_grid, resample_to

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from bids_sr.report.figures.maps import Display, Scene

_DISPLAYED_SERIES = (ACQUIRED, "bspline")
_DISPLAYED_KINDS = ("method", "measured")
"""Kinds of series whose maps are always drawn, as the maps of `_DISPLAYED_SERIES`."""


@frozen
class ShownMaps:
    """Maps and regions of a run.

    `stats` are by contrast, statistic and smoothing (FWHM, mm), then by series. `regions` are
    masks by contrast, kind and smoothing, then by series.
    """

    stats: SortedMaps
    regions: SortedMaps

    @property
    def display(self) -> "Display":
        """Display of the maps: t, or cc if there are no t maps."""
        from bids_sr.report.figures.maps import CC_DISPLAY, T_DISPLAY

        return T_DISPLAY if any(stat == "t" for _, stat, _ in self.stats) else CC_DISPLAY

    def choose_contrast(self, evidence_contrast: str) -> str:
        """Return the name of the contrast to show first, or "" if there are no maps.

        This is the contrast of the run's evidence (`evidence_contrast`, "" if there is none),
        otherwise the contrast of all conditions, otherwise the first contrast.
        """
        return next(iter(self.list_contrasts(evidence_contrast)), "")

    def list_contrasts(self, evidence_contrast: str) -> list[str]:
        """Return all contrasts, the contrast of `choose_contrast` first."""
        contrasts = list(dict.fromkeys(contrast for contrast, _, _ in self.stats))
        preferred = dict.fromkeys((evidence_contrast, "all", *contrasts))
        return [contrast for contrast in preferred if contrast in contrasts]

    def omit(self, keys: Collection[tuple[str, float]]) -> "ShownMaps":
        """Return the maps without some contrasts and widths (FWHM, mm)."""
        stats, regions = (
            {key: by_series for key, by_series in maps.items() if (key[0], key[2]) not in keys}
            for maps in (self.stats, self.regions)
        )
        return ShownMaps(stats=stats, regions=regions)

    def find_least_smoothing(self, contrast: str, stat: str) -> float:
        """Return the least smoothing (FWHM, mm) of the maps of a contrast and statistic."""
        return min(
            fwhm_mm for name, kind, fwhm_mm in self.stats if (name, kind) == (contrast, stat)
        )


def find_input_smoothing(maps_by_series: Mapping[str, Derivative]) -> float:
    """Return the smoothing before super-resolution (FWHM, mm) of maps of one run."""
    return max(map(read_input_smoothing, maps_by_series.values()), default=0.0)


def sort_maps(maps: Iterable[Derivative]) -> ShownMaps:
    """Sort maps by contrast, statistic or region, smoothing and series.

    Maps in other spaces are skipped.
    """
    stats, regions = sort_maps_of_run(maps)
    return ShownMaps(stats=stats, regions=regions)


def load_displayed_maps(
    maps_by_series: Mapping[str, Derivative], series_names: Sequence[str]
) -> dict[str, Volume]:
    """Return the volumes of the maps that are drawn, by series in display order."""
    names = displayed_series(maps_by_series, series_names)
    return {name: maps_by_series[name].volume for name in names}


def draw_correlations(
    figure_name: str,
    draw: "Callable[[Mapping[str, Volume], Scene], Figure]",
    maps: Iterable[Derivative],
    images: "SceneImages",
    series_names: Sequence[str],
    contrasts: Collection[str] | None = None,
) -> Iterator[FigureDrawing]:
    """Draw the correlation maps of each contrast or seed at each smoothing width.

    The figures contain the acquired, B-spline and measured series, and the methods. `contrasts`
    are drawn; None for all.
    """
    scene = images.scene()
    for (contrast, stat, fwhm_mm), maps_by_series in sort_maps(maps).stats.items():
        if stat == "cc" and (contrasts is None or contrast in contrasts):
            yield FigureDrawing(
                figure_name,
                draw(load_displayed_maps(maps_by_series, series_names), scene),
                contrast=contrast,
                fwhm_mm=fwhm_mm,
                input_fwhm_mm=find_input_smoothing(maps_by_series),
            )


def displayed_series(names: Iterable[str], series_names: Sequence[str]) -> list[str]:
    """Return the series whose maps are drawn: acquired, B-spline, methods and measured.

    All series are returned if there are none of these.
    """
    sorted_names = sort_series(names, series_names)
    displayed_names = [
        name
        for name in sorted_names
        if name in _DISPLAYED_SERIES or get_kind(name) in _DISPLAYED_KINDS
    ]
    return displayed_names or sorted_names


def sort_series(names: Iterable[str], series_names: Sequence[str]) -> list[str]:
    """Return names in the shared display order; unknown names are last, in the given order."""
    unique_names = list(dict.fromkeys(names))
    display_order = list_names(series_names)
    return [name for name in display_order if name in unique_names] + [
        name for name in unique_names if name not in display_order
    ]


def list_names(series_names: Sequence[str]) -> tuple[str, ...]:
    """Return all names of series in display order, from ``acquired`` to ``measured``.

    The names include series that may not exist.
    """
    return (ACQUIRED, *series_names, MEASURED)


def stored_path(statmap: Derivative, entities: Mapping[str, str]) -> str:
    """Return the path of a stored map or region, relative to the output directory.

    `entities` are the entities of the run: labels by long entity name.
    """
    from bids_sr.engine.store import derivative_path

    return derivative_path(
        {**entities, **statmap.entities, "datatype": "func", "extension": ".nii.gz"}
    )


@frozen
class SceneImages:
    """Images that the maps of a run are drawn on.

    `bold_mask_hr` and `roi_hr` are on the high-resolution grid. `guide_hr` is a high-resolution
    T2*w image as background (3D); None for the boldref.
    """

    bold_mask_hr: Mask
    roi_hr: Mask
    boldref: Image
    guide_hr: Image | None = None

    def scene(self) -> "Scene":
        """Return background, brain and region of interest on the high-resolution grid."""
        from bids_sr.report.figures.maps import Scene

        return Scene(
            background=resample_to(self.guide_hr or self.boldref, *read_grid(self.bold_mask_hr)),
            mask=self.bold_mask_hr,
            roi=self.roi_hr,
        )
