"""Combine effect maps of several runs: closed forms, nilearn's fixed effects, and every error."""

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from bids_sr import SuperResolver, combine_runs
from bids_sr.api.image_inputs import ImageInputError
from bids_sr.group.combination.run_combination import widen_error

SHAPE = (6, 5, 4)
RNG = np.random.default_rng(5)


def image(values: Any, affine: np.ndarray | None = None) -> nib.Nifti1Image:
    data = np.broadcast_to(np.asarray(values, np.float32), SHAPE).copy()
    return nib.Nifti1Image(data, np.eye(4) if affine is None else affine)


EFFECTS = [image(RNG.normal(2, 1, SHAPE)) for _ in range(3)]
VARIANCES = [image(RNG.uniform(0.5, 3, SHAPE)) for _ in range(3)]


def array(map_image: nib.Nifti1Image) -> np.ndarray:
    return np.asarray(map_image.get_fdata())


@pytest.mark.parametrize("precision", [False, True])
def test_combined_runs_equal_the_fixed_effects_of_nilearn(precision: bool) -> None:
    from nilearn.glm.contrasts import compute_fixed_effects

    mask = image(1)
    expected = compute_fixed_effects(EFFECTS, VARIANCES, mask, precision_weighted=precision)
    if isinstance(expected, dict):
        expected = [expected[name] for name in ("effect", "variance", "stat", "z_score")]
    combined = combine_runs(EFFECTS, VARIANCES, weights="precision" if precision else "equal")
    for combined_map, nilearn_map in zip(
        (combined.effect, combined.variance, combined.t, combined.z), expected, strict=False
    ):
        nilearn_values = array(nilearn_map).reshape(SHAPE)
        assert np.abs(array(combined_map) - nilearn_values).max() < 1e-4 * np.ptp(nilearn_values)


@pytest.mark.parametrize(
    ("fwhm_mm", "calibrated", "shared"), [(0, False, 0.75), (5, False, 0.8), (0, True, 1.0)]
)
def test_reconstruction_error_averages_out_only_as_far_as_it_is_independent(
    fwhm_mm: float, calibrated: bool, shared: float
) -> None:
    combined = combine_runs(
        EFFECTS, VARIANCES, sds=[image(2)] * 3, smoothing_fwhm=fwhm_mm, calibrated=calibrated
    )
    assert combined.shared_error == pytest.approx(shared)
    assert combined.sd is not None
    variance = widen_error(fwhm_mm, n_runs=3) ** 2 * ((1 - shared) * 4 / 3 + shared * 4)
    assert array(combined.sd) ** 2 == pytest.approx(variance, rel=1e-5)
    assert combined.person_sd is not None


def test_maps_can_be_nilearn_dictionaries_images_or_paths(tmp_path: Path) -> None:
    maps = [
        {"effect_size": effect, "effect_variance": variance, "z_score": effect}
        for effect, variance in zip(EFFECTS, VARIANCES, strict=True)
    ]
    from_images = combine_runs(EFFECTS, VARIANCES, weights=[2, 1, 1], names=["a", "b", "c"])
    assert from_images.weights == {"a": 0.5, "b": 0.25, "c": 0.25}
    nib.save(EFFECTS[0], tmp_path / "effect.nii.gz")
    from_paths = combine_runs(
        [tmp_path / "effect.nii.gz", *EFFECTS[1:]], VARIANCES, weights=[2, 1, 1]
    )
    from_dictionaries = combine_runs(maps, weights=[2, 1, 1])
    for combined in (from_paths, from_dictionaries):
        assert array(combined.z) == pytest.approx(array(from_images.z), abs=1e-5)
    assert not np.allclose(array(from_images.effect), array(combine_runs(maps).effect))


def test_runs_without_a_map_or_a_positive_variance_are_skipped_with_a_reason() -> None:
    combined = combine_runs(
        [EFFECTS[0], None, EFFECTS[1], EFFECTS[2]],
        [VARIANCES[0], None, image(0), VARIANCES[2]],
        names=["first", "second", "third", "fourth"],
    )
    assert list(combined.left_out) == ["second", "third"]
    assert len(set(combined.left_out.values())) == 2
    assert combined.weights == {"first": 0.5, "fourth": 0.5}
    assert array(combined.effect) == pytest.approx((array(EFFECTS[0]) + array(EFFECTS[2])) / 2)
    assert combined.person_sd is None


def test_voxels_outside_the_mask_or_not_finite_are_0() -> None:
    values = array(EFFECTS[0]).copy()
    values[0, 0, 0] = np.nan
    mask = np.ones(SHAPE, bool)
    mask[1] = False
    combined = combine_runs([image(values), EFFECTS[1]], VARIANCES[:2], mask_img=mask)
    assert array(combined.effect)[0, 0, 0] == 0
    assert (array(combined.t)[1] == 0).all()
    assert (array(combined.t)[mask][1:] != 0).all()


