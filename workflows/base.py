"""Top-level workflow: the only builder that sees settings and BIDS inputs; all others get plain values."""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from niworkflows.engine.workflows import LiterateWorkflow

from bids_sr.bids import BoldRun, Pair, Subject, entities_of, factor_of, guide_of, pretrained_for
from bids_sr.bids.fmriprep import SPACES
from bids_sr.bids.headers import sizes_of
from bids_sr.bids.precomputed import Derivatives
from bids_sr.boilerplate import HERE
from bids_sr.config import Settings
from bids_sr.config.needs_of_classes import class_gb
from bids_sr.config.seed_options import seeds_of
from bids_sr.config.settings import analysis_digest
from bids_sr.interfaces.evaluation.placebos import other_models
from bids_sr.interfaces.evaluation.verdicts import plan_claim
from bids_sr.interfaces.learning.contrast_plan import structural_values
from bids_sr.region_names import AUTO, region_of_tasks
from bids_sr.series import PAIR_BASELINES, member_name, series_name, series_names
from bids_sr.sr.method import get_method, method_of_series
from bids_sr.workflows import node_names
from bids_sr.workflows.fused_structural import add_structural
from bids_sr.workflows.node_names import concerns, identifier, pair_words, taken_over, text_of
from bids_sr.workflows.node_names import methods_text as methods_text
from bids_sr.workflows.participant import init_subject_wf
from bids_sr.workflows.plans import (
    Acquisition,
    ActivationPlan,
    EvaluationPlan,
    Extra,
    PairPlan,
    Precomputed,
    RunPlan,
    SeriesPlan,
    StructuralPlan,
    SubjectPlan,
    Target,
    Training,
)
from bids_sr.workflows.wiring import declare_memory

BUNDLED_SPACE = "MNI152NLin2009aSym"
OPENING = """\
Results included in this manuscript come from *bids-sr* {version}, which is based on *Nipype* [@nipype]. \
The acquired series, plain interpolations of it and super-resolved series went through the same analysis, \
so that the effect of super-resolution can be separated from those of interpolation and smoothing.
"""

Contrasts = Mapping[Path, Mapping[str, Mapping[str, float]]]


def init_bids_sr_wf(
    *,
    settings: Settings,
    subjects: Sequence[Subject],
    contrasts: Contrasts,
    series_of: Callable[[BoldRun], Sequence[str]],
    unsplit: Collection[Path],
    notices: Sequence[str],
    version: str,
) -> LiterateWorkflow:
    """Build the graph of all participants.

    Parameters
    ----------
    contrasts : BOLD file to name to weights of trial types
    unsplit : BOLD files of runs with too few blocks for two halves
    notices : what is done otherwise than the user may expect, for the reports

    """
    workflow = LiterateWorkflow(name="bids_sr_wf", base_dir=str(settings.paths.work_dir))
    workflow.__desc__ = OPENING.format(version=version)
    made_by = {"GeneratedByVersion": version, "SettingsDigest": analysis_digest(settings)}
    scans: dict[str, StructuralPlan] = {}
    for subject in subjects:
        notes = [str(notice) for notice in notices if concerns(str(notice), subject.label)]
        name = f"sub_{subject.label}_wf"
        if subject.structural:
            scans[name] = StructuralPlan(**structural_values(settings, subject, notes, BUNDLED_SPACE))
            continue
        plan = _subject_plan(settings, subject, contrasts, series_of, unsplit, notes,
                             made_by)  # fmt: skip
        workflow.add_nodes([init_subject_wf(subject=plan, name=name)])
    add_structural(workflow, scans)
    sizes = sizes_of(subjects, settings)
    declare_memory(workflow, lambda kind: class_gb(kind, sizes))
    return workflow


