"""Block effects of one series for complete slices, in one pass over the file.

All split-half metrics are functions of these few maps: effects of halves and of contrasts are
weighted sums of the maps, smoothing and Fourier filters are linear, and resampled blocks only
change the weights.

Temporal components of a series (for the denoising control) are the leading eigenvectors of its T x
T matrix of inner products inside the mask, with each voxel's mean subtracted. A series that keeps
K components has the block effects ``maps[..., :K] @ loadings[:K]``. Components require a second
pass.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path
from typing import Self

import numpy as np
from nibabel.affines import voxel_sizes

from bids_sr.engine.artifacts import Artifact
from bids_sr.glm.blocks import BlockDesign, TaskBlock
from bids_sr.glm.halves import average_splits, half_weights, run_weights
from bids_sr.glm.time_series import extract_time_series
from bids_sr.io import atomic_files
from bids_sr.io.arrays import Float, Float32, MaskArray, Real
from bids_sr.io.frozen import frozen
from bids_sr.io.nifti import SeriesReader
from bids_sr.spatial.smoothing import smooth
from bids_sr.spatial.streamed_fit import StreamedFit, divide_into_batches

_ACTIVE_FWHM_MM = 4.0  # mm, smoothing of t maps for the selection of active voxels
# arrays that are written as they are
_ARRAY_FIELDS = (
    "affine",
    "mask",
    "betas",
    "mean",
    "covariance",
    "leak",
    "pca_maps",
    "pca_loadings",
)


@frozen
class Effects(Artifact):
    """Effects of B blocks of one series.

    `betas` is the signal change of a sustained block in complete slices (X, Y, Z, B), in the unit
    of the series, and `mean` the mean over time. `blocks`, `covariance` (B, B) and `leak` (B, P)
    are described in `bids_sr.glm.blocks.BlockDesign`. `smooth_variance` is the variance of the
    residuals after smoothing with 4 mm FWHM (X, Y, Z), or None if it was not computed. `pca_maps`
    are maps of temporal components (X, Y, Z, K) and `pca_loadings` their block effects (K, B);
    both are empty if there are no ranks.
    """

    series: str
    affine: Float
    mask: MaskArray
    betas: Float32
    mean: Float32
    blocks: tuple[TaskBlock, ...]
    covariance: Float
    leak: Float
    smooth_variance: Float32 | None = None
    ranks: tuple[int, ...] = ()
    pca_maps: Float32 = field(default_factory=lambda: np.zeros((0, 0, 0, 0), dtype=np.float32))
    pca_loadings: Float = field(default_factory=lambda: np.zeros((0, 0)))

    @property
    def zooms(self) -> list[float]:
        """Voxel size (mm)."""
        return voxel_sizes(self.affine).tolist()

    @property
    def mean_signal(self) -> float:
        """Mean signal of the brain, in the unit of the series; NaN if the mask is empty."""
        return float(self.mean[self.mask].mean()) if self.mask.any() else math.nan

    def halves(self, weights: Mapping[str, float]) -> Float | None:
        """Return the block weights in the effect of each half, (2, B), see `half_weights`."""
        return half_weights(self.blocks, weights, self.leak)

    def run_weights(self, weights: Mapping[str, float]) -> Float | None:
        """Return the block weights in the effect of the whole run, (B,), see `run_weights`."""
        return run_weights(self.blocks, weights, self.leak)

    def split_weights(self, weights: Mapping[str, float]) -> Float:
        """Return the block weights in the effect of the whole run, 0 if it has no two halves (B,).

        See `average_splits`.
        """
        can_split = average_splits(self.blocks, weights, self.leak) is not None
        block_weights = self.run_weights(weights)
        if block_weights is None or not can_split:
            return np.zeros(len(self.blocks))
        return block_weights

    def effect(self, block_weights: Float) -> Float32:
        """Return a weighted sum of block effects, (X, Y, Z), in the unit of the series."""
        return self.betas @ block_weights.astype(np.float32)

    def limit_components(self, rank: int) -> Float32:
        """Return the block effects (X, Y, Z, B) if only `rank` temporal components are kept."""
        return self.pca_maps[..., :rank] @ self.pca_loadings[:rank].astype(np.float32)

    def smooth_t(self, block_weights: Float) -> Float32:
        """Return t (X, Y, Z) of a sum of block effects after smoothing with 4 mm FWHM.

        t is from ordinary least squares, and 0 in constant voxels. It requires the variance of the
        smoothed series.
        """
        assert self.smooth_variance is not None, f"{self.series} has no smoothed variance"
        effect = smooth(self.effect(block_weights), self.zooms, _ACTIVE_FWHM_MM)
        scale = float(block_weights @ self.covariance @ block_weights)
        error = np.sqrt(self.smooth_variance * scale)
        return np.divide(effect, error, out=np.zeros_like(effect), where=error > 0)

    def save(self, stem: Path) -> Path:
        """Write the effects to a .npz file, atomically."""
        arrays = {name: getattr(self, name) for name in _ARRAY_FIELDS}
        if self.smooth_variance is not None:
            arrays["smooth_variance"] = self.smooth_variance
        arrays |= {
            "series": np.array(self.series),
            "ranks": np.array(self.ranks, dtype=int),
            "condition": np.array([block.condition for block in self.blocks]),
            "half": np.array([block.half for block in self.blocks]),
            "share": np.array([block.share for block in self.blocks]),
            "used": np.array([block.used for block in self.blocks]),
            "event": np.array(
                [
                    (index, *event)
                    for index, block in enumerate(self.blocks)
                    for event in block.events
                ]
            ),
        }
        path = stem.with_suffix(".npz")
        with atomic_files.atomic_file(path) as unfinished, open(unfinished, "wb") as stream:
            np.savez(stream, **arrays)
        return path

    @classmethod
    def load(cls, path: Path) -> Self:
        """Return the effects in a file of `save`, without modulations of their blocks."""
        with np.load(path, allow_pickle=False) as data:
            events = data["event"]
            blocks = []
            for index, (condition, half, share, used) in enumerate(
                zip(data["condition"], data["half"], data["share"], data["used"], strict=True)
            ):
                block_events = events[events[:, 0] == index, 1:]
                blocks.append(
                    TaskBlock(
                        condition=str(condition),
                        half=int(half),
                        share=float(share),
                        used=bool(used),
                        events=tuple(
                            (float(onset), float(length)) for onset, length in block_events
                        ),
                    )
                )
            return cls(
                series=str(data["series"]),
                blocks=tuple(blocks),
                ranks=tuple(int(rank) for rank in data["ranks"]),
                smooth_variance=data.get("smooth_variance"),
                **{name: data[name] for name in _ARRAY_FIELDS},
            )


def block_effects(
    reader: SeriesReader,
    mask: MaskArray,
    design: BlockDesign,
    *,
    series: str,
    pca_ranks: Sequence[int] = (),
    with_t: bool = False,
    scratch: Path = Path(),
) -> Effects:
    """Return the effects of all blocks of one series.

    Parameters
    ----------
    reader : SeriesReader
        Series (X, Y, Z, T) in BOLD signal units, including dummies.
    mask : MaskArray
        Brain (X, Y, Z).
    design : BlockDesign
        Model of the run with one regressor per block.
    series : str
        Name of the series.
    pca_ranks : Sequence[int], optional
        Numbers of temporal components for `Effects.limit_components`; numbers above the rank of
        the series are omitted.
    with_t : bool, optional
        Whether the variance for `Effects.smooth_t` is computed.
    scratch : Path, optional
        Folder of a scratch file, used only with `pca_ranks`.

    Returns
    -------
    Effects
        Maps of all blocks, with the blocks and their covariance.
    """
    shape, start = reader.shape[:3], design.n_dummy
    n_rows, n_blocks = len(design.matrix), len(design.blocks)
    max_rank = n_rows - len(design.censored) - 1
    ranks = tuple(sorted({int(rank) for rank in pca_ranks if 0 < rank <= max_rank}))
    # The product of a block's weights with a time series is the effect of the block.
    columns = design.weights
    if ranks:
        components = temporal_components(reader, mask, start, ranks[-1], scratch, design.censored)
        columns = np.column_stack([columns, components])
    fit, smoothed_fit = _fit_series(
        reader, start, columns.astype(np.float32), design.basis if with_t else None
    )
    effects = Effects(
        series=series,
        affine=reader.affine,
        mask=mask,
        betas=_to_maps(fit.products[:, :n_blocks], shape),
        mean=_to_maps(fit.mean, shape),
        blocks=design.blocks,
        covariance=design.covariance,
        leak=design.leak,
    )
    if smoothed_fit is not None:
        variance = _to_maps(smoothed_fit.residual_variance(design.dof), shape)
        effects = replace(effects, smooth_variance=variance)
    if ranks:
        effects = replace(
            effects,
            ranks=ranks,
            pca_maps=_to_maps(fit.products[:, n_blocks:], shape),
            pca_loadings=columns[:, n_blocks:].T @ design.weights,
        )
    return effects


def temporal_components(
    reader: SeriesReader,
    mask: MaskArray,
    start: int,
    count: int,
    scratch: Path,
    censored: Sequence[int] = (),
) -> Float:
    """Return the leading temporal eigenvectors of a series, (rows, count).

    Signs are arbitrary but reproducible.

    Parameters
    ----------
    reader : SeriesReader
        Series with all of its volumes (4D).
    mask : MaskArray
        Voxels of the brain on the grid of the series (3D, boolean).
    start : int
        First volume, counted from 0.
    count : int
        Number of components.
    scratch : Path
        Folder of a scratch file, which is removed at the end.
    censored : Sequence[int], optional
        Volumes that are not used, counted from 0; components are 0 in these volumes.

    Returns
    -------
    Float
        Time series of unit length, the strongest first.
    """
    with extract_time_series(reader, mask, scratch, start=start) as signals:
        (time_series,) = signals.values()
        gram = np.zeros((time_series.n_times, time_series.n_times))
        uncensored = np.ones(time_series.n_times, dtype=bool)
        uncensored[[volume - start for volume in censored]] = False
        for _, block in time_series.blocks():
            y = block.astype(np.float64)
            y -= y.mean(axis=0) if uncensored.all() else y[uncensored].mean(axis=0)
            y[~uncensored] = 0
            gram += y @ y.T
    vectors = np.linalg.eigh(gram)[1][:, ::-1][:, :count]
    largest_entries = vectors[np.abs(vectors).argmax(axis=0), np.arange(count)]
    return vectors * np.where(largest_entries < 0, -1, 1)


def _fit_series(
    reader: SeriesReader, start: int, columns: Float32, basis: Float | None
) -> tuple[StreamedFit, StreamedFit | None]:
    """Fit the columns to a series and, if a basis is given, the basis to the smoothed series.

    Voxels are in storage order. `start` is the first volume, counted from 0.
    """
    first = reader.volume(start)
    fit = StreamedFit(columns, first.ravel(order="F"))
    smoothed_fit = None
    if basis is not None:
        smoothed_first = smooth(first, reader.zooms, _ACTIVE_FWHM_MM)
        smoothed_fit = StreamedFit(basis.astype(np.float32), smoothed_first.ravel(order="F"))
    for batch in divide_into_batches(reader.volumes(start)):
        fit.add([volume.ravel(order="F") for volume in batch])
        if smoothed_fit is not None:
            smoothed_volumes = [smooth(volume, reader.zooms, _ACTIVE_FWHM_MM) for volume in batch]
            smoothed_fit.add([volume.ravel(order="F") for volume in smoothed_volumes])
    return fit, smoothed_fit


def _to_maps(values: Real, shape: tuple[int, ...]) -> Float32:
    """Return voxel values in storage order, (N,) or (N, B), as maps."""
    maps = values.reshape(*shape[::-1], *values.shape[1:]).swapaxes(0, 2)
    return np.ascontiguousarray(maps, dtype=np.float32)
