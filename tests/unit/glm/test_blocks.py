"""Task blocks: how events form blocks, which blocks are used, and block effects of a series."""

import logging
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from data.events import make_events
from data.simulated_run import response

from bids_sr.glm.block_effects import Effects, block_effects
from bids_sr.glm.blocks import TooFewBlocks, UsedVolumes, block_design, find_blocks
from bids_sr.glm.design import frame_times
from bids_sr.glm.halves import half_weights
from bids_sr.glm.hemodynamic_response import HemodynamicResponse
from bids_sr.glm.regressors import Events
from bids_sr.io.confound_names import MOTION_REGRESSORS
from bids_sr.io.nifti import SeriesReader, save_image
from bids_sr.spatial.smoothing import smooth

SHAPE, N, TR = (9, 8, 3), 120, 2.0
AFFINE = np.diag([3.0, 3.0, 4.0, 1.0])


def table(*rows):
    return make_events(rows)


def alternating(count=6, first=10.0, step=36.0):
    return table(*[(first + step * k, 16.0, ("thumb", "little")[k % 2]) for k in range(count)])


def test_events_of_a_condition_that_are_close_in_time_form_one_block():
    events = table(
        (0, 1, "a"), (2.5, 1, "a"), (6.4, 1, "a"), (10.5, 1, "a"), (12, 1, "b"), (13, 1, "a")
    )
    blocks = find_blocks(events)
    assert [(b.condition, b.events) for b in blocks] == [
        ("a", ((0.0, 7.4),)),
        ("a", ((10.5, 1.0),)),
        ("b", ((12.0, 1.0),)),
        ("a", ((13.0, 1.0),)),
    ]


def test_events_of_different_modulation_are_different_blocks_with_effects_per_unit():
    modulation = [1.0, 3.0, 2.0, 2.0]
    rows = [(10.0 + 50 * k, 10.0, "a", value) for k, value in enumerate(modulation)]
    rows.append((172.0, 6.0, "a", 1.0))  # close to the last event
    events = Events(pd.DataFrame(rows, columns=["onset", "duration", "trial_type", "modulation"]))
    blocks = find_blocks(events)
    assert [b.modulations for b in blocks] == [(1.0,), (3.0,), (2.0,), (2.0,), (1.0,)]
    design = block_design(events, n_volumes=N, tr=TR)
    signal = 5 * events.responses(frame_times(N, TR), HemodynamicResponse())["a"][:, 0]
    np.testing.assert_allclose(design.weights.T @ signal, 5, atol=1e-6)


def modulated(ratings, *other_rows, duration=10.0, step=30.0):
    onsets = [6.0 + step * k for k in range(len(ratings))]
    rows = [(onset, duration, "tap", 1.0) for onset in onsets]
    rows += [
        (onset, duration, "tapXrating", rating)
        for onset, rating in zip(onsets, ratings, strict=True)
        if rating is not None
    ]
    rows += other_rows
    return Events(pd.DataFrame(rows, columns=["onset", "duration", "trial_type", "modulation"]))


@pytest.mark.parametrize(
    ("ratings", "duration", "n_groups"),
    [
        ([-2, -2, -1, -1, 1, 1, 2, 2, -1, 1, 0, 0], 10.0, 6),  # in pairs
        ([1, 2, 3, 4, 5, 1, 2, 3, 4, 5], 10.0, 5),  # not centered
        ([-0.3, 0.1, 0.2, None, -0.2, 0.3, -0.1, None], 0.0, 4),  # no response in two events
    ],
)
def test_types_that_share_blocks_are_recovered_in_both_halves_from_groups_of_blocks(
    ratings, duration, n_groups
):
    events = modulated(ratings, (21.0, 6.0, "rest cue", 1.0), (141.0, 6.0, "rest cue", 1.0))
    events = Events(events.table.assign(duration=duration))
    n_volumes = 15 * len(ratings) + 20
    design = block_design(events, n_volumes=n_volumes, tr=TR)
    conditions = [block.condition for block in design.blocks]
    assert conditions.count("rest cue") == 2
    assert conditions.count("tap") == conditions.count("tapXrating") == n_groups
    responses = events.responses(frame_times(n_volumes, TR), HemodynamicResponse())
    signal = sum(
        effect * responses[name][:, 0]
        for name, effect in [("tap", 5.0), ("tapXrating", -2.0), ("rest cue", 3.0)]
    )
    for name, effect in [("tap", 5.0), ("tapXrating", -2.0), ("rest cue", 3.0)]:
        halves = half_weights(design.blocks, {name: 1.0}, design.leak)
        assert halves is not None
        np.testing.assert_allclose(halves @ design.weights.T @ signal, effect, atol=1e-5)


