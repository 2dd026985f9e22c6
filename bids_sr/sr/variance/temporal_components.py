"""Temporal statistics of a run: mean, and principal components of its change inside the mask.

A run is read slice by slice, so that memory holds one slice of all volumes and a matrix of volumes
x volumes.
"""

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import field
from pathlib import Path

import numpy as np
from scipy.fft import idct

from bids_sr.frozen import frozen
from bids_sr.io.arrays import Array, float32_checksum, parts_of
from bids_sr.io.nifti import SeriesReader, SeriesWriter
from bids_sr.spatial.same_results import with_sign
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
    """Read a run (uncompressed, motion corrected, on the acquired grid) twice, slice by slice.

    `mask`: where components are sought, which are images of everything. `components`: how many at
    most; fewer where no more are left, or the rest is noise, whose variance is up to `noise` times
    that of the median one. `nuisance`: (T, P) regressors whose strongest components, one for each
    six volumes, are taken out of the change before components are sought, such as head motion,
    whose residue at edges is large and follows the anatomy. `stop`: volume before which to end;
    None for the last. `stretches`: find the strongest components of up to four stretches of eight
    volumes at least too.
    """
    part = slice(n_dummy, reader.shape[3] if stop is None else stop)
    change = _Change(reader, mask, part, components, nuisance, noise, stretches=stretches)
    (found,) = _read_twice(reader, [change])
    return found


