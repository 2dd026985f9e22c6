"""Largest active clusters of each series, and what changes their size."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from nibabel.affines import apply_affine

from bids_sr.glm.clusters import COLUMNS, cluster_rows, largest_clusters, placed
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
from bids_sr.registration.bold_to_anat import boldref_onward
from bids_sr.series import MEASURED, RAW
from bids_sr.sr.method import Cost
from bids_sr.steps.activation import sorted_maps

_SEED = 1  # of antspyx, which draws nothing when it resamples


def describe_clusters(atlas: str | None) -> str:
    """Return methods text of the clusters; `atlas`: its name, None if missing."""
    labels = "" if atlas is None else f", with the nearest labels of the {atlas_title(atlas)}"
    return (
        f"The ten largest clusters of each map and their local peaks were reported{labels}."
        " Clusters were defined by 6-connectivity, and clusters larger than 10 cm³ were split by a"
        " higher threshold.\n"
    )


@step(makes=("clusters", "clusters_columns"), cost=Cost(always=2.5, high=1.0))
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
    """List the largest active clusters of each series, by contrast and smoothing.

    The series are raw, bspline, the methods and measured.

    Active is what the false discovery rate leaves, else a threshold of z, else the quarter of the
    paper, whichever of them was requested. With a T1w image peaks are in MNI coordinates and have
    labels of the atlas.

    `boldref2t1w_xfm, std2t1w_xfm`: take a T1w point to its boldref point, and to its template
    point; none without a T1w image. `error_maps`: error of the reconstruction, of series with a
    prior, and their reliable regions.
    """
    chain, to_atlas, names = [], [], {}
    if boldref2t1w_xfm is not None and std2t1w_xfm is not None:
        chain = boldref_onward(boldref2t1w_xfm[0], [std2t1w_xfm], here)
        to_atlas = boldref_onward(boldref2t1w_xfm[0], atlas_xfms, here)
    if atlas_labels is not None:
        names = dict(zip(atlas_labels["index"], atlas_labels["name"], strict=True))
    atlases: dict[tuple[float, ...], Array | None] = {}
    rows: list[dict[str, str]] = []
    points: list[Array] = []
    wanted = (RAW, "bspline", *method_names, MEASURED)
    for where, found, region, beside in _thresholded([*maps, *(error_maps or ())], wanted):
        image = found.volume
        grid = (*image.data.shape, *image.affine.ravel())
        if grid not in atlases:
            atlases[grid] = (
                _atlas_on(image, atlas_source, to_atlas) if atlas_source is not None else None
            )
        clusters = largest_clusters(image.data, region.volume.data > 0.5, image.affine)
        rows += cluster_rows(
            clusters, where, affine=image.affine, atlas=atlases[grid], names=names, maps=beside
        )
        peaks = [at for each in clusters for at in each.peaks]
        points += [apply_affine(image.affine, at) for at in peaks]
    scanner = np.array(points).reshape(-1, 3)
    at = apply_to_points(scanner.tolist(), chain, seed=_SEED) if chain and points else scanner
    table = placed(rows, at, scanner, "MNI" if chain else "scanner")
    return pd.DataFrame(table, columns=list(COLUMNS)), {
        name: dict(text) for name, text in COLUMNS.items()
    }


def _atlas_on(image: Volume, atlas: Volume, chain: Sequence[Path]) -> Array:
    """Labels of the atlas on the grid of a map."""
    grid = Volume(image.data, image.affine)
    labels = atlas.like(atlas.data.astype(np.float32))
    return (
        apply(labels, grid, chain, seed=_SEED, interpolator="nearestNeighbor").round().astype(int)
    )


def _thresholded(
    maps: Sequence[Derivative], series_names: Sequence[str]
) -> Iterator[tuple[dict[str, str], Derivative, Derivative, dict[str, Array]]]:
    """Yield what a map is of, the map, its region, and the maps beside it, series by series.

    Where t with the error of the reconstruction is mapped, that and its region are taken.
    """
    stats, regions = sorted_maps(maps)
    of_others = ("Quarter", "Reliable")
    kinds = list(dict.fromkeys(kind for _, kind, _ in regions if kind not in of_others))
    kind = "Fdr" if "Fdr" in kinds else [*kinds, "Quarter"][0]
    stat = (
        "t" if any(found == "t" for _, found, _ in stats) else "cc" if kind == "Quarter" else "z"
    )
    for (contrast, each_kind, fwhm_mm), by_series in regions.items():
        own = stats.get((contrast, stat, fwhm_mm), {})
        for series in series_names if each_kind == kind else ():
            if series in own and series in by_series:
                total = stats.get((contrast, "tTotal", fwhm_mm), {}).get(series)
                sure = regions.get((contrast, "Reliable", fwhm_mm), {}).get(series)
                shown = own[series]
                region = by_series[series]
                kept = kind
                if total is not None and sure is not None:
                    shown, region, kept = total, sure, "Reliable"
                where = {
                    "series": series,
                    "fwhm_mm": f"{fwhm_mm:g}",
                    "contrast": contrast,
                    "threshold": kept,
                    "statistic": shown.entities["stat"],
                }
                there = {
                    name: stats[contrast, name, fwhm_mm][series]
                    for name in ("effect", "variance", "sd", "wrongsign")
                    if series in stats.get((contrast, name, fwhm_mm), {})
                }
                # of a cluster all of the latter are read, of the others its peaks
                beside = {
                    name: each.volume.data if name == "wrongsign" else each.voxels
                    for name, each in there.items()
                }
                yield where, shown, region, beside
