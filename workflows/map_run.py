"""Activation maps of all series of a run, their comparison, and clusters."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

from bids_sr.config.levels import StoredMaps
from bids_sr.frozen import frozen
from bids_sr.glm.contrasts import Contrasts
from bids_sr.io.grids import AxisOrder, Factor
from bids_sr.pipeline.artifacts import Confounds, Image, Map, Mask, Regressors, Rows, Table
from bids_sr.pipeline.flow import joined, say, subworkflow
from bids_sr.pipeline.outputs import Outputs
from bids_sr.pipeline.step import Part
from bids_sr.series import ACQUIRED_BAND, RAW
from bids_sr.steps import activation, reconstruction_error, region_growth, spaces
from bids_sr.steps import clusters as active_regions
from bids_sr.steps import surfaces as steps_surfaces
from bids_sr.workflows.anatomy import Anatomy, Surfaces
from bids_sr.workflows.fit_run import FittedRun
from bids_sr.workflows.make_series import MadeSeries, RunSeries
from bids_sr.workflows.run_plan import RunPlan


@frozen
class LinearModel:
    """Linear model of a run, which is the same for all of its series.

    Parameters
    ----------
    regressors : Regressors
        Events, or time series of seeds or components.
    confounds : Confounds
        Confounds of the run, one row per volume.
    contrasts : Contrasts
        Weights of conditions, or of seeds, by contrast.
    tr : float
        Repetition time (s).
    n_dummy : int
        Volumes at the start that are left out.
    high_pass : float
        Cut-off of the drift (Hz).
    start_time : float
        Moment of a volume for which its values hold (s after its start).
    nuisance : list[str] | None
        Columns of the confounds that enter; None: motion and aCompCor.
    """

    regressors: Regressors
    confounds: Confounds
    contrasts: Contrasts
    tr: float
    n_dummy: int
    high_pass: float
    start_time: float
    nuisance: list[str] | None = None


@frozen
class MapModel:
    """Model of the series of a run, and which maps are made.

    Parameters
    ----------
    linear : LinearModel
        Linear model, whose regressors correlations also use.
    kinds : Sequence[Literal['cc', 'glm']]
        Correlation, linear model, or both.
    thresholds : Sequence[str]
        Thresholds of active regions.
    smoothing : Sequence[float]
        Smoothing of the maps (FWHM, mm).
    factor : Factor
        Acquired over high-resolution voxel size by axis.
    axis_order : AxisOrder
        Order of the axes of the input, for texts.
    low_pass : float | None
        Cut-off of the filter of correlations (Hz); None: no filter.
    input_smoothing : float
        Smoothing of the acquired volumes (FWHM, mm), for sidecars.
    correlation_confounds : bool
        Whether confounds are also regressed out of series that are correlated.
    """

    linear: LinearModel
    kinds: Sequence[Literal["cc", "glm"]]
    thresholds: Sequence[str]
    smoothing: Sequence[float]
    factor: Factor
    axis_order: AxisOrder
    low_pass: float | None = None
    input_smoothing: float = 0.0
    correlation_confounds: bool = False


@frozen
class MappedSeries:
    """Maps of one series, with metrics and inputs of figures; None if it has no prior.

    `space_maps`: maps in other spaces. `surface_maps`: maps on surfaces, by their space.
    """

    made: MadeSeries
    maps: list[Map]
    map_metrics: Rows
    quality: Rows
    middle: Image
    tsnr: Image
    error_maps: list[Map] | None = None
    error_rows: Rows | None = None
    coverage_rows: Rows | None = None
    space_maps: list[Map] | None = None
    surface_maps: Mapping[str, list[Map]] | None = None


@frozen
class MappedRun:
    """Maps of all mapped series by name, the acquired one first, in the region of interest."""

    mapped: Mapping[str, MappedSeries]
    roi: Mask
    roi_hr: Mask
    activation: Rows
    image_metrics: Rows
    clusters: Table

    @property
    def maps(self) -> list[Map]:
        """Maps and regions of all series."""
        return joined(one.maps for one in self.mapped.values())

    @property
    def error_maps(self) -> list[Map]:
        """Maps of the reconstruction error of the series with a prior."""
        return joined(one.error_maps for one in self.mapped.values() if one.error_maps is not None)


def map_run(
    plan: RunPlan, fitted: FittedRun, series: RunSeries, anat: Anatomy | None, outputs: Outputs
) -> MappedRun:
    """Map all series of a run with one model, compare the maps, and list their clusters.

    Parameters
    ----------
    plan : RunPlan
        Plan of the run.
    fitted : FittedRun
        Its motion and registration.
    series : RunSeries
        Its series.
    anat : Anatomy | None
        Anatomy of the participant; None if missing.
    outputs : Outputs
        Where results are stored.

    Returns
    -------
    MappedRun
        Maps of the acquired, stored, measured and compared series.
    """
    registered = fitted.registration
    model = map_model(plan, fitted, series)
    roi, roi_hr = find_region(plan, fitted, series, model, outputs)
    say(
        Part.MAPS,
        activation.describe_maps(
            kinds=model.kinds,
            thresholds=model.thresholds,
            smoothing=model.smoothing,
            high_pass=model.linear.high_pass,
            low_pass=model.low_pass,
            nuisance=model.linear.nuisance,
            correlation_confounds=model.correlation_confounds,
            at_rest=plan.at_rest,
        ),
    )
    stored = maps_to_store(plan)
    mapped: dict[str, MappedSeries] = {}
    for made in mapped_series(series):
        fine = made.name != RAW
        kept = activation.stored_maps(made.name, stored, plan.contrasts)
        with subworkflow(made.name, high_resolution=fine):
            own = map_series(
                made,
                roi_hr if fine else roi,
                model,
                # which a series is, where its estimated variances are not applied
                zerofilled=None if made.variance is None else mapped.get(ACQUIRED_BAND),
            )
            outputs.keep(own.maps, among=kept, varies=activation.OF_CONTRAST)
            if has_error(made, model):
                own = measure_error(plan, fitted, series, own, mapped[RAW], model)
                outputs.keep(own.error_maps, among=kept, varies=activation.OF_CONTRAST)
            own = bring_elsewhere(own, fitted, series, anat, kept, outputs)
        mapped[made.name] = own
    maps = joined(one.maps for one in mapped.values())
    table, columns = activation.compare_maps(
        maps,
        [one.map_metrics for one in mapped.values()],
        registered.bold_mask,
        registered.bold_mask_hr,
        roi_hr,
        contrasts=plan.contrasts,
        thresholds=model.thresholds,
        factor=model.factor,
    )
    say(Part.MAPS, activation.COMPARED_MAPS)
    outputs.keep(
        table,
        {"desc": "activation", "suffix": "metrics"},
        facts=columns,
        provenance=True,
        level="minimal",
    )
    image_metrics, columns = activation.join_quality([one.quality for one in mapped.values()])
    outputs.keep(
        image_metrics,
        {"desc": "image", "suffix": "metrics"},
        facts=columns,
        provenance=True,
        level="minimal",
    )
    clusters, columns = active_regions.list_clusters(
        maps,
        boldref2t1w_xfm=registered.boldref2t1w_xfm,
        std2t1w_xfm=None if anat is None else anat.template.std2t1w_xfm,
        atlas_source=None if anat is None else anat.atlas.atlas_source,
        atlas_labels=None if anat is None else anat.atlas.atlas_labels,
        atlas_xfms=() if anat is None else anat.atlas.atlas_xfms,
        error_maps=joined(one.error_maps for one in mapped.values() if one.error_maps is not None),
        method_names=plan.methods,
    )
    atlas = plan.planned.settings.activation.atlas
    say(Part.MAPS, active_regions.describe_clusters(None if anat is None else atlas))
    outputs.keep(
        clusters, {"desc": "clusters", "suffix": "metrics"}, facts=columns, provenance=True
    )
    return MappedRun(
        mapped=mapped,
        roi=roi,
        roi_hr=roi_hr,
        activation=table,
        image_metrics=image_metrics,
        clusters=clusters,
    )


def linear_model(plan: RunPlan, fitted: FittedRun, series: RunSeries) -> LinearModel:
    """Return the linear model of a run; for parameters see `map_run`."""
    return LinearModel(
        regressors=series.regressors,
        confounds=series.confounds,
        contrasts=plan.contrasts,
        tr=plan.bold.tr,
        n_dummy=fitted.n_dummy,
        high_pass=plan.high_pass,
        start_time=plan.start_time,
        nuisance=plan.nuisance,
    )


def map_model(plan: RunPlan, fitted: FittedRun, series: RunSeries) -> MapModel:
    """Return what the series of a run are mapped with; for parameters see `map_run`."""
    settings = plan.planned.settings
    return MapModel(
        linear=linear_model(plan, fitted, series),
        kinds=settings.activation.kinds,
        thresholds=settings.activation.thresholds,
        smoothing=settings.activation.smoothing,
        factor=plan.bold.factor,
        axis_order=plan.bold.axis_order,
        low_pass=plan.low_pass,
        input_smoothing=settings.preprocessing.input_smoothing,
        correlation_confounds=plan.correlation_confounds,
    )


def maps_to_store(plan: RunPlan) -> StoredMaps:
    """Return which maps of a run become files."""
    settings = plan.planned.settings
    return StoredMaps(
        level=settings.run.level,
        methods=settings.superres.methods,
        baselines=settings.superres.baselines,
        smoothing=settings.activation.smoothing,
        thresholds=settings.activation.thresholds,
        kinds=settings.activation.kinds,
        correlation=plan.at_rest or settings.superres.recipe != "fast",
        primary=plan.primary,
        minus_others=plan.minus_others,
    )


def mapped_series(series: RunSeries) -> list[MadeSeries]:
    """Return the acquired series and all finer ones but those that are only evaluated."""
    fine = [one for one in series.fine.values() if one.wanted is None or one.wanted.stored]
    return [series.raw, *fine]


def find_region(
    plan: RunPlan, fitted: FittedRun, series: RunSeries, model: MapModel, outputs: Outputs
) -> tuple[Mask, Mask]:
    """Return the region of interest on both grids of a run, grown if that was requested."""
    registered, linear = fitted.registration, model.linear
    if not plan.planned.settings.evaluation.roi_grow or plan.at_rest:
        return registered.roi_bold, registered.roi_bold_hr
    roi, roi_hr, grown_facts = region_growth.grow_region(
        series.raw.series,
        registered.bold_mask,
        registered.roi_bold,
        registered.bold_mask_hr,
        registered.roi_bold_hr,
        linear.regressors,
        time_columns=series.time_columns,
        contrasts=linear.contrasts,
        smoothing=model.smoothing,
        tr=linear.tr,
        n_dummy=linear.n_dummy,
        low_pass=model.low_pass,
        start_time=linear.start_time,
    )
    say(Part.MAPS, region_growth.describe_growth(model.smoothing))
    outputs.keep(roi, {"desc": "roigrown", "suffix": "mask"}, facts=grown_facts)
    return roi, roi_hr


def map_series(
    made: MadeSeries, roi: Mask, model: MapModel, zerofilled: MappedSeries | None = None
) -> MappedSeries:
    """Map one series.

    Parameters
    ----------
    made : MadeSeries
        The series.
    roi : Mask
        Region of interest on its grid.
    model : MapModel
        What it is mapped with; seeds of its own replace the seeds of the run.
    zerofilled : MappedSeries | None, optional
        The zero-filled series, whose maps are taken where the series is the same file.

    Returns
    -------
    MappedSeries
        Maps without the error of the reconstruction.
    """
    linear = model.linear
    maps, map_metrics, image_quality, middle, tsnr = activation.map_series(
        made.series,
        made.mask,
        roi,
        linear.regressors if made.regressors is None else made.regressors,
        confounds=linear.confounds,
        zerofilled=None if zerofilled is None else zerofilled.made.series,
        zerofilled_maps=() if zerofilled is None else zerofilled.maps,
        zerofilled_metrics=None if zerofilled is None else zerofilled.map_metrics,
        zerofilled_quality=None if zerofilled is None else zerofilled.quality,
        zerofilled_tsnr=None if zerofilled is None else zerofilled.tsnr,
        series_name=made.name,
        smoothing=model.smoothing,
        contrasts=linear.contrasts,
        kinds=model.kinds,
        thresholds=model.thresholds,
        factor=model.factor,
        tr=linear.tr,
        n_dummy=linear.n_dummy,
        high_pass=linear.high_pass,
        low_pass=model.low_pass,
        start_time=linear.start_time,
        axis_order=model.axis_order,
        nuisance=linear.nuisance,
        input_smoothing=model.input_smoothing,
        correlation_confounds=model.correlation_confounds,
    )
    return MappedSeries(
        made=made,
        maps=maps,
        map_metrics=map_metrics,
        quality=image_quality,
        middle=middle,
        tsnr=tsnr,
    )


def has_error(made: MadeSeries, model: MapModel) -> bool:
    """Whether the error of a series' reconstruction is mapped: it has a prior, and effects."""
    method = None if made.wanted is None else made.wanted.method
    return method is not None and method.has_prior and "glm" in model.kinds


