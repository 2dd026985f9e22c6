"""Maps of all series by smoothing width, and their comparison."""

from collections.abc import Collection, Iterable, Sequence
from math import prod

from bids_sr.engine.artifacts import Derivative, Facts, Map, Mask, Rows
from bids_sr.engine.metric_rows import columns_json, with_input_smoothing
from bids_sr.engine.step import Stage, step
from bids_sr.glm.activation_regions import parse_thresholds
from bids_sr.glm.contrasts import Contrasts
from bids_sr.glm.map_summary import upsampled_rows
from bids_sr.io.grids import BOLDREF, FIRST_BOLDREF, Factor
from bids_sr.io.json_values import as_number
from bids_sr.io.series import ACQUIRED
from bids_sr.preproc.steps.aligned_series import BrainMasks

_COMPARED_STATS = ("cc", "effect", "t", "z")  # statistics of the maps that tables compare
# maps by smoothing width (FWHM, mm), series, and (contrast, statistic)
_MapsBySmoothing = dict[float, dict[str, dict[tuple[str, str], Derivative]]]
SortedMaps = dict[tuple[str, str, float], dict[str, Derivative]]
"""Maps by (contrast, statistic or region kind, FWHM in mm), and by series."""
MAP_COMPARISON_TEXT = (
    "Acquired maps were compared on the high-resolution grid after cubic spline interpolation. "
)
"""Methods text of `compare_maps`."""


@step(Stage.MAPS, makes=("activation", "activation_columns"))
def compare_maps(
    maps: list[Map],
    map_metrics: list[Rows],
    brain: BrainMasks,
    roi_hr: Mask,
    *,
    contrasts: Contrasts,
    thresholds: Sequence[str],
    factor: Factor,
    input_smoothing: float,
) -> tuple[Rows, Facts]:
    """Join the metrics of the maps of each series and of the interpolated acquired maps.

    Maps of the acquired series are interpolated to the high-resolution grid by cubic splines.
    `input_smoothing` is the smoothing of the acquired volumes (FWHM, mm).
    """
    mapped_contrasts = {
        derivative.entities["contrast"]
        for derivative in maps
        if derivative.entities["suffix"] == "statmap"
    }
    compared_contrasts = {name: contrasts[name] for name in contrasts if name in mapped_contrasts}
    rows = [row for table in map_metrics for row in table]
    for fwhm_mm, maps_by_series in group_by_smoothing(maps, _COMPARED_STATS).items():
        acquired_maps = {
            key: statmap.volume.data for key, statmap in maps_by_series.get(ACQUIRED, {}).items()
        }
        if acquired_maps:
            rows += upsampled_rows(
                acquired_maps,
                compared_contrasts,
                parse_thresholds(thresholds),
                acquired=brain.bold_mask,
                highres=brain.bold_mask_hr,
                roi=roi_hr.data,
                fwhm_mm=fwhm_mm,
                per_acquired=prod(factor),
            )
    return (
        with_input_smoothing(rows, input_smoothing),
        columns_json(row.statistic for row in rows),
    )


def group_by_smoothing(maps: Iterable[Derivative], stats: Collection[str]) -> _MapsBySmoothing:
    """Return maps of some statistics by smoothing width (FWHM, mm), series, and (contrast, stat).

    Regions are skipped.
    """
    maps_by_width: _MapsBySmoothing = {}
    statmaps, _ = sort_maps_of_run(maps)
    for (contrast, stat, fwhm_mm), maps_by_series in statmaps.items():
        if stat not in stats:
            continue
        for series, statmap in maps_by_series.items():
            maps_by_width.setdefault(fwhm_mm, {}).setdefault(series, {})[contrast, stat] = statmap
    return maps_by_width


def read_input_smoothing(derivative: Derivative) -> float:
    """Return the smoothing before super-resolution (FWHM, mm) of the series of a map."""
    return as_number(derivative.sidecar.get("InputSmoothingFWHM"), 0.0)


def sort_maps_of_run(maps: Iterable[Derivative]) -> tuple[SortedMaps, SortedMaps]:
    """Return maps and regions of runs by series; maps in other spaces are skipped.

    Maps are by contrast, statistic and FWHM (mm), and regions by contrast, kind and FWHM.
    """
    stats, regions = SortedMaps(), SortedMaps()
    for derivative in maps:
        entities, sidecar = derivative.entities, derivative.sidecar
        if entities["space"] not in (BOLDREF, FIRST_BOLDREF):
            continue
        series = str(sidecar["SourceSeries"])
        fwhm_mm = as_number(sidecar["SmoothingFWHM"])
        if entities["suffix"] == "statmap":
            key = entities["contrast"], entities["stat"], fwhm_mm
            stats.setdefault(key, {})[series] = derivative
        elif entities["suffix"] == "mask":
            key = entities["label"], str(sidecar["ThresholdLabel"]), fwhm_mm
            regions.setdefault(key, {})[series] = derivative
    return stats, regions
