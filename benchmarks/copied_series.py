"""Noise of series that are copies, and of series of people who breathe and move alike.

python benchmarks/copied_series.py [--studies 30] [--people 100] [--copies 200]

Each simulated study has one matrix, repetition time and number of volumes. Its people have own
thermal noise, cardiac pulsation and drift. Breathing is paced or at own rates, movements follow
common cues, and responses follow common events. Amplitudes are drawn, and the patterns of
movements and breathing are in part those of the study. Copies are changed series of other people.
"""

import argparse
from collections.abc import Iterator
from typing import Any

import numpy as np
from _table import keep
from scipy import ndimage

from bids_sr.io.arrays import Array
from bids_sr.preproc.copied_series import (
    COPY_CORRELATION,
    NoiseRecord,
    SeriesSample,
    correlate_noise,
    find_copies,
)

LATTICE = (11, 13, 9)  # as many voxels as points of a record
MATRIX = (30, 34, 20)  # of copies, whose voxels are moved and smoothed
N_COMPARED = 65  # volumes


def record(series: Array, affine: Array | None = None) -> NoiseRecord:
    """Return the noise of a series (X, Y, Z, T)."""
    sample = SeriesSample(series.shape[:3], np.eye(4) if affine is None else affine)
    for volume in np.moveaxis(series, -1, 0):
        sample.add(np.rint(volume).astype(np.int16).ravel(order="F"))
    return sample.record_noise()


def draw_patterns(rng: np.random.Generator, shape: tuple[int, ...], count: int) -> Array:
    """Return smooth patterns with a few strong voxels, such as edges (count, X, Y, Z)."""
    patterns = ndimage.gaussian_filter(rng.normal(size=(count, *shape)), (0, 1, 1, 1))
    patterns *= np.exp(0.8 * rng.normal(size=patterns.shape))
    return np.asarray(patterns / patterns.std(axis=(1, 2, 3), keepdims=True))


class Study:
    """Conditions that the people of a study share."""

    def __init__(self, seed: int, shape: tuple[int, ...] = LATTICE) -> None:
        self.rng = rng = np.random.default_rng(seed)
        self.shape = shape
        self.tr = float(np.exp(rng.uniform(np.log(0.5), np.log(3))))
        self.n_volumes = int(min(N_COMPARED, rng.uniform(45, 300)))
        self.voxel_mm = float(rng.uniform(2, 4))
        self.is_paced = rng.random() < 0.5
        self.breathing_mm, self.cue_mm = rng.uniform(0, 0.2), rng.uniform(0, 1.2)
        cue_s = rng.uniform(3, 14)
        self.times = self.tr * np.arange(self.n_volumes)
        self.cues = np.diff(np.floor(self.times / cue_s), prepend=0.0) > 0
        self.response = np.sin(2 * np.pi * self.times / rng.uniform(20, 50))
        self.patterns = draw_patterns(rng, shape, 16)

    def draw_person(self) -> Array:
        """Return the series of a person (X, Y, Z, T), in integers."""
        rng, times = self.rng, self.times
        hz = 0.3 if self.is_paced else rng.uniform(0.2, 0.4)
        wander = (
            0 if self.is_paced else np.cumsum(rng.normal(0, 0.1 * np.sqrt(self.tr), len(times)))
        )
        phases = 2 * np.pi * hz * times + wander
        breathing = self.breathing_mm * np.exp(0.3 * rng.normal())
        cue = self.cue_mm * np.exp(0.3 * rng.normal())
        moves = [breathing * np.sin(phases), breathing * np.sin(phases + 1)]
        moves += [cue * self.cues * np.exp(0.2 * rng.normal(size=len(times))) for _ in range(2)]
        moves += [np.cumsum(rng.normal(0, 0.01, len(times))) for _ in range(2)]
        courses = [*moves, *(move**2 for move in moves), *(np.roll(m, 1) * m for m in moves[:3])]
        own = draw_patterns(rng, self.shape, len(self.patterns))
        patterns = 0.7 * self.patterns + 0.7 * own
        percent = np.tensordot(patterns[: len(courses)], courses, (0, 0)) * 3
        percent += np.abs(patterns[-1])[..., None] * rng.uniform(0, 2) * self.response
        heart = np.sin(2 * np.pi * rng.uniform(0.8, 1.3) * times + rng.uniform(0, 6))
        percent += np.abs(own[-1])[..., None] * rng.uniform(0, 1.5) * heart
        noise = rng.uniform(0.5, 3) * (3 / self.voxel_mm) ** 1.5
        percent += noise * rng.normal(size=percent.shape)
        centers = np.array(self.shape).reshape(3, 1, 1, 1) / 2
        radius = np.square((np.indices(self.shape) + 0.5 - centers) / (0.38 * 2 * centers)).sum(0)
        head = 1000 * (radius < rng.uniform(0.8, 1.2)) * (1 + 0.2 * self.patterns[-2]).clip(0.4)
        thermal = 8 * np.abs(rng.normal(size=percent.shape))
        return np.asarray(head[..., None] * (1 + percent / 100) + thermal)