def _subject_plan(
    settings: Settings,
    subject: Subject,
    contrasts: Contrasts,
    series_of: Callable[[BoldRun], Sequence[str]],
    unsplit: Collection[Path],
    notices: Sequence[str],
    made_by: Mapping[str, str],
) -> SubjectPlan:
    """Everything that is known and wanted of one participant, as plain values."""
    t1w, given = subject.t1w[0] if subject.t1w else None, subject.precomputed
    template = _template(settings, subject)
    anat = None if given is None else _precomputed(given.origin, given.files(template))
    pairs = {pair: _pair_plan(settings, subject, pair, k) for k, pair in enumerate(subject.pairs, 1)}
    made = {name for run in subject.runs for name in series_of(run)}
    methods = tuple(name for name in series_names(settings.superres.pair_trained) if name in made)
    runs = tuple(
        RunPlan(
            name=identifier(run.stem), bold_file=str(run.bold), events_file=text_of(run.events) or "",
            echoes=tuple((str(path), te) for path, te in run.echoes),
            pair=pairs[run.pair].number if run.pair is not None else 0, facts=_run_facts(settings, run),
            target=_target(settings, run, made_by, with_anat=t1w is not None), acquisition=_acquisition(settings, run),
            series=_series_plan(settings, subject, run, series_of(run)),
            activation=_activation(settings, contrasts[run.bold], at_rest=run.events is None),
            evaluation=_evaluation(settings, run, contrasts[run.bold], split=run.bold not in unsplit),
            with_anat=t1w is not None, omp_nthreads=settings.resources.omp_nthreads or 1,
            with_holdout=run.pair is not None and run.pair in subject.holdouts and bool(methods),
            seed=settings.resources.random_seed,
            seeds=() if run.events else seeds_of(settings.activation.seeds, with_anat=t1w is not None),
        )
        for run in subject.runs
    )  # fmt: skip
    return SubjectPlan(
        label=subject.label, output_dir=str(settings.paths.output_dir),
        omp_nthreads=settings.resources.omp_nthreads or 1, training=_training(settings),
        methods=methods, members=_members(settings, methods),
        t1w="" if t1w is None else str(t1w), t1w_source="" if t1w is None or anat else _uri(settings, t1w),
        t1w_common={"subject": subject.label, "datatype": "anat", **(_named(t1w, "session") if t1w else {})},
        template=template, precomputed=anat, roi=_roi(settings, subject), pairs=tuple(pairs.values()),
        runs=runs, facts=_subject_facts(settings, subject, series_of, notices),
    )  # fmt: skip


def _roi(settings: Settings, subject: Subject) -> str:
    """Region of interest of a participant: by the names of its tasks where nothing was asked for."""
    if settings.activation.roi != AUTO:
        return settings.activation.roi
    return region_of_tasks({run.entities.get("task", "") for run in subject.runs if run.events is not None})


def _template(settings: Settings, subject: Subject) -> str:
    """The space that the T1w image is registered to: the one asked for, or one to which there are transforms."""
    there = [space for space in SPACES if subject.precomputed is not None and space in subject.precomputed.spaces]
    return [*settings.preprocessing.output_spaces, *there, BUNDLED_SPACE][0]


def _precomputed(origin: Derivatives, files: Mapping[str, Path], readout: float = 0.0) -> Precomputed:
    """What another program has made, as plain values."""
    return Precomputed(
        origin=origin.text, files={name: str(path) for name, path in files.items()},
        uris=tuple(origin.uri(path) for path in files.values()), readout=readout,
    )  # fmt: skip


def _precomputed_run(run: BoldRun) -> Precomputed | None:
    found = run.precomputed
    if found is None:
        return None
    return _precomputed(found.origin, found.files, 0.0 if found.field is None else found.field.readout)


def _pair_plan(settings: Settings, subject: Subject, pair: Pair, number: int) -> PairPlan:
    place = _named(pair.highres, "session", "run")
    twins = [each for each in subject.pairs if _named(each.highres, "session", "run") == place]
    tag = f"pair{number}" if len(twins) > 1 else ""  # one image may serve runs of two resolutions: two models
    other = subject.holdouts.get(pair)
    return PairPlan(
        number=number, highres=str(pair.highres), lowres="" if pair.lowres is None else str(pair.lowres),
        factor=pair.factor, tag=tag, orders=pair.orders,
        common={"subject": subject.label, **place, **({"acquisition": tag} if tag else {})},
        sources=tuple(_uri(settings, path) for path in (pair.highres, pair.lowres) if path is not None),
        high=_named(pair.highres, "acquisition"), low=_named(pair.lowres or pair.highres, "acquisition"),
        holdout=None if other is None else _pair_plan(settings, subject, other, number),
    )  # fmt: skip


def _uri(settings: Settings, path: Path) -> str:
    """BIDS URI of a file of the data set."""
    return f"bids:raw:{path.relative_to(settings.paths.bids_dir).as_posix()}"


def _named(path: Path, *names: str) -> dict[str, str]:
    """Those of the entities in a file name."""
    return {name: label for name, label in entities_of(path).items() if name in names}