def measure_error(
    plan: RunPlan,
    fitted: FittedRun,
    series: RunSeries,
    own: MappedSeries,
    acquired: MappedSeries,
    model: MapModel,
) -> MappedSeries:
    """Map the error of a reconstruction, and check the intervals that follow from it.

    Parameters
    ----------
    plan : RunPlan
        Plan of the run.
    fitted : FittedRun
        Its motion and registration.
    series : RunSeries
        Its series.
    own : MappedSeries
        Maps of the series with a prior.
    acquired : MappedSeries
        Maps of the acquired series.
    model : MapModel
        What both are mapped with.

    Returns
    -------
    MappedSeries
        `own`, with maps of the error.
    """
    linear, resources = model.linear, plan.planned.settings.resources
    assert own.made.model_file is not None
    coverage_rows = reconstruction_error.check_intervals(
        series.raw.series,
        fitted.registration.bold_mask,
        fitted.motion.hmc_xfms,
        own.made.model_file,
        linear.regressors,
        linear.confounds,
        series_name=own.made.name,
        contrasts=linear.contrasts,
        factor=model.factor,
        tr=linear.tr,
        n_dummy=linear.n_dummy,
        high_pass=linear.high_pass,
        start_time=linear.start_time,
        nuisance=linear.nuisance,
        random_seed=resources.random_seed,
        omp_nthreads=resources.omp_nthreads or 1,
    )
    say(Part.EVALUATION, reconstruction_error.CHECKED_INTERVALS)
    error_maps, error_rows = reconstruction_error.measure_error(
        own.maps,
        acquired.maps,
        own.made.mask,
        fitted.registration.bold_mask,
        coverage_rows,
        own.made.error_draws,
        own.made.acquired_draws,
        series_name=own.made.name,
        smoothing=model.smoothing,
    )
    say(Part.MAPS, reconstruction_error.describe_error(own.made.name))
    return replace(own, error_maps=error_maps, error_rows=error_rows, coverage_rows=coverage_rows)


