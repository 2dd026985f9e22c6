"""Activation maps of all series of a run, comparison of the maps, and clusters."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from bids_sr.config.levels import StoredMaps
from bids_sr.frozen import frozen
from bids_sr.pipeline.artifacts import Map, Mask, Rows, Table
from bids_sr.pipeline.flow import add_methods_text, concatenate, subworkflow
from bids_sr.pipeline.outputs import Outputs
from bids_sr.pipeline.step import Part
from bids_sr.series import ACQUIRED_BAND, RAW
from bids_sr.steps import (
    activation,
    clusters as active_regions,
    map_comparison,
    reconstruction_error,
    region_growth,
    spaces,
    surfaces as steps_surfaces,
)
from bids_sr.steps.activation import MapSettings, SeriesMaps
from bids_sr.workflows.anatomy import Anatomy, Surfaces
from bids_sr.workflows.fit_run import FittedRun
from bids_sr.workflows.make_series import RunSeries
from bids_sr.workflows.run_plan import RunPlan
from bids_sr.workflows.series_requests import ComputedSeries


@frozen
class MappedSeries:
    """Series with its maps.

    `results`: maps and regions, metrics and inputs of figures. `error_maps`, `error_rows`,
    `coverage_rows`: None if the method of the series has no prior. `space_maps`: maps in other
    spaces. `surface_maps`: maps on surfaces, by space.
    """

    series: ComputedSeries
    results: SeriesMaps
    error_maps: list[Map] | None = None
    error_rows: Rows | None = None
    coverage_rows: Rows | None = None
    space_maps: list[Map] | None = None
    surface_maps: Mapping[str, list[Map]] | None = None

    @property
    def maps(self) -> list[Map]:
        """Maps and regions of the series."""
        return self.results.maps


@frozen
class MappedRun:
    """Maps of a run: maps by series, starting with the acquired series, and summary tables."""

    mapped: Mapping[str, MappedSeries]
    roi: Mask
    roi_hr: Mask
    activation: Rows
    image_metrics: Rows
    clusters: Table

    @property
    def maps(self) -> list[Map]:
        """Maps and regions of all series."""
        return concatenate(series.maps for series in self.mapped.values())

    @property
    def error_maps(self) -> list[Map]:
        """Maps of the reconstruction error of the series with a prior."""
        return concatenate(
            series.error_maps for series in self.mapped.values() if series.error_maps is not None
        )


def map_run(
    plan: RunPlan, fitted: FittedRun, series: RunSeries, anat: Anatomy | None, outputs: Outputs
) -> MappedRun:
    """Map all series of a run with one model, compare the maps, and list their clusters.

    Parameters
    ----------
    plan : RunPlan
        Plan of the run.
    fitted : FittedRun
        Motion and registration of the run.
    series : RunSeries
        Series of the run.
    anat : Anatomy | None
        Anatomy of the participant; None if missing.
    outputs : Outputs
        Storage of maps and tables.

    Returns
    -------
    MappedRun
        Maps of the acquired, stored, measured and compared series.
    """
    registered = fitted.registration
    settings = map_settings(plan)
    roi, roi_hr = find_region(plan, fitted, series, settings, outputs)
    add_methods_text(
        Part.MAPS,
        activation.describe_maps(settings, plan.design, plan.nuisance, at_rest=plan.at_rest),
    )
    stored = maps_to_store(plan)
    mapped: dict[str, MappedSeries] = {}
    for made_series in list_mapped_series(series):
        is_highres = made_series.name != RAW
        stored_entities = activation.select_stored_maps(made_series.name, stored, plan.contrasts)
        with subworkflow(made_series.name, high_resolution=is_highres):
            # If the estimated variances are not applied, the series equals the zero-filled series,
            # and the existing maps are reused.
            zerofilled = None if made_series.variance is None else mapped.get(ACQUIRED_BAND)
            results = activation.map_series(
                made_series.series,
                made_series.mask,
                roi_hr if is_highres else roi,
                series.model,
                own_regressors=made_series.own_regressors,
                zerofilled=None if zerofilled is None else zerofilled.series.series,
                zerofilled_maps=None if zerofilled is None else zerofilled.results,
                series_name=made_series.name,
                settings=settings,
            )
            series_maps = MappedSeries(series=made_series, results=results)
            outputs.store(
                series_maps.maps, among=stored_entities, varies=activation.CONTRAST_METADATA
            )
            if has_error(made_series, settings):
                series_maps = add_error_maps(
                    plan, fitted, series, series_maps, mapped[RAW], settings
                )
                outputs.store(
                    series_maps.error_maps,
                    among=stored_entities,
                    varies=activation.CONTRAST_METADATA,
                )
            series_maps = bring_elsewhere(
                series_maps, fitted, series, anat, stored_entities, outputs
            )
        mapped[made_series.name] = series_maps
    maps = concatenate(result.maps for result in mapped.values())
    table, columns = map_comparison.compare_maps(
        maps,
        [result.results.map_metrics for result in mapped.values()],
        registered.bold_mask,
        registered.bold_mask_hr,
        roi_hr,
        contrasts=plan.contrasts,
        thresholds=settings.thresholds,
        factor=settings.factor,
    )
    add_methods_text(Part.MAPS, map_comparison.MAP_COMPARISON_TEXT)
    outputs.store(
        table,
        {"desc": "activation", "suffix": "metrics"},
        facts=columns,
        provenance=True,
        level="minimal",
    )
    image_metrics, columns = activation.join_quality(
        [result.results.quality for result in mapped.values()]
    )
    outputs.store(
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
        error_maps=concatenate(
            result.error_maps for result in mapped.values() if result.error_maps is not None
        ),
        method_names=plan.methods,
    )
    atlas = plan.planned.settings.activation.atlas
    add_methods_text(Part.MAPS, active_regions.describe_clusters(None if anat is None else atlas))
    outputs.store(
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


def map_settings(plan: RunPlan) -> MapSettings:
    """Return the settings of the maps of a run."""
    activation_settings = plan.planned.settings.activation
    return MapSettings(
        kinds=activation_settings.kinds,
        thresholds=activation_settings.thresholds,
        smoothing=activation_settings.smoothing,
        factor=plan.bold.factor,
        axis_order=plan.bold.axis_order,
        low_pass=activation_settings.correlation_cutoff,
        input_smoothing=plan.planned.settings.preprocessing.input_smoothing,
        correlation_confounds=plan.at_rest and bool(activation_settings.confounds),
    )


def maps_to_store(plan: RunPlan) -> StoredMaps:
    """Return the rules that determine which maps of a run are stored."""
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


def list_mapped_series(series: RunSeries) -> list[ComputedSeries]:
    """Return the acquired series, followed by high-resolution series that are mapped.

    Series that are only evaluated, such as negative controls, are not mapped.
    """
    hr_series = [
        made_series
        for made_series in series.high_resolution.values()
        if made_series.request is None or made_series.request.stored
    ]
    return [series.raw, *hr_series]


def find_region(
    plan: RunPlan, fitted: FittedRun, series: RunSeries, settings: MapSettings, outputs: Outputs
) -> tuple[Mask, Mask]:
    """Return the region of interest on both grids of a run, after region growing if requested."""
    registered, inputs = fitted.registration, series.model.inputs
    if not plan.planned.settings.evaluation.roi_grow or plan.at_rest:
        return registered.roi_bold, registered.roi_bold_hr
    roi, roi_hr, grown_facts = region_growth.grow_region(
        series.raw.series,
        registered.bold_mask,
        registered.roi_bold,
        registered.bold_mask_hr,
        registered.roi_bold_hr,
        # correlations only use the conditions, so that growth does not depend on drift
        replace(inputs, design=replace(inputs.design, high_pass=0.0)),
        contrasts=plan.contrasts,
        smoothing=settings.smoothing,
        low_pass=settings.low_pass,
    )
    add_methods_text(Part.MAPS, region_growth.describe_growth(settings.smoothing))
    outputs.store(roi, {"desc": "roigrown", "suffix": "mask"}, facts=grown_facts)
    return roi, roi_hr


def has_error(made_series: ComputedSeries, settings: MapSettings) -> bool:
    """Return whether the reconstruction error of a series is mapped.

    The method must have a prior, and the linear model must be mapped.
    """
    method = None if made_series.request is None else made_series.request.method
    return method is not None and method.has_prior and "glm" in settings.kinds


def add_error_maps(
    plan: RunPlan,
    fitted: FittedRun,
    series: RunSeries,
    mapped: MappedSeries,
    acquired: MappedSeries,
    settings: MapSettings,
) -> MappedSeries:
    """Map the reconstruction error of a series, and test the coverage of confidence intervals.

    Parameters
    ----------
    plan : RunPlan
        Plan of the run.
    fitted : FittedRun
        Motion and registration of the run.
    series : RunSeries
        Series of the run.
    mapped : MappedSeries
        Maps of the series with a prior.
    acquired : MappedSeries
        Maps of the acquired series.
    settings : MapSettings
        Settings of both maps.

    Returns
    -------
    MappedSeries
        Maps of the series, including error maps.
    """
    resources = plan.planned.settings.resources
    assert mapped.series.model_file is not None
    coverage_rows = reconstruction_error.check_intervals(
        series.raw.series,
        fitted.registration.bold_mask,
        fitted.motion.hmc_xfms,
        mapped.series.model_file,
        series.model,
        fitted.calibration,
        fitted.outliers,
        series_name=mapped.series.name,
        smoothing=settings.smoothing,
        factor=settings.factor,
        random_seed=resources.random_seed,
        omp_nthreads=resources.omp_nthreads or 1,
    )
    add_methods_text(Part.EVALUATION, reconstruction_error.INTERVAL_TEST_TEXT)
    error_maps, error_rows = reconstruction_error.measure_error(
        mapped.maps,
        acquired.maps,
        mapped.series.mask,
        fitted.registration.bold_mask,
        coverage_rows,
        mapped.series.error_draws,
        mapped.series.acquired_draws,
        series_name=mapped.series.name,
        smoothing=settings.smoothing,
    )
    add_methods_text(Part.MAPS, reconstruction_error.describe_error(mapped.series.name))
    return replace(
        mapped, error_maps=error_maps, error_rows=error_rows, coverage_rows=coverage_rows
    )


def bring_elsewhere(
    mapped: MappedSeries,
    fitted: FittedRun,
    series: RunSeries,
    anat: Anatomy | None,
    stored: Sequence[Mapping[str, str]],
    outputs: Outputs,
) -> MappedSeries:
    """Resample the maps of a series to the requested spaces and surfaces.

    Parameters
    ----------
    mapped : MappedSeries
        Maps of the series.
    fitted : FittedRun
        Motion and registration of the run.
    series : RunSeries
        Series of the run, with grids in other spaces.
    anat : Anatomy | None
        Anatomy of the participant, with surfaces; None if missing.
    stored : Sequence[Mapping[str, str]]
        Entities of the maps to store, one mapping per kind of map.
    outputs : Outputs
        Storage of maps.

    Returns
    -------
    MappedSeries
        Maps of the series, including maps in other spaces and on surfaces.
    """
    mask = mapped.series.mask
    maps = concatenate([mapped.maps, *([] if mapped.error_maps is None else [mapped.error_maps])])
    space_maps: list[Map] | None = None
    if series.grids:
        space_maps = spaces.maps_to_spaces(maps, mask, list(series.grids))
        # Maps of the acquired series in a template space have no common metadata. Shared sidecars
        # of combined runs have no run entity, so that maps of numbered runs inherit them. Each of
        # the latter maps therefore needs its own sidecar, which overrides the shared metadata.
        is_shared = mapped.series.name != RAW and "run" not in outputs.entities
        varies = activation.CONTRAST_METADATA if is_shared else {}
        outputs.store(space_maps, among=stored, varies=varies)
    surfaces: Sequence[Surfaces] = () if anat is None else anat.surfaces
    surface_maps: dict[str, list[Map]] = {}
    for output_surfaces in surfaces:
        assert fitted.registration.boldref2t1w_xfm is not None
        labels = output_surfaces.space.entities
        with subworkflow(
            "_".join([mapped.series.name, "on", *labels.values()]),
            high_resolution=mapped.series.name != RAW,
        ):
            surface_maps[output_surfaces.space.name] = steps_surfaces.maps_to_surfaces(
                maps,
                mask,
                output_surfaces.surfaces,
                fitted.registration.boldref2t1w_xfm,
                space_entities=labels,
                surface_uris=output_surfaces.uris,
            )
            add_methods_text(Part.MAPS, steps_surfaces.describe_surface_maps(labels["space"]))
            outputs.store(surface_maps[output_surfaces.space.name], among=stored)
    return replace(mapped, space_maps=space_maps, surface_maps=surface_maps)
