"""What stores derivatives: declared names only, whole files, unchanged files left alone."""

import errno
import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bids_sr.pipeline.store import derivative_path, store

COMMON = {"subject": "01", "task": "tap", "run": "1", "datatype": "func"}


@pytest.mark.parametrize(
    ("entities", "path"),
    [
        (
            {
                "res": "hr",
                "contrast": "thumb",
                "stat": "t",
                "desc": "srganFwhm50",
                "suffix": "statmap",
            },
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
    with pytest.raises(ValueError, match=r"unknown entities|no BIDS file name"):
        derivative_path({**COMMON, **entities, "extension": ".nii.gz"})


def _series(path: Path) -> np.ndarray:
    data = np.random.default_rng(0).normal(100, 10, (4, 5, 6, 7)).astype("float32")
    nib.Nifti1Image(data, np.diag([2.0, 2, 2, 1])).to_filename(path)
    return data


def _stored(tmp_path, source, **how):
    node_dir = tmp_path / "node"
    node_dir.mkdir(exist_ok=True)
    given = {
        "output_dir": tmp_path,
        "entities": COMMON,
        "own_entities": {"desc": "preproc", "suffix": "bold"},
        "sources": ["bids:raw:sub-01/func/sub-01_task-tap_run-1_bold.nii.gz"],
    }
    (path,) = store(node_dir, [source], **{**given, **how})
    return path


def test_series_is_compressed_in_one_scale_with_its_sidecar(tmp_path):
    data = _series(tmp_path / "in.nii")
    known = {"RepetitionTime": 2.0, "A": 1}
    stored = _stored(
        tmp_path, tmp_path / "in.nii", output_dtype="int16", own_sidecar=known, sidecar={"A": 2}
    )
    image = nib.load(stored)
    assert image.get_data_dtype() == np.int16
    np.testing.assert_allclose(image.get_fdata(), data, atol=data.max() / 65535)
    sidecar = json.loads(Path(str(stored).replace(".nii.gz", ".json")).read_text())
    # what a step made stands above what was known
    assert (sidecar["RepetitionTime"], sidecar["A"]) == (2.0, 2)
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
    stored = nib.load(
        _stored(tmp_path, tmp_path / "mask.nii", own_entities=own, output_dtype="int16")
    )
    assert stored.shape == mask.shape
    assert stored.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asarray(stored.dataobj), mask)


BOLD = "sub-01/func/sub-01_task-tap_run-1_desc-{desc}_bold{extension}"
RENAMED = {
    "own_entities": {"res": "hr", "desc": "sbl", "suffix": "bold"},
    "exported_as": {"res": "", "desc": "preproc"},
}


def _as_primary(tmp_path: Path, **how: object) -> Path:
    """A series is stored among all results and linked as the preprocessed one; the latter."""
    root = tmp_path / "derivatives" / "bids-sr-sbl"
    _stored_all(tmp_path, datasets=["sbl"], **{**RENAMED, **how})
    return root / BOLD.format(desc="preproc", extension=".nii.gz")


def _stored_all(tmp_path: Path, **how: object) -> list[Path]:
    (node := tmp_path / "node").mkdir(exist_ok=True)
    given = {
        "output_dir": tmp_path,
        "entities": COMMON,
        "sources": ["bids:raw:a.nii.gz", "bids::sub-01/b.nii.gz"],
    }
    return store(node, [tmp_path / "in.nii"], **{**given, **how})


def test_a_linked_file_is_one_file_under_two_names(tmp_path: Path) -> None:
    """And its sidecar calls all results by the name that they have from there."""
    _series(tmp_path / "in.nii")
    linked = _as_primary(tmp_path)
    own = tmp_path / BOLD.format(desc="sbl", extension=".nii.gz").replace("_desc", "_res-hr_desc")
    assert own.samefile(linked)
    assert {"in.nii", "node"} <= {path.name for path in tmp_path.iterdir()}, "the source stays"
    told = {
        path: json.loads(Path(str(path).replace(".nii.gz", ".json")).read_text())
        for path in (own, linked)
    }
    assert told[own]["Sources"] == ["bids:raw:a.nii.gz", "bids::sub-01/b.nii.gz"]
    assert told[linked]["Sources"] == ["bids:raw:a.nii.gz", "bids:bids-sr:sub-01/b.nii.gz"]
    record = json.loads((tmp_path / "node" / "written.json").read_text())
    both = [*map(str, (own, linked)), *(str(path).replace(".nii.gz", ".json") for path in told)]
    assert record == both, "a link or a sidecar that was deleted is made again"


def test_a_link_follows_a_file_that_was_made_anew_and_leaves_nothing_beside(
    tmp_path: Path,
) -> None:
    _series(tmp_path / "in.nii")
    linked = _as_primary(tmp_path)
    before = linked.stat().st_ino
    assert _as_primary(tmp_path).stat().st_ino == before, "the same content"
    data = np.random.default_rng(1).normal(100, 10, (4, 5, 6, 7)).astype("float32")
    nib.Nifti1Image(data, np.diag([2.0, 2, 2, 1])).to_filename(tmp_path / "in.nii")
    np.testing.assert_allclose(nib.load(_as_primary(tmp_path)).get_fdata(), data, rtol=1e-6)
    assert linked.stat().st_nlink == 2
    assert len(list(linked.parent.iterdir())) == 2


def test_where_there_are_no_links_it_is_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    one, other = _stored_all(
        tmp_path, datasets=["sbl", "bspline"], own_entities=own, in_output=False, exported_as={}
    )
    assert one.samefile(other)
    name = BOLD.format(desc="preproc", extension=".nii.gz")
    assert [one, other] == [
        tmp_path / f"derivatives/bids-sr-{series}" / name for series in ("sbl", "bspline")
    ]
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
        (
            {"space": "MNI152NLin6Asym", "res": "2", "desc": "raw", "suffix": "bold"},
            "https://templateflow.s3.amazonaws.com/tpl-MNI152NLin6Asym/tpl-MNI152NLin6Asym_res-02_T1w.nii.gz",
        ),
        ({"space": "MyOwn", "desc": "raw", "suffix": "bold"}, None),
    ],
)
def test_an_image_says_on_what_it_lies(tmp_path, own, reference):
    nib.Nifti1Image(np.ones((2, 2, 2), "uint8"), np.eye(4)).to_filename(tmp_path / "in.nii")
    references = {
        "": "bids::sub-01/func/x_boldref.nii.gz",
        "T1w": "bids::sub-01/anat/x_T1w.nii.gz",
    }
    stored = _stored(tmp_path, tmp_path / "in.nii", own_entities=own, references=references)
    told = json.loads(Path(str(stored).replace(".nii.gz", ".json")).read_text())
    assert told.get("SpatialReference") == reference


