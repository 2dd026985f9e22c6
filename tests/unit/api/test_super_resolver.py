"""Test `SuperResolver`: conventions of scikit-learn, input and output images, errors and
warnings.
"""

import pickle
import tracemalloc
import warnings

import nibabel as nib
import numpy as np
import pytest
from data.short_run import COUNT, DUMMIES, FACTOR, FINE
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils import estimator_checks

import bids_sr
from bids_sr import SuperResolver
from bids_sr.api.image_inputs import (
    ImageInputError,
    SuperResolutionWarning,
    header_tr,
    series_file,
)
from bids_sr.io.nifti import load_image, save_image
from bids_sr.spatial.itk_files import read_itk
from bids_sr.spatial.matrices import upsample
from bids_sr.sr.method import method_names


@pytest.mark.parametrize(
    "name",
    [
        "check_estimator_cloneable",
        "check_estimator_repr",
        "check_no_attributes_set_in_init",
        "check_do_not_raise_errors_in_init_or_set_params",
        "check_parameters_default_constructible",
        "check_get_params_invariance",
        "check_set_params",
        "check_transformers_unfitted",
    ],
)
def test_checks_of_scikit_learn_without_a_feature_table_pass(name):
    for estimator in (SuperResolver(), SuperResolver("bspline", 3)):
        getattr(estimator_checks, name)("SuperResolver", estimator)


def test_parameters_are_checked_by_fit_not_by_the_constructor(run):
    resolver = SuperResolver("sbll", factor="two", device="tpu")
    assert clone(resolver).get_params() == resolver.get_params()
    with pytest.raises(ImageInputError, match="device"):
        resolver.fit(run / "bold.nii")
    with pytest.raises(ImageInputError, match=r"^factor: .*'two'"):
        resolver.set_params(device="cpu", method="bspline").fit(run / "bold.nii")
    with pytest.raises(ImageInputError, match="Did you mean sbl") as error:
        resolver.set_params(method="sbll", factor=2).fit(run / "bold.nii")
    assert all(name in str(error.value) for name in (*method_names(), "bspline", "inject"))
    assert str(error.value).count("attunet") == 1


def test_transform_before_fit_raises_not_fitted_error():
    with pytest.raises(NotFittedError):
        SuperResolver().transform("no.nii")


def test_the_package_lists_its_contents_and_rejects_unknown_names():
    assert {"SuperResolver", "recovered_detail"} <= set(dir(bids_sr))
    with pytest.raises(AttributeError, match="no attribute 'Resolver'"):
        _ = bids_sr.Resolver


def test_without_motion_the_run_is_interpolated_volume_by_volume(run):
    image = SuperResolver("zerofill", dummy_scans=0).fit_transform(
        run / "bold.nii", mask_img=run / "mask.nii", motion=np.repeat(np.eye(4)[None], COUNT, 0)
    )
    bold = load_image(run / "bold.nii")[0]
    assert image.shape == (60, 56, 5, COUNT)
    np.testing.assert_allclose(image.affine, FINE, atol=1e-5)
    assert image.header.get_zooms()[3] == 2.0
    np.testing.assert_allclose(
        image.get_fdata()[..., 7], upsample("zerofill", bold[..., 7], FACTOR), atol=1e-2
    )


