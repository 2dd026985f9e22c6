"""One BOLD run from the acquired series to maps and their evaluation."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from bids_sr.bids import BoldRun
from bids_sr.config.spaces import FUNC, Seed, seed_names, seeds_of
from bids_sr.glm.contrasts import minus_others
from bids_sr.pipeline.flow import Flow
from bids_sr.pipeline.graph import Maker, Scope, scope_of
from bids_sr.pipeline.outputs import Outputs
from bids_sr.pipeline.step import Part
from bids_sr.series import ACQUIRED_BAND, INTERPOLATIONS, MEASURED, SDMOD
from bids_sr.sr.method import get_method
from bids_sr.steps import (
    active_regions,
    anatomy,
    compared_series,
    imported,
    motion,
    registration,
    super_resolution,
    training,
)
from bids_sr.steps.quality import guard_precision
from bids_sr.workflows.anatomy import Anatomy, Atlas, Surfaces, TemplateRegistration
from bids_sr.workflows.fit_run import Calibration, FittedRun, HeadMotion, Registration
from bids_sr.workflows.judge import (
    add_acquired,
    add_calibration,
    add_compared,
    add_confounds,
    add_motion,
)
from bids_sr.workflows.judge_run import judge_run
from bids_sr.workflows.make_series import MadeSeries, RunSeries, VarianceModel
from bids_sr.workflows.map_run import map_run
from bids_sr.workflows.pair import RegisteredPair
from bids_sr.workflows.report_run import report_run, run_facts
from bids_sr.workflows.run_plan import plan_run
from bids_sr.workflows.scans import add_spaces, show_spaces, spaces_of
from bids_sr.workflows.wanted import TRAINING, Planned, RunOf, Wanted, methods_of

_ACQUIRED = {"mask": "bold_mask"}
_FINE = {"mask": "bold_mask_hr", "roi": "roi_hr"}
"""What brain mask and region of interest are called on the grid of a series."""
NO_GUIDE: Mapping[str, tuple[Maker, ...]] = {"highres_file": (), "highres2boldref_xfm": ()}
NO_ATLAS: Mapping[str, tuple[Maker, ...]] = dict.fromkeys(
    ("atlas_source", "atlas_labels", "atlas_xfms"), ()
)
_NO_CALIBRATION: Mapping[str, tuple[Maker, ...]] = dict.fromkeys(
    ("calibration_patterns", "boldref2calibration_xfm", "calibration_facts"), ()
)


def add_run(
    subject: Scope,
    planned: Planned,
    bold: BoldRun,
    specs: Sequence[Wanted],
    anat: Scope | None,
    pair: Scope | None,
    models: Mapping[str, Scope],
) -> None:
    """Place the steps of a run.

    `subject, anat, pair`: scopes of the participant, of its T1w image and of the pair of the run,
    where there are any.
    """
    beside = tuple(each for each in (anat, pair) if each is not None)
    settings = _settings(planned, bold, specs, with_anat=anat is not None)
    scope = subject.within(
        scope_of(bold.stem), settings, beside=beside, alias={"reference": "boldref"}
    )
    if bold.truth is not None and bold.truth.activations:
        scope.give(truth_maps=dict(bold.truth.activations))
    run = RunOf(planned=planned, bold=bold, wanted=specs, scope=scope, models=models)
    names = [one.name for one in specs if one.stored]
    text = super_resolution.series_text(
        names, corrected="fieldmap" in run.taken, thinner=bold.factor[2] != 1
    )
    scope.say(Part.SERIES, text)
    _add_motion(run)
    _add_registration(run, with_anat=anat is not None, with_pair=pair is not None)
    if scope.setting("calibrated"):
        assert bold.calibration is not None
        _add_calibration(run, bold.calibration)
    grids = add_spaces(run, anat) if anat is not None else []
    _add_series(run, grids)
    _add_own_seeds(run)
    _map_and_judge(run, anat, pair, grids, n_runs=cast(int, subject.setting("n_runs")))


def _settings(
    planned: Planned, bold: BoldRun, specs: Sequence[Wanted], *, with_anat: bool
) -> dict[str, object]:
    """Settings of a run's steps besides those that the user gave."""
    settings, precomputed = planned.settings, bold.precomputed
    left_out, at_rest = ("suffix", "extension", "datatype"), bold.events is None
    timed = bold.slice_timing is not None and "slicetiming" not in settings.preprocessing.ignore
    dummies, truth, activation_settings = (
        settings.preprocessing.dummy_scans,
        bold.truth,
        settings.activation,
    )
    known = {} if truth is None else truth.activations
    spaces = spaces_of(planned, with_anat=with_anat)
    # of the series there is nothing on surfaces
    places = {space.name for space in spaces if not space.is_surface} or {FUNC}
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
        "in_func": FUNC in places,
        "elsewhere": places != {FUNC},
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