def bring_elsewhere(
    own: MappedSeries,
    fitted: FittedRun,
    series: RunSeries,
    anat: Anatomy | None,
    kept: Sequence[Mapping[str, str]],
    outputs: Outputs,
) -> MappedSeries:
    """Bring the maps of a series to other spaces and to surfaces, as far as they were requested.

    Parameters
    ----------
    own : MappedSeries
        Maps of the series.
    fitted : FittedRun
        Motion and registration of the run.
    series : RunSeries
        Series of the run, with grids in other spaces.
    anat : Anatomy | None
        Anatomy of the participant, with surfaces.
    kept : Sequence[Mapping[str, str]]
        Entities of the maps that are stored, each a choice.
    outputs : Outputs
        Where maps are stored.

    Returns
    -------
    MappedSeries
        `own`, with maps in other spaces and on surfaces.
    """
    mask = own.made.mask
    maps = joined([own.maps, *([] if own.error_maps is None else [own.error_maps])])
    space_maps: list[Map] | None = None
    if series.grids:
        space_maps = spaces.maps_to_spaces(maps, mask, list(series.grids))
        # of the acquired series sidecars share nothing in a template's space. The sidecars of
        # combined runs, which have no number, apply to maps of numbered runs unless these have
        # sidecars of their own
        is_shared = own.made.name != RAW and "run" not in outputs.entities
        varies = activation.OF_CONTRAST if is_shared else {}
        outputs.keep(space_maps, among=kept, varies=varies)
    surfaces: Sequence[Surfaces] = () if anat is None else anat.surfaces
    surface_maps: dict[str, list[Map]] = {}
    for there in surfaces:
        assert fitted.registration.boldref2t1w_xfm is not None
        labels = there.space.entities
        with subworkflow(
            "_".join([own.made.name, "on", *labels.values()]),
            high_resolution=own.made.name != RAW,
        ):
            surface_maps[there.space.name] = steps_surfaces.maps_to_surfaces(
                maps,
                mask,
                there.surfaces,
                fitted.registration.boldref2t1w_xfm,
                space_entities=labels,
                surface_uris=there.uris,
            )
            say(Part.MAPS, steps_surfaces.describe_surface_maps(labels["space"]))
            outputs.keep(surface_maps[there.space.name], among=kept)
    return replace(own, space_maps=space_maps, surface_maps=surface_maps)
