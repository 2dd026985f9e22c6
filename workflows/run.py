"""One BOLD run from the acquired series to maps and their evaluation.

Inputs found and steps planned, in words: first report lines of a participant and of a run.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

from bids_sr.bids import BoldRun, Pair, Subject
from bids_sr.bids.findings import PrecomputedAnat, PrecomputedRun
from bids_sr.config import Settings
from bids_sr.config.spaces import Seed, seed_names, seeds_of
from bids_sr.glm.condition_pair import condition_pair
from bids_sr.glm.contrasts import minus_others
from bids_sr.io.atomic_files import read_json
from bids_sr.io.grids import size_text
from bids_sr.pipeline.flow import Flow, say
from bids_sr.pipeline.graph import Maker, Scope, scope_of
from bids_sr.pipeline.step import Part
from bids_sr.series import ACQUIRED_BAND, RAW, SDMOD
from bids_sr.steps import (
    activation,
    active_regions,
    registration,
    super_resolution,
)
from bids_sr.steps.figures import (
    draw_anatomy,
    draw_correlation,
    draw_evaluation,
    draw_maps,
    draw_networks,
    draw_overlap,
    draw_overview,
)
from bids_sr.steps.quality import check_intervals, measure_error
from bids_sr.workflows.anatomy import Anatomy
from bids_sr.workflows.fit_run import FittedRun, fit_run
from bids_sr.workflows.judge import (
    add_evaluation,
    own_regressors,
)
from bids_sr.workflows.make_series import RunSeries, make_series
from bids_sr.workflows.pair import RegisteredPair, TrainedModel
from bids_sr.workflows.run_plan import RunPlan, plan_run
from bids_sr.workflows.wanted import Planned, RunOf, Wanted, methods_of

_Facts = dict[str, object]


def subject_facts(
    settings: Settings,
    subject: Subject,
    series: Sequence[str],
    *,
    template: str,
    roi: str,
) -> _Facts:
    """The first section of a report; `series` are those of all runs."""
    sessions = sorted(
        {run.entities["session"] for run in subject.runs if "session" in run.entities}
    )
    precomputed = subject.precomputed
    return {
        "Participant": subject.label,
        **({"Sessions": sessions} if sessions else {}),
        "Runs": [run.stem for run in subject.runs],
        "T1w image": subject.t1w[0].name
        if subject.t1w
        else "none (the region of interest is the whole brain)",
        "T2* pair": sorted({_pair_words(run.pair) for run in subject.runs}),
        "High-resolution reference": sorted(
            {str(run.truth.root) for run in subject.runs if run.truth}
        )
        or "none",
        **_taken_over(precomputed, precomputed.files(template) if precomputed else {}),
        "Series": list(dict.fromkeys(series)),
        "Smoothing (mm FWHM)": ", ".join(f"{width:g}" for width in settings.activation.smoothing),
        "Region of interest": roi,
        "Training recipe": settings.superres.recipe_text if settings.superres.learned else "none",
        "Random seed": settings.resources.random_seed,
    }


def run_facts(settings: Settings, run: BoldRun, *, timed: bool) -> _Facts:
    """The first report lines of a run; `timed` says that its slice timing is corrected."""
    short = run.calibration
    return {
        "Run": run.stem,
        **{key: text for key, text in run.sidecar.items() if key == "Description"},
        "Volumes": run.n_volumes,
        "Repetition time (s)": run.tr,
        "Matrix": " × ".join(map(str, run.shape)),
        "Voxel size (mm)": size_text(run.zooms, unit=""),
        "Slice timing": "corrected" if timed else "not corrected",
        **(
            {"Smoothing before super-resolution (mm FWHM)": width}
            if (width := settings.preprocessing.input_smoothing)
            else {}
        ),
        "Super-resolution factor": " × ".join(f"{f:g}" for f in run.factor)
        + (" (in plane only)" if run.factor[2] == 1 else ""),
        "T2* pair": _pair_words(run.pair),
        "Calibration run": f"{short.bold.name}, {short.n_volumes} volumes" if short else "none",
        **_taken_over(run.precomputed, {} if run.precomputed is None else run.precomputed.files),
    }


def _pair_words(pair: Pair | None) -> str:
    """Which images a run is super-resolved with."""
    if pair is None:
        return "none (only interpolation and methods that do not require a pair)"
    lowres = "a k-space-truncated copy of this image" if pair.lowres is None else pair.lowres.name
    sidecar = pair.highres.with_name(pair.highres.name.partition(".")[0] + ".json")
    described = read_json(sidecar).get("Description")
    return f"{pair.highres.name} and {lowres}" + (f" ({described})" if described else "")


def _taken_over(
    precomputed: PrecomputedAnat | PrecomputedRun | None, files: Mapping[str, Path]
) -> _Facts:
    """Which files of another program are used."""
    if precomputed is None:
        return {}
    return {f"Derivatives from {precomputed.origin.text}": [path.name for path in files.values()]}


NO_GUIDE: Mapping[str, tuple[Maker, ...]] = {"highres_file": (), "highres2boldref_xfm": ()}


def add_run(
    subject: Scope,
    planned: Planned,
    bold: BoldRun,
    specs: Sequence[Wanted],
    anat: Anatomy | None,
    pair: RegisteredPair | None,
    models: Mapping[str, TrainedModel],
) -> None:
    """Place the steps of a run.

    `subject`: scope of the participant. `anat, pair`: T1w image of the participant and pair of the
    run, where there are any.
    """
    beside = tuple(_names_of(subject, anat, pair))
    plan = plan_run(planned, bold, with_anat=anat is not None)
    settings = _settings(plan, specs)
    scope = subject.within(
        scope_of(bold.stem), settings, beside=beside, alias={"reference": "boldref"}
    )
    if bold.truth is not None and bold.truth.activations:
        scope.give(truth_maps=dict(bold.truth.activations))
    with Flow(scope):
        known = bold.precomputed
        text = super_resolution.describe_all_series(
            plan.stored_names,
            corrected=known is not None and known.field is not None,
            thinner=bold.factor[2] != 1,
        )
        say(Part.SERIES, text)
        outputs = planned.outputs(
            plan.entities,
            datasets=planned.datasets([bold]),
            provenance=plan.provenance,
            axis_order=bold.axis_order,
        )
        if anat is not None:
            outputs = outputs.with_references(T1w=anat.t1w_preproc)
        fitted = fit_run(plan, anat, pair, outputs)
        outputs = outputs.with_references(own=fitted.motion.boldref)
        made = make_series(plan, fitted, anat, pair, models, outputs)
    run = RunOf(
        planned=planned,
        bold=bold,
        wanted=specs,
        scope=scope,
        models=_scopes_of_models(beside[-1] if beside else scope, models),
    )
    _give(run, fitted, made)
    spaces = [] if anat is None else beside[0].inner
    _add_maps(run, [cast("Maker", grid) for grid in made.grids], spaces)
    add_evaluation(run)
    _draw(run, with_anat=anat is not None, with_pair=pair is not None)


def _names_of(
    subject: Scope, anat: Anatomy | None, pair: RegisteredPair | None
) -> Iterator[Scope]:
    """Yield scopes in which steps that look for names find anatomy and pair."""
    if anat is not None:
        scope = subject.within("anat_names_wf")
        template, atlas = anat.template, anat.atlas
        scope.give(
            t1w_preproc=anat.t1w_preproc,
            t1w_mask=anat.t1w_mask,
            t1w_tpms=anat.t1w_tpms,
            brain_facts=anat.brain_facts,
            template=template.template,
            template_mask=template.template_mask,
            t1w2std_xfm=template.t1w2std_xfm,
            std2t1w_xfm=template.std2t1w_xfm,
            atlas_source=atlas.atlas_source,
            atlas_labels=atlas.atlas_labels,
            atlas_xfms=atlas.atlas_xfms,
        )
        for one in anat.surfaces:
            inner = scope.within(
                "_".join(["anat_in", *one.space.entities.values()]) + "_wf",
                space_entities=one.space.entities,
                resolution=one.space.resolution,
                template_space=one.space.template,
                surface_uris=one.uris,
            )
            inner.give(surfaces=one.surfaces)
        yield scope
    if pair is not None:
        scope = subject.within("pair_names_wf")
        scope.give(
            highres_file=pair.pair.highres,
            train_highres=pair.train_highres,
            train_lowres=pair.train_lowres,
            pair_mask=pair.pair_mask,
            highres2lowres_xfm=pair.highres2lowres_xfm,
            pair_facts=pair.pair_facts,
        )
        yield scope


def _scopes_of_models(outer: Scope, models: Mapping[str, TrainedModel]) -> dict[str, Scope]:
    """Scopes in which steps that look for names find metrics on a held-out pair."""
    scopes = {}
    for name, model in models.items():
        scopes[name] = outer.within(name)
        if model.holdout is not None:
            scopes[name].give(holdout=model.holdout)
    return scopes


def _give(run: RunOf, fitted: FittedRun, made: RunSeries) -> None:
    """Have steps that look for names find what was made of a run."""
    registered, calibration = fitted.registration, fitted.calibration
    found = {
        "bold": fitted.bold,
        "stc": fitted.stc,
        "n_dummy": fitted.n_dummy,
        "boldref": fitted.motion.boldref,
        "hmc_xfms": fitted.motion.hmc_xfms,
        "motion": fitted.motion.motion,
        "distortion": fitted.distortion,
        "bold_mask": registered.bold_mask,
        "bold_mask_hr": registered.bold_mask_hr,
        "roi_bold": registered.roi_bold,
        "roi_bold_hr": registered.roi_bold_hr,
        "registration": registered.registration,
        "tpms_bold": registered.tpms_bold,
        "boldref2t1w_xfm": registered.boldref2t1w_xfm,
        "highres2boldref_xfm": registered.highres2boldref_xfm,
        "guide_hr": registered.guide_hr,
        "preproc": made.raw.series,
        "regressors": made.regressors,
        "confounds": made.confounds,
        "time_columns": made.time_columns,
        "censoring": made.censoring,
        "other_effects": made.other_effects,
    }
    if calibration is not None:
        found |= {
            "calibration_ref": calibration.calibration_ref,
            "calibration_patterns": calibration.calibration_patterns,
            "calibration_facts": calibration.calibration_facts,
            "boldref2calibration_xfm": calibration.boldref2calibration_xfm,
        }
    run.scope.give(**{name: value for name, value in found.items() if value is not None})
    control = made.tested.get(SDMOD)
    if control is not None and SDMOD not in made.fine:
        _inner(run, SDMOD).give(tested=control)
    for one in (made.raw, *made.fine.values()):
        own = run.series[one.name] = _inner(run, one.name)
        own.settings = {"series_name": one.name}
        if one.wanted is not None and one.wanted.method is not None:
            own.settings = {**own.settings, **run.planned.model_settings(one.wanted)}
        elif one.wanted is not None:
            own.settings = {**own.settings, "omp_nthreads": 1, "device": "cpu"}
        if one.name != RAW:
            own.alias = {"roi": "roi_hr"}
        of_series = {
            "series": one.series,
            "mask": one.mask,
            "model_file": one.model_file,
            "card_file": one.card_file,
            "log_file": one.log_file,
            "precision_rows": one.precision_rows,
            "error_draws": one.error_draws,
            "acquired_draws": one.acquired_draws,
            "own_regressors": one.regressors,
            "compared_facts": one.compared_facts,
            "weight": None if one.variance is None else one.variance.weight,
            "tested": None if one.variance is None else one.variance.tested,
        }
        own.give(**{name: value for name, value in of_series.items() if value is not None})


def _inner(run: RunOf, name: str) -> Scope:
    """Return the scope of a series, in which the series was made."""
    found = [one for one in run.scope.inner if one.name == name]
    if found:
        return found[-1]
    run.scope.inner.insert(0, made := run.scope.within(name))
    run.scope.inner.pop()
    return made


def _settings(plan: RunPlan, specs: Sequence[Wanted]) -> dict[str, object]:
    """Settings of a run's steps besides those that the user gave."""
    planned, bold, with_anat = plan.planned, plan.bold, plan.with_anat
    settings, precomputed = planned.settings, bold.precomputed
    left_out, at_rest = ("suffix", "extension", "datatype"), bold.events is None
    timed = bold.slice_timing is not None and "slicetiming" not in settings.preprocessing.ignore
    dummies, truth, activation_settings = (
        settings.preprocessing.dummy_scans,
        bold.truth,
        settings.activation,
    )
    known = {} if truth is None else truth.activations
    calibrates = any(
        one.method is not None and one.method.calibrated
        for one in specs
        if one.learned_from == "run"
    )
    contrasts = {
        name: dict(weights) for name, weights in planned.plan.contrasts[bold.bold].items()
    }
    seeds = (
        seeds_of(activation_settings.seeds, with_anat=with_anat, atlas=activation_settings.atlas)
        if at_rest
        else ()
    )
    return {
        "entities": {
            **{k: v for k, v in bold.entities.items() if k not in left_out},
            "datatype": "func",
        },
        "provenance": {
            **planned.made_by,
            "MappedBy": "seeds" if at_rest else "events",
            **(
                {"InputSmoothingFWHM": width}
                if (width := settings.preprocessing.input_smoothing)
                else {}
            ),
            "ContrastWeights": contrasts,
        },
        "task_name": str(bold.sidecar.get("TaskName", bold.entities.get("task", ""))),
        "primary": planned.primary(bold),
        "datasets": planned.datasets([bold]),
        "in_func": plan.in_func,
        "elsewhere": plan.elsewhere,
        "series_name": "raw",
        "run_name": bold.stem,  # of whom its steps are, see `Scope.whom`
        "run_facts": run_facts(settings, bold, timed=timed),
        "tr": bold.tr,
        "factor": bold.factor,
        "voxel": bold.zooms,
        "axis_order": bold.axis_order,
        "phase_encoding": str(bold.sidecar.get("PhaseEncodingDirection", "")),
        "dummy_scans": precomputed.n_dummy
        if dummies is None and precomputed is not None
        else dummies,
        "slice_times": bold.slice_timing if timed else None,
        "has_stc": timed,
        "slice_timing_corrected": timed or bold.is_corrected,
        "start_time": bold.start_time(settings.preprocessing.slice_time_ref),
        "contrasts": contrasts | (_fallback(seeds) if at_rest else {}),
        "minus_others": ()
        if activation_settings.contrasts or activation_settings.stats_model
        else minus_others(planned.plan.contrasts[bold.bold]),
        "high_pass": activation_settings.cosine_cutoff,
        "low_pass": activation_settings.correlation_cutoff,
        "nuisance": planned.plan.nuisance,
        "correlation_confounds": at_rest and bool(activation_settings.confounds),
        "at_rest": at_rest,
        "has_truth": bool(known) or (truth is not None and truth.series is not None),
        "series_names": tuple(one.name for one in specs if one.stored),
        "method_names": methods_of(specs),
        "compared_names": tuple(bold.compared),
        "with_anat": with_anat,
        "seeds": seeds,
        "origin": precomputed.origin.text if precomputed else "",
        "readout": precomputed.field.readout if precomputed and precomputed.field else 0.0,
        "calibrated": bold.calibration is not None and calibrates,
    }