def _add_motion(run: RunOf) -> None:
    """Add head motion of the acquired series, or what another program found.

    Slice timing is corrected in time only.
    """
    bold, scope = run.bold, run.scope
    if bold.echoes:
        files, times = zip(*bold.echoes, strict=True)
        scope.give(echo_files=list(files))
        scope.add(motion.combine_echoes, echo_times=list(times))
    else:
        scope.give(bold_file=bold.bold)
        if echo := bold.entities.get("echo"):
            scope.say(Part.PREPROCESSING, f"Only echo {echo} of the multi-echo run was analyzed.")
    scope.add(motion.import_series)
    scope.add(motion.count_dummies)
    if bold.precomputed is not None:
        for name, path in bold.precomputed.files.items():
            new = name in ("fieldmap", "boldref2fmap_xfm")  # no step here uses this name
            scope.give(**{name if new else f"given_{name.removesuffix('_tsv')}": path})
    add_motion(scope)
    if "fieldmap" in run.taken:
        scope.add(imported.field_to_shift)
    width = run.planned.settings.preprocessing.input_smoothing
    timed = bool(scope.setting("has_stc"))
    add_acquired(scope, timed=timed, input_smoothing=width)
    if not timed:
        if "slicetiming" in run.planned.settings.preprocessing.ignore:
            scope.say(Part.PREPROCESSING, "Slice-timing correction was not performed.")
        elif bold.is_corrected:
            scope.say(
                Part.PREPROCESSING,
                "Slice-timing correction had already been applied to the input series.",
            )


def _add_registration(run: RunOf, *, with_anat: bool, with_pair: bool) -> None:
    """Add registration of the reference to T1w and pair, and masks on the run's grids.

    Brain, tissues and region of interest are brought to these grids.
    """
    imported_names, scope, precomputed = run.taken, run.scope, run.bold.precomputed
    new = with_anat and "boldref2t1w_xfm" not in imported_names
    scope.say(Part.PREPROCESSING, registration.text_of_registration(to_t1w=new, to_pair=with_pair))
    scope.add(imported.import_mask if "bold_mask" in imported_names else registration.mask_bold)
    if with_anat:
        scope.add(
            imported.import_coreg
            if "boldref2t1w_xfm" in imported_names
            else registration.register_to_t1w
        )
        scope.add(registration.tissues_to_bold, registration.region_to_bold, anatomy.invert_coreg)
    else:
        scope.alias |= {"roi_bold": "bold_mask", "roi_bold_hr": "bold_mask_hr"}
    if with_pair:
        scope.add(registration.register_to_pair)
    scope.add(registration.gather_registration)
    if precomputed is not None:
        text = registration.text_of_imported_registration(precomputed.origin.text, imported_names)
        scope.say(Part.PREPROCESSING, text)


def _add_calibration(run: RunOf, calibration: BoldRun) -> None:
    """A short high-resolution run that tells where the run fluctuates, in register with it."""
    inner = run.scope.within(
        "calibration_wf",
        axis_order=calibration.axis_order,
        tr=calibration.tr,
        dummy_scans=run.planned.settings.preprocessing.dummy_scans,
    )
    inner.say(
        Part.SERIES,
        compared_series.text_of_calibration(with_events=calibration.events is not None),
    )
    inner.give(bold_file=calibration.bold)
    inner.add(motion.import_series, quiet=True)
    add_calibration(inner, calibration.events)


