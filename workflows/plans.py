"""What the workflows are told, as frozen values; `bids_sr.workflows.base` fills them in."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bids_sr.series import INTERPOLATIONS

AxisOrder = tuple[int, int, int]
AS_STORED: AxisOrder = (0, 1, 2)
Factor = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Precomputed:
    """What another program has made already."""

    origin: str  # program and version
    # what each stands for to its path: of the anatomy ``t1w_preproc``, ``t1w_mask``, ``gm``, ``wm``, ``csf``,
    # ``t1w_dseg``, ``t1w2std_xfm``, ``std2t1w_xfm``; of a run ``hmc_xfms``, ``bold_mask``, ``boldref2t1w_xfm``,
    # ``confounds_tsv``, ``fieldmap``, ``boldref2fmap_xfm``
    files: Mapping[str, str]
    uris: tuple[str, ...]  # BIDS URIs of the files
    readout: float = 0.0  # total readout time (s) of a run with a field map


@dataclass(frozen=True, kw_only=True, slots=True)
class Store:
    """Where files go."""

    output_dir: str  # root of the derivatives
    common: Mapping[str, str]  # entities that all the files share (long names)
    sources: tuple[str, ...] = ()  # BIDS URIs of what they were made from
    # axis of the input that each axis of the images is; on the run's own grids they are stored in its order
    axis_order: AxisOrder = AS_STORED


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """Where results go and what they are called."""

    output_dir: str  # root of the derivatives
    common: Mapping[str, str]  # entities of the run (long names)
    sources: tuple[str, ...]  # BIDS URIs of the BOLD series
    task_name: str  # TaskName of the run
    dtype: str  # stored type of series
    spaces: tuple[str, ...] = ()  # output spaces for the statistical maps
    # what the JSON beside tables of figures says of what made them
    provenance: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class CalibrationPlan:
    """The short high-resolution run that calibrates another one."""

    bold_file: str  # as acquired
    events_file: str  # its events, or ""
    tr: float  # repetition time (s)
    n_dummy: int | None  # volumes at its start that are not steady; None to detect them
    source: str  # BIDS URI of the series, or its path where it lies outside of the data set
    axis_order: AxisOrder = AS_STORED  # axis of the file that each axis of the run is


@dataclass(frozen=True, kw_only=True, slots=True)
class Acquisition:
    """How one run was acquired."""

    tr: float  # repetition time (s)
    factor: Factor  # low-resolution over high-resolution voxel size, by axis
    voxel: tuple[float, float, float]  # acquired voxel size (mm)
    n_dummy: int | None  # volumes before the steady state; None to detect them
    # seconds from the start of the volume, one a slice; None to leave slice timing alone
    slice_times: tuple[float, ...] | None
    slice_time_ref: float  # moment within the TR to which slices are brought, as a fraction
    phase_encoding: str = ""  # its direction as BIDS has it (``j-``), or ""
    precomputed: Precomputed | None = None  # what of the run has been made by another program, or None
    # short run at the high resolution that tells where it fluctuates, or None
    calibration: CalibrationPlan | None = None
    axis_order: AxisOrder = AS_STORED  # axis of the file that each axis of the run is, whose slices lie along the third

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


@dataclass(frozen=True, kw_only=True, slots=True)
class Extra:
    """A series that is evaluated and not stored: a placebo, or another member of an ensemble."""

    name: str  # of the series
    method: str  # that it is a variant of
    seed: int = 0  # added to the seed of training
    model: str = ""  # weights that are used instead of training, or ""
    displace: str = ""  # how variance maps are displaced ("mirror", "shift"), or "" where they stay
    contrast: bool = False  # trained on the subject's T1w image instead of the pair

    @property
    def is_member(self) -> bool:
        """Whether it differs by nothing but the seed."""
        return self.seed > 0


@dataclass(frozen=True, kw_only=True, slots=True)
class SeriesPlan:
    """Which series are made of a run besides ``raw``."""

    names: tuple[str, ...]  # in the order of the tables
    models: tuple[str, ...]  # those of them with a network that is applied volume by volume
    guided: tuple[str, ...]  # those that need the highres image at inference
    data_consistency: str  # see the command line
    precision: str
    device: str
    training: Training
    on_run: tuple[str, ...] = ()  # those made by variance maps of the run itself
    extras: tuple[Extra, ...] = ()  # series that are evaluated and not stored
    guide_kind: str = "none"  # image whose static detail is added to those of `on_run`: "highres" or "none"
    # those of `models` whose model is trained on, or was given to, this run; the others' is that of the pair
    on_volumes: tuple[str, ...] = ()
    controls: tuple[str, ...] = ()  # those of `on_run` that are baselines, such as `sdmod`

    @property
    def of_pair(self) -> tuple[str, ...]:
        """Methods whose model was trained on the pair."""
        return tuple(name for name in self.models if name not in self.on_volumes)

    @property
    def models_of_pair(self) -> tuple[str, ...]:
        """Series whose model was trained on the pair: those methods, then further members of their ensembles."""
        members = (extra.name for extra in self.extras if extra.is_member and extra.method in self.of_pair)
        return (*self.of_pair, *members)

    @property
    def checked(self) -> tuple[str, ...]:
        """Methods that may run at a lower precision, which is tried on a few slices first."""
        lower = self.precision == "bf16" or (self.precision == "auto" and self.device == "cuda")
        return self.models if lower else ()

    @property
    def trained(self) -> tuple[str, ...]:
        """All series with a model."""
        return (*self.models, *self.on_run)

    def takes_guide(self, series: str) -> bool:
        """Whether detail of the highres image enters a series."""
        return series in self.guided or (series in self.on_run and self.guide_kind != "none")

    @property
    def interpolations(self) -> tuple[str, ...]:
        """Baselines that are plain interpolations other than zero filling."""
        return tuple(name for name in self.names if name in INTERPOLATIONS and name != "zerofill")

    @property
    def takes_calibration(self) -> bool:
        """Whether there is a method whose maps a calibration enters."""
        return any(name in self.training.calibrated for name in self.on_run)

    @property
    def by_variance(self) -> tuple[str, ...]:
        """Methods that may fall back to zero filling, as their cards say."""
        return tuple(name for name in self.on_run if name not in self.controls)

    @property
    def methods(self) -> tuple[str, ...]:
        """Series under judgment: those with a model, but for controls."""
        return tuple(name for name in self.trained if name not in self.controls)


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationPlan:
    """How the maps are judged."""

    truth_file: str = ""  # measured high-resolution series of the same run, or ""
    truth_slice_times: tuple[float, ...] | None = None  # its slice times (s), or None where they are left alone
    truth_axis_order: AxisOrder = AS_STORED  # axis of its file that each axis of the run is
    truth_maps: Mapping[str, str] = field(default_factory=dict)  # known activation, contrast to file
    null_checks: int = 0  # shuffles of the test without signal; 0 is none
    pair_conditions: tuple[str, ...] = ()  # two single conditions whose regions are compared, or none
    attribution_widths: tuple[float, ...] = ()  # smoothing (mm) at which they are, besides that of the maps
    roi_grow: bool = False  # grow the region of interest into the nearest activation of the raw series
    split: bool = True  # whether there are blocks enough to split the run into halves
    margin: float | None = None  # differences within it count as none; None: told from the measured series

    @property
    def measured(self) -> tuple[str, ...]:
        """The measured series, where there is one."""
        return ("measured",) if self.truth_file else ()


@dataclass(frozen=True, kw_only=True, slots=True)
class ActivationPlan:
    """What is mapped, and how; see `bids_sr.workflows.bold.map_activation.init_activation_wf`.

    `at_rest`: seeds take the place of conditions, and connectivity is mapped.
    """

    contrasts: Mapping[str, Mapping[str, float]]
    kinds: tuple[str, ...]
    smoothing: tuple[float, ...]
    low_pass: float | None
    high_pass: float
    thresholds: tuple[str, ...]
    at_rest: bool = False

    @property
    def plain_contrasts(self) -> dict[str, dict[str, float]]:
        """Contrasts as the traits of an interface want them."""
        return {name: dict(weights) for name, weights in self.contrasts.items()}


@dataclass(frozen=True, kw_only=True, slots=True)
class PairPlan:
    """One T2*-weighted pair."""

    number: int  # tells it from the other pairs of the participant, from 1
    highres: str
    lowres: str  # "" where it has to be made from highres
    factor: Factor  # low-resolution over high-resolution voxel size, by axis
    common: Mapping[str, str]  # entities of what is stored
    sources: tuple[str, ...]  # BIDS URIs of its images
    high: Mapping[str, str]  # the entities that tell its members apart
    low: Mapping[str, str]
    tag: str  # tells it from another pair of the same images; "" where there is none
    # of the axes of the two files, so that they lie as those of the runs are worked on
    orders: tuple[AxisOrder, AxisOrder] = (AS_STORED, AS_STORED)
    holdout: "PairPlan | None" = None  # the pair on which models of this one are scored, or None


@dataclass(frozen=True, kw_only=True, slots=True)
class RunPlan:
    """One BOLD run; see `bids_sr.workflows.bold.bold_run.init_func_wf`."""

    name: str  # of its workflow
    bold_file: str  # as acquired
    events_file: str  # no events ("") at rest, where seeds take the place of conditions
    pair: int  # number of its pair, 0 is none
    facts: Mapping[str, Any]  # what was acquired, for the report
    target: Target
    acquisition: Acquisition
    series: SeriesPlan
    activation: ActivationPlan
    evaluation: EvaluationPlan
    with_anat: bool  # whether there is a T1w image
    with_holdout: bool  # whether models are scored on another pair
    omp_nthreads: int
    seed: int
    # `bids_sr.config.seed_options.Seed` of a run without events; none where its temporal components take their place
    seeds: tuple[Any, ...] = ()
    # file and echo time (ms) of each echo that is combined; none of a single-echo run
    echoes: tuple[tuple[str, float], ...] = ()

    @property
    def store(self) -> Store:
        """Where its files go."""
        target = self.target
        return Store(
            output_dir=target.output_dir, common=target.common, sources=target.sources,
            axis_order=self.acquisition.axis_order,
        )  # fmt: skip

    @property
    def at_rest(self) -> bool:
        """Whether there are no events, so that connectivity is mapped."""
        return not self.events_file

    @property
    def with_pair(self) -> bool:
        """Whether there is a T2*-weighted pair."""
        return self.pair > 0

    @property
    def calibrated(self) -> bool:
        """Whether there is a calibration, and a method that uses it."""
        return self.acquisition.calibration is not None and self.series.takes_calibration

    @property
    def mapped(self) -> tuple[str, ...]:
        """Series that are mapped and stored: raw, those of the plan, the measured one."""
        return ("raw", *self.series.names, *self.evaluation.measured)

    @property
    def judged(self) -> tuple[str, ...]:
        """Series on the high-resolution grid that are evaluated: those stored, then those that are not."""
        return (*self.mapped[1:], *(extra.name for extra in self.series.extras))

    def ensemble(self, method: str) -> tuple[str, ...]:
        """The members of a method's ensemble, the method itself first."""
        members = (extra.name for extra in self.series.extras if extra.is_member and extra.method == method)
        return (method, *members)

    @property
    def guarded(self) -> tuple[str, ...]:
        """Methods with maps of quality control, which rest on the effects of single blocks."""
        return self.series.methods if self.evaluation.split else ()


