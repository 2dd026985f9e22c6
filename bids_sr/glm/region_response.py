"""Response of a region to the conditions of a run, next to its surroundings and to the brain.

Effects are in the mean time series of a region, of the ring around it, and of the clusters of
active voxels. The ring has as many voxels as the region.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from nibabel.affines import voxel_sizes
from scipy import ndimage, special

from bids_sr.glm.contrasts import Contrasts
from bids_sr.glm.design import Design, contrast_vector
from bids_sr.glm.region_means import MeanEffect, average_series, fit_mean_series, weigh_means
from bids_sr.io.arrays import Float, MaskArray, Real
from bids_sr.io.frozen import frozen
from bids_sr.io.nifti import SeriesReader

REGION, RING, STRONGEST = "region", "ring", "strongest"
"""Roles of averaged regions: the region, the ring around it, and the brain's strongest cluster."""
_MEAN = "mean of all conditions"
_FDR = 0.05  # among all voxels and conditions of a run
_REGION_FDR = 0.01  # of active voxels that are counted in a region
_MIN_CLUSTER_VOXELS = 2
_ROUNDING = 1e-6  # relative rounding error of distances


@frozen
class ActiveCluster:
    """Cluster of active voxels (X, Y, Z) of a condition, with the largest |z| in it.

    `counted` are its voxels that are also active at a false discovery rate of .01.
    """

    condition: str
    voxels: MaskArray
    counted: MaskArray
    peak: float


@frozen
class ConditionResponse:
    """Response of a region to a condition.

    `ring_excess` is the effect of the ring minus the effect of the region; None if there is no
    ring. `n_active` and `n_active_in_ring` are the numbers of active voxels of the condition in
    the region and in the ring, at a false discovery rate of .01. Effects are in the unit of the
    series unless `times` changes it.
    """

    condition: str
    region: MeanEffect
    ring_excess: MeanEffect | None
    n_active: int
    n_active_in_ring: int

    def times(self, factor: float) -> "ConditionResponse":
        """Return the response with effects multiplied by a factor."""
        excess = None if self.ring_excess is None else self.ring_excess.times(factor)
        return replace(self, region=self.region.times(factor), ring_excess=excess)


@frozen
class RunResponse:
    """Response of a region and of the brain in a run.

    `conditions` has one response per condition, and `mean` is the effect of the mean of all
    conditions in the region. `strongest` is the effect of the brain's strongest cluster, which has
    the largest |z|, and `strongest_condition` is its condition; None and "" if the brain has no
    cluster. Effects are in the unit of the series unless `times` changes it.
    """

    conditions: tuple[ConditionResponse, ...]
    mean: MeanEffect
    strongest: MeanEffect | None = None
    strongest_condition: str = ""

    def times(self, factor: float) -> "RunResponse":
        """Return the response with effects multiplied by a factor."""
        return replace(
            self,
            conditions=tuple(response.times(factor) for response in self.conditions),
            mean=self.mean.times(factor),
            strongest=None if self.strongest is None else self.strongest.times(factor),
        )


def find_active_clusters(z_maps: Mapping[str, Real], mask: MaskArray) -> list[ActiveCluster]:
    """Return the clusters of active voxels of all conditions.

    `z_maps` are by condition, and `mask` is the brain (X, Y, Z each). Voxels are active at a false
    discovery rate of .05, two-sided, among all voxels of the brain and all conditions, so that few
    runs without a response have a cluster. Clusters have at least two voxels of the same sign,
    which are connected by faces.
    """
    magnitudes = np.concatenate([np.abs(z[mask]) for z in z_maps.values()])
    limit, region_limit = (_find_limit(magnitudes, rate) for rate in (_FDR, _REGION_FDR))
    clusters = []
    for condition, z in z_maps.items():
        for sign in (1, -1):
            labels, _ = ndimage.label(mask & (sign * np.asarray(z) >= limit))
            sizes = np.bincount(labels.ravel())[1:]
            for label in np.flatnonzero(sizes >= _MIN_CLUSTER_VOXELS) + 1:
                voxels = labels == label
                clusters.append(
                    ActiveCluster(
                        condition=condition,
                        voxels=voxels,
                        counted=voxels & (np.abs(z) >= region_limit),
                        peak=float(np.abs(z[voxels]).max()),
                    )
                )
    return clusters