def _add_series(run: RunOf, grids: Sequence[Maker]) -> None:
    """Add raw with its confounds, baselines, methods and the measured series.

    Evaluation-only series come last.

    The primary one is also brought to `grids` in other spaces.
    """
    scope = run.scope
    measured = None if run.bold.truth is None else run.bold.truth.series
    scope.add(super_resolution.undo_motion)
    raw = run.series["raw"] = scope.within("raw", alias=_ACQUIRED, series_name="raw")
    raw.give(series=scope["preproc"])
    add_confounds(
        scope,
        imported.import_confounds if "confounds_tsv" in run.taken else motion.gather_confounds,
        models_time=run.planned.settings.activation.models_time,
    )
    if run.bold.events is not None:
        scope.give(regressors=run.bold.events)
    else:
        _add_seeds(run)
    names = [one.name for one in run.wanted if one.stored]
    for spec in run.wanted:
        if spec.stored:
            _add_stored(run, spec, names, grids if spec.name == scope.setting("primary") else ())
    show_spaces(run)
    if measured is not None:
        timed = (
            measured.slice_timing is not None
            and "slicetiming" not in run.planned.settings.preprocessing.ignore
        )
        series_scope = run.series[MEASURED] = scope.within(
            MEASURED, alias=_FINE, series_name=MEASURED
        )
        series_scope.give(bold_file=measured.bold)
        series_scope.add(motion.import_series, quiet=True, axis_order=measured.axis_order)
        add_acquired(
            series_scope,
            timed=timed,
            input_smoothing=run.planned.settings.preprocessing.input_smoothing,
            slice_times=measured.slice_timing,
            quiet=True,
        )
        series_scope.add(super_resolution.place_measured)
    add_compared(run)
    for spec in run.wanted:
        if not spec.stored:
            _add_unstored(run, spec)


def _add_seeds(run: RunOf) -> None:
    """Add time series that replace events: of seeds or, without any, temporal components."""
    how = run.planned.settings.activation
    with_anat = bool(run.scope.setting("with_anat"))
    seeds = seeds_of(how.seeds, with_anat=with_anat, atlas=how.atlas)
    if seeds:
        by_label = any(seed.labels for seed in seeds)
        run.scope.add(active_regions.seed_series, wires={} if by_label else NO_ATLAS)
    else:
        run.scope.add(active_regions.component_series)


def _add_own_seeds(run: RunOf) -> None:
    """Add the time series of the seeds in every series but the acquired one, if requested."""
    how = run.planned.settings.activation
    seeds: tuple[Seed, ...] = run.scope.setting("seeds")  # type: ignore[assignment]
    if how.seed_series != "own" or not seeds:
        return
    wires = {} if any(seed.labels for seed in seeds) else NO_ATLAS
    made = {name: one for name, one in run.series.items() if name != "raw"}
    stored = {one.name for one in run.wanted if one.stored} | {MEASURED}
    for index, (name, series_scope) in enumerate(made.items()):
        if "series" in series_scope.makers:
            series_scope.add(
                active_regions.own_seed_series,
                keep=name in stored,
                quiet=index > 0,
                wires=wires,
            )


def _series_scope(
    run: RunOf, spec: Wanted, beside: tuple[Scope, ...], anew: Mapping[str, object] | None = None
) -> Scope:
    """Return the scope of a series on the high-resolution grid.

    `anew` are settings of a model that is made for this series alone.
    """
    on_processor = {"omp_nthreads": 1, "device": "cpu"}
    model = (
        on_processor
        if spec.method is None
        else {**run.planned.model_settings(spec), **(anew or {})}
    )
    own = run.scope.within(spec.name, model, beside=beside, alias=_FINE, series_name=spec.name)
    run.series[spec.name] = own
    return own


def _add_stored(run: RunOf, spec: Wanted, names: Sequence[str], grids: Sequence[Maker]) -> None:
    """Add one stored series with the training it needs, also on `grids` in other spaces."""
    beside = (run.models[spec.name],) if spec.name in run.models else ()
    if spec.learned_from == "run" and spec.judged and SDMOD not in run.series:
        # without a reference its series is compared with nothing, but its test with that of others
        control = replace(spec, name=SDMOD, method=get_method(SDMOD))
        _add_test(run, control, _series_scope(run, control, ()), names)
    series_scope = _series_scope(run, spec, beside)
    if spec.learned_from == "volumes":
        series_scope.add(TRAINING["volumes"])
    elif spec.learned_from == "run":
        _add_test(run, spec, series_scope, names)
    superres, resources = run.planned.settings.superres, run.planned.settings.resources
    lower = superres.precision == "bf16" or (
        superres.precision == "auto" and resources.device == "cuda"
    )
    if spec.network and lower:
        series_scope.add(guard_precision)
    series_scope.add(
        super_resolution.super_resolve,
        wires={**_beside(run, spec), "space_grids": grids},
        draws=spec.method is not None and spec.method.has_prior,
    )


