"""Specification of what the workflows do, as frozen values; `bids_sr.workflows.base` fills them in."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bids_sr.workflows.input_plans import (
    AS_STORED,
    Acquisition,
    AxisOrder,
    Factor,
    Precomputed,
    Seed,
    Store,
    Target,
    Training,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Extra:
    """A series that is evaluated and not stored: a placebo, or another member of an ensemble.

    Attributes
    ----------
    name : of the series
    method : that it is a variant of
    seed : added to the seed of training
    model : weights that are used instead of training, or ""
    displace : how variance maps are displaced ("mirror", "shift"), or "" where they stay
    contrast : trained on the subject's T1w image instead of the pair
    """

    name: str
    method: str
    seed: int = 0
    model: str = ""
    displace: str = ""
    contrast: bool = False

    @property
    def is_member(self) -> bool:
        """Whether it differs by nothing but the seed."""
        return self.seed > 0


@dataclass(frozen=True, kw_only=True, slots=True)
class SeriesPlan:
    """Which series are made of a run besides ``raw``.

    Attributes
    ----------
    names : in the order of the tables
    models : those of them with a network that is applied volume by volume
    on_volumes : those of `models` whose model is trained on, or was given to, this run; the others' is that of the pair
    on_run : those made by variance maps of the run itself
    guided : those that need the highres image at inference
    controls : those of `on_run` that are baselines, such as `sdmod`
    extras : series that are evaluated and not stored
    guide_kind : image whose static detail is added to those of `on_run`: "highres" or "none"
    training : how models are made
    data_consistency, precision, device : see the command line
    """

    names: tuple[str, ...]
    models: tuple[str, ...]
    guided: tuple[str, ...]
    data_consistency: str
    precision: str
    device: str
    training: Training
    on_run: tuple[str, ...] = ()
    extras: tuple[Extra, ...] = ()
    guide_kind: str = "none"
    on_volumes: tuple[str, ...] = ()
    controls: tuple[str, ...] = ()

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
    """How the maps are judged.

    Attributes
    ----------
    truth_file : measured high-resolution series of the same run, or ""
    truth_slice_times : its slice times (s), or None where they are left alone
    truth_axis_order : axis of its file that each axis of the run is
    truth_maps : known activation, contrast to file
    null_checks : shuffles of the test without signal; 0 is none
    pair_conditions : two single conditions whose regions are compared, or none
    attribution_widths : smoothing (mm) at which they are, besides that of the maps
    roi_grow : grow the region of interest into the nearest activation of the raw series
    split : whether there are blocks enough to split the run into halves
    margin : differences within it count as none; None: told from the measured series
    """

    truth_file: str = ""
    truth_slice_times: tuple[float, ...] | None = None
    truth_axis_order: AxisOrder = AS_STORED
    truth_maps: Mapping[str, str] = field(default_factory=dict)
    null_checks: int = 0
    pair_conditions: tuple[str, ...] = ()
    attribution_widths: tuple[float, ...] = ()
    roi_grow: bool = False
    split: bool = True
    margin: float | None = None

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
    """One T2*-weighted pair.

    Attributes
    ----------
    number : tells it from the other pairs of the participant, from 1
    highres, lowres : files; lowres is "" where it has to be made from highres
    factor : low-resolution over high-resolution voxel size, by axis
    common : entities of what is stored
    sources : BIDS URIs of its images
    high, low : the entities that tell its members apart
    tag : tells it from another pair of the same images; "" where there is none
    orders : of the axes of the two files, so that they lie as those of the runs are worked on
    holdout : the pair on which models of this one are scored, or None
    """

    number: int
    highres: str
    lowres: str
    factor: Factor
    common: Mapping[str, str]
    sources: tuple[str, ...]
    high: Mapping[str, str]
    low: Mapping[str, str]
    tag: str
    orders: tuple[AxisOrder, AxisOrder] = (AS_STORED, AS_STORED)
    holdout: "PairPlan | None" = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RunPlan:
    """One BOLD run; see `bids_sr.workflows.bold.bold_run.init_func_wf`.

    Attributes
    ----------
    name : of its workflow
    bold_file, events_file : as acquired; no events ("") at rest, where seeds take the place of conditions
    pair : number of its pair; 0 is none
    facts : what was acquired, for the report
    target, acquisition, series, activation, evaluation : where results go, how the run was acquired, which series and
        maps are made, how they are evaluated
    with_anat : whether there is a T1w image
    with_holdout : whether models are scored on another pair
    omp_nthreads : threads that one node may take
    seed : of everything random
    seeds : name, center (RAS mm in the template), radius (mm) and atlas labels (which take the place of the sphere) of
        each seed of a run without events; none where its temporal components take their place
    echoes : file and echo time (ms) of each echo that is combined; none of a single-echo run
    """

    name: str
    bold_file: str
    events_file: str
    pair: int
    facts: Mapping[str, Any]
    target: Target
    acquisition: Acquisition
    series: SeriesPlan
    activation: ActivationPlan
    evaluation: EvaluationPlan
    with_anat: bool
    with_holdout: bool
    omp_nthreads: int
    seed: int
    seeds: tuple[Seed, ...] = ()
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
    """Structural scans of one participant.

    Attributes
    ----------
    label : without prefix
    output_dir : root of the derivatives
    contrasts, highres, lowres : BIDS suffix, fine and coarse file of each pair; the first is the frame
    common, sources : entities of what is stored, BIDS URIs of the scans
    methods : networks, in the order of the tables
    others : interpolations besides the cubic spline
    align : transforms that bring the scans together: rigid, affine or nonlinear
    training : by method, the inputs of the step that trains or finds a model
    from_others : whether it is trained on the other participants
    template : space whose template tells where the brain is
    omp_nthreads, seed, sloppy : see the command line
    facts : for the first section of the report
    """

    label: str
    output_dir: str
    contrasts: tuple[str, ...]
    highres: tuple[str, ...]
    lowres: tuple[str, ...]
    common: Mapping[str, str]
    sources: tuple[str, ...]
    methods: tuple[str, ...]
    others: tuple[str, ...]
    align: str
    training: Mapping[str, Mapping[str, Any]]
    from_others: bool
    template: str
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
    """One participant.

    Attributes
    ----------
    label : without prefix
    output_dir : root of the derivatives
    omp_nthreads : threads that one node may take
    training : how models are made
    methods : those that are trained on a pair
    members : further members of their ensembles
    t1w : T1w image, or ""; t1w_common, t1w_source : entities and BIDS URI
    template : space that it is registered to
    roi : region of interest: "brain", names of regions joined by commas, or a file
    pairs, runs : in order
    facts : for the first section of the report
    precomputed : what of the anatomy has been made by another program, or None
    """

    label: str
    output_dir: str
    omp_nthreads: int
    training: Training
    methods: tuple[str, ...]
    members: tuple[Extra, ...]
    t1w: str
    t1w_common: Mapping[str, str]
    t1w_source: str
    template: str
    roi: str
    pairs: tuple[PairPlan, ...]
    runs: tuple[RunPlan, ...]
    facts: Mapping[str, Any]
    precomputed: Precomputed | None = None