@pytest.mark.parametrize(("space", "code"), [("", 1), ("T1w", 2), ("MNI152NLin2009cAsym", 4)])
@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 3, 4, 2)])
def test_a_header_says_in_what_space_it_is_as_niworkflows_writes_it(tmp_path, shape, space, code):
    # codes 0 and 2
    nib.Nifti1Image(np.ones(shape, "float32"), np.eye(4)).to_filename(tmp_path / "in.nii")
    own = {"space": space, "desc": "sbl", "suffix": "bold"}
    header = nib.load(_stored(tmp_path, tmp_path / "in.nii", own_entities=own)).header
    assert (header["qform_code"], header["sform_code"]) == (code, code)


def test_a_table_names_its_sources_beside_its_columns(tmp_path):
    (tmp_path / "in.tsv").write_text("a\n1\n")
    own = {"desc": "image", "suffix": "metrics"}
    stored = _stored(
        tmp_path, tmp_path / "in.tsv", own_entities=own, own_sidecar={"a": {"Description": "b"}}
    )
    told = json.loads(stored.with_suffix(".json").read_text())
    assert list(told) == ["a", "Sources"]


MAP = (
    "sub-01/func/sub-01_task-tap_run-1_res-hr_contrast-{contrast}_stat-{stat}_desc-sbl"
    "_statmap.nii.gz"
)


def _maps(tmp_path: Path, **how: object) -> None:
    """Maps of two contrasts and two statistics are stored, with the sidecars that steps leave
    beside them.
    """
    (node := tmp_path / "node").mkdir(exist_ok=True)
    files = []
    for contrast in ("thumb", "little"):
        for stat in ("t", "cc"):
            stem = node / f"res-hr_contrast-{contrast}_stat-{stat}_desc-sbl_statmap"
            nib.Nifti1Image(np.ones((2, 2, 2), "float32"), np.eye(4)).to_filename(
                path := stem.with_suffix(".nii")
            )
            told = {"Description": stat, "ContrastWeights": {contrast: 1.0}}
            stem.with_suffix(".json").write_text(json.dumps(told))
            files += [path, stem.with_suffix(".json")]
    given = {
        "output_dir": tmp_path / "out",
        "entities": COMMON,
        "sources": ["bids::a"],
        "varies": VARIES,
    }
    store(node, files, **{**given, **how})


VARIES = {"contrast": ["ContrastWeights"], "label": []}


def _names(root: Path, pattern: str) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob(pattern))


