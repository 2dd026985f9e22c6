"""Optimal combination of the echoes of a multi-echo series with tedana, in blocks of volumes.

T2* of each voxel is fitted log-linearly to the mean of each echo over time. Each combined volume
is the mean of the echoes weighted by TE · exp(-TE / T2*) (Posse et al. 1999). Within the brain,
late echoes with signal dropout according to tedana's adaptive mask are excluded from the fit and
from the mean, but the first two echoes are always used. The echoes of a volume are acquired
together, so head motion affects them equally. The weights vary slowly in space and are constant
throughout the run.
"""

import math
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from bids_sr.io.arrays import Float
from bids_sr.io.nifti import SeriesReader, SeriesWriter
from bids_sr.io.orientation import storage_order
from bids_sr.spatial.masks import MaskError, brain_mask

_MIN_T2STAR_MS, _MAX_T2STAR_MS = 1.0, 500.0  # range in tissue; values outside are fits to noise
_MAX_UNSTEADY_S = 10.0  # s at the start of a run that may not be in the steady state
_VOLUMES_PER_BLOCK = 8  # volumes in memory at a time


def combine_echoes(paths: Sequence[Path], tes_ms: Sequence[float], out: Path) -> Float:
    """Write the optimal combination of the echoes of a run.

    The first volumes, which may not be in the steady state (`limit_unsteady`), are excluded from
    the T2* fit.

    Parameters
    ----------
    paths : Sequence[Path]
        Series of the echoes on one grid (X, Y, Z, T each). Echoes whose voxels are stored in
        another order than in the first echo are turned.
    tes_ms : Sequence[float]
        Echo times (ms).
    out : Path
        Combined series.

    Returns
    -------
    Float
        T2* in each voxel (3D), from 1 to 500 ms.
    """
    from tedana.combine import make_optcom

    with ExitStack() as stack:
        readers = [stack.enter_context(SeriesReader(path)) for path in paths]
        first = readers[0]
        orders = [storage_order(reader.affine, first.affine) for reader in readers]
        n_volumes = first.shape[3]
        n_unsteady = limit_unsteady(n_volumes, first.tr)
        means = [
            order.turn(reader.mean(n_unsteady))
            for reader, order in zip(readers, orders, strict=True)
        ]
        n_used = _count_usable_echoes(means, first.affine)
        t2star_ms = fit_t2star([mean.ravel() for mean in means], tes_ms, n_used)
        writer = stack.enter_context(
            SeriesWriter(out, first.shape, first.affine, first.tr, header_like=first.header)
        )
        for start in range(0, n_volumes, _VOLUMES_PER_BLOCK):
            stop = min(start + _VOLUMES_PER_BLOCK, n_volumes)
            # (voxels, echoes, volumes)
            block = np.stack(
                [
                    np.stack(
                        [order.turn(volume).ravel() for volume in reader.volumes(start, stop)],
                        axis=1,
                    )
                    for reader, order in zip(readers, orders, strict=True)
                ],
                axis=1,
            )
            combined_volumes = make_optcom(
                block.astype(np.float64), list(tes_ms), n_used, t2s=t2star_ms
            )
            for combined_volume in np.asarray(combined_volumes).T:
                writer.append(combined_volume.reshape(first.shape[:3]).astype(np.float32))
        return t2star_ms.reshape(first.shape[:3])


def limit_unsteady(n_volumes: int, tr: float) -> int:
    """Return the number of volumes at the start of a run that may not be in the steady state.

    This is 10 s, but at most a quarter of the volumes. `tr` is the repetition time (s), or 0 if it
    is not known.
    """
    n_unsteady = n_volumes // 4
    return min(math.ceil(_MAX_UNSTEADY_S / tr), n_unsteady) if tr > 0 else n_unsteady


def _count_usable_echoes(means: Sequence[np.ndarray], affine: np.ndarray) -> np.ndarray:
    """Return the number of echoes to use in each voxel (N,).

    Outside the brain all echoes are used. Within the brain these are the echoes before signal
    dropout, at least two.
    """
    from tedana.utils import make_adaptive_mask

    n_used = np.full(means[0].size, len(means), dtype=int)
    try:
        is_brain = brain_mask(means[0], affine).ravel()
    except MaskError:
        return n_used
    brain_means = np.stack([mean.ravel()[is_brain] for mean in means], axis=1)[..., None]
    if len(brain_means):
        _, adaptive_mask = make_adaptive_mask(brain_means, threshold=1, methods=["dropout"])
        n_used[is_brain] = np.maximum(adaptive_mask, min(2, len(means)))
    return n_used


def fit_t2star(
    means: Sequence[np.ndarray], tes_ms: Sequence[float], n_used: np.ndarray | None = None
) -> Float:
    """Fit T2* (ms) to the mean signal of each echo.

    `means` are means over time of each echo (N,), by ascending echo time. `n_used` is the number
    of echoes to fit in each voxel, counted from the first (N,); None uses all echoes. T2* (N,) is
    limited to 1 to 500 ms.

    >>> signal = [1000 * np.exp(-te / np.array([30.0, 60.0])) for te in (10.0, 25.0, 40.0)]
    >>> fit_t2star(signal, (10.0, 25.0, 40.0)).round().tolist()
    [30.0, 60.0]
    """
    from tedana.decay import fit_loglinear

    signal = np.stack([np.asarray(mean, dtype=np.float64) for mean in means], axis=1)[..., None]
    n_fitted = np.full(len(signal), len(means), dtype=int) if n_used is None else n_used
    with np.errstate(divide="ignore", invalid="ignore"):
        t2star_ms = np.asarray(fit_loglinear(signal, list(tes_ms), n_fitted, report=False)[0])
    t2star_ms = np.where(np.isfinite(t2star_ms) & (t2star_ms > 0), t2star_ms, _MAX_T2STAR_MS)
    return np.clip(t2star_ms, _MIN_T2STAR_MS, _MAX_T2STAR_MS)
