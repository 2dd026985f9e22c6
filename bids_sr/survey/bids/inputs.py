"""Data model of the inputs, as frozen values: participants, BOLD runs and image pairs."""

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path

import numpy as np

from bids_sr.glm.contrasts import list_levels
from bids_sr.io.frozen import frozen
from bids_sr.io.grids import AS_STORED, AxisOrder, Factor, Shape
from bids_sr.io.image_header import Header
from bids_sr.io.notices import Notice
from bids_sr.io.volume_times import middle_of_acquisition, reference_time
from bids_sr.survey.bids.entities import file_stem, parse_entities, stem_of_echoes
from bids_sr.survey.bids.inheritance import parse_suffix
from bids_sr.survey.bids.precomputed import DerivativeFolder, PrecomputedAnat, PrecomputedRun
from bids_sr.survey.bids.timing import is_slice_timing
from bids_sr.survey.notices import is_problem

DEFAULT_FACTORS: Factor = (2.0, 2.0, 1.0)
"""Factors if no pair, option or model determines the factor."""
# duration of the acquisition of a volume (s) in BIDS, and before BIDS 1.9
_DURATION_FIELDS = ("FrameAcquisitionDuration", "AcquisitionDuration")


@frozen
class Pair:
    """Images of one contrast of a participant at two resolutions, for training.

    The paths are absolute. If `lowres` is None, it is computed from `highres` by k-space
    truncation. `factor` is low-resolution voxel size divided by high-resolution voxel size, per
    axis. `orders` bring the files (high, low resolution) to the axis order of the run.
    """

    highres: Path
    lowres: Path | None
    factor: Factor
    orders: tuple[AxisOrder, AxisOrder] = (AS_STORED, AS_STORED)

    @property
    def contrast(self) -> str:
        """BIDS suffix: T2starw, or T1w, T2w and FLAIR of ``--sr-target anat``."""
        return parse_suffix(self.highres)

    @property
    def images(self) -> tuple[Path, ...]:
        """Acquired images of the pair."""
        return (self.highres,) if self.lowres is None else (self.highres, self.lowres)


@frozen
class LowresScan:
    """Structural scan without a high-resolution counterpart; the path is absolute."""

    path: Path

    @property
    def contrast(self) -> str:
        """BIDS suffix: T1w, T2w or FLAIR."""
        return parse_suffix(self.path)

    @property
    def images(self) -> tuple[Path, ...]:
        """Acquired image, as a tuple."""
        return (self.path,)


@frozen
class ModelInput:
    """Input of the ``--pretrained`` models of structural scans.

    `contrasts` are BIDS suffixes in the order of the channels, `mm` is the voxel size of the grid,
    and `orientation` the anatomical axis across slices: ``R-L``, ``P-A`` or ``I-S``.
    """

    contrasts: tuple[str, ...]
    mm: tuple[float, float, float]
    orientation: str


@frozen
class HighresReference:
    """Reference for the high-resolution maps of a run: a measured series, known effects, or both.

    `activations` maps a condition to its high-resolution map. `mean_signals` are the signals
    that equal 100 % in maps in percent, by condition; maps without it are in signal units.
    """

    root: Path | None = None
    series: "BoldRun | None" = None
    activations: Mapping[str, Path] = field(default_factory=dict)
    mean_signals: Mapping[str, float] = field(default_factory=dict)

    @property
    def has_maps(self) -> bool:
        """Whether maps can be compared with a measured series or with known activation."""
        return bool(self.activations) or self.series is not None


