"""Test imported results of another program against nitransforms, which wrote the files."""

import json
from pathlib import Path

import nibabel as nb
import nitransforms as nt
import numpy as np
import pandas as pd
import pytest
from data.fmriprep import FmriprepMaker, fsl_parameters, rigid, write_linear
from nitransforms.resampling import apply as their_resampling

from bids_sr.io.confound_names import MOTION_PARAMETERS
from bids_sr.io.grids import AS_STORED
from bids_sr.io.nifti import SeriesReader
from bids_sr.io.notices import InvalidInput
from bids_sr.io.volume import Volume
from bids_sr.preproc.ants import load
from bids_sr.preproc.imported_motion import precomputed_motion
from bids_sr.preproc.model_confounds import model_confounds
from bids_sr.preproc.steps import imported
from bids_sr.preproc.steps.registration import mask_bold
from bids_sr.spatial.itk_files import read_itk, write_itk
from bids_sr.spatial.resampling import sample_volume

SHAPE = (20, 22, 12)
AFFINE = np.array([[-4.0, 0, 0, 40], [0, 4, 0, -42], [0, 0, 4, -20], [0, 0, 0, 1]])
BLOBS = np.array([[-14.0, -12, 0], [10, -15, 4], [0, 12, -6], [15, 10, 2]])
MOTION = np.array(
    [rigid(), rigid(2.5, -1, 0.5, 0.03), rigid(-2, 3, 1, -0.05), rigid(1, 1, -2, 0.02)]
)

# head motion parameters of 20 volumes
SIX = np.random.default_rng(1).normal(0, [1, 1, 1, 0.02, 0.02, 0.02], (20, 6))


def scene(matrix=None):
    """Return a head in a pose: reference point p is at matrix @ p."""
    points = (
        np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1) @ AFFINE[:3, :3].T
        + AFFINE[:3, 3]
    )
    if matrix is not None:
        inverse = np.linalg.inv(matrix)
        points = points @ inverse[:3, :3].T + inverse[:3, 3]
    body = 200 / (1 + np.exp((np.linalg.norm(points / [34, 36, 22], axis=-1) - 1) * 9))
    return body + sum(
        300 * np.exp(-((points - blob) ** 2).sum(-1) / (2 * 6.5**2)) for blob in BLOBS
    )


@pytest.fixture
def moving_run(tmp_path: Path) -> tuple[SeriesReader, Path]:
    """Return a run with the head motion MOTION, and its transforms as written by nitransforms."""
    series = np.stack([scene(matrix) for matrix in MOTION], -1).astype(np.float32)
    nb.Nifti1Image(series, AFFINE).to_filename(tmp_path / "bold.nii")
    write_linear(tmp_path / "hmc.txt", MOTION)
    return SeriesReader(tmp_path / "bold.nii"), tmp_path / "hmc.txt"


def inner(image):
    return np.asarray(image)[4:-4, 4:-4, 3:-3]


def test_head_motion_is_read_in_the_direction_of_the_file(moving_run):
    bold, hmc = moving_run
    xfms, table, reference = imported.import_motion(bold, read_itk(hmc), n_dummy=0)
    np.testing.assert_allclose(xfms, MOTION, atol=1e-5)
    assert len(table) == 4
    np.testing.assert_allclose(table.rot_z, [0, 0.03, -0.05, 0.02], atol=1e-5)
    assert table.residual.isna().all()
    image = nb.load(bold.path)
    for number, matrix in enumerate(xfms):
        volume = nb.Nifti1Image(np.asarray(image.dataobj)[..., number], AFFINE)
        expected = their_resampling(
            nt.linear.Affine(MOTION[number]), volume, reference=volume, order=3
        )
        resampled = sample_volume(np.asarray(volume.dataobj), AFFINE, SHAPE, AFFINE, matrix)
        assert np.abs(inner(resampled) - inner(scene())).max() < 6
        assert np.abs(inner(resampled) - inner(expected.dataobj)).max() < 6

    # the boldref is the mean of realigned volumes
    np.testing.assert_allclose(reference.affine, AFFINE)
    realigned_error = np.abs(inner(reference.data) - inner(scene())).max()
    raw_error = np.abs(inner(image.get_fdata().mean(-1)) - inner(scene())).max()
    assert realigned_error < 5 < 20 < raw_error
    given = Volume(scene(), AFFINE)
    same_xfms, _, kept = imported.import_motion(
        bold, read_itk(hmc), given_boldref=given, n_dummy=0
    )
    assert kept is given
    np.testing.assert_array_equal(same_xfms, xfms)