def test_maps_share_a_sidecar_for_each_statistic_and_one_for_each_contrast(tmp_path: Path) -> None:
    _maps(tmp_path)
    assert _names(tmp_path / "out", "*.json") == [
        "sub-01/func/sub-01_task-tap_run-1_res-hr_stat-cc_desc-sbl_statmap.json",
        "sub-01/func/sub-01_task-tap_run-1_res-hr_stat-t_desc-sbl_statmap.json",
        "sub-01/sub-01_task-tap_run-1_contrast-little_statmap.json",
        "sub-01/sub-01_task-tap_run-1_contrast-thumb_statmap.json",
    ]
    by_contrast = json.loads(
        (tmp_path / "out/sub-01/sub-01_task-tap_run-1_contrast-thumb_statmap.json").read_text()
    )
    assert by_contrast == {"ContrastWeights": {"thumb": 1.0}}


def test_maps_in_a_space_on_the_fine_grid_share_nothing(tmp_path: Path) -> None:
    """What those on the grid of the run share applies to them by its name, and BIDS lets one
    sidecar apply.
    """
    _maps(tmp_path)
    _maps(tmp_path, entities={**COMMON, "space": "MNI152NLin6Asym"})
    assert _names(tmp_path / "out", "*_space-*.json") == [
        name.replace(".nii.gz", ".json") for name in _names(tmp_path / "out", "*_space-*.nii.gz")
    ]


def test_pybids_reads_what_maps_share_as_if_it_stood_beside_each(tmp_path: Path) -> None:
    from bids import BIDSLayout

    _maps(tmp_path)
    _maps(tmp_path, entities={**COMMON, "session": "a"})
    (tmp_path / "out/dataset_description.json").write_text(
        json.dumps(
            {
                "Name": "x",
                "BIDSVersion": "1.9.0",
                "DatasetType": "derivative",
                "GeneratedBy": [{"Name": "x"}],
            }
        )
    )
    maps = [
        {"name": name, "pattern": f"_{name}-([a-zA-Z0-9]+)"} for name in ("contrast", "stat")
    ]  # not known to pybids
    config = ["bids", "derivatives", {"name": "maps", "entities": maps}]
    layout = BIDSLayout(tmp_path / "out", validate=False, config=config)
    files = layout.get(suffix="statmap", extension=".nii.gz")
    assert len(files) == 8
    for found in files:
        stat = "t" if "_stat-t_" in found.path else "cc"
        contrast = "thumb" if "thumb" in found.path else "little"
        wanted = {"Description": stat, "ContrastWeights": {contrast: 1.0}, "Sources": ["bids::a"]}
        assert {key: found.get_metadata()[key] for key in wanted} == wanted


def test_the_sidecar_of_an_earlier_version_is_brought_up_to_date(tmp_path: Path) -> None:
    """It lies beside the map, and would be taken before what is shared."""
    old = tmp_path / "out" / MAP.format(contrast="thumb", stat="t").replace(".nii.gz", ".json")
    old.parent.mkdir(parents=True)
    old.write_text('{"Description": "old"}')
    _maps(tmp_path)
    assert json.loads(old.read_text()) == {
        "Description": "t",
        "ContrastWeights": {"thumb": 1.0},
        "Sources": ["bids::a"],
        "SkullStripped": False,
    }


def test_of_several_files_those_are_stored_that_were_chosen(tmp_path: Path) -> None:
    _maps(tmp_path, among=[{"stat": "t", "desc": "sbl"}, {"contrast": "little", "stat": "cc"}])
    wanted = [("little", "cc"), ("little", "t"), ("thumb", "t")]
    assert _names(tmp_path / "out", "*.nii.gz") == [
        MAP.format(contrast=name, stat=stat) for name, stat in wanted
    ]


def test_regions_share_what_they_say_of_their_threshold(tmp_path: Path) -> None:
    (node := tmp_path / "node").mkdir()
    files = []
    for label in ("thumb", "little"):
        stem = node / f"res-hr_label-{label}_desc-sblQuarter_mask"
        nib.Nifti1Image(np.ones((2, 2, 2), "uint8"), np.eye(4)).to_filename(
            path := stem.with_suffix(".nii")
        )
        stem.with_suffix(".json").write_text('{"Type": "ROI"}')
        files += [path, stem.with_suffix(".json")]
    store(node, files, output_dir=tmp_path / "out", entities=COMMON, varies=VARIES)
    assert _names(tmp_path / "out", "*.json") == [
        "sub-01/func/sub-01_task-tap_run-1_res-hr_desc-sblQuarter_mask.json"
    ]