def _add_test(run: RunOf, spec: Wanted, series_scope: Scope, names: Sequence[str]) -> None:
    """Add the estimate of where a run fluctuates, with its test one level down.

    Plain interpolations among the `names` are tried beside the first.
    """
    first = not any("weight" in each.makers for each in run.series.values())
    plain = tuple(name for name in names if name in INTERPOLATIONS and name != "zerofill")
    series_scope.add(
        TRAINING["run"],
        keep=not spec.control,
        quiet=spec.control,
        interpolations=plain if first else (),
        wires=_NO_CALIBRATION if spec.control else {},
    )


def _beside(run: RunOf, spec: Wanted) -> Mapping[str, Maker | tuple[Maker, ...]]:
    """Return what enters a series besides the run: the guide, and the zero-filled series."""
    filled = run.series.get(ACQUIRED_BAND)
    if spec.learned_from != "run" or filled is None or run.bold.factor[2] != 1:
        return {} if spec.guided else NO_GUIDE
    return {**({} if spec.guided else NO_GUIDE), "zerofilled": filled["series"]}


def _add_unstored(run: RunOf, spec: Wanted) -> None:
    """Add a method's placebo or further ensemble member, made for the evaluation only."""
    source = run.series[spec.source]
    beside = run.models[spec.name] if spec.seed and spec.name in run.models else source
    anew = {
        "model_source": "auto" if spec.learned_from == "run" else "train",
        "model_dir": None,
        "pretrained": None,
    }
    series_scope = _series_scope(
        run, spec, (beside,), anew if spec.placebo == "T1w" or spec.learned_from == "run" else {}
    )
    if spec.model is not None:
        series_scope.give(model_file=spec.model)
    # a pair network trained on the T1w image instead
    elif spec.placebo == "T1w":
        series_scope.add(super_resolution.another_contrast)
        mask = {"pair_mask": run.scope["bold_mask"]}
        series_scope.add(training.train_on_pair, wires=mask, keep=False, quiet=True, force=True)
    elif spec.seed and spec.learned_from == "run":
        series_scope.add(TRAINING["run"], keep=False, quiet=True, force=True)
    elif spec.seed and spec.learned_from == "volumes":
        series_scope.add(TRAINING["volumes"], keep=False, quiet=True)
    displaced = spec.placebo.lower() if spec.placebo in ("Mirror", "Shift") else ""
    series_scope.add(
        super_resolution.super_resolve,
        keep=False,
        quiet=True,
        wires=_beside(run, spec),
        series_name=spec.source,
        data_consistency="off",
        displaced=displaced,
        force=True,
    )


