"""The interfaces of the calibration: what is written, in which frame, and what becomes of one that cannot be used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nb
import numpy as np
import numpy.testing as npt
import pandas as pd
import pytest
from scipy import ndimage

from bids_sr.interfaces.learning.calibration import CalibrationSD, RegisterCalibration
from bids_sr.registration import calibration_alignment as tools
from bids_sr.registration.ants import Image
from bids_sr.spatial.transforms import displacement, read_itk, rigid_matrix, write_itk
from bids_sr.stats.glm.confounds import MOTION

SHAPE, AFFINE = (28, 26, 10), np.diag([3.0, 3.0, 4.0, 1.0])
GOOD = {"overlap": 0.98, "correlation": 0.97}


def brain() -> np.ndarray:
    x, y, z = (np.indices(SHAPE).T - (np.array(SHAPE) - 1) / 2).T
    return (x / 11) ** 2 + (y / 10) ** 2 + (z / 5) ** 2 < 1


class Made:
    """A calibration on disk; every part can be spoiled before it is measured."""

    def __init__(self, folder: Path, volumes: int = 20) -> None:
        self.folder, self.volumes = folder, volumes
        rng = np.random.default_rng(0)
        self.sd = np.where(brain(), 10 + 30 * rng.random(SHAPE), 0)
        mixture = rng.standard_normal((*SHAPE, 3))
        mixture /= np.linalg.norm(mixture, axis=-1, keepdims=True)
        courses = np.linalg.qr(np.c_[np.ones(volumes), np.arange(volumes), rng.standard_normal((volumes, 3))])[0][:, 2:]
        change = self.sd[..., None] * (mixture @ courses.T) * np.sqrt(volumes - 2)
        self.data = 800.0 * brain()[..., None] + change + 2 * rng.standard_normal((*SHAPE, volumes))
        self.params = np.zeros((volumes, 6))
        self.matrices = np.tile(np.eye(4), (volumes, 1, 1))
        self.facts: dict[str, Any] = dict(GOOD)
        self.more: dict[str, Any] = {}

    def measure(self, monkeypatch: pytest.MonkeyPatch) -> tuple[np.ndarray, dict[str, Any]]:
        here = self.folder
        for name, data in (("bold", self.data.astype(np.float32)), ("mask", brain().astype(np.uint8))):
            image = nb.Nifti1Image(data, AFFINE)
            if name == "bold":
                image.header.set_xyzt_units("mm", "sec")
                image.header["pixdim"][4] = 2.0
            nb.save(image, here / f"{name}.nii")
        write_itk(here / "hmc.txt", self.matrices)
        pd.DataFrame(self.params, columns=list(MOTION)).to_csv(here / "motion.tsv", sep="\t", index=False)
        (here / "registration.json").write_text(json.dumps(self.facts))
        (here / "work").mkdir(exist_ok=True)
        monkeypatch.chdir(here / "work")
        found = CalibrationSD(
            in_file=str(here / "bold.nii"), mask=str(here / "mask.nii"), hmc_xfms=str(here / "hmc.txt"),
            motion_tsv=str(here / "motion.tsv"), tr=2.0, factor=(2.0, 2.0, 1.0),
            registration_json=str(here / "registration.json"), **self.more,
        ).run().outputs  # fmt: skip
        image = nb.load(found.sd_file)
        npt.assert_allclose(image.affine, AFFINE)
        self.low = nb.load(found.sd_low_file)
        return np.asarray(image.dataobj), json.loads(Path(found.calibration_json).read_text())


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path)


def test_the_written_map_is_the_known_one(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    sd, facts = made.measure(monkeypatch)
    inside = brain()
    assert np.median(np.abs(sd[inside] / made.sd[inside] - 1)) < 0.05
    assert made.low.shape == (sd.shape[0] // 2, sd.shape[1] // 2, sd.shape[2]), "downsampled as the run was"
    npt.assert_allclose(made.low.affine[:3, :3], AFFINE[:3, :3] @ np.diag([2, 2, 1]))
    assert facts["usable"] is True
    assert facts["reason"] == ""
    assert (facts["n_volumes"], facts["n_used"], facts["dof"], facts["censored"]) == (20, 20, 18, [])
    assert facts["noise_sd"] == pytest.approx(2.0, rel=0.1)
    assert facts["voxel_mm"] == [3.0, 3.0, 4.0]
    assert facts["overlap"] == 0.98


def test_motion_is_undone_before_anything_is_measured(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    still, _ = made.measure(monkeypatch)
    for t in range(10, 20):  # half of the volumes lie one voxel further on
        made.data[..., t] = np.roll(made.data[..., t], 1, axis=0)
        made.matrices[t, 0, 3] = 3.0
    found, facts = made.measure(monkeypatch)
    assert facts["reason"].startswith("the head moved by 3.0 mm, 1 mm are allowed")
    monkeypatch.setattr(tools, "MOST_MOTION_MM", 5.0)
    found, facts = made.measure(monkeypatch)
    assert facts["usable"] is True
    inside = ndimage.binary_erosion(brain())
    assert np.median(np.abs(found[inside] / still[inside] - 1)) < 0.02


def test_dummies_and_spikes_are_left_out_and_numbered_as_in_the_file(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    made.data[..., :2] *= 1.3
    made.data[..., 9] += 300 * np.random.default_rng(1).standard_normal(SHAPE)
    made.params[14:, 0] = 0.8  # a step: one jerk
    made.more["n_dummy"] = 2
    sd, facts = made.measure(monkeypatch)
    assert facts["censored"] == [9, 14]
    assert facts["n_used"] == 16
    assert facts["fd_max_mm"] == pytest.approx(0.8)
    inside = brain()
    assert np.median(np.abs(sd[inside] / made.sd[inside] - 1)) < 0.2


def test_the_task_is_taken_out_where_events_tell_it(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = tmp_path / "events.tsv"
    events.write_text("onset\tduration\ttrial_type\n8\t10\ttap\n28\t10\trest\n")
    course = tools.task_regressors(events, 2.0, 20)
    assert course.shape == (20, 1)  # rest is no condition
    made.data[brain()] += 120 * course[:, 0]
    kept, before = made.measure(monkeypatch)
    assert before["task"] == "no events"
    made.more["events_file"] = str(events)
    sd, facts = made.measure(monkeypatch)
    assert (facts["n_task"], facts["task"]) == (1, "events.tsv")
    inside = brain()
    assert np.median(kept[inside] / made.sd[inside]) > 1.4
    assert np.median(sd[inside] / made.sd[inside]) < 1.1


def test_events_that_cannot_be_read_leave_the_task_in_and_say_so(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "events.tsv").write_text("onset\ttrial_type\n1\ta\n")
    made.more["events_file"] = str(tmp_path / "events.tsv")
    _, facts = made.measure(monkeypatch)
    assert facts["usable"] is True
    assert facts["task"].startswith("not taken out: ")


def test_a_few_volumes_that_lie_far_away_are_left_out(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    made.matrices[16:, 1, 3] = 1.3
    _, facts = made.measure(monkeypatch)
    assert facts["usable"] is True
    assert facts["censored"] == [16, 17, 18, 19]
    assert (facts["far_share"], facts["motion_max_mm"]) == (0.2, 1.3)


def still_constant(made: Made) -> None:
    made.data[:] = 800.0 * brain()[..., None]


def short(made: Made) -> None:
    made.data, made.params, made.matrices = made.data[..., :3], made.params[:3], made.matrices[:3]


def restless(made: Made) -> None:
    made.params[:, 1] = np.arange(20) % 2


def drifted(made: Made) -> None:
    made.matrices[:, 1, 3] = np.linspace(0, 1.4, 20)


USELESS = {
    "constant": (still_constant, "does not change over time inside the brain"),
    "three volumes": (short, "it has 3 volumes in the steady state"),
    "restless": (restless, "19 of its 20 volumes are moved or spoiled"),
    "moved": (drifted, "the head moved by 1.4 mm, 1 mm are allowed: measure it again"),
    "apart": (lambda made: made.facts.update(overlap=0.2), "only 20% of the run's brain lies in it"),
    "unlike": (lambda made: made.facts.update(correlation=0.31), "looks unlike the run (correlation 0.31)"),
    "unregistered": (lambda made: made.facts.update(reason="it could not be registered"), "could not be registered"),
}


@pytest.mark.parametrize(("spoil", "reason"), USELESS.values(), ids=USELESS)
def test_one_that_cannot_be_used_says_why_and_stops_nothing(
    made: Made, monkeypatch: pytest.MonkeyPatch, spoil: Any, reason: str
) -> None:
    spoil(made)
    sd, facts = made.measure(monkeypatch)
    assert facts["usable"] is False
    assert reason in facts["reason"]
    npt.assert_array_equal(sd, 0)


@pytest.fixture(scope="module")
def heads() -> tuple[Image, np.ndarray, Image, np.ndarray, np.ndarray]:
    """A head at 6 mm and at 3 mm, the latter in another pose: (boldref, mask, fine, its mask, true transform)."""
    from bids_sr.spatial.resampling import sample_volume
    from bids_sr.spatial.transforms import invert
    from bids_sr.sr.resolution.matrices import kspace_crop

    rng = np.random.default_rng(2)
    shape, affine = (64, 64, 20), np.diag([3.0, 3.0, 5.0, 1.0])
    affine[:3, 3] = -np.array([94.5, 94.5, 47.5])
    x, y, z = (np.indices(shape).T * [3.0, 3.0, 5.0] + affine[:3, 3]).T
    inside = (x / 65) ** 2 + (y / 75) ** 2 + (z / 44) ** 2 < 1
    texture = ndimage.gaussian_filter(rng.standard_normal(shape), [1.5, 1.5, 1])
    head = ndimage.gaussian_filter(np.where(inside, 800 + 900 * texture, 0).astype(np.float32), 0.6)
    low, low_affine = kspace_crop(head, affine, factor=(2, 2, 1), magnitude=True)
    xfm = rigid_matrix([1.5, -2.0, 1.0, 0.02, -0.015, 0.03], (0.0, 0.0, 0.0))
    fine = sample_volume(head, affine, shape, affine, invert(xfm))
    low_mask = low > 300
    return Image(data=low, affine=low_affine), low_mask, Image(data=fine, affine=affine), fine > 300, xfm


def register(heads: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **other: Image) -> tuple[np.ndarray, dict]:
    boldref, mask, fine, fine_mask, _ = heads
    images = {"boldref": boldref, "calibration_ref": fine, **other}
    images["bold_mask"] = Image(data=mask.astype(np.float32), affine=images["boldref"].affine)
    images["calibration_mask"] = Image(data=fine_mask.astype(np.float32), affine=images["calibration_ref"].affine)
    for name, image in images.items():
        nb.save(nb.Nifti1Image(np.asarray(image.data, np.float32), image.affine), tmp_path / f"{name}.nii")
    monkeypatch.chdir(tmp_path)
    files = {name: str(tmp_path / f"{name}.nii") for name in images}
    found = RegisterCalibration(factor=(2.0, 2.0, 1.0), **files).run().outputs
    return read_itk(found.boldref2calibration_xfm)[0], json.loads(Path(found.out_json).read_text())


def test_the_transform_takes_a_boldref_point_to_its_calibration_point(
    heads: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boldref, mask, _, _, true = heads
    xfm, facts = register(heads, tmp_path, monkeypatch)
    points = np.argwhere(mask) @ boldref.affine[:3, :3].T + boldref.affine[:3, 3]
    apart = displacement(xfm, true, points)
    assert float(np.sqrt((apart**2).mean())) < 0.3  # a twentieth of the voxel; the pose is 3.7 mm away
    assert float(np.sqrt((displacement(np.eye(4), true, points) ** 2).mean())) > 2.5
    assert facts["overlap"] > 0.95
    assert facts["correlation"] > 0.95
    assert facts["edges_apart_mm"] < 0.6
    assert tools.objection(facts) == ""


def test_another_head_is_seen(heads: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, fine, fine_mask, _ = heads
    rng = np.random.default_rng(9)
    other = np.where(fine_mask, 800 + 900 * ndimage.gaussian_filter(rng.standard_normal(fine.data.shape), 1.2), 0)
    _, facts = register(heads, tmp_path, monkeypatch, calibration_ref=Image(data=other, affine=fine.affine))
    assert facts["correlation"] < 0.5 or facts["overlap"] < 0.5
    assert "unlike the run" in tools.objection(facts) or "lies in it" in tools.objection(facts)


def test_one_without_overlap_is_seen(heads: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the slices: the brain is in the field of view, and most of it is not."""
    boldref, mask, fine, fine_mask, true = heads
    part = Image(data=fine.data[..., 14:], affine=fine.affine @ np.array(
        [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 14], [0, 0, 0, 1.0]]
    ))  # fmt: skip
    facts = tools.agreement(boldref, mask, part, fine_mask[..., 14:], true, (2.0, 2.0, 1.0))
    assert 0.05 < facts["overlap"] < 0.4
    assert "of the run's brain lies in it" in tools.objection(facts)
