"""Test the boldref: sharp in spite of motion, without dummies and spikes; dummies take the first
steady-state transform.
"""

import numpy as np
from data.moved_head import AFFINE, NOISE, SHAPE, head, motion_errors, scan

from bids_sr.preproc.boldref import estimate_run, make_boldref
from bids_sr.spatial.transforms import rigid_matrix


class _Run:
    """Series in memory that records the volumes read."""

    affine = AFFINE

    def __init__(self, volumes: list[np.ndarray]) -> None:
        self.volumes = volumes
        self.shape = (*SHAPE, len(volumes))
        self.read: set[int] = set()

    def volume(self, t: int) -> np.ndarray:
        self.read.add(t)
        return self.volumes[t]


def _run(count: int = 14, dummies: int = 2) -> tuple[_Run, list[np.ndarray]]:
    rng = np.random.default_rng(1)
    center = head()[2]
    truth = [rigid_matrix([0.25 * t, 0, 0.1 * t, 0, 0.004 * t, 0], center) for t in range(count)]
    volumes = [scan(m) + rng.normal(0, NOISE, SHAPE) for m in truth]
    for t in range(dummies):
        volumes[t] = volumes[t] * 3
    return _Run(volumes), truth


def test_the_boldref_is_the_still_head_in_a_pose_of_the_run() -> None:
    run, truth = _run()
    run.volumes[5] = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)  # a spike
    reference = make_boldref(run, n_dummy=2)
    assert not run.read & {0, 1}
    inside = head()[0]
    gaps = {t: np.sqrt(((scan(m) - reference)[inside] ** 2).mean()) for t, m in enumerate(truth)}
    best = min(gaps, key=gaps.__getitem__)
    assert 6 <= best <= 10  # middle of the steady-state volumes
    mean_image = np.mean(run.volumes[2:], axis=0)
    assert gaps[best] < 0.03
    assert gaps[best] < 0.5 * min(
        np.sqrt(((scan(m) - mean_image)[inside] ** 2).mean()) for m in truth
    )


def test_dummies_take_the_first_steady_state_transform() -> None:
    run, truth = _run()
    motion = estimate_run(run, scan(np.eye(4)), head()[0], n_dummy=2)
    assert motion.matrices.shape == (14, 4, 4)
    np.testing.assert_array_equal(motion.matrices[:2], motion.matrices[[2, 2]])
    assert motion_errors(motion.matrices[2:], truth[2:]).max() < 0.1
    assert np.isnan(motion.residual[:2]).all()
