"""Test `recovered_detail`, and the error of effects of `SuperResolver`."""

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from data.short_run import EVENTS

from bids_sr import SuperResolver, recovered_detail
from bids_sr.api.image_inputs import ImageInputError
from bids_sr.io.nifti import load_image, save_image


@pytest.fixture(scope="module")
def table(run, fitted):
    return recovered_detail(run / "bold.nii", EVENTS, resolver=fitted)


def test_each_contrast_has_a_row_for_active_voxels_and_for_the_brain(table):
    assert list(zip(table.contrast, table.region, strict=True)) == [
        (contrast, region)
        for contrast in ("all", "little", "thumb", "littleMinusThumb")
        for region in ("active voxels", "brain")
    ]
    assert set(table.state) <= {"recovered", "not supported", "not testable"}
    assert (table.reason[table.state == "not testable"] != "").all()
    assert (table.reason[table.state == "recovered"] == "").all()
    brain = table[table.region == "brain"]
    assert np.isfinite(brain.explained_variance).all()
    assert brain.lower.isna().all(), "the run has five slices"
    assert (table[table.region == "active voxels"].voxels.values < brain.voxels.values).all()
    assert table.coverage.between(0.85, 1).all()


def test_an_estimator_that_is_not_fitted_gets_the_mask_and_the_runs(run, fitted, table):
    """A list of runs gives one table with the number of the run."""
    unfitted = SuperResolver("sbl", realigned=True)
    joined = recovered_detail(
        [run / "bold.nii", run / "bold.nii.gz"],
        EVENTS,
        resolver=unfitted,
        mask_img=run / "mask.nii",
    )
    assert list(joined.run) == [1] * len(table) + [2] * len(table)
    for number in (1, 2):
        run_table = joined[joined.run == number].drop(columns="run").reset_index(drop=True)
        pd.testing.assert_frame_equal(run_table, table)
    assert not hasattr(unfitted, "boldref_")


def test_requested_contrasts_smoothing_and_confounds_are_used(run, fitted, table):
    few = recovered_detail(
        run / "bold.nii",
        run / "events.tsv",
        resolver=fitted,
        contrasts=["thumb"],
        smoothing_fwhm=(0.0, 4.0),
    )
    assert list(few.contrast) == ["thumb"] * 4
    assert list(few.fwhm_mm) == [0.0, 0.0, 4.0, 4.0]
    unsmoothed = table[table.contrast == "thumb"].reset_index(drop=True)
    pd.testing.assert_frame_equal(few[:2], unsmoothed)
    assert not np.allclose(few.explained_variance[2:], few.explained_variance[:2])
    noise = np.random.default_rng(0).standard_normal((nib.load(run / "bold.nii").shape[3], 30))
    changed = recovered_detail(run / "bold.nii", EVENTS, resolver=fitted, confounds=noise)
    assert not np.allclose(changed.coverage, table.coverage)


@pytest.mark.filterwarnings("ignore::bids_sr.api.image_inputs.SuperResolutionWarning")
def test_a_method_that_was_not_applied_is_not_testable(unapplied):
    noise, resolver = unapplied
    table = recovered_detail(noise, EVENTS, resolver=resolver, t_r=2.0, smoothing_fwhm=4.0)
    assert set(table.fwhm_mm) == {4.0}
    assert set(table.state) == {"not testable"}
    zeros = nib.Nifti1Image(np.zeros((30, 28, 5), np.float32), np.diag([3, 3, 4, 1.0]))
    with pytest.raises(ImageInputError, match="sbl was not applied"):
        resolver.effect_sd(zeros, zeros)


def test_invalid_arguments_are_rejected_by_name(run, fitted, tmp_path):
    bold = run / "bold.nii"
    baseline = SuperResolver("zerofill", realigned=True)
    with pytest.raises(ImageInputError, match=r"resolver: .*zerofill has no prior"):
        recovered_detail(bold, EVENTS, resolver=baseline, mask_img=run / "mask.nii")
    with pytest.raises(ImageInputError, match="mask_img, motion: already known"):
        recovered_detail(
            bold, EVENTS, resolver=fitted, mask_img=run / "mask.nii", motion=run / "hmc.txt"
        )
    data, affine = load_image(bold)
    save_image(data[..., ::-1], affine, tmp_path / "other.nii", tr=2.0)
    with pytest.raises(ImageInputError, match="bold: sbl was fitted to another run"):
        recovered_detail(tmp_path / "other.nii", EVENTS, resolver=fitted)


