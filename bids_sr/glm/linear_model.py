"""General linear model with autoregressive noise, in blocks of voxels.

Generalized least squares under the autocorrelation that `bids_sr.glm.noise` finds. Results of a
voxel are mixtures of those by a few processes, and the first samples are whitened exactly too.
Unlike nilearn's `run_glm`

- the autocorrelation is pooled, and corrected for what the design takes out of residuals. With an
  AR(1) coefficient of each voxel's own, t passes p < .001 up to 3.4 times as often as it should in
  runs of 60 volumes, and longer models are worse (`benchmarks/null_noise.py`);
- degrees of freedom are counted once, by rank, and z is taken with fewer where voxels of one model
  differ in their noise (`bids_sr.glm.noise.effective_dof`).

Activation maps of one series: correlation and general linear model, in bounded memory.

The same code, model, mask and scale serve every series (raw, baselines, methods), so that a
difference between their maps is a difference between the series. Detrending and low-pass belong to
the correlation; the linear model gets the unfiltered series, with drift and motion as regressors.
"""

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from scipy.linalg import toeplitz

from bids_sr.frozen import frozen
from bids_sr.glm.confounds import slow_cosines
from bids_sr.glm.contrasts import Contrasts
from bids_sr.glm.design import (
    MOTION,
    Design,
    Regressors,
    build_design,
    contrast_vector,
    nuisance_columns,
)
from bids_sr.glm.noise import (
    AT_ONCE,
    Noise,
    effective_dof,
    estimate_noise,
    exceeds_rounding,
    levinson,
    orthonormal,
)
from bids_sr.glm.time_columns import cosines_outside, time_column_names
from bids_sr.glm.time_series import (
    BLOCK_BYTES,
    FLAT,
    VoxelTimeSeries,
    extract_time_series,
    largest_size,
    places_in_volume,
)
from bids_sr.io.grids import Float, Float32, Mask, Real, parts_of
from bids_sr.io.nifti import SeriesReader

_NUDGE = 1e-3  # of an autocorrelation, for slopes
_ROUNDING = 1e-15  # of a sum of squares
_TINY = 1e-300
_Z_MAX = 37.0  # a normal tail beyond this is below the smallest double
_HILL_DOF, _HILL_T = 60, 10.0  # least degrees of freedom and largest t of Hill's expansion


@frozen
class _Precision:
    """Inverse covariance of series that share one autoregressive process.

    It is in units of the variance that the process cannot predict, and has the same diagonals
    everywhere but in two corners of p rows, which are alike forward and backward.
    """

    diagonals: Float  # (p + 1,)
    corner: Float  # (p, p) what is added there

    @classmethod
    def of(cls, rho: Float) -> "_Precision":
        """For autocorrelations (p,) at lags 1 … p."""
        predictors, left = levinson(rho[None])
        order = len(rho)
        # what earlier samples do not predict: with so many rows the corners lie apart
        white = np.eye(3 * order + 1)
        for t, row in enumerate(white):
            known = min(t, order)
            row[t - known : t] = -predictors[known][0][::-1]
            row /= np.sqrt(left[0, known] / left[0, -1])
        whole = white.T @ white
        diagonals = whole[order, order : 2 * order + 1]
        return cls(diagonals=diagonals, corner=whole[:order, :order] - toeplitz(diagonals[:order]))

    def __call__(self, columns: Float) -> Float:
        """The matrix times columns (T, N)."""
        out = self.diagonals[0] * columns
        for lag, value in enumerate(self.diagonals[1:], 1):
            out[lag:] += value * columns[:-lag]
            out[:-lag] += value * columns[lag:]
        for end in (slice(len(self.corner)), slice(None, -len(self.corner) - 1, -1)):
            out[end] += self.corner @ columns[end]
        return out

    def energy(self, products: Float, ends: Float) -> Float:
        """Energy (N,) of series with lag products (p + 1, N) and ends (2, p, N), from outside."""
        inner = 2 * self.diagonals @ products - self.diagonals[0] * products[0]
        return inner + (ends * (self.corner @ ends)).sum(axis=(0, 1))


@frozen
class _Whitened:
    """Whitened least squares by one model of the noise.

    It holds what takes a series (T,) to its whitened coefficients in an orthonormal basis of the
    whitened design, (R, T), the weights (C, R) that read the contrasts off them, and the degrees
    of freedom of t.
    """

    precision: _Precision
    fit: Float
    weights: Float
    effective: Float


