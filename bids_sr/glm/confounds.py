"""Confounds of a BOLD run: head motion, change between volumes, tissues, noise components."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pandas as pd
from scipy import ndimage

from bids_sr.glm.streamed_fit import StreamedFit, in_batches
from bids_sr.io.arrays import Array, Float, Mask
from bids_sr.io.nifti import SeriesReader
from bids_sr.spatial.same_results import with_sign

MOTION = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")
HEAD_RADIUS_MM = 50.0
_BALL_MM = 80.0  # radius of the ball of `rms_displacement`, that of FSL
_ROWS = 4  # rows of a slice worked on at once: a few MB over 900 volumes
_FEW = 20  # voxels: a tissue mask with fewer is taken at a lower probability


def framewise_displacement(params: Array) -> Float:
    """Return framewise displacement (mm), first value NaN.

    It is the sum of absolute changes of the parameters (T, 6; mm, rad).

    Rotations become displacements on a sphere of 50 mm. Source: power2012, framewise displacement.

    `params`: six motion parameters, one row a volume (T, 6; mm, rad).
    """
    change = np.abs(np.diff(np.asarray(params, dtype=np.float64), axis=0))
    change[:, 3:] *= HEAD_RADIUS_MM
    return np.concatenate([[np.nan], change.sum(axis=1)])


def rms_displacement(matrices: Array, center: Array) -> Float:
    """Return RMS displacement (mm) since the previous volume over a ball of 80 mm, first NaN.

    `matrices` (T, 4, 4) take a point of the reference to where it lies in the volume; `center` is
    that of the ball, RAS mm. Source: jenkinson2002, of which the published form is the average
    over the ball in closed form.
    """
    change = np.linalg.inv(matrices[1:]) @ matrices[:-1]
    turn = change[:, :3, :3] - np.eye(3)
    shift = turn @ np.asarray(center, dtype=np.float64) + change[:, :3, 3]
    power = (shift**2).sum(axis=1) + (turn**2).sum(axis=(1, 2)) * _BALL_MM**2 / 5
    return np.concatenate([[np.nan], np.sqrt(power)])


def derivative(values: Array) -> Float:
    """Backward difference, first value NaN."""
    values = np.asarray(values, dtype=np.float64)
    return np.concatenate([[np.nan], np.diff(values)])


def _first_autocorrelation(series: Array) -> Float:
    """Lag-one autocorrelation (N,) of the rows (N, T), mean removed; 0 for a constant row.

    `series`: time series, one voxel a row (N, T).
    """
    centered = series - series.mean(axis=1, keepdims=True)
    power = (centered**2).sum(axis=1)
    return (centered[:, 1:] * centered[:, :-1]).sum(axis=1) / np.where(power > 0, power, 1.0)


def _robust_sd(series: Array) -> Float:
    """Standard deviation (N,) of the rows (N, T) from the quartiles.

    `series`: time series, one voxel a row (N, T).
    """
    high, low = np.percentile(series, [75, 25], axis=1)
    return (high - low) / 1.3489795


def dvars(volumes: Iterable[Array], mask: Mask) -> Float:
    """Return DVARS over the mask (signal units), first value NaN.

    It is the root mean square of each volume's change. Source: power2012.
    """
    out: list[float] = []
    before: Array | None = None
    for volume in volumes:
        now = volume[mask].astype(np.float64)
        out.append(np.nan if before is None else float(np.sqrt(((now - before) ** 2).mean())))
        before = now
    return np.array(out)


def expected_change(slabs: Iterable[Array]) -> float:
    """Return the mean over voxels of sqrt(2 (1 - ar1)) sd, from slabs (N, T).

    This is the change that a stationary series has by itself.

    Source: nichols2017, standardized DVARS: robust standard deviation, AR(1).

    `slabs`: time series in parts, one voxel a row (N, T). Change in signal units; NaN without
    voxels.
    """
    total, count = 0.0, 0
    for series in slabs:
        total += float(
            (np.sqrt(2 * (1 - _first_autocorrelation(series))) * _robust_sd(series)).sum()
        )
        count += len(series)
    return total / count if count else np.nan


def tissue_masks(tpms: Sequence[Array], mask: Mask) -> dict[str, Mask]:
    """Return masks of CSF and white matter inside the brain `mask`, and of their deep parts.

    From probabilities of gray matter, white matter and fluid. `deep_csf`, `deep_white_matter` and,
    of both together, `deep` hold no voxel that touches gray matter. On low-resolution grids few
    voxels are pure: where a mask has less than 20 voxels the probability asked for is lowered in
    steps, and what is deep may touch gray matter.

    Voxels of each tissue (3D, boolean) by name, maybe none.
    """
    gm, wm, csf = (np.asarray(p, dtype=np.float64) for p in tpms)

    def pure(probability: Array, where: Mask) -> Mask:
        kept = np.zeros_like(where)
        for least in (0.95, 0.9, 0.8, 0.7, 0.6, 0.5):
            kept = (probability >= least) & where
            if kept.sum() >= _FEW:
                break
        return kept

    apart = mask & ~ndimage.binary_dilation(gm > 0.5)

    def deep(probability: Array, otherwise: Array) -> Mask:
        found = pure(probability, apart)
        return found if found.sum() >= _FEW else pure(otherwise, mask)

    return {
        "csf": pure(csf, mask),
        "white_matter": pure(wm, mask),
        "deep_csf": deep(csf, csf),
        "deep_white_matter": deep(wm, wm),
        "deep": deep(np.maximum(wm, csf), wm + csf),
    }


def principal_components(slabs: Iterable[Array], basis: Float) -> tuple[Float, Float, Float]:
    """Return the unit-variance temporal components of many voxels, the largest first.

    The voxels are processed in parts and are never all held in memory.

    `basis`: (T, K) orthonormal, removed first (constant, slow cosines, ramp). (components (T, C),
    unit length, largest entry positive, as many as the voxels have rank; singular values (C,) of
    the series, each of standard deviation 1; share of variance (C,)) Source: behzadi2007,
    anatomical CompCor.
    """
    gram = np.zeros((len(basis), len(basis)))
    for series in slabs:
        left = series - (series @ basis) @ basis.T
        norm = np.linalg.norm(left, axis=1, keepdims=True)
        # what float32 rounding leaves of a constant voxel is no fluctuation
        steady = norm[:, 0] > 1e-6 * np.maximum(np.linalg.norm(series, axis=1), 1e-30)
        left = left[steady] / norm[steady]
        gram += left.T @ left
    values, vectors = np.linalg.eigh(gram)
    keep = np.argsort(values)[::-1]
    keep = keep[values[keep] > 1e-9 * max(float(values.max()), 1e-300)]
    vectors = with_sign(vectors[:, keep])
    total = float(np.trace(gram)) or 1.0
    return vectors, np.sqrt(len(gram) * np.maximum(values[keep], 0)), values[keep] / total


def slabs_of(reader: SeriesReader, mask: Mask, first: int) -> Iterator[Array]:
    """Yield (N, T - first) float64 series of the mask's voxels, some rows of a slice at a time.

    Of a slice only the rows that have voxels are read.
    """
    for z in range(reader.shape[2]):
        within = np.flatnonzero(mask[:, :, z].any(axis=0))
        if not len(within):
            continue
        begin, end = within[0] // _ROWS * _ROWS, within[-1] + 1
        slab = reader.slab(z, z + 1, rows=slice(begin, end), volumes=slice(first, None))[:, :, 0]
        for y in range(begin, end, _ROWS):
            inside = mask[:, y : min(y + _ROWS, end), z]
            if inside.any():
                yield slab[:, y - begin : y - begin + _ROWS][inside].astype(np.float64)


def most_variable(reader: SeriesReader, mask: Mask, first: int) -> Mask:
    """Return the 2 % of mask voxels with the largest variance about a parabola, in one pass.

    Source: behzadi2007, tCompCor.
    """
    steady = reader.shape[3] - first
    slow = np.linalg.qr(np.vander(np.linspace(-1, 1, steady), 3))[0]
    fit = StreamedFit(slow, reader.volume(first)[mask].astype(np.float64))
    for batch in in_batches(reader.volumes(start=first)):
        fit.add(np.stack([volume[mask] for volume in batch]))
    left = fit.residual_variance(1)
    found = np.zeros_like(mask)
    found[mask] = left >= np.percentile(left, 98)
    return found


def mean_signals(reader: SeriesReader, masks: dict[str, Mask]) -> tuple[dict[str, Float], Float]:
    """Return the mean signal of each (non-empty) mask and DVARS in the first, in one pass.

    `masks`: voxels to average by name (3D, boolean); the first is for DVARS.
    """
    out: dict[str, list[float]] = {name: [] for name in masks}

    def volumes() -> Iterable[Array]:
        for volume in reader.volumes():
            for name, mask in masks.items():
                out[name].append(float(volume[mask].mean(dtype=np.float64)))
            yield volume

    change = dvars(volumes(), next(iter(masks.values())))
    return {name: np.array(values) for name, values in out.items()}, change


def motion_table(params: Array, residual: Array) -> pd.DataFrame:
    """The six parameters (T, 6; mm, rad) and the residual of the estimate (T,) as a table.

    `params`: six motion parameters, one row a volume (T, 6; mm, rad).
    """
    table = pd.DataFrame(np.asarray(params), columns=list(MOTION))
    return table.assign(residual=np.asarray(residual))


def motion_columns(motion: pd.DataFrame) -> dict[str, Float]:
    """Return the six motion parameters, their backward differences and FD, by column name."""
    out: dict[str, Float] = {}
    for name in MOTION:
        values = motion[name].to_numpy(dtype=np.float64)
        out[name] = values
        out[f"{name}_derivative1"] = derivative(values)
    out["framewise_displacement"] = framewise_displacement(
        np.stack([out[n] for n in MOTION], axis=1)
    )
    return out


def is_complete(values: pd.Series) -> bool:
    """Return whether a confound has a number in every volume after the first.

    In the first volume, derivatives have none.
    """
    return bool(np.isfinite(values.to_numpy(dtype=np.float64)[1:]).all())
