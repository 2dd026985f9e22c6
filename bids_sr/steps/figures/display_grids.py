"""Grids on which images are shown, and images brought onto them.

Maps of a run by what their entities say, and as rows of figures.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from nibabel.affines import apply_affine

from bids_sr.evaluation.evidence import strongest
from bids_sr.io.grids import Array, Float, Shape
from bids_sr.metrics import MetricRow, VerdictFacts
from bids_sr.pipeline.artifacts import Derivative, Facts, Volume
from bids_sr.series import MEASURED, RAW, kind_of
from bids_sr.spatial.masks import percent_scale
from bids_sr.spatial.resampling import sample_volume
from bids_sr.steps.activation import sorted_maps

if TYPE_CHECKING:
    from bids_sr.figures.map_figures import Display, Scene


_DISPLAY_MM = 1.5
_FINE_MM = 0.85
_Grid = tuple[Shape, Float]
"""Shape, and affine (voxel to RAS mm)."""


def grid_of(image: Volume) -> _Grid:
    """The grid of an image itself.

    Numbers of voxels (x, y, z) and voxel-to-world matrix (RAS+ mm).
    """
    x, y, z = image.data.shape
    return (x, y, z), image.affine


def onto(
    image: Volume, shape: Sequence[int], affine: Float, xfm: Array | None = None, *, order: int = 1
) -> Volume:
    """Resample an image to a display grid, linearly by default, zero outside.

    ``xfm`` takes a grid point to its point in the image.

    `order`: order of the spline: 0 (nearest), 1 (linear) or 3 (cubic).
    """
    data = np.asarray(image.data, dtype=np.float32)
    same = data.shape == tuple(shape) and np.allclose(image.affine, affine, atol=1e-4)
    if xfm is None and same:
        return Volume(data, affine)
    seen = sample_volume(data, image.affine, shape, affine, xfm, order=order, zero_outside=True)
    return Volume(seen, affine)


def binary(mask: Volume) -> Volume:
    """A mask that was interpolated, as a mask again.

    Voxels with values above 0.5 (3D, boolean).
    """
    return mask.like(mask.data > 0.5)


def percent_of(boldref: Volume | None, bold_mask: Volume | None) -> float | None:
    """Return the factor from signal to percent of the mean signal of the run's brain.

    It is None without the reference of the run.
    """
    return percent_scale(boldref.data, bold_mask.data) if boldref and bold_mask else None


def display_grid(mask: Volume, *, zoom: float = _DISPLAY_MM) -> _Grid:
    """Return an isotropic grid that holds a mask and a margin of 12 mm.

    It lies along the axes of the mask's image and is never finer than that image.

    `zoom`: smallest edge length of the grid's voxels (mm). Returns numbers of voxels (x, y, z) and
    voxel-to-world matrix (RAS+ mm).
    """
    filled = np.argwhere(mask.data > 0)
    if not len(filled):
        filled = np.array([[0, 0, 0], np.array(mask.data.shape) - 1])
    sizes = mask.zooms
    zoom = max(zoom, float(sizes.min()))
    first = filled.min(axis=0) - 12.0 / sizes
    last = filled.max(axis=0) + 12.0 / sizes
    affine = np.eye(4)
    affine[:3, :3] = mask.affine[:3, :3] / sizes * zoom
    affine[:3, 3] = apply_affine(mask.affine, first)
    shape = np.maximum(np.ceil((last - first) * sizes / zoom).astype(int), 1)
    return (int(shape[0]), int(shape[1]), int(shape[2])), affine


def native_or_display(mask: Volume) -> _Grid:
    """Return a mask's own grid, or an isotropic 1 mm one where voxels are much finer.

    The mask's own grid costs no interpolation.

    Numbers of voxels (x, y, z) and voxel-to-world matrix (RAS+ mm).
    """
    if mask.zooms.min() < _FINE_MM:
        return display_grid(mask, zoom=1.0)
    return grid_of(mask)


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
        from bids_sr.figures.map_figures import CC_DISPLAY, T_DISPLAY

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
    from bids_sr.figures.map_figures import Scene

    return Scene(background=onto(background, *grid_of(mask)), mask=mask, roi=roi)


def color_limit(maps: Iterable[Derivative], floor: float) -> float:
    """Return the color scale limit for one contrast, statistic and smoothing, over all series.

    Largest magnitude on the scale, in units of the maps.
    """
    from bids_sr.figures.map_figures import common_scale

    return common_scale((each.volume for each in maps), floor)


def raised(flags: Facts) -> list[Mapping[str, object]]:
    """Return flags of a run in words."""
    found = flags["flags"]
    return found if isinstance(found, list) else []