def test_transforms_of_another_run_or_with_a_scale_are_rejected(moving_run):
    bold, hmc = moving_run
    with pytest.raises(ValueError, match="3 volumes; expected 4"):
        imported.import_motion(bold, read_itk(hmc)[:3], n_dummy=0)
    with pytest.raises(InvalidInput, match="rigid"):
        imported.import_motion(bold, MOTION @ np.diag([1.1, 1, 1, 1]), n_dummy=0)


OBLIQUE = rigid(3, -2, 5, 0.3) @ np.array(
    [[1, 0, 0, 0], [0, 0.9, -0.43589, 0], [0, 0.43589, 0.9, 0], [0, 0, 0, 1]]
)


@pytest.mark.parametrize(
    "affine",
    [
        AFFINE,
        np.diag([-1, 1, 1, 1]) @ AFFINE,
        OBLIQUE @ AFFINE,
        OBLIQUE @ np.diag([-1, 1, 1, 1]) @ AFFINE,
    ],
    ids=["LAS", "RAS", "oblique LAS", "oblique RAS"],
)
def test_head_motion_is_reconstructed_from_six_parameters(affine, tmp_path):
    rng = np.random.default_rng(2)
    noisy_scene = scene() + rng.normal(0, 2, (*SHAPE, 1))[..., 0]
    nb.Nifti1Image(
        np.repeat(noisy_scene[..., None], 4, -1).astype(np.float32), affine
    ).to_filename(tmp_path / "bold.nii")
    table = tmp_path / "sub-01_task-tap_desc-confounds_timeseries.tsv"
    FmriprepMaker.confounds(
        table, fsl_parameters(MOTION, noisy_scene, nb.load(tmp_path / "bold.nii")), 0
    )
    bold = SeriesReader(tmp_path / "bold.nii")
    confounds = pd.read_csv(table, sep="\t")
    xfms, _, _ = imported.rebuild_motion(bold, confounds, n_dummy=0, axis_order=AS_STORED)
    np.testing.assert_allclose(xfms, MOTION, atol=2e-3)
    old_names = {f"trans_{axis}": axis.upper() for axis in "xyz"}
    old_names |= {f"rot_{axis}": f"Rot{axis.upper()}" for axis in "xyz"}
    old_xfms, _, _ = imported.rebuild_motion(
        bold, confounds.rename(columns=old_names), n_dummy=0, axis_order=AS_STORED
    )
    np.testing.assert_array_equal(old_xfms, xfms)


def test_a_field_map_is_transformed_to_the_run(moving_run, tmp_path):
    """Use a field of 10 Hz on one side of a plane, which the transform moves by 8 mm."""
    field, grid = np.zeros((60, 60, 60), np.float32), np.diag([2.0, 2, 2, 1])
    grid[:3, 3] = -60
    field[:, :, 30:] = 10.0
    nb.Nifti1Image(field, grid).to_filename(tmp_path / "field.nii.gz")
    # Reference points are mapped to field map points: the plane is at z = -8 - 1 in the run.
    to_field = rigid(0, 0, 8)
    write_linear(tmp_path / "fmap.txt", np.linalg.inv(to_field))
    xfm = read_itk(tmp_path / "fmap.txt")
    distortion = imported.field_to_shift(
        moving_run[0], tmp_path / "field.nii.gz", xfm, phase_encoding="j-", readout=0.05
    )
    assert distortion.axis == 1
    heights = AFFINE[2, 3] + 4 * np.arange(12)
    np.testing.assert_allclose(distortion.shift[10, 10, heights > -5], -0.5, atol=0.08)
    np.testing.assert_allclose(distortion.shift[10, 10, heights < -14], 0.0, atol=0.08)


