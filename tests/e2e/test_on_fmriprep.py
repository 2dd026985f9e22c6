"""A whole run on top of what fMRIPrep left: nothing is estimated again, field map and all."""

import json
from pathlib import Path

import nibabel as nb
import numpy as np
import pandas as pd
import pytest
from fmriprepmaker import of_phantom

from bids_sr.spatial.transforms import read_itk

from .conftest import BIN, Finished, call

pytestmark = pytest.mark.slow
FUNC = "sub-01/func/sub-01_task-tap"


@pytest.fixture(scope="module")
def on_top(tiny: Path, tmp_path_factory) -> Finished:
    base = tmp_path_factory.mktemp("fmriprep")
    of_phantom(tiny, base / "prep", with_field=True)
    command = [
        str(BIN / "bids-sr"),
        str(tiny),
        str(base / "out"),
        "participant",
        "-w",
        str(base / "work"),
        "--sloppy",
        "-d",
        f"fmriprep={base / 'prep'}",
        "--sr-method",
        "bspline",
        "--baselines",
        "all",
        "--smoothing",
        "0",
        "--output-spaces",
        "MNI152NLin2009cAsym",
        "--truth",
        "none",
        "--nprocs",
        "2",
    ]
    code, text, seconds = call(command)
    return Finished(
        bids_dir=tiny, out=base / "out", command=command, code=code, text=text, seconds=seconds
    )


def test_it_ends_well(on_top):
    assert on_top.code == 0, on_top.text


def test_the_working_directory_has_no_step_that_estimates(on_top):
    steps = {path.name for path in (on_top.out.parent / "work").rglob("*") if path.is_dir()}
    assert not steps & {
        "correct_head",
        "mask_brain",
        "normalize_t1w",
        "segment_tissues",
        "average_volumes",
        "estimate_motion",
        "gather_confounds",
    }
    assert steps >= {"import_anatomy", "import_motion", "field_to_shift", "import_confounds"}


def test_motion_and_registration_are_those_of_fmriprep(on_top):
    given = on_top.out.parent / "prep"
    for kind in (
        "from-orig_to-boldref_mode-image_desc-hmc_xfm.txt",
        "from-boldref_to-T1w_mode-image_desc-coreg_xfm.txt",
    ):
        np.testing.assert_allclose(
            read_itk(on_top.out / f"{FUNC}_{kind}"), read_itk(given / f"{FUNC}_{kind}"), atol=1e-4
        )
    np.testing.assert_array_equal(
        nb.load(on_top.out / f"{FUNC}_desc-rawBrain_mask.nii.gz").get_fdata(),
        nb.load(given / f"{FUNC}_desc-brain_mask.nii.gz").get_fdata(),
    )


def test_confounds_are_those_of_fmriprep(on_top):
    ours, theirs = (
        pd.read_csv(root / f"{FUNC}_desc-confounds_timeseries.tsv", sep="\t")
        for root in (on_top.out, on_top.out.parent / "prep")
    )
    np.testing.assert_allclose(ours.trans_x, theirs.trans_x, atol=1e-6)
    np.testing.assert_allclose(ours.a_comp_cor_03, theirs.a_comp_cor_03, atol=1e-6)


def test_outputs_say_what_they_were_made_from(on_top):
    described = json.loads((on_top.out / "dataset_description.json").read_text())
    assert described["DatasetLinks"]["fmriprep"] == (on_top.out.parent / "prep").resolve().as_uri()
    for name in (f"{FUNC}_res-hr_desc-bspline_bold", "sub-01/anat/sub-01_desc-preproc_T1w"):
        uris = json.loads((on_top.out / f"{name}.json").read_text())["Sources"]
        taken = [
            uri.removeprefix("bids:fmriprep:") for uri in uris if uri.startswith("bids:fmriprep:")
        ]
        assert taken
        assert all((on_top.out.parent / "prep" / path).is_file() for path in taken)


def test_the_report_says_what_was_taken_over(on_top):
    page = (on_top.out / "sub-01.html").read_text()
    assert "Taken over from fMRIPrep 24.1.1" in page
    for name in (
        "sub-01_fmapid-auto00000_desc-preproc_fieldmap.nii.gz",
        "sub-01_desc-preproc_T1w.nii.gz",
    ):
        assert name in page
    assert "Its field map was taken over" in page


def test_maps_come_to_the_template_of_fmriprep(on_top):
    maps = list((on_top.out / "sub-01/func").glob("*_space-MNI152NLin2009cAsym_*_statmap.nii.gz"))
    assert maps
    assert any(np.abs(nb.load(path).get_fdata()).max() > 0 for path in maps)
