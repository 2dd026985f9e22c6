"""Largest active clusters of each series, with their peaks and atlas labels."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from nibabel.affines import apply_affine

from bids_sr.engine.artifacts import Derivative, Facts, File, Map, Table, Volume
from bids_sr.engine.step import HERE, Stage, step
from bids_sr.glm.activation_regions import SIGN_RELIABLE
from bids_sr.glm.clusters import COLUMNS, add_coordinates, cluster_rows, largest_clusters
from bids_sr.glm.steps.atlas_regions import Atlas
from bids_sr.glm.steps.map_comparison import SortedMaps, read_input_smoothing, sort_maps_of_run
from bids_sr.glm.vein_signs import VeinSigns
from bids_sr.io.arrays import Array
from bids_sr.io.frozen import frozen
from bids_sr.io.region_names import atlas_title
from bids_sr.io.series import ACQUIRED, MEASURED
from bids_sr.preproc.ants import apply, apply_to_points
from bids_sr.preproc.bold_regions import chain_through_t1w
from bids_sr.preproc.steps.aligned_series import BoldBrain
from bids_sr.spatial.itk_files import Transforms

_ANTS_SEED = 1  # seed of ANTs, which does not use random numbers for resampling


def describe_clusters(atlas: str | None) -> str:
    """Return methods text of the clusters; `atlas` is the name of the atlas or None."""
    labels = "" if atlas is None else f" with labels of the {atlas_title(atlas)}"
    return (
        "The ten largest clusters of each map (6-connected; above 10 cm³, split at a higher"
        f" threshold) and their peaks were reported{labels}.\n"
    )


@step(Stage.EVALUATION, makes=("clusters", "clusters_columns"))
def list_clusters(
    maps: list[Map],
    brain: BoldBrain,
    here: Path = HERE,
    boldref2t1w_xfm: Transforms | None = None,
    std2t1w_xfm: File | None = None,
    atlas: Atlas | None = None,
    error_maps: list[Map] | None = None,
    *,
    method_names: Sequence[str],
) -> tuple[Table, Facts]:
    """List the largest active clusters of each series, by contrast and smoothing width.

    The series are acquired, bspline, the methods and measured. Three definitions of active voxels
    can be requested. Clusters use the false discovery rate if available, then a threshold of z,
    then the upper quarter of the values as in the paper. With a T1w image, peaks have MNI
    coordinates and atlas labels.

    `maps` include the regions of all series. `boldref2t1w_xfm` is the transform of T1w points to
    boldref points, and `std2t1w_xfm` the transform of T1w points to template points; None if there
    is no T1w image. Peaks are not labeled if `atlas` is None. `error_maps` are the reconstruction
    errors of series with a prior, and their sign reliable regions.

    Returns a table with one row per peak, and descriptions of its columns.
    """
    mni_chain: list[Path] = []
    if boldref2t1w_xfm is not None and std2t1w_xfm is not None:
        mni_chain = chain_through_t1w(boldref2t1w_xfm[0], [std2t1w_xfm], here)
    label_names: dict[int, str] = {}
    resampled_atlas = None
    if atlas is not None and boldref2t1w_xfm is not None:
        names = atlas.atlas_labels
        label_names = dict(zip(names["index"], names["name"], strict=True))
        chain = chain_through_t1w(boldref2t1w_xfm[0], atlas.atlas_xfms, here)
        resampled_atlas = _ResampledAtlas(atlas.atlas_source, chain)
    rows: list[dict[str, str]] = []
    points: list[Array] = []
    listed_series = (ACQUIRED, "bspline", *method_names, MEASURED)
    veins_by_shape: dict[tuple[int, ...], VeinSigns] = {}
    for clustered in _select_maps([*maps, *(error_maps or ())], listed_series):
        image = clustered.statmap.volume
        if image.data.shape not in veins_by_shape:
            effects = _load_acquired_effects(maps)
            veins = VeinSigns.find(brain.boldref, brain.bold_mask, effects, image)
            veins_by_shape[image.data.shape] = veins
        region = clustered.region.volume.data > 0.5
        clusters = largest_clusters(image.data, region, image.affine)
        rows += cluster_rows(
            clusters,
            clustered.shared_cells,
            affine=image.affine,
            atlas=None if resampled_atlas is None else resampled_atlas.labels_on_grid(image),
            names=label_names,
            maps=clustered.peak_maps,
            veins=veins_by_shape[image.data.shape],
        )
        peaks = [peak for cluster in clusters for peak in cluster.peaks]
        points += [apply_affine(image.affine, peak) for peak in peaks]
    rows = _add_peak_coordinates(rows, np.array(points).reshape(-1, 3), mni_chain)
    column_descriptions = {name: dict(text) for name, text in COLUMNS.items()}
    return pd.DataFrame(rows, columns=list(COLUMNS)), column_descriptions


def _load_acquired_effects(maps: Sequence[Derivative]) -> dict[str, Volume]:
    """Return the acquired effects with the least smoothing, by contrast."""
    stats, _ = sort_maps_of_run(maps)
    effects = {
        (fwhm_mm, contrast): by_series[ACQUIRED]
        for (contrast, stat, fwhm_mm), by_series in stats.items()
        if stat == "effect" and ACQUIRED in by_series
    }
    # Effects with wider smoothing come first and are replaced.
    return {key[1]: effects[key].volume for key in sorted(effects, reverse=True)}


class _ResampledAtlas:
    """Labels of an atlas on the grids of maps, which are resampled once per grid.

    `chain` are transforms of points of the maps to points of the atlas.
    """

    def __init__(self, atlas: Volume, chain: Sequence[Path]) -> None:
        self._atlas, self._chain = atlas, chain
        self._labels_by_grid: dict[tuple[float, ...], Array] = {}

    def labels_on_grid(self, image: Volume) -> Array:
        """Return the label of each voxel of a map (X, Y, Z)."""
        grid = (*image.data.shape, *image.affine.ravel())
        if grid not in self._labels_by_grid:
            labels = apply(
                self._atlas.like(self._atlas.data.astype(np.float32)),
                Volume(image.data, image.affine),
                self._chain,
                seed=_ANTS_SEED,
                interpolator="nearestNeighbor",
            )
            self._labels_by_grid[grid] = labels.round().astype(int)
        return self._labels_by_grid[grid]


@frozen
class _ClusteredMap:
    """Map whose clusters are listed.

    `shared_cells` are table cells that all clusters of the map share. `region` contains the active
    voxels. `peak_maps` are evaluated at the peaks, by statistic.
    """

    shared_cells: dict[str, str]
    statmap: Derivative
    region: Derivative
    peak_maps: dict[str, Array]


def _select_maps(
    maps: Sequence[Derivative], series_names: Sequence[str]
) -> Iterator[_ClusteredMap]:
    """Yield the maps whose clusters are listed, series by series.

    If t maps that include the reconstruction error exist, they are used with their
    sign reliable regions.
    """
    stats, regions = sort_maps_of_run(maps)
    threshold = _select_threshold([kind for _, kind, _ in regions])
    if any(stat == "t" for _, stat, _ in stats):
        main_stat = "t"
    else:
        main_stat = "cc" if threshold == "Quarter" else "z"
    for contrast, kind, fwhm_mm in regions:
        if kind != threshold:
            continue
        for series in series_names:
            statmap = _find_map(stats, contrast, main_stat, fwhm_mm, series)
            region = _find_map(regions, contrast, threshold, fwhm_mm, series)
            if statmap is None or region is None:
                continue
            region_kind = threshold
            total_t = _find_map(stats, contrast, "tTotal", fwhm_mm, series)
            sign_reliable_region = _find_map(regions, contrast, SIGN_RELIABLE, fwhm_mm, series)
            if total_t is not None and sign_reliable_region is not None:
                statmap, region, region_kind = total_t, sign_reliable_region, SIGN_RELIABLE
            yield _ClusteredMap(
                shared_cells={
                    "series": series,
                    "input_fwhm_mm": f"{read_input_smoothing(statmap):g}",
                    "fwhm_mm": f"{fwhm_mm:g}",
                    "contrast": contrast,
                    "threshold": region_kind,
                    "statistic": statmap.entities["stat"],
                },
                statmap=statmap,
                region=region,
                peak_maps=_load_peak_maps(stats, contrast, fwhm_mm, series),
            )


def _select_threshold(kinds: Sequence[str]) -> str:
    """Return the kind of regions that define active voxels.

    The false discovery rate has priority over a threshold of z, and both over the upper quarter.
    """
    tested_kinds = [kind for kind in kinds if kind not in ("Quarter", SIGN_RELIABLE)]
    if "Fdr" in tested_kinds:
        return "Fdr"
    return tested_kinds[0] if tested_kinds else "Quarter"


def _load_peak_maps(
    stats: SortedMaps, contrast: str, fwhm_mm: float, series: str
) -> dict[str, Array]:
    """Return the maps that are evaluated at the peaks, by statistic."""
    peak_maps = {}
    for stat in ("effect", "variance", "sd", "wrongsign"):
        peak_map = _find_map(stats, contrast, stat, fwhm_mm, series)
        if peak_map is not None:
            # Only the sign error is averaged over clusters and therefore read completely.
            peak_maps[stat] = peak_map.volume.data if stat == "wrongsign" else peak_map.voxels
    return peak_maps


def _find_map(
    sorted_maps: SortedMaps, contrast: str, kind: str, fwhm_mm: float, series: str
) -> Derivative | None:
    """Return the map or region of a series; None if it does not exist.

    `kind` is a statistic or a kind of region.
    """
    return sorted_maps.get((contrast, kind, fwhm_mm), {}).get(series)


def _add_peak_coordinates(
    rows: list[dict[str, str]], points: Array, mni_chain: Sequence[Path]
) -> list[dict[str, str]]:
    """Add the coordinates of peaks to the rows of a table.

    Rows have cells by column, one row per peak. `points` are the peaks in the scanner (N, 3; RAS
    mm). `mni_chain` are transforms of scanner points to MNI points; empty to list scanner
    coordinates only.
    """
    if not mni_chain:
        return add_coordinates(rows, points, points, "scanner")
    return add_coordinates(rows, apply_to_points(points, mni_chain), points, "MNI")