def _t_to_z(t: Float, dof: float | Float) -> Float:
    """Convert t to normal deviates with the same tail probability, |z| ≤ 37.

    With many degrees of freedom and |t| ≤ 10, z is taken from an expansion with a relative error
    below 2e-10 (Hill 1970, Algorithm 395, as a deviate). Other values are computed in the tail, so
    that large ones keep their accuracy.
    """
    from scipy import special

    size = np.abs(t)
    square = (dof - 0.5) * np.log1p(np.square(np.minimum(size, _HILL_T)) / dof)
    large = 48 * np.square(dof - 0.5)
    tail = ((-0.4 * square - 3.3) * square - 24) * square - 85.5
    tail /= 0.8 * np.square(square) + 100 + large
    z = np.asarray(np.sqrt(square) * (1 + (tail + square + 3) / large))
    rest = (dof < _HILL_DOF) | ~(size <= _HILL_T)
    z[rest] = -special.ndtri(special.stdtr(np.broadcast_to(dof, z.shape)[rest], -size[rest]))
    return np.copysign(np.minimum(z, _Z_MAX), t)


class ContrastModel:
    """Design, contrasts and noise model of one run, to be fitted to successive blocks of voxels.

    Given the noise, a voxel's result depends on its own time series alone, whatever block it comes
    in. The design is (T, P), a constant among its columns' combinations, contrasts are (C, P); the
    rank of the design is found if not told.
    """

    def __init__(
        self, matrix: Float, contrasts: Float, noise: Noise, *, rank: int | None = None
    ) -> None:
        self.matrix = np.asarray(matrix, dtype=np.float64)
        self.contrasts = np.atleast_2d(np.asarray(contrasts, dtype=np.float64))
        if self.contrasts.shape[1] != self.matrix.shape[1]:
            raise ValueError(
                f"the contrasts have {self.contrasts.shape[1]} weights, but the design matrix "
                f"has {self.matrix.shape[1]} columns"
            )
        self.dof = self.matrix.shape[0] - (
            int(np.linalg.matrix_rank(self.matrix)) if rank is None else rank
        )
        if self.dof < 1:
            raise ValueError(
                f"the design matrix has {self.matrix.shape[0]} rows, which leave no degrees of "
                "freedom"
            )
        # the whitened basis has the rank of the design, whatever columns repeat each other
        self._basis = orthonormal(self.matrix)
        self._weights = self.contrasts @ np.linalg.pinv(self.matrix) @ self._basis
        self._noise = noise
        self._groups: dict[int, _Whitened] = {}

    def _reading(self, precision: _Precision) -> tuple[Float, Float]:
        """Whitened coefficients from series, (R, T), and weights of the contrasts in them."""
        reading = precision(self._basis).T
        root = np.linalg.cholesky(reading @ self._basis)
        return np.linalg.solve(root, reading), np.linalg.solve(root, self._weights.T).T

    def _factors(self, rho: Float) -> Float:
        """(C,) variances of the effects, in units of what the process (p,) leaves unpredicted."""
        return np.square(self._reading(_Precision.of(rho))[1]).sum(axis=1)

    def _solve(self, group: int) -> _Whitened:
        rho = self._noise.rho[group]
        spread = self._noise.spread[group]
        precision = _Precision.of(rho)
        factors = self._factors(rho)
        fit, weights = self._reading(precision)
        slopes = np.stack(
            [
                np.log(self._factors(rho + row) / factors) / _NUDGE
                for row in _NUDGE * np.eye(len(rho))
            ]
        )
        uncertainty = np.einsum("pc,pq,qc->c", slopes, spread, slopes)
        return _Whitened(
            precision=precision,
            fit=fit,
            weights=weights,
            effective=effective_dof(self.dof, uncertainty),
        )

    def fit(self, signals: Real, voxels: slice = slice(None)) -> dict[str, Float]:
        """Estimate C contrasts in unfiltered signals (T, N); return maps (C, N) by name.

        The signals are of some of the voxels of the noise model.

        ``effect``, in the series' unit, is the signal change of a sustained block, ``variance``
        its own; ``t`` is 0 where a voxel does not vary, ``z`` the normal deviate of the same tail
        (`_t_to_z`) with ``effective`` degrees of freedom, fewer than `dof` where voxels that share
        a model of the noise differ in it.

        `signals`: time series, one voxel a column (T, N).
        """
        from bids_sr.spatial.spline_kernels import add_lag_products, center

        n = signals.shape[1]
        order = self._noise.rho.shape[1]
        labels = self._noise.labels[voxels]
        if len(labels) != n:
            raise ValueError(
                f"the time series has {n} voxels, but noise was estimated for {len(labels)} voxels"
            )
        # the voxels of a cell side by side
        places = np.argsort(labels, kind="stable")
        signals = np.take(signals, places, axis=1, mode="clip")
        labels, shares = labels[places], self._noise.shares[voxels][places].T
        mean, largest = np.zeros(n), np.zeros(n)
        products, ends = np.zeros((order + 1, n)), np.zeros((2, order, n))
        for part in parts_of(n, AT_ONCE):
            taken = np.ascontiguousarray(signals[:, part])
            y, about = np.empty_like(taken, dtype=np.float64), np.empty((3, taken.shape[-1]))
            center(taken, y, about)
            mean[part], _, largest[part] = about
            ends[..., part] = y[:order], y[: -order - 1 : -1]
            sums = np.zeros((order + 1, y.shape[1]))
            add_lag_products(y, sums)
            products[:, part] = sums
        effect, variance, effective = (np.zeros((len(self.contrasts), n)) for _ in range(3))
        for cell in np.unique(labels):
            members = slice(*np.searchsorted(labels, [cell, cell + 1]))
            centered = np.subtract(signals[:, members], mean[members], dtype=np.float64)
            for group, share in zip(self._noise.cells[cell], shares[:, members], strict=True):
                if group not in self._groups:
                    self._groups[group] = self._solve(group)
                model = self._groups[group]
                coefficients = model.fit @ centered
                energy = model.precision.energy(products[:, members], ends[..., members])
                # at least what rounding leaves
                left = np.maximum(energy - np.square(coefficients).sum(axis=0), _ROUNDING * energy)
                effect[:, members] += share * (model.weights @ coefficients)
                # as logarithms: far from the mean the variance grows many times over in a cell
                size = np.log(np.maximum(left, _TINY) / self.dof)
                factors = np.log(np.square(model.weights).sum(axis=1))
                variance[:, members] += share * (factors[:, None] + size)
                effective[:, members] += share * model.effective[:, None]
            np.exp(variance[:, members], out=variance[:, members])
        still = ~exceeds_rounding(len(signals), products[0], largest)
        effect[:, still], variance[:, still], effective[:, still] = 0, 0, self.dof
        t = np.divide(effect, np.sqrt(variance), out=np.zeros_like(effect), where=variance > 0)
        found = {
            "effect": effect,
            "variance": variance,
            "t": t,
            "z": np.stack([_t_to_z(*row) for row in zip(t, effective, strict=True)]),
            "effective": effective,
        }
        back = np.argsort(places)
        return {name: values[:, back] for name, values in found.items()}


