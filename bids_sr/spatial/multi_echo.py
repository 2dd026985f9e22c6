"""Optimal combination of the echoes of a multi-echo series, streamed, by tedana.

T2* of each voxel is fitted log-linearly to the means over time of the echoes, and each volume is
the mean of its echoes weighted by TE · exp(-TE / T2*) (Posse et al. 1999). Within the brain, late
echoes whose signal has dropped out count for neither, as tedana's adaptive mask tells them; the
first two always count. The echoes of a volume are acquired together, so that head motion moves
them alike; the weights vary slowly in space and are those of a voxel throughout the run.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from bids_sr.io.arrays import Float
from bids_sr.io.nifti import SeriesReader, SeriesWriter
from bids_sr.spatial.masks import MaskError, brain_mask

LEAST_MS, MOST_MS = 1.0, 500.0  # T2* that tissue can have; outside of it a fit is one of noise
_UNSTEADY = 5  # volumes
_READ_AT_A_TIME = 8  # read at a time


def t2star(
    means: Sequence[np.ndarray], tes_ms: Sequence[float], used: np.ndarray | None = None
) -> Float:
    """T2* (ms), (N,), from the mean signal of each echo, (N,) each; within what tissue can have.

    `used` is the number of echoes of each voxel that are fitted, the first ones; by default all.

    `means`: mean over time of each echo (N,), by ascending echo time.

    >>> signal = [1000 * np.exp(-te / np.array([30.0, 60.0])) for te in (10.0, 25.0, 40.0)]
    >>> t2star(signal, (10.0, 25.0, 40.0)).round().tolist()
    [30.0, 60.0]
    """
    from tedana.decay import fit_loglinear

    data = np.stack([np.asarray(mean, dtype=np.float64) for mean in means], axis=1)[..., None]
    every = np.full(len(data), len(means), dtype=int) if used is None else used
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.asarray(fit_loglinear(data, list(tes_ms), every, report=False)[0])
    found = np.where(np.isfinite(found) & (found > 0), found, MOST_MS)
    return np.clip(found, LEAST_MS, MOST_MS)


def _echoes_with_signal(means: Sequence[np.ndarray], affine: np.ndarray) -> np.ndarray:
    """Return the number of echoes used for each voxel, (N,).

    Within the brain these are the echoes before the signal drops out, at least two.
    """
    from tedana.utils import make_adaptive_mask

    used = np.full(means[0].size, len(means), dtype=int)
    try:
        inside = brain_mask(means[0], affine).ravel()
    except MaskError:
        return used
    data = np.stack([mean.ravel()[inside] for mean in means], axis=1)[..., None]
    if len(data):
        found = make_adaptive_mask(data, threshold=1, methods=["dropout"])
        used[inside] = np.maximum(
            found[1] if isinstance(found, tuple) else found, min(2, len(means))
        )
    return used


def combine_echoes(paths: Sequence[Path], tes_ms: Sequence[float], out: Path) -> Float:
    """Write the optimal combination of the echoes of a run; returns T2* (ms), (X, Y, Z).

    The first volumes, which may not be in the steady state, do not count for T2*.

    Parameters
    ----------
    paths : Sequence[Path]
        Series of the echoes, (X, Y, Z, T) each, on one grid.
    tes_ms : Sequence[float]
        Their echo times.
    out : Path
        Series written, whole or not at all.

    Returns
    -------
    Float
        T2* of each voxel, from 1 to 500 ms (3D).

    Raises
    ------
    ValueError : the echoes do not belong together
    """
    from tedana.combine import make_optcom

    with ExitStack() as stack:
        readers = [stack.enter_context(SeriesReader(path)) for path in paths]
        first = readers[0]
        odd = next((each for each in readers if each.shape != first.shape), None)
        if odd is not None:
            raise ValueError(
                f"{odd.path}: the image has shape {odd.shape}, but the first echo has shape "
                f"{first.shape}. All echoes must have the same shape."
            )
        n_volumes = first.shape[3]
        means = [reader.mean(min(_UNSTEADY, n_volumes // 4)) for reader in readers]
        used = _echoes_with_signal(means, first.affine)
        times = t2star([mean.ravel() for mean in means], tes_ms, used)
        writer = stack.enter_context(
            SeriesWriter(out, first.shape, first.affine, first.tr, header_like=first.header)
        )
        for start in range(0, n_volumes, _READ_AT_A_TIME):
            stop = min(start + _READ_AT_A_TIME, n_volumes)
            data = np.stack(
                [
                    np.stack([v.ravel() for v in reader.volumes(start, stop)], axis=1)
                    for reader in readers
                ],
                axis=1,
            )
            combined = make_optcom(data.astype(np.float64), list(tes_ms), used, t2s=times)
            for column in np.asarray(combined).T:
                writer.append(column.reshape(first.shape[:3]).astype(np.float32))
        return times.reshape(first.shape[:3])
