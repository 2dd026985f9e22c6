"""Seeds as conditions: reading, model, and recovery of known connectivity."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, strategies as st

from bids_sr.config.seeds import parse_seed
from bids_sr.glm import seeds as glm_seeds
from bids_sr.glm.activation_maps import ActivationSettings, map_activation
from bids_sr.glm.block_effects import block_effects
from bids_sr.glm.blocks import TooFewBlocks, block_design
from bids_sr.glm.design import build_design
from bids_sr.glm.halves import half_weights
from bids_sr.glm.regressors import DesignError, Regressors, Seeds
from bids_sr.io.nifti import SeriesReader, save_image

SHAPE, T, TR = (6, 6, 4), 120, 2.0
AFFINE = np.diag([3.0, 3.0, 4.0, 1.0])
CONFOUNDS: tuple[str, ...] = ()


@pytest.fixture(scope="module")
def rest(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray, np.ndarray]:
    """Return a series, a label image and two signals.

    Each half of the slice follows one of the two slow signals.
    """
    rng = np.random.default_rng(3)
    kernel = np.hanning(9)
    signals = np.array([np.convolve(rng.normal(size=T + 8), kernel, "valid") for _ in range(2)])
    signals = (signals - signals.mean(axis=1, keepdims=True)) / signals.std(axis=1, keepdims=True)
    labels = np.zeros(SHAPE, dtype=int)
    labels[3:] = 1
    data = 1000 + 10 * signals[labels] + rng.normal(0, 5, (*SHAPE, T))
    data[..., :2] += 500  # not in the steady state
    path = tmp_path_factory.mktemp("rest") / "bold.nii"
    save_image(data.astype(np.float32), AFFINE, path, tr=TR)
    return path, labels, signals


def seeds_in(path: Path, folder: Path) -> Seeds:
    mask = np.ones(SHAPE, dtype=bool)
    with SeriesReader(path) as reader:
        voxels = {
            "left": glm_seeds.seed_voxels(mask, AFFINE, (0.0, 6.0, 4.0), 4.0),
            "right": glm_seeds.seed_voxels(mask, AFFINE, (15.0, 6.0, 4.0), 4.0),
        }
        table = glm_seeds.seed_series(reader, voxels, n_dummy=2)
    Seeds(table).write(folder / "sub-01_desc-seeds_timeseries.tsv")
    loaded = Regressors.__metadata__[0].load(folder / "sub-01_desc-seeds_timeseries.tsv")  # type: ignore[attr-defined]
    assert isinstance(loaded, Seeds)
    return loaded


def test_the_time_series_of_a_seed_follows_its_voxels(rest: tuple, tmp_path: Path) -> None:
    seeds = seeds_in(rest[0], tmp_path)
    assert seeds.conditions == ["left", "right"]
    table = seeds.table
    assert table.iloc[:2].isna().all(axis=None)
    assert np.corrcoef(table["left"][2:], rest[2][0][2:])[0, 1] > 0.95
    assert table["left"].std(ddof=0) == pytest.approx(1.0)


def test_a_seed_of_3_mm_has_all_voxels_within_3_mm_of_its_center() -> None:
    seed = parse_seed("hand=-38,-26,58,3")
    corner = np.array([-48.0, -36.0, 48.0])
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    affine[:3, 3] = corner
    voxels = glm_seeds.seed_voxels(
        np.ones((20, 20, 20), dtype=bool), affine, seed.center, seed.radius_mm
    )
    distances = np.linalg.norm(np.argwhere(voxels) + corner - (-38, -26, 58), axis=1)
    assert distances.max() == 3
    assert voxels.sum() == 123, "lattice points within a sphere of radius 3"


def test_known_connectivity_is_recovered(rest: tuple, tmp_path: Path) -> None:
    path, labels, _ = rest
    table, mask = seeds_in(path, tmp_path), np.ones(SHAPE, dtype=bool)
    design = build_design(table, n_volumes=T, tr=TR, n_dummy=2, confound_names=CONFOUNDS)
    with SeriesReader(path) as reader:
        maps = map_activation(
            reader,
            mask,
            {0.0: design},
            {"left": {"left": 1.0}},
            ActivationSettings(),
            scratch=tmp_path,
        )[0.0].maps
    assert maps["left", "cc"][labels == 0].min() > 0.7
    assert np.abs(maps["left", "cc"][labels == 1]).max() < 0.5
    assert maps["left", "effect"][labels == 0].mean() == pytest.approx(10, rel=0.1)
    assert np.abs(maps["left", "effect"][labels == 1].mean()) < 1


def test_confounds_can_be_regressed_out_of_the_correlated_time_series(
    rest: tuple, tmp_path: Path
) -> None:
    path, labels, _ = rest
    table, mask = seeds_in(path, tmp_path), np.ones(SHAPE, dtype=bool)
    rng = np.random.default_rng(0)
    noise = pd.DataFrame({"csf": rng.normal(size=T)})
    confounded = tmp_path / "loaded.nii"
    with SeriesReader(path) as reader:
        data = np.stack(list(reader.volumes()), axis=-1) + 40 * noise["csf"].to_numpy()
    save_image(data.astype(np.float32), AFFINE, confounded, tr=TR)

    design = build_design(
        table, n_volumes=T, tr=TR, n_dummy=2, confounds=noise, confound_names=("csf",)
    )

    def correlation(file: Path, **options: object) -> np.ndarray:
        settings = ActivationSettings(kinds=("cc",), **options)
        with SeriesReader(file) as reader:
            (activation,) = map_activation(
                reader, mask, {0.0: design}, {"left": {"left": 1.0}}, settings, scratch=tmp_path
            ).values()
        return activation.maps["left", "cc"]

    clean = correlation(path, correlation_confounds=True)
    assert clean[labels == 0].min() > 0.7
    np.testing.assert_allclose(
        correlation(confounded, correlation_confounds=True), clean, atol=1e-3
    )
    assert correlation(confounded)[labels == 0].max() < 0.5


def test_segments_give_the_effect_of_the_run_and_two_halves(rest: tuple, tmp_path: Path) -> None:
    path, labels, _ = rest
    table, mask = seeds_in(path, tmp_path), np.ones(SHAPE, dtype=bool)
    blocks = block_design(table, n_volumes=T, tr=TR, n_dummy=2, confound_names=CONFOUNDS)
    assert len(blocks.blocks) == 2 * glm_seeds.segment_count(T - 2, 2, TR)
    with SeriesReader(path) as reader:
        effects = block_effects(reader, mask, blocks, series="acquired")
    weights = half_weights(effects.blocks, {"left": 1.0}, effects.leak)
    assert weights is not None
    for half in weights:
        effect = effects.betas @ half.astype(np.float32)
        assert effect[labels == 0].mean() == pytest.approx(10, rel=0.15)
        assert np.abs(effect[labels == 1].mean()) < 2


def test_a_run_too_short_for_halves_has_no_segments() -> None:
    assert glm_seeds.segment_count(30, 3, 2.0) == 0
    assert glm_seeds.segment_count(300, 3, 2.0) == 20
    assert glm_seeds.segment_count(150, 3, 2.0) == 10
    assert glm_seeds.segment_count(50, 3, 2.0) == 4
    assert glm_seeds.segment_count(50, 5, 2.0) == 0
    # at least 90 s, 40 volumes and 12 volumes per seed
    assert [glm_seeds.segment_count(n, 1, 2.0) for n in (44, 45)] == [0, 4]
    assert [glm_seeds.segment_count(n, 1, 4.0) for n in (39, 40)] == [0, 4]
    assert [glm_seeds.segment_count(n, 4, 4.0) for n in (47, 48)] == [0, 4]
    with pytest.raises(TooFewBlocks, match="too short"):
        block_design(
            Seeds(pd.DataFrame({"a": np.arange(20.0)})), n_volumes=20, tr=2.0, confound_names=()
        )
    assert Seeds(pd.DataFrame({"a": np.zeros(20)})).segments(2.0, 0) == []


@given(
    n=st.integers(40, 400),
    n_dummy=st.integers(0, 6),
    n_seeds=st.integers(1, 4),
    tr=st.floats(0.5, 4.0),
)
def test_segments_cover_every_steady_state_volume_once(
    n: int, n_dummy: int, n_seeds: int, tr: float
) -> None:
    table = pd.DataFrame({f"s{k}": np.ones(n) for k in range(n_seeds)})
    covered = np.zeros(n, dtype=int)
    segments = Seeds(table).segments(tr, n_dummy)
    for name, (start, length) in segments:
        if name == "s0":
            covered[round(start / tr) : round((start + length) / tr)] += 1
    assert (covered == (np.arange(n) >= n_dummy) * bool(segments)).all()


def test_seeds_of_another_length_are_rejected() -> None:
    table = pd.DataFrame({"a": np.sin(np.arange(40.0))})
    with pytest.raises(DesignError, match=r"40 .*50"):
        build_design(Seeds(table), n_volumes=50, tr=2.0, confound_names=())


def test_a_seed_outside_the_brain_is_rejected() -> None:
    mask = np.zeros(SHAPE, dtype=bool)
    mask[0, 0, 0] = True
    assert glm_seeds.seed_voxels(mask, AFFINE, (1.0, 1.0, 1.0), 0.5).sum() == 1
    with pytest.raises(ValueError, match=r"5.83 mm"):
        glm_seeds.seed_voxels(mask, AFFINE, (15.0, 15.0, 12.0), 4.0)


def test_regressing_nuisance_out_of_a_seed_keeps_its_own_fluctuation() -> None:
    rng = np.random.default_rng(0)
    drift = np.column_stack([np.ones(60), np.linspace(-1, 1, 60)])
    fluctuation = rng.normal(size=60)
    fluctuation -= drift @ np.linalg.lstsq(drift, fluctuation, rcond=None)[0]
    table = pd.DataFrame(
        {"a": np.r_[[np.nan] * 3, 100 + 40 * np.linspace(-1, 1, 60) + fluctuation]}
    )
    cleaned = glm_seeds.regress_out(table, drift, 3)["a"]
    assert cleaned[:3].isna().all()
    assert cleaned[3:].to_numpy() == pytest.approx(fluctuation, abs=1e-9)
    assert table["a"][62] > 100  # the input is unchanged
