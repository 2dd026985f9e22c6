"""The steps of the calibration: what they make, in which frame, and what becomes of one that
cannot be used.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nb
import numpy as np
import numpy.testing as npt
import pandas as pd
import pytest
from scipy import ndimage

from bids_sr.glm.confounds import MOTION
from bids_sr.io.grids import AS_STORED
from bids_sr.io.nifti import SeriesReader
from bids_sr.io.volume import Volume
from bids_sr.pipeline.flow import Flow, image_in, subworkflow
from bids_sr.pipeline.graph import Graph
from bids_sr.pipeline.listing import who_makes_what
from bids_sr.pipeline.nodes import Scope
from bids_sr.pipeline.outputs import Outputs
from bids_sr.registration import calibration_alignment, calibration_fluctuations
from bids_sr.spatial.transforms import displacement, rigid_matrix
from bids_sr.steps import acquired_series, bold_reference
from bids_sr.steps.calibration_run import measure_calibration, register_calibration
from bids_sr.workflows.fit_run import estimate_motion, fit_calibration

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
        courses = np.linalg.qr(
            np.c_[np.ones(volumes), np.arange(volumes), rng.standard_normal((volumes, 3))]
        )[0][:, 2:]
        change = self.sd[..., None] * (mixture @ courses.T) * np.sqrt(volumes - 2)
        self.data = (
            800.0 * brain()[..., None] + change + 2 * rng.standard_normal((*SHAPE, volumes))
        )
        self.params = np.zeros((volumes, 6))
        self.matrices = np.tile(np.eye(4), (volumes, 1, 1))
        self.facts: dict[str, Any] = dict(GOOD)
        self.more: dict[str, Any] = {}

    def measure(self) -> tuple[np.ndarray, dict[str, Any]]:
        image = nb.Nifti1Image(self.data.astype(np.float32), AFFINE)
        image.header.set_xyzt_units("mm", "sec")
        image.header["pixdim"][4] = 2.0
        nb.save(image, self.folder / "bold.nii")
        motion = pd.DataFrame(self.params, columns=list(MOTION))
        how = {"n_dummy": 0, "tr": 2.0, **self.more}
        with SeriesReader(self.folder / "bold.nii") as bold:
            self.patterns, facts = measure_calibration(
                bold, Volume(brain(), AFFINE), self.matrices, motion, self.facts, **how
            )
        npt.assert_allclose(self.patterns.affine, AFFINE)
        return np.sqrt(np.square(self.patterns.data[..., :3]).sum(-1)), facts  # there are three


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path)


def test_the_strongest_components_hold_the_known_fluctuations(made: Made) -> None:
    strongest, facts = made.measure()
    inside = brain()
    assert made.patterns.data.shape == (*SHAPE, facts["n_patterns"])
    assert np.median(np.abs(strongest[inside] / made.sd[inside] - 1)) < 0.1
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


def test_motion_is_undone_before_anything_is_measured(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    still, _ = made.measure()
    for t in range(10, 20):  # half of the volumes lie one voxel further on
        made.data[..., t] = np.roll(made.data[..., t], 1, axis=0)
        made.matrices[t, 0, 3] = 3.0
    found, facts = made.measure()
    assert facts["reason"].startswith(
        "the head moved by 3.0 mm during the calibration run; at most 1 mm"
    )
    monkeypatch.setattr(calibration_fluctuations, "_MOST_MOTION_MM", 5.0)
    found, facts = made.measure()
    assert facts["usable"] is True
    inside = ndimage.binary_erosion(brain())
    assert np.median(np.abs(found[inside] / still[inside] - 1)) < 0.02


def test_dummies_and_spikes_are_left_out_and_numbered_as_in_the_file(made: Made) -> None:
    made.data[..., :2] *= 1.3
    made.data[..., 9] += 300 * np.random.default_rng(1).standard_normal(SHAPE)
    made.params[14:, 0] = 0.8  # a step: one jerk
    made.more["n_dummy"] = 2
    sd, facts = made.measure()
    assert facts["censored"] == [9, 14]
    assert facts["n_used"] == 16
    assert facts["fd_max_mm"] == pytest.approx(0.8)
    inside = brain()
    assert np.median(np.abs(sd[inside] / made.sd[inside] - 1)) < 0.2


def test_the_task_is_taken_out_where_events_tell_it(made: Made, tmp_path: Path) -> None:
    events = tmp_path / "events.tsv"
    events.write_text("onset\tduration\ttrial_type\n8\t10\ttap\n28\t10\trest\n")
    course = calibration_fluctuations._task_regressors(events, 2.0, 20)
    assert course.shape == (20, 1)  # rest is no condition
    made.data[brain()] += 120 * course[:, 0]
    kept, before = made.measure()
    assert before["task"] == "no events file"
    made.more["calibration_events"] = events
    sd, facts = made.measure()
    assert (facts["n_task"], facts["task"]) == (1, "events.tsv")
    inside = brain()
    assert np.median(kept[inside] / made.sd[inside]) > 1.4
    assert np.median(sd[inside] / made.sd[inside]) < 1.1


def test_events_that_cannot_be_read_leave_the_task_in_and_say_so(
    made: Made, tmp_path: Path
) -> None:
    (tmp_path / "events.tsv").write_text("onset\ttrial_type\n1\ta\n")
    made.more["calibration_events"] = tmp_path / "events.tsv"
    _, facts = made.measure()
    assert facts["usable"] is True
    assert facts["task"].startswith("not removed: ")


def test_a_few_volumes_that_lie_far_away_are_left_out(made: Made) -> None:
    made.matrices[16:, 1, 3] = 1.3
    _, facts = made.measure()
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
    "constant": (still_constant, "constant over time within the brain"),
    "three volumes": (short, "has 3 steady-state volumes"),
    "restless": (restless, "19 of the 20 volumes"),
    "moved": (drifted, "the head moved by 1.4 mm during the calibration run; at most 1 mm"),
    "apart": (
        lambda made: made.facts.update(overlap=0.2),
        "covers only 20% of the brain in the BOLD run",
    ),
    "unlike": (
        lambda made: made.facts.update(correlation=0.31),
        "does not match the BOLD run (spatial correlation 0.31)",
    ),
    "unregistered": (
        lambda made: made.facts.update(reason="it could not be registered"),
        "could not be registered",
    ),
}


@pytest.mark.parametrize(("spoil", "reason"), USELESS.values(), ids=USELESS)
def test_one_that_cannot_be_used_says_why_and_stops_nothing(
    made: Made, spoil: Any, reason: str
) -> None:
    spoil(made)
    sd, facts = made.measure()
    assert facts["usable"] is False
    assert reason in facts["reason"]
    npt.assert_array_equal(sd, 0)


@pytest.fixture(scope="module")
def heads() -> tuple[Volume, np.ndarray, Volume, np.ndarray, np.ndarray]:
    """A head at 6 mm and at 3 mm, the latter in another pose: (boldref, mask, fine, its mask, true
    transform).
    """
    from bids_sr.spatial.resampling import sample_volume
    from bids_sr.spatial.transforms import invert
    from bids_sr.sr.matrices import kspace_crop

    rng = np.random.default_rng(2)
    shape, affine = (64, 64, 20), np.diag([3.0, 3.0, 5.0, 1.0])
    affine[:3, 3] = -np.array([94.5, 94.5, 47.5])
    x, y, z = (np.indices(shape).T * [3.0, 3.0, 5.0] + affine[:3, 3]).T
    inside = (x / 65) ** 2 + (y / 75) ** 2 + (z / 44) ** 2 < 1
    texture = ndimage.gaussian_filter(rng.standard_normal(shape), [1.5, 1.5, 1])
    head = ndimage.gaussian_filter(
        np.where(inside, 800 + 900 * texture, 0).astype(np.float32), 0.6
    )
    low, low_affine = kspace_crop(head, affine, factor=(2, 2, 1), magnitude=True)
    xfm = rigid_matrix([1.5, -2.0, 1.0, 0.02, -0.015, 0.03], (0.0, 0.0, 0.0))
    fine = sample_volume(head, affine, shape, affine, invert(xfm))
    low_mask = low > 300
    return (
        Volume(data=low, affine=low_affine),
        low_mask,
        Volume(data=fine, affine=affine),
        fine > 300,
        xfm,
    )


def register(
    heads: Any, tmp_path: Path, calibration_ref: Volume | None = None
) -> tuple[np.ndarray, dict]:
    boldref, mask, fine, fine_mask, _ = heads
    fine = fine if calibration_ref is None else calibration_ref
    xfm, facts = register_calibration(
        boldref,
        boldref.like(mask),
        fine,
        fine.like(fine_mask),
        tmp_path,
        factor=(2.0, 2.0, 1.0),
        random_seed=1,
    )
    return xfm[0], facts


def test_a_transform_that_is_known_is_held_against_the_images_alone(
    heads: Any, tmp_path: Path
) -> None:
    boldref, mask, fine, fine_mask, true = heads
    given = (boldref, boldref.like(mask), fine, fine.like(fine_mask), tmp_path)
    how = {"factor": (2.0, 2.0, 1.0), "random_seed": 1}
    found, facts = register_calibration(*given, true[None], **how)
    assert np.array_equal(found[0], true)
    assert facts["overlap"] > 0.95
    _, wrong = register_calibration(*given, np.eye(4)[None], **how)
    assert wrong["correlation"] < facts["correlation"] - 0.02
    assert [*tmp_path.iterdir()] == []


def test_the_transform_takes_a_boldref_point_to_its_calibration_point(
    heads: Any, tmp_path: Path
) -> None:
    boldref, mask, _, _, true = heads
    xfm, facts = register(heads, tmp_path)
    points = np.argwhere(mask) @ boldref.affine[:3, :3].T + boldref.affine[:3, 3]
    apart = displacement(xfm, true, points)
    # a twentieth of the voxel; the pose is 3.7 mm away
    assert float(np.sqrt((apart**2).mean())) < 0.3
    assert float(np.sqrt((displacement(np.eye(4), true, points) ** 2).mean())) > 2.5
    assert facts["overlap"] > 0.95
    assert facts["correlation"] > 0.95
    assert facts["edges_apart_mm"] < 0.6
    assert calibration_fluctuations.objection(facts) == ""


def test_another_head_is_seen(heads: Any, tmp_path: Path) -> None:
    _, _, fine, fine_mask, _ = heads
    rng = np.random.default_rng(9)
    other = np.where(
        fine_mask,
        800 + 900 * ndimage.gaussian_filter(rng.standard_normal(fine.data.shape), 1.2),
        0,
    )
    _, facts = register(heads, tmp_path, calibration_ref=Volume(data=other, affine=fine.affine))
    assert facts["correlation"] < 0.5 or facts["overlap"] < 0.5
    assert "does not match the BOLD run" in calibration_fluctuations.objection(
        facts
    ) or "covers only" in calibration_fluctuations.objection(facts)


def test_one_without_overlap_is_seen(heads: Any, tmp_path: Path) -> None:
    """Half of the slices: the brain is in the field of view, and most of it is not."""
    boldref, mask, fine, fine_mask, true = heads
    part = Volume(
        data=fine.data[..., 14:],
        affine=fine.affine @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 14], [0, 0, 0, 1.0]]),
    )
    facts = calibration_alignment.agreement(
        boldref, mask, part, fine_mask[..., 14:], true, (2.0, 2.0, 1.0)
    )
    assert 0.05 < facts["overlap"] < 0.4
    assert "of the brain in the BOLD run" in calibration_fluctuations.objection(facts)


def test_its_head_motion_is_its_own() -> None:
    """Its reference is not taken for that of the run, and the run finds what is made of it."""
    root = Scope("run_wf")
    with Flow(root), subworkflow("calibration_wf"):
        bold = acquired_series.import_series(Path("calibration.nii"), tr=3.0, axis_order=AS_STORED)
        n_dummy = bold_reference.count_dummies(bold, dummy_scans=None)
        calibration = fit_calibration(
            bold,
            n_dummy,
            estimate_motion(bold, n_dummy),
            image_in(Path("boldref.nii")),
            image_in(Path("mask.nii")),
            events=None,
            tr=3.0,
            factor=(2.0, 2.0, 1.0),
            random_seed=1,
            outputs=Outputs(output_dir=Path("out")),
        )
    graph = Graph(root)
    told = "\n".join(map(str, who_makes_what(graph)))
    assert ": boldref2calibration_xfm, calibration_registration <- boldref (given)" in told
    assert "calibration_ref (average_volumes), head_mask (mask_head)" in told
    (measured,) = (node for node in graph.nodes if node.step is measure_calibration)
    wires = graph.wires[measured]
    assert [
        wires["n_dummy"].handles[0].source.name,
        wires["head_mask"].handles[0].source.name,
    ] == [
        "count_dummies",
        "mask_head",
    ]
    assert graph.settings[measured]["tr"] == 3
    assert calibration.calibration_patterns.name == "calibration_patterns"
    assert graph.methods_text() == "\n"
