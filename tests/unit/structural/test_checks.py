"""Options of structural scans that preflight rejects: missing FSL, invalid lesion templates."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from data.dataset import BidsMaker
from graphmaker import nodes_of

from bids_sr.cli.parser import parse_settings
from bids_sr.config import Settings
from bids_sr.engine.store import derivative_path
from bids_sr.io.nifti import save_image
from bids_sr.preproc.fsl import PROGRAMS
from bids_sr.preproc.templates import load_template
from bids_sr.structural import edited_masks
from bids_sr.survey.bids.inputs import Pair, Subject
from bids_sr.workflows.call_checks import check
from bids_sr.workflows.participant import make_graph


@pytest.fixture
def maker(tmp_path: Path) -> BidsMaker:
    maker = BidsMaker(tmp_path / "bids")
    for contrast in ("T1w", "FLAIR"):
        maker.image(f"sub-01_acq-fine_{contrast}.nii.gz", "anat", (3.0, 3.0, 3.0))
        maker.image(f"sub-01_acq-coarse_{contrast}.nii.gz", "anat", (6.0, 6.0, 6.0))
    return maker


def settings_for(maker: BidsMaker, *options: str) -> Settings:
    argv = [str(maker.root), str(maker.root.parent / "out"), "participant", *options]
    return parse_settings(
        [*argv, "--skip-bids-validation", "-w", str(maker.root.parent / "work")]
    ).resolve(run_uuid="x")


def test_fsl_is_rejected_unless_all_programs_are_on_the_path(
    maker: BidsMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_for(maker, "--sr-target", "anat", "--set", "anat.tools=fsl")
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    for name in PROGRAMS:
        (problem,) = check(settings).problems
        assert problem.what == "--set anat.tools=fsl"
        assert f"{name}" in problem.why
        assert "Install FSL" in problem.remedy
        assert "docs/cluster.md" in problem.remedy
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    assert check(settings).problems == ()


def empty(image: np.ndarray) -> np.ndarray:
    return np.zeros_like(image)


def outside_brain(image: np.ndarray) -> np.ndarray:
    """Return a mask of a corner of the field of view outside the brain."""
    corner = np.zeros_like(image)
    corner[:3, :3, :3] = 1
    return corner


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (empty, "all voxel values are 0 or negative"),
        (outside_brain, "the image is probably in another space"),
        (lambda image: np.stack([image, image], axis=-1), "4 dimensions"),
        (np.asarray, ""),
    ],
)
def test_a_lesion_template_must_be_3d_and_overlap_the_template(
    maker: BidsMaker,
    tmp_path: Path,
    change: Callable[[np.ndarray], np.ndarray],
    reason: str,
) -> None:
    brain = load_template().mask
    file = tmp_path / "lesions.nii.gz"
    save_image(
        change(brain.data[::2, ::2, ::2].astype(np.float32)), halve_resolution(brain.affine), file
    )
    plan = check(
        settings_for(maker, "--sr-target", "anat", "--set", f"anat.lesion_template={file}")
    )
    assert [problem.what for problem in plan.problems] == [
        f"--set anat.lesion_template={file}"
    ] * bool(reason)
    assert not reason or reason in plan.problems[0].why


def halve_resolution(affine: np.ndarray) -> np.ndarray:
    return affine @ np.diag([2.0, 2.0, 2.0, 1.0])


def test_a_lesion_template_that_cannot_be_read_or_used_is_rejected(
    maker: BidsMaker, tmp_path: Path
) -> None:
    file = tmp_path / "lesions.nii.gz"
    options = ("--sr-target", "anat", "--set", f"anat.lesion_template={file}")
    (problem,) = check(settings_for(maker, *options)).problems
    assert str(file) in f"{problem.what} {problem.why}"
    file.write_text("no image")
    (problem,) = check(settings_for(maker, *options)).problems
    assert "cannot be read as a NIfTI image" in problem.why
    without_flair = BidsMaker(tmp_path / "other")
    without_flair.image("sub-01_acq-fine_T1w.nii.gz", "anat", (3.0, 3.0, 3.0))
    without_flair.image("sub-01_acq-coarse_T1w.nii.gz", "anat", (6.0, 6.0, 6.0))
    brain = load_template().mask
    save_image(brain.data.astype(np.float32), brain.affine, file)
    (problem,) = check(settings_for(without_flair, *options)).problems
    assert "no participant has FLAIR" in problem.why


def test_options_of_structural_scans_are_rejected_for_bold_runs(
    maker: BidsMaker, tmp_path: Path
) -> None:
    maker.subject()
    file = tmp_path / "lesions.nii.gz"
    options = ["--set", "anat.mask=intracranial", "anat.tools=fsl"]
    options += ["anat.split=2,1,1", "anat.align=affine"]
    options += [f"anat.wmh_reference={tmp_path}", f"anat.lesion_template={file}"]
    rejected = {problem.what for problem in check(settings_for(maker, *options)).problems}
    assert {
        "--set anat.mask=intracranial",
        "--set anat.tools=fsl",
        "--set anat.split=2,1,1",
        "--set anat.align=affine",
        f"--set anat.lesion_template={file}",
        f"--set anat.wmh_reference={tmp_path}",
    } <= rejected


def test_invalid_edited_masks_are_rejected(maker: BidsMaker, tmp_path: Path) -> None:
    folder = tmp_path / "edited"
    settings = settings_for(maker, "--sr-target", "anat", "--set", f"anat.wmh_reference={folder}")

    def problem() -> tuple[str, str]:
        (notice,) = check(settings).problems
        return notice.what, notice.why

    assert problem() == (f"--set anat.wmh_reference={folder}", "the directory was not found")
    folder.mkdir()
    name = "sub-01_res-hr_label-WMH_desc-measured_mask.nii.gz"
    (folder / name.replace("01", "02")).touch()
    source, reason = problem()
    assert (source, reason.rpartition(" ")[2]) == (f"--set anat.wmh_reference={folder}", name)
    file = folder / name
    file.write_text("no image")
    source, reason = problem()
    assert source == str(file)
    assert "cannot be read as a NIfTI image" in reason
    save_image(np.zeros((4, 4, 4, 2), np.float32), np.eye(4), file)
    assert "4 dimensions" in problem()[1]
    save_image(np.zeros((4, 5, 6), np.float32), np.eye(4), file)
    assert check(settings).problems == ()
    # the required grid is taken from the mask stored by an earlier run
    stored = settings.paths.output_dir / "sub-01" / "anat" / name
    stored.parent.mkdir(parents=True)
    description = {"Name": "bids-sr", "BIDSVersion": "1.8.0", "GeneratedBy": [{"Name": "bids-sr"}]}
    (settings.paths.output_dir / "dataset_description.json").write_text(json.dumps(description))
    shifted = np.eye(4)
    shifted[2, 3] = 0.5
    save_image(np.zeros((4, 5, 6), np.float32), shifted, stored)
    source, reason = problem()
    assert source == str(file)
    assert "differs in size or position" in reason
    save_image(np.zeros((4, 5, 6), np.float32), np.eye(4), stored)
    assert check(settings).problems == ()


def test_corrected_brain_masks_are_checked_and_reach_the_preparation(
    maker: BidsMaker, tmp_path: Path
) -> None:
    folder = tmp_path / "corrected"
    options = ("--sr-target", "anat", "--set", f"anat.brain_mask={folder}")
    for mask in ("brain", "intracranial"):
        settings = settings_for(maker, *options, f"anat.mask={mask}")
        name = f"sub-01_res-hr_desc-{mask}_mask.nii.gz"
        folder.mkdir(exist_ok=True)
        (problem,) = check(settings).problems
        assert problem.why.endswith(name)
        (folder / name).write_text("no image")
        (problem,) = check(settings).problems
        assert problem.what == str(folder / name)
        save_image(np.zeros((4, 5, 6), np.float32), np.eye(4), folder / name)
        plan = check(settings)
        assert plan.problems == ()
        (node,) = nodes_of(make_graph(settings, plan, "0"), "prepare_scans")
        assert node.inputs["given_brain_mask"].source == folder / name


@pytest.mark.parametrize(
    ("options", "session", "name"),
    [
        ((), "", "sub-01_res-hr_label-WMH_desc-measured_mask.nii.gz"),
        ((), "2", "sub-01_ses-2_res-hr_label-WMH_desc-measured_mask.nii.gz"),
        (
            ("--set", "anat.align=template"),
            "",
            "sub-01_space-MNI152NLin2009cAsym_res-hr_label-WMH_desc-measured_mask.nii.gz",
        ),
    ],
)
def test_edited_masks_have_the_names_of_stored_masks(
    options: tuple[str, ...], session: str, name: str, maker: BidsMaker, tmp_path: Path
) -> None:
    infix = f"_ses-{session}" if session else ""
    pairs = tuple(
        Pair(
            highres=tmp_path / f"sub-01{infix}_acq-fine_{contrast}.nii.gz",
            lowres=None,
            factor=(2, 2, 2),
        )
        for contrast in ("T1w", "FLAIR")
    )
    subject = Subject(label="01", t1w=(), runs=(), structural=pairs)
    settings = settings_for(maker, "--sr-target", "anat", *options)
    assert edited_masks.mask_name(edited_masks.LESIONS, settings, subject) == name
    entities = edited_masks.entities_of_scans(settings, subject)
    entities |= {"datatype": "anat", "res": "hr", "label": "WMH", "desc": "measured"}
    stored = derivative_path({**entities, "suffix": "mask", "extension": ".nii.gz"})
    assert (
        edited_masks.automatic_mask_path(edited_masks.LESIONS, settings, subject)
        == settings.paths.output_dir / stored
    )