def test_files_and_images_give_the_same_result_and_a_volume_gives_a_volume(run, tmp_path):
    fitted = SuperResolver("bspline").fit(run / "bold.nii.gz", motion=run / "hmc.txt")
    loaded, data_and_affine = nib.load(run / "bold.nii"), load_image(run / "bold.nii")
    memory = nib.Nifti1Image(*data_and_affine, header=loaded.header)
    from_file, from_image = fitted.transform(run / "bold.nii"), fitted.transform(memory)
    with_out_file = fitted.transform(loaded, out_file=tmp_path / "fine.nii.gz")
    for series in (from_image, with_out_file, nib.load(tmp_path / "fine.nii.gz")):
        np.testing.assert_array_equal(from_file.get_fdata(), series.get_fdata())
    assert fitted.n_dummy_ == DUMMIES
    volume = nib.Nifti1Image(data_and_affine[0][..., 5], data_and_affine[1])
    assert fitted.transform(volume).shape == (60, 56, 5)


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image.header.set_zooms((*image.header.get_zooms()[:3], 3.0)),
        lambda image: image.header.set_xyzt_units("mm", "msec"),
        lambda image: image.set_sform(image.affine + np.outer([30, 0, 0, 0], [0, 0, 0, 1])),
        lambda image: image.header.set_dim_info(slice=0),
        lambda image: setattr(image.dataobj, "_slope", 2.0),
    ],
    ids=["repetition time", "unit", "affine", "slices", "scaling"],
)
def test_a_header_changed_in_memory_is_written_to_a_new_file(run, tmp_path, change):
    image = nib.load(run / "bold.nii")
    assert series_file(run / "bold.nii", tmp_path, "bold") == run / "bold.nii"
    change(image)
    file = series_file(image, tmp_path, "bold")
    assert file == tmp_path / "bold.nii"
    written_image = nib.load(file)
    assert header_tr(written_image.header) == pytest.approx(header_tr(image.header))
    assert written_image.header.get_dim_info() == image.header.get_dim_info()
    np.testing.assert_allclose(written_image.affine, image.affine)
    np.testing.assert_array_equal(written_image.dataobj[..., 3], image.dataobj[..., 3])


def test_a_calibration_without_a_repetition_time_is_rejected(run):
    calibration = nib.Nifti1Image(*load_image(run / "truth.nii"))
    with pytest.raises(ImageInputError, match=r"calibration: .* repetition time"):
        SuperResolver("sbl", realigned=True, registered=True).fit(
            run / "bold.nii", mask_img=run / "mask.nii", calibration=calibration
        )


def test_output_has_no_repetition_time_if_the_input_has_none(run, tmp_path):
    image = nib.Nifti1Image(*load_image(run / "bold.nii"))
    nib.save(image, tmp_path / "silent.nii")
    for series in (image, tmp_path / "silent.nii"):
        resolved = SuperResolver("zerofill", realigned=True).fit_transform(
            series, mask_img=run / "mask.nii"
        )
        assert header_tr(resolved.header) == 0


def test_a_network_stopped_early_is_not_applied(run):
    inputs = {"guide": run / "fine.nii", "mask_img": run / "mask.nii"}
    settings = {"realigned": True, "registered": True, "max_train_minutes": 1e-9}
    resolver = SuperResolver("srgan", **settings)
    with pytest.warns(SuperResolutionWarning, match="1 of 700 steps"):
        image = resolver.fit_transform(run / "bold.nii", **inputs)
    assert not resolver.applied_
    zerofilled = SuperResolver("zerofill", realigned=True).fit_transform(
        run / "bold.nii", mask_img=run / "mask.nii"
    )
    np.testing.assert_array_equal(image.get_fdata(), zerofilled.get_fdata())


def test_fitting_again_replaces_the_first_run(run, fitted, tmp_path):
    resolver = pickle.loads(pickle.dumps(fitted))
    bold, affine = load_image(run / "bold.nii")
    save_image(1.1 * bold + 1, affine, tmp_path / "other.nii", tr=2.0)
    with pytest.raises(ImageInputError, match="sbl was fitted to another run"):
        resolver.transform(tmp_path / "other.nii")
    resolver.fit(tmp_path / "other.nii", mask_img=run / "mask.nii")
    assert resolver.transform(tmp_path / "other.nii").shape[3] == COUNT
    with pytest.raises(ImageInputError, match="another run"):
        resolver.transform(run / "bold.nii")
    bspline = SuperResolver("bspline", realigned=True).fit(run / "bold.nii")
    assert bspline.transform(tmp_path / "other.nii").shape[3] == COUNT


def test_a_fitted_estimator_can_be_pickled(run, fitted):
    assert fitted.applied_
    assert fitted.facts_["held_out"]["explained_over_zerofill"] > 0.02
    unpickled = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(
        unpickled.transform(run / "bold.nii").get_fdata(),
        fitted.transform(run / "bold.nii").get_fdata(),
    )


