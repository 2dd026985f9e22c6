"""Masks of ``--roi`` and atlas files that cannot be used, read for one run in memory."""

import gzip
from dataclasses import replace
from pathlib import Path

import nibabel as nb
import numpy as np
import pytest
from data.calls import problem_of
from data.records import make_run, make_settings

from bids_sr.io.template_files import DEFAULT_SPACE, load_grid
from bids_sr.spatial.transforms import hr_grid
from bids_sr.survey.bids.inputs import Subject
from bids_sr.survey.notices import InputError
from bids_sr.survey.preflight.plan import Plan
from bids_sr.survey.preflight.plan_text import dry_run_text
from bids_sr.survey.preflight.regions import read_regions

RUN = make_run()
SUBJECT = Subject(label="01", t1w=(Path("/bids/sub-01/anat/sub-01_T1w.nii.gz"),), runs=(RUN,))
UNIT = np.eye(4)
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


def save(path, data, affine=UNIT):
    nb.save(nb.Nifti1Image(data, affine), path)
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
    """Other regions have no problem."""
    other, path = (
        save(tmp_path / "v1.nii.gz", CUBE, RUN.affine),
        save(tmp_path / f"{name}.nii.gz", data),
    )
    problem_of(refuse("--roi", "motor", other, path), path, *values, code="option")


@pytest.mark.parametrize(
    ("name", "space"),
    [
        ("v1", "boldref"),
        ("sub-01_space-T1w_mask", "T1w"),
        (f"space-{DEFAULT_SPACE}_mask", "template"),
        (f"tpl-{DEFAULT_SPACE}_mask", "template"),
        (f"sub-02_space-{DEFAULT_SPACE}_mask", "template"),
    ],
)
def test_the_dry_run_names_the_space_and_the_voxels_of_a_mask(tmp_path, name, space):
    """The space is stated by the name, or is that of the grid; some need the T1w image."""
    path = save(tmp_path / f"{name}.nii.gz", CUBE, RUN.affine)
    settings = make_settings("--roi", "motor", path)
    for t1w in (SUBJECT.t1w, ()):
        subject = replace(SUBJECT, t1w=t1w)
        masks = read_regions(settings, [subject]).value.masks
        plan = Plan(subjects=(subject,), region_masks=masks)
        lines = [line for line in dry_run_text(plan, settings).splitlines() if "region of" in line]
        texts = ["AAL2", f"{name}.nii.gz, {space} space, 27 voxels"]
        if not t1w:
            texts = ["whole brain", texts[1] if space == "boldref" else "whole brain"]
        for line, text in zip(lines, texts, strict=True):
            assert text in line


@pytest.mark.parametrize("space", ["T1w", "boldref", "boldref at high resolution", "template"])
def test_a_mask_without_a_space_in_its_name_has_the_space_of_an_equal_grid(tmp_path, space):
    t1w = Path(save(tmp_path / "sub-01_T1w.nii.gz", NOISE))
    shape, affine = {
        "T1w": (NOISE.shape, np.eye(4)),
        "boldref": (RUN.shape, RUN.affine),
        "boldref at high resolution": hr_grid(RUN.shape, RUN.affine, (2, 2, 1)),
        "template": load_grid(DEFAULT_SPACE, "2") or load_grid(DEFAULT_SPACE, "1"),
    }[space]
    data = np.zeros(shape, np.uint8)
    data[2:5, 2:5, 1:4] = 1
    path = save(tmp_path / "mask.nii.gz", data, affine)
    subject = replace(SUBJECT, t1w=(t1w,))
    masks = read_regions(make_settings("--roi", path), [subject]).value.masks
    assert masks[path].spaces == {"01": space.partition(" ")[0]}
    save(Path(path), data, affine + np.diag([0, 0, 0.5, 0]))
    problem_of(refuse("--roi", path), f"--roi {path}", code="option")


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
