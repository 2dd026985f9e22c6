"""Confounds compared with values computed by hand, and the confounds table."""

from pathlib import Path

import numpy as np
import pandas as pd

from bids_sr.io.confound_names import MOTION_PARAMETERS
from bids_sr.io.nifti import SeriesReader, save_image
from bids_sr.preproc.confound_table import build_confound_table, tissue_masks
from bids_sr.preproc.drift import drift_basis
from bids_sr.preproc.head_motion import rms_displacement


def test_rms_displacement_is_the_mean_over_a_ball() -> None:
    """Compare with points drawn uniformly from the ball.

    The first step is a translation by 3 mm, the second a rotation about a point.
    """
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(0.02), -np.sin(0.02)], [np.sin(0.02), np.cos(0.02)]]
    turn[:3, 3] = [0.5, -1.0, 2.0]
    shift = np.eye(4)
    shift[2, 3] = 3.0
    matrices, center = np.stack([np.eye(4), shift, shift @ turn]), np.array([10.0, -30.0, 5.0])
    rng = np.random.default_rng(0)
    points = rng.uniform(-80, 80, (200_000, 3))
    points = points[(points**2).sum(axis=1) <= 80**2] + center
    rotated = points @ turn[:3, :3].T + turn[:3, 3]
    rmsd = rms_displacement(matrices, center)
    assert np.isnan(rmsd[0])
    np.testing.assert_allclose(
        rmsd[1:], [3.0, np.sqrt(((rotated - points) ** 2).sum(axis=1).mean())], rtol=2e-3
    )


def test_drift_basis_is_orthonormal_and_slow() -> None:
    basis = drift_basis(200, 2.0)
    assert basis.shape == (200, 8)  # the constant, periods 800, 400, ... 133 s, and a ramp
    np.testing.assert_allclose(basis.T @ basis, np.eye(8), atol=1e-12)
    for slow in (np.linspace(3, 9, 200), np.cos(np.pi * (np.arange(200) + 0.5) * 5 / 200)):
        np.testing.assert_allclose(slow - basis @ (basis.T @ slow), 0, atol=1e-9)
    fast = np.sin(2 * np.pi * np.arange(200) / 20)  # 40 s
    assert np.linalg.norm(fast - basis @ (basis.T @ fast)) > 0.95 * np.linalg.norm(fast)


def _tpms(shape: tuple[int, ...]) -> list[np.ndarray]:
    gm, wm, csf = (np.zeros(shape, np.float32) for _ in range(3))
    gm[:4], wm[4:10], csf[10:] = 1, 1, 1
    return [gm, wm, csf]


def test_acompcor_masks_exclude_voxels_next_to_gray_matter() -> None:
    shape = (14, 8, 6)
    masks = tissue_masks(_tpms(shape), np.ones(shape, bool))
    assert masks["white_matter"][4:10].all()
    assert masks["white_matter"].sum() == 6 * 48
    assert masks["csf"].sum() == 4 * 48
    assert not masks["deep"][4].any()  # touches gray matter
    assert masks["deep"][5:].all()
    assert masks["deep_white_matter"][5:10].all()
    assert masks["deep_white_matter"].sum() == 5 * 48
    np.testing.assert_array_equal(masks["deep_csf"], masks["csf"])


def test_bright_dummy_scans_do_not_change_components(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    shape, volumes = (8, 8, 4), 30
    data = (500 + 5 * rng.normal(size=(*shape, volumes))).astype(np.float32)
    motion = pd.DataFrame(np.zeros((volumes, 6)), columns=list(MOTION_PARAMETERS))
    tables = []
    for number, factor in enumerate((1.0, 3.0)):
        data[..., :3] *= factor
        save_image(data, np.eye(4), tmp_path / f"{number}.nii", tr=2.0)
        with SeriesReader(tmp_path / f"{number}.nii") as reader:
            tpms = [np.zeros(shape), np.ones(shape), np.zeros(shape)]
            still = np.tile(np.eye(4), (volumes, 1, 1))
            tables.append(
                build_confound_table(
                    reader, np.ones(shape, bool), motion, still, tpms=tpms, n_dummy=3
                )[0]
            )
    for name in ("a_comp_cor_00", "t_comp_cor_00"):
        np.testing.assert_allclose(tables[1][name][4:], tables[0][name][4:], rtol=1e-6)
