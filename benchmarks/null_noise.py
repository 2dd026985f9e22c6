"""Variance and false positives of noise models at TR .1 to 3 s, in noise with known fluctuations.

python benchmarks/null_noise.py [--draws N] [--library-draws N] [--tr S …]

A run has 300 s with blocks of 20 s and without effects. Noise is white noise plus first-order
autoregressive fluctuations with a time constant of 2, 5 or 10 s, in 2,048 independent voxels.
Noise is alike in all voxels, or fluctuations differ by tissue (standard deviation 3.5, 7 and 10.5
in patches that differ in brightness). z passes p < .001 one-sided; the rate is the mean over both
tails. nilearn fits the first draws of noise that is alike.
"""

import argparse
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from _table import keep
from nilearn.glm.contrasts import compute_contrast
from nilearn.glm.first_level import make_first_level_design_matrix, run_glm
from numpy.typing import NDArray
from scipy import ndimage, signal, special

from bids_sr.glm.linear_model import ContrastModel
from bids_sr.glm.noise import estimate_noise

Array = NDArray[Any]
Maps = dict[str, Array]
SHAPE, ZOOMS = (16, 16, 8), (3.0, 3.0, 3.0)
RUN_S, BLOCK_S = 300.0, 20.0
TIME_CONSTANTS_S = (2.0, 5.0, 10.0)
TISSUE_CONSTANT_S = 5.0
SLOW_SD = 7.0
TISSUE_SDS, TISSUE_MEANS = (3.5, 7.0, 10.5), (900.0, 1000.0, 1300.0)
LIBRARY_MODELS = ("ar1", "ar3")
THRESHOLD = -float(special.ndtri(0.001))


def make_design(tr: float) -> Array:
    """Return the columns of a run: response to blocks, cosines up to 1/128 Hz, and constant."""
    onsets = np.arange(BLOCK_S, RUN_S - BLOCK_S, 2 * BLOCK_S)
    events = pd.DataFrame({"onset": onsets, "duration": BLOCK_S, "trial_type": "a"})
    times = tr * (np.arange(int(RUN_S / tr)) + 0.5)
    table = make_first_level_design_matrix(times, events, hrf_model="spm", high_pass=1 / 128)
    return np.asarray(table.to_numpy())


def find_tissues() -> Array:
    """Return patches of a few voxels, numbered 0 to 2 (voxels,)."""
    values = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal(SHAPE), 1.5)
    return np.digitize(values, np.quantile(values, [0.4, 0.85])).ravel()


def simulate(tr: float, constant_s: float, slow_sd: Array, means: Array, seed: int) -> Array:
    """Return time series (T, voxels); white noise has SD 7 at TR 2 s and 13 at TR .25 s."""
    rng = np.random.default_rng(seed)
    n, keep_fraction = int(RUN_S / tr), np.exp(-tr / constant_s)
    innovations = rng.standard_normal((n, len(slow_sd))) * np.sqrt(1 - keep_fraction**2)
    innovations[0] /= np.sqrt(1 - keep_fraction**2)
    slow = signal.lfilter([1.0], [1.0, -keep_fraction], innovations, axis=0)
    white = 7.0 * (2.0 / tr) ** 0.3 * rng.standard_normal(slow.shape)
    return np.asarray(means + slow_sd * slow + white)


def fit_own(signals: Array, matrix: Array, tr: float) -> Maps:
    """Fit the model of this program."""
    mask = np.ones(SHAPE, dtype=bool)
    noise = estimate_noise([(slice(0, signals.shape[1]), signals)], matrix, mask, ZOOMS, tr)
    return ContrastModel(matrix, np.eye(matrix.shape[1])[0], noise).fit(signals)


def fit_library(signals: Array, matrix: Array, model: str) -> Maps:
    """Fit a noise model of nilearn."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = run_glm(signals, matrix, noise_model=model)
        contrast = compute_contrast(*fitted, np.eye(matrix.shape[1])[0])
    return {
        "effect": contrast.effect_size(),
        "variance": contrast.effect_variance(),
        "z": contrast.z_score(),
    }


def measure(fit: Callable[[], Maps], patches: Array) -> Array:
    """Return variance relative to its true value, false positives (per mille) and CPU time (s).

    They are followed by the false positives of each tissue.
    """
    started = time.process_time()
    maps = fit()
    seconds = time.process_time() - started
    hits = 500 * (np.abs(np.ravel(maps["z"])) > THRESHOLD)
    variance = np.mean(maps["variance"]) / np.mean(np.square(maps["effect"]))
    by_tissue = [hits[patches == tissue].mean() for tissue in np.unique(patches)]
    return np.array([variance, hits.mean(), seconds, *by_tissue])


def compare(
    tr: float, constant_s: float, tissues: Array | None, draws: int, library_draws: int
) -> list[dict[str, Any]]:
    """Return a row per noise model; `tissues` is None if noise is alike in all voxels."""
    matrix = make_design(tr)
    patches = np.ones(np.prod(SHAPE), dtype=int) if tissues is None else tissues
    slow_sd, means = np.take(TISSUE_SDS, patches), np.take(TISSUE_MEANS, patches)
    values: dict[str, list[Array]] = {}
    for seed in range(draws):
        signals = simulate(tr, constant_s, slow_sd, means, seed)
        fits: dict[str, Callable[[], Maps]] = {
            "bids-sr": lambda signals=signals: fit_own(signals, matrix, tr)
        }
        if tissues is None and seed < library_draws:
            for model in LIBRARY_MODELS:
                fits[f"nilearn {model}"] = lambda signals=signals, model=model: fit_library(
                    signals, matrix, model
                )
        for model, fit in fits.items():
            values.setdefault(model, []).append(measure(fit, patches))
    rows = []
    for model, numbers in values.items():
        variance, rate, seconds, *by_tissue = np.mean(numbers, axis=0)
        rows.append(
            {
                "TR (s)": tr,
                "time constant (s)": constant_s,
                "over voxels": "alike" if tissues is None else "by tissue",
                "model": model,
                "draws": len(numbers),
                "variance / true": round(float(variance), 2),
                "p < .001, per mille": round(float(rate), 2),
                "by tissue": "" if tissues is None else ", ".join(f"{x:.2f}" for x in by_tissue),
                "CPU s": round(float(seconds), 1),
            }
        )
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--library-draws", type=int, default=5)
    parser.add_argument("--tr", type=float, nargs="+", default=[0.1, 0.25, 0.5, 1.0, 2.0, 3.0])
    options = parser.parse_args()
    rows = []
    for tr in options.tr:
        cases = [(constant_s, None) for constant_s in TIME_CONSTANTS_S]
        for constant_s, tissues in (*cases, (TISSUE_CONSTANT_S, find_tissues())):
            rows += compare(tr, constant_s, tissues, options.draws, options.library_draws)
            sys.stderr.write("".join(f"{row}\n" for row in rows[-3:]))
    keep("null_noise", "Variance and false positives of noise models, by TR", rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
