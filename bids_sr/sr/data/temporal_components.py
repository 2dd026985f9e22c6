"""Temporal statistics of a run: mean, and principal components in the mask.

The components are those of its change over time inside the mask.

A run is read slice by slice, so that memory holds one slice of all volumes and a matrix of volumes
x volumes.
"""

import hashlib
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import field
from pathlib import Path

import numpy as np
from scipy.fft import idct

from bids_sr.frozen import frozen
from bids_sr.io.array_types import Array, float32_checksum
from bids_sr.io.nifti import SeriesReader, SeriesWriter
from bids_sr.spatial.transforms import rigid_params

_LOG = logging.getLogger(__name__)
_COMPONENTS = 40
_LEAST_VOLUMES = 8
# Components no larger than this times the median one are noise, which says nothing of fine
# structure.
_NOISE = 1.2
_LEAST_COMPONENTS = 12
# Effects are slow, and so is most of what is not thermal noise
# (``benchmarks/results/slow_fluctuations.md``)
_SLOW_HZ = 0.1
_STRETCHES, _OF_STRETCH = 4, 8  # of a half, at most, and components of each
# Volumes for each component of the nuisance: with all twelve of head motion, what is left of a
# half of 15 volumes has two components, of which one half tells the other nothing
# (``benchmarks/results/short_runs.md``)
_VOLUMES_PER_NUISANCE = 6


class SeriesError(ValueError):
    """A run that cannot be learned from."""


@frozen
class TemporalStatistics:
    """A run in a few images on the acquired grid.

    `mean`: (x, y, z), signal units. `components`: (K, x, y, z), signal units: strongest first,
    each with its standard deviation over time as its size. `stretches`: the same of stretches of
    these volumes alone, without the mean and nuisance of all. `thermal`: standard deviation of
    thermal noise over the mean signal in the mask.
    """

    mean: Array
    components: Array
    stretches: tuple[Array, ...] = ()
    checksums: Mapping[str, str] = field(default_factory=dict)
    thermal: float = 0.0


