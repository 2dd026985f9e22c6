"""Effect maps of runs as one map: closed forms, nilearn's fixed effects, and every error."""

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from bids_sr import SuperResolver, combine_runs
from bids_sr.api.image_inputs import ImageInputError

SHAPE = (6, 5, 4)
RNG = np.random.default_rng(5)


def image(values: Any, affine: np.ndarray | None = None) -> nib.Nifti1Image:
    data = np.broadcast_to(np.asarray(values, np.float32), SHAPE).copy()
    return nib.Nifti1Image(data, np.eye(4) if affine is None else affine)


EFFECTS = [image(RNG.normal(2, 1, SHAPE)) for _ in range(3)]
VARIANCES = [image(RNG.uniform(0.5, 3, SHAPE)) for _ in range(3)]


def array(made: nib.Nifti1Image) -> np.ndarray:
    return np.asarray(made.get_fdata())


@pytest.mark.parametrize("precision", [False, True])
def test_runs_are_combined_as_by_nilearn(precision: bool) -> None:
    from nilearn.glm.contrasts import compute_fixed_effects

    mask = image(1)
    expected = compute_fixed_effects(EFFECTS, VARIANCES, mask, precision_weighted=precision)
    if isinstance(expected, dict):
        expected = [expected[name] for name in ("effect", "variance", "stat", "z_score")]
    made = combine_runs(EFFECTS, VARIANCES, weights="precision" if precision else "equal")
    for own, reference in zip(
        (made.effect, made.variance, made.t, made.z), expected, strict=False
    ):
        wanted = array(reference).reshape(SHAPE)
        assert np.abs(array(own) - wanted).max() < 1e-4 * np.ptp(wanted)


@pytest.mark.parametrize(
    ("fwhm_mm", "calibrated", "shared"), [(0, False, 0.75), (5, False, 0.8), (0, True, 1.0)]
)
def test_reconstruction_error_averages_out_only_in_part(
    fwhm_mm: float, calibrated: bool, shared: float
) -> None:
    made = combine_runs(
        EFFECTS, VARIANCES, sds=[image(2)] * 3, fwhm_mm=fwhm_mm, calibrated=calibrated
    )
    assert made.shared_error == pytest.approx(shared)
    assert made.sd is not None
    assert array(made.sd) ** 2 == pytest.approx((1 - shared) * 4 / 3 + shared * 4, rel=1e-5)
    assert made.person_sd is not None


def test_maps_of_nilearn_and_paths_are_taken(tmp_path: Path) -> None:
    maps = [
        {"effect_size": effect, "effect_variance": variance, "z_score": effect}
        for effect, variance in zip(EFFECTS, VARIANCES, strict=True)
    ]
    plain = combine_runs(EFFECTS, VARIANCES, weights=[2, 1, 1], names=["a", "b", "c"])
    assert plain.weights == {"a": 0.5, "b": 0.25, "c": 0.25}
    nib.save(EFFECTS[0], tmp_path / "effect.nii.gz")
    paths = combine_runs([tmp_path / "effect.nii.gz", *EFFECTS[1:]], VARIANCES, weights=[2, 1, 1])
    by_mapping = combine_runs(maps, weights=[2, 1, 1])
    for other in (paths, by_mapping):
        assert array(other.z) == pytest.approx(array(plain.z), abs=1e-5)
    assert not np.allclose(array(plain.effect), array(combine_runs(maps).effect))


def test_runs_without_a_map_or_variance_are_left_out_by_name() -> None:
    made = combine_runs(
        [EFFECTS[0], None, EFFECTS[1], EFFECTS[2]],
        [VARIANCES[0], None, image(0), VARIANCES[2]],
        names=["first", "second", "third", "fourth"],
    )
    assert made.left_out == {
        "second": "no effect map was passed",
        "third": "the variance is not positive in any voxel",
    }
    assert made.weights == {"first": 0.5, "fourth": 0.5}
    assert array(made.effect) == pytest.approx((array(EFFECTS[0]) + array(EFFECTS[2])) / 2)
    assert made.person_sd is None