def _find_limit(magnitudes: Real, rate: float) -> float:
    """Return the lowest |z| that is significant at a false discovery rate; infinity if none is.

    The procedure is by Benjamini and Hochberg.
    """
    ranked_z = -np.sort(-magnitudes.astype(np.float64))
    adjusted_p = 2 * special.ndtr(-ranked_z) * len(ranked_z) / np.arange(1, len(ranked_z) + 1)
    significant_ranks = np.flatnonzero(adjusted_p <= rate)
    return float(ranked_z[significant_ranks[-1]]) if significant_ranks.size else np.inf


def list_averaged_regions(
    region: MaskArray, mask: MaskArray, affine: Float, clusters: Sequence[ActiveCluster]
) -> dict[str, MaskArray]:
    """Return the regions whose mean time series `measure_response` requires, by role.

    The region and the brain `mask` are (X, Y, Z), and `affine` is the voxel-to-world matrix
    (4 x 4, mm). The ring and the strongest cluster are missing if they have no voxels.
    """
    regions = {REGION: region}
    ring = select_equal_ring(region, mask, affine)
    if ring.any():
        regions[RING] = ring
    strongest = _find_strongest(clusters)
    if strongest is not None:
        regions[STRONGEST] = strongest.voxels
    return regions


def select_equal_ring(region: MaskArray, mask: MaskArray, affine: Float) -> MaskArray:
    """Return the mask voxels nearest to a region, as many as the region has (X, Y, Z, boolean).

    `affine` is the voxel-to-world matrix (4 x 4, mm). All voxels at the distance of the last voxel
    are included, so that the ring does not depend on the order of voxels. The ring is smaller if
    the mask has fewer voxels outside of the region.
    """
    outside = mask & ~region
    distances = ndimage.distance_transform_edt(~region, sampling=voxel_sizes(affine))
    ranked_distances = np.sort(distances[outside])
    if not ranked_distances.size:
        return outside
    last = min(int(np.count_nonzero(region)), ranked_distances.size) - 1
    return outside & (distances <= ranked_distances[last] * (1 + _ROUNDING))


def measure_response(
    regions: Mapping[str, MaskArray],
    mean_series: Float,
    clusters: Sequence[ActiveCluster],
    design: Design,
    conditions: Contrasts,
) -> RunResponse:
    """Measure the response of a region to the conditions of a run, in the unit of the series.

    `regions` are from `list_averaged_regions`, and `mean_series` are their mean time series
    without dummies (T, regions). `clusters` are the active clusters of all conditions.
    `conditions` are contrasts of one condition each, with weights over the columns of the design.
    """
    means = dict(zip(regions, mean_series.T, strict=True))
    if RING in regions:
        means[RING] = means[RING] - means[REGION]
    names = list(conditions)
    vectors = np.array([contrast_vector(design, name, conditions[name]) for name in names])
    vectors = np.concatenate([vectors, vectors.mean(axis=0, keepdims=True)])
    series = np.stack(list(means.values()), axis=1)
    fitted = fit_mean_series(series, design, vectors, [*names, _MEAN])
    effects = dict(zip(means, fitted, strict=True))
    responses = tuple(
        ConditionResponse(
            condition=name,
            region=effects[REGION][name],
            ring_excess=effects[RING][name] if RING in effects else None,
            n_active=_count_active(clusters, name, regions[REGION]),
            n_active_in_ring=_count_active(clusters, name, regions.get(RING)),
        )
        for name in names
    )
    strongest = _find_strongest(clusters)
    response = RunResponse(conditions=responses, mean=effects[REGION][_MEAN])
    if strongest is None:
        return response
    return replace(
        response,
        strongest=effects[STRONGEST][strongest.condition],
        strongest_condition=strongest.condition,
    )


def _find_strongest(clusters: Iterable[ActiveCluster]) -> ActiveCluster | None:
    """Return the cluster with the largest |z|; None if there are no clusters."""
    return max(clusters, key=lambda cluster: cluster.peak, default=None)


def _count_active(
    clusters: Iterable[ActiveCluster], condition: str, region: MaskArray | None
) -> int:
    """Return the number of active voxels of a condition in a region (X, Y, Z); 0 for None."""
    if region is None:
        return 0
    return sum(
        int(np.count_nonzero(cluster.counted & region))
        for cluster in clusters
        if cluster.condition == condition
    )


def average_regions(series: SeriesReader, regions: Iterable[MaskArray], start: int) -> Float:
    """Return the mean time series of regions (T, regions) from volume `start` on."""
    voxels = [np.flatnonzero(region.ravel(order="F")) for region in regions]
    weights = weigh_means([(indices, 0.0) for indices in voxels], series.shape[:3], (1, 1, 1))
    return average_series(series, weights, start)
