"""Test the response of a region, of the ring around it, and of the brain's strongest cluster."""

import numpy as np
import pandas as pd
import pytest

from bids_sr.glm.design import build_design
from bids_sr.glm.region_response import (
    find_active_clusters,
    list_averaged_regions,
    measure_response,
    select_equal_ring,
)
from bids_sr.glm.regressors import Events

SHAPE = (12, 12, 6)
AFFINE = np.diag([3.0, 3.0, 5.0, 1.0])
MASK = np.ones(SHAPE, dtype=bool)
EVENTS = Events(
    pd.DataFrame(
        {
            "onset": [10.0 + 40 * k for k in range(6)],
            "duration": 16.0,
            "trial_type": ["thumb", "little"] * 3,
        }
    )
)
DESIGN = build_design(EVENTS, n_volumes=125, tr=2.0, confound_names=())
CONDITIONS = {name: {name: 1.0} for name in ("thumb", "little")}


def box(*corner, size=(2, 2, 2)):
    """Return a box of voxels from a corner."""
    region = np.zeros(SHAPE, dtype=bool)
    region[tuple(slice(start, start + n) for start, n in zip(corner, size, strict=True))] = True
    return region


def noise_maps(seed):
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal(SHAPE).astype(np.float32) for name in CONDITIONS}


def test_clusters_are_activated_or_deactivated_and_have_two_voxels():
    z_maps = noise_maps(1)
    z_maps["thumb"][box(2, 2, 2)] = 8.0
    z_maps["little"][box(6, 6, 2, size=(3, 1, 1))] = -9.0
    z_maps["little"][1, 9, 4] = 12.0  # a single voxel
    z_maps["thumb"][~MASK] = 20.0
    clusters = find_active_clusters(z_maps, MASK)
    found = {(c.condition, int(c.voxels.sum()), c.peak) for c in clusters}
    assert found == {("thumb", 8, 8.0), ("little", 3, 9.0)}
    outside = MASK & ~box(2, 2, 2)
    assert {c.condition for c in find_active_clusters(z_maps, outside)} == {"little"}


def test_voxels_of_a_region_are_counted_at_a_lower_false_discovery_rate():
    """In a very active brain, voxels with a low z are active, but not counted."""
    z_maps = noise_maps(4)
    z_maps["thumb"][:4] = 9.0
    weak = box(8, 8, 2)
    z_maps["thumb"][weak] = 2.7
    clusters = find_active_clusters(z_maps, MASK)
    assert any((cluster.voxels & weak).sum() == 8 for cluster in clusters)
    assert not any((cluster.counted & weak).any() for cluster in clusters)
    assert any(cluster.counted[:4].all() for cluster in clusters)


def test_the_ring_has_the_nearest_voxels_in_mm_and_the_size_of_the_region():
    region = box(5, 5, 2)
    ring = select_equal_ring(region, MASK, AFFINE)
    # 16 voxels share a face with the region in plane; slices are farther
    np.testing.assert_array_equal(np.argwhere(ring.any(axis=(0, 1))).ravel(), [2, 3])
    assert ring.sum() == 16
    assert not (ring & region).any()
    half = MASK.copy()
    half[:5] = False
    assert not (select_equal_ring(region, half, AFFINE) & ~half).any()
    assert not select_equal_ring(MASK, MASK, AFFINE).any()


def simulate(effects):
    """Return volumes with the effects of ``thumb`` in regions, and noise."""
    rng = np.random.default_rng(3)
    volumes = 500 + rng.standard_normal((125, *SHAPE))
    for region, effect in effects:
        volumes[:, region] += effect * DESIGN.matrix[:, [DESIGN.columns.index("thumb")]]
    return volumes


def average(volumes, regions):
    return np.stack([volumes[:, region].mean(axis=1) for region in regions.values()], axis=1)


def test_effects_are_of_region_ring_minus_region_and_strongest_cluster():
    region, strongest = box(5, 5, 2), box(1, 1, 1, size=(3, 3, 1))
    volumes = simulate([(region, 3.0), (strongest, 10.0)])
    z_maps = noise_maps(2)
    z_maps["thumb"][strongest] = 12.0
    z_maps["little"][region] = -7.0
    clusters = find_active_clusters(z_maps, MASK)
    regions = list_averaged_regions(region, MASK, AFFINE, clusters)
    mean_series = average(volumes, regions)
    found = measure_response(regions, mean_series, clusters, DESIGN, CONDITIONS)
    thumb, little = found.conditions
    assert thumb.region.effect == pytest.approx(3, abs=0.3)
    assert thumb.ring_excess.effect == pytest.approx(-3, abs=0.4)
    assert little.region.effect == pytest.approx(0, abs=0.3)
    mean = (thumb.region.effect + little.region.effect) / 2
    assert found.mean.effect == pytest.approx(mean)
    assert 0 < found.mean.noise_sd < max(thumb.region.noise_sd, little.region.noise_sd)
    assert found.strongest.effect == pytest.approx(10, abs=0.3)
    assert found.strongest_condition == "thumb"
    assert [(c.n_active, c.n_active_in_ring) for c in found.conditions] == [(0, 0), (8, 0)]
    scaled = found.times(2.0)
    assert scaled.strongest.effect == pytest.approx(2 * found.strongest.effect)
    assert scaled.mean.effect == pytest.approx(2 * mean)
    assert scaled.conditions[0].ring_excess.noise_sd == pytest.approx(
        2 * thumb.ring_excess.noise_sd
    )


def test_the_brain_has_no_ring_and_a_silent_run_no_strongest_cluster():
    regions = list_averaged_regions(MASK, MASK, AFFINE, [])
    mean_series = average(simulate([]), regions)
    found = measure_response(regions, mean_series, [], DESIGN, CONDITIONS)
    assert found.strongest is None
    assert [condition.ring_excess for condition in found.conditions] == [None, None]