class _Change:
    """The change over time of some volumes of a run, whose slices are seen twice.

    The parameters are those of `temporal_statistics`; `part`: range of the volumes. SeriesError:
    too few volumes, or an empty mask.
    """

    def __init__(
        self,
        reader: SeriesReader,
        mask: Array,
        part: slice,
        components: int,
        nuisance: Array | None,
        noise: float = _NOISE,
        *,
        stretches: bool = False,
    ) -> None:
        shape, count = reader.shape[:3], part.stop - part.start
        self._inside = np.asarray(mask) > 0
        if self._inside.shape != shape:
            raise SeriesError(
                f"the mask has the shape {self._inside.shape}, but the series has the shape"
                f" {shape}"
            )
        if count < _LEAST_VOLUMES or not self._inside.any():
            raise SeriesError(
                f"the series has {count} steady-state volumes, and the mask contains "
                f"{int(self._inside.sum())} voxels; at least {_LEAST_VOLUMES} volumes and 1 voxel"
                " are required"
            )
        self.part = part
        self._tr, self._most, self._noise = reader.tr, components, noise
        self._mean = np.empty(shape, np.float32)
        self._ranges: list[slice | Array] = [slice(None)]
        if stretches:
            parts = max(2, min(_STRETCHES, count // _LEAST_VOLUMES))
            self._ranges += np.array_split(np.arange(count), parts)
        sizes = [len(np.arange(count)[rows]) for rows in self._ranges]
        self._grams = [np.zeros((size, size)) for size in sizes]
        self._nuisance, self._out = nuisance, _basis(nuisance, reader.shape[3], part)
        self._seen = hashlib.sha256()
        self._courses: list[Array] = []
        self._images: list[Array] = []
        self._thermal = 0.0

    def see(self, z: int, slab: Array) -> None:
        """Take a slice (T, x, y) of the volumes for mean and covariance over time."""
        self._seen.update(np.ascontiguousarray(slab, dtype="<f4").data)
        self._mean[..., z] = slab.mean(0, dtype=np.float64)
        slab = _without(slab - self._mean[None, ..., z], self._out)
        chosen = slab[:, self._inside[..., z]]
        for voxels in parts_of(chosen.shape[1]):
            # in double precision: rounding turns components of nearly equal size into each other
            courses_here = chosen[:, voxels].astype(np.float64)
            for gram, rows in zip(self._grams, self._ranges, strict=True):
                gram += courses_here[rows] @ courses_here[rows].T

    def solve(self) -> None:
        """Find the time courses of the components once all slices have been seen."""
        grams, shape, count = self._grams, self._mean.shape, self.part.stop - self.part.start
        slow = [_slow_courses(len(gram), self._tr) for gram in grams]
        slow[0] = np.linalg.qr(_without(slow[0], self._out))[0]
        spectra = [
            (values, with_sign(vectors))
            for values, vectors in (
                np.linalg.eigh(own.T @ gram @ own) for own, gram in zip(slow, grams, strict=True)
            )
        ]
        values = spectra[0][0]
        if values[-1] <= 0:
            raise SeriesError("the series is constant over time within the mask")
        # of all frequencies, as noise is in all; the first belongs to the mean that was taken out
        self._thermal = float(np.median(np.linalg.eigvalsh(grams[0])[1:]))
        signal = int((values > self._noise * self._thermal).sum())
        # beyond is rounding
        kept = min(
            self._most,
            len(values) - 1,
            count - 1 - self._out.shape[1],
            max(signal, _LEAST_COMPONENTS),
        )
        self._courses = [
            ((own @ vectors[:, ::-1][:, :most]) / np.sqrt(len(own))).T.astype(np.float32)
            for own, (_, vectors), most in zip(
                slow, spectra, (kept, *[_OF_STRETCH] * len(self._ranges)), strict=False
            )
        ]
        self._images = [np.empty((len(course), *shape), np.float32) for course in self._courses]
        share = float(values[::-1][:kept].sum() / np.trace(grams[0]))
        _LOG.info(
            "%d temporal components explain %.0f %% of the signal variance within the mask.",
            kept,
            100 * share,
        )

    def project(self, z: int, slab: Array) -> None:
        """Take a slice (T, x, y) of the volumes again, for the images of the components."""
        slab = _without(slab - self._mean[None, ..., z], self._out).reshape(len(slab), -1)
        for image, rows, course in zip(self._images, self._ranges, self._courses, strict=True):
            image[..., z] = (course @ slab[rows]).reshape(-1, *self._mean.shape[:2])

    def statistics(self) -> TemporalStatistics:
        """Return mean, components and checksums once all slices have been seen twice."""
        inside, mean = self._inside, self._mean
        checksums = {
            "series": self._seen.hexdigest(),
            "mask": hashlib.sha256(np.packbits(inside).tobytes()).hexdigest(),
        }
        if self._nuisance is not None:
            checksums["nuisance"] = hashlib.sha256(
                np.ascontiguousarray(self._nuisance, dtype="<f8").data
            ).hexdigest()
        return TemporalStatistics(
            mean=mean,
            components=self._images[0],
            stretches=tuple(self._images[1:]),
            checksums=checksums,
            thermal=float(np.sqrt(max(self._thermal, 0) / inside.sum()) / mean[inside].mean()),
        )


def _read_twice(reader: SeriesReader, changes: Sequence[_Change]) -> list[TemporalStatistics]:
    """Return the statistics of ranges of volumes, which take two passes over a run in all."""

    def slices() -> Iterator[tuple[int, Array]]:
        for z in range(reader.shape[2]):
            yield z, np.moveaxis(reader.slab(z, z + 1)[:, :, 0], 2, 0)

    for z, slab in slices():
        for change in changes:
            change.see(z, np.ascontiguousarray(slab[change.part]))
    for change in changes:
        change.solve()
    for z, slab in slices():
        for change in changes:
            change.project(z, np.ascontiguousarray(slab[change.part]))
    return [change.statistics() for change in changes]


def too_short(reader: SeriesReader, n_dummy: int) -> bool:
    """Whether a run has fewer steady volumes than `temporal_statistics` asks for."""
    return reader.shape[3] - n_dummy < _LEAST_VOLUMES


def mean_only(reader: SeriesReader, n_dummy: int) -> TemporalStatistics:
    """A run too short for a variance: its mean, and one component of nothing."""
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
    """Return (T, 12) head motion: translation (mm), rotation (rad), and differences of these.

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
        raise SeriesError(
            f"expected one row of nuisance regressors per volume, got {len(regressors)} rows "
            f"for {total} volumes"
        )
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


_Halves = tuple[TemporalStatistics, TemporalStatistics]


def whole_and_halves(
    reader: SeriesReader,
    mask: Array,
    n_dummy: int,
    components: int,
    nuisance: Array | None,
    least: int,
) -> tuple[TemporalStatistics, _Halves | None]:
    """Return statistics of a run, and of both its halves, as `temporal_statistics`.

    The run is read twice in all. The halves come with stretches; they are None for a half under
    `least` volumes.
    """
    whole = slice(n_dummy, reader.shape[3])
    changes = [_Change(reader, mask, whole, components, nuisance)]
    changes += _changes_of_halves(reader, mask, n_dummy, components, nuisance, least)
    found, *halves = _read_twice(reader, changes)
    return found, (halves[0], halves[1]) if halves else None


def halves_of(
    reader: SeriesReader,
    mask: Array,
    n_dummy: int,
    components: int,
    nuisance: Array | None,
    least: int,
) -> _Halves | None:
    """Return statistics of both halves of a run and of stretches of them.

    None for a half under `least` volumes.

    `nuisance`: regressors to take out, one row a volume (T, P); None for none.
    """
    changes = _changes_of_halves(reader, mask, n_dummy, components, nuisance, least)
    if not changes:
        return None
    first, second = _read_twice(reader, changes)
    return first, second


def _changes_of_halves(
    reader: SeriesReader,
    mask: Array,
    n_dummy: int,
    components: int,
    nuisance: Array | None,
    least: int,
) -> list[_Change]:
    """Return the changes of both halves of a run; none for a half under `least` volumes."""
    total = reader.shape[3]
    middle = n_dummy + (total - n_dummy) // 2
    if middle - n_dummy < least:
        return []
    return [
        _Change(reader, mask, part, components, nuisance, stretches=True)
        for part in (slice(n_dummy, middle), slice(middle, total))
    ]
