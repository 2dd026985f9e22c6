"""Masks of ``--roi`` and atlas files that cannot be used, read for one run in memory."""

import gzip
from pathlib import Path

import nibabel as nb
import numpy as np
import pytest
from data.calls import problem_of
from data.records import make_run, make_settings

from bids_sr.survey.bids.inputs import Subject
from bids_sr.survey.notices import InputError
from bids_sr.survey.preflight.regions import read_regions

RUN = make_run()
SUBJECT = Subject(label="01", t1w=(Path("/bids/sub-01/anat/sub-01_T1w.nii.gz"),), runs=(RUN,))
CUBE = np.pad(np.ones((3, 3, 3), np.uint8), ((2, 3), (3, 2), (1, 2)))
NOISE = np.random.default_rng(0).integers(0, 900, (8, 8, 4), dtype=np.int16)
SIGNS = np.repeat(np.array([0, 1, -3], np.int16), 64).reshape(3, 8, 8)
COLORS = np.zeros((8, 8, 4), dtype=[(name, "u1") for name in "RGB"])


def read(*options):
    return read_regions(make_settings(*options), [SUBJECT]).value


def refuse(*options):
    """Return the only problem of masks and atlas."""
    with pytest.raises(InputError) as refusal:
        read(*options)
    return refusal.value.problems


def save(path, data):
    nb.save(nb.Nifti1Image(data, np.eye(4)), path)
    return str(path)


@pytest.mark.parametrize(
    ("data", "name", "values"),
    [
        (0 * CUBE, "roi", ["motor"]),
        (np.full((8, 8, 4), np.nan, np.float32), "roi", ["NaN"]),
        (COLORS, "roi", ["RGB"]),
        (NOISE, "roi", ["229", "1"]),
        (SIGNS, "roi", ["1", "0"]),
        (CUBE, "roi", ["space-T1w", "space-boldref"]),
        (CUBE, "space-fsaverage_mask", ["fsaverage", "sub-01", "space-T1w"]),
        (CUBE, "space-MNIInfant_cohort-2_mask", ["MNIInfant+2", "--output-spaces"]),
        (CUBE, "space-boldref_mask", [RUN.stem]),
        (CUBE, "sub-02_space-T1w_mask", ["sub-02", "sub-01", "--participant-label 02"]),
    ],
)
def test_a_mask_that_cannot_be_used_is_refused(tmp_path, data, name, values):
    path = save(tmp_path / f"{name}.nii.gz", data)
    problem_of(refuse("--roi", path), path, *values, code="option")


@pytest.mark.parametrize("space", ["T1w", "MNI152NLin2009cAsym"])
def test_a_mask_has_the_space_of_its_name(tmp_path, space):
    path = save(tmp_path / f"space-{space}_mask.nii.gz", CUBE)
    mask = read("--roi", path).masks[path]
    assert (mask.n_voxels, mask.spaces) == (27, {"01": space if space == "T1w" else "template"})


def save_atlas(folder, data, name="space-T1w", more_rows=""):
    """Write an atlas with the label Hand_L of value 3; return the option to use it."""
    path = save(folder / f"{name}_dseg.nii.gz", data)
    (folder / f"{name}_dseg.tsv").write_text(f"index\tname\n3\tHand_L\n{more_rows}")
    return ["--set", f"activation.atlas={path}"]


@pytest.mark.parametrize(
    ("data", "values"),
    [
        (0 * CUBE, ["0"]),
        (7 * CUBE, ["space-T1w_dseg.tsv", "7"]),
        (np.full((8, 8, 4), 3.4, np.float32), ["AAL2"]),
        (np.full((8, 8, 4, 2), 3, np.uint8), ["3D", "AAL2"]),
    ],
)
def test_an_atlas_that_cannot_be_used_is_refused(tmp_path, data, values):
    problem_of(refuse(*save_atlas(tmp_path, data)), "activation.atlas=", *values, code="option")


def test_an_atlas_in_an_unknown_space_is_refused(tmp_path):
    assert read(*save_atlas(tmp_path, 3 * CUBE)).atlas_spaces == {"01": "T1w"}
    options = save_atlas(tmp_path, 3 * CUBE, "atlas-Mine")
    problem_of(refuse(*options), "atlas-Mine_dseg.nii.gz", "space-T1w", code="option")


@pytest.mark.parametrize(
    ("option", "file"),
    [
        (["--roi", "Foot_L"], "--roi Foot_L"),
        (["--set", "activation.seeds=[Hand_L, Foot_L]"], "activation.seeds=Foot_L"),
    ],
)
def test_a_region_without_voxels_in_the_atlas_is_refused(tmp_path, option, file):
    options = save_atlas(tmp_path, 3 * CUBE, more_rows="4\tFoot_L\n")
    problem_of(refuse(*options, *option), file, "Foot_L", "Hand_L", code="option")


@pytest.mark.parametrize("cut", [9, -300])
def test_a_truncated_image_is_refused(tmp_path, cut):
    data = np.random.default_rng(0).integers(0, 2, (32, 32, 16), dtype=np.uint8)
    for option in (["--roi", save(tmp_path / "roi.nii.gz", data)], save_atlas(tmp_path, data)):
        path = Path(option[-1].rpartition("=")[2])
        path.write_bytes(path.read_bytes()[:cut])
        problem_of(refuse(*option), option[-1], code="option")


@pytest.mark.parametrize(("side", "values"), [(3000, ("3000", "27,000")), (600, ("600", "3.5"))])
@pytest.mark.parametrize("option", ["--roi {}", "--set activation.atlas={}"])
def test_the_size_of_a_region_is_checked_before_its_voxels(tmp_path, side, values, option):
    """Headers state voxels that do not follow; the smaller image does not fit into memory."""
    path = tmp_path / "roi_space-T1w_mask.nii.gz"
    image = nb.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4))
    image.header.set_data_shape((side, side, side))
    image.header["vox_offset"] = 352
    path.write_bytes(gzip.compress(image.header.binaryblock + bytes(4)))
    path.with_name("roi_space-T1w_mask.tsv").write_text("index\tname\n1\tmotor\n")
    faults = refuse(*option.format(path).split(), "--mem", "2")
    problem_of(faults, path.name, *values, code="option")
