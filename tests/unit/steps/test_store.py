"""What stores derivatives: declared names only, whole files, unchanged files left alone."""

import errno
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


BOLD = "sub-01/func/sub-01_task-tap_run-1_desc-{desc}_bold{extension}"
RENAMED = {"own_entities": {"res": "hr", "desc": "sbl", "suffix": "bold"}, "linked": {"res": "", "desc": "preproc"}}


def _as_primary(tmp_path: Path, **how: object) -> Path:
    """A series is stored among all results and linked as the preprocessed one; the latter."""
    root = tmp_path / "derivatives" / "bids-sr-sbl"
    _stored_all(tmp_path, datasets=["sbl"], **{**RENAMED, **how})
    return root / BOLD.format(desc="preproc", extension=".nii.gz")


def _stored_all(tmp_path: Path, **how: object) -> list[Path]:
    (node := tmp_path / "node").mkdir(exist_ok=True)
    given = {"output_dir": tmp_path, "entities": COMMON, "sources": ["bids:raw:a.nii.gz", "bids::sub-01/b.nii.gz"]}
    return store(node, [tmp_path / "in.nii"], **{**given, **how})


def test_a_linked_file_is_one_file_under_two_names(tmp_path: Path) -> None:
    """And its sidecar calls all results by the name that they have from there."""
    _series(tmp_path / "in.nii")
    linked = _as_primary(tmp_path)
    own = tmp_path / BOLD.format(desc="sbl", extension=".nii.gz").replace("_desc", "_res-hr_desc")
    assert own.samefile(linked)
    assert {"in.nii", "node"} <= {path.name for path in tmp_path.iterdir()}, "the source stays"
    told = {path: json.loads(Path(str(path).replace(".nii.gz", ".json")).read_text()) for path in (own, linked)}
    assert told[own]["Sources"] == ["bids:raw:a.nii.gz", "bids::sub-01/b.nii.gz"]
    assert told[linked]["Sources"] == ["bids:raw:a.nii.gz", "bids:bids-sr:sub-01/b.nii.gz"]
    record = json.loads((tmp_path / "node" / "written.json").read_text())
    assert record == [str(own), str(linked)], "a link that was deleted is made again"


def test_a_link_follows_a_file_that_was_made_anew_and_leaves_nothing_beside(tmp_path: Path) -> None:
    _series(tmp_path / "in.nii")
    linked = _as_primary(tmp_path)
    before = linked.stat().st_ino
    assert _as_primary(tmp_path).stat().st_ino == before, "the same content"
    data = np.random.default_rng(1).normal(100, 10, (4, 5, 6, 7)).astype("float32")
    nib.Nifti1Image(data, np.diag([2.0, 2, 2, 1])).to_filename(tmp_path / "in.nii")
    np.testing.assert_allclose(nib.load(_as_primary(tmp_path)).get_fdata(), data, rtol=1e-6)
    assert linked.stat().st_nlink == 2
    assert len(list(linked.parent.iterdir())) == 2


def test_where_there_are_no_links_it_is_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.EXDEV, "another file system")

    monkeypatch.setattr(os, "link", refused)
    _series(tmp_path / "in.nii")
    linked = _as_primary(tmp_path)
    assert linked.stat().st_nlink == 1
    os.utime(linked, (1, 1))
    assert _as_primary(tmp_path).stat().st_mtime == 1, "a copy of the same content is left alone"
    assert len(list(linked.parent.iterdir())) == 2


def test_what_is_for_other_programs_alone_lies_in_each_of_their_data_sets(tmp_path: Path) -> None:
    _series(tmp_path / "in.nii")
    own = {"desc": "preproc", "suffix": "bold"}
    one, other = _stored_all(tmp_path, datasets=["sbl", "bspline"], own_entities=own, in_output=False, linked={})
    assert one.samefile(other)
    name = BOLD.format(desc="preproc", extension=".nii.gz")
    assert [one, other] == [tmp_path / f"derivatives/bids-sr-{series}" / name for series in ("sbl", "bspline")]
    assert not (tmp_path / "sub-01").exists()


@pytest.mark.parametrize(
    ("own", "reference"),
    [
        ({"desc": "hmc", "suffix": "boldref"}, "bids::sub-01/func/x_boldref.nii.gz"),
        ({"space": "T1w", "desc": "raw", "suffix": "bold"}, "bids::sub-01/anat/x_T1w.nii.gz"),
        (
            {"space": "MNI152NLin6Asym", "desc": "raw", "suffix": "bold"},
            "https://templateflow.s3.amazonaws.com/tpl-MNI152NLin6Asym/tpl-MNI152NLin6Asym_res-01_T1w.nii.gz",
        ),
        ({"space": "MyOwn", "desc": "raw", "suffix": "bold"}, None),
    ],
)
def test_an_image_says_on_what_it_lies(tmp_path, own, reference):
    nib.Nifti1Image(np.ones((2, 2, 2), "uint8"), np.eye(4)).to_filename(tmp_path / "in.nii")
    references = {"": "bids::sub-01/func/x_boldref.nii.gz", "T1w": "bids::sub-01/anat/x_T1w.nii.gz"}
    stored = _stored(tmp_path, tmp_path / "in.nii", own_entities=own, references=references)
    told = json.loads(Path(str(stored).replace(".nii.gz", ".json")).read_text())
    assert told.get("SpatialReference") == reference


def test_a_table_names_its_sources_beside_its_columns(tmp_path):
    (tmp_path / "in.tsv").write_text("a\n1\n")
    own = {"desc": "image", "suffix": "metrics"}
    stored = _stored(tmp_path, tmp_path / "in.tsv", own_entities=own, own_sidecar={"a": {"Description": "b"}})
    told = json.loads(stored.with_suffix(".json").read_text())
    assert list(told) == ["a", "Sources"]
