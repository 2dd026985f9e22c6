"""Largest clusters of a map, and the atlas label of a cluster."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from scipy import ndimage

from bids_sr.glm.activation_regions import Peak, find_peak
from bids_sr.io.arrays import Array, Float, MaskArray, Real
from bids_sr.io.frozen import frozen

_MAX_CLUSTERS = 10
# cm³, largest cluster before its threshold is raised, about the size of an AAL2 region
_MAX_CLUSTER_CM3 = 10.0
_REMAINING_FRACTION = 0.9  # of the voxels, after each increase of the threshold


@frozen
class Cluster:
    """Connected voxels with the voxel of their largest value.

    `voxels` are indices (N, 3). `threshold` is the value above which the cluster was formed, or
    below which a cluster of decreases was formed; the peak of decreases is a minimum.
    """

    voxels: Array
    peak: Peak
    threshold: float


def largest_clusters(values: Real, region: MaskArray, affine: Float) -> list[Cluster]:
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
    list[Cluster]
        Clusters, the largest first.

    Examples
    --------
    >>> values = np.array([[[1.0, 5.0, 0.0, 7.0]]])
    >>> clusters = largest_clusters(values, values > 0, np.eye(4))
    >>> [(len(cluster.voxels), cluster.peak.value) for cluster in clusters]
    [(2, 5.0), (1, 7.0)]
    """
    voxel_cm3 = abs(float(np.linalg.det(affine[:3, :3]))) / 1000
    max_voxels = int(_MAX_CLUSTER_CM3 / voxel_cm3)
    sizes = np.abs(values)
    components = [
        (voxels, sign * threshold)
        for sign, tail in ((1, region & (values >= 0)), (-1, region & (values < 0)))
        for voxels, threshold in _separate_components(sizes, tail, max_voxels)
    ]
    components.sort(
        key=lambda component: (-len(component[0]), -sizes[tuple(component[0].T)].max())
    )
    clusters = []
    for voxels, threshold in components[:_MAX_CLUSTERS]:
        cluster_mask = np.zeros(region.shape, dtype=bool)
        cluster_mask[tuple(voxels.T)] = True
        peak = find_peak(sizes, cluster_mask, affine)
        assert peak is not None
        peak = replace(peak, value=float(values[peak.index]))
        clusters.append(Cluster(voxels=voxels, peak=peak, threshold=threshold))
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


def name_cluster(number: int, voxel_labels: Array | None, names: Mapping[int, str]) -> str:
    """Return the name of a cluster: its number and the label of most of its labeled voxels.

    >>> name_cluster(3, np.array([1, 2, 2, 0, 0, 0]), {1: "Cuneus_L", 2: "Lingual_L"})
    'cluster 3, Lingual_L'
    >>> name_cluster(3, None, {})
    'cluster 3'
    """
    counts: dict[str, int] = {}
    if voxel_labels is not None:
        labels, n_voxels = np.unique(voxel_labels.round().astype(int), return_counts=True)
        found = zip(labels.tolist(), n_voxels.tolist(), strict=True)
        counts = {names[label]: count for label, count in found if label in names}
    main_label = max(counts, key=counts.__getitem__, default="")
    return f"cluster {number}, {main_label}" if main_label else f"cluster {number}"
