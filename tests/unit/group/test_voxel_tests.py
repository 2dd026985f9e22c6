"""Tests of many voxels, participant by participant, against scipy and against nilearn's
second-level model.
"""

import numpy as np
import pytest
from scipy import stats

from bids_sr.group.voxel_tests import Running, flipped

RNG = np.random.default_rng(5)


def added(values: np.ndarray, first: int = 0) -> Running:
    sums = Running.of(values.shape[1])
    for number, row in enumerate(values, start=first):
        sums.add(row, f"sub-{number}")
    return sums


def test_it_is_a_t_test() -> None:
    values = RNG.normal(0.5, 1, (6, 200)) + 1000
    expected = stats.ttest_1samp(values, 0)
    found = added(values).tested()
    assert found["effect"] == pytest.approx(values.mean(axis=0), rel=1e-6)
    assert found["t"] == pytest.approx(expected.statistic, rel=1e-5)
    small = added(values - 1000).tested()
    t = stats.ttest_1samp(values - 1000, 0).statistic
    assert small["z"] == pytest.approx(stats.norm.isf(stats.t.sf(t, 5)), rel=1e-4, abs=1e-5)


def test_it_is_what_nilearn_computes() -> None:
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
    found = added(values).tested()
    for own, theirs in (("effect", "effect_size"), ("t", "stat"), ("z", "z_score")):
        assert found[own] == pytest.approx(
            np.asarray(expected[theirs].dataobj).ravel(), rel=1e-4, abs=1e-4
        )


def test_parts_join_to_the_whole() -> None:
    values = RNG.normal(3, 1, (7, 40))
    whole, joined = added(values), added(values[:3])
    joined.join(added(values[3:], 3))
    joined.join(Running.of(40))
    assert joined.people == whole.people
    assert joined.mean == pytest.approx(whole.mean, rel=1e-12)
    assert joined.squares == pytest.approx(whole.squares, rel=1e-10)


def test_voxels_can_be_left_behind() -> None:
    values = RNG.normal(0, 1, (5, 30))
    keep = values[0] > 0
    sums = added(values[:2])
    sums.keep(keep)
    for row in values[2:]:
        sums.add(row[keep], "x")
    assert sums.tested()["t"] == pytest.approx(added(values).tested()["t"][keep], rel=1e-6)


def test_what_does_not_vary_is_no_finding() -> None:
    found = added(np.full((4, 2), [[0.0, 5.0]])).tested()
    assert found["t"].tolist() == found["z"].tolist() == [0, 0]
    assert found["effect"].tolist() == [0, 5]


def test_one_is_no_group() -> None:
    with pytest.raises(ValueError, match="2 participants, got 1"):
        added(np.ones((1, 3))).tested()


def planted(seed: int, effect: float) -> np.ndarray:
    """Twelve participants, 400 voxels, of which the first five have an effect."""
    values = np.random.default_rng(seed).normal(0, 1, (12, 400)).astype(np.float32)
    values[:, :5] += effect
    return values


def test_a_planted_activation_of_either_sign_passes_the_largest_of_sign_flips() -> None:
    for sign in (1, -1):
        logp, t = flipped(planted(3, sign * 3.0), 199, seed=1)
        passed = 10.0**-logp <= 0.05 + 1e-6
        assert np.flatnonzero(passed).tolist() == [0, 1, 2, 3, 4]
        own = stats.ttest_1samp(planted(3, sign * 3.0), 0).statistic
        assert (passed == (np.abs(own) > t)).all()
        assert logp.max() == pytest.approx(np.log10(200))


def test_noise_passes_in_one_of_twenty() -> None:
    """40 draws at .05: more than six have a probability of .3 %."""
    wrong = sum(
        bool((10.0 ** -flipped(planted(n, 0.0), 99, seed=n)[0] <= 0.05 + 1e-6).any())
        for n in range(40)
    )
    assert wrong <= 6


def test_few_participants_or_flips_have_a_smallest_p() -> None:
    """All signs the other way give the same abs(t): 2^(n-1) flips differ."""
    for n, least in ((5, 1 / 16), (6, 1 / 32)):
        logp, _ = flipped(planted(1, 30.0)[:n], 2000, seed=2)
        assert 10.0 ** -logp.max() == pytest.approx(least, rel=0.2)
        assert (logp > -np.log10(0.05)).any() == (n == 6)
    assert flipped(planted(1, 30.0), 10, seed=2)[1] == np.inf


def test_what_does_not_vary_is_corrected_to_one() -> None:
    values = planted(1, 3.0)
    values[:, 7], values[:, 8] = 0, 2
    assert flipped(values, 50, seed=0)[0][7:9].tolist() == [0, 0]
