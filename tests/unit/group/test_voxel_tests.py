"""Voxelwise tests updated by participant, compared with scipy and nilearn's second level."""

import numpy as np
import pytest
from scipy import stats

from bids_sr.group.voxel_tests import RunningSums, correct_by_sign_flips

RNG = np.random.default_rng(5)


def accumulate(values: np.ndarray, first: int = 0) -> RunningSums:
    sums = RunningSums.empty(values.shape[1])
    for number, row in enumerate(values, start=first):
        sums.add(row, f"sub-{number}")
    return sums


def test_running_sums_equal_a_t_test() -> None:
    values = RNG.normal(0.5, 1, (6, 200)) + 1000
    expected = stats.ttest_1samp(values, 0)
    maps = accumulate(values).statistics()
    assert maps["effect"] == pytest.approx(values.mean(axis=0), rel=1e-6)
    assert maps["t"] == pytest.approx(expected.statistic, rel=1e-5)
    centered = accumulate(values - 1000).statistics()
    t = stats.ttest_1samp(values - 1000, 0).statistic
    assert centered["z"] == pytest.approx(stats.norm.isf(stats.t.sf(t, 5)), rel=1e-4, abs=1e-5)


def test_running_sums_equal_the_second_level_model_of_nilearn() -> None:
    import nibabel as nib
    import pandas as pd
    from nilearn.glm.second_level import SecondLevelModel

    values = RNG.normal(0.5, 1, (6, 60)).astype(np.float32)
    values[:, 3] = 0
    values[:, 4] *= 1e3
    images = [nib.Nifti1Image(row.reshape(3, 4, 5), np.eye(4)) for row in values]
    model = SecondLevelModel(
        mask_img=nib.Nifti1Image(np.ones((3, 4, 5), dtype=np.uint8), np.eye(4))
    )
    model.fit(images, design_matrix=pd.DataFrame({"intercept": np.ones(6)}))
    expected = model.compute_contrast("intercept", output_type="all")
    maps = accumulate(values).statistics()
    for name, nilearn_name in (("effect", "effect_size"), ("t", "stat"), ("z", "z_score")):
        assert maps[name] == pytest.approx(
            np.asarray(expected[nilearn_name].dataobj).ravel(), rel=1e-4, abs=1e-4
        )


def test_joined_parts_equal_a_single_sum() -> None:
    values = RNG.normal(3, 1, (7, 40))
    single, joined = accumulate(values), accumulate(values[:3])
    joined.join(accumulate(values[3:], 3))
    joined.join(RunningSums.empty(40))
    assert joined.participants == single.participants
    assert joined.mean == pytest.approx(single.mean, rel=1e-12)
    assert joined.squared_deviations == pytest.approx(single.squared_deviations, rel=1e-10)


def test_sums_can_be_restricted_to_some_voxels() -> None:
    values = RNG.normal(0, 1, (5, 30))
    restrict = values[0] > 0
    sums = accumulate(values[:2])
    sums.restrict(restrict)
    for row in values[2:]:
        sums.add(row[restrict], "x")
    assert sums.statistics()["t"] == pytest.approx(
        accumulate(values).statistics()["t"][restrict], rel=1e-6
    )


def test_constant_voxels_have_t_and_z_0() -> None:
    maps = accumulate(np.full((4, 2), [[0.0, 5.0]])).statistics()
    assert maps["t"].tolist() == maps["z"].tolist() == [0, 0]
    assert maps["effect"].tolist() == [0, 5]


def test_a_single_participant_is_rejected() -> None:
    with pytest.raises(ValueError, match="2 participants, got 1"):
        accumulate(np.ones((1, 3))).statistics()


def simulate_activation(seed: int, effect: float) -> np.ndarray:
    """Return maps of twelve participants, 400 voxels, whose first five have an effect."""
    values = np.random.default_rng(seed).normal(0, 1, (12, 400)).astype(np.float32)
    values[:, :5] += effect
    return values


def test_sign_flips_detect_activation_of_either_sign() -> None:
    for sign in (1, -1):
        logp, t = correct_by_sign_flips(simulate_activation(3, sign * 3.0), 199, seed=1)
        significant = 10.0**-logp <= 0.05 + 1e-6
        assert np.flatnonzero(significant).tolist() == [0, 1, 2, 3, 4]
        expected = stats.ttest_1samp(simulate_activation(3, sign * 3.0), 0).statistic
        assert (significant == (np.abs(expected) > t)).all()
        assert logp.max() == pytest.approx(np.log10(200))


def test_sign_flips_keep_the_false_positive_rate() -> None:
    """More than six of 40 samples at .05 have a probability of .3 %."""
    n_false = sum(
        bool(
            (
                10.0 ** -correct_by_sign_flips(simulate_activation(n, 0.0), 99, seed=n)[0]
                <= 0.05 + 1e-6
            ).any()
        )
        for n in range(40)
    )
    assert n_false <= 6


def test_the_smallest_p_value_depends_on_participants_and_flips() -> None:
    """Opposite signs have the same abs(t): 2^(n-1) flips differ."""
    for n, smallest in ((5, 1 / 16), (6, 1 / 32)):
        logp, _ = correct_by_sign_flips(simulate_activation(1, 30.0)[:n], 2000, seed=2)
        assert 10.0 ** -logp.max() == pytest.approx(smallest, rel=0.2)
        assert (logp > -np.log10(0.05)).any() == (n == 6)
    assert correct_by_sign_flips(simulate_activation(1, 30.0), 10, seed=2)[1] == np.inf


def test_constant_voxels_have_a_corrected_p_of_1() -> None:
    values = simulate_activation(1, 3.0)
    values[:, 7], values[:, 8] = 0, 2
    assert correct_by_sign_flips(values, 50, seed=0)[0][7:9].tolist() == [0, 0]
