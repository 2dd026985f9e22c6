"""Temporal statistics of a run: mean, and principal components of signal change within the mask.

A run is read slice by slice, so that memory contains only one slice of all volumes, and matrices
of volumes x volumes.
"""

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import field
from pathlib import Path

import numpy as np
from nibabel.affines import apply_affine
from scipy.fft import idct

from bids_sr.io.arrays import Array, float32_checksum, iterate_parts
from bids_sr.io.frozen import frozen
from bids_sr.io.nifti import SeriesReader, SeriesWriter
from bids_sr.io.notices import InvalidInput
from bids_sr.spatial.reproducible_numbers import fix_signs
from bids_sr.spatial.transforms import rigid_params

_LOGGER = logging.getLogger(__name__)
_MAX_COMPONENTS = 40
MIN_VOLUMES = 8
"""Smallest number of volumes for temporal components."""
# Components whose variance is below this multiple of the median are noise, which contains no
# information about spatial detail.
_NOISE_RATIO = 1.2
_MIN_COMPONENTS = 12
# Hz, highest frequency of components. Task effects and most fluctuations other than thermal noise
# are slow (`benchmarks/FINDINGS.md`).
_MAX_HZ = 0.1
# largest number of segments in a half, and number of components per segment
_MAX_SEGMENTS, _SEGMENT_COMPONENTS = 4, 8
# Number of volumes per nuisance component. If all twelve components of head motion are removed
# from a half of 15 volumes, two components remain, which are not shared between halves.
_VOLUMES_PER_NUISANCE = 6
# number of volumes per regressor of the task
_VOLUMES_PER_TASK = 3


class SeriesError(InvalidInput):
    """Error raised for a run that cannot be used to estimate prior SD maps."""


@frozen
class TemporalStatistics:
    """Images that summarize the signal of a run over time, on its acquired grid.

    `mean` is the mean image (x, y, z), in signal units. `components` are temporal principal
    components as images (K, x, y, z) in signal units, strongest first, scaled by their standard
    deviation over time. `segments` are the components of each segment of the run (K, x, y, z),
    after removing mean and nuisance regressors of the whole run. `checksums` are of series, mask
    and nuisance regressors. `thermal` is the standard deviation of thermal noise relative to the
    mean signal within the mask.
    """

    mean: Array
    components: Array
    segments: tuple[Array, ...] = ()
    checksums: Mapping[str, str] = field(default_factory=dict)
    thermal: float = 0.0


