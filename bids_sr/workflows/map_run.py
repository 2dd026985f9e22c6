"""Activation maps of all series of a run, comparison of the maps, and clusters."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from bids_sr.engine.artifacts import File, Map, Rows, Table
from bids_sr.engine.flow import add_methods_text, concatenate, describe_step, subworkflow
from bids_sr.engine.outputs import Outputs
from bids_sr.engine.step import Part
from bids_sr.evaluation.run_evidence import StoredEvidence
from bids_sr.evaluation.steps import (
    reconstruction_error,
    region_effects,
    unused_maps as unused_map_list,
)
from bids_sr.glm.steps import (
    activation,
    activation_texts,
    atlas_regions,
    map_comparison,
    spaces,
    surfaces as steps_surfaces,
)
from bids_sr.glm.steps.activation import SeriesMaps
from bids_sr.glm.steps.activation_texts import DescribedMaps
from bids_sr.glm.steps.atlas_regions import AtlasOfRun
from bids_sr.io.frozen import frozen
from bids_sr.io.series import ACQUIRED, MEASURED
from bids_sr.preproc.steps import bold_reference
from bids_sr.sr.steps import training_texts
from bids_sr.workflows.anatomy import Surfaces
from bids_sr.workflows.make_series import RunSeries
from bids_sr.workflows.model_run import ModeledRun
from bids_sr.workflows.run_plan import RunPlan
from bids_sr.workflows.series_requests import ComputedSeries
from bids_sr.workflows.stored_maps import list_stored_maps


@frozen
class MappedSeries:
    """Series with its maps.

    `results`: maps and regions, metrics and inputs of figures. `error_maps`, `error_rows`,
    `coverage_rows`, `half_resolution_maps`, `error_powers`: None if the method of the series has
    no prior. `space_maps`: maps in other spaces. `surface_maps`: maps on surfaces, by space.
    """

    series: ComputedSeries
    results: SeriesMaps
    error_maps: list[Map] | None = None
    error_rows: Rows | None = None
    coverage_rows: Rows | None = None
    half_resolution_maps: File | None = None
    error_powers: list[Map] | None = None
    space_maps: list[Map] | None = None
    surface_maps: Mapping[str, list[Map]] | None = None

    @property
    def maps(self) -> list[Map]:
        """Maps and regions of the series."""
        return self.results.maps


@frozen
class MappedRun:
    """Maps of a run by series, starting with the acquired series, and tables of their content.

    `regions` are the mean effects of regions and clusters, which is None if the linear model is
    not mapped. `atlas` are the labels of the atlas on the grids of the run; None without a T1w
    image.
    """

    series: Mapping[str, MappedSeries]
    regions: Table | None
    atlas: AtlasOfRun | None

    @property
    def maps(self) -> list[Map]:
        """Maps and regions of all series."""
        return concatenate(mapped_series.maps for mapped_series in self.series.values())

    @property
    def error_maps(self) -> list[Map]:
        """Maps of the reconstruction error of the series with a prior."""
        return concatenate(
            mapped_series.error_maps
            for mapped_series in self.series.values()
            if mapped_series.error_maps is not None
        )


def map_run(run: ModeledRun, series: RunSeries, outputs: Outputs) -> MappedRun:
    """Map all series of a run with one model, compare the maps, and measure regions.

    Returns maps of the acquired, stored and measured series.
    """
    plan = run.plan
    mapped_by_name: dict[str, MappedSeries] = {}
    for name, computed_series in series.mapped.items():
        with subworkflow(name, high_resolution=name != ACQUIRED):
            mapped_by_name[name] = _map_series(run, computed_series, mapped_by_name, outputs)
        if name == ACQUIRED:
            _add_model_text(plan, mapped_by_name[ACQUIRED].maps, list(series.mapped))
    all_mapped = list(mapped_by_name.values())
    maps = concatenate(mapped_series.maps for mapped_series in all_mapped)
    activation_metrics, columns = map_comparison.compare_maps(
        maps,
        [mapped_series.results.map_metrics for mapped_series in all_mapped],
        run.fitted,
        run.model.roi_hr,
        contrasts=plan.contrasts,
        thresholds=plan.maps.thresholds,
        factor=run.fitted.factor,
        input_smoothing=plan.correction.input_smoothing,
    )
    add_methods_text(Part.MAPS, map_comparison.MAP_COMPARISON_TEXT)
    outputs.store_metrics(activation_metrics, "activation", columns)
    image_metrics, columns = activation.join_quality(
        [mapped_series.results.quality for mapped_series in all_mapped],
        input_smoothing=plan.correction.input_smoothing,
    )
    outputs.store_metrics(image_metrics, "image", columns)
    regions = atlas = None
    if "glm" in plan.maps.kinds:
        regions, atlas = _measure_regions(run, mapped_by_name, outputs)
    return MappedRun(series=mapped_by_name, regions=regions, atlas=atlas)


def _map_series(
    run: ModeledRun,
    computed_series: ComputedSeries,
    mapped_by_name: Mapping[str, MappedSeries],
    outputs: Outputs,
) -> MappedSeries:
    """Map a series of a run, with its reconstruction error and in the requested spaces.

    `mapped_by_name`: series that are already mapped.
    """
    plan = run.plan
    results = activation.map_series(
        computed_series,
        run.model.roi if computed_series.series_name == ACQUIRED else run.model.roi_hr,
        run.model.linear,
        run.fitted,
        settings=plan.maps,
    )
    mapped_series = MappedSeries(series=computed_series, results=results)
    method = None if computed_series.request is None else computed_series.request.method
    if method is not None and method.has_prior and "glm" in plan.maps.kinds:
        acquired = mapped_by_name[ACQUIRED]
        mapped_series = _add_error_maps(run, mapped_series, acquired)
    return _resample_maps(run, mapped_series, outputs)


def _add_error_maps(
    run: ModeledRun, mapped_series: MappedSeries, acquired: MappedSeries
) -> MappedSeries:
    """Map the reconstruction error of a series, and test the coverage of confidence intervals.

    The series of `mapped_series` has a prior, and `acquired` are maps of the acquired series.
    Returns the maps of the series, including error maps.
    """
    plan = run.plan
    request = mapped_series.series.request
    assert mapped_series.series.model_file is not None
    assert request is not None
    assert request.method is not None
    name = mapped_series.series.series_name
    coverage_rows, half_resolution_maps = reconstruction_error.check_intervals(
        run.model.preproc,
        run.fitted,
        mapped_series.series.model_file,
        run.model.linear,
        run.fitted.calibration,
        series_name=name,
        smoothing=plan.maps.smoothing,
        random_seed=plan.random_seed,
        omp_nthreads=plan.inference.omp_nthreads,
        keeps_blocks=plan.is_in_contrast_over_runs,
    )
    error_maps, error_rows, error_powers = reconstruction_error.measure_error(
        mapped_series.maps,
        acquired.maps,
        mapped_series.series,
        run.fitted,
        coverage_rows,
        smoothing=plan.maps.smoothing,
    )
    texts = [
        (Part.EVALUATION, reconstruction_error.INTERVAL_TEST_TEXT),
        (Part.MAPS, reconstruction_error.describe_error(name, at_rest=plan.at_rest)),
        (
            Part.MAPS,
            reconstruction_error.describe_voxel_selection(plan.maps.smoothing, plan.bold.zooms),
        ),
    ]
    if plan.can_split:
        tested_text = reconstruction_error.describe_tested_detail(at_rest=plan.at_rest)
        texts.insert(1, (Part.EVALUATION, tested_text))
    for part, text in texts:
        describe_step(
            part,
            mapped_series.series.model_file,
            partial(training_texts.describe_applied, text, request.method.name),
        )
    return replace(
        mapped_series,
        error_maps=error_maps,
        error_rows=error_rows,
        coverage_rows=coverage_rows,
        half_resolution_maps=half_resolution_maps,
        error_powers=error_powers,
    )


def _resample_maps(run: ModeledRun, mapped_series: MappedSeries, outputs: Outputs) -> MappedSeries:
    """Resample the maps of a series to the requested spaces and surfaces; store the latter.

    Returns the maps of the series, including maps in other spaces and on surfaces.
    """
    mask = mapped_series.series.mask
    maps, plan = _list_maps(mapped_series), run.plan
    stored = list_stored_maps(mapped_series.series.series_name, plan.stored, plan.contrasts)
    space_maps: list[Map] | None = None
    if run.model.grids:
        clipped_masks = run.fitted.clipped_masks
        space_maps = spaces.maps_to_spaces(
            maps,
            mask,
            list(run.model.grids.values()),
            [] if clipped_masks is None else clipped_masks,
        )
    surfaces: Sequence[Surfaces] = () if run.anat is None else run.anat.surfaces
    surface_maps: dict[str, list[Map]] = {}
    for output_surfaces in surfaces:
        assert run.fitted.boldref2t1w_xfm is not None
        labels = output_surfaces.space.entities
        with subworkflow(
            "_".join([mapped_series.series.series_name, "on", *labels.values()]),
            high_resolution=mapped_series.series.series_name != ACQUIRED,
        ):
            surface_maps[output_surfaces.space.name] = steps_surfaces.maps_to_surfaces(
                maps,
                mask,
                output_surfaces.surfaces,
                run.fitted.boldref2t1w_xfm,
                space_entities=labels,
                surface_uris=output_surfaces.uris,
            )
            add_methods_text(Part.MAPS, steps_surfaces.describe_surface_maps(labels["space"]))
            outputs.store(surface_maps[output_surfaces.space.name], among=stored)
    return replace(mapped_series, space_maps=space_maps, surface_maps=surface_maps)


def store_maps(plan: RunPlan, maps: MappedRun, evidence: StoredEvidence, outputs: Outputs) -> None:
    """Store the maps of a run that the storage level includes and the page names.

    The `evidence` decides which maps the page names. Maps of all runs together have the maps of
    runs as sources, so that several runs keep all of them.
    """
    unused_maps = unused_map_list.list_unused_maps(
        evidence,
        primary=plan.primary,
        contrasts=list(plan.contrasts),
        minus_others=plan.minus_others,
    )
    stores_all = plan.n_runs > 1 or plan.stored.level == "full" or "glm" not in plan.maps.kinds
    left_out = None if stores_all else unused_maps
    for name, mapped_series in maps.series.items():
        stored = list_stored_maps(name, plan.stored, plan.contrasts)
        # the first page names files of these series
        is_awaited = mapped_series.error_maps is not None or name == "bspline"
        # nipype's workflow of a series must not wait for the evidence that follows from it
        with subworkflow(f"{name}_storage", high_resolution=name != ACQUIRED):
            outputs.store(
                _list_maps(mapped_series), among=stored, left_out=left_out, awaited=is_awaited
            )
            if mapped_series.space_maps is not None:
                outputs.store(mapped_series.space_maps, among=stored, left_out=left_out)


def _list_maps(mapped_series: MappedSeries) -> list[Map]:
    """Return the maps of a series, including maps of the reconstruction error if there are any."""
    error_maps = mapped_series.error_maps
    return concatenate([mapped_series.maps, *([] if error_maps is None else [error_maps])])


def _add_model_text(plan: RunPlan, acquired_maps: list[Map], names: Sequence[str]) -> None:
    """Add methods text of excluded volumes, models, contrasts and thresholds of a run.

    `acquired_maps`: maps of the acquired series. `names`: names of all mapped series.
    """
    maps = DescribedMaps(
        settings=plan.maps,
        design=plan.design,
        nuisance=plan.nuisance,
        at_rest=plan.at_rest,
        has_components=plan.has_components,
    )
    add_methods_text(
        Part.ACQUISITION,
        bold_reference.describe_dummies(plan.dummy_scans),
        output=acquired_maps,
        describe=partial(activation_texts.describe_excluded, plan.dummy_scans),
    )
    add_methods_text(Part.MAPS, activation_texts.describe_maps(plan.maps, at_rest=plan.at_rest))
    if "glm" in plan.maps.kinds:
        if not plan.at_rest:
            add_methods_text(Part.MAPS, activation_texts.describe_responses(maps))
        describe_nuisance = partial(activation_texts.describe_nuisance, maps)
        describe_step(Part.MAPS, acquired_maps, describe_nuisance)
        describe_step(Part.MAPS, acquired_maps, activation_texts.describe_noise)
        add_methods_text(
            Part.MAPS, activation_texts.describe_contrasts(maps, plan.contrasts, plan.minus_others)
        )
    is_stored = any(
        "cc" in kind_maps.stats
        for name in names
        for kind_maps in plan.stored.outputs_of(name).values()
    )
    if "cc" in plan.maps.kinds and (plan.requests_correlation or is_stored):
        add_methods_text(Part.MAPS, activation_texts.describe_correlation(maps))


def _measure_regions(
    run: ModeledRun, mapped_by_name: Mapping[str, MappedSeries], outputs: Outputs
) -> tuple[Table, AtlasOfRun | None]:
    """Measure the mean effects of regions in all series of a run, and store the table.

    Returns the table, and the labels of the atlas on the grids of the run; None without a T1w
    image.
    """
    plan, anat = run.plan, run.anat
    atlas = None
    if anat is not None and run.fitted.boldref2t1w_xfm is not None:
        labels = atlas_regions.atlas_to_bold(
            run.fitted, anat.atlas, run.fitted.boldref2t1w_xfm, random_seed=plan.random_seed
        )
        atlas = AtlasOfRun(
            atlas_bold=labels.atlas_bold,
            atlas_bold_hr=labels.atlas_bold_hr,
            atlas_labels=anat.atlas.atlas_labels,
        )
    other_series = {
        name: mapped_by_name[name].series.series
        for name in (ACQUIRED, MEASURED)
        if name in mapped_by_name
    }
    tables = []
    for name, mapped_series in mapped_by_name.items():
        with subworkflow(f"{name}_regions", high_resolution=name != ACQUIRED):
            tables.append(
                region_effects.measure_regions(
                    mapped_series.series,
                    run.model.linear,
                    run.fitted,
                    mapped_by_name[ACQUIRED].maps,
                    run.fitted.regions if name == ACQUIRED else run.fitted.regions_hr,
                    mapped_by_name[plan.primary].coverage_rows,
                    other_series if name in (plan.primary, "bspline") else {},
                    atlas,
                    exported_name=plan.primary,
                    region_origin=plan.regions.origin,
                    smoothing=plan.maps.smoothing,
                    input_smoothing=plan.correction.input_smoothing,
                    in_contrast_over_runs=plan.is_in_contrast_over_runs,
                )
            )
    # a region that follows from the name of the task is not part of the report of a study
    if run.fitted.regions and plan.regions.origin != "auto":
        add_methods_text(Part.MAPS, region_effects.REGIONS_TEXT)
    add_methods_text(
        Part.MAPS, region_effects.describe_clusters(None if atlas is None else plan.atlas)
    )
    regions, columns = region_effects.join_regions(
        tables,
        run.fitted.boldref2t1w_xfm,
        None if anat is None else anat.template.std2t1w_xfm,
    )
    outputs.store_metrics(regions, "regions", columns)
    return regions, atlas