def temporal_statistics(
    reader: SeriesReader,
    mask: Array,
    n_dummy: int = 0,
    components: int = _COMPONENTS,
    noise: float = _NOISE,
    nuisance: Array | None = None,
    stop: int | None = None,
    *,
    stretches: bool = False,
) -> TemporalStatistics:
    """Read a run twice, slice by slice.

    `components`: how many at most; fewer where no more are left, or the rest is noise. `nuisance`:
    (T, P) regressors whose strongest components, one for each six volumes, are taken out of the
    change before components are sought, such as head motion, whose residue at edges is large and
    follows the anatomy. `stop`: volume before which to end; None for the last. `stretches`: find
    the strongest components of up to four stretches of eight volumes at least too. Mean and
    components, with checksums of series and mask.
    """
    part = slice(n_dummy, reader.shape[3] if stop is None else stop)
    shape, count = reader.shape[:3], part.stop - part.start
    inside = np.asarray(mask) > 0
    if inside.shape != shape:
        raise SeriesError(f"the mask {inside.shape} is not on the grid of the series {shape}")
    if count < _LEAST_VOLUMES or not inside.any():
        raise SeriesError(
            f"{count} volumes in the steady state and {int(inside.sum())} voxels: nothing to learn"
            " from"
        )
    mean = np.empty(shape, np.float32)
    ranges: list[slice | Array] = [slice(None)]
    if stretches:
        parts = max(2, min(_STRETCHES, count // _LEAST_VOLUMES))
        ranges += np.array_split(np.arange(count), parts)
    grams = [np.zeros((len(np.arange(count)[each]),) * 2) for each in ranges]
    out = _basis(nuisance, reader.shape[3], part)
    seen = hashlib.sha256()
    for z in range(shape[2]):
        slab = _slab(reader, z, part)
        seen.update(np.ascontiguousarray(slab, dtype="<f4").data)
        mean[..., z] = slab.mean(0, dtype=np.float64)
        slab = _without(slab - mean[None, ..., z], out)
        chosen = slab[:, inside[..., z]]
        for gram, each in zip(grams, ranges, strict=True):
            gram += chosen[each] @ chosen[each].T
    slow = [_slow_courses(len(gram), reader.tr) for gram in grams]
    slow[0] = np.linalg.qr(_without(slow[0], out))[0]
    spectra = [np.linalg.eigh(own.T @ gram @ own) for own, gram in zip(slow, grams, strict=True)]
    values = spectra[0][0]
    if values[-1] <= 0:
        raise SeriesError("the series does not change over time inside the mask")
    # of all frequencies, as noise is in all; the first belongs to the mean that was taken out
    thermal = np.median(np.linalg.eigvalsh(grams[0])[1:])
    signal = int((values > noise * thermal).sum())
    # beyond is rounding
    kept = min(
        components,
        len(values) - 1,
        count - 1 - out.shape[1],
        max(signal, _LEAST_COMPONENTS),
    )
    courses = [
        ((own @ vectors[:, ::-1][:, :most]) / np.sqrt(len(own))).T.astype(np.float32)
        for own, (_, vectors), most in zip(
            slow, spectra, (kept, *[_OF_STRETCH] * len(ranges)), strict=False
        )
    ]
    images = [np.empty((len(each), *shape), np.float32) for each in courses]
    for z in range(shape[2]):
        slab = _without(_slab(reader, z, part) - mean[None, ..., z], out).reshape(count, -1)
        for image, each, course in zip(images, ranges, courses, strict=True):
            image[..., z] = (course @ slab[each]).reshape(-1, *shape[:2])
    share = float(values[::-1][:kept].sum() / np.trace(grams[0]))
    _LOG.info("%d components hold %.0f %% of the change in the mask", kept, 100 * share)
    checksums = {
        "series": seen.hexdigest(),
        "mask": hashlib.sha256(np.packbits(inside).tobytes()).hexdigest(),
    }
    if nuisance is not None:
        checksums["nuisance"] = hashlib.sha256(
            np.ascontiguousarray(nuisance, dtype="<f8").data
        ).hexdigest()
    return TemporalStatistics(
        mean=mean,
        components=images[0],
        stretches=tuple(images[1:]),
        checksums=checksums,
        thermal=float(np.sqrt(max(thermal, 0) / inside.sum()) / mean[inside].mean()),
    )


def too_short(reader: SeriesReader, n_dummy: int) -> bool:
    """Whether a run has fewer steady volumes than `temporal_statistics` asks for."""
    return reader.shape[3] - n_dummy < _LEAST_VOLUMES


def mean_only(reader: SeriesReader, n_dummy: int) -> TemporalStatistics:
    """A run too short for a variance: its mean, and one component of nothing.

    Mean of the steady volumes, with zeros in place of all else.
    """
    start = min(n_dummy, reader.shape[3] - 1)
    volumes = np.stack([reader.volume(t) for t in range(start, reader.shape[3])])
    mean = np.asarray(volumes.mean(0, dtype=np.float64))
    nothing = np.zeros(mean.shape, np.float32)
    return TemporalStatistics(
        mean=mean.astype(np.float32),
        components=nothing[None],
        checksums={"series": float32_checksum(mean)},
    )


def motion_courses(poses: Array, center: Array) -> Array:
    """Return (T, 12) head motion: six parameters about a center (mm) and their differences.

    The differences are those from the previous volume.

    `poses`: transforms of a boldref point to each volume (T, 4, 4; RAS+ mm). `center`: point that
    head motion turns about (RAS+ mm).
    """
    params = np.stack([rigid_params(pose, center) for pose in poses])
    return np.hstack([params, np.diff(params, axis=0, prepend=params[:1])])


def _basis(nuisance: Array | None, total: int, part: slice) -> Array:
    """Return the strongest components (T', P) of regressors, orthonormal.

    The regressors have no mean over the volumes that count.
    """
    if nuisance is None:
        return np.zeros((part.stop - part.start, 0), np.float32)
    regressors = np.asarray(nuisance, float)
    if len(regressors) != total:
        raise SeriesError(f"{len(regressors)} rows of nuisance for {total} volumes")
    regressors = regressors[part] - regressors[part].mean(0)
    left, sizes, _ = np.linalg.svd(
        regressors / np.maximum(np.linalg.norm(regressors, axis=0), 1e-12), full_matrices=False
    )
    return left[:, sizes > 1e-6][:, : len(regressors) // _VOLUMES_PER_NUISANCE].astype(np.float32)


def _slow_courses(count: int, tr: float) -> Array:
    """Return orthonormal cosines (T, K) up to `_SLOW_HZ`, the constant among them.

    All frequencies where the TR (s) is 0, unknown, or slow ones are fewer than the components that
    are kept at least.
    """
    most = 1 + max(int(2 * count * tr * _SLOW_HZ), _LEAST_COMPONENTS) if tr else count
    return np.asarray(idct(np.eye(count, min(most, count)), axis=0, norm="ortho"))


def _without(slab: Array, regressors: Array) -> Array:
    """A slab (T, x, y) with regressors taken out."""
    if not regressors.shape[1]:
        return slab
    flat = slab.reshape(len(slab), -1)
    return (flat - regressors @ (regressors.T @ flat)).reshape(slab.shape)


def _slab(reader: SeriesReader, z: int, part: slice) -> Array:
    """One slice of the volumes that count, (T, x, y)."""
    return np.ascontiguousarray(np.moveaxis(reader.slab(z, z + 1)[:, :, 0, part], 2, 0))


@contextmanager
def open_uncompressed(path: Path, folder: Path) -> Iterator[SeriesReader]:
    """Open a reader of slices of all volumes; a compressed series is unpacked temporarily.

    It is unpacked into a folder.

    Parameters
    ----------
    path : Path
        Series to read (NIfTI, 4D), compressed or not.
    folder : Path
        Folder for the unpacked series, which is deleted in the end.

    Yields
    ------
    SeriesReader
        Reader of the series, closed in the end.
    """
    with SeriesReader(path) as reader:
        if not reader.compressed:
            yield reader
            return
        plain = folder / "unpacked.nii"
        with SeriesWriter(
            plain, reader.shape, reader.affine, reader.tr, header_like=reader.header
        ) as writer:
            for volume in reader.volumes():
                writer.append(volume)
    try:
        with SeriesReader(plain) as again:
            yield again
    finally:
        plain.unlink()


def halves_of(
    reader: SeriesReader,
    mask: Array,
    n_dummy: int,
    components: int,
    nuisance: Array | None,
    least: int,
) -> tuple[TemporalStatistics, TemporalStatistics] | None:
    """Return statistics of both halves of a run and of stretches of them.

    None for a half under `least` volumes.

    `nuisance`: regressors to take out, one row a volume (T, P); None for none.
    """
    total = reader.shape[3]
    middle = n_dummy + (total - n_dummy) // 2
    if middle - n_dummy < least:
        return None
    first, second = (
        temporal_statistics(
            reader, mask, start, components, nuisance=nuisance, stop=stop, stretches=True
        )
        for start, stop in ((n_dummy, middle), (middle, None))
    )
    return first, second