def test_columns_of_confounds_are_kept_with_their_descriptions(tmp_path):
    """Non-steady-state outliers follow the dummies of this run."""
    path = tmp_path / "x_desc-confounds_timeseries.tsv"
    FmriprepMaker.confounds(path, np.tile(SIX, (3, 1)), 2)
    source = pd.read_csv(path, sep="\t", na_values="n/a")
    for n_dummy in (2, 1):
        table, columns = imported.import_confounds(path, origin="fMRIPrep 24.1", n_dummy=n_dummy)
        steady = [name for name in source if not name.startswith("non_steady")]
        outliers = [f"non_steady_state_outlier{k:02d}" for k in range(n_dummy)]
        assert set(table) == set(columns) == {*steady, *outliers}
        np.testing.assert_allclose(table[steady], source[steady], rtol=1e-12)
        assert table[outliers].sum(axis=1).tolist() == [1] * n_dummy + [0] * (60 - n_dummy)
        assert all("fMRIPrep 24.1" in c["Origin"] and c["Units"] for c in columns.values())
    assert columns["a_comp_cor_07"]["Mask"] == "combined"
    assert model_confounds(table)[-5:] == tuple(f"a_comp_cor_{k:02d}" for k in range(5))
    # components of single tissues come after combined ones
    masks = {f"a_comp_cor_{k:02d}": {"Mask": "CSF" if k < 4 else "combined"} for k in range(8)}
    path.with_suffix(".json").write_text(json.dumps(masks))
    table, columns = imported.import_confounds(path, origin="x", n_dummy=0)
    names = [name for name in table if name.startswith("a_comp_cor")]
    assert names == [f"a_comp_cor_{k:02d}" for k in (4, 5, 6, 7, 0, 1, 2, 3)]
    assert columns["a_comp_cor_00"]["Mask"] == "CSF"


def test_components_of_fmriprep_20_enter_the_model_in_numerical_order(tmp_path):
    """In these versions, components of CSF and white matter come first: combined components may
    begin at number 98.
    """
    path = tmp_path / "x_desc-confounds_timeseries.tsv"
    names = [f"a_comp_cor_{k:02d}" for k in range(95, 105)]
    columns = [
        *(f"{name}{suffix}" for suffix in ("", "_derivative1") for name in MOTION_PARAMETERS),
        *names,
    ]
    path.write_text("\t".join(columns) + "\n" + ("\t".join("0" * len(columns)) + "\n") * 50)
    masks = {
        name: {"Mask": "WM" if int(name[-3:].lstrip("_")) < 98 else "combined"} for name in names
    }
    path.with_suffix(".json").write_text(json.dumps(masks))
    table, _ = imported.import_confounds(path, origin="x", n_dummy=0)
    assert model_confounds(table)[12:] == tuple(f"a_comp_cor_{k}" for k in (98, 99, 100, 101, 102))


def test_a_table_without_head_motion_is_rejected(tmp_path):
    (tmp_path / "x.tsv").write_text("csf\n1\n")
    with pytest.raises(ValueError, match=r"trans_x, .*, rot_z"):
        imported.import_confounds(tmp_path / "x.tsv", origin="x", n_dummy=0)


@pytest.fixture
def reference(tmp_path: Path) -> tuple[Path, Path]:
    """Write a boldref and a brain mask on its grid."""
    image = scene()
    nb.Nifti1Image(image.astype(np.float32), AFFINE).to_filename(tmp_path / "boldref.nii.gz")
    nb.Nifti1Image((image > 100).astype(np.uint8), AFFINE).to_filename(tmp_path / "mask.nii.gz")
    return tmp_path / "boldref.nii.gz", tmp_path / "mask.nii.gz"


def test_masks_and_motion_of_the_program_are_imported_unchanged(tmp_path):
    """Differences in the last digits would change the prior of a run."""
    noise = np.random.default_rng(3).random(SHAPE)
    boldref = Volume(np.float32(scene() * (1 + 0.5 * noise)), AFFINE)
    mask, expected_mask, _ = mask_bold(boldref, factor=(2.0, 2.0, 1.0))
    nb.Nifti1Image(mask.data.astype(np.uint8), AFFINE).to_filename(tmp_path / "mask.nii")
    _, high_res_mask, _ = imported.import_mask(
        boldref, tmp_path / "mask.nii", origin="bids-sr", factor=(2.0, 2.0, 1.0)
    )
    np.testing.assert_array_equal(high_res_mask.data, expected_mask.data)
    assert high_res_mask.data.shape == (40, 44, 12)
    assert high_res_mask.data.sum() / 4 == pytest.approx(mask.data.sum(), rel=0.05)
    matrices = np.array([rigid(*parameters[:3], parameters[3]) for parameters in SIX])
    write_itk(tmp_path / "hmc.txt", matrices)
    motion = precomputed_motion(read_itk(tmp_path / "hmc.txt"), mask.data, AFFINE)
    np.testing.assert_array_equal(motion.matrices, matrices)


