"""Simulated noise of known kinds on a small volume, homogeneous or varying with tissue, and
designs to test it.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import ndimage, signal

from bids_sr.glm.regressors import Events

TR = 2.0
SHAPE, ZOOMS = (32, 32, 16), (3.0, 3.0, 3.0)
KINDS = ("white", "AR(1)", "AR + white", "pink")
Array = npt.NDArray[Any]
_LONG = 4096  # samples of pink noise; a window of them is used
_COLUMNS = 2048


def study(n: int, rng: np.random.Generator) -> tuple[Events, pd.DataFrame]:
    """Return events (blocks of 14 s, rest of 14 s) and 17 confounds (random walks, their steps, AR
    time series) of n volumes.
    """
    onsets = np.arange(10.0, n * TR - 20, 28)
    names = [("a", "b")[k % 2] for k in range(len(onsets))]
    walks = np.cumsum(rng.standard_normal((n, 6)), axis=0)
    slow = signal.lfilter([1.0], [1.0, -0.3], rng.standard_normal((n + 100, 5)), axis=0)[100:]
    columns = np.hstack([walks, np.diff(walks, axis=0, prepend=walks[:1]), slow])
    table = pd.DataFrame(columns, columns=[f"confound{k}" for k in range(columns.shape[1])])
    return Events(pd.DataFrame({"onset": onsets, "duration": 14.0, "trial_type": names})), table


def tissues() -> Array:
    """Return tissues (voxels,) 0, 1 or 2 for white matter, gray matter and fluid: patches and
    sheets of one to four voxels.
    """
    field = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal(SHAPE), 1.5)
    return np.digitize(field, np.quantile(field, [0.4, 0.85])).ravel()


def slope() -> Array:
    """Return a smooth map (voxels,) between -1 and 1."""
    field = ndimage.gaussian_filter(
        np.random.default_rng(1).standard_normal(SHAPE), 5, mode="wrap"
    )
    return (field / np.abs(field).max()).ravel()


def autoregressive(rng: np.random.Generator, n: int, rho: Array) -> Array:
    """Return stationary first-order noise (n, voxels) of variance 1 with coefficients
    (voxels,).
    """
    out = rng.standard_normal((n, len(rho)))
    out[1:] *= np.sqrt(1 - rho**2)
    for t in range(1, n):
        out[t] += rho * out[t - 1]
    return out


def pink(rng: np.random.Generator, n: int, count: int) -> Array:
    """Return noise (n, count) whose power falls as 1/f, of variance 1 over 4096 samples."""
    frequencies = np.fft.rfftfreq(_LONG)
    frequencies[0] = frequencies[1]
    size = frequencies**-0.5
    size /= np.sqrt((size**2).mean())
    out = np.empty((n, count))
    for start in range(0, count, _COLUMNS):
        part = rng.standard_normal((_LONG, min(_COLUMNS, count - start)))
        out[:, start : start + _COLUMNS] = np.fft.irfft(
            np.fft.rfft(part, axis=0) * size[:, None], axis=0
        )[:n]
    return out


def noise(kind: str, varied: bool, n: int, rng: np.random.Generator) -> Array:
    """Return time series (n, voxels) around a mean image.

    Intensity differs between tissues and varies smoothly over space, as in EPI. If `varied`,
    variance, coefficient (.15, .5, .35 in the tissues, ± .15 over space) or the colored fraction
    (.2, .7, .5, ± .15) vary as well.
    """
    kinds, smooth = tissues(), slope()
    count = len(kinds)
    rho = np.choose(kinds, [0.15, 0.5, 0.35]) + 0.15 * smooth if varied else np.full(count, 0.35)
    share = np.choose(kinds, [0.2, 0.7, 0.5]) + 0.15 * smooth if varied else np.full(count, 0.5)
    if kind == "white":
        courses = rng.standard_normal((n, count))
    elif kind == "AR(1)":
        courses = autoregressive(rng, n, rho)
    elif kind == "AR + white":
        courses = np.sqrt(share) * autoregressive(rng, n, np.full(count, 0.8))
        courses += np.sqrt(1 - share) * rng.standard_normal((n, count))
    else:
        courses = pink(rng, n, count)
        if varied:
            courses = np.sqrt(share) * courses + np.sqrt(1 - share) * rng.standard_normal(
                (n, count)
            )
    if varied:
        courses *= np.choose(kinds, [1.0, 1.3, 2.5])
    brightness = np.choose(kinds, [90.0, 100.0, 130.0]) * (
        1 + 0.3 * smooth
    ) + 4 * rng.standard_normal(count)
    return brightness + courses