def _fallback(seeds: Sequence[Seed]) -> dict[str, dict[str, float]]:
    """Return contrasts of the temporal components that are mapped if no seed lies in the run."""
    return {name: {name: 1.0} for name in seed_names(())[: len(seeds)]}


def _add_maps(run: RunOf, grids: Sequence[Maker], spaces: Sequence[Scope]) -> None:
    """Add maps, regions and quality of every mapped series, their comparison and clusters.

    `spaces` are those of the anatomy; maps come to the surfaces among them.
    """
    scope, settings = run.scope, run.planned.settings
    if settings.evaluation.roi_grow and run.bold.events is not None:
        scope.add(active_regions.grow_region)
    else:
        scope.alias |= {"roi": "roi_bold", "roi_hr": "roi_bold_hr"}
    with_prior = [
        one.name
        for one in run.wanted
        if one.stored and one.method is not None and one.method.has_prior
    ]
    for name in run.mapped:
        series_scope = run.series[name]
        filled = run.series.get(ACQUIRED_BAND)
        same: Mapping[str, Maker] = {}
        own_seeds = own_regressors(series_scope)
        if filled is not None and "weight" in series_scope.makers:
            same = {
                "zerofilled": filled["series"],
                "zerofilled_maps": filled["maps"],
                "zerofilled_metrics": filled["map_metrics"],
                "zerofilled_quality": filled["quality"],
                "zerofilled_tsnr": filled["tsnr"],
            }
        series_scope.add(activation.map_series, wires={**same, **own_seeds})
        maps: tuple[Maker, ...] = (series_scope["maps"],)
        if name in with_prior and "glm" in settings.activation.kinds:
            series_scope.add(check_intervals)
            wires = {"acquired_maps": run.series["raw"]["maps"]}
            series_scope.add(measure_error, wires=wires)
            maps += (series_scope["error_maps"],)
        if grids:
            series_scope.add(
                registration.maps_to_spaces, wires={"space_grids": grids, "maps": maps}
            )
        for there in (one for one in spaces if "surfaces" in one.makers):
            on_them = series_scope.within(f"{name}_{there.name}", there.settings, beside=(there,))
            on_them.add(registration.maps_to_surfaces, wires={"maps": maps})
            if name == scope.setting("primary"):
                on_them.add(draw_maps.draw_surfaces)
    scope.add(activation.compare_maps, activation.join_quality)
    scope.add(active_regions.list_clusters)