@dataclass(frozen=True, kw_only=True, slots=True)
class StructuralPlan:
    """Structural scans of one participant."""

    label: str  # without prefix
    output_dir: str  # root of the derivatives
    contrasts: tuple[str, ...]  # BIDS suffix of each pair of scans; the first is the frame
    highres: tuple[str, ...]  # fine file of each
    lowres: tuple[str, ...]  # coarse file of each
    common: Mapping[str, str]  # entities of what is stored
    sources: tuple[str, ...]  # BIDS URIs of the scans
    methods: tuple[str, ...]  # networks, in the order of the tables
    others: tuple[str, ...]  # interpolations besides the cubic spline
    align: str  # transforms that bring the scans together: rigid, affine or nonlinear
    training: Mapping[str, Mapping[str, Any]]  # by method, the inputs of the step that trains or finds a model
    from_others: bool  # whether it is trained on the other participants
    template: str  # space whose template tells where the brain is
    omp_nthreads: int
    seed: int
    sloppy: bool
    facts: Mapping[str, Any]

    @property
    def head(self) -> str:
        """Name of the participant, for cards of models."""
        return f"sub-{self.label}"

    @property
    def series(self) -> tuple[str, ...]:
        """All series, in the order of the tables: the cubic spline, other interpolations, networks."""
        return ("bspline", *self.others, *self.methods)


@dataclass(frozen=True, kw_only=True, slots=True)
class SubjectPlan:
    """One participant."""

    label: str  # without prefix
    output_dir: str  # root of the derivatives
    omp_nthreads: int
    training: Training
    methods: tuple[str, ...]  # those that are trained on a pair
    members: tuple[Extra, ...]  # further members of their ensembles
    t1w: str  # T1w image, or ""
    t1w_common: Mapping[str, str]  # its entities
    t1w_source: str  # its BIDS URI
    template: str  # space that it is registered to
    roi: str  # region of interest: "brain", names of regions joined by commas, or a file
    pairs: tuple[PairPlan, ...]
    runs: tuple[RunPlan, ...]
    facts: Mapping[str, Any]
    precomputed: Precomputed | None = None  # what of the anatomy has been made by another program, or None