def fitted(applied: bool, **facts: object) -> SuperResolver:
    run = SuperResolver()
    run.runs_, run.boldref_, run.applied_ = [], None, applied
    run.facts_ = dict(facts)
    return run


def test_zero_filled_runs_are_listed_and_calibration_raises_the_shared_error() -> None:
    sds = [image(2), None, image(2)]
    several = fitted(True)
    several.runs_ = [fitted(True), fitted(False), fitted(True)]
    combined = combine_runs(EFFECTS, VARIANCES, sds=sds, resolver=several)
    assert (combined.not_applied, combined.sd, combined.shared_error) == (("run-2",), None, 0.75)
    calibrated = [fitted(True), fitted(True, calibration={"usable": True}), fitted(True)]
    assert combine_runs(EFFECTS, VARIANCES, resolver=calibrated).shared_error == 1


def write_maps(folder: Path, units: dict[str, str]) -> list[list[Path]]:
    """Write effect, variance and SD of two runs with a shared sidecar per run."""
    stats = {"effect": EFFECTS, "variance": VARIANCES, "sd": [image(2)] * 3}
    paths: dict[str, list[Path]] = {stat: [] for stat in stats}
    for number, (run, unit) in enumerate(units.items()):
        squared = f"{unit}^2" if unit == "percent" else unit
        entries = {stat: {"Units": squared if stat == "variance" else unit} for stat in stats}
        (folder / f"sub-01_{run}_desc-sbl_statmap.json").write_text(
            json.dumps({"Statistics": entries})
        )
        for stat, images in stats.items():
            name = f"sub-01_{run}_contrast-thumb_stat-{stat}_desc-sbl_statmap.nii.gz"
            nib.save(images[number], folder / name)
            paths[stat].append(folder / name)
    return list(paths.values())


def test_maps_in_mixed_units_are_refused_by_name(tmp_path: Path) -> None:
    """Maps of an earlier version are in signal units; images in memory have no unit."""
    effects, variances, sds = write_maps(tmp_path, {"run-1": "percent", "run-2": "percent"})
    combined = combine_runs(effects, variances, sds=sds)
    expected = combine_runs(EFFECTS[:2], VARIANCES[:2], sds=[image(2)] * 2)
    np.testing.assert_array_equal(array(combined.effect), array(expected.effect))
    (old := tmp_path / "old").mkdir()
    mixed = write_maps(old, {"run-1": "percent", "run-2": "arbitrary"})
    with pytest.raises(ImageInputError, match=r"run-1.* percent.*run-2.* arbitrary"):
        combine_runs(mixed[0], mixed[1])
    with pytest.raises(ImageInputError, match=r"sds: .*run-2_contrast-thumb_stat-sd"):
        combine_runs(effects, variances, sds=mixed[2])


OTHER_AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
ODD_SHAPE = nib.Nifti1Image(np.ones((3, 3, 3), "f4"), np.eye(4))
SERIES = nib.Nifti1Image(np.ones((*SHAPE, 2), "f4"), np.eye(4))
DISJOINT = [image([[[1, 1, 0, 0]]]), image([[[0, 0, 1, 1]]]), image(1)]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"effects": EFFECTS[:1], "variances": VARIANCES[:1]}, "effects: 1 run"),
        ({"variances": VARIANCES[:2]}, r"variances: 2 .* 3 runs"),
        ({"weights": [1, 2]}, r"weights: 2 .* 3 runs"),
        ({"weights": "inverse"}, "weights: .*'precision'"),
        ({"weights": [1, -1, 1]}, "weight of run 2"),
        ({"weights": [0, 0, 0]}, "weights are 0"),
        ({"smoothing_fwhm": -5.0}, "smoothing_fwhm: -5 mm"),
        ({"dofs": [10, 0, 10]}, "run 2 has 0"),
        ({"names": ["a", "a", "b"]}, "names: a, a, b"),
        ({"variances": None}, "variances: run 1"),
        ({"effects": [{"effect_size": EFFECTS[0]}, *EFFECTS[1:]]}, "run 1 .*effect_variance"),
        ({"effects": [EFFECTS[0], None, None]}, "1 of 3 runs .* run-2"),
        ({"effects": [*EFFECTS[:2], ODD_SHAPE]}, r"run-3: .* \(3, 3, 3\); expected \(6, 5, 4\)"),
        ({"variances": [*VARIANCES[:2], image(1, OTHER_AFFINE)]}, "run-3: .* affine"),
        ({"effects": [SERIES, *EFFECTS[1:]]}, r"effects_1: .*\(6, 5, 4, 2\)"),
        ({"mask_img": np.zeros(SHAPE)}, "mask_img"),
        ({"variances": DISJOINT}, "run-1, run-2, run-3"),
        ({"resolver": fitted(True)}, r"1 run\(s\), but 3 effect maps"),
    ],
)
def test_invalid_arguments_are_rejected_by_name(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ImageInputError, match=words):
        combine_runs(**{"effects": EFFECTS, "variances": VARIANCES, **arguments})