def _draw(run: RunOf, *, with_anat: bool, with_pair: bool) -> None:
    """Figures and tables of a run in the report; no result depends on them."""
    scope = run.scope
    stored = [one for one in run.wanted if one.stored]
    scope.add(draw_maps.summarize_run, draw_maps.draw_motion, draw_anatomy.show_registration)
    if "glm" in run.planned.settings.activation.kinds:
        scope.add(draw_maps.draw_design)
    if with_anat:
        scope.add(draw_anatomy.draw_coregistration)
    if with_pair:
        scope.add(draw_anatomy.draw_guide)
    for one in stored:
        if one.learned_from == "volumes":
            run.series[one.name].add(draw_evaluation.draw_volume_training)
    estimated = [one for one in stored if one.learned_from == "run"]
    tested = scope.gather("tested", [one.name for one in estimated])
    if scope.setting("calibrated"):
        entered = next(
            one.name for one in estimated if one.method is not None and one.method.calibrated
        )
        scope.add(draw_anatomy.draw_calibration, wires={"tested": tested[entered]})
    if estimated:
        name = estimated[-1].name
        made = {"weight": scope.gather("weight", [name])[name], "tested": tested[name]}
        scope.add(draw_evaluation.draw_variance, wires=made)
    scope.add(draw_maps.draw_slice, wires={"middle": scope.gather("middle", run.mapped)})
    shown = run.methods or run.mapped[1:2]
    tsnr = scope.gather("tsnr", ("raw", *shown))
    scope.add(draw_maps.draw_output, wires={"series": scope.gather("series", shown), "tsnr": tsnr})
    scope.add(draw_maps.draw_activation, draw_maps.show_clusters)
    if _shows_correlation(run):
        scope.add(draw_correlation.draw_correlation)
    if run.bold.events is None and "cc" in run.planned.settings.activation.kinds:
        scope.add(draw_networks.draw_networks)
    names = run.planned.settings.activation.overlap_names
    contrasts = run.planned.plan.contrasts[run.bold.bold]
    pair = None if names is None else condition_pair(names, contrasts)
    if pair is not None and run.bold.events is not None:
        scope.add(draw_overlap.draw_overlap, overlap_pair=pair)
    scope.add(
        draw_overview.show_viewer, draw_overview.draw_overview, draw_evaluation.draw_evaluation
    )
    scope.add(draw_evaluation.draw_quality)


def _shows_correlation(run: RunOf) -> bool:
    """Whether maps of cross-correlation are drawn beside those of t.

    They are if cc was named as an option, if there are no maps of t, and if a network is trained
    as published.
    """
    settings = run.planned.settings
    how = settings.activation
    asked = how.draws_cc or "glm" not in how.kinds or settings.superres.recipe != "fast"
    return "cc" in how.kinds and run.bold.events is not None and asked
