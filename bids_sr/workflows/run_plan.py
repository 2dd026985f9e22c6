"""Processing plan of a BOLD run: everything that is known before its first step.

`plan_run` is the only place where a workflow of runs reads the settings of the call and the plan
of the data set. All later functions take the `RunPlan`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path

from bids_sr.config.levels import StoredMaps
from bids_sr.config.seeds import choose_seeds
from bids_sr.config.spaces import FUNC, Space
from bids_sr.engine.artifacts import File, Series
from bids_sr.glm.connectivity_seeds import Seed, count_mapped, seed_names
from bids_sr.glm.contrasts import Contrasts, minus_others
from bids_sr.glm.design import DesignSettings
from bids_sr.glm.region_means import Origin
from bids_sr.glm.steps.activation import MapSettings
from bids_sr.io.frozen import frozen
from bids_sr.io.grids import AS_STORED, BOLDREF, AxisOrder
from bids_sr.io.region_names import AUTO, name_regions
from bids_sr.preproc.model_confounds import COMPCOR_VOLUMES
from bids_sr.preproc.steps import acquired_series
from bids_sr.preproc.steps.run_confounds import ConfoundSettings
from bids_sr.preproc.temporal_regressors import TimeModel
from bids_sr.sr.models.request import TrainingSettings
from bids_sr.sr.steps.super_resolution import Inference
from bids_sr.survey.bids.inputs import BoldRun, Subject
from bids_sr.survey.preflight.regions import choose_regions
from bids_sr.survey.preflight.run_model import design_settings, time_model
from bids_sr.workflows.series_requests import Analysis, SeriesRequest, list_methods


@frozen
class SeriesCorrection:
    """Correction of an acquired series before super-resolution.

    Slice times are in s; if None, slice timing is not corrected. `start_time` is the target time
    of the slice-timing correction (s after the start of a volume). `input_smoothing` is FWHM in
    mm; 0 to disable.
    """

    slice_times: Sequence[float] | None = None
    start_time: float = 0.0
    input_smoothing: float = 0.0


@frozen
class SeriesFile:
    """File of a BOLD series that is measured or computed with a run, and its correction.

    The series (4D) is as stored, and `tr` is in s. `axis_order` is the axis of the file that
    corresponds to each axis of the series. `correction` is slice timing and smoothing.
    """

    bold_file: File
    tr: float
    axis_order: AxisOrder = AS_STORED
    correction: SeriesCorrection = field(default_factory=SeriesCorrection)

    def import_series(self) -> Series:
        """Call the step that imports the file."""
        return acquired_series.import_series(
            self.bold_file, tr=self.tr, axis_order=self.axis_order
        )


@frozen
class PlannedRegions:
    """Regions of interest of a run.

    `names` are the names of the regions in tables, by their text in the option. `own_masks` are
    the mask files of regions in the space of the run, by text. `origin` is of all regions.
    `is_grown` states whether the union of the regions is grown around active voxels.
    """

    names: Mapping[str, str]
    own_masks: Mapping[str, Path]
    origin: Origin
    is_grown: bool


@frozen
class RunPlan:
    """Inputs of a run, requested series, and settings of all steps of the run.

    `stored_series` are all series except the acquired series, in the order of computation, and
    `primary` is the name of the exported series. `spaces` are of the results. `n_runs` is the
    number of runs of the participant. `with_anat` states whether a T1w image
    exists. `provenance` is metadata for sidecars of tables.

    `dummy_scans` is the number of non-steady-state volumes at the start; if None, the number is
    estimated. `dummy_scans_option` is the value of the option, for the calibration run.
    `searches_outliers` states whether outlier volumes are searched and replaced. `measured` is the
    reference of the run; None if missing.

    `training` are settings of the models by method, and `inference` of their application.
    `uses_calibration` states whether a method uses the calibration run.

    `contrasts` are weights of conditions, or of seeds, by contrast. `minus_others` are contrasts
    that compare one condition with all others. `nuisance` are the columns of the
    confounds in the linear models; None for motion and aCompCor. `temporal` is None if there is no
    temporal model. `seeds` are for a run without events. If empty, temporal components of the run
    are used instead. With `uses_own_seeds`, each series has its own time series of the seeds.
    `can_split` states whether the run has enough task blocks to be split into halves, and
    `is_in_contrast_over_runs` whether a contrast over runs has the run.

    `stored` determines which maps become files. `requests_correlation` states whether the user
    named correlation maps. `margin` is the equivalence margin of the verdict; None for the default
    of each metric.
    """

    bold: BoldRun
    stored_series: tuple[SeriesRequest, ...]
    primary: str
    spaces: tuple[Space, ...]
    n_runs: int
    with_anat: bool
    provenance: Mapping[str, object]

    correction: SeriesCorrection
    dummy_scans: int | None
    dummy_scans_option: int | None
    searches_outliers: bool
    measured: SeriesFile | None

    training: Mapping[str, TrainingSettings]
    inference: Inference
    uses_calibration: bool

    design: DesignSettings
    contrasts: Contrasts
    minus_others: Sequence[str]
    confounds: ConfoundSettings
    nuisance: list[str] | None
    temporal: TimeModel | None
    seeds: tuple[Seed, ...]
    uses_own_seeds: bool
    can_split: bool
    is_in_contrast_over_runs: bool

    regions: PlannedRegions
    atlas: str
    maps: MapSettings
    stored: StoredMaps
    requests_correlation: bool
    margin: float | None

    @property
    def at_rest(self) -> bool:
        """Whether the run has no events."""
        return self.bold.events is None

    @property
    def n_regressors(self) -> int:
        """Number of regressors of conditions in contrasts, with derivatives, or of seeds."""
        weights = [pair for contrast in self.contrasts.values() for pair in contrast.items()]
        conditions = {name for name, weight in weights if weight}
        if self.at_rest:
            return count_mapped(conditions)
        return len(conditions) * self.design.hrf.n_columns

    @property
    def stored_names(self) -> tuple[str, ...]:
        """Names of the series that are stored and mapped."""
        return tuple(request.name for request in self.stored_series)

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of stored series whose methods are evaluated, networks first."""
        return list_methods(self.stored_series)

    @property
    def in_func(self) -> bool:
        """Whether series are stored on the grid of the run."""
        return FUNC in self._series_spaces

    @property
    def in_other_spaces(self) -> bool:
        """Whether series are stored in other spaces."""
        return self._series_spaces != {FUNC}

    @property
    def _series_spaces(self) -> set[str]:
        # surfaces only get maps, never series
        return {space.name for space in self.spaces if not space.is_surface} or {FUNC}

    @property
    def corrects_slice_timing(self) -> bool:
        """Whether slice timing is corrected."""
        return self.correction.slice_times is not None

    @property
    def random_seed(self) -> int:
        """Seed of all random numbers."""
        return self.inference.random_seed

    @property
    def task_name(self) -> str:
        """Name of the task from the sidecar, or from the file name if the sidecar has none."""
        return str(self.bold.sidecar.get("TaskName", self.bold.entities.get("task", "")))

    @property
    def phase_encoding(self) -> str:
        """Phase-encoding direction as in BIDS; "" if unknown."""
        return str(self.bold.sidecar.get("PhaseEncodingDirection", ""))

    @property
    def has_components(self) -> bool:
        """Whether the default model has aCompCor components, as far as known before the run."""
        precomputed = self.bold.precomputed
        is_imported = precomputed is not None and precomputed.confounds is not None
        return (self.with_anat or is_imported) and self.bold.n_volumes >= COMPCOR_VOLUMES

    @property
    def has_truth(self) -> bool:
        """Whether a measured high-resolution reference or known activation exists."""
        return self.bold.truth is not None and self.bold.truth.has_maps

    @property
    def entities(self) -> dict[str, str]:
        """Entities of stored files of the run: labels by long entity name."""
        omitted_entities = ("suffix", "extension", "datatype")
        labels = {
            name: label
            for name, label in self.bold.entities.items()
            if name not in omitted_entities
        }
        return {**labels, "datatype": "func"}

    def get_training(self, request: SeriesRequest) -> TrainingSettings:
        """Return the settings of the model of a series with a method."""
        assert request.method is not None
        return self.training[request.method.name]


