"""Maps that a page begins with: pictures, sentences and files to use, by contrast."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path

import numpy as np
from markupsafe import Markup

from bids_sr.config.levels import StoredMaps
from bids_sr.engine.artifacts import Derivative
from bids_sr.engine.metric_rows import MetricRow
from bids_sr.engine.number_text import number
from bids_sr.evaluation.result import RunResult
from bids_sr.evaluation.statements import Statement
from bids_sr.glm.activation_regions import SIGN_RELIABLE
from bids_sr.glm.map_sidecars import MEAN_SIGNAL
from bids_sr.glm.vein_signs import LARGE_PERCENT
from bids_sr.io.arrays import Array
from bids_sr.io.frozen import frozen
from bids_sr.io.grids import BOLDREF, Factor
from bids_sr.io.json_values import as_number
from bids_sr.io.safe_width import is_safe
from bids_sr.io.series import ACQUIRED
from bids_sr.io.volume import Volume
from bids_sr.report.figure_steps import run_maps as run_maps_figures
from bids_sr.report.figure_steps.result_picture import PictureMaps, draw_error, draw_picture
from bids_sr.report.figure_steps.run_maps import SceneImages, ShownMaps
from bids_sr.report.first_screen import ContrastView, UseRow, make_view
from bids_sr.report.reasons import count_error_voxels


@frozen
class PageMaps:
    """Maps of a run, or of all runs of a participant together, and the names of their files.

    `rows` have the numbers of voxels by the reconstruction error. `stored` determines which maps
    are stored, with `entities` (labels by long entity name) and the label of their `space`.
    `known` is known activation (signal units) by contrast. `half_resolution` is the file of the
    maps of the test, None if there are none, and `reduced` the voxel size of the downsampled run
    in words. `further_files` are to be used for every contrast.
    The mask of contrasts `over_runs` contains significant voxels unless signs were tested.
    """

    shown_maps: ShownMaps
    images: SceneImages
    factor: Factor
    rows: Sequence[MetricRow]
    stored: StoredMaps
    entities: Mapping[str, str]
    space: str = BOLDREF
    known: Mapping[str, Volume] = field(default_factory=dict)
    half_resolution: Path | None = None
    reduced: str = ""
    further_files: Sequence[UseRow] = ()
    over_runs: Collection[str] = ()

    def make_views(self, result: RunResult, first_contrast: str) -> list[ContrastView]:
        """Return picture, sentence and files of each contrast; one view if there are no maps."""
        return [
            make_view(
                selected := _select(result, contrast),
                addition=self._describe_veins(selected, contrast),
                picture=self._draw_picture(selected, contrast),
                use=[*self.list_used_files(selected, contrast), *self.further_files],
                contrast=contrast,
            )
            for contrast in self.shown_maps.list_contrasts(first_contrast) or [""]
        ]

    def draw_errors(self, result: RunResult, first_contrast: str) -> dict[str, Markup]:
        """Return the pictures of effect and error by contrast, without contrasts that lack one."""
        pictures = {
            contrast: draw_error(self._select_maps(_select(result, contrast), contrast))
            for contrast in self.shown_maps.list_contrasts(first_contrast)
        }
        return {contrast: picture for contrast, picture in pictures.items() if picture}

    def _draw_picture(self, result: RunResult, contrast: str) -> Markup:
        """Draw the picture of a contrast; "" if there are no maps."""
        return draw_picture(self._select_maps(result, contrast)) if contrast else Markup("")

    def _select_maps(self, result: RunResult, contrast: str) -> PictureMaps:
        """Return the maps for the picture of a contrast, with its result."""
        return PictureMaps(
            shown_maps=self.shown_maps,
            images=self.images,
            result=result,
            contrast=contrast,
            factor=self.factor,
            known=self._scale_known(contrast),
            half_resolution=self.half_resolution,
            reduced=self.reduced,
        )

    def _scale_known(self, contrast: str) -> Volume | None:
        """Return the known activation of a contrast in percent, None if there is none."""
        known = self.known.get(contrast)
        for (name, stat, _), by_series in self.shown_maps.stats.items():
            if (
                known is not None
                and (name, stat) == (contrast, "effect")
                and ACQUIRED in by_series
            ):
                mean_signal = as_number(by_series[ACQUIRED].sidecar[MEAN_SIGNAL])
                return known.like(known.data * np.float32(100 / mean_signal))
        return None

    def _describe_veins(self, result: RunResult, contrast: str) -> str:
        """Return a sentence on signs of veins in the mask; "" without sign reliable voxels."""
        counts = count_error_voxels(self.rows, result.method, contrast)
        if result.shown is None or counts is None or not counts.n_sign_reliable:
            return ""
        if math.isnan(counts.large_share):
            return ""
        return Statement.VEINS_IN_MASK.format(
            n=f"{counts.n_sign_reliable:,.0f}",
            large=number(counts.large_share, ".0%"),
            limit=f"{LARGE_PERCENT:g} %",
        )

    def list_used_files(self, result: RunResult, contrast: str) -> list[UseRow]:
        """Return the files to use: maps, total SD and mask of a contrast, and effects in the mask.

        Tested detail is first read in the safe map, and measured detail in the unsmoothed map. If
        the data do not suffice for the unsmoothed map, only the safe map is used. If no detail may
        be interpreted, the map is the B-spline map with the least smoothing that is stored.
        """
        is_opened = bool(result.changes)
        is_opened |= any(item.active.opens_safe_map for item in result.contrasts)
        series = result.method if is_opened and result.method else "bspline"
        map_stats = ("effect", self.shown_maps.display.statistic)
        stored_stats = {
            width: stat
            for stat in reversed(map_stats)
            for (name, map_stat, width), by_series in self.shown_maps.stats.items()
            if (name, map_stat) == (contrast, stat)
            and series in by_series
            and self.stored.includes(series, contrast, width, stat)
        }
        if not stored_stats:
            return [
                UseRow("Map", text=f"{series} maps were not stored; rerun with --level standard")
            ]
        zooms = self.images.boldref.zooms
        finest = min(stored_stats)
        safe = min((width for width in stored_stats if is_safe(width, zooms)), default=None)
        widths = {finest: "Map"}
        if is_opened and safe not in (None, finest):
            maps = {finest: "Unsmoothed map", safe: "Safe map"}
            is_first = result.shown is not None and result.is_measured
            order = (finest, safe) if is_first else (safe, finest)
            widths = {width: maps[width] for width in order if width == safe or result.shown}
        return [
            use
            for width, label in widths.items()
            for use in self._list_files(series, contrast, stored_stats[width], width, label)
        ]

    def _list_files(
        self, series: str, contrast: str, map_stat: str, width: float, label: str
    ) -> Iterator[UseRow]:
        """Yield the files of a map, its total SD and its mask at one smoothing (FWHM, mm)."""
        evidence = {"Safe map": Statement.SAFE_MAP, "Unsmoothed map": Statement.UNSMOOTHED_MAP}
        remark = evidence[label].format(width=f"{width:g}") if label in evidence else ""
        for stat, name, text in ((map_stat, label, remark), ("sdTotal", "Total SD", "")):
            by_series = self.shown_maps.stats.get((contrast, stat, width), {})
            if series in by_series:
                yield UseRow(name, file=self._locate(by_series[series]), remark=text)
        masks = (
            self.shown_maps.regions.get((contrast, kind, width), {}).get(series)
            for kind in (SIGN_RELIABLE, "Fdr")[: 2 if contrast in self.over_runs else 1]
        )
        mask = next((item for item in masks if item is not None), None)
        if mask is not None:
            effect = self.shown_maps.stats[contrast, map_stat, width][series].volume.data
            effects = effect[mask.volume.data > 0.5]
            remark = _describe_mask(effects, in_percent=map_stat == "effect")
            kind = (
                Statement.SAFE_MASK
                if is_safe(width, self.images.boldref.zooms)
                else Statement.UNSMOOTHED_MASK
            )
            yield UseRow("Mask", file=self._locate(mask), remark=f"{kind} {remark}")

    def _locate(self, item: Derivative) -> str:
        """Return the path of a stored map or region, relative to the page."""
        placed_item = replace(item, entities={**item.entities, "space": self.space})
        return run_maps_figures.stored_path(placed_item, self.entities)


def _describe_mask(effects: Array, *, in_percent: bool) -> str:
    """Return the number of voxels of a mask with the size of their effects."""
    if not in_percent or not effects.size:
        return f"{len(effects):,} voxels"
    sizes = np.abs(effects)
    median, p95 = (number(size, ".1f") for size in np.percentile(sizes, (50, 95)))
    return (
        f"{len(effects):,} voxels ({np.count_nonzero(effects < 0):,} decreases), effects: median"
        f" {median}, 95th percentile {p95} %"
    )


def _select(result: RunResult, contrast: str) -> RunResult:
    """Return the result for one contrast, or the result if it has no contrasts."""
    return result.select(contrast) if result.contrasts or result.changes else result