class _ComponentAnalysis:
    """Temporal component analysis of some volumes, computed in two passes over all slices.

    SeriesError is raised if there are too few volumes, or the mask is empty. `volumes` are the
    numbers of the volumes. The other parameters are described in `temporal_statistics`.
    """

    def __init__(
        self,
        reader: SeriesReader,
        mask: Array,
        volumes: Array,
        max_components: int,
        nuisance: Array | None,
        *,
        with_segments: bool = False,
        task: Array | None = None,
    ) -> None:
        shape, count = reader.shape[:3], len(volumes)
        self._in_mask = np.asarray(mask) > 0
        if count < MIN_VOLUMES or not self._in_mask.any():
            raise SeriesError(
                f"the series has {count} steady-state volumes, and the mask contains "
                f"{int(self._in_mask.sum())} voxels; at least {MIN_VOLUMES} volumes and 1 voxel"
                " are required"
            )
        self.volumes = volumes
        self._tr, self._max_components = reader.tr, max_components
        self._mean = np.empty(shape, np.float32)
        # all volumes, followed by the segments
        self._ranges: list[slice | Array] = [slice(None)]
        if with_segments:
            n_segments = max(2, min(_MAX_SEGMENTS, count // MIN_VOLUMES))
            self._ranges += np.array_split(np.arange(count), n_segments)
        lengths = [len(np.arange(count)[volume_range]) for volume_range in self._ranges]
        self._gram_matrices = [np.zeros((length, length)) for length in lengths]
        self._nuisance = nuisance
        self._nuisance_basis = _compute_nuisance_basis(nuisance, task, volumes)
        self._series_hash = hashlib.sha256()
        self._time_series: list[Array] = []
        self._images: list[Array] = []
        self._noise_eigenvalue = 0.0

    def add_slice(self, z: int, slab: Array) -> None:
        """Add a slice (T, x, y) to mean and temporal covariance, in the first pass."""
        self._series_hash.update(np.ascontiguousarray(slab, dtype="<f4").data)
        self._mean[..., z] = slab.mean(0, dtype=np.float64)
        change = _regress_out(slab - self._mean[None, ..., z], self._nuisance_basis)
        voxel_series = change[:, self._in_mask[..., z]]
        for voxels in iterate_parts(voxel_series.shape[1]):
            # double precision, because rounding would mix components of nearly equal size
            precise_series = voxel_series[:, voxels].astype(np.float64)
            for gram, volume_range in zip(self._gram_matrices, self._ranges, strict=True):
                gram += precise_series[volume_range] @ precise_series[volume_range].T

    def compute_time_series(self) -> None:
        """Compute the time series of the components, after the first pass."""
        # Orthonormal cosines up to `_MAX_HZ`, including a constant (T, K). Higher frequencies are
        # included if there would be fewer cosines than the smallest number of components, and all
        # frequencies if the TR is 0, which means unknown.
        bases = []
        for count in map(len, self._gram_matrices):
            n_slow = 1 + max(int(2 * count * self._tr * _MAX_HZ), _MIN_COMPONENTS)
            n_cosines = min(n_slow, count) if self._tr else count
            bases.append(np.asarray(idct(np.eye(count, n_cosines), axis=0, norm="ortho")))
        bases[0] = np.linalg.qr(_regress_out(bases[0], self._nuisance_basis))[0]
        spectra = [
            np.linalg.eigh(basis.T @ gram @ basis)
            for basis, gram in zip(bases, self._gram_matrices, strict=True)
        ]
        eigenvalues = spectra[0][0]
        if eigenvalues[-1] <= 0:
            raise SeriesError("the series is constant over time within the mask")

        # The number of components that are neither noise nor rounding errors. Noise is estimated
        # from all frequencies; the first eigenvalue belongs to the removed mean.
        self._noise_eigenvalue = float(np.median(np.linalg.eigvalsh(self._gram_matrices[0])[1:]))
        n_above_noise = int((eigenvalues > _NOISE_RATIO * self._noise_eigenvalue).sum())
        dof = len(self.volumes) - 1 - self._nuisance_basis.shape[1]
        n_components = min(
            self._max_components,
            len(eigenvalues) - 1,
            dof,
            max(n_above_noise, _MIN_COMPONENTS),
        )

        # Time series (number, T; float32), strongest first. Projections of the signal change on
        # them have the scale of a standard deviation.
        component_counts = [n_components, *[_SEGMENT_COMPONENTS] * (len(self._ranges) - 1)]
        for basis, (_, vectors), count in zip(bases, spectra, component_counts, strict=True):
            strongest_vectors = fix_signs(vectors)[:, ::-1][:, :count]
            time_series = ((basis @ strongest_vectors) / np.sqrt(len(basis))).T.astype(np.float32)
            self._time_series.append(time_series)
            self._images.append(np.empty((len(time_series), *self._mean.shape), np.float32))
        fraction = float(eigenvalues[::-1][:n_components].sum() / np.trace(self._gram_matrices[0]))
        _LOGGER.info(
            "%d temporal components explain %.0f %% of the signal variance within the mask.",
            n_components,
            100 * fraction,
        )

    def project_slice(self, z: int, slab: Array) -> None:
        """Compute the images of the components in a slice (T, x, y), in the second pass."""
        change = _regress_out(slab - self._mean[None, ..., z], self._nuisance_basis)
        flat = change.reshape(len(change), -1)
        for image, volume_range, time_series in zip(
            self._images, self._ranges, self._time_series, strict=True
        ):
            image[..., z] = (time_series @ flat[volume_range]).reshape(-1, *self._mean.shape[:2])

    def make_statistics(self) -> TemporalStatistics:
        """Return mean, components and checksums after the second pass."""
        in_mask, mean = self._in_mask, self._mean
        checksums = {
            "series": self._series_hash.hexdigest(),
            "mask": hashlib.sha256(np.packbits(in_mask).tobytes()).hexdigest(),
        }
        if self._nuisance is not None:
            checksums["nuisance"] = hashlib.sha256(
                np.ascontiguousarray(self._nuisance, dtype="<f8").data
            ).hexdigest()
        noise_variance = max(self._noise_eigenvalue, 0) / in_mask.sum()
        return TemporalStatistics(
            mean=mean,
            components=self._images[0],
            segments=tuple(self._images[1:]),
            checksums=checksums,
            thermal=float(np.sqrt(noise_variance) / mean[in_mask].mean()),
        )


def temporal_statistics(
    reader: SeriesReader,
    mask: Array,
    n_dummy: int = 0,
    components: int = _MAX_COMPONENTS,
    nuisance: Array | None = None,
    *,
    with_segments: bool = False,
    outliers: Sequence[int] = (),
    task: Array | None = None,
) -> TemporalStatistics:
    """Compute temporal statistics of an uncompressed, motion-corrected run on the acquired grid.

    The run is read twice, slice by slice.

    `reader` reads the run (x, y, z, T). `mask` is the mask for computing components (x, y, z);
    their images cover the whole grid. The first `n_dummy` volumes and `outliers`, counted from 0,
    are excluded. `components` is the largest number of components; there are fewer if the rest is
    noise or rounding error. `nuisance` are regressors (T, P), such as head motion, whose residuals
    are large at edges and follow the anatomy. Their strongest components, one per six volumes, are
    removed from the signal change. `with_segments` computes components of up to four segments with
    at least eight volumes each. `task` are regressors of the task (T, P) that are removed as well,
    as many as a third of the volumes; None if the signal change includes the task.
    """
    volumes = _select_volumes(n_dummy, reader.shape[3], outliers)
    analysis = _ComponentAnalysis(
        reader,
        mask,
        volumes,
        components,
        nuisance,
        with_segments=with_segments,
        task=task,
    )
    (statistics,) = _analyze_in_two_passes(reader, [analysis])
    return statistics


def _compute_nuisance_basis(nuisance: Array | None, task: Array | None, volumes: Array) -> Array:
    """Return an orthonormal basis of task and strongest nuisance components in some volumes.

    The result is (T', P). `nuisance` and `task` are regressors of all volumes, see
    `temporal_statistics`. They are demeaned over the selected volumes.
    """
    basis = np.zeros((len(volumes), 0))
    for regressors, volumes_per_column in (
        (task, _VOLUMES_PER_TASK),
        (nuisance, _VOLUMES_PER_NUISANCE),
    ):
        if regressors is None:
            continue
        columns = np.asarray(regressors, float)[volumes]
        columns = columns - columns.mean(0)
        columns /= np.maximum(np.linalg.norm(columns, axis=0), 1e-12)
        columns -= basis @ (basis.T @ columns)
        left_vectors, singular_values, _ = np.linalg.svd(columns, full_matrices=False)
        strongest = left_vectors[:, singular_values > 1e-6][
            :, : len(columns) // volumes_per_column
        ]
        basis = np.hstack([basis, strongest])
    return basis.astype(np.float32)


def _regress_out(slab: Array, regressors: Array) -> Array:
    """Regress time series out of a slab (T, x, y); `regressors` are orthonormal columns (T, K)."""
    if not regressors.shape[1]:
        return slab
    flat = slab.reshape(len(slab), -1)
    return (flat - regressors @ (regressors.T @ flat)).reshape(slab.shape)


def mean_statistics(
    reader: SeriesReader, n_dummy: int, outliers: Sequence[int]
) -> TemporalStatistics:
    """Return statistics of a run that is too short: its mean, and one component of zeros."""
    start = min(n_dummy, reader.shape[3] - 1)
    volumes = np.stack(
        [reader.volume(t) for t in range(start, reader.shape[3]) if t not in outliers]
    )
    mean = np.asarray(volumes.mean(0, dtype=np.float64))
    return TemporalStatistics(
        mean=mean.astype(np.float32),
        components=np.zeros((1, *mean.shape), np.float32),
        checksums={"series": float32_checksum(mean)},
    )


def motion_regressors(poses: Array, mask: Array, affine: Array) -> Array:
    """Return head motion (T, 12): translation (mm), rotation (rad), and temporal differences.

    `poses` are transforms of boldref points to points of each volume (T, 4, 4; RAS+ mm). The
    head rotates around the center of the brain `mask` (x, y, z), whose voxel-to-world matrix is
    `affine` (4 x 4, RAS+ mm).
    """
    center = apply_affine(affine, np.argwhere(mask).mean(axis=0))
    params = np.stack([rigid_params(pose, center) for pose in poses])
    return np.hstack([params, np.diff(params, axis=0, prepend=params[:1])])


@contextmanager
def open_uncompressed(path: Path, folder: Path) -> Iterator[SeriesReader]:
    """Open a reader that provides slices of all volumes.

    A compressed series is temporarily unpacked into a folder.

    Parameters
    ----------
    path : Path
        Series to read (NIfTI, 4D), compressed or uncompressed.
    folder : Path
        Folder for the unpacked series, which is deleted on exit.

    Yields
    ------
    SeriesReader
        Reader of the series, closed on exit.
    """
    with SeriesReader(path) as reader:
        if not reader.compressed:
            yield reader
            return
        unpacked_path = folder / "unpacked.nii"
        with SeriesWriter(
            unpacked_path, reader.shape, reader.affine, reader.tr, header_like=reader.header
        ) as writer:
            for volume in reader.volumes():
                writer.append(volume)
    try:
        with SeriesReader(unpacked_path) as unpacked_reader:
            yield unpacked_reader
    finally:
        unpacked_path.unlink()


def statistics_of_run_and_halves(
    reader: SeriesReader,
    mask: Array,
    n_dummy: int,
    components: int,
    nuisance: Array | None,
    min_volumes: int,
    outliers: Sequence[int] = (),
) -> tuple[TemporalStatistics, tuple[TemporalStatistics, TemporalStatistics] | None]:
    """Return statistics of a run and of both halves, reading the run only twice.

    The halves include segments. None is returned in their place if a half has fewer than
    `min_volumes` volumes. The parameters are described in `temporal_statistics`.
    """
    n_volumes = reader.shape[3]
    middle = n_dummy + (n_volumes - n_dummy) // 2
    volumes = _select_volumes(n_dummy, n_volumes, outliers)
    volumes_of_halves = (
        _select_volumes(n_dummy, middle, outliers),
        _select_volumes(middle, n_volumes, outliers),
    )
    analyses = [_ComponentAnalysis(reader, mask, volumes, components, nuisance)]
    if min(map(len, volumes_of_halves)) >= min_volumes:
        analyses += [
            _ComponentAnalysis(reader, mask, half, components, nuisance, with_segments=True)
            for half in volumes_of_halves
        ]
    statistics, *halves = _analyze_in_two_passes(reader, analyses)
    return statistics, (halves[0], halves[1]) if halves else None


def _select_volumes(start: int, stop: int, outliers: Sequence[int]) -> Array:
    """Return the numbers of the volumes from start to stop without some volumes."""
    return np.setdiff1d(np.arange(start, stop), outliers)


def _analyze_in_two_passes(
    reader: SeriesReader, analyses: Sequence[_ComponentAnalysis]
) -> list[TemporalStatistics]:
    """Return the statistics of several ranges of volumes, reading the run only twice."""
    for z, slab in _iterate_slices(reader):
        for analysis in analyses:
            analysis.add_slice(z, np.ascontiguousarray(slab[analysis.volumes]))
    for analysis in analyses:
        analysis.compute_time_series()
    for z, slab in _iterate_slices(reader):
        for analysis in analyses:
            analysis.project_slice(z, np.ascontiguousarray(slab[analysis.volumes]))
    return [analysis.make_statistics() for analysis in analyses]


def _iterate_slices(reader: SeriesReader) -> Iterator[tuple[int, Array]]:
    """Yield the number of each slice and its values in all volumes (T, x, y)."""
    for z in range(reader.shape[2]):
        yield z, np.moveaxis(reader.slab(z)[:, :, 0], 2, 0)