def plan_run(analysis: Analysis, subject: Subject, bold: BoldRun) -> RunPlan:
    """Make the plan of a run from the settings of the call and the plan of the data set."""
    settings = analysis.settings
    preprocessing, activation = settings.preprocessing, settings.activation
    with_anat, at_rest = bool(subject.t1w), bold.events is None
    requests = analysis.list_requests(bold)
    primary = analysis.primary(bold)
    dummy_scans = preprocessing.dummy_scans
    if dummy_scans is None and bold.precomputed is not None:
        dummy_scans = bold.precomputed.n_dummy
    seeds = (
        tuple(choose_seeds(activation.seeds, with_anat=with_anat, atlas=activation.atlas))
        if at_rest
        else ()
    )
    resolved_contrasts = analysis.plan.contrasts[bold.bold]
    contrasts = {name: dict(weights) for name, weights in resolved_contrasts.items()}
    if at_rest:
        # temporal components replace the seeds if no seed is inside the field of view
        contrasts |= {name: {name: 1.0} for name in seed_names(())[: len(seeds)]}
    names_contrasts = activation.contrasts or activation.model
    other_contrasts = () if names_contrasts else minus_others(resolved_contrasts)
    correction = _plan_correction(analysis, bold)
    methods = [request.method for request in requests if request.method is not None]
    return RunPlan(
        bold=bold,
        stored_series=requests,
        primary=primary,
        spaces=preprocessing.spaces if with_anat else (Space(name=FUNC),),
        n_runs=len(subject.runs),
        with_anat=with_anat,
        provenance=_make_provenance(analysis, bold),
        correction=correction,
        dummy_scans=dummy_scans,
        dummy_scans_option=preprocessing.dummy_scans,
        searches_outliers="outliers" not in preprocessing.ignore,
        measured=_plan_measured(analysis, bold, correction),
        training={method.name: analysis.make_training(method.name) for method in methods},
        inference=Inference(
            data_consistency=settings.superres.data_consistency,
            force=settings.superres.force,
            omp_nthreads=settings.resources.omp_nthreads or 1,
            device=settings.resources.device,
            random_seed=settings.resources.random_seed,
        ),
        uses_calibration=bold.calibration is not None
        and any(
            request.method is not None and request.method.uses_calibration
            for request in requests
            if request.learned_from == "run"
        ),
        design=design_settings(bold, settings),
        contrasts=contrasts,
        minus_others=other_contrasts,
        confounds=ConfoundSettings(
            fd_spike_threshold=preprocessing.fd_spike_threshold,
            dvars_spike_threshold=preprocessing.dvars_spike_threshold,
            return_all_components=preprocessing.return_all_components,
        ),
        nuisance=analysis.plan.nuisance,
        temporal=time_model(settings) if activation.models_time else None,
        seeds=seeds,
        uses_own_seeds=activation.seed_series == "own" and bool(seeds),
        can_split=bold.bold not in analysis.plan.unsplit,
        is_in_contrast_over_runs=any(
            bold.bold in runs
            for terms in analysis.plan.over_runs.values()
            for runs in terms.values()
        ),
        regions=_plan_regions(analysis, subject, bold),
        atlas=activation.atlas,
        maps=MapSettings(
            kinds=activation.kinds,
            thresholds=activation.thresholds,
            smoothing=analysis.smoothing,
            axis_order=bold.axis_order,
            low_pass=activation.correlation_cutoff,
            input_smoothing=preprocessing.input_smoothing,
            correlation_confounds=at_rest and bool(activation.confounds),
        ),
        stored=settings.select_stored_maps(
            analysis.smoothing, at_rest=at_rest, primary=primary, minus_others=other_contrasts
        ),
        requests_correlation=activation.draws_cc,
        margin=settings.evaluation.margin,
    )