@pytest.mark.parametrize("fault", ["empty", "other grid"])
def test_an_empty_mask_or_a_mask_on_another_grid_is_rejected(reference, fault):
    boldref, mask = reference
    nb.Nifti1Image(
        np.full(SHAPE if fault == "empty" else (5, 5, 5), fault != "empty", np.uint8), AFFINE
    ).to_filename(mask)
    with pytest.raises(ValueError, match=r"empty|grid"):
        imported.import_mask(load(boldref), mask, origin="x", factor=(2.0, 2.0, 1.0))


@pytest.mark.parametrize("scale", [1.0, 1.03])
def test_a_registration_is_used_and_measured(reference, tmp_path, scale):
    """Include scales, which fMRIPrep estimates with more than six degrees of freedom."""
    boldref, _ = reference
    # maps a T1w point to its boldref point
    xfm = rigid(3, -2, 1, 0.05) @ np.diag([scale, 1, 1, 1])
    write_linear(tmp_path / "coreg.txt", xfm)
    t1w = sample_volume(scene().astype(np.float32), AFFINE, SHAPE, AFFINE, xfm)
    nb.Nifti1Image(t1w, AFFINE).to_filename(tmp_path / "t1w.nii.gz")
    nb.Nifti1Image((t1w > 100).astype(np.uint8), AFFINE).to_filename(tmp_path / "t1mask.nii.gz")
    t1w_mask = load(tmp_path / "t1mask.nii.gz")
    imported_xfm, facts = imported.import_coreg(
        load(boldref),
        load(tmp_path / "t1w.nii.gz"),
        t1w_mask.like(t1w_mask.data > 0.5),
        read_itk(tmp_path / "coreg.txt"),
        origin="fMRIPrep 24.1.1",
    )
    np.testing.assert_allclose(imported_xfm[0], xfm, atol=1e-5)
    assert facts["bold_t1w_mask_dice"] > 0.9
    assert facts["bold_t1w_poor"] is False
    assert facts["bold_t1w_origin"] == "fMRIPrep 24.1.1"
    assert facts["bold_t1w_displacement_rms_mm"] > 2
    far = read_itk(tmp_path / "coreg.txt") @ rigid(40, 0, 0)
    _, facts = imported.import_coreg(
        load(boldref), load(tmp_path / "t1w.nii.gz"), t1w_mask, far, origin="x"
    )
    assert facts["bold_t1w_poor"] is True


def test_anatomy_keeps_its_values_and_labels_of_tissues(reference, tmp_path, caplog):
    """Labels are derived from probability maps if they are missing."""
    boldref, mask = reference
    t1w, brain, _ = imported.import_anatomy(boldref, mask)
    np.testing.assert_allclose(t1w.data, nb.load(boldref).get_fdata(), rtol=1e-6)
    np.testing.assert_array_equal(brain.data, nb.load(mask).get_fdata() > 0)
    empty_map = tmp_path / "none.nii.gz"
    nb.Nifti1Image(np.zeros(SHAPE, np.float32), AFFINE).to_filename(empty_map)
    for given, expected in (([mask], {0, 1}), ([], {0, 2})):
        labels, tpms = imported.import_tissues(t1w, [empty_map, mask, empty_map], *given)
        assert set(np.unique(labels.data)) == expected
        assert len(tpms) == 3
    caplog.clear()
    speck = np.zeros(SHAPE, np.uint8)
    speck[0, 0, 0] = 1
    nb.Nifti1Image(speck, AFFINE).to_filename(tmp_path / "speck.nii.gz")
    _, _, facts = imported.import_anatomy(boldref, tmp_path / "speck.nii.gz")
    (doubt,) = facts["brain_doubts"]
    assert "900 to 1900 ml" in doubt
    assert doubt in caplog.text