@frozen
class BoldRun:
    """BOLD series according to header and sidecar, with its associated files; paths are absolute.

    Slices are along the third axis, whatever the order in the file. Companions of a run are BOLD
    runs as well, with an axis order as close as possible to the order of the run.

    `tr` is in s. `sidecar` is metadata after inheritance. `events` are None at rest, and if events
    are ignored; `events_sidecar` is metadata after inheritance. `slice_timing` is in seconds from
    the start of a volume, one per slice; None if it is not corrected. `echoes` are file and echo
    time (ms) of all combined echoes, the first being `bold`; empty for a single echo. `factor` is
    acquired voxel size divided by high-resolution voxel size, per axis. `pauses` are trial types
    of the events that are taken for rest.

    `pair` are images of the same participant that this run is super-resolved with, and `holdout`
    is the second pair of the session, which is not used for training. `calibration` is a short
    high-resolution run that calibrates this run.
    """

    header: Header = field(repr=False)
    tr: float
    sidecar: Mapping[str, object] = field(default_factory=dict)
    events: Path | None = None
    events_sidecar: Mapping[str, object] = field(default_factory=dict)
    pauses: tuple[str, ...] = ()
    slice_timing: tuple[float, ...] | None = None
    echoes: tuple[tuple[Path, float], ...] = ()
    factor: Factor = DEFAULT_FACTORS
    pair: Pair | None = None
    holdout: Pair | None = None
    truth: HighresReference | None = None
    precomputed: PrecomputedRun | None = None
    calibration: "BoldRun | None" = None

    @property
    def bold(self) -> Path:
        """Absolute path of the series, or of its first echo."""
        return self.header.path.absolute()

    @property
    def shape(self) -> Shape:
        """Matrix of a volume."""
        x, y, z = self.header.shape[:3]
        return x, y, z

    @property
    def n_volumes(self) -> int:
        """Number of volumes."""
        return self.header.shape[3]

    @property
    def zooms(self) -> tuple[float, float, float]:
        """Voxel size (mm)."""
        return self.header.zooms

    @property
    def affine(self) -> np.ndarray:
        """Transform from voxel indices to RAS mm (4, 4)."""
        return self.header.affine

    @property
    def axis_order(self) -> AxisOrder:
        """Axis of the file that becomes each axis of the run."""
        return self.header.order

    @property
    def entities(self) -> dict[str, str]:
        """Long name of pybids → label, in file name order, without ``echo`` if combined."""
        return {
            key: label
            for key, label in parse_entities(self.bold).items()
            if not (self.echoes and key == "echo")
        }

    @property
    def stem(self) -> str:
        """File name without suffix and extension, common to all echoes.

        An example is ``sub-01_ses-1_task-tap_run-1``.
        """
        return stem_of_echoes(self.bold) if self.echoes else file_stem(self.bold)

    @property
    def owner(self) -> tuple[str, str]:
        """Participant and name of the run, which notices are about."""
        return self.entities["subject"], self.stem

    @property
    def duration(self) -> float:
        """Length of the run (s)."""
        return self.n_volumes * self.tr

    @property
    def levels(self) -> tuple[str, ...]:
        """Trial types in ``Levels`` of the events table."""
        return list_levels(self.events_sidecar)

    @property
    def imported_confounds(self) -> Path | None:
        """Confounds table of another program, or None; its content may not be downloaded."""
        return None if self.precomputed is None else self.precomputed.confounds

    @property
    def is_corrected(self) -> bool:
        """Whether the series was already corrected for slice timing."""
        return bool(self.sidecar.get("SliceTimingCorrected", False))

    def start_time(self, fraction: float) -> float:
        """Return the reference time of a volume's values, in s after the start of the volume.

        This is the reference time of slice timing correction by this program, or of an earlier
        correction (StartTime), or else the middle of the slice acquisition.

        `fraction` is the reference time of the correction within the slice acquisition (0: first
        slice, .5: middle, 1: last slice).
        """
        if self.slice_timing is not None:
            return reference_time(self.slice_timing, fraction)
        start, times = self.sidecar.get("StartTime"), self.sidecar.get("SliceTiming")
        if self.is_corrected and isinstance(start, int | float) and 0 <= start <= self.tr:
            return float(start)
        if is_slice_timing(times, self.header.shape[2], self.tr):
            return reference_time(times, 0.5)
        return middle_of_acquisition(self.tr, self._silent_gap)

    @property
    def _silent_gap(self) -> float:
        """Time without acquisition at the end of each volume (s).

        It is the interval of VolumeTiming minus the duration of the acquisition, or DelayTime.
        Without VolumeTiming, or if it is longer than the interval, AcquisitionDuration can be the
        duration of the whole run.
        """
        gap = self.sidecar.get("DelayTime")
        if self.sidecar.get("VolumeTiming") is not None:
            for name in _DURATION_FIELDS:
                duration = self.sidecar.get(name)
                if isinstance(duration, int | float) and 0 < duration <= self.tr:
                    gap = self.tr - duration
                    break
        return float(gap) if isinstance(gap, int | float) and 0 <= gap < self.tr else 0.0

    @property
    def measured_series(self) -> "tuple[BoldRun, ...]":
        """The run, its calibration run and its measured reference, whose resolution counts."""
        reference = None if self.truth is None else self.truth.series
        return (self, *filter(None, (self.calibration, reference)))

    @property
    def images(self) -> tuple[Path, ...]:
        """Images that are read for this run, except for its pairs."""
        return (
            self.bold,
            *(path for path, _ in self.echoes[1:]),
            *(series.bold for series in self.measured_series[1:]),
        )