def test_the_error_of_an_effect_is_proportional_to_the_effect(run, fitted):
    """Unsmoothed, the standard deviation scales with an effect without noise."""
    image = fitted.correct_motion(run / "bold.nii")
    data = np.asarray(image.dataobj)
    effect = data[..., 30] - data[..., 20]
    zeros = nib.Nifti1Image(np.zeros(effect.shape, np.float32), image.affine)
    effects = [nib.Nifti1Image(scale * effect, image.affine) for scale in (1, 3)]
    sd, large_sd = fitted.effect_sd(effects, [zeros, zeros])
    values = sd.get_fdata()
    assert values.shape == (60, 56, 5)
    brain = np.repeat(np.repeat(load_image(run / "mask.nii")[0] > 0, 2, 0), 2, 1)
    assert (values[brain] > 0).mean() > 0.9
    assert not values[~brain].any()
    np.testing.assert_allclose(large_sd.get_fdata(), 3 * values, rtol=1e-4)
    noisy = nib.Nifti1Image(np.full(effect.shape, 1e6, np.float32), image.affine)
    noisy_sd = fitted.effect_sd(effects[0], noisy).get_fdata()[brain]
    assert 0 < noisy_sd.min() <= noisy_sd.max() < 1000, "below the noise"
    smoothed = fitted.effect_sd(effects[0], zeros, smoothing_fwhm=5.0).get_fdata()
    assert 0 < smoothed[brain].mean() < 0.7 * values[brain].mean()


def test_the_error_of_a_region_follows_from_the_samples_and_not_from_the_map(run, fitted):
    image = fitted.correct_motion(run / "bold.nii")
    data = np.asarray(image.dataobj)
    effect, tripled = (
        nib.Nifti1Image(scale * (data[..., 30] - data[..., 20]), image.affine) for scale in (1, 3)
    )
    zeros = nib.Nifti1Image(np.zeros(effect.shape, np.float32), image.affine)
    sd = fitted.effect_sd(effect, zeros).get_fdata()
    x, y, z = np.unravel_index(np.argmax(sd), sd.shape)
    voxel, square = np.zeros(sd.shape, bool), np.zeros(sd.shape, bool)
    voxel[x, y, z], square[x - 2 : x + 2, y - 2 : y + 2, z] = True, True
    voxel_error, error, tripled_error = (
        fitted.region_error(region, acquired, zeros)
        for region, acquired in ((voxel, effect), (square, effect), (square, tripled))
    )
    assert voxel_error == pytest.approx(sd[x, y, z], rel=1e-4)
    assert tripled_error == pytest.approx(3 * error, rel=1e-4)
    # errors above the acquired Nyquist frequency cancel: below the error of independent voxels
    assert 0 < error < np.sqrt(np.square(sd[square]).sum()) / square.sum()
    assert 0 < fitted.region_error(square, effect, zeros, smoothing_fwhm=5.0) < error
    outside = ~(np.repeat(np.repeat(load_image(run / "mask.nii")[0] > 0, 2, 0), 2, 1))
    with_outside = fitted.region_error(square | outside, effect, zeros)
    assert with_outside == pytest.approx(error, rel=1e-6)
    with pytest.raises(ImageInputError, match="region: no voxel is in the brain"):
        fitted.region_error(outside, effect, zeros)


def test_effects_on_another_grid_and_runs_of_a_list_are_rejected(run, fitted):
    image = nib.load(run / "boldref.nii")
    with pytest.raises(ImageInputError, match=r"variance: 1 map.* for 2 effect"):
        fitted.effect_sd([image, image], [image])
    fine = nib.load(run / "fine.nii")
    with pytest.raises(ImageInputError, match="effect: the image is not on the expected grid"):
        fitted.effect_sd(fine, image)
    several = SuperResolver("zerofill", realigned=True).fit([run / "bold.nii"])
    with pytest.raises(ImageInputError, match=r"correct_motion: .* list of 1 runs"):
        several.correct_motion(run / "bold.nii")
    with pytest.raises(ImageInputError, match="method: zerofill has no prior"):
        several.runs_[0].effect_sd(image, image)
    region = np.ones(fine.shape[:3])
    with pytest.raises(ImageInputError, match="method: zerofill has no prior"):
        several.runs_[0].region_error(region, image, image)
    with pytest.raises(ImageInputError, match=r"region_error: .* list of 1 runs"):
        several.region_error(region, image, image)
    with pytest.raises(ImageInputError, match="region: the image is not on the expected grid"):
        fitted.region_error(region[1:], image, image)
    with pytest.raises(ImageInputError, match="variance: the image is not on the expected grid"):
        fitted.region_error(region, image, fine)
