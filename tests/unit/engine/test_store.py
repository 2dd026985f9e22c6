"""Storing derivatives: declared names only, atomic writes, unchanged files are not rewritten."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bids_sr.engine.store import LEFT_OUT, derivative_path, store
from bids_sr.io.map_metadata import select_map_metadata

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
            {
                "session": "a",
                "space": "MNI152NLin2009aSym",
                "contrast": "all",
                "stat": "z",
                "desc": "acquired",
                "suffix": "statmap",
            },
            "sub-01/ses-a/func/sub-01_ses-a_task-tap_run-1_space-MNI152NLin2009aSym_contrast-all_stat-z_desc-acquired_statmap.nii.gz",
        ),
    ],
)
def test_names_follow_the_derivatives_layout(entities, path):
    assert derivative_path({**COMMON, **entities, "extension": ".nii.gz"}) == path


@pytest.mark.parametrize(
    "entities", [{"resolution": "hr", "suffix": "bold"}, {"suffix": "blob"}, {"suffix": "statmap"}]
)
def test_entities_without_a_file_name_pattern_are_rejected(entities):
    with pytest.raises(ValueError, match=r"unknown entities|no BIDS file name"):
        derivative_path({**COMMON, **entities, "extension": ".nii.gz"})


def _series(path: Path) -> np.ndarray:
    data = np.random.default_rng(0).normal(100, 10, (4, 5, 6, 7)).astype("float32")
    nib.Nifti1Image(data, np.diag([2.0, 2, 2, 1])).to_filename(path)
    return data


def _store_one(tmp_path, source, **overrides):
    node_dir = tmp_path / "node"
    node_dir.mkdir(exist_ok=True)
    arguments = {
        "output_dir": tmp_path,
        "entities": COMMON,
        "own_entities": {"desc": "preproc", "suffix": "bold"},
        "sources": ["bids:raw:sub-01/func/sub-01_task-tap_run-1_bold.nii.gz"],
    }
    (path,) = store(node_dir, [source], **{**arguments, **overrides})
    return path


def test_a_series_is_compressed_with_a_single_scale_and_its_sidecar(tmp_path):
    data = _series(tmp_path / "in.nii")
    base_sidecar = {"RepetitionTime": 2.0, "A": 1}
    stored = _store_one(
        tmp_path,
        tmp_path / "in.nii",
        output_dtype="int16",
        own_sidecar=base_sidecar,
        sidecar={"A": 2},
    )
    image = nib.load(stored)
    assert image.get_data_dtype() == np.int16
    np.testing.assert_allclose(image.get_fdata(), data, atol=data.max() / 65535)
    sidecar = json.loads(Path(str(stored).replace(".nii.gz", ".json")).read_text())
    # fields of the step override known fields
    assert (sidecar["RepetitionTime"], sidecar["A"]) == (2.0, 2)
    assert sidecar["SkullStripped"] is False
    assert sidecar["Sources"] == ["bids:raw:sub-01/func/sub-01_task-tap_run-1_bold.nii.gz"]


def test_an_image_keeps_its_data_type_and_dimensions(tmp_path):
    mask = (np.indices((4, 5, 6)).sum(0) % 2).astype("uint8")
    nib.Nifti1Image(mask, np.eye(4)).to_filename(tmp_path / "mask.nii")
    entities = {"desc": "brain", "suffix": "mask"}
    stored = nib.load(
        _store_one(tmp_path, tmp_path / "mask.nii", own_entities=entities, output_dtype="int16")
    )
    assert stored.shape == mask.shape
    assert stored.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asarray(stored.dataobj), mask)


BOLD = "sub-01/func/sub-01_task-tap_run-1_desc-{desc}_bold{extension}"
RENAMED = {
    "own_entities": {"res": "hr", "desc": "sbl", "suffix": "bold"},
    "exported_as": {"res": "", "desc": "preproc"},
}


def _as_primary(tmp_path: Path, **overrides: object) -> Path:
    """Store a series, link it as the preprocessed series, and return the link."""
    root = tmp_path / "derivatives" / "bids-sr-sbl"
    _store_all(tmp_path, datasets=["sbl"], **{**RENAMED, **overrides})
    return root / BOLD.format(desc="preproc", extension=".nii.gz")


def _store_all(tmp_path: Path, **overrides: object) -> list[Path]:
    (node := tmp_path / "node").mkdir(exist_ok=True)
    arguments = {
        "output_dir": tmp_path,
        "entities": COMMON,
        "sources": ["bids:raw:a.nii.gz", "bids::sub-01/b.nii.gz"],
    }
    return store(node, [tmp_path / "in.nii"], **{**arguments, **overrides})


def test_a_linked_file_is_a_hard_link_with_its_own_sidecar(tmp_path: Path) -> None:
    """URIs in the sidecar of the link are relative to the dataset of the link."""
    _series(tmp_path / "in.nii")
    linked = _as_primary(tmp_path)
    original = tmp_path / BOLD.format(desc="sbl", extension=".nii.gz").replace(
        "_desc", "_res-hr_desc"
    )
    assert original.samefile(linked)
    assert {"in.nii", "node"} <= {path.name for path in tmp_path.iterdir()}, "the source stays"
    sidecars = {
        path: json.loads(Path(str(path).replace(".nii.gz", ".json")).read_text())
        for path in (original, linked)
    }
    assert sidecars[original]["Sources"] == ["bids:raw:a.nii.gz", "bids::sub-01/b.nii.gz"]
    assert sidecars[linked]["Sources"] == ["bids:raw:a.nii.gz", "bids:bids-sr:sub-01/b.nii.gz"]
    record = json.loads((tmp_path / "node" / "written.json").read_text())
    files = [
        *map(str, (original, linked)),
        *(str(path).replace(".nii.gz", ".json") for path in sidecars),
    ]
    assert record == files, "deleted links and sidecars are written again"


def test_a_link_is_updated_if_the_file_changes(
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


def test_files_for_other_programs_are_stored_only_in_their_datasets(tmp_path: Path) -> None:
    _series(tmp_path / "in.nii")
    entities = {"desc": "preproc", "suffix": "bold"}
    first, second = _store_all(
        tmp_path,
        datasets=["sbl", "bspline"],
        own_entities=entities,
        in_output=False,
        exported_as={},
    )
    assert first.samefile(second)
    name = BOLD.format(desc="preproc", extension=".nii.gz")
    assert [first, second] == [
        tmp_path / f"derivatives/bids-sr-{series}" / name for series in ("sbl", "bspline")
    ]
    assert not (tmp_path / "sub-01").exists()


@pytest.mark.parametrize(
    ("entities", "reference"),
    [
        ({"desc": "hmc", "suffix": "boldref"}, "bids::sub-01/func/x_boldref.nii.gz"),
        ({"space": "T1w", "desc": "acquired", "suffix": "bold"}, "bids::sub-01/anat/x_T1w.nii.gz"),
        (
            {"space": "MNI152NLin2009cAsym", "desc": "acquired", "suffix": "bold"},
            "https://templateflow.s3.amazonaws.com/tpl-MNI152NLin2009cAsym/tpl-MNI152NLin2009cAsym_res-01_T1w.nii.gz",
        ),
        (
            {"space": "MNI152NLin2009cAsym", "res": "2", "desc": "acquired", "suffix": "bold"},
            "https://templateflow.s3.amazonaws.com/tpl-MNI152NLin2009cAsym/tpl-MNI152NLin2009cAsym_res-02_T1w.nii.gz",
        ),
        ({"space": "MyOwn", "desc": "acquired", "suffix": "bold"}, None),
    ],
)
def test_the_sidecar_contains_the_spatial_reference(tmp_path, entities, reference):
    nib.Nifti1Image(np.ones((2, 2, 2), "uint8"), np.eye(4)).to_filename(tmp_path / "in.nii")
    references = {
        "": "bids::sub-01/func/x_boldref.nii.gz",
        "T1w": "bids::sub-01/anat/x_T1w.nii.gz",
    }
    stored = _store_one(
        tmp_path, tmp_path / "in.nii", own_entities=entities, references=references
    )
    sidecar = json.loads(Path(str(stored).replace(".nii.gz", ".json")).read_text())
    assert sidecar.get("SpatialReference") == reference


@pytest.mark.parametrize(("space", "code"), [("", 1), ("T1w", 2), ("MNI152NLin2009cAsym", 4)])
@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 3, 4, 2)])
def test_header_codes_of_spaces_equal_niworkflows(tmp_path, shape, space, code):
    # header codes of the input are 0 and 2
    nib.Nifti1Image(np.ones(shape, "float32"), np.eye(4)).to_filename(tmp_path / "in.nii")
    entities = {"space": space, "desc": "sbl", "suffix": "bold"}
    header = nib.load(_store_one(tmp_path, tmp_path / "in.nii", own_entities=entities)).header
    assert (header["qform_code"], header["sform_code"]) == (code, code)


def test_the_sidecar_of_a_table_contains_columns_and_sources(tmp_path):
    (tmp_path / "in.tsv").write_text("a\n1\n")
    entities = {"desc": "image", "suffix": "metrics"}
    stored = _store_one(
        tmp_path,
        tmp_path / "in.tsv",
        own_entities=entities,
        own_sidecar={"a": {"Description": "b"}},
    )
    sidecar = json.loads(stored.with_suffix(".json").read_text())
    assert list(sidecar) == ["a", "Sources"]


def _store_maps(tmp_path: Path, **overrides: object) -> None:
    """Store maps of two contrasts and two statistics, with the sidecars written by the step."""
    (node := tmp_path / "node").mkdir(exist_ok=True)
    files = []
    for contrast in ("thumb", "little"):
        for stat in ("t", "cc"):
            stem = node / f"res-hr_contrast-{contrast}_stat-{stat}_desc-sbl_statmap"
            nib.Nifti1Image(np.ones((2, 2, 2), "float32"), np.eye(4)).to_filename(
                path := stem.with_suffix(".nii")
            )
            sidecar = {"Description": stat, "ContrastWeights": {contrast: 1.0}}
            stem.with_suffix(".json").write_text(json.dumps(sidecar))
            files += [path, stem.with_suffix(".json")]
    arguments = {"output_dir": tmp_path / "out", "entities": COMMON, "sources": ["bids::a"]}
    store(node, files, **{**arguments, **overrides})


def _names(root: Path, pattern: str) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob(pattern))


def test_maps_of_a_series_share_a_sidecar(tmp_path: Path) -> None:
    _store_maps(tmp_path)
    _store_maps(tmp_path, entities={**COMMON, "space": "MNI152NLin6Asym"})
    stem = "sub-01/func/sub-01_task-tap_run-1"
    assert _names(tmp_path / "out", "*.json") == [
        f"{stem}_res-hr_desc-sbl_statmap.json",
        f"{stem}_space-MNI152NLin6Asym_res-hr_desc-sbl_statmap.json",
    ]
    content = json.loads((tmp_path / "out" / f"{stem}_res-hr_desc-sbl_statmap.json").read_text())
    assert content == {
        "Sources": ["bids::a"],
        "SkullStripped": False,
        "Statistics": {"t": {"Description": "t"}, "cc": {"Description": "cc"}},
        "Contrasts": {name: {"ContrastWeights": {name: 1.0}} for name in ("thumb", "little")},
    }


def test_pybids_finds_the_shared_sidecar_of_maps_without_configuration(tmp_path: Path) -> None:
    from bids import BIDSLayout

    _store_maps(tmp_path)
    _store_maps(tmp_path, entities={**COMMON, "session": "a"})
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
    layout = BIDSLayout(tmp_path / "out", validate=False, is_derivative=True)
    files = layout.get(suffix="statmap", extension=".nii.gz")
    assert len(files) == 8
    for map_file in files:
        statistic = "t" if "_stat-t_" in map_file.path else "cc"
        contrast = "thumb" if "thumb" in map_file.path else "little"
        assert select_map_metadata(map_file.get_metadata(), contrast, statistic) == {
            "Description": statistic,
            "ContrastWeights": {contrast: 1.0},
            "Sources": ["bids::a"],
            "SkullStripped": False,
        }


def test_regions_by_a_threshold_share_a_sidecar_and_other_masks_do_not(tmp_path: Path) -> None:
    (node := tmp_path / "node").mkdir()
    files = []
    for label in ("thumb", "little"):
        for desc, content in (("sblFdr", {"ThresholdLabel": "Fdr"}), ("tool", {"Type": "ROI"})):
            stem = node / f"res-hr_label-{label}_desc-{desc}_mask"
            image = nib.Nifti1Image(np.ones((2, 2, 2), "uint8"), np.eye(4))
            image.to_filename(path := stem.with_suffix(".nii"))
            stem.with_suffix(".json").write_text(json.dumps(content))
            files += [path, stem.with_suffix(".json")]
    store(node, files, output_dir=tmp_path / "out", entities=COMMON)
    stem = "sub-01/func/sub-01_task-tap_run-1_res-hr"
    assert _names(tmp_path / "out", "*.json") == [
        f"{stem}_desc-sblFdr_mask.json",
        f"{stem}_label-little_desc-tool_mask.json",
        f"{stem}_label-thumb_desc-tool_mask.json",
    ]


def test_files_with_entities_that_are_left_out_are_not_stored(tmp_path):
    files = []
    for stat in ("t", "effect"):
        for contrast in ("hand", "foot"):
            files.append(tmp_path / f"contrast-{contrast}_stat-{stat}_desc-bspline_statmap.nii.gz")
            _series(files[-1])
    node = tmp_path / "node"
    node.mkdir()
    stored = store(
        node,
        files,
        left_out={LEFT_OUT: [{"stat": "effect", "contrast": "hand"}, {"desc": "sbl"}]},
        output_dir=tmp_path / "out",
        entities=COMMON,
    )
    labels = [path.name.split("contrast-")[1].split("_desc")[0] for path in stored]
    assert labels == ["hand_stat-t", "foot_stat-t", "foot_stat-effect"]
