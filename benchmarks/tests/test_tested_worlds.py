"""Test that each kind of simulated activity has what it claims, and what the table counts."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from _worlds_draws import explained_variance, load_draw, store_draw
from _worlds_kinds import FACTOR, KNOWN, NEW, NYQUIST, WORLDS, Simulation, simulate_run
from _worlds_people import CONTRAST, Array, Person
from drawn_worlds import Job, list_draws
from scipy import ndimage
from tested_worlds import tabulate

from bids_sr.evaluation.steps.half_resolution import HalfResolutionPrior, run_half_resolution_test
from bids_sr.evaluation.tested_detail import iterate_tested_detail
from bids_sr.glm.regressors import Events
from bids_sr.io.nifti import SeriesReader, save_image
from bids_sr.io.volume import Volume
from bids_sr.spatial.nyquist import beyond_nyquist
from bids_sr.sr.method import get_method
from bids_sr.sr.prior_maps.lower_resolution_errors import reconstruct_at_lower_resolution

SHAPE, ZOOMS, TR, N_VOLUMES = (40, 48, 5), (3.0, 3.0, 3.5), 2.0, 80
ONSETS = np.arange(10.0, 140, 20)


@pytest.fixture(scope="module")
def person() -> Person:
    """Return an ellipse of noise whose standard deviation varies between voxels."""
    rng = np.random.default_rng(0)
    x, y = np.ogrid[-1 : 1 : 1j * SHAPE[0], -1 : 1 : 1j * SHAPE[1]]
    mask = np.repeat((x**2 + y**2 < 0.7)[..., None], SHAPE[2], axis=2)
    sd = mask * np.exp(0.5 * ndimage.gaussian_filter(rng.standard_normal(SHAPE), 0.7) / 0.2)
    series = (5 * sd[..., None] * rng.standard_normal((*SHAPE, N_VOLUMES))).astype(np.float32)
    table = pd.DataFrame({"onset": ONSETS, "duration": 10.0, "trial_type": "stimulus"})
    affine = np.diag([*ZOOMS, 1.0])
    return Person(series, 1000.0 * mask, mask, affine, TR, Events(table))


def simulate(person: Person, name: str, seed: int = 1) -> Simulation:
    return simulate_run(person, WORLDS[name], [seed])


def test_activity_is_added_with_its_response(person: Person) -> None:
    simulation = simulate(person, "smooth")
    (activity,), (response,) = simulation.activities, simulation.responses
    added = simulation.series - person.mean[..., None] - person.series
    np.testing.assert_allclose(added, activity[..., None] * response, atol=1e-3)
    assert np.abs(activity[~person.mask]).max() == 0
    assert np.quantile(np.abs(activity[person.mask]), 0.99) == pytest.approx(30)
    assert response[: int(ONSETS[0] / TR)].max() == 0


def test_foci_are_in_all_slices_of_a_slab(person: Person) -> None:
    places = np.argwhere(person.points(np.random.default_rng(0), 300))
    counts = np.bincount(places[:, 2], minlength=SHAPE[2])
    assert len(places) == 300
    assert (counts > 30).all()
    inside = ndimage.binary_erosion(person.mask[..., 2], iterations=2)
    assert inside[places[:, 0], places[:, 1]].all()


@pytest.mark.parametrize("seed", range(3))
def test_stripes_have_their_period(person: Person, seed: int) -> None:
    wave = person.stripes(np.random.default_rng(seed), 8.0)[..., 0]
    power = np.abs(np.fft.fft2(wave * np.outer(np.hanning(SHAPE[0]), np.hanning(SHAPE[1])))) ** 2
    x, y = (np.fft.fftfreq(size, zoom) for size, zoom in zip(SHAPE[:2], ZOOMS, strict=False))
    frequency = np.hypot(x[:, None], y)
    assert (power * frequency).sum() / power.sum() == pytest.approx(1 / 8, rel=0.03)
    assert power[np.abs(frequency - 1 / 8) < 0.02].sum() > 0.95 * power.sum()


def test_parcels_have_equal_values_and_their_width(person: Person) -> None:
    parcels = person.parcels(np.random.default_rng(0), 15.0)
    values, counts = np.unique(parcels[person.mask], return_counts=True)
    assert counts.sum() / len(values) * np.prod(ZOOMS) == pytest.approx(15**3, rel=0.05)
    assert all(ndimage.label(parcels == value, np.ones((3, 3, 3)))[1] == 1 for value in values)


@pytest.mark.parametrize("exponent", [2.0, 3.0])
def test_the_spectral_density_falls_with_its_power(person: Person, exponent: float) -> None:
    """The mean of many slices has only frequencies in plane."""
    thick = replace(person, mask=np.repeat(person.mask, 8, axis=2))
    rng = np.random.default_rng(0)
    images = [thick.power_law(rng, exponent).mean(axis=2) for _ in range(9)]
    power = np.square(np.abs(np.fft.fft2(images))).mean(axis=0)
    x, y = (np.fft.fftfreq(size, zoom) for size, zoom in zip(SHAPE[:2], ZOOMS, strict=False))
    frequency = np.hypot(x[:, None], y)
    used = (frequency > 0.03) & (frequency < 0.15)
    slope = np.polyfit(np.log(frequency[used]), np.log(power[used]), 1)[0]
    assert slope == pytest.approx(-exponent, abs=0.15)


def test_hats_are_flat_with_sharp_edges(person: Person) -> None:
    hat = person.hats(np.random.default_rng(3), 12.0, 1)
    (center,) = np.argwhere(hat == 1).mean(axis=0, keepdims=True)
    distances = np.linalg.norm((np.argwhere(np.ones(SHAPE)) - center) * ZOOMS, axis=1)
    values = hat.ravel()
    assert (values[distances < 4] == 1).all()
    assert (values[distances > 8] == 0).all()
    assert len(values[distances < 4]) > 5


def energy_beyond(image: Array) -> float:
    """Return the fraction of the energy above the acquired Nyquist frequency."""
    return float(np.square(beyond_nyquist(image, FACTOR)).sum() / np.square(image).sum())


def test_activity_of_another_scale_is_smoother_and_sharper(person: Person) -> None:
    smoothed, same, sharpened = (
        energy_beyond(simulate(person, name).activities[0])
        for name in ("smoothed SD", "fluctuations", "sharpened SD")
    )
    assert 4 * smoothed < same < sharpened / 1.5


def find_noise(person: Person, name: str) -> Array:
    """Return the noise that a kind adds to the fluctuations (X, Y, Z, T)."""
    fluctuations = WORLDS[name].fluctuations
    assert fluctuations is not None
    return fluctuations(person, np.random.default_rng(0)) - person.series


@pytest.mark.parametrize(
    ("name", "memory", "is_shared"),
    [
        ("shared noise", 0.5, True),
        ("slow shared noise", 0.95, True),
        ("correlated noise", 0.8, False),
        ("slow noise", 0.95, False),
    ],
)
def test_added_noise_is_correlated(
    person: Person, name: str, memory: float, is_shared: bool
) -> None:
    noise = find_noise(person, name)
    successive = np.corrcoef(noise[..., 1:].ravel(), noise[..., :-1].ravel())[0, 1]
    assert successive == pytest.approx(memory, abs=0.06)
    in_plane = np.corrcoef(noise[1:].ravel(), noise[:-1].ravel())[0, 1]
    assert in_plane > 0.4
    assert (np.ptp(noise, axis=2).max() < 1e-3) == is_shared


def test_halves_have_other_foci(person: Person) -> None:
    simulation = simulate(person, "halves")
    first, second = simulation.activities
    assert np.corrcoef(first[person.mask], second[person.mask])[0, 1] < 0.3
    together = person.compute_response(person.events)
    np.testing.assert_allclose(np.sum(simulation.responses, axis=0), together, atol=1e-9)
    design = person.design
    for half, response in enumerate(simulation.responses):
        effects = design.weights.T @ response
        is_in_half = np.array([block.half == half for block in design.blocks])
        np.testing.assert_allclose(effects[~is_in_half], 0, atol=0.02)
        assert effects[is_in_half].min() > 0.5


@pytest.mark.parametrize("cutoff", [0.9, 1.0, 1.1])
def test_activity_ends_at_its_frequency(person: Person, cutoff: float) -> None:
    (activity,) = simulate(person, f"ends at {cutoff:.1f}").activities
    power = np.square(np.abs(np.fft.fft2(activity, axes=(0, 1)))).sum(axis=2)
    x, y = (np.abs(np.fft.fftfreq(size) * size) / (size / 4) for size in SHAPE[:2])
    highest = np.maximum(x[:, None], y)  # relative to the acquired Nyquist frequency
    assert power[highest > cutoff - 1e-6].sum() < 1e-12 * power.sum()
    assert power[(highest > cutoff - 0.15) & (highest < cutoff - 1e-6)].sum() > 1e-3 * power.sum()


def test_new_kinds_have_a_text_and_a_group() -> None:
    groups = [world.group for world in WORLDS.values()]
    assert (groups.count(KNOWN), groups.count(NYQUIST)) == (13, 3)
    assert groups.count(NEW) >= 8
    texts = {world.text for world in WORLDS.values()}
    assert len(texts) == len(WORLDS)


def test_explained_variance_without_activity_is_wrong() -> None:
    voxels, known = np.ones((4, 4, 1), bool), np.arange(16.0).reshape(4, 4, 1)
    assert explained_variance(known + 3, known, voxels) == 1
    assert explained_variance(0 * known, known, voxels) == 0
    assert explained_variance(known, 0 * known, voxels) == -np.inf
    assert np.isnan(explained_variance(known, known, ~voxels))


def test_a_stored_draw_gives_the_rows_of_the_program(person: Person, tmp_path: Path) -> None:
    """Compare with the step of the program, which also computes maps and intervals."""
    file = tmp_path / "draw.npz"
    store_draw(person, "fluctuations", 1, tmp_path, file)
    stored = load_draw(file)
    simulation = simulate_run(person, WORLDS["fluctuations"], [1, *b"fluctuations"])
    measured = tmp_path / "run.nii"
    save_image(simulation.series, person.affine, measured, tr=TR)
    recipe = get_method("sbl").variance
    assert recipe is not None
    with SeriesReader(measured) as reader:
        final = reconstruct_at_lower_resolution(
            reader, person.mask, FACTOR, recipe, tmp_path, seed=1
        )
    acquired = final.lowres_series.rename(tmp_path / "acquired.nii")
    with SeriesReader(acquired) as reader:
        test = run_half_resolution_test(
            reader,
            Volume(final.lowres_mask, reader.affine),
            np.tile(np.eye(4), (N_VOLUMES, 1, 1)),
            HalfResolutionPrior(recipe=recipe),
            person.linear_model,
            tmp_path,
            series_name="sbl",
            smoothing=(0.0,),
            factor=FACTOR,
            random_seed=1,
            omp_nthreads=1,
        )
    assert test.effects is not None
    contrasts = {"stimulus": CONTRAST}
    active_t = {0.0: {"stimulus": stored.active_t}}
    rows, expected = (
        [
            (row.statistic, row.region, row.n, row.value, row.lower)
            for row in rows
            if row.region != "otherEffect"  # draws do not have the mean signal
        ]
        for rows in (
            iterate_tested_detail(
                stored.reconstructed,
                stored.acquired,
                active_t,
                contrasts,
                FACTOR,
                task_free=stored.task_free,
            ),
            test.effects.score_detail(contrasts, FACTOR),
        )
    )
    assert [row[:3] for row in rows] == [row[:3] for row in expected]
    np.testing.assert_allclose(
        [row[3:] for row in rows], [row[3:] for row in expected], rtol=1e-4, atol=1e-5
    )
    assert stored.acquired.blocks == test.effects.acquired.blocks
    smoothness = [row.value for row in test.run_rows if row.statistic == "smoothness_voxels"]
    assert smoothness == [pytest.approx(stored.facts["smoothness"])]
    assert 0 < stored.facts["active voxels"] < person.mask.sum()


def test_draws_are_listed_by_seed_and_slices() -> None:
    jobs = list(list_draws(["401:8,16", "402"]))
    assert {job.n_slices for job in jobs if job.seed == 401} == {8, 16}
    assert {job.n_slices for job in jobs if job.seed == 402} == {5, 8, 12, 16}
    assert len(jobs) == len({job.file for job in jobs}) == 6 * 3 * len(WORLDS)


def make_result(true: float, state: str) -> dict[str, float | str]:
    return {
        f"{region}, {name}": cell
        for region in ("active", "brain")
        for name, cell in (("true", true), ("state", state))
    }


def test_the_table_counts_false_and_true_draws_by_group() -> None:
    rows = {
        row["draws of"]: row
        for row in tabulate(
            {
                Job(1, 8, "A", "smooth"): make_result(-1, "recovered"),
                Job(1, 12, "A", "stripes"): make_result(0, "not supported"),
                Job(1, 12, "C", "stripes"): make_result(0.1, "not supported"),
                Job(2, 16, "A", "smooth"): make_result(0.3, "recovered"),
                Job(2, 16, "C", "smooth"): make_result(0.2, "not testable"),
                Job(1, 5, "A", "smooth"): make_result(-1, "recovered"),
                Job(1, 8, "A", "ends at 1.0"): make_result(-1, "recovered"),
                Job(1, 5, "A", "ends at 1.0"): make_result(-1, "recovered"),
                Job(1, 8, "B2", "smooth"): make_result(np.nan, "not testable"),
            }
        )
    }
    names = ("false, recovered", "true 0.2, recovered", "false, not supported")
    counts = {
        name: tuple(row[f"active: {column}"] for column in (*names, "true, not supported"))
        for name, row in rows.items()
    }
    assert counts["all"] == ("1 of 2", "1 of 2", "1 of 2", "1 of 3")
    assert counts["smooth"] == ("1 of 1", "1 of 2", "0 of 1", "0 of 2")
    assert counts[NEW] == ("0 of 1", "0 of 0", "1 of 1", "1 of 1")
    assert counts["16 slices"] == ("0 of 0", "1 of 2", "0 of 0", "0 of 2")
    assert counts["slabs of 5"] == counts[NYQUIST] == ("1 of 1", "0 of 0", "0 of 1", "0 of 0")
    assert [rows[name]["draws"] for name in ("all", "participant B2", NYQUIST)] == [6, 1, 1]
    assert "foci of 4 mm" not in rows
