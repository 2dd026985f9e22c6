"""Poses of the head in each image and in each volume of a run.

All matrices map a point of a reference frame to its position in the image (RAS mm), as in
`bids_sr.spatial.transforms`.
"""

import numpy as np
from scipy import ndimage

from bids_sr.io.arrays import Array
from bids_sr.spatial.transforms import invert, rigid_matrix

ROTATION_CENTER = (0.0, -18.0, 20.0)
"""Center of head rotations (mm)."""


def draw_pose(
    rng: np.random.Generator, range_mm: tuple[float, float], range_deg: tuple[float, float]
) -> Array:
    """Draw a rigid transform with random directions of translation and rotation.

    The length of the translation (mm) and the angle of the rotation (degrees) are drawn uniformly
    from their ranges. The transform is about the center of the head (4 x 4, RAS+ mm).
    """
    params = np.empty(6)
    for components, (low, high) in ((slice(0, 3), range_mm), (slice(3, 6), range_deg)):
        direction = rng.standard_normal(3)
        params[components] = direction / np.linalg.norm(direction) * rng.uniform(low, high)
    params[3:] = np.deg2rad(params[3:])
    return rigid_matrix(params, ROTATION_CENTER)


def draw_motion(rng: np.random.Generator, volumes: int, tr: float, reference: int) -> Array:
    """Draw the head motion of a run.

    The motion is the sum of a slow drift of about half a millimeter and half a degree, of sudden
    movements of up to 1 mm about every two minutes that decay within seconds, and of nodding by
    some hundredths of a millimeter with breathing. It is constant within a volume.

    `tr` is in s, and `reference` is the number of the reference volume. Returns the transforms of
    a point of the reference volume to its position in each volume (T, 4, 4; RAS+ mm).
    """
    times = np.arange(volumes) * tr
    params = np.zeros((volumes, 6))
    drift_size = np.array([0.25, 0.3, 0.45, 0.006, 0.003, 0.003])  # mm and rad at the end of a run
    walk = np.cumsum(rng.standard_normal((volumes, 6)), axis=0)
    walk = ndimage.gaussian_filter1d(walk, 12.0 / tr, axis=0, mode="nearest")
    params += drift_size * walk / np.sqrt(volumes)
    for _ in range(rng.poisson(volumes * tr / 120.0) + 1):
        onset = rng.uniform(0.1, 0.95) * times[-1]
        movement = (
            rng.uniform(0.2, 0.8, 6)
            * rng.choice([-1.0, 1.0], 6)
            * np.array([0.4, 0.5, 1.0, 0.012, 0.005, 0.005])
        )
        elapsed_s = np.maximum(times - onset, 0)
        params += (times >= onset)[:, None] * np.exp(-elapsed_s / 4.0)[:, None] * movement
    breath = np.sin(2 * np.pi * 0.27 * times + rng.uniform(0, 2 * np.pi))
    params[:, 2] += 0.02 * breath
    params[:, 3] += 0.0003 * breath
    poses = np.stack([rigid_matrix(volume_params, ROTATION_CENTER) for volume_params in params])
    relative_poses = poses @ invert(poses[reference])
    relative_poses[reference] = np.eye(4)
    return relative_poses
