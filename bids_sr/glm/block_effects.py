"""Effects of the blocks of one series, whole slices, in one pass over the file.

Every metric of the split halves is a function of these few maps: effects of halves and of
contrasts are sums of them, smoothing and Fourier filters are linear, and resampled blocks are
other weights.

The temporal components of a series (for the denoising control) are the leading eigenvectors of its
T x T matrix of inner products inside the mask, each voxel's mean taken off; a series that keeps K
of them has the block effects ``maps[..., :K] @ loadings[:K]``. They need one pass more.
"""

from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.affines import voxel_sizes

from bids_sr.frozen import frozen
from bids_sr.glm.blocks import Block, BlockDesign, half_weights
from bids_sr.glm.smoothing import smooth
from bids_sr.glm.streamed_fit import StreamedFit, in_batches
from bids_sr.glm.time_series import extract_time_series
from bids_sr.io import atomic_files
from bids_sr.io.arrays import Float, Float32, Mask, Real
from bids_sr.io.nifti import SeriesReader

_ACTIVE_FWHM_MM = 4.0
_STORED = ("affine", "mask", "betas", "mean", "covariance", "leak", "pca_maps", "pca_loadings")


@frozen
class Effects:
    """Effects of B blocks of one series.

    `betas`: (X, Y, Z, B) signal change of a sustained block, unit of the series, whole slices.
    `mean`: (X, Y, Z) mean over time. `blocks`: blocks, covariance, leak: see
    `bids_sr.glm.blocks.BlockDesign`. `covariance`: covariance of the effects for noise of
    variance one (B, B). `leak`: distance of each effect from an estimable one (B, P); zeros:
    estimable. `smooth_variance`: (X, Y, Z) of the residuals after smoothing with 4 mm FWHM, or
    None. `pca_maps`: pca_maps, pca_loadings: (X, Y, Z, K) and (K, B), empty without ranks.
    `pca_loadings`: block effects of each temporal component (K, B); empty without ranks.
    """

    series: str
    affine: Float
    mask: Mask
    betas: Float32
    mean: Float32
    blocks: tuple[Block, ...]
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

    def halves(self, weights: Mapping[str, float]) -> Float | None:
        """Return the weights of the blocks in each half's effect, (2, B).

        The value is None where the contrast cannot be split.
        """
        return half_weights(self.blocks, weights, self.leak)

    def whole(self, weights: Mapping[str, float]) -> Float | None:
        """Return the weights of the blocks in the mean effect of both halves, (B,).

        The value is None where the contrast cannot be split.
        """
        halves = self.halves(weights)
        return None if halves is None else halves.mean(axis=0)

    def effect(self, block_weights: Float) -> Float32:
        """A sum of block effects, (X, Y, Z), for weights (B,).

        Map of the effect in the unit of the series.
        """
        return self.betas @ block_weights.astype(np.float32)

    def reduced(self, rank: int) -> Float32:
        """Return block effects (X, Y, Z, B) from the `rank` leading temporal components.

        The series keeps these components alone.
        """
        return self.pca_maps[..., :rank] @ self.pca_loadings[:rank].astype(np.float32)

    def smooth_t(self, block_weights: Float) -> Float32:
        """Return t (X, Y, Z) of a sum of block effects after smoothing with 4 mm FWHM.

        The fit is ordinary least squares.

        Map of t, 0 where a voxel does not vary.
        """
        if self.smooth_variance is None:
            raise ValueError(
                f"the effects of {self.series} cannot be smoothed, because the variance of the "
                "smoothed series was not computed"
            )
        effect = smooth(self.effect(block_weights), self.zooms, _ACTIVE_FWHM_MM)
        scale = float(block_weights @ self.covariance @ block_weights)
        error = np.sqrt(self.smooth_variance * scale)
        return np.divide(effect, error, out=np.zeros_like(effect), where=error > 0)


def temporal_components(
    reader: SeriesReader,
    mask: Mask,
    start: int,
    count: int,
    scratch: Path,
    censored: Sequence[int] = (),
) -> Float:
    """Return the leading eigenvectors of the inner products in time, (rows, count).

    The inner products are those of the series. Signs are arbitrary but fixed.

    Parameters
    ----------
    reader : SeriesReader
        Series with all of its volumes (4D).
    mask : Mask
        Voxels of the brain on the grid of the series (3D, boolean).
    start : int
        Number of the first volume, counted from 0.
    count : int
        Number of components.
    scratch : Path
        Folder of a scratch file, which is removed in the end.
    censored : Sequence[int], optional
        Volumes that do not count, in which the components are 0; counted from 0.

    Returns
    -------
    Float
        Courses of length one, the strongest first.
    """
    with extract_time_series(reader, mask, scratch, start=start) as signals:
        (courses,) = signals.values()
        gram = np.zeros((courses.n_times, courses.n_times))
        kept = np.ones(courses.n_times, dtype=bool)
        kept[[volume - start for volume in censored]] = False
        for _, block in courses.blocks():
            y = block.astype(np.float64)
            y -= y.mean(axis=0) if kept.all() else y[kept].mean(axis=0)
            y[~kept] = 0
            gram += y @ y.T
    vectors = np.linalg.eigh(gram)[1][:, ::-1][:, :count]
    return vectors * np.where(vectors[np.abs(vectors).argmax(axis=0), np.arange(count)] < 0, -1, 1)


