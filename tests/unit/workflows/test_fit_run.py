"""Test motion, masks and series of a run by calling steps without a graph."""

from pathlib import Path

import numpy as np
import pytest

from bids_sr.engine.flow import Eager, Flow
from bids_sr.engine.nodes import Scope
from bids_sr.io.grids import AS_STORED
from bids_sr.io.nifti import save_image
from bids_sr.preproc.steps import acquired_series, bold_reference
from bids_sr.sr.steps.super_resolution import Inference, super_resolve
from bids_sr.workflows.fit_run import (
    FittedRun,
    HeadMotion,
    correct_acquired,
    find_brain,
    fit_motion,
    reuse_motion,
)
from bids_sr.workflows.model_run import resample_acquired
from bids_sr.workflows.run_plan import SeriesCorrection

FACTOR = (2.0, 2.0, 1.0)
SHAPE, VOLUMES = (24, 26, 12), 6
AFFINE = np.diag([6.0, 6.0, 6.0, 1.0])
AFFINE[:3, 3] = [-69, -75, -33]


@pytest.fixture(scope="module")
def bold_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a head of human size in noise, which moves along x by 3 mm after half of the
    volumes.
    """
    mm = np.stack(np.indices(SHAPE), -1) @ AFFINE[:3, :3] + AFFINE[:3, 3]
    rng = np.random.default_rng(0)
    volumes = []
    for volume in range(VOLUMES):
        radius = (((mm - [3.0 * (volume >= VOLUMES // 2), 0, 0]) / [60, 66, 30]) ** 2).sum(-1)
        head = 900 / (1 + np.exp(12 * (radius - 1))) * (1 + 0.3 * np.sin(mm[..., 1] / 9))
        volumes.append(head + rng.normal(0, 2, SHAPE) + 20)
    path = tmp_path_factory.mktemp("run") / "bold.nii"
    save_image(np.stack(volumes, -1).astype(np.float32), AFFINE, path, tr=2.0)
    return path


def _fitted(bold_file: Path, head_motion: HeadMotion | None = None) -> FittedRun:
    bold = acquired_series.import_series(bold_file, tr=2.0, axis_order=AS_STORED)
    n_dummy = bold_reference.count_dummies(bold, dummy_scans=0)
    if head_motion is None:
        estimated = fit_motion(bold, n_dummy)
    else:
        estimated = reuse_motion(bold, n_dummy, head_motion.hmc_xfms, boldref=head_motion.boldref)
    brain = find_brain(estimated.boldref, factor=FACTOR)
    stc = correct_acquired(bold, n_dummy, SeriesCorrection())
    return FittedRun(
        boldref=estimated.boldref,
        bold_mask=brain.bold_mask,
        bold_mask_hr=brain.bold_mask_hr,
        factor=FACTOR,
        hmc_xfms=estimated.hmc_xfms,
        stc=stc,
        acquired=bold,
        bold=bold,
        n_dummy=n_dummy,
        motion=estimated.motion,
        roi_bold=brain.bold_mask,
        roi_bold_hr=brain.bold_mask_hr,
        regions={},
        regions_hr={},
        registration_facts=brain.mask_facts,
    )


def test_a_run_is_fitted_and_super_resolved_without_a_graph(
    bold_file: Path, tmp_path: Path
) -> None:
    steps: list[str] = []
    (tmp_path / "estimated").mkdir()
    with Eager(tmp_path / "estimated", steps.append):
        fitted = _fitted(bold_file)
        raw = resample_acquired(fitted)
        result = super_resolve(fitted, series_name="bspline", inference=Inference())
        first, last = raw.volume(0), raw.volume(VOLUMES - 1)
        brain = fitted.bold_mask.data
        assert np.abs(last - first)[brain].mean() < 15
        assert result.series.shape == (48, 52, 12, VOLUMES)
        assert result.series_facts == {}
        assert result.error_draws is None
        # The head moves by 3 mm along x.
        displacement = fitted.hmc_xfms[-1] @ np.linalg.inv(fitted.hmc_xfms[0])
        np.testing.assert_allclose(displacement[:3, 3], [3, 0, 0], atol=0.4)
        (tmp_path / "given").mkdir()
        values = np.stack(list(raw.volumes()), -1)
    assert steps[:4] == ["import series", "count dummies", "average volumes", "mask head"]
    head_motion = HeadMotion(
        boldref=fitted.boldref, hmc_xfms=fitted.hmc_xfms, motion=fitted.motion
    )
    steps.clear()
    with Eager(tmp_path / "given", steps.append):
        refitted = _fitted(bold_file, head_motion)
        np.testing.assert_allclose(refitted.boldref.data, head_motion.boldref.data, rtol=1e-6)
        refitted_values = np.stack(list(resample_acquired(refitted).volumes()), -1)
        np.testing.assert_allclose(refitted_values, values, rtol=1e-5, atol=1e-2)
    assert "estimate motion" not in steps


def test_nothing_is_corrected_unless_requested(bold_file: Path) -> None:
    with Flow(scope := Scope("wf")):
        bold = acquired_series.import_series(bold_file, tr=2.0, axis_order=AS_STORED)
        uncorrected = correct_acquired(bold, 0, SeriesCorrection())
        requested = SeriesCorrection(slice_times=[0.0] * 12, start_time=0.5, input_smoothing=4.0)
        correct_acquired(bold, 0, requested)
    assert uncorrected is bold
    names = [node.name for node in scope.nodes]
    assert names == ["import_series", "correct_slice_timing", "smooth_acquired"]