@frozen
class Subject:
    """Participant with images and runs.

    `runs` are BOLD runs to process; empty for structural scans. `precomputed` are anatomical
    derivatives of another program. If given, `t1w` starts with its T1w image. `structural` are
    contrasts to super-resolve with ``--sr-target anat``. `controls` are contrasts of each session
    with only high-resolution scans (`anat.control`), and `lowres` are contrasts of each session
    with only low-resolution scans, for ``--pretrained`` models. `split_set` is the set of the
    participant (`anat.split`): training, validation or test; "" if there is no split.
    """

    label: str
    t1w: tuple[Path, ...]
    runs: tuple[BoldRun, ...]
    precomputed: PrecomputedAnat | None = None
    structural: tuple[Pair, ...] = ()
    controls: tuple[tuple[Pair, ...], ...] = ()
    lowres: tuple[tuple[LowresScan, ...], ...] = ()
    split_set: str = ""

    @property
    def has_scans(self) -> bool:
        """Whether structural scans of this participant are processed."""
        return bool(self.structural or self.controls or self.lowres)

    @property
    def contrasts(self) -> tuple[str, ...]:
        """BIDS suffixes of the structural pairs."""
        return tuple(pair.contrast for pair in self.structural)

    @property
    def highres_scans(self) -> tuple[Pair, ...]:
        """Structural pairs, and high-resolution scans without a counterpart."""
        return (*self.structural, *(scan for session in self.controls for scan in session))

    @property
    def lowres_scans(self) -> tuple[LowresScan, ...]:
        """Low-resolution scans without a counterpart."""
        return tuple(scan for session in self.lowres for scan in session)

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """Distinct pairs of the runs, in the order of the runs."""
        return tuple(dict.fromkeys(run.pair for run in self.runs if run.pair is not None))

    @property
    def all_pairs(self) -> tuple[Pair, ...]:
        """Structural pairs, high-resolution scans, and pairs of the runs with held-out pairs."""
        return (*self.highres_scans, *self.pairs, *self.holdouts.values())

    @property
    def still_images(self) -> tuple[Path, ...]:
        """T1w image in use, images of all pairs, and low-resolution scans, without duplicates."""
        sources: tuple[Pair | LowresScan, ...] = (*self.all_pairs, *self.lowres_scans)
        paths = (path for source in sources for path in source.images)
        return tuple(dict.fromkeys([*self.t1w[:1], *paths]))

    @property
    def images(self) -> tuple[Path, ...]:
        """Images that are read, without duplicates; their voxels are checked before processing."""
        paths = (path for run in self.runs for path in run.images)
        return tuple(dict.fromkeys([*self.still_images, *paths]))

    @property
    def holdouts(self) -> dict[Pair, Pair]:
        """Training pair → held-out pair, in the order of the runs."""
        return {
            run.pair: run.holdout
            for run in self.runs
            if run.pair is not None and run.holdout is not None
        }


@frozen
class Survey:
    """Inputs according to file names, sidecars and headers, with all notices about them.

    `subjects` are participants with their usable runs. `split_subjects` are all participants of
    the split (`anat.split`), whether they are selected or not. `files_by_run` are BOLD file and
    events table by name of the run, for all selected runs; tables of unusable runs are checked as
    well. `sources` are the directories of ``--derivatives``.

    `type_order` are trial types by task in the order of ``Levels`` at the root of the data set,
    which determines names and signs of default contrasts; other types follow in alphabetical
    order. `task_types` are the trial types by task in all events tables of the data set, in this
    order. `sidecars` are JSON files of the data set that were read.
    """

    subjects: tuple[Subject, ...] = ()
    split_subjects: tuple[Subject, ...] = ()
    files_by_run: Mapping[str, tuple[Path, Path | None]] = field(default_factory=dict)
    sources: tuple[DerivativeFolder, ...] = ()
    type_order: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    task_types: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    sidecars: frozenset[Path] = frozenset()
    notices: tuple[Notice, ...] = ()

    @property
    def problems(self) -> list[Notice]:
        """Notices that are problems."""
        return [notice for notice in self.notices if is_problem(notice)]

    @property
    def runs(self) -> tuple[BoldRun, ...]:
        """Usable runs of all participants."""
        return tuple(run for subject in self.subjects for run in subject.runs)

    @property
    def read_files(self) -> set[Path]:
        """Images, tables and sidecars of the data set that the call reads."""
        subjects = (*self.subjects, *self.split_subjects)
        images = {path for subject in subjects for path in subject.images}
        series = {
            path for files in self.files_by_run.values() for path in files if path is not None
        }
        return {*images, *series, *self.sidecars}
