"""Specification of a run's inputs: what is given, its target, calibration, acquisition and training."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

AxisOrder = tuple[int, int, int]
AS_STORED: AxisOrder = (0, 1, 2)
Factor = tuple[float, float, float]
Seed = tuple[str, tuple[float, float, float], float, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Precomputed:
    """What another program has made already.

    Attributes
    ----------
    origin : program and version
    files : what each stands for to its path: of the anatomy ``t1w_preproc``, ``t1w_mask``, ``gm``, ``wm``, ``csf``,
        ``t1w_dseg``, ``t1w2std_xfm``, ``std2t1w_xfm``; of a run ``hmc_xfms``, ``bold_mask``, ``boldref2t1w_xfm``,
        ``confounds_tsv``, ``fieldmap``, ``boldref2fmap_xfm``
    uris : BIDS URIs of the files
    readout : total readout time (s) of a run with a field map
    """

    origin: str
    files: Mapping[str, str]
    uris: tuple[str, ...]
    readout: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Store:
    """Where files go.

    Attributes
    ----------
    output_dir : root of the derivatives
    common : entities that all the files share (long names)
    sources : BIDS URIs of what they were made from
    axis_order : axis of the input that each axis of the images is; on the run's own grids they are stored in its order
    """

    output_dir: str
    common: Mapping[str, str]
    sources: tuple[str, ...] = ()
    axis_order: AxisOrder = AS_STORED


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """Where results go and what they are called.

    Attributes
    ----------
    output_dir : root of the derivatives
    common : entities of the run (long names)
    sources : BIDS URIs of the BOLD series
    task_name : TaskName of the run
    dtype : stored type of series
    spaces : output spaces for the statistical maps
    provenance : what the JSON beside tables of figures says of what made them
    """

    output_dir: str
    common: Mapping[str, str]
    sources: tuple[str, ...]
    task_name: str
    dtype: str
    spaces: tuple[str, ...] = ()
    provenance: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class CalibrationPlan:
    """The short high-resolution run that calibrates another one.

    Attributes
    ----------
    bold_file : as acquired; events_file : its events, or ""
    tr : repetition time (s)
    n_dummy : volumes at its start that are not steady; None to detect them
    source : BIDS URI of the series, or its path where it lies outside of the data set
    axis_order : axis of the file that each axis of the run is
    """

    bold_file: str
    events_file: str
    tr: float
    n_dummy: int | None
    source: str
    axis_order: AxisOrder = AS_STORED


@dataclass(frozen=True, kw_only=True, slots=True)
class Acquisition:
    """How one run was acquired.

    Attributes
    ----------
    tr : repetition time (s)
    factor : low-resolution over high-resolution voxel size, by axis
    n_dummy : volumes before the steady state; None to detect them
    slice_times : seconds from the start of the volume, one a slice; None to leave slice timing alone
    slice_time_ref : moment within the TR to which slices are brought, as a fraction
    voxel : acquired voxel size (mm)
    phase_encoding : its direction as BIDS has it (``j-``), or ""
    precomputed : what of the run has been made by another program, or None
    calibration : short run at the high resolution that tells where it fluctuates, or None
    axis_order : axis of the file that each axis of the run is, whose slices lie along the third
    """

    tr: float
    factor: Factor
    voxel: tuple[float, float, float]
    n_dummy: int | None
    slice_times: tuple[float, ...] | None
    slice_time_ref: float
    phase_encoding: str = ""
    precomputed: Precomputed | None = None
    calibration: CalibrationPlan | None = None
    axis_order: AxisOrder = AS_STORED

    @property
    def corrected(self) -> bool:
        """Whether a field map tells where the signal was shifted to."""
        return self.precomputed is not None and "fieldmap" in self.precomputed.files

    @property
    def timing(self) -> dict[str, Any]:
        """What a linear model wants to know of the acquisition, as the inputs of interfaces are called."""
        return {"tr": self.tr, "slice_time_ref": self.slice_time_ref, "has_stc": self.slice_times is not None}


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """How networks are trained or found; see the command line for what each means.

    `pretrained` holds the weights that are used instead of training, by series. `methods` tells the method of a series
    where that has another name, `about` what each method is, with its reference, for the methods text, and `text` what
    it says there of its training itself. `starts` holds the weights with which training begins, by series; the others
    begin with none. `calibrated` are the series whose maps a calibration enters.
    """

    recipe: str
    model_source: str
    model_dir: str | None
    pretrained: Mapping[str, str]
    vgg_weights: str | None
    max_train_minutes: float | None
    seed: int
    device: str
    precision: str
    force: bool
    sloppy: bool
    methods: Mapping[str, str] = field(default_factory=dict)
    about: Mapping[str, str] = field(default_factory=dict)
    text: Mapping[str, str] = field(default_factory=dict)
    starts: Mapping[str, str] = field(default_factory=dict)
    calibrated: tuple[str, ...] = ()

    def method(self, series: str) -> str:
        """Name of the method that makes a series."""
        return self.methods.get(series, series)