def _map_and_judge(
    run: RunOf,
    anat: Scope | None,
    pair: Scope | None,
    grids: Sequence[Maker],
    *,
    n_runs: int,
) -> None:
    """Map, judge and show the series of a run, whose makers are looked up in its scope."""
    scope, bold = run.scope, run.bold
    plan = plan_run(run.planned, bold, with_anat=anat is not None)

    def made(name: str, where: Scope = scope) -> Any:
        return where[name]

    def known(name: str, where: Scope = scope) -> Any:
        return where.find(name)

    motion_of_run = HeadMotion(
        boldref=made("boldref"), hmc_xfms=made("hmc_xfms"), motion=made("motion")
    )
    fitted = FittedRun(
        bold=made("bold"),
        stc=made("stc"),
        n_dummy=made("n_dummy"),
        motion=motion_of_run,
        registration=Registration(
            bold_mask=made("bold_mask"),
            bold_mask_hr=made("bold_mask_hr"),
            roi_bold=made("roi_bold"),
            roi_bold_hr=made("roi_bold_hr"),
            registration=made("registration"),
            tpms_bold=known("tpms_bold"),
            boldref2t1w_xfm=known("boldref2t1w_xfm"),
            highres2boldref_xfm=known("highres2boldref_xfm"),
            guide_hr=known("guide_hr"),
        ),
        calibration=Calibration(
            calibration_ref=made("calibration_ref"),
            boldref2calibration_xfm=made("boldref2calibration_xfm"),
            calibration_patterns=made("calibration_patterns"),
            calibration_facts=made("calibration_facts"),
        )
        if plan.calibrated
        else None,
    )

    def series_of(name: str, where: Scope) -> MadeSeries:
        makers: Mapping[str, Any] = where.makers
        wanted = next((one for one in run.wanted if one.name == name), None)
        model = run.models.get(name)
        return MadeSeries(
            name=name,
            series=makers["series"],
            mask=made("mask", where),
            wanted=wanted,
            model_file=known("model_file", where),
            card_file=known("card_file", where),
            log_file=makers.get("log_file"),
            variance=VarianceModel(
                **{
                    each: makers[each]
                    for each in ("model_file", "card_file", "log_file", "weight", "tested")
                }
            )
            if "weight" in makers
            else None,
            holdout=None if model is None else cast(Any, model.makers.get("holdout")),
            precision_rows=makers.get("precision_rows"),
            error_draws=makers.get("error_draws"),
            acquired_draws=makers.get("acquired_draws"),
            regressors=makers.get("own_regressors"),
            compared_facts=makers.get("compared_facts"),
        )

    series = RunSeries(
        raw=series_of("raw", run.series["raw"]),
        fine={
            name: series_of(name, where)
            for name, where in run.series.items()
            if name != "raw" and "series" in where.makers
        },
        tested={
            name: made("tested", where)
            for name, where in run.series.items()
            if "tested" in where.makers
        },
        regressors=made("regressors"),
        confounds=made("confounds"),
        time_columns=known("time_columns"),
        censoring=known("censoring"),
        grids=cast(Any, grids),
        other_effects=known("other_effects"),
    )
    outputs = Outputs(
        output_dir=run.planned.settings.paths.output_dir,
        figures_dir=run.planned.settings.figures_dir,
        entities=plan.entities,
        level=run.planned.settings.run.level,
        provenance=plan.provenance,
        axis_order=bold.axis_order,
        dtype=run.planned.settings.preprocessing.output_dtype,
        datasets=run.planned.datasets([bold]),
    ).with_references(own=made("boldref"), T1w=known("t1w_preproc"))
    of_anat = None if anat is None else _anatomy_of(anat)
    of_pair = None
    if pair is not None:
        assert bold.pair is not None
        names = ("train_highres", "train_lowres", "pair_mask", "highres2lowres_xfm", "pair_facts")
        of_pair = RegisteredPair(pair=bold.pair, **{name: known(name, pair) for name in names})
    with Flow(scope):
        maps = map_run(plan, fitted, series, of_anat, outputs)
        judgment = judge_run(plan, fitted, series, maps, of_pair, outputs)
        report_run(plan, fitted, series, maps, judgment, of_anat, of_pair, outputs, n_runs=n_runs)


def _anatomy_of(anat: Scope) -> Anatomy:
    """Return what is known of the anatomy, whose makers are looked up in its scope."""

    def made(name: str, where: Scope = anat) -> Any:
        return where[name]

    template = TemplateRegistration(
        space=str(anat.setting("template_space")),
        **{
            name: made(name)
            for name in ("template", "template_mask", "t1w2std_xfm", "std2t1w_xfm")
        },
    )
    atlas = Atlas(**{name: made(name) for name in ("atlas_source", "atlas_labels", "atlas_xfms")})
    return Anatomy(
        t1w_preproc=made("t1w_preproc"),
        t1w_mask=made("t1w_mask"),
        t1w_tpms=made("t1w_tpms"),
        brain_facts=cast(Any, anat.find("brain_facts")),
        template=template,
        templates={},
        atlas=atlas,
        roi_source=made("roi_source"),
        roi_xfms=made("roi_xfms"),
        surfaces=[
            Surfaces(
                space=cast(Any, one.setting("space")),
                surfaces=made("surfaces", one),
                uris=cast(Any, one.setting("surface_uris")),
            )
            for one in anat.inner
            if "surfaces" in one.makers
        ],
    )
