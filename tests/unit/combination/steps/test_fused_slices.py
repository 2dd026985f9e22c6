"""Test the fusion of a participant's runs across displaced slices, and the stored results."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from bids_sr.combination import slice_fusion
from bids_sr.combination.steps import fused_slices
from bids_sr.glm.block_effects import Effects, save_effects
from bids_sr.glm.blocks import TaskBlock
from bids_sr.io.arrays import Array, Float
from bids_sr.io.nifti import SeriesReader, SeriesWriter
from bids_sr.io.volume import Volume
from bids_sr.pipeline.artifacts import Derivative

N_THICK, N_THIN = 10, 20
SHAPE = (14, 14, N_THIN)
AFFINE = np.diag([3.0, 3.0, 6.0, 1.0])
POSITIONS = np.broadcast_to(slice_fusion.compute_slice_positions(N_THICK), (*SHAPE[:2], N_THICK))
SHIFT = 0.8  # thin slices, displacement of the second run


@pytest.fixture(scope="module")
def thick_sd() -> Float:
    """Return standard deviations over time in thick slices."""
    return np.exp(np.random.default_rng(0).normal(0, 0.7, (*SHAPE[:2], N_THICK)))


@pytest.fixture(scope="module")
def effect(thick_sd: Float) -> Float:
    """Draw an effect in thin slices from the prior."""
    root = np.linalg.cholesky(slice_fusion.slice_correlation(N_THIN) + 1e-9 * np.eye(N_THIN))
    correlated_noise = np.random.default_rng(1).normal(size=SHAPE) @ root.T
    return 10 * slice_fusion.thin_prior_sd(thick_sd) * correlated_noise


def brain() -> Volume:
    """Return the brain mask on the grid of thick slices."""
    return Volume(np.ones((*SHAPE[:2], N_THICK), dtype=bool), AFFINE)


def effects_file(folder: Path, effect: Array, shift: float, seed: int) -> Path:
    """Write the effects of four blocks in thick slices, displaced by `shift` thin slices."""
    thick = (slice_fusion.slice_profiles(POSITIONS + shift, N_THIN) @ effect[..., None])[..., 0]
    noise = np.random.default_rng(seed).normal(size=(*thick.shape, 4))
    betas = (thick[..., None] + 0.1 * thick.std() * noise).astype(np.float32)
    blocks = tuple(
        TaskBlock(condition="hand", events=((20.0 * k, 10.0),), half=k % 2) for k in range(4)
    )
    effects = Effects(
        series="sbl",
        affine=AFFINE,
        mask=brain().data,
        betas=betas,
        mean=np.full(thick.shape, 100, np.float32),
        blocks=blocks,
        covariance=np.eye(4),
        leak=np.zeros((4, 1)),
    )
    return save_effects(effects, folder / f"effects{seed}.npz")


def t_map(
    value: float = 9.0, contrast: str = "hand", weights: Mapping[str, float] | None = None
) -> list[Derivative]:
    """Return a t map with one value."""
    values = np.full((*SHAPE[:2], N_THICK), value, np.float32)
    entities = {"contrast": contrast, "stat": "t", "desc": "sbl", "suffix": "statmap"}
    sidecar = {"SmoothingFWHM": 0.0, "ContrastWeights": weights or {contrast: 1.0}}
    return [Derivative(Volume(values, AFFINE), entities, sidecar)]


def moved_by(slices: float) -> Float:
    """Return the transform of a head that moved by a number of thin slices."""
    xfm = np.eye(4)
    xfm[2, 3] = -3.0 * slices
    return xfm[None]


def fuse(
    folder: Path,
    effect: Array,
    sd: Array,
    *,
    true_shift: float = SHIFT,
    assumed_shift: float = SHIFT,
    t: float = 9.0,
    gain: float = 1.0,
    agreement: Mapping[str, object] | None = None,
) -> tuple[dict[str, object], list[Derivative]]:
    """Run the steps on two runs; the second has a true and an assumed displacement."""
    masks, xfms = {"run-2": brain()}, {"run-2": moved_by(assumed_shift)}
    effects = {
        "run-1": effects_file(folder, effect, 0.0, 1),
        "run-2": effects_file(folder, gain * effect, true_shift, 2),
    }
    scales = {"run-2": {"SignalRatio": gain}}
    slow_sds = {name: brain().like(sd) for name in effects}
    displacements = fused_slices.measure_displacements(
        t_map(t), brain(), masks, xfms, first="run-1"
    )
    fusion = fused_slices.decide_fusion(
        t_map(t),
        brain(),
        masks,
        xfms,
        effects,
        slow_sds,
        displacements,
        scales,
        agreement or {"LeftOut": {}},
        first="run-1",
        series_name="sbl",
    )
    maps = fused_slices.fuse_maps(
        brain(),
        xfms,
        effects,
        slow_sds["run-1"],
        fusion,
        scales,
        folder,
        first="run-1",
        series_name="sbl",
        contrasts={"hand": {"hand": 1.0}},
        runs_of_contrasts={"hand": ["run-1", "run-2"]},
        smoothing=[0.0, 6.0],
    )
    return dict(fusion), maps


def explained(estimate: Array, effect: Array) -> float:
    """Return the explained variance away from the ends of the stack."""
    inner = (slice(None), slice(None), slice(2, -4))
    return float(1 - ((estimate - effect)[inner] ** 2).sum() / (effect[inner] ** 2).sum())


def test_displaced_runs_are_fused_on_thin_slices(
    tmp_path: Path, effect: Float, thick_sd: Float
) -> None:
    fusion, maps = fuse(tmp_path, effect, thick_sd)
    assert fusion["Applied"]
    assert fusion["Runs"] == ["run-1", "run-2"]
    assert fusion["Displacements"] == [
        {"Runs": ["run-1", "run-2"], "Displacement": pytest.approx(0.4)}
    ]
    by_desc = {map_.entities["desc"]: map_ for map_ in maps}
    assert set(by_desc) == {"sblFused", "sblSplined", "sblFwhm60Fused", "sblFwhm60Splined"}
    fused, splined = (by_desc[f"sbl{kind}"].volume for kind in ("Fused", "Splined"))
    assert explained(fused.data, effect) > explained(splined.data, effect) + 0.1
    assert fused.data.shape == SHAPE
    np.testing.assert_allclose(fused.affine, slice_fusion.thin_affine(AFFINE))


def test_runs_with_different_scales_are_fused_at_the_scale_of_the_first(
    tmp_path: Path, effect: Float, thick_sd: Float
) -> None:
    fused, scaled = (
        fuse(tmp_path, effect, thick_sd, gain=gain)[1][0].volume.data for gain in (1.0, 3.0)
    )
    np.testing.assert_allclose(scaled, fused, rtol=1e-4, atol=1e-4)


def test_a_run_that_disagrees_is_not_fused(tmp_path: Path, effect: Float, thick_sd: Float) -> None:
    agreement = {"LeftOut": {"run-2": "the effects differ"}}
    fusion, maps = fuse(tmp_path, effect, thick_sd, agreement=agreement)
    assert not fusion["Applied"]
    assert fusion["Tested"] == []
    assert maps == []


def test_the_largest_linked_set_is_fused_without_the_first_run(
    tmp_path: Path, effect: Float, thick_sd: Float
) -> None:
    """Runs 2, 3 and 4 are linked; run 1 is displaced from runs 3 and 4, but its effect is
    unrelated.
    """
    shifts = {"run-1": 0.0, "run-2": 0.0, "run-3": SHIFT, "run-4": SHIFT}
    masks = {name: brain() for name in list(shifts)[1:]}
    xfms = {name: moved_by(shifts[name]) for name in masks}
    unrelated = np.random.default_rng(5).permutation(effect.ravel()).reshape(effect.shape)
    effects = {
        name: effects_file(tmp_path, unrelated if name == "run-1" else effect, shift, seed)
        for seed, (name, shift) in enumerate(shifts.items())
    }
    slow_sds = {name: brain().like(thick_sd) for name in effects}
    displacements = fused_slices.measure_displacements(
        t_map(), brain(), masks, xfms, first="run-1"
    )
    fusion = fused_slices.decide_fusion(
        t_map(),
        brain(),
        masks,
        xfms,
        effects,
        slow_sds,
        displacements,
        {},
        {"LeftOut": {}},
        first="run-1",
        series_name="sbl",
    )
    assert fusion["Runs"] == ["run-2", "run-3", "run-4"]
    assert list(fusion["RunsNotFused"]) == ["run-1"]
    tested = {"+".join(pair["Runs"]): pair["Passed"] for pair in fusion["Tested"]}
    assert tested == {
        "run-1+run-3": False,
        "run-1+run-4": False,
        "run-2+run-3": True,
        "run-2+run-4": True,
    }
    fused, splined = fused_slices.fuse_maps(
        brain(),
        xfms,
        effects,
        slow_sds["run-1"],
        fusion,
        {},
        tmp_path,
        first="run-1",
        series_name="sbl",
        contrasts={"hand": {"hand": 1.0}},
        runs_of_contrasts={"hand": list(shifts)},
        smoothing=[0.0],
    )
    assert fused.sidecar["RunsFused"] == ["run-2", "run-3", "run-4"]
    assert explained(fused.volume.data, effect) > explained(splined.volume.data, effect) + 0.1


def test_sidecars_name_the_fused_runs_and_explain_the_missing_error(
    tmp_path: Path, effect: Float, thick_sd: Float
) -> None:
    _, maps = fuse(tmp_path, effect, thick_sd)
    for map_ in maps:
        assert map_.entities["stat"] == "effect"
        assert map_.entities["res"] == "thin"
        assert map_.sidecar["RunsFused"] == ["run-1", "run-2"]
        assert "no stat-sd map" in str(map_.sidecar["ErrorOfReconstruction"])
        assert "3 x 3 x 3" in str(map_.sidecar["Resolution"])
        assert "RunWeights" not in map_.sidecar  # The map is not a mean of runs on their grid.


def test_a_contrast_without_displaced_runs_is_not_fused(
    tmp_path: Path, effect: Float, thick_sd: Float
) -> None:
    """Runs 1 and 3 have the same slices, so only run 2 links them."""
    shifts = {"run-1": 0.0, "run-2": SHIFT, "run-3": 0.0}
    masks = {name: brain() for name in ("run-2", "run-3")}
    xfms = {name: moved_by(shifts[name]) for name in masks}
    effects = {
        name: effects_file(tmp_path, effect, shift, seed)
        for seed, (name, shift) in enumerate(shifts.items())
    }
    slow_sds = {name: brain().like(thick_sd) for name in effects}
    maps = t_map(9.0)
    displacements = fused_slices.measure_displacements(maps, brain(), masks, xfms, first="run-1")
    assert displacements["Pairs"] == [["run-1", "run-2"], ["run-2", "run-3"]]
    fusion = fused_slices.decide_fusion(
        maps,
        brain(),
        masks,
        xfms,
        effects,
        slow_sds,
        displacements,
        {},
        {"LeftOut": {}},
        first="run-1",
        series_name="sbl",
    )
    assert fusion["Runs"] == ["run-1", "run-2", "run-3"]
    weights = {name: {"hand": 1.0} for name in ("everywhere", "apart", "of two")}
    fused = fused_slices.fuse_maps(
        brain(),
        xfms,
        effects,
        slow_sds["run-1"],
        fusion,
        {},
        tmp_path,
        first="run-1",
        series_name="sbl",
        contrasts=weights,
        runs_of_contrasts={
            "everywhere": ["run-1", "run-2", "run-3"],
            "apart": ["run-1", "run-3"],
            "of two": ["run-1", "run-2"],
        },
        smoothing=[0.0],
    )
    by_contrast = {map_.entities["contrast"]: map_ for map_ in fused}
    assert set(by_contrast) == {"everywhere", "of two"}
    assert by_contrast["everywhere"].sidecar["RunsFused"] == ["run-1", "run-2", "run-3"]
    assert by_contrast["of two"].sidecar["RunsFused"] == ["run-1", "run-2"]
    assert list(by_contrast["of two"].sidecar["RunsLeftOut"]) == ["run-3"]
    images = {name: explained(map_.volume.data, effect) for name, map_ in by_contrast.items()}
    assert min(images.values()) > 0.5


@pytest.mark.parametrize(
    ("true_shift", "assumed_shift", "reason"),
    [
        pytest.param(0.0, 0.0, "are displaced by 0.25", id="equal slices"),
        pytest.param(0.3, 0.3, "are displaced by 0.25", id="small displacement"),
        pytest.param(SHIFT, -SHIFT, "passed the test", id="wrong sign"),
        pytest.param(0.0, SHIFT, "passed the test", id="displacement undone"),
    ],
)
def test_runs_without_a_verified_displacement_are_not_fused(
    tmp_path: Path,
    effect: Float,
    thick_sd: Float,
    true_shift: float,
    assumed_shift: float,
    reason: str,
) -> None:
    fusion, maps = fuse(
        tmp_path, effect, thick_sd, true_shift=true_shift, assumed_shift=assumed_shift
    )
    assert not fusion["Applied"]
    assert maps == []
    assert reason in str(fusion["Reason"])
    assert "shift the stack of slices by half a slice" in str(fusion["Advice"])


def test_runs_without_active_voxels_are_not_fused(
    tmp_path: Path, effect: Float, thick_sd: Float
) -> None:
    fusion, maps = fuse(tmp_path, effect, thick_sd, t=1.0)
    assert not fusion["Applied"]
    assert maps == []
    assert fusion["Displacements"] == [{"Runs": ["run-1", "run-2"], "Displacement": None}]


@pytest.mark.parametrize(
    ("t", "expected"),
    [
        ({"all": 9.0, "hand": 1.0, "handMinusFoot": 1.0}, 0.4),
        ({"all": 1.0, "hand": 9.0, "handMinusFoot": 9.0}, None),
        ({"handMinusFoot": 9.0, "footMinusHand": 1.0}, 0.4),
    ],
)
def test_active_voxels_are_determined_from_the_mean_over_conditions(
    t: Mapping[str, float], expected: float | None
) -> None:
    weights = {
        "all": {"hand": 0.5, "foot": 0.5},
        "hand": {"hand": 1.0},
        "handMinusFoot": {"hand": 1.0, "foot": -1.0},
        "footMinusHand": {"hand": -1.0, "foot": 1.0},
    }
    maps = [map_ for name, value in t.items() for map_ in t_map(value, name, weights[name])]
    displacements = fused_slices.measure_displacements(
        maps, brain(), {"run-2": brain()}, {"run-2": moved_by(SHIFT)}, first="run-1"
    )
    (pair,) = displacements["Displacements"]
    assert pair["Displacement"] == (None if expected is None else pytest.approx(expected))


def test_runs_too_short_for_a_prior_are_not_fused(
    tmp_path: Path, effect: Float, thick_sd: Float
) -> None:
    fusion, maps = fuse(tmp_path, effect, np.zeros_like(thick_sd))
    assert not fusion["Applied"]
    assert maps == []


def test_slow_fluctuations_are_only_measured_in_displaced_runs(tmp_path: Path) -> None:
    shape, tr = (6, 6, 4), 2.0
    rng = np.random.default_rng(0)
    slow = np.sin(2 * np.pi * 0.02 * tr * np.arange(60))
    sd = rng.uniform(1, 3, shape)
    with SeriesWriter(tmp_path / "bold.nii", (*shape, 60), AFFINE, tr) as writer:
        for value in slow:
            writer.append((100 + sd * value + 0.05 * rng.normal(size=shape)).astype(np.float32))
    mask, no_motion = Volume(np.ones(shape, bool), AFFINE), np.stack([np.eye(4)] * 60)
    sd_by_run = {}
    for run in ("run-1", "run-2"):
        with SeriesReader(tmp_path / "bold.nii") as series:
            sd_by_run[run] = fused_slices.measure_slow_sd(
                series,
                mask,
                no_motion,
                {"Pairs": [["run-1", "run-2"]]},
                here=tmp_path,
                run=run,
                first="run-1",
                n_dummy=0,
            ).data
    assert np.corrcoef(sd_by_run["run-1"].ravel(), sd.ravel())[0, 1] > 0.99
    assert not sd_by_run["run-2"].any()