_LOGGER = logging.getLogger(__name__)


_Filter = tuple[Float, Float | None]


def _temporal_filter(n: int, tr: float, low_pass: float | None) -> _Filter:
    """Return linear detrending and a low-pass for n samples, tr seconds apart.

    Two sets of time series: constant and slope (T, 2), and the cosines kept (T, K), detrended, or
    None where nothing is filtered out. A low-pass of None, 0 or at or above the Nyquist frequency
    (Hz) is detrending alone; ValueError where it leaves no cosine, as the run is shorter than half
    a period.

    They come before the correlation with the task, the activation map of the paper. Source:
    STSS-SRfMRI (stss-srfmri), equation 1, on vectors without their mean: of raw signals the
    equation is nearly constant, as all of them are mostly mean. The paper names no cut-off of the
    low-pass; 0.1 Hz is ours: the canonical response passes little above it, and respiration lies
    above it. It is the projection on cosines (DCT-II) up to the cut-off: no phase, no start-up,
    the same at both ends. The task's time series is detrended and filtered alike. Blocks of other
    conditions stay in the time series, as in the paper; only the GLM takes them out.
    """
    slope = np.arange(n) - (n - 1) / 2
    trend = np.column_stack([np.full(n, n**-0.5), slope / np.linalg.norm(slope)])
    if not low_pass or low_pass >= 0.5 / tr:
        return trend, None
    band = np.sqrt(2 / n) * slow_cosines(n, tr, low_pass)[:, 1:]
    if band.shape[1] < 2:
        raise ValueError(
            f"a low-pass filter with a cut-off of {low_pass} Hz removes all signal from a run "
            f"of {n * tr:.0f} s"
        )
    return trend, band - trend @ (trend.T @ band)


