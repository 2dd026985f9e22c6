"""Largest active clusters of each series, with their peaks and atlas labels."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from nibabel.affines import apply_affine

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

_SEED = 1  # seed of antspyx, which does not use random numbers for resampling


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
    chain, to_atlas, names = [], [], {}
    if boldref2t1w_xfm is not None and std2t1w_xfm is not None:
        chain = chain_through_t1w(boldref2t1w_xfm[0], [std2t1w_xfm], here)
        to_atlas = chain_through_t1w(boldref2t1w_xfm[0], atlas_xfms, here)
    if atlas_labels is not None:
        names = dict(zip(atlas_labels["index"], atlas_labels["name"], strict=True))
    atlases: dict[tuple[float, ...], Array | None] = {}
    rows: list[dict[str, str]] = []
    points: list[Array] = []
    listed_series = (RAW, "bspline", *method_names, MEASURED)
    for shared_cells, statmap, region, peak_maps in _select_maps(
        [*maps, *(error_maps or ())], listed_series
    ):
        image = statmap.volume
        grid = (*image.data.shape, *image.affine.ravel())
        if grid not in atlases:
            atlases[grid] = (
                _load_atlas(image, atlas_source, to_atlas) if atlas_source is not None else None
            )
        clusters = largest_clusters(image.data, region.volume.data > 0.5, image.affine)
        rows += cluster_rows(
            clusters,
            shared_cells,
            affine=image.affine,
            atlas=atlases[grid],
            names=names,
            maps=peak_maps,
        )
        peaks = [peak for cluster in clusters for peak in cluster.peaks]
        points += [apply_affine(image.affine, peak) for peak in peaks]
    scanner = np.array(points).reshape(-1, 3)
    coordinates = (
        apply_to_points(scanner.tolist(), chain, seed=_SEED) if chain and points else scanner
    )
    table = add_coordinates(rows, coordinates, scanner, "MNI" if chain else "scanner")
    return pd.DataFrame(table, columns=list(COLUMNS)), {
        name: dict(text) for name, text in COLUMNS.items()
    }


def _load_atlas(image: Volume, atlas: Volume, chain: Sequence[Path]) -> Array:
    """Return the labels of the atlas on the grid of a map."""
    grid = Volume(image.data, image.affine)
    labels = atlas.like(atlas.data.astype(np.float32))
    return (
        apply(labels, grid, chain, seed=_SEED, interpolator="nearestNeighbor").round().astype(int)
    )


def _select_maps(
    maps: Sequence[Derivative], series_names: Sequence[str]
) -> Iterator[tuple[dict[str, str], Derivative, Derivative, dict[str, Array]]]:
    """Yield the maps whose clusters are listed, series by series.

    Each item contains the table cells that all clusters of a map share, the map, its active
    region, and the maps that are evaluated at the peaks.

    If t maps that include the reconstruction error exist, they are used with their reliable
    regions.
    """
    stats, regions = sort_maps_of_run(maps)
    other_kinds = ("Quarter", "Reliable")
    kinds = list(dict.fromkeys(kind for _, kind, _ in regions if kind not in other_kinds))
    kind = "Fdr" if "Fdr" in kinds else [*kinds, "Quarter"][0]
    stat = (
        "t"
        if any(stat_name == "t" for _, stat_name, _ in stats)
        else "cc"
        if kind == "Quarter"
        else "z"
    )
    for (contrast, region_kind, fwhm_mm), by_series in regions.items():
        maps_by_series = stats.get((contrast, stat, fwhm_mm), {})
        for series in series_names if region_kind == kind else ():
            if series in maps_by_series and series in by_series:
                total = stats.get((contrast, "tTotal", fwhm_mm), {}).get(series)
                reliable = regions.get((contrast, "Reliable", fwhm_mm), {}).get(series)
                statmap = maps_by_series[series]
                region = by_series[series]
                threshold = kind
                if total is not None and reliable is not None:
                    statmap, region, threshold = total, reliable, "Reliable"
                shared_cells = {
                    "series": series,
                    "fwhm_mm": f"{fwhm_mm:g}",
                    "contrast": contrast,
                    "threshold": threshold,
                    "statistic": statmap.entities["stat"],
                }
                further_maps = {
                    name: stats[contrast, name, fwhm_mm][series]
                    for name in ("effect", "variance", "sd", "wrongsign")
                    if series in stats.get((contrast, name, fwhm_mm), {})
                }
                # Only the sign error is averaged over clusters and therefore read completely.
                peak_maps = {
                    name: further_map.volume.data if name == "wrongsign" else further_map.voxels
                    for name, further_map in further_maps.items()
                }
                yield shared_cells, statmap, region, peak_maps