def _training(settings: Settings) -> Training:
    """How networks are trained or found."""
    superres = settings.superres
    known = {series_name(name): get_method(name) for name in (*superres.learned, *superres.run_trained)}
    warm = {label: method for label, method in known.items() if superres.warm_start and method.warm}
    return Training(
        recipe=superres.recipe,
        model_source=superres.model_source,
        model_dir=text_of(superres.models_to_reuse(settings.paths.output_dir)),
        pretrained={
            series_name(method): str(path)
            for method in superres.learned
            for path in [pretrained_for(superres, method)]
            if path is not None
        },
        methods={label: method.name for label, method in known.items() if label != method.name},
        about={label: method.about for label, method in known.items()},
        text={label: method.own_text(superres.recipe, warm=label in warm) for label, method in known.items()},
        starts={label: str(HERE / "models" / f"{label}_start.safetensors") for label in warm},
        calibrated=tuple(label for label, method in known.items() if method.calibrated),
        vgg_weights=text_of(superres.vgg_weights),
        max_train_minutes=superres.max_train_minutes,
        seed=settings.resources.random_seed,
        device=settings.resources.device,
        precision=superres.precision,
        force=superres.force,
        sloppy=settings.run.sloppy,
    )


def _series_plan(settings: Settings, subject: Subject, run: BoldRun, series: Sequence[str]) -> SeriesPlan:
    """Which series are made of a run."""
    superres, names = settings.superres, tuple(name for name in series if name != "raw")
    here = series_names(superres.volume_trained)
    if run.pair is None:  # a model that was given needs none
        here += series_names([name for name in superres.pair_trained if pretrained_for(superres, name) is not None])
    models = tuple(name for name in names if name in (*series_names(superres.pair_trained), *here))
    on_run = tuple(name for name in names if name in series_names(superres.run_trained))
    controls = tuple(name for name in on_run if name not in series_names(superres.learned))
    seeded = tuple(name for name in (*models, *on_run) if method_of_series(name).draws)
    own = tuple(name for name in on_run if name not in controls)
    with_anat = bool(subject.t1w)
    return SeriesPlan(
        names=names,
        models=models,
        on_run=on_run,
        controls=controls,
        on_volumes=tuple(name for name in models if name in here),
        guided=tuple(name for name in names if name in PAIR_BASELINES),
        extras=(*_members(settings, seeded), *_placebos(settings, run, (*models, *own), with_anat)),
        guide_kind=guide_of(superres, run),
        training=_training(settings),
        data_consistency=settings.superres.data_consistency,
        precision=settings.superres.precision,
        device=settings.resources.device,
    )


def _members(settings: Settings, methods: Sequence[str]) -> tuple[Extra, ...]:
    """The further members of each method's ensemble; the method itself is the first."""
    count = settings.superres.n_ensemble
    superres = settings.superres
    given = series_names(name for name in superres.learned if pretrained_for(superres, name) is not None)
    trained = (method for method in methods if method not in given)
    return tuple(
        Extra(name=member_name(method, seed), method=method, seed=seed)
        for method in trained
        for seed in range(1, count)
    )


def _placebos(settings: Settings, run: BoldRun, methods: Sequence[str], with_anat: bool) -> tuple[Extra, ...]:
    """The placebos that can be made of a run, where they were asked for."""
    if not settings.evaluation.null_checks:
        return ()
    found = []
    store, factor = settings.paths.output_dir / "sourcedata" / "models", factor_of(run, settings)
    suffixes = {method: [each.suffix for each in method_of_series(method).placebos] for method in methods}
    for method in methods:
        shipped = HERE / "models" / f"{method}_phantom.safetensors"
        if "Phantom" in suffixes[method] and shipped.exists():
            found.append(Extra(name=series_name(method, "Phantom"), method=method, model=str(shipped)))
        if "Other" in suffixes[method]:
            others = other_models(store, method, run.entities["subject"], factor=factor, zooms=run.zooms)
            found += [Extra(name=series_name(method, "Other"), method=method, model=str(other)) for other in others[:1]]
    if with_anat:
        found += [
            Extra(name=series_name(method, "T1w"), method=method, contrast=True)
            for method in methods
            if "T1w" in suffixes[method]
        ]
    found += [
        Extra(name=series_name(method, how), method=method, displace=how.lower())
        for method in methods
        for how in ("Mirror", "Shift")
        if how in suffixes[method]
    ]
    return tuple(found)


def _target(settings: Settings, run: BoldRun, made_by: Mapping[str, str], *, with_anat: bool) -> Target:
    """Where the results of a run go and what they are called."""
    left_out = ("suffix", "extension", "datatype")
    files = [path for path, _ in run.echoes] or [run.bold]
    return Target(
        output_dir=str(settings.paths.output_dir),
        common={**{k: v for k, v in run.entities.items() if k not in left_out}, "datatype": "func"},
        sources=(*(_uri(settings, path) for path in files), *(found.uris if (found := _precomputed_run(run)) else ())),
        task_name=str(run.sidecar.get("TaskName", run.entities.get("task", ""))),
        dtype=settings.preprocessing.output_dtype,
        spaces=settings.preprocessing.output_spaces if with_anat else (),
        provenance={**made_by, "MappedBy": "seeds" if run.events is None else "events"},
    )


