"""Maps that a page begins with: pictures, sentences and files to use, by contrast."""

import math
from collections.abc import Mapping, Sequence
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
        """Return the files to use: map, total SD and mask of a contrast, and effects in the mask.

        Files are named with the least smoothing that is stored. If no detail may be interpreted,
        the map is the B-spline map.
        """
        series = "bspline" if result.shown is None else result.method
        map_stats = ("effect", self.shown_maps.display.statistic)
        stored_keys = [
            (width, map_stats.index(stat), stat)
            for (name, stat, width), by_series in self.shown_maps.stats.items()
            if name == contrast
            and stat in map_stats
            and series in by_series
            and self.stored.includes(series, contrast, width, stat)
        ]
        if not stored_keys:
            return [
                UseRow("Map", text=f"{series} maps were not stored; rerun with --level standard")
            ]
        width, _, map_stat = min(stored_keys)
        maps = [
            (label, by_series[series])
            for stat, label in ((map_stat, "Map"), ("sdTotal", "Total SD"))
            if series in (by_series := self.shown_maps.stats.get((contrast, stat, width), {}))
        ]
        uses = [UseRow(label, file=self._locate(item)) for label, item in maps]
        mask = self.shown_maps.regions.get((contrast, SIGN_RELIABLE, width), {}).get(series)
        if mask is not None and result.shown is not None:
            effect = self.shown_maps.stats[contrast, map_stat, width][series].volume.data
            remark = self._describe_mask(
                effect[mask.volume.data > 0.5], series, contrast, in_percent=map_stat == "effect"
            )
            uses.append(UseRow("Mask", file=self._locate(mask), remark=remark))
        return uses

    def _describe_mask(
        self, effects: Array, series: str, contrast: str, *, in_percent: bool
    ) -> str:
        """Return the number of voxels of a mask with the size of their effects."""
        remark = f"{len(effects):,} voxels"
        if in_percent and effects.size:
            sizes = np.abs(effects)
            median, p95 = (number(size, ".1f") for size in np.percentile(sizes, (50, 95)))
            remark += (
                f" ({np.count_nonzero(effects < 0):,} decreases), effects: median {median}, 95th"
                f" percentile {p95} %"
            )
        counts = count_error_voxels(self.rows, series, contrast)
        if counts is not None and not math.isnan(counts.large_share):
            remark += f", acquired above {LARGE_PERCENT:g} %: {number(counts.large_share, '.0%')}"
        return remark

    def _locate(self, item: Derivative) -> str:
        """Return the path of a stored map or region, relative to the page."""
        placed_item = replace(item, entities={**item.entities, "space": self.space})
        return run_maps_figures.stored_path(placed_item, self.entities)


def _select(result: RunResult, contrast: str) -> RunResult:
    """Return the result for one contrast, or the result if it has no contrasts."""
    return result.select(contrast) if result.contrasts else result