def test_a_method_that_fails_its_self_test_is_zero_filled(unapplied):
    noise, resolver = unapplied
    assert not resolver.applied_
    zero = SuperResolver("zerofill", realigned=True, dummy_scans=0)
    zero.fit(noise, mask_img=np.ones((30, 28, 5)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SuperResolutionWarning)
        resolved = resolver.transform(noise).get_fdata()
    np.testing.assert_allclose(resolved, zero.transform(noise).get_fdata(), atol=1e-2)


def test_residual_motion_in_a_realigned_series_warns(run, tmp_path):
    bold, affine = load_image(run / "bold.nii")
    bold[..., 51:] = np.roll(bold[..., 51:], 2, axis=0)
    save_image(bold, affine, tmp_path / "moved.nii", tr=2.0)
    with pytest.warns(
        SuperResolutionWarning, match="is displaced by .* mm relative to the boldref"
    ):
        SuperResolver("bspline", realigned=True).fit(
            tmp_path / "moved.nii", mask_img=run / "mask.nii"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("error", SuperResolutionWarning)
        SuperResolver("bspline", realigned=True).fit(run / "bold.nii", mask_img=run / "mask.nii")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mask_img": np.ones((3, 3, 3))}, "mask_img: the image is not on the expected grid"),
        ({"mask_img": np.zeros((30, 28, 5))}, "mask_img: the mask is empty"),
        ({"motion": np.eye(4)[None]}, "motion: .*expected \\(84, 4, 4\\)"),
        ({"boldref": "fine.nii"}, "boldref: the image is not on the expected grid"),
        ({"method": "srgan"}, "guide: the method srgan requires"),
        ({"method": "inject"}, "guide: the method inject requires"),
        ({"dummy_scans": 83}, "dummy_scans: expected a number from 0 to 82, got 83"),
        (
            {"bold": np.ones((3, 3, 3))},
            "bold: expected a file path or a nibabel.Nifti1Image, got ndarray",
        ),
        (
            {"bold": "boldref.nii"},
            r"bold: expected a series .* got a single volume of shape \(30, 28, 5\)",
        ),
        ({"bold": "nowhere.nii"}, "bold: the file .*nowhere.nii does not exist"),
        ({"motion": "nowhere.txt"}, "motion: the file nowhere.txt does not exist"),
        ({"factor": "2"}, "factor: expected one number or three numbers, .* got '2'"),
        ({"factor": True}, "factor: expected one number or three numbers, .* got True"),
        ({"factor": (2, "2", 1)}, "factor: expected one number or three numbers"),
        (
            {"mask_img": [np.ones((30, 28, 5))]},
            "mask_img: a list was passed, but there is only a single run",
        ),
        ({"bold": []}, "the list of runs is empty"),
    ],
)
def test_invalid_arguments_are_rejected_by_name(run, arguments, message):
    arguments = {
        key: run / value if str(value).endswith(".nii") else value
        for key, value in arguments.items()
    }
    parameters = {
        key: arguments.pop(key) for key in ("method", "dummy_scans", "factor") if key in arguments
    }
    with pytest.raises(ImageInputError, match=message):
        SuperResolver(**{"method": "bspline", **parameters}).fit(
            arguments.pop("bold", run / "bold.nii"), **arguments
        )


def test_a_series_with_nan_is_rejected():
    data = np.ones((6, 6, 3, 5), np.float32)
    data[2, 2, 1, 3] = np.nan
    with pytest.raises(ImageInputError, match="bold: volume 3 contains NaN"):
        SuperResolver("bspline").fit(nib.Nifti1Image(data, np.eye(4)))


def test_memory_does_not_grow_with_the_length_of_a_run(run, tmp_path):
    fitted = SuperResolver("bspline", realigned=True).fit(
        run / "bold.nii", mask_img=run / "mask.nii"
    )
    peaks = []
    bold, affine = load_image(run / "bold.nii")
    for count in (20, 80):
        save_image(bold[..., :count], affine, tmp_path / "some.nii", tr=2.0)
        tracemalloc.start()
        fitted.transform(tmp_path / "some.nii", out_file=tmp_path / "fine.nii")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