def measure_chance(n_studies: int, n_people: int) -> dict[str, Any]:
    """Return the largest correlations of pairs of people in studies, and wrongly found copies."""
    largest, n_found, n_studies_found = [], 0, 0
    for seed in range(n_studies):
        study = Study(seed)
        records = [record(study.draw_person()) for _ in range(n_people)]
        correlations = correlate_noise(records)
        largest.append(float(correlations[np.triu_indices(n_people, 1)].max()))
        found = len(list(find_copies(records)))
        n_found, n_studies_found = n_found + found, n_studies_found + (found > 0)
    return {
        "series": f"{n_people} people in each of {n_studies} studies",
        "pairs": n_studies * n_people * (n_people - 1) // 2,
        "called copies": n_found,
        "smallest r": "",
        "median r": float(np.median(largest)),
        "largest r": max(largest),
    }


def change_series(series: Array, kind: str, voxel_mm: float, rng: np.random.Generator) -> Array:
    """Return an altered copy of a series."""
    if kind == "shifted":
        return series[..., rng.integers(1, 6) :]
    if kind == "scaled":
        return series * rng.uniform(0.3, 3)
    if kind == "offset":
        return series + rng.integers(1, 200)
    if kind == "moved":
        shift = [*(0.3 * np.sign(rng.normal(size=3))), 0]
        return np.asarray(np.abs(np.fft.ifftn(ndimage.fourier_shift(np.fft.fftn(series), shift))))
    if kind == "smoothed":
        sigma = 4 / np.sqrt(8 * np.log(2)) / voxel_mm
        return np.asarray(ndimage.gaussian_filter(series, (*[sigma] * 3, 0)))
    return series


def measure_copies(n_copies: int) -> Iterator[dict[str, Any]]:
    """Yield the correlations of copies with their originals by kind."""
    kinds = ("equal", "shifted", "scaled", "offset", "moved", "smoothed")
    values: dict[str, list[float]] = {kind: [] for kind in kinds}
    found: dict[str, int] = dict.fromkeys(kinds, 0)
    for number in range(n_copies):
        kind = kinds[number % len(kinds)]
        study = Study(1000 + number, MATRIX)
        series = study.draw_person()
        copy = change_series(series, kind, study.voxel_mm, study.rng)
        records = [record(series), record(copy)]
        values[kind].append(float(correlate_noise(records)[0, 1]))
        found[kind] += any(True for _ in find_copies(records))
    for kind in kinds:
        yield {
            "series": f"copies: {kind}",
            "pairs": len(values[kind]),
            "called copies": found[kind],
            "smallest r": min(values[kind]),
            "median r": float(np.median(values[kind])),
            "largest r": max(values[kind]),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=30)
    parser.add_argument("--people", type=int, default=100)
    parser.add_argument("--copies", type=int, default=200)
    options = parser.parse_args()
    rows = [measure_chance(options.studies, options.people), *measure_copies(options.copies)]
    remark = (
        f"Limit: {COPY_CORRELATION:g}. Of people, median and largest r are over the largest r of"
        " each study."
    )
    keep("copied_series", "Correlation of noise between series", rows, remarks=[remark])


if __name__ == "__main__":
    main()
