"""Voxel checks: a pass through all volumes of each image, which holds one volume in memory.

Later checks read some volumes of a run again.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from bids_sr.io.arrays import Array, Float32
from bids_sr.io.frozen import frozen
from bids_sr.io.grids import LARGEST_BRAIN_ML
from bids_sr.io.notices import Notice
from bids_sr.preproc.copied_series import NoiseRecord, SeriesSample
from bids_sr.survey.bids.headers import READ_ERRORS
from bids_sr.survey.bids.inputs import BoldRun, Pair, Subject
from bids_sr.survey.notices import attribute, is_problem, problem, warning
from bids_sr.survey.preflight.copied_runs import check_copies
from bids_sr.survey.preflight.echo_checks import check_echoes
from bids_sr.survey.preflight.kspace import (
    check_kspace,
    check_kspace_of_image,
    list_kspace_volumes,
    select_slices,
)
from bids_sr.survey.preflight.plan import Plan
from bids_sr.survey.preflight.series_comparison import (
    BRIGHT_PERCENTILE,
    check_reference,
)
from bids_sr.survey.preflight.signal_faults import SignalFaultSearch
from bids_sr.survey.preflight.stored_volumes import StoredVolumes

_MIN_MASK_VOXELS = 50  # fewer cannot be a brain, whatever the coil, slab and age
# share of the sum of absolute values; interpolation causes some negative values
_MAX_NEGATIVE_SHARE = 0.1
_MIN_PADDING_SHARE = 0.01  # share of the voxels; voxels with an artifact are fewer
# padding relative to bright voxels; a saturated head has the value of its brightest voxels
_MIN_PADDING_RATIO, _MAX_NEGATIVE_PADDING_RATIO = 2.0, -0.5
# constant volumes are outlier volumes; a run with a larger share or fewer volumes is rejected
_MAX_CONSTANT_SHARE, _MIN_VOLUMES = 0.2, 20
_COPY_FIX = "Copy the file again from its source, and compare file size and checksum."
_N_LISTED_VOLUMES = 5  # largest number of volumes that a message lists


def check_data(
    plan: Plan, *, forced: bool = False, search_outliers: bool = True
) -> tuple[Notice, ...]:
    """Check the voxels of all images.

    Damaged, constant and non-finite images are reported, as well as faults of the signal
    (`bids_sr.survey.preflight.signal_faults`), implausible brain masks of other programs, and runs
    whose k-space ends below the Nyquist limit of the voxels.

    `forced` (`superres.force`) turns empty k-space into a note. With `search_outliers`, models
    exclude outlier volumes, so that a run may have some constant volumes.

    Each image is read once. Its signal is judged unless an image of the run is damaged. Problems
    come first, then warnings and notes, each with its participant or run.
    """
    notices: list[Notice] = []
    scans: dict[Path, _ImageScan] = {}
    for subject in plan.subjects:
        scans_of_subject = {
            use.path: _scan_image(use, forced=forced)
            for use in _list_uses(subject, search_outliers=search_outliers)
        }
        notices += attribute(_list_faults(subject, scans_of_subject), subject.label)
        damaged = {path for path, scan in scans_of_subject.items() if scan.is_damaged}
        records = {
            path: scan.noise for path, scan in scans_of_subject.items() if scan.noise is not None
        }
        notices += attribute(check_copies(subject, records), subject.label)
        for run in subject.runs:
            if damaged.isdisjoint(run.images):
                notices += attribute(check_echoes(run, records), *run.owner)
        scans |= scans_of_subject
    invalid = {Path(notice.what) for notice in notices if is_problem(notice)}
    for subject in plan.subjects:
        for path in subject.still_images:
            notices += attribute(scans[path].signal, subject.label)
    for subject in plan.subjects:
        for run in subject.runs:
            if invalid.isdisjoint(run.images):
                notices += attribute(_judge_signal(run, scans), *run.owner)
    return tuple(sorted(dict.fromkeys(notices), key=is_problem, reverse=True))


@frozen
class _ImageUse:
    """Use of an image in the runs of a participant.

    `alternative` is a further remedy. If the image `may_exclude` volumes, a few constant volumes
    are a warning, because models exclude outlier volumes. For `tr` and `is_processed`, see
    `SignalFaultSearch`. `series` is the series of a run, of a calibration run or of a reference,
    and `pair` the pair of a high-resolution scan.
    """

    path: Path
    alternative: str
    may_exclude: bool
    tr: float | None
    is_processed: bool
    is_still: bool
    series: BoldRun | None
    pair: Pair | None


@frozen
class _ImageScan:
    """What was found in the voxels of an image.

    `faults` are of its volumes; `signal` and `kspace` are about an image with valid volumes.
    `noise` is None if the image is damaged or is not a processed series.
    """

    faults: tuple[Notice, ...]
    signal: tuple[Notice, ...] = ()
    kspace: tuple[Notice, ...] = ()
    noise: NoiseRecord | None = None

    @property
    def is_damaged(self) -> bool:
        """Whether the image cannot be used."""
        return any(map(is_problem, self.faults))


def _list_faults(subject: Subject, scans: Mapping[Path, _ImageScan]) -> Iterator[Notice]:
    """Yield faults of the images and of the precomputed masks of a participant."""
    for scan in scans.values():
        yield from scan.faults
    for path in _list_masks(subject):
        yield from _check_mask(path)


def _judge_signal(run: BoldRun, scans: Mapping[Path, _ImageScan]) -> Iterator[Notice]:
    """Yield what was found in the signal of a run, its reference and its calibration run."""
    yield from scans[run.bold].signal
    yield from check_reference(run)
    for series in run.measured_series:
        yield from scans[series.bold].kspace


class _VolumeSearch:
    """Search for volumes without signal while the volumes of an image are read in order.

    `non_finite` volumes contain NaN or infinity, and `constant` volumes only one value. `sample`
    contains voxels to compare with other series.
    """

    def __init__(self, sample: SeriesSample) -> None:
        self.n_volumes = 0
        self.non_finite: list[int] = []
        self.constant: list[int] = []
        self.sample = sample

    def add(self, volume: np.ndarray) -> None:
        """Add the next volume."""
        # minimum and maximum are NaN if any voxel is NaN
        minimum, maximum = volume.min(), volume.max()
        if not (np.isfinite(minimum) and np.isfinite(maximum)):
            self.non_finite.append(self.n_volumes)
        elif minimum == maximum:
            self.constant.append(self.n_volumes)
        self.n_volumes += 1
        self.sample.add(volume)


def _list_uses(subject: Subject, *, search_outliers: bool) -> list[_ImageUse]:
    """Return the images of a participant with their use in the runs."""
    calibrations = {run.calibration.bold for run in subject.runs if run.calibration}
    bolds = {run.bold for run in subject.runs}
    echoes = {path for run in subject.runs for path, _ in run.echoes}
    tr_by_image = {path: run.tr for run in subject.runs for path in run.images}
    measured = {series.bold: series for run in subject.runs for series in run.measured_series}
    pair_by_image = {pair.highres: pair for pair in subject.all_pairs}
    still_images = subject.still_images
    return [
        _ImageUse(
            path=path,
            alternative=" Alternatively, use --calibration none." if path in calibrations else "",
            may_exclude=search_outliers and path in bolds,
            tr=tr_by_image.get(path),
            is_processed=path in bolds | echoes,
            is_still=path in still_images,
            series=measured.get(path),
            pair=pair_by_image.get(path),
        )
        for path in subject.images
    ]


def _scan_image(use: _ImageUse, *, forced: bool) -> _ImageScan:
    """Read an image, and judge its voxels; one volume is held in memory.

    Volumes and slices whose signal is checked are held in addition.
    """
    series = use.series
    whole: Collection[int] = (0,) if use.is_still else ()
    if series is not None and use.is_processed:
        whole = {0, series.n_volumes // 2, series.n_volumes - 1}
    in_kspace: Collection[int] = () if series is None else list_kspace_volumes(series)
    volumes, slices, number = list[Float32](), list[Array](), -1
    try:
        stored = StoredVolumes(use.path)
        search = _VolumeSearch(SeriesSample(stored.shape, stored.affine))
        faults = SignalFaultSearch(use.path, stored, tr=use.tr, is_processed=use.is_processed)
        for number, volume in enumerate(stored):
            search.add(volume)
            faults.add(volume)
            if number in whole:
                volumes.append(stored.decode(volume))
            if series is not None and number in in_kspace:
                slices.append(select_slices(stored.decode(volume), series))
    except READ_ERRORS as error:
        fault = problem(
            use.path,
            f"the file is truncated or corrupt: volume {number + 2} could not be read ({error})",
            f"{_COPY_FIX}{use.alternative}",
        )
        return _ImageScan(faults=(fault,))
    notices = tuple(_check_volumes(use, search))
    if not any(map(is_problem, notices)):
        notices += tuple(faults.find_faults(use.alternative))
    scan = _ImageScan(faults=notices)
    if scan.is_damaged:
        return scan
    return replace(
        scan,
        signal=tuple(_check_signal(use, volumes, forced=forced)),
        kspace=() if series is None else tuple(check_kspace(series, slices, forced=forced)),
        noise=search.sample.record_noise() if use.is_processed else None,
    )


def _check_volumes(use: _ImageUse, search: _VolumeSearch) -> Iterator[Notice]:
    """Judge constant, identical and non-finite volumes of an image."""
    n_volumes, n_constant = search.n_volumes, len(search.constant)
    if search.non_finite:
        reason = "the image contains NaN or infinite values"
        if n_volumes > 1:
            reason += (
                f" in {len(search.non_finite)} of {n_volumes} volumes"
                f" ({_format_numbers(search.non_finite)})"
            )
        yield problem(
            use.path,
            reason,
            "Convert the image again without NaN masking, or replace NaN and infinite values by"
            f" 0.{use.alternative}",
        )
        return
    fix = (
        "Compare the image with its source, such as the DICOM images, and create it again, or"
        f" exclude it.{use.alternative}"
    )
    if n_constant == n_volumes:
        yield problem(use.path, "the image is constant: all voxels have the same value", fix)
    elif n_constant:
        reason = (
            f"constant volumes were found ({n_constant} of {n_volumes} volumes,"
            f" {_format_numbers(search.constant)})"
        )
        are_few = n_constant <= _MAX_CONSTANT_SHARE * n_volumes
        if use.may_exclude and n_volumes >= _MIN_VOLUMES and are_few:
            yield warning(use.path, f"{reason}. These volumes are excluded from all models. {fix}")
        else:
            yield problem(use.path, reason, fix)
    elif n_volumes > 1 and len(search.sample.checksums) == 1:
        reason = f"all {n_volumes} volumes are identical, so the signal does not change over time"
        yield problem(use.path, reason, fix)


def _check_signal(use: _ImageUse, volumes: Sequence[Float32], *, forced: bool) -> Iterator[Notice]:
    """Judge the signal of an image from some of its volumes, scaled and as stored (X, Y, Z)."""
    if use.is_still:
        yield from _check_anatomical(use.path, volumes[0])
    elif use.series is not None and use.is_processed:
        yield from _check_mean(use.series, volumes)
    if use.pair is not None:
        yield from check_kspace_of_image(use.pair, volumes[0], forced=forced)


def _format_numbers(indices: list[int]) -> str:
    """Return the first volume numbers as text."""
    text = ", ".join(map(str, indices[:_N_LISTED_VOLUMES]))
    return f"counted from 0: {text}" + (" …" if len(indices) > _N_LISTED_VOLUMES else "")


def _list_masks(subject: Subject) -> list[Path]:
    """Return the precomputed brain masks of a participant and its runs."""
    outputs = (*(run.precomputed for run in subject.runs), subject.precomputed)
    masks = (output.mask for output in outputs if output is not None)
    return list(dict.fromkeys(filter(None, masks)))


def _check_mask(path: Path) -> Iterator[Notice]:
    """Report a precomputed brain mask that is empty, too large, or covers the whole image."""
    try:
        stored = StoredVolumes(path)
        (voxels,) = stored
        voxel_ml = abs(float(np.linalg.det(stored.affine[:3, :3]))) / 1000
    except READ_ERRORS as error:
        yield problem(path, f"the brain mask is truncated or corrupt ({error})", _COPY_FIX)
        return
    n_inside = int(np.count_nonzero(voxels > 0))
    reason = ""
    if n_inside < _MIN_MASK_VOXELS:
        reason = (
            f"the number of voxels in the brain mask is {n_inside}, but at least"
            f" {_MIN_MASK_VOXELS} voxels are expected"
        )
    elif n_inside == voxels.size:
        reason = "the brain mask covers the whole field of view"
    elif n_inside * voxel_ml > LARGEST_BRAIN_ML:
        reason = (
            f"the volume of the brain mask is {n_inside * voxel_ml:.0f} ml, but human brains are"
            f" at most {LARGEST_BRAIN_ML:g} ml"
        )
    if reason:
        yield problem(
            path,
            reason,
            "Compare the mask with its image and rerun the program that created it, or omit"
            " --derivatives.",
        )


def _check_anatomical(path: Path, image: Array) -> Iterator[Notice]:
    """Reject a structural image whose voxel values are largely negative."""
    negative_share = _measure_negative_share(image)
    if negative_share > _MAX_NEGATIVE_SHARE:
        share_text = "all" if negative_share == 1 else f"{negative_share:.0%}"
        yield problem(
            path,
            f"{share_text} of the summed absolute signal is negative, so this is not a magnitude"
            " image. It may be inverted, its header may contain a wrong scaling factor, unsigned"
            " integers may have been stored as signed, or it may be a phase image",
            "Use the magnitude image reconstructed by the scanner, or exclude this image.",
        )


def _check_mean(run: BoldRun, volumes: Sequence[Float32]) -> Iterator[Notice]:
    """Reject a series whose mean was subtracted, or that is not a magnitude series."""
    # by volume, because the first may be so bright that its sum would hide all others
    negative_share = float(np.median([_measure_negative_share(volume) for volume in volumes]))
    if negative_share > _MAX_NEGATIVE_SHARE:
        yield problem(
            run.bold,
            f"{negative_share:.0%} of the summed absolute signal is negative, so this is not a"
            " magnitude series. The mean may have been subtracted, values may be in percent signal"
            " change, unsigned integers may have been stored as signed, or this may be a phase"
            " image",
            "Use the series as acquired or as preprocessed by fMRIPrep, without removing its"
            " mean.",
        )
    elif (padding := _find_padding(volumes)) is not None:
        value, share = padding
        yield problem(
            run.bold,
            f"{share:.0%} of the voxels have the value {value:g}, which is far outside the range"
            " of all other voxels. These voxels are probably padding, but would be processed as"
            " signal",
            "Replace the padding value by 0.",
        )


def _measure_negative_share(voxels: Array) -> float:
    """Return the negative share (0 to 1) of the sum of absolute finite values."""
    finite_values = voxels[np.isfinite(voxels)].astype(np.float64)
    total = float(np.abs(finite_values).sum())
    return -float(finite_values[finite_values < 0].sum()) / total if total > 0 else 0.0


def _find_padding(volumes: Sequence[Float32]) -> tuple[float, float] | None:
    """Return value and share of voxels that have one value far from all others, or None."""
    voxels = np.stack(volumes).astype(np.float64)
    values = voxels[np.isfinite(voxels)]
    distinct_values, counts = np.unique(values, return_counts=True)
    index = int(counts.argmax())
    value, share = float(distinct_values[index]), counts[index] / values.size
    other_values = values[values != value]
    if share < _MIN_PADDING_SHARE or not other_values.size:
        return None
    bright_level = float(np.percentile(np.abs(other_values), BRIGHT_PERCENTILE))
    is_far = (
        value > _MIN_PADDING_RATIO * bright_level
        or value < _MAX_NEGATIVE_PADDING_RATIO * bright_level
    )
    return (value, float(share)) if is_far else None