def test_transforms_can_be_a_file_or_an_array_of_fit_or_of_transform(run):
    poses, bold = read_itk(run / "hmc.txt"), run / "bold.nii"
    resolver = SuperResolver("bspline")
    from_file = resolver.fit_transform(bold, motion=run / "hmc.txt", boldref=run / "boldref.nii")
    from_array = resolver.fit_transform(bold, motion=poses, boldref=run / "boldref.nii")
    still = resolver.transform(bold, motion=np.repeat(np.eye(4)[None], COUNT, 0)).get_fdata()
    assert not np.allclose(still[..., -1], from_array.get_fdata()[..., -1])
    resolver.fit(bold, motion=np.repeat(np.eye(4)[None], COUNT, 0), boldref=run / "boldref.nii")
    later = resolver.transform(bold, motion=poses)
    for image in (from_array, later):
        np.testing.assert_array_equal(from_file.get_fdata(), image.get_fdata())


def test_a_missing_cuda_device_is_rejected(run, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ImageInputError, match="did not find a usable CUDA device"):
        SuperResolver("bspline", device="cuda").fit(run / "bold.nii")


def test_a_slice_axis_other_than_the_last_is_rejected(run):
    data, affine = load_image(run / "bold.nii")
    image = nib.Nifti1Image(data, affine)
    image.header.set_dim_info(slice=0)
    with pytest.raises(ImageInputError, match="the slice axis is axis 0"):
        SuperResolver("bspline", realigned=True).fit(image)


def test_verbose_prints_steps_and_the_default_prints_nothing(run, tmp_path, capsys):
    bold, affine = load_image(run / "bold.nii")
    save_image(bold[..., :30], affine, short := tmp_path / "short.nii", tr=2.0)
    resolver = SuperResolver("bspline").fit(short)
    resolver.transform(short)
    assert capsys.readouterr().out == ""
    resolver.set_params(verbose=1, method="sbl")
    with pytest.warns(SuperResolutionWarning, match="sbl was not applied"):  # too few volumes
        resolver.fit(short).transform(short)
    lines = capsys.readouterr().out.splitlines()
    for step in (
        "fit] 0 s: count dummies",
        "average volumes",
        "mask bold",
        "estimate motion",
        "estimate variance",
        "super resolve",
    ):
        assert any(step in line for line in lines), step
    assert all(line.startswith("[SuperResolver.") for line in lines)


def test_a_list_of_runs_gives_a_list_of_images(run, tmp_path):
    """Every run has its own boldref; arguments passed as lists have one element per run."""
    bold, affine = load_image(run / "bold.nii")
    save_image(1.1 * bold[..., :70] + 1, affine, tmp_path / "second.nii", tr=2.0)
    runs, motion = [run / "bold.nii", tmp_path / "second.nii"], read_itk(run / "hmc.txt")
    motions = [motion, motion[:70]]
    both = SuperResolver("bspline").fit(runs, mask_img=run / "mask.nii", motion=motions)
    assert [len(transforms) for transforms in both.motion_] == [84, 70]
    assert [resolver.applied_ for resolver in both.runs_] == both.applied_ == [True, True]
    files = [tmp_path / "one.nii", tmp_path / "two.nii"]
    images = both.transform(runs, out_file=files)
    for image, source, poses in zip(images, runs, motions, strict=True):
        single = SuperResolver("bspline").fit(source, mask_img=run / "mask.nii", motion=poses)
        np.testing.assert_array_equal(image.get_fdata(), single.transform(source).get_fdata())
        assert single.runs_ == []
    with pytest.raises(ImageInputError, match="Pass a list of 2"):
        both.transform(runs[0])
    with pytest.raises(
        ImageInputError, match="out_file: a single output file was passed for several runs"
    ):
        both.transform(runs, out_file=files[0])
    with pytest.raises(ImageInputError, match=r"motion: 1 value\(s\) were passed for 2 runs"):
        both.fit(runs, motion=motions[:1])
    assert (
        both.fit(runs[0], mask_img=run / "mask.nii", motion=motion).transform(runs[0]).shape[3]
        == 84
    )


def test_contrasts_that_alternate_are_refused_above_10_percent(run, tmp_path):
    values, affine = load_image(run / "bold.nii")
    values = np.array(values)
    values[..., 1::2] *= 0.6
    save_image(values, affine, tmp_path / "bold.nii", tr=2.0)
    resolver = SuperResolver("bspline", realigned=True)
    with pytest.raises(ImageInputError, match=r"40% darker.*odd and even"):
        resolver.fit(tmp_path / "bold.nii", mask_img=run / "mask.nii")