def _acquisition(settings: Settings, run: BoldRun) -> Acquisition:
    """How a run was acquired."""
    dummies = settings.preprocessing.dummy_scans
    return Acquisition(
        tr=run.tr,
        factor=factor_of(run, settings),
        voxel=run.zooms,
        phase_encoding=str(run.sidecar.get("PhaseEncodingDirection", "")),
        n_dummy=run.precomputed.n_dummy if dummies is None and run.precomputed is not None else dummies,
        precomputed=_precomputed_run(run),
        calibration=node_names.calibration_plan(run.calibration, settings.paths.bids_dir, dummies),
        slice_times=run.slice_timing if _timed(settings) else None,
        slice_time_ref=settings.preprocessing.slice_time_ref, axis_order=run.axis_order,
    )  # fmt: skip


def _timed(settings: Settings) -> bool:
    return "slicetiming" not in settings.preprocessing.ignore


def _activation(settings: Settings, contrasts: Mapping[str, Mapping[str, float]], *, at_rest: bool) -> ActivationPlan:
    """What is mapped, and how."""
    wanted = settings.activation
    return ActivationPlan(
        contrasts=contrasts, kinds=wanted.kinds, smoothing=wanted.smoothing, low_pass=wanted.low_pass,
        high_pass=wanted.high_pass, thresholds=wanted.thresholds, at_rest=at_rest,
    )  # fmt: skip


def _evaluation(
    settings: Settings, run: BoldRun, contrasts: Mapping[str, Mapping[str, float]], *, split: bool
) -> EvaluationPlan:
    """How the maps of a run are judged; `split`: whether it has blocks enough for two halves."""
    truth, wanted = run.truth, settings.activation
    pair, widths = plan_claim(
        contrasts if run.events is not None else {}, run.zooms, factor_of(run, settings),
        smoothing=wanted.smoothing, kinds=wanted.kinds,
        thresholds=wanted.thresholds,
    )  # fmt: skip
    given: dict[str, Any] = {}
    if truth is not None:
        timed = _timed(settings) and run.slice_timing is not None
        given = {
            "truth_file": "" if truth.bold is None else str(truth.bold),
            "truth_slice_times": truth.slice_timing if timed else None,
            "truth_axis_order": truth.axis_order,
            "truth_maps": {name: str(path) for name, path in truth.activations.items()},
        }
    return EvaluationPlan(
        null_checks=settings.evaluation.null_checks,
        roi_grow=settings.evaluation.roi_grow and run.events is not None,
        pair_conditions=pair,
        attribution_widths=widths,
        split=split,
        margin=settings.evaluation.margin,
        **given,
    )


def _subject_facts(
    settings: Settings, subject: Subject, series_of: Callable[[BoldRun], Sequence[str]], notices: Sequence[str]
) -> dict[str, Any]:
    """What was found and what will be done, for the first section of the report."""
    sessions = sorted({run.entities["session"] for run in subject.runs if "session" in run.entities})
    return {
        "Participant": subject.label,
        **({"Sessions": sessions} if sessions else {}),
        "Runs": [run.stem for run in subject.runs],
        "T1w image": subject.t1w[0].name if subject.t1w else "none: the whole brain stands for the motor area",
        "T2* pair": sorted({pair_words(run.pair) for run in subject.runs}),
        "High-resolution reference": sorted({str(run.truth.root) for run in subject.runs if run.truth}) or "none",
        **taken_over(given := subject.precomputed, given.files(_template(settings, subject)) if given else {}),
        "Series": list(dict.fromkeys(name for run in subject.runs for name in series_of(run))),
        "Smoothing (mm FWHM)": ", ".join(f"{width:g}" for width in settings.activation.smoothing),
        "Region of interest": _roi(settings, subject),
        "Training recipe": settings.superres.recipe if settings.superres.learned else "none",
        "Random seed": settings.resources.random_seed,
        "notices": list(notices),
    }


def _run_facts(settings: Settings, run: BoldRun) -> dict[str, Any]:
    """What was acquired, for the first lines of a run in the report."""
    acquisition = _acquisition(settings, run)
    timing = "corrected" if acquisition.slice_times is not None else "not corrected"
    return {
        "Run": run.stem,
        "Volumes": run.n_volumes,
        "Repetition time (s)": run.tr,
        "Matrix": " × ".join(map(str, run.shape)),
        "Voxel (mm)": run.voxel.removesuffix(" mm"),
        "Slice timing": timing,
        "Super-resolution factor": " × ".join(f"{f:g}" for f in acquisition.factor),
        "Pair": pair_words(run.pair),
        "Calibration": node_names.calibration_words(run.calibration),
        **taken_over(run.precomputed, {} if run.precomputed is None else run.precomputed.files),
    }
