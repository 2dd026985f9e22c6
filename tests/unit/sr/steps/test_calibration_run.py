"""Test the steps of the calibration run: results, frames, and handling of unusable runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nb
import numpy as np
import numpy.testing as npt
import pandas as pd
import pytest
from data.simulated_run import response
from scipy import ndimage

from bids_sr.glm.hemodynamic_response import HemodynamicResponse
from bids_sr.io.confound_names import MOTION_PARAMETERS
from bids_sr.io.nifti import SeriesReader
from bids_sr.io.volume import Volume
from bids_sr.preproc import calibration_alignment
from bids_sr.preproc.steps.aligned_series import BoldBrain
from bids_sr.spatial.transforms import rigid_matrix
from bids_sr.sr import calibration_fluctuations
from bids_sr.sr.steps.calibration_run import measure_calibration, register_calibration

SHAPE, AFFINE = (28, 26, 10), np.diag([3.0, 3.0, 4.0, 1.0])
GOOD = {"overlap": 0.98, "correlation": 0.97}


def brain() -> np.ndarray:
    x, y, z = (np.indices(SHAPE).T - (np.array(SHAPE) - 1) / 2).T
    return (x / 11) ** 2 + (y / 10) ** 2 + (z / 5) ** 2 < 1


class CalibrationRun:
    """A calibration run on disk, which a test may modify before measuring."""

    def __init__(self, folder: Path, volumes: int = 20) -> None:
        self.folder, self.affine = folder, AFFINE
        rng = np.random.default_rng(0)
        self.sd = np.where(brain(), 10 + 30 * rng.random(SHAPE), 0)
        mixture = rng.standard_normal((*SHAPE, 3))
        mixture /= np.linalg.norm(mixture, axis=-1, keepdims=True)
        time_courses = np.linalg.qr(
            np.c_[np.ones(volumes), np.arange(volumes), rng.standard_normal((volumes, 3))]
        )[0][:, 2:]
        change = self.sd[..., None] * (mixture @ time_courses.T) * np.sqrt(volumes - 2)
        self.data = (
            800.0 * brain()[..., None] + change + 2 * rng.standard_normal((*SHAPE, volumes))
        )
        self.params = np.zeros((volumes, 6))
        self.matrices = np.tile(np.eye(4), (volumes, 1, 1))
        self.facts: dict[str, Any] = dict(GOOD)
        self.more: dict[str, Any] = {}

    def measure(self) -> tuple[np.ndarray, dict[str, Any]]:
        image = nb.Nifti1Image(self.data.astype(np.float32), self.affine)
        image.header.set_xyzt_units("mm", "sec")
        image.header["pixdim"][4] = 2.0
        nb.save(image, self.folder / "bold.nii")
        motion = pd.DataFrame(self.params, columns=list(MOTION_PARAMETERS))
        options = {"n_dummy": 0, "tr": 2.0, "hrf": HemodynamicResponse(), **self.more}
        with SeriesReader(self.folder / "bold.nii") as bold:
            self.patterns, facts = measure_calibration(
                bold, Volume(brain(), self.affine), self.matrices, motion, self.facts, **options
            )
        npt.assert_allclose(self.patterns.affine, self.affine)
        # three sources were simulated
        return np.sqrt(np.square(self.patterns.data[..., :3]).sum(-1)), facts


@pytest.fixture
def calibration_run(tmp_path: Path) -> CalibrationRun:
    return CalibrationRun(tmp_path)


def test_the_strongest_components_contain_the_known_fluctuations(
    calibration_run: CalibrationRun,
) -> None:
    strongest, facts = calibration_run.measure()
    inside = brain()
    assert calibration_run.patterns.data.shape == (*SHAPE, facts["n_patterns"])
    assert np.median(np.abs(strongest[inside] / calibration_run.sd[inside] - 1)) < 0.1
    assert facts["usable"] is True
    assert facts["reason"] == ""
    assert (facts["n_volumes"], facts["n_used"], facts["dof"], facts["censored"]) == (
        20,
        20,
        18,
        [],
    )
    assert facts["noise_sd"] == pytest.approx(2.0, rel=0.1)
    assert facts["voxel_mm"] == [3.0, 3.0, 4.0]
    assert facts["overlap"] == 0.98


def test_head_motion_is_corrected_before_components_are_computed(
    calibration_run: CalibrationRun,
) -> None:
    calibration_run.affine = np.diag([0.9, 0.9, 1.2, 1.0])  # motion of more than 1 mm is rejected
    without_motion, _ = calibration_run.measure()
    for t in range(10, 20):  # half of the volumes are shifted by one voxel
        calibration_run.data[..., t] = np.roll(calibration_run.data[..., t], 1, axis=0)
        calibration_run.matrices[t, 0, 3] = 0.9
    strongest, facts = calibration_run.measure()
    assert facts["usable"] is True
    inside = ndimage.binary_erosion(brain())
    assert np.median(np.abs(strongest[inside] / without_motion[inside] - 1)) < 0.02


def test_dummies_and_spikes_are_censored_and_numbered_as_in_the_file(
    calibration_run: CalibrationRun,
) -> None:
    calibration_run.data[..., :2] *= 1.3
    calibration_run.data[..., 9] += 300 * np.random.default_rng(1).standard_normal(SHAPE)
    calibration_run.params[14:, 0] = 0.8  # a step, hence a single motion spike
    calibration_run.more["n_dummy"] = 2
    sd, facts = calibration_run.measure()
    assert facts["censored"] == [9, 14]
    assert facts["n_used"] == 16
    assert facts["fd_max_mm"] == pytest.approx(0.8)
    inside = brain()
    assert np.median(np.abs(sd[inside] / calibration_run.sd[inside] - 1)) < 0.2


def test_the_task_is_regressed_out_if_there_is_an_events_file(
    calibration_run: CalibrationRun, tmp_path: Path
) -> None:
    """Rest is not a condition; unreadable events leave the task in the series."""
    events = tmp_path / "events.tsv"
    events.write_text("onset\tduration\ttrial_type\n8\t10\ttap\n28\t10\trest\n")
    task = response(2.0 * np.arange(20), [(8.0, 10.0, "tap")])
    calibration_run.data[brain()] += 120 * task
    with_task, before = calibration_run.measure()
    calibration_run.more["calibration_events"] = events
    sd, facts = calibration_run.measure()
    assert (before["n_task"], facts["n_task"], facts["task"]) == (0, 1, "events.tsv")
    inside = brain()
    assert np.median(with_task[inside] / calibration_run.sd[inside]) > 1.4
    assert np.median(sd[inside] / calibration_run.sd[inside]) < 1.1
    events.write_text("onset\ttrial_type\n1\ta\n")
    unread, facts = calibration_run.measure()
    assert (facts["usable"], facts["n_task"]) == (True, 0)
    npt.assert_array_equal(unread, with_task)


def make_constant(calibration_run: CalibrationRun) -> None:
    calibration_run.data[:] = 800.0 * brain()[..., None]


def shorten(calibration_run: CalibrationRun) -> None:
    calibration_run.data, calibration_run.params, calibration_run.matrices = (
        calibration_run.data[..., :3],
        calibration_run.params[:3],
        calibration_run.matrices[:3],
    )


def add_motion_spikes(calibration_run: CalibrationRun) -> None:
    calibration_run.params[:, 1] = np.arange(20) % 2


def add_drift(calibration_run: CalibrationRun) -> None:
    calibration_run.matrices[:, 1, 3] = np.linspace(0, 1.4, 20)


def set_facts(**facts: object) -> Callable[[CalibrationRun], None]:
    """Return a change of the facts of the registration."""
    return lambda calibration_run: calibration_run.facts.update(facts)


UNUSABLE = {
    "constant": (make_constant, "constant"),
    "three volumes": (shorten, "3 steady-state volumes"),
    "restless": (add_motion_spikes, "19 of the 20 volumes"),
    "moved": (add_drift, "1.4 mm"),
    "apart": (set_facts(overlap=0.2), "20%"),
    "unlike": (set_facts(correlation=0.31), "0.31"),
    "unregistered": (set_facts(reason="could not be registered"), "could not be registered"),
}
"""Change of the run, and words or numbers of the reason."""


@pytest.mark.parametrize(("modify", "words"), UNUSABLE.values(), ids=UNUSABLE)
def test_an_unusable_calibration_run_has_a_reason_and_does_not_stop_processing(
    calibration_run: CalibrationRun, modify: Callable[[CalibrationRun], None], words: str
) -> None:
    modify(calibration_run)
    sd, facts = calibration_run.measure()
    assert facts["usable"] is False
    assert words in facts["reason"]
    npt.assert_array_equal(sd, 0)


@pytest.fixture(scope="module")
def heads() -> tuple[Volume, np.ndarray, Volume, np.ndarray, np.ndarray]:
    """Return a head at 6 mm, and at 3 mm in another pose: (boldref, mask, high_res, its mask, true
    transform).
    """
    from bids_sr.spatial.matrices import kspace_crop
    from bids_sr.spatial.resampling import sample_volume
    from bids_sr.spatial.transforms import invert

    rng = np.random.default_rng(2)
    shape, affine = (64, 64, 20), np.diag([3.0, 3.0, 5.0, 1.0])
    affine[:3, 3] = -np.array([94.5, 94.5, 47.5])
    x, y, z = (np.indices(shape).T * [3.0, 3.0, 5.0] + affine[:3, 3]).T
    inside = (x / 65) ** 2 + (y / 75) ** 2 + (z / 44) ** 2 < 1
    texture = ndimage.gaussian_filter(rng.standard_normal(shape), [1.5, 1.5, 1])
    head = ndimage.gaussian_filter(
        np.where(inside, 800 + 900 * texture, 0).astype(np.float32), 0.6
    )
    low_res, low_affine = kspace_crop(head, affine, factor=(2, 2, 1), magnitude=True)
    xfm = rigid_matrix([1.5, -2.0, 1.0, 0.02, -0.015, 0.03], (0.0, 0.0, 0.0))
    high_res = sample_volume(head, affine, shape, affine, invert(xfm))
    low_res_mask = low_res > 300
    return (
        Volume(data=low_res, affine=low_affine),
        low_res_mask,
        Volume(data=high_res, affine=affine),
        high_res > 300,
        xfm,
    )


def brain_of(boldref: Volume, mask: np.ndarray) -> BoldBrain:
    return BoldBrain(boldref=boldref, bold_mask=boldref.like(mask), factor=(2.0, 2.0, 1.0))


def register(
    heads: Any, tmp_path: Path, calibration_ref: Volume | None = None
) -> tuple[np.ndarray, dict]:
    boldref, mask, high_res, high_res_mask, _ = heads
    high_res = high_res if calibration_ref is None else calibration_ref
    xfm, facts = register_calibration(
        brain_of(boldref, mask),
        high_res,
        high_res.like(high_res_mask),
        tmp_path,
        random_seed=1,
    )
    return xfm[0], facts


def test_a_known_transform_is_only_compared_with_the_images(heads: Any, tmp_path: Path) -> None:
    boldref, mask, high_res, high_res_mask, true_xfm = heads
    images = (brain_of(boldref, mask), high_res, high_res.like(high_res_mask), tmp_path)
    options = {"random_seed": 1}
    xfm, facts = register_calibration(*images, true_xfm[None], **options)
    assert np.array_equal(xfm[0], true_xfm)
    assert facts["overlap"] > 0.95
    _, wrong_facts = register_calibration(*images, np.eye(4)[None], **options)
    assert wrong_facts["correlation"] < facts["correlation"] - 0.02
    assert [*tmp_path.iterdir()] == []


def test_another_head_is_recognized(heads: Any, tmp_path: Path) -> None:
    _, _, high_res, high_res_mask, _ = heads
    rng = np.random.default_rng(9)
    other_head = np.where(
        high_res_mask,
        800 + 900 * ndimage.gaussian_filter(rng.standard_normal(high_res.data.shape), 1.2),
        0,
    )
    _, facts = register(
        heads, tmp_path, calibration_ref=Volume(data=other_head, affine=high_res.affine)
    )
    assert facts["correlation"] < 0.5 or facts["overlap"] < 0.5
    assert calibration_fluctuations.rejection_reason(facts)


def test_a_calibration_run_without_overlap_is_recognized(heads: Any) -> None:
    """Keep only half of the slices: the brain reaches into the field of view, but most of it is
    outside.
    """
    boldref, mask, high_res, high_res_mask, true_xfm = heads
    part = Volume(
        data=high_res.data[..., 14:],
        affine=high_res.affine
        @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 14], [0, 0, 0, 1.0]]),
    )
    facts = calibration_alignment.measure_agreement(
        boldref, mask, part, high_res_mask[..., 14:], true_xfm, (2.0, 2.0, 1.0)
    )
    assert 0.05 < facts["overlap"] < 0.4
    assert calibration_fluctuations.rejection_reason(facts)