def _filter_of_design(design: Design, low_pass: float | None, confounds: bool) -> _Filter:
    """Return the filter of correlations for a design with columns of the temporal model.

    Constant, slope, these columns and the cosines above the low-pass are regressed out together,
    so that censored volumes have no weight and nothing is interpolated before filtering.

    `confounds`: whether the confounds of the design are regressed out with them.
    """
    names = (
        nuisance_columns(design.columns, design.conditions)
        if confounds
        else time_column_names(design.columns)
    )
    n, tr = len(design.matrix), design.tr
    columns = [np.ones(n), np.linspace(-1, 1, n)]
    columns += [design.matrix[:, design.columns.index(name)] for name in names]
    if low_pass and low_pass < 0.5 / tr:
        columns += list(cosines_outside(n, tr, 0.0, low_pass)[0].T)
    trend = orthonormal(np.column_stack(columns))
    if trend.shape[1] > n - 2:
        raise ValueError(
            f"temporal filters and censoring remove all signal from the {n} volumes. Use a "
            "wider --band-pass or a higher --low-pass, or censor fewer volumes"
        )
    return trend, None


def _filtered(signals: Float, temporal: _Filter) -> Float:
    """Filtered time series (T, N), or what they are in units of the band's cosines, (K, N)."""
    trend, band = temporal
    if band is None:
        return signals - trend @ (trend.T @ signals)
    return band.astype(signals.dtype).T @ signals


def _cross_correlation(signals: Real, tasks: Float, temporal: _Filter) -> Float:
    """Return CC = x·y / (|x| |y|), (C, N), of filtered signals (T, N) and tasks (T, C).

    It is 0 where a voxel does not vary.

    `signals`: time series, one voxel a column (T, N). `tasks`: predicted time series, one contrast
    a column (T, C). Correlations from -1 to 1, one contrast a row.
    """
    # less the first volume, as single precision is enough for what changes
    x, y = (_filtered(values - values[0], temporal) for values in (tasks, signals))
    x_norm, y_norm = np.linalg.norm(x, axis=0), np.linalg.norm(y, axis=0)
    flat = y_norm <= FLAT * np.sqrt(len(signals)) * largest_size(signals)
    scale = x_norm[:, None] * np.where(flat, 1.0, y_norm)[None, :]
    out = np.divide(x.T @ y, scale, out=np.zeros_like(scale), where=scale > 0)
    out[:, flat] = 0.0
    return np.clip(out, -1.0, 1.0)


_CORRELATED = 512  # voxels at once, so that the tasks are seldom filtered again
_STATS: Mapping[str, tuple[str, ...]] = {"cc": ("cc",), "glm": ("effect", "variance", "t", "z")}


@frozen
class ActivationSettings:
    """Settings of activation maps: the linear model of a run, the same for all of its series.

    They also say what is mapped.

    `start_time`: moment of a volume for which its values hold (s after its start); None: the
    middle of TR. `block_bytes`: memory for a block of voxels; no result depends on it. `low_pass`:
    hz, correlation only; None: none. `correlation_confounds`: whether confounds are regressed out
    of the time series that are correlated; the linear model always has them.
    """

    tr: float
    n_dummy: int = 0
    smoothing: tuple[float, ...] = (0.0,)
    high_pass: float = 1 / 128
    start_time: float | None = None
    confound_names: tuple[str, ...] = MOTION
    block_bytes: int = BLOCK_BYTES
    kinds: tuple[Literal["cc", "glm"], ...] = ("cc", "glm")
    low_pass: float | None = 0.1
    correlation_confounds: bool = False

    def design(self, events: Regressors, n_volumes: int, confounds: pd.DataFrame | None) -> Design:
        """See `build_design`.

        `confounds`: confounds of the run, one row a volume; None: none enter the model.
        """
        design = build_design(
            events,
            n_volumes=n_volumes,
            tr=self.tr,
            n_dummy=self.n_dummy,
            start_time=self.start_time,
            high_pass=self.high_pass,
            confounds=confounds,
            confound_names=self.confound_names,
        )
        if silent := sorted(set(events.conditions) - set(design.conditions)):
            _LOGGER.warning(
                "The conditions %s have no events inside the run and are not modeled.",
                ", ".join(silent),
            )
        return design


class _MapsInMask(Mapping[tuple[str, str], Float32]):
    """Maps by (contrast, stat), of which the voxels in the mask are held.

    Each is put on its grid whenever it is asked for.
    """

    def __init__(self, values: Mapping[str, Float32], names: Sequence[str], mask: Mask) -> None:
        self._values, self._shape = values, mask.shape
        # maps have X contiguous, as in a file
        self._places = places_in_volume(mask)
        self._rows = {(name, stat): row for row, name in enumerate(names) for stat in values}

    def __getitem__(self, key: tuple[str, str]) -> Float32:
        whole = np.zeros(math.prod(self._shape), dtype=np.float32)
        whole[self._places] = self._values[key[1]][self._rows[key]]
        return whole.reshape(self._shape, order="F")

    def __contains__(self, key: object) -> bool:
        return key in self._rows

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