def test_voxels_outside_the_mask_or_not_finite_are_0() -> None:
    values = array(EFFECTS[0]).copy()
    values[0, 0, 0] = np.nan
    mask = np.ones(SHAPE, bool)
    mask[1] = False
    made = combine_runs([image(values), EFFECTS[1]], VARIANCES[:2], mask=mask)
    assert array(made.effect)[0, 0, 0] == 0
    assert (array(made.t)[1] == 0).all()
    assert (array(made.t)[mask][1:] != 0).all()


def fitted(applied: bool, **facts: object) -> SuperResolver:
    run = SuperResolver()
    run.runs_, run.boldref_, run.applied_ = [], None, applied
    run.facts_ = dict(facts)
    return run


def test_runs_that_are_zero_filled_are_named_and_calibrations_count() -> None:
    sds = [image(2), None, image(2)]
    several = fitted(True)
    several.runs_ = [fitted(True), fitted(False), fitted(True)]
    made = combine_runs(EFFECTS, VARIANCES, sds=sds, resolver=several)
    assert (made.not_applied, made.sd, made.shared_error) == (("run-2",), None, 0.75)
    calibrated = [fitted(True), fitted(True, calibration={"usable": True}), fitted(True)]
    assert combine_runs(EFFECTS, VARIANCES, resolver=calibrated).shared_error == 1


OTHER = np.diag([2.0, 2.0, 2.0, 1.0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"effects": EFFECTS[:1], "variances": VARIANCES[:1]}, "effects: 1 run was passed"),
        ({"variances": VARIANCES[:2]}, r"variances: 2 value\(s\) were passed for 3 runs"),
        ({"weights": [1, 2]}, r"weights: 2 value\(s\) were passed for 3 runs"),
        ({"weights": "inverse"}, "weights: expected 'equal', 'precision' or one number"),
        ({"weights": [1, -1, 1]}, "a weight of run 2 is negative"),
        ({"weights": [-1, -1, -1]}, "a weight of run 1 is negative"),
        ({"weights": [0, 0, 0]}, "all weights are 0"),
        ({"fwhm_mm": -5.0}, "fwhm_mm: -5 mm; expected 0 or more"),
        ({"dofs": [10, 0, 10]}, "run 2 has 0 degrees of freedom"),
        ({"names": ["a", "a", "b"]}, "names: a, a, b are not unique"),
        ({"variances": None}, "variances: run 1 has an effect map, but no variance map"),
        (
            {"effects": [{"effect_size": EFFECTS[0]}, *EFFECTS[1:]]},
            "maps of run 1 do not contain effect_variance",
        ),
        (
            {"effects": [EFFECTS[0], None, None]},
            "1 of 3 runs can be combined; expected at least two. .* run-2: no effect map",
        ),
        (
            {"effects": [*EFFECTS[:2], nib.Nifti1Image(np.ones((3, 3, 3), "f4"), np.eye(4))]},
            r"effects: the image of run-3 is not on the grid .* \(3, 3, 3\); expected \(6, 5, 4\)",
        ),
        (
            {"variances": [*VARIANCES[:2], image(1, OTHER)]},
            "variances: the image of run-3 is not on the grid .* affine differs",
        ),
        (
            {"effects": [nib.Nifti1Image(np.ones((*SHAPE, 2), "f4"), np.eye(4)), *EFFECTS[1:]]},
            r"effects_1: expected one map, got a series of shape \(6, 5, 4, 2\)",
        ),
        ({"mask": np.zeros(SHAPE)}, "mask: the mask is empty"),
        (
            {"variances": [image([[[1, 1, 0, 0]]]), image([[[0, 0, 1, 1]]]), image(1)]},
            "no voxel has a positive variance in all of run-1, run-2, run-3",
        ),
        ({"resolver": fitted(True)}, r"fitted on 1 run\(s\), but 3 effect maps were passed"),
    ],
)
def test_what_cannot_be_combined_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ImageInputError, match=message):
        combine_runs(**{"effects": EFFECTS, "variances": VARIANCES, **arguments})
