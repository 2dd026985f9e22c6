"""Maps of a run by what their entities say, and as rows of figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bids_sr.evaluation.evidence import strongest
from bids_sr.metrics.rows import MetricRow, VerdictFacts
from bids_sr.pipeline.artifacts import Derivative, Facts, Volume
from bids_sr.series import MEASURED, RAW, kind_of
from bids_sr.steps.activation import sorted_maps
from bids_sr.steps.figures.display_grids import grid_of, onto

if TYPE_CHECKING:
    from bids_sr.figures.maps import Display, Scene

SHOWN, KINDS = (RAW, "bspline"), ("method", "measured")
"""Series and kinds of series of which every map is drawn."""
_OfSeries = dict[str, Derivative]


@dataclass(frozen=True, kw_only=True, slots=True)
class ShownMaps:
    """Maps and regions of a run by series.

    `stats`: maps by series for each contrast, statistic and smoothing (FWHM, mm). `regions`: masks
    by series for each contrast, kind and smoothing.
    """

    stats: dict[tuple[str, str, float], _OfSeries]
    regions: dict[tuple[str, str, float], _OfSeries]

    @property
    def display(self) -> Display:
        """How its maps are shown: those of t, or of cc where there are none."""
        from bids_sr.figures.maps import CC_DISPLAY, T_DISPLAY

        return T_DISPLAY if any(stat == "t" for _, stat, _ in self.stats) else CC_DISPLAY

    def leading(self, judged: str) -> str:
        """Return the contrast that the verdict is about.

        Without one, it is that of all conditions, or the first that was mapped.

        `judged`: contrast of the evidence for the verdict; empty for none.
        """
        mapped = list(dict.fromkeys(contrast for contrast, _, _ in self.stats))
        return next((name for name in (judged, "all", *mapped) if name in mapped), "")


def sort_maps(maps: Iterable[Derivative]) -> ShownMaps:
    """Order maps by contrast, statistic or region, smoothing and series.

    Maps in another space are left out.
    """
    stats, regions = sorted_maps(maps)
    return ShownMaps(stats=stats, regions=regions)


def judged_contrast(rows: Sequence[MetricRow], verdict: VerdictFacts) -> str:
    """Return the contrast of the evidence that a verdict rests on.

    It is empty where no method was applied or none was compared.
    """
    evidence = strongest("function", rows, [verdict["best"]]) if verdict["best"] else None
    return "" if evidence is None else evidence.contrast


def all_names(series_names: Sequence[str]) -> tuple[str, ...]:
    """Return series in the order shown: as acquired, those of the plan, measured.

    Names from ``raw`` to ``measured``, whether they exist or not.
    """
    return (RAW, *series_names, MEASURED)


def ordered(names: Iterable[str], series_names: Sequence[str]) -> list[str]:
    """Return types in the order that the data set shares; unknown ones come last, by name."""
    known = list(dict.fromkeys(names))
    wanted = all_names(series_names)
    return [name for name in wanted if name in known] + [
        name for name in known if name not in wanted
    ]


def compared(names: Iterable[str], series_names: Sequence[str]) -> list[str]:
    """Return the series whose maps are drawn: acquired, B-spline, methods and measured.

    Where there are none of these, all series are returned.
    """
    known = ordered(names, series_names)
    return [name for name in known if name in SHOWN or kind_of(name) in KINDS] or known


def scene_of(background: Volume, mask: Volume, roi: Volume) -> Scene:
    """Background (on any grid), brain and region of a run.

    It is what maps are drawn upon, on the grid of the mask.
    """
    from bids_sr.figures.maps import Scene

    return Scene(background=onto(background, *grid_of(mask)), mask=mask, roi=roi)


def color_limit(maps: Iterable[Derivative], floor: float) -> float:
    """Return the color scale limit for one contrast, statistic and smoothing, over all series.

    Largest magnitude on the scale, in units of the maps.
    """
    from bids_sr.figures.maps import common_scale

    return common_scale((each.volume for each in maps), floor)


def peak_of_acquired(shown_maps: ShownMaps, contrast: str, scene: Scene) -> tuple[int, int, int]:
    """Return the initial voxel of the viewer: the peak of the acquired map of a contrast.

    The map contains t values (or CC, if there is no t) at the least smoothing. Without an acquired
    map, the map of the first series is used.
    """
    from bids_sr.figures.maps import peak_voxel

    kinds = {stat for name, stat, _ in shown_maps.stats if name == contrast}
    kind = next(kind for kind in ("t", "cc", *sorted(kinds)) if kind in kinds)
    width = min(fwhm for name, stat, fwhm in shown_maps.stats if (name, stat) == (contrast, kind))
    by_series = shown_maps.stats[contrast, kind, width]
    first = by_series.get("raw") or next(iter(by_series.values()))
    return peak_voxel(first.volume, scene.mask)


def raised(flags: Facts) -> list[Mapping[str, object]]:
    """Return flags of a run in words."""
    found = flags["flags"]
    return found if isinstance(found, list) else []