@frozen
class ActivationMaps:
    """Maps by (contrast, stat), each (X, Y, Z) float32 and 0 outside the mask.

    The stat is cc, effect, variance, t or z. Maps are made anew whenever they are looked up.

    `noise_order`: lags of the noise model (0: white), None where there is no linear model.
    """

    maps: Mapping[tuple[str, str], Float32]
    design: Design
    noise_order: int | None = None


def _fit(
    signals: VoxelTimeSeries,
    design: Design,
    vectors: Float,
    settings: ActivationSettings,
    mask: Mask,
    zooms: Sequence[float],
) -> tuple[dict[str, Float32], int | None]:
    """Values by stat, (contrasts, voxels) float32; order of noise."""
    stats = [stat for kind in settings.kinds for stat in _STATS[kind]]
    values = {
        stat: np.zeros((len(vectors), len(signals.first)), dtype=np.float32) for stat in stats
    }
    temporal = None
    if "cc" in settings.kinds:
        temporal = (
            _filter_of_design(design, settings.low_pass, settings.correlation_confounds)
            if time_column_names(design.columns) or settings.correlation_confounds
            else _temporal_filter(signals.n_times, settings.tr, settings.low_pass)
        )
    tasks = design.matrix @ vectors.T
    model, noise_order = None, None
    if "glm" in settings.kinds:
        noise = estimate_noise(signals.blocks(settings.block_bytes), design.matrix, mask, zooms)
        model = ContrastModel(design.matrix, vectors, noise, rank=design.rank)
        noise_order = noise.order
    for voxels, block in signals.blocks(settings.block_bytes):
        if temporal is not None:
            for part in parts_of(block.shape[1], _CORRELATED):
                at = slice(voxels.start + part.start, voxels.start + part.stop)
                values["cc"][:, at] = _cross_correlation(block[:, part], tasks, temporal)
        if model is not None:
            fitted = model.fit(block, voxels)
            for stat in _STATS["glm"]:
                values[stat][:, voxels] = fitted[stat]
    return values, noise_order


def map_activation(
    reader: SeriesReader,
    mask: Mask,
    events: Regressors,
    contrasts: Contrasts,
    settings: ActivationSettings,
    *,
    scratch: Path,
    confounds: pd.DataFrame | None = None,
    seen: Callable[[list[Float32]], None] | None = None,
) -> dict[float, ActivationMaps]:
    """Return maps of all contrasts of one series, by smoothing (FWHM, mm).

    The series is read once.

    Parameters
    ----------
    reader : SeriesReader
        The series in BOLD signal units, dummies included.
    mask : Mask
        (X, Y, Z) on the series' grid.
    events : Regressors
        Events, or seeds in their place.
    contrasts : Contrasts
        Weights of conditions (at rest: seeds) by contrast.
    settings : ActivationSettings
        Settings of the correlation and of the linear model.
    scratch : Path
        Folder of scratch files (4 bytes · volumes · mask voxels for each width), removed at the
        end.
    confounds : pd.DataFrame | None, optional
        One row a volume.
    seen : Callable[[list[Float32]], None] | None, optional
        What else is done with the volumes that are read, some at a time.

    Returns
    -------
    dict[float, ActivationMaps]
        Maps of the kinds asked for, with the design.

    Raises
    ------
    DesignError : see `build_design` and `contrast_vector`; ValueError : the mask is empty or lies
        on another grid
    """
    design = settings.design(events, reader.shape[3], confounds)
    vectors = np.array(
        [contrast_vector(design, name, weights) for name, weights in contrasts.items()]
    )
    mask = np.asarray(mask, dtype=bool)
    by_width: dict[float, ActivationMaps] = {}
    with extract_time_series(
        reader,
        mask,
        scratch,
        smoothing=settings.smoothing,
        start=settings.n_dummy,
        seen=seen,
    ) as signals:
        for width, each in signals.items():
            values, noise_order = _fit(each, design, vectors, settings, mask, reader.zooms)
            maps = _MapsInMask(values, list(contrasts), mask)
            by_width[width] = ActivationMaps(maps=maps, design=design, noise_order=noise_order)
    return by_width