def _make_provenance(analysis: Analysis, bold: BoldRun) -> Mapping[str, object]:
    """Return provenance metadata for sidecars of tables."""
    width = analysis.settings.preprocessing.input_smoothing
    return {
        **analysis.provenance,
        "MappedBy": "seeds" if bold.events is None else "events",
        **({"InputSmoothingFWHM": width} if width else {}),
        "ContrastWeights": {
            name: dict(weights) for name, weights in analysis.plan.contrasts[bold.bold].items()
        },
    }


def _plan_measured(
    analysis: Analysis, bold: BoldRun, correction: SeriesCorrection
) -> SeriesFile | None:
    """Return the measured high-resolution reference series, with the time frame of the run."""
    measured = None if bold.truth is None else bold.truth.series
    if measured is None:
        return None
    slice_times = _plan_correction(analysis, measured).slice_times
    return SeriesFile(
        bold_file=measured.bold,
        tr=bold.tr,
        axis_order=measured.axis_order,
        correction=replace(correction, slice_times=slice_times),
    )


def _plan_correction(analysis: Analysis, bold: BoldRun) -> SeriesCorrection:
    """Return the correction of an acquired series."""
    preprocessing = analysis.settings.preprocessing
    return SeriesCorrection(
        slice_times=None if "slicetiming" in preprocessing.ignore else bold.slice_timing,
        start_time=bold.start_time(preprocessing.slice_time_ref),
        input_smoothing=preprocessing.input_smoothing,
    )


def _plan_regions(analysis: Analysis, subject: Subject, bold: BoldRun) -> PlannedRegions:
    """Return the regions of interest of a run."""
    rois = choose_regions(analysis.settings, subject)
    return PlannedRegions(
        names=name_regions(rois),
        own_masks={
            roi: Path(roi)
            for roi in rois
            if analysis.plan.find_region_space(roi, subject.label) == BOLDREF
        },
        origin="auto" if analysis.settings.activation.roi == (AUTO,) else "roi",
        is_grown=analysis.settings.evaluation.roi_grow and bold.events is not None,
    )