def test_groups_of_shared_blocks_keep_half_of_the_precision_of_the_whole_run():
    rng = np.random.default_rng(1)
    ratings = rng.permutation(np.linspace(1, 5, 14))
    events = modulated(ratings)
    design = block_design(events, n_volumes=240, tr=TR)
    whole = np.column_stack([np.ones(14), ratings])
    limits = 2 * np.diag(np.linalg.inv(whole.T @ whole))
    for name, limit in zip(("tap", "tapXrating"), limits, strict=True):
        groups = [
            [int((onset - 6) // 30) for onset, _ in block.events]
            for block in design.blocks
            if block.condition == name
        ]
        index = ("tap", "tapXrating").index(name)
        variances = [np.linalg.inv(whole[g].T @ whole[g])[index, index] for g in groups]
        assert len(groups) >= 2
        assert sum(variances) / len(groups) ** 2 <= limit * (1 + 1e-9)


@pytest.mark.parametrize("first", [-1.0, 3.0])
def test_groups_contain_no_blocks_before_the_run(first):
    events = modulated([first, -2, -1, 2, 1, -2, -1, 2, 1])
    early = Events(events.table.assign(onset=events.table["onset"] - 30))
    blocks = block_design(early, n_volumes=150, tr=TR).blocks
    used = [block for block in blocks if block.used]
    later = block_design(modulated([-2, -1, 2, 1, -2, -1, 2, 1]), n_volumes=150, tr=TR).blocks
    assert [(b.condition, b.events) for b in used] == [(b.condition, b.events) for b in later]
    assert {block.events for block in blocks if not block.used} == {((-24.0, 10.0),)}


def test_the_share_of_a_response_is_measured_in_volumes_of_the_model():
    events = table((-8, 16, "a"), (70, 16, "a"), (130, 16, "a"), (222, 16, "a"))
    times = frame_times(N, TR)
    uncensored = ~((times > 72) & (times < 84))
    volumes = UsedVolumes(
        times=times, tr=TR, n_dummy=2, uncensored=uncensored, hrf=HemodynamicResponse()
    )
    long_times = np.arange(-30.0 + TR / 2, 300, TR)
    is_used = np.isin(long_times, times[2:][uncensored[2:]])
    energies = [
        response(long_times, [(onset, 16.0, "a")]) ** 2 for onset in (-8.0, 70.0, 130.0, 222.0)
    ]
    expected = [energy[is_used].sum() / energy.sum() for energy in energies]
    shares = volumes.measure_shares(find_blocks(events))
    np.testing.assert_allclose(shares, expected, atol=2e-3)
    assert expected[2] == shares[2] == 1


def test_blocks_that_leave_no_degree_of_freedom_are_joined_until_the_model_fits():
    events = table(*[(2.2 * k, 0.5, "ab"[k % 2]) for k in range(38)])
    rng = np.random.default_rng(0)
    motion = pd.DataFrame(rng.normal(size=(46, 12)), columns=list(MOTION_REGRESSORS))
    design = block_design(events, n_volumes=46, tr=TR, confounds=motion)
    assert design.dof >= 1
    assert (
        len(design.blocks) == 28
    )  # 46 volumes minus motion, drift, mean and one; an even number per type
    onsets = sorted(onset for block in design.blocks for onset, _ in block.events)
    np.testing.assert_allclose(onsets, 2.2 * np.arange(38))
    halves = half_weights(design.blocks, {"a": 1.0, "b": -1.0}, design.leak)
    assert halves is not None
    np.testing.assert_allclose(halves.sum(axis=1), 0, atol=1e-12)


def test_a_run_without_room_for_two_units_of_each_condition_is_not_split():
    events = table(*[(2.2 * k, 0.5, f"c{k % 17}") for k in range(38)])
    motion = pd.DataFrame(
        np.random.default_rng(0).normal(size=(46, 12)), columns=[*MOTION_REGRESSORS]
    )
    with pytest.raises(TooFewBlocks, match="46 "):
        block_design(events, n_volumes=46, tr=TR, confounds=motion)


def test_many_short_trials_become_chunks_that_keep_their_events():
    rng = np.random.default_rng(0)
    events = table(*[(5.0 * k, 1.0, "ab"[rng.integers(2)]) for k in range(120)])
    blocks = block_design(events, n_volumes=320, tr=TR).blocks
    assert len(blocks) == 40
    sizes = [sum(duration for _, duration in b.events) for b in blocks]
    assert sum(sizes) == pytest.approx(120)
    assert max(sizes) - min(sizes) < 3
    for name in "ab":
        onsets = [on for b in blocks if b.condition == name for on, _ in b.events]
        assert onsets == sorted(onsets)


def test_a_block_before_the_run_is_not_used_unless_min_share_is_0(caplog):
    events = table(
        (-28, 16, "face"), (20, 16, "body"), (60, 16, "face"), (100, 16, "body"), (140, 16, "face")
    )
    with caplog.at_level(logging.INFO, logger="bids_sr"):
        design = block_design(events, n_volumes=N, tr=TR, confound_names=())
    assert [b.used for b in design.blocks] == [False, True, True, True, True]
    assert "face block at -28.0 s" in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "00000" not in caplog.text, "block numbers are internal"
    block_design(events, n_volumes=N, tr=TR, confound_names=(), n_dummy=25)
    (warning,) = (record for record in caplog.records if record.levelno >= logging.WARNING)
    assert "body block at 20.0 s" in warning.message
    assert [b.half for b in design.blocks if b.used] == [0, 0, 1, 1]
    full_design = block_design(events, n_volumes=N, tr=TR, confound_names=(), min_share=0)
    error = np.sqrt(np.diag(full_design.covariance))
    assert all(b.used for b in full_design.blocks)
    assert error[0] > 10 * error[1:].max()


def test_error_of_too_few_blocks_names_the_run_and_the_conditions():
    with pytest.raises(
        TooFewBlocks,
        match=r"run-2_events.tsv: .*\(thumb: one block, little: one block\)",
    ):
        block_design(
            make_events([(10.0, 16.0, "thumb"), (46.0, 16.0, "little")], "run-2_events.tsv"),
            n_volumes=N,
            tr=TR,
            confound_names=(),
        )


@pytest.fixture
def run(tmp_path):
    """Return path, design, effects and data of a series with known block effects.

    The effects are added to a static image with drift and noise.
    """
    design = block_design(alternating(), n_volumes=N + 3, tr=TR, n_dummy=3, confound_names=())
    rng = np.random.default_rng(1)
    true = rng.normal(0, 20, (*SHAPE, 6))
    data = 1000 + 200 * rng.random(SHAPE)[..., None] + rng.normal(0, 3, (*SHAPE, N + 3))
    data[..., 3:] += true @ design.matrix[:, :6].T + 40 * np.cos(np.pi * (np.arange(N) + 0.5) / N)
    data[..., :3] += 5000
    save_image(data.astype(np.float32), AFFINE, tmp_path / "series.nii", tr=TR)
    return tmp_path / "series.nii", design, true, data.astype(np.float32).astype(float)


def test_block_effects_equal_least_squares_and_survive_saving(run, tmp_path):
    path, design, true, data = run
    mask = np.ones(SHAPE, dtype=bool)
    with SeriesReader(path) as reader:
        effects = block_effects(reader, mask, design, series="bspline", with_t=True)
    y = data[..., 3:].reshape(-1, N).T
    beta = np.linalg.lstsq(design.matrix, y, rcond=None)[0]
    np.testing.assert_allclose(effects.betas.reshape(-1, 6), beta[:6].T, atol=0.02)
    assert np.abs(effects.betas - true).mean() < 1.5
    np.testing.assert_allclose(effects.mean.ravel(), y.mean(0), rtol=1e-6)
    loaded = Effects.load(effects.save(tmp_path / "e"))
    assert loaded.series == "bspline"
    assert list(loaded.blocks) == [replace(block, modulations=()) for block in effects.blocks]
    np.testing.assert_array_equal(loaded.betas, effects.betas)
    np.testing.assert_array_equal(loaded.smooth_variance, effects.smooth_variance)


def test_smooth_t_equals_t_of_the_smoothed_series(run):
    path, design, _, data = run
    with SeriesReader(path) as reader:
        effects = block_effects(
            reader, np.ones(SHAPE, dtype=bool), design, series="measured", with_t=True
        )
    smoothed = (
        np.stack([smooth(data[..., t], (3, 3, 4), 4.0) for t in range(3, N + 3)], -1)
        .reshape(-1, N)
        .T.astype(float)
    )
    beta = np.linalg.lstsq(design.matrix, smoothed, rcond=None)[0]
    variance = ((smoothed - design.matrix @ beta) ** 2).sum(0) / design.dof
    half = effects.halves({"thumb": 1.0})[1]
    c = np.append(half, np.zeros(design.matrix.shape[1] - 6))
    expected = (
        c @ beta / np.sqrt(variance * (c @ np.linalg.inv(design.matrix.T @ design.matrix) @ c))
    )
    np.testing.assert_allclose(effects.smooth_t(half).ravel(), expected, rtol=5e-3, atol=0.02)


def test_reduced_effects_equal_effects_of_the_series_rebuilt_from_its_components(run, tmp_path):
    path, design, _, data = run
    mask = np.zeros(SHAPE, dtype=bool)
    mask[2:7, 1:7] = True
    with SeriesReader(path) as reader:
        effects = block_effects(
            reader, mask, design, series="bspline", pca_ranks=(2, 4), scratch=tmp_path
        )
    y = data[..., 3:] - data[..., 3:].mean(-1, keepdims=True)
    right = np.linalg.svd(y[mask], full_matrices=False)[2][:4]
    for rank in (2, 4):
        rebuilt = y @ right[:rank].T @ right[:rank]
        np.testing.assert_allclose(
            effects.limit_components(rank), rebuilt @ design.weights, atol=0.05
        )
    assert np.abs(effects.limit_components(2) - effects.limit_components(4)).max() > 1
    assert not list(tmp_path.glob("*.raw"))


# blocks of 16 s of three conditions; the last condition has a single block
ONSETS = {"body": (10, 106, 202), "house": (42, 138), "face": (74,)}


@pytest.mark.parametrize(
    ("trial_onsets", "duration"),
    [(range(16), 1.0), (range(16), 0.9), (range(0, 16, 3), 1.0)],
    ids=["adjacent", "short gaps", "gaps of 2 s"],
)
def test_one_row_per_trial_and_one_row_per_block_give_the_same_units(trial_onsets, duration):
    onsets = [(onset, name) for name, block_onsets in ONSETS.items() for onset in block_onsets]
    block_length = trial_onsets[-1] + duration
    by_block = table(*[(onset, block_length, name) for onset, name in onsets])
    by_trial = table(
        *[(onset + k, duration, name) for onset, name in onsets for k in trial_onsets]
    )
    designs = [
        block_design(events, n_volumes=N, tr=TR, confound_names=())
        for events in (by_block, by_trial)
    ]
    assert designs[0].blocks == designs[1].blocks
    conditions = ["body", "house", "face", "body", "house", "body"]
    assert [block.condition for block in designs[0].blocks] == conditions
    assert [block.half for block in designs[0].blocks] == [0, 0, 0, 1, 1, 0]
    np.testing.assert_array_equal(designs[0].weights, designs[1].weights)


@pytest.mark.parametrize(
    ("seconds_inside", "used"),
    [(8, False), (12, False), (16, True), (28, True), (44, True), (60, True)],
)
def test_a_block_that_is_cut_off_is_used_if_half_of_its_response_is_in_the_run(
    seconds_inside, used, caplog
):
    """The response lasts up to 40 s after the end of a block of 16 s."""
    onset, length = 170.0, 16.0
    events = table(*[(onset - 50 * k, length, "a") for k in (3, 2, 1, 0)])
    n_volumes = round((onset + seconds_inside) / TR)
    options = {"n_volumes": n_volumes, "tr": TR, "confound_names": ()}
    with caplog.at_level(logging.WARNING):
        design = block_design(events, **options)
    *complete, cut_off = design.blocks
    times = frame_times(n_volumes + 60, TR)
    energy = response(times, [(onset, length, "a")]) ** 2
    assert cut_off.share == pytest.approx(energy[:n_volumes].sum() / energy.sum(), abs=0.01)
    assert (cut_off.share < 1) == (times[n_volumes - 1] < onset + length + 40)
    assert cut_off.used is used
    assert all(block.used and block.share == 1 for block in complete)
    assert ("block at 170.0 s" in caplog.text) != used
    # an unused block remains in the model, so its response does not bias the other effects
    signal = 100 + 7 * events.responses(times[:n_volumes], HemodynamicResponse())["a"][:, 0]
    np.testing.assert_allclose(design.weights.T @ signal, 7, atol=1e-6)
    halves = half_weights(design.blocks, {"a": 1.0}, design.leak)
    np.testing.assert_allclose(halves @ design.weights.T @ signal, 7, atol=1e-6)
    assert (halves[:, -1].sum() > 0) == used
    # the error of the effect grows as the share falls
    error = np.sqrt(np.diag(block_design(events, **options, min_share=0).covariance))
    assert (error[-1] > 1.5 * error[:-1].mean()) != used
