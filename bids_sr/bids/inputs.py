"""Data model of the inputs, as frozen values: participants, BOLD runs and image pairs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bids_sr.bids.entities import entities_of, stem_of, stem_of_echoes
from bids_sr.bids.findings import Findings
from bids_sr.bids.precomputed import Derivatives, PrecomputedAnat, PrecomputedRun
from bids_sr.bids.timing import is_slice_timing
from bids_sr.frozen import frozen
from bids_sr.io.grids import AS_STORED, AxisOrder, Shape, size_text
from bids_sr.io.image_header import Header, Triple
from bids_sr.io.volume_times import middle_of_acquisition, reference_time

DEFAULT_FACTORS: Triple = (2.0, 2.0, 1.0)  # unless a pair, an option or a model states it


@frozen
class Pair:
    """One contrast of a participant at two resolutions, to learn from; paths are absolute.

    `lowres`: if None, it is made of the other one by k-space truncation. `factor`: low- over
    high-resolution voxel size, each axis. `orders`: of axes of the files, to lie as the run's.
    """

    highres: Path
    lowres: Path | None
    factor: Triple
    orders: tuple[AxisOrder, AxisOrder] = (AS_STORED, AS_STORED)

    @property
    def contrast(self) -> str:
        """BIDS suffix: T2starw, or T1w, T2w and FLAIR of ``--sr-target anat``."""
        return self.highres.name.partition(".")[0].rpartition("_")[2]

    @property
    def images(self) -> tuple[Path, ...]:
        """The images that were acquired."""
        return (self.highres,) if self.lowres is None else (self.highres, self.lowres)


@frozen
class LowresScan:
    """Structural scan without a high-resolution counterpart; the path is absolute."""

    path: Path

    @property
    def contrast(self) -> str:
        """BIDS suffix: T1w, T2w or FLAIR."""
        return self.path.name.partition(".")[0].rpartition("_")[2]

    @property
    def images(self) -> tuple[Path, ...]:
        """The image that was acquired."""
        return (self.path,)


@frozen
class ModelInput:
    """Input of the ``--pretrained`` models of structural scans.

    `contrasts`: BIDS suffixes in the order of the channels. `mm`: voxel size of the grid.
    `orientation`: anatomical axis across slices: ``R-L``, ``P-A`` or ``I-S``.
    """

    contrasts: tuple[str, ...]
    mm: Triple
    orientation: str


@frozen
class Truth:
    """Reference for the finer maps of a run: the measured series, known effects, or both.

    `activations`: condition → map in signal units, high resolution.
    """

    root: Path | None = None
    series: "BoldRun | None" = None
    activations: Mapping[str, Path] = field(default_factory=dict)


@frozen
class BoldRun:
    """A BOLD series as header and sidecar tell it, with what belongs to it; paths are absolute.

    Slices lie along its third axis, whatever the order in its file. Companions of a run are BOLD
    runs, too, with axes as near to those of the run as can be.

    `sidecar`: after inheritance. `events`: None at rest, and where they are ignored.
    `slice_timing`: seconds from the start of a volume, one per slice along axis 2; None: slice
    timing is not corrected. `echoes`: file and echo time (ms) of each echo that is combined, of
    which `bold` is the first; empty for a single echo. `factor`: acquired over high-resolution
    voxel size, each axis. `pair`: the images of the same person that this run is super-resolved
    with. `holdout`: a second pair, which is not trained on, where that was asked for.
    `calibration`: short run at the high resolution that it is calibrated with. `another`: run of
    the same task, where series of other programs are judged. `compared`: name → series of another
    program, judged beside it.
    """

    header: Header = field(repr=False)
    tr: float
    sidecar: Mapping[str, object] = field(default_factory=dict)
    events: Path | None = None
    slice_timing: tuple[float, ...] | None = None
    echoes: tuple[tuple[Path, float], ...] = ()
    factor: Triple = DEFAULT_FACTORS
    pair: Pair | None = None
    holdout: Pair | None = None
    truth: Truth | None = None
    precomputed: PrecomputedRun | None = None
    calibration: "BoldRun | None" = None
    another: "BoldRun | None" = None
    compared: Mapping[str, "BoldRun"] = field(default_factory=dict)

    @property
    def bold(self) -> Path:
        """Return its file; of several echoes the first."""
        return self.header.path.absolute()

    @property
    def shape(self) -> Shape:
        """Matrix of a volume."""
        x, y, z = self.header.shape[:3]
        return x, y, z

    @property
    def n_volumes(self) -> int:
        """How many volumes it has."""
        return self.header.shape[3]

    @property
    def zooms(self) -> Triple:
        """Voxel size (mm)."""
        return self.header.zooms

    @property
    def affine(self) -> np.ndarray:
        """Voxel to RAS mm (4, 4)."""
        return self.header.affine

    @property
    def axis_order(self) -> AxisOrder:
        """Return axis of the file that each axis of the run is."""
        return self.header.order

    @property
    def entities(self) -> dict[str, str]:
        """Long name of pybids → label, in the order of the file name; of all echoes."""
        named = entities_of(self.bold)
        return {k: label for k, label in named.items() if not (self.echoes and k == "echo")}

    @property
    def stem(self) -> str:
        """File name without suffix and extension, common to all echoes.

        An example is ``sub-01_ses-1_task-tap_run-1``.
        """
        return stem_of_echoes(self.bold) if self.echoes else stem_of(self.bold)

    @property
    def duration(self) -> float:
        """Length of the run (s)."""
        return self.n_volumes * self.tr

    @property
    def voxel(self) -> str:
        """Voxel size as text."""
        return size_text(self.zooms)

    @property
    def is_corrected(self) -> bool:
        """Whether slice timing was corrected in it already."""
        return bool(self.sidecar.get("SliceTimingCorrected", False))

    def start_time(self, fraction: float) -> float:
        """Return the moment of a volume for which its values hold, in s after its start.

        It is the moment to which slice timing is corrected here, or was corrected before
        (StartTime), else the middle of the time in which the slices of a volume are acquired.

        Parameters
        ----------
        fraction : float
            Moment of the slice acquisition range to which slice timing is corrected (0: first
            slice, .5: middle, 1: last slice).
        """
        if self.slice_timing is not None:
            return reference_time(self.slice_timing, fraction)
        start, times = self.sidecar.get("StartTime"), self.sidecar.get("SliceTiming")
        if self.is_corrected and isinstance(start, int | float) and 0 <= start <= self.tr:
            return float(start)
        if is_slice_timing(times, self.header.shape[2], self.tr):
            return reference_time(times, 0.5)
        delay = self.sidecar.get("DelayTime")
        if isinstance(delay, int | float) and 0 <= delay < self.tr:
            return middle_of_acquisition(self.tr, float(delay))
        return middle_of_acquisition(self.tr)

    @property
    def images(self) -> tuple[Path, ...]:
        """Return images that are read for this run besides those of its pairs."""
        measured = None if self.truth is None else self.truth.series
        others = (self.calibration, measured, self.another, *self.compared.values())
        return (
            self.bold,
            *(path for path, _ in self.echoes[1:]),
            *(one.bold for one in others if one is not None),
        )


@frozen
class Subject:
    """One participant.

    `runs`: BOLD runs that are processed; empty for structural scans. `precomputed`: what another
    program has made; its T1w image is then the first. `structural`: contrasts that ``--sr-target
    anat`` works on. `controls`: contrasts of each session that has high-resolution scans only
    (``--anat-control``); without low-resolution images. `lowres`: contrasts of each session that
    has low-resolution scans only, for ``--pretrained`` models.
    """

    label: str
    t1w: tuple[Path, ...]
    runs: tuple[BoldRun, ...]
    precomputed: PrecomputedAnat | None = None
    structural: tuple[Pair, ...] = ()
    controls: tuple[tuple[Pair, ...], ...] = ()
    lowres: tuple[tuple[LowresScan, ...], ...] = ()

    @property
    def has_scans(self) -> bool:
        """Whether structural scans of this participant are processed."""
        return bool(self.structural or self.controls or self.lowres)

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """The distinct pairs of the runs, in the order of the runs."""
        return tuple(dict.fromkeys(run.pair for run in self.runs if run.pair is not None))

    @property
    def images(self) -> tuple[Path, ...]:
        """Every image that is read, each once: what is checked voxel by voxel before the work."""
        scans = (*self.structural, *(scan for session in self.controls for scan in session))
        pairs = (*scans, *self.pairs, *self.holdouts.values())
        lowres = [scan for session in self.lowres for scan in session]
        of: tuple[Pair | LowresScan | BoldRun, ...] = (*pairs, *lowres, *self.runs)
        return tuple(dict.fromkeys([*self.t1w[:1], *(path for one in of for path in one.images)]))

    @property
    def holdouts(self) -> dict[Pair, Pair]:
        """Pair that is trained on → pair that is scored, in the order of the runs."""
        return {
            run.pair: run.holdout
            for run in self.runs
            if run.pair is not None and run.holdout is not None
        }


@dataclass(slots=True)
class Survey(Findings):
    """Everything that file names, sidecars and headers tell, and what speaks against it.

    `type_order` has for each task the trial types in the order that decides the sign of default
    contrasts, the same for every participant of the data set.

    `subjects`: with the runs that are sound. `chosen`: name → BOLD file and events table of all
    runs chosen: tables of unsound ones are checked, too.
    """

    subjects: tuple[Subject, ...] = ()
    chosen: dict[str, tuple[Path, Path | None]] = field(default_factory=dict)
    sources: tuple[Derivatives, ...] = ()
    type_order: dict[str, tuple[str, ...]] = field(default_factory=dict)