def block_effects(
    reader: SeriesReader,
    mask: Mask,
    design: BlockDesign,
    *,
    series: str,
    pca_ranks: Sequence[int] = (),
    with_t: bool = False,
    scratch: Path = Path(),
) -> Effects:
    """Return effects of all blocks of one series.

    Parameters
    ----------
    reader, mask : SeriesReader
        (X, Y, Z, T) in BOLD signal units, dummies included; (X, Y, Z). ValueError where they do
        not fit.
    design : BlockDesign
        Model of the run with one regressor for each block.
    series : str
        Name of the series.
    pca_ranks : Sequence[int], optional
        Numbers of temporal components for `Effects.reduced`; those beyond the rank of the series
        are left out.
    with_t : bool, optional
        Also what `Effects.smooth_t` needs.
    scratch : Path, optional
        Folder of a scratch file, used with pca_ranks only.

    Returns
    -------
    Effects
        Maps of all blocks, with the blocks and their covariance.

    Raises
    ------
    ValueError
        Series, mask and model do not fit in shape or number of volumes.
    """
    shape = reader.shape[:3]
    rows = len(design.matrix)
    start = design.n_dummy
    if mask.shape != shape or rows != reader.shape[3] - start:
        raise ValueError(
            f"{reader.path}: the shapes do not match. The series has shape {reader.shape}, the "
            f"mask {mask.shape}, and the model has {rows} rows after {start} non-steady-state "
            "volumes."
        )
    ranks = tuple(sorted({int(k) for k in pca_ranks if 0 < k < rows - len(design.censored)}))
    # the weights of a block lie in the space of the model: they alone read its effect off
    count = len(design.blocks)
    columns = design.weights
    if ranks:
        columns = np.column_stack(
            [
                columns,
                temporal_components(reader, mask, start, ranks[-1], scratch, design.censored),
            ]
        )
    sums, smoothed = _stream(
        reader, start, columns.astype(np.float32), design.basis if with_t else None
    )
    late: dict[str, Any] = {}
    if smoothed is not None:
        late["smooth_variance"] = _on_grid(smoothed.residual_variance(design.dof), shape)
    if ranks:
        late |= {
            "ranks": ranks,
            "pca_maps": _on_grid(sums.products[:, count:], shape),
        }
        late["pca_loadings"] = columns[:, count:].T @ design.weights
    return Effects(
        series=series,
        affine=reader.affine,
        mask=mask,
        betas=_on_grid(sums.products[:, :count], shape),
        mean=_on_grid(sums.mean, shape),
        blocks=design.blocks,
        covariance=design.covariance,
        leak=design.leak,
        **late,
    )


def _on_grid(values: Real, shape: tuple[int, ...]) -> Float32:
    """Values of voxels in the order in which volumes are stored, (N,) or (N, B), on their grid."""
    on_grid = values.reshape(*shape[::-1], *values.shape[1:]).swapaxes(0, 2)
    return np.ascontiguousarray(on_grid, dtype=np.float32)


def _stream(
    reader: SeriesReader, start: int, columns: Float32, basis: Float | None
) -> tuple[StreamedFit, StreamedFit | None]:
    """Sums over the series and, with an orthonormal basis, over the smoothed series.

    Voxels are in the order in which volumes are stored.
    """
    first = reader.volume(start)
    sums = StreamedFit(columns, first.ravel(order="F"))
    smoothed = (
        None
        if basis is None
        else StreamedFit(
            basis.astype(np.float32),
            smooth(first, reader.zooms, _ACTIVE_FWHM_MM).ravel(order="F"),
        )
    )
    for batch in in_batches(reader.volumes(start)):
        sums.add(np.stack([volume.ravel(order="F") for volume in batch]))
        if smoothed is not None:
            fine = [smooth(volume, reader.zooms, _ACTIVE_FWHM_MM) for volume in batch]
            smoothed.add(np.stack([volume.ravel(order="F") for volume in fine]))
    return sums, smoothed


def save_effects(effects: Effects, path: Path) -> Path:
    """Write effects as .npz, whole or not at all."""
    blocks = effects.blocks
    arrays = {name: getattr(effects, name) for name in _STORED}
    if effects.smooth_variance is not None:
        arrays["smooth_variance"] = effects.smooth_variance
    arrays |= {
        "series": np.array(effects.series),
        "ranks": np.array(effects.ranks, dtype=int),
        "condition": np.array([b.condition for b in blocks]),
        "half": np.array([b.half for b in blocks]),
        "share": np.array([b.share for b in blocks]),
        "used": np.array([b.used for b in blocks]),
        "event": np.array([(i, *event) for i, b in enumerate(blocks) for event in b.events]),
    }
    with atomic_files.whole_file(path) as part, open(part, "wb") as stream:
        np.savez(stream, **arrays)
    return path


def load_mean(path: Path) -> tuple[Float32, Float]:
    """Read the mean over time (X, Y, Z) and its affine from what `save_effects` wrote."""
    with np.load(path, allow_pickle=False) as data:
        return data["mean"], data["affine"]


def load_effects(path: Path) -> Effects:
    """Read what `save_effects` wrote."""
    with np.load(path, allow_pickle=False) as data:
        events = data["event"]
        blocks = tuple(
            Block(
                condition=str(name),
                half=int(half),
                share=float(share),
                used=bool(used),
                events=tuple(
                    (float(on), float(length)) for _, on, length in events[events[:, 0] == index]
                ),
            )
            for index, (name, half, share, used) in enumerate(
                zip(data["condition"], data["half"], data["share"], data["used"], strict=True)
            )
        )
        return Effects(
            series=str(data["series"]),
            blocks=blocks,
            ranks=tuple(int(k) for k in data["ranks"]),
            smooth_variance=data.get("smooth_variance"),
            **{name: data[name] for name in _STORED},
        )
