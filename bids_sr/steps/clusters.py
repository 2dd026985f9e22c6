"""Largest active clusters of each series, with their peaks and atlas labels."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from nibabel.affines import apply_affine

from bids_sr.frozen import frozen
from bids_sr.glm.clusters import COLUMNS, add_coordinates, cluster_rows, largest_clusters
from bids_sr.io.arrays import Array
from bids_sr.pipeline.artifacts import (
    Derivative,
    Facts,
    File,
    Image,
    Map,
    Table,
    Transforms,
    Volume,
)
from bids_sr.pipeline.step import HERE, step
from bids_sr.region_names import atlas_title
from bids_sr.registration.ants import apply, apply_to_points
from bids_sr.registration.bold_regions import chain_through_t1w
from bids_sr.run_time import RunTime
from bids_sr.series import MEASURED, RAW
from bids_sr.steps.map_comparison import sort_maps_of_run

_ANTS_SEED = 1  # seed of ANTs, which does not use random numbers for resampling


def describe_clusters(atlas: str | None) -> str:
    """Return methods text of the clusters; `atlas` is the name of the atlas or None."""
    labels = "" if atlas is None else f", with the nearest labels of the {atlas_title(atlas)}"
    return (
        f"The ten largest clusters of each map and their local peaks were reported{labels}."
        " Clusters were defined by 6-connectivity, and clusters larger than 10 cm³ were split by a"
        " higher threshold.\n"
    )


@step(makes=("clusters", "clusters_columns"), cost=RunTime(always=2.5, high=1.0))
def list_clusters(
    maps: list[Map],
    here: Path = HERE,
    boldref2t1w_xfm: Transforms | None = None,
    std2t1w_xfm: File | None = None,
    atlas_source: Image | None = None,
    atlas_labels: Table | None = None,
    atlas_xfms: Sequence[File] = (),
    error_maps: list[Map] | None = None,
    *,
    method_names: Sequence[str],
) -> tuple[Table, Facts]:
    """List the largest active clusters of each series, by contrast and smoothing width.

    The series are raw, bspline, the methods and measured. Three definitions of active voxels can
    be requested. Clusters use the false discovery rate if available, then a threshold of z, then
    the upper quarter of the values as in the paper. With a T1w image, peaks have MNI coordinates
    and atlas labels.

    Parameters
    ----------
    boldref2t1w_xfm : Transforms | None
        Transform of T1w points to boldref points; None if there is no T1w image.
    std2t1w_xfm : File | None
        Transform of T1w points to template points; None if there is no T1w image.
    error_maps : list[Map] | None
        Reconstruction error of series with a prior, and their reliable regions.
    """
    mni_chain: list[Path] = []
    atlas_chain: list[Path] = []
    if boldref2t1w_xfm is not None and std2t1w_xfm is not None:
        mni_chain = chain_through_t1w(boldref2t1w_xfm[0], [std2t1w_xfm], here)
        atlas_chain = chain_through_t1w(boldref2t1w_xfm[0], atlas_xfms, here)
    label_names: dict[int, str] = {}
    if atlas_labels is not None:
        label_names = dict(zip(atlas_labels["index"], atlas_labels["name"], strict=True))
    atlas_by_grid: dict[tuple[float, ...], Array | None] = {}
    rows: list[dict[str, str]] = []
    points: list[Array] = []
    listed_series = (RAW, "bspline", *method_names, MEASURED)
    for clustered in _select_maps([*maps, *(error_maps or ())], listed_series):
        image = clustered.statmap.volume
        grid = (*image.data.shape, *image.affine.ravel())
        if grid not in atlas_by_grid:
            atlas_by_grid[grid] = (
                None if atlas_source is None else _resample_atlas(atlas_source, image, atlas_chain)
            )
        region = clustered.region.volume.data > 0.5
        clusters = largest_clusters(image.data, region, image.affine)
        rows += cluster_rows(
            clusters,
            clustered.shared_cells,
            affine=image.affine,
            atlas=atlas_by_grid[grid],
            names=label_names,
            maps=clustered.peak_maps,
        )
        peaks = [peak for cluster in clusters for peak in cluster.peaks]
        points += [apply_affine(image.affine, peak) for peak in peaks]
    scanner = np.array(points).reshape(-1, 3)
    coordinates = (
        apply_to_points(scanner.tolist(), mni_chain, seed=_ANTS_SEED)
        if mni_chain and points
        else scanner
    )
    table = add_coordinates(rows, coordinates, scanner, "MNI" if mni_chain else "scanner")
    return pd.DataFrame(table, columns=list(COLUMNS)), {
        name: dict(text) for name, text in COLUMNS.items()
    }


def _resample_atlas(atlas: Volume, image: Volume, chain: Sequence[Path]) -> Array:
    """Return the labels of an atlas on the grid of a map.

    `chain` are the transforms of points of the map to points of the atlas.
    """
    grid = Volume(image.data, image.affine)
    labels = atlas.like(atlas.data.astype(np.float32))
    labels_on_grid = apply(labels, grid, chain, seed=_ANTS_SEED, interpolator="nearestNeighbor")
    return labels_on_grid.round().astype(int)


@frozen
class _ClusteredMap:
    """Map whose clusters are listed.

    `shared_cells`: table cells that all clusters of the map share. `region`: active voxels.
    `peak_maps`: maps that are evaluated at the peaks, by statistic.
    """

    shared_cells: dict[str, str]
    statmap: Derivative
    region: Derivative
    peak_maps: dict[str, Array]


def _select_maps(
    maps: Sequence[Derivative], series_names: Sequence[str]
) -> Iterator[_ClusteredMap]:
    """Yield the maps whose clusters are listed, series by series.

    If t maps that include the reconstruction error exist, they are used with their reliable
    regions.
    """
    stats, regions = sort_maps_of_run(maps)
    threshold = _select_threshold([kind for _, kind, _ in regions])
    if any(stat == "t" for _, stat, _ in stats):
        main_stat = "t"
    else:
        main_stat = "cc" if threshold == "Quarter" else "z"
    for (contrast, kind, fwhm_mm), regions_by_series in regions.items():
        if kind != threshold:
            continue
        maps_by_series = stats.get((contrast, main_stat, fwhm_mm), {})
        for series in series_names:
            if series not in maps_by_series or series not in regions_by_series:
                continue
            statmap, region = maps_by_series[series], regions_by_series[series]
            region_kind = threshold
            total_t = stats.get((contrast, "tTotal", fwhm_mm), {}).get(series)
            reliable_region = regions.get((contrast, "Reliable", fwhm_mm), {}).get(series)
            if total_t is not None and reliable_region is not None:
                statmap, region, region_kind = total_t, reliable_region, "Reliable"
            peak_maps = {
                # Only the sign error is averaged over clusters and therefore read completely.
                stat: peak_map.volume.data if stat == "wrongsign" else peak_map.voxels
                for stat in ("effect", "variance", "sd", "wrongsign")
                if (peak_map := stats.get((contrast, stat, fwhm_mm), {}).get(series)) is not None
            }
            yield _ClusteredMap(
                shared_cells={
                    "series": series,
                    "fwhm_mm": f"{fwhm_mm:g}",
                    "contrast": contrast,
                    "threshold": region_kind,
                    "statistic": statmap.entities["stat"],
                },
                statmap=statmap,
                region=region,
                peak_maps=peak_maps,
            )


def _select_threshold(kinds: Sequence[str]) -> str:
    """Return the kind of regions that define active voxels.

    The false discovery rate has priority over a threshold of z, and both over the upper quarter.
    """
    tested_kinds = [kind for kind in kinds if kind not in ("Quarter", "Reliable")]
    if "Fdr" in tested_kinds:
        return "Fdr"
    return tested_kinds[0] if tested_kinds else "Quarter"
