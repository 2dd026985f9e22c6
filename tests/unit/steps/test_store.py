"""What stores derivatives: declared names only, whole files, unchanged files left alone."""

import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bids_sr.pipeline.store import UnknownEntityError, derivative_path, store

COMMON = {"subject": "01", "task": "tap", "run": "1", "datatype": "func"}


@pytest.mark.parametrize(
    ("entities", "path"),
    [
        (
            {"res": "hr", "contrast": "thumb", "stat": "t", "desc": "srganFwhm50", "suffix": "statmap"},
            "sub-01/func/sub-01_task-tap_run-1_res-hr_contrast-thumb_stat-t_desc-srganFwhm50_statmap.nii.gz",
        ),
        (
            {"res": "hr", "label": "thumb", "desc": "srganQuarter", "suffix": "mask"},
            "sub-01/func/sub-01_task-tap_run-1_res-hr_label-thumb_desc-srganQuarter_mask.nii.gz",
        ),
        (
            {
                "session": "a",
                "space": "MNI152NLin2009aSym",
                "contrast": "all",
                "stat": "z",
                "desc": "raw",
                "suffix": "statmap",
            },
            "sub-01/ses-a/func/sub-01_ses-a_task-tap_run-1_space-MNI152NLin2009aSym_contrast-all_stat-z_desc-raw_statmap.nii.gz",
        ),
    ],
)
def test_names_follow_the_derivatives_layout(entities, path):
    assert derivative_path({**COMMON, **entities, "extension": ".nii.gz"}) == path


@pytest.mark.parametrize(
    "entities", [{"resolution": "hr", "suffix": "bold"}, {"suffix": "blob"}, {"suffix": "statmap"}]
)
def test_what_no_pattern_knows_is_refused(entities):
    with pytest.raises(UnknownEntityError):
        derivative_path({**COMMON, **entities, "extension": ".nii.gz"})


def _series(path: Path) -> np.ndarray:
    data = np.random.default_rng(0).normal(100, 10, (4, 5, 6, 7)).astype("float32")
    nib.Nifti1Image(data, np.diag([2.0, 2, 2, 1])).to_filename(path)
    return data


def _stored(tmp_path, source, **how):
    node_dir = tmp_path / "node"
    node_dir.mkdir(exist_ok=True)
    given = {
        "output_dir": tmp_path, "entities": COMMON, "own_entities": {"desc": "preproc", "suffix": "bold"},
        "sources": ["bids:raw:sub-01/func/sub-01_task-tap_run-1_bold.nii.gz"],
    }  # fmt: skip
    (path,) = store(node_dir, [source], **{**given, **how})
    return path


def test_series_is_compressed_in_one_scale_with_its_sidecar(tmp_path):
    data = _series(tmp_path / "in.nii")
    stored = _stored(tmp_path, tmp_path / "in.nii", output_dtype="int16", own_sidecar={"RepetitionTime": 2.0})
    image = nib.load(stored)
    assert image.get_data_dtype() == np.int16
    np.testing.assert_allclose(image.get_fdata(), data, atol=np.ptp(data) / 65535)
    sidecar = json.loads(Path(str(stored).replace(".nii.gz", ".json")).read_text())
    assert sidecar["RepetitionTime"] == 2.0
    assert sidecar["SkullStripped"] is False
    assert sidecar["Sources"] == ["bids:raw:sub-01/func/sub-01_task-tap_run-1_bold.nii.gz"]


def test_unchanged_content_keeps_its_time_and_nothing_is_left_beside(tmp_path):
    _series(tmp_path / "in.nii")
    stored = _stored(tmp_path, tmp_path / "in.nii")
    os.utime(stored, (1, 1))
    assert _stored(tmp_path, tmp_path / "in.nii").stat().st_mtime == 1
    assert sorted(path.name for path in stored.parent.iterdir()) == [
        "sub-01_task-tap_run-1_desc-preproc_bold.json",
        "sub-01_task-tap_run-1_desc-preproc_bold.nii.gz",
    ]


def test_image_stays_as_it_is_and_three_dimensional(tmp_path):
    mask = (np.indices((4, 5, 6)).sum(0) % 2).astype("uint8")
    nib.Nifti1Image(mask, np.eye(4)).to_filename(tmp_path / "mask.nii")
    own = {"desc": "brain", "suffix": "mask"}
    stored = nib.load(_stored(tmp_path, tmp_path / "mask.nii", own_entities=own, output_dtype="int16"))
    assert stored.shape == mask.shape
    assert stored.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asarray(stored.dataobj), mask)
