"""Whether shuffles of noise pass a threshold as often as fresh noise does, where the noise is
known.

python benchmarks/shuffles.py [--runs N] [--voxels N] [--shuffles N]

Noise of one coefficient in independent voxels; blocks of 14 s and rest of 14 s; six random walks,
their differences and five autoregressive courses as confounds. `fresh` is noise drawn anew for
every shuffle and given to the same models.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import _shuffles
import numpy as np
import numpy.typing as npt
import pandas as pd
from _shuffles import random_phases
from _table import keep
from scipy import signal, special

from bids_sr.io.nifti import SeriesReader, SeriesWriter
from bids_sr.stats.glm.regressors import Events

TR = 2.0
Array = npt.NDArray[Any]


def noise(rng: np.random.Generator, n: int, voxels: int, rho: float) -> Array:
    """First-order autoregressive noise (n, voxels)."""
    return signal.lfilter([1.0], [1.0, -rho], rng.standard_normal((n + 100, voxels)), axis=0)[100:]


def study(n: int, rng: np.random.Generator) -> tuple[Events, pd.DataFrame]:
    """Events and confounds of a run of n volumes."""
    onsets = np.arange(10.0, n * TR - 20, 28)
    names = [("a", "b")[k % 2] for k in range(len(onsets))]
    walks = np.cumsum(rng.standard_normal((n, 6)), axis=0)
    steps = np.diff(walks, axis=0, prepend=walks[:1])
    columns = np.hstack([walks, steps, noise(rng, n, 5, 0.3)])
    table = pd.DataFrame(columns, columns=[f"confound{k}" for k in range(columns.shape[1])])
    return Events(pd.DataFrame({"onset": onsets, "duration": 14.0, "trial_type": names})), table


def per_mille(n: int, rho: float, seed: int, voxels: int, count: int) -> tuple[float, float]:
    """Rates of shuffles and of fresh noise, per mille, of one run."""
    rng = np.random.default_rng([n, round(100 * rho), seed])
    events, confounds = study(n, rng)
    settings = _shuffles.NullSettings(
        tr=TR, n_shuffles=count, confound_names=tuple(confounds.columns)
    )
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "series.nii"
        with SeriesWriter(path, (voxels, 1, 1, n), np.eye(4), TR) as writer:
            for row in (500 + 5 * noise(rng, n, voxels, rho)).astype(np.float32):
                writer.append(row[:, None, None])
        with SeriesReader(path) as reader:
            mask = np.ones((voxels, 1, 1), dtype=bool)
            found = _shuffles.null_rates(
                reader,
                mask,
                events,
                settings,
                scratch=Path(scratch) / "courses",
                confounds=confounds,
            )
    fresh = []
    for shuffle in range(count):
        draw = np.random.default_rng([0, 0, shuffle])
        phases = random_phases(n, draw)
        drawn, vector = _shuffles._drawn_design(events, n, settings, confounds, draw, phases)
        courses = noise(rng, n, voxels, rho)
        z = _shuffles._fitted(
            lambda given=courses: iter([(slice(0, voxels), given)]),
            drawn,
            vector,
            mask,
            (1.0, 1.0, 1.0),
            np.full(voxels, 500.0),
        )
        fresh.append((np.abs(z) > -special.ndtri(settings.p)).mean() / 2)
    return 1000 * float(found.rates.mean()), 1000 * float(np.mean(fresh))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=6)
    parser.add_argument("--voxels", type=int, default=2000)
    parser.add_argument("--shuffles", type=int, default=20)
    options = parser.parse_args()
    rows = []
    for n, rho in ((60, 0.0), (60, 0.3), (144, 0.0), (144, 0.3), (144, 0.6)):
        both = np.array(
            [
                per_mille(n, rho, seed, options.voxels, options.shuffles)
                for seed in range(options.runs)
            ]
        )
        ratio = both[:, 0].mean() / both[:, 1].mean()
        spread = (both[:, 0] / both[:, 1]).std(ddof=1) / np.sqrt(options.runs)
        rows.append(
            {
                "volumes": n,
                "coefficient": rho,
                "runs": options.runs,
                "shuffles, per mille": round(both[:, 0].mean(), 2),
                "fresh noise, per mille": round(both[:, 1].mean(), 2),
                "ratio": round(ratio, 2),
                "± (runs)": round(spread, 2),
            }
        )
    keep(
        "shuffles",
        "Voxels beyond p < .001: shuffles of noise, and fresh noise in the same models",
        rows,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
