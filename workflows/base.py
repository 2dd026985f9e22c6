"""The whole graph: settings and inputs go in here, and only here; everything below gets plain values."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from niworkflows.engine.workflows import LiterateWorkflow

from bids_sr.config import PAIR_BASELINES, Settings
from bids_sr.inputs import BoldRun, Pair, Subject, entities_of, factor_of
from bids_sr.workflows.anatomical import init_anat_wf
from bids_sr.workflows.functional import ANAT_FIELDS, init_func_wf
from bids_sr.workflows.maps import Edges
from bids_sr.workflows.outputs import anat_fields, init_sink, init_sink_wf, model_fields, pair_fields
from bids_sr.workflows.plans import Acquisition, ActivationPlan, SeriesPlan, Target
from bids_sr.workflows.registration import init_pair_wf
from bids_sr.workflows.reportlets import (
    init_anat_reportlets_wf,
    init_maps_reportlets_wf,
    init_pair_reportlets_wf,
    init_run_reportlets_wf,
    init_summary_wf,
)
from bids_sr.workflows.superres import init_train_wf

BUNDLED_SPACE = "MNI152NLin2009aSym"
SHOWN_ANAT = ("t1w_preproc", "t1w_mask", "t1w_tpms")
OPENING = """\
Results included in this manuscript come from *bids-sr* {version} (based on *Nipype* [@nipype]). \
Every series, the acquired one, plain interpolations of it and super-resolved ones, went through the same analysis, \
so that what super-resolution adds can be told from what interpolation and smoothing do.
"""

Contrasts = Mapping[Path, Mapping[str, Mapping[str, float]]]


def init_bids_sr_wf(
    *,
    settings: Settings,
    subjects: Sequence[Subject],
    contrasts: Contrasts,
    series_of: Callable[[BoldRun], Sequence[str]],
    notices: Sequence[str],
    version: str,
) -> LiterateWorkflow:
    """Build the graph of all participants.

    Parameters
    ----------
    settings : resolved settings of the call
    subjects : what was found in the data set
    contrasts : BOLD file to name to weights of trial types
    series_of : names of the series of a run, ``raw`` first
    notices : what is done otherwise than the user may expect, for the reports
    version : of the program
    """
    workflow = LiterateWorkflow(name="bids_sr_wf", base_dir=str(settings.paths.work_dir))
    workflow.__desc__ = OPENING.format(version=version)
    for subject in subjects:
        workflow.add_nodes([init_subject_wf(settings, subject, contrasts, series_of, notices)])
    return workflow


def methods_text(workflow: LiterateWorkflow) -> str:
    """The methods text of a graph, each sentence or paragraph once however many runs there are."""
    seen: dict[str, None] = {}
    for paragraph in re.split(r"\n\s*\n|(?<=[.])\n", workflow.visit_desc()):
        text = " ".join(paragraph.split())
        if text:
            seen.setdefault(text)
    return "\n\n".join(seen) + "\n"


def init_subject_wf(
    settings: Settings,
    subject: Subject,
    contrasts: Contrasts,
    series_of: Callable[[BoldRun], Sequence[str]],
    notices: Sequence[str],
) -> LiterateWorkflow:
    """One participant: anatomy once, each pair once, then every run."""
    workflow = LiterateWorkflow(name=f"sub_{subject.label}_wf")
    anat_wf = _anat(settings, subject, workflow) if subject.t1w else None
    learned = settings.superres.learned
    pairs = {pair: _pair(settings, subject, pair, k, learned, workflow) for k, pair in enumerate(subject.pairs, 1)}
    for run in subject.runs:
        plan = _series_plan(settings, series_of(run))
        func_wf = init_func_wf(
            target=_target(settings, run, with_anat=anat_wf is not None),
            acquisition=_acquisition(settings, run),
            plan=plan,
            activation=_activation(settings, contrasts[run.bold]),
            with_anat=anat_wf is not None,
            with_pair=run.pair is not None,
            force=settings.superres.force,
            omp_nthreads=_threads(settings),
            seed=settings.resources.random_seed,
            name=f"{_identifier(run.stem)}_wf",
        )
        func_wf.inputs.inputnode.bold_file = str(run.bold)
        func_wf.inputs.inputnode.events_file = str(run.events)
        edges: Edges = []
        if anat_wf is not None:
            std = ("t1w2std_xfm", "template") if settings.preprocessing.output_spaces else ()
            edges.append((anat_wf, func_wf, [(f"outputnode.{f}", f"inputnode.{f}") for f in (*ANAT_FIELDS, *std)]))
        if run.pair is not None:
            pair_wf, train_wfs = pairs[run.pair]
            func_wf.inputs.inputnode.highres = str(run.pair.highres)
            edges.append(
                (pair_wf, func_wf, [
                    ("outputnode.highres2lowres_xfm", "inputnode.highres2lowres_xfm"),
                ])
            )  # fmt: skip
            for method in plan.models:
                edges.append((train_wfs[method], func_wf, [("outputnode.model_file", f"inputnode.model_{method}")]))
        workflow.connect(edges)
        _run_reportlets(settings, run, plan, workflow, func_wf, anat_wf)
    _summary(settings, subject, series_of, notices, workflow)
    return workflow


def _threads(settings: Settings) -> int:
    return settings.resources.omp_nthreads or 1


def _identifier(text: str) -> str:
    """A name that nipype takes for a node."""
    return re.sub(r"\W", "_", text)


def _uri(settings: Settings, path: Path) -> str:
    """BIDS URI of a file of the data set."""
    return f"bids:raw:{path.relative_to(settings.paths.bids_dir).as_posix()}"


def _named(path: Path, *names: str) -> dict[str, str]:
    """Those of the entities in a file name."""
    return {name: label for name, label in entities_of(path).items() if name in names}


def _anat(settings: Settings, subject: Subject, workflow: LiterateWorkflow) -> LiterateWorkflow:
    """The anatomical stage of a participant, its derivatives and its figures."""
    spaces = settings.preprocessing.output_spaces
    template, roi = spaces[0] if spaces else BUNDLED_SPACE, settings.activation.roi
    anat_wf = init_anat_wf(
        template=template, roi=roi, omp_nthreads=_threads(settings), seed=settings.resources.random_seed,
        sloppy=settings.run.sloppy,
    )  # fmt: skip
    anat_wf.inputs.inputnode.t1w = str(subject.t1w[0])
    common = {"subject": subject.label, "datatype": "anat", **_named(subject.t1w[0], "session")}
    sources = [_uri(settings, subject.t1w[0])]
    out, fields = str(settings.paths.output_dir), anat_fields(template=template)
    keep_wf = init_sink_wf(fields=fields, output_dir=out, common=common, sources=sources, name="keep_anat_wf")
    figures_wf = init_anat_reportlets_wf()
    keep = init_sink(name="keep_anat_figures", output_dir=out, common={"subject": subject.label})
    shown = ("t1w_preproc", "t1w_mask", "t1w_tpms", "roi_t1w", "std_t1w", "template", "template_mask")
    workflow.connect([
        (anat_wf, keep_wf, [(f"outputnode.{field}", f"inputnode.{field}") for field in fields]),
        (anat_wf, figures_wf, [(f"outputnode.{field}", f"inputnode.{field}") for field in shown]),
        (figures_wf, keep, [("outputnode.reportlets", "in_file"), ("outputnode.entities", "entities")]),
    ])  # fmt: skip
    return anat_wf


def _pair(
    settings: Settings,
    subject: Subject,
    pair: Pair,
    number: int,
    learned: Sequence[str],
    workflow: LiterateWorkflow,
) -> tuple[LiterateWorkflow, dict[str, LiterateWorkflow]]:
    """One T2*-weighted pair: its register, a model of each method, derivatives and figures."""
    threads, seed, out = _threads(settings), settings.resources.random_seed, str(settings.paths.output_dir)
    superres = settings.superres
    pair_wf = init_pair_wf(
        factor=pair.factor, truncate=pair.truncated, omp_nthreads=threads, seed=seed, name=f"pair_{number}_wf"
    )
    pair_wf.inputs.inputnode.highres = str(pair.highres)
    if pair.lowres is not None:
        pair_wf.inputs.inputnode.lowres = str(pair.lowres)
    place = _named(pair.highres, "session", "run")
    twins = [each for each in subject.pairs if _named(each.highres, "session", "run") == place]
    tag = f"pair{number}" if len(twins) > 1 else ""  # one image may serve runs of two resolutions: two models
    common = {"subject": subject.label, **place, **({"acquisition": tag} if tag else {})}
    sources = [_uri(settings, path) for path in (pair.highres, pair.lowres) if path is not None]
    fields = pair_fields(
        high=_named(pair.highres, "acquisition"), low=_named(pair.lowres or pair.highres, "acquisition"), tag=tag
    )
    keep_wf = init_sink_wf(
        fields=fields,
        output_dir=out,
        common={**common, "datatype": "anat"},
        sources=sources,
        name=f"keep_pair_{number}_wf",
    )
    edges: Edges = [(pair_wf, keep_wf, [(f"outputnode.{field}", f"inputnode.{field}") for field in fields])]
    train_wfs = {}
    for method in learned:
        train_wf = train_wfs[method] = init_train_wf(
            method=method, recipe=superres.recipe, factor=pair.factor, model_source=superres.model_source,
            model_dir=_text(superres.models_to_reuse(settings.paths.output_dir)), pretrained=_text(superres.pretrained),
            seed=seed, omp_nthreads=threads, max_train_minutes=superres.max_train_minutes,
            device=settings.resources.device, precision=superres.precision, force=superres.force,
            sloppy=settings.run.sloppy, vgg_weights=_text(superres.vgg_weights), name=f"train_{method}_{number}_wf",
        )  # fmt: skip
        models = model_fields(method=method)
        keep_model_wf = init_sink_wf(
            fields=models, output_dir=out, common={**common, "datatype": "models"}, name=f"keep_{method}_{number}_wf"
        )
        edges += [
            (pair_wf, train_wf, [
                ("outputnode.train_highres", "inputnode.highres"), ("outputnode.train_lowres", "inputnode.lowres"),
                ("outputnode.pair_mask", "inputnode.mask"),
            ]),
            (train_wf, keep_model_wf, [(f"outputnode.{field}", f"inputnode.{field}") for field in models]),
        ]  # fmt: skip
    workflow.connect(edges)
    _pair_reportlets(out, common, pair, pair_wf, train_wfs, number, workflow)
    return pair_wf, train_wfs


def _pair_reportlets(
    output_dir: str,
    common: Mapping[str, str],
    pair: Pair,
    pair_wf: LiterateWorkflow,
    train_wfs: Mapping[str, LiterateWorkflow],
    number: int,
    workflow: LiterateWorkflow,
) -> None:
    """Figures of a pair, and of the training of each method on it."""
    for method in train_wfs or ("",):
        label = f"{method}_{number}" if method else str(number)
        figures_wf = init_pair_reportlets_wf(
            with_model=bool(method), method=method if len(train_wfs) > 1 else "", name=f"pair_figures_{label}_wf"
        )
        figures_wf.inputs.inputnode.highres = str(pair.highres)
        keep = init_sink(name=f"keep_pair_figures_{label}", output_dir=output_dir, common=common)
        shown = ("train_highres", "train_lowres", "pair_mask", "pair_json")
        edges: Edges = [
            (pair_wf, figures_wf, [(f"outputnode.{field}", f"inputnode.{field}") for field in shown]),
            (figures_wf, keep, [("outputnode.reportlets", "in_file"), ("outputnode.entities", "entities")]),
        ]
        if method:
            trained = [(f"outputnode.{field}", f"inputnode.{field}") for field in ("log_file", "card_file")]
            edges.append((train_wfs[method], figures_wf, trained))
        workflow.connect(edges)


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _series_plan(settings: Settings, series: Sequence[str]) -> SeriesPlan:
    names = tuple(name for name in series if name != "raw")
    return SeriesPlan(
        names=names,
        models=tuple(name for name in names if name in settings.superres.learned),
        guided=tuple(name for name in names if name in PAIR_BASELINES),
        data_consistency=settings.superres.data_consistency,
        precision=settings.superres.precision,
        device=settings.resources.device,
    )


def _target(settings: Settings, run: BoldRun, *, with_anat: bool) -> Target:
    left_out = ("suffix", "extension", "datatype")
    return Target(
        output_dir=str(settings.paths.output_dir),
        common={**{k: v for k, v in run.entities.items() if k not in left_out}, "datatype": "func"},
        sources=(_uri(settings, run.bold),),
        task_name=str(run.sidecar.get("TaskName", run.entities.get("task", ""))),
        dtype=settings.preprocessing.output_dtype,
        spaces=settings.preprocessing.output_spaces if with_anat else (),
    )


def _acquisition(settings: Settings, run: BoldRun) -> Acquisition:
    timed = run.slice_timing is not None and "slicetiming" not in settings.preprocessing.ignore
    return Acquisition(
        tr=run.tr,
        mem_gb=float(np.prod(run.shape)) * run.n_volumes * 4e-9,
        factor=factor_of(run, settings),
        n_dummy=settings.preprocessing.dummy_scans,
        slice_times=run.slice_timing if timed else None,
        slice_time_ref=settings.preprocessing.slice_time_ref,
    )


def _activation(settings: Settings, contrasts: Mapping[str, Mapping[str, float]]) -> ActivationPlan:
    wanted = settings.activation
    return ActivationPlan(
        contrasts=contrasts,
        kinds=wanted.kinds,
        smoothing=wanted.smoothing,
        low_pass=wanted.low_pass,
        high_pass=wanted.high_pass,
        thresholds=wanted.thresholds,
    )


def _run_reportlets(
    settings: Settings,
    run: BoldRun,
    plan: SeriesPlan,
    workflow: LiterateWorkflow,
    func_wf: LiterateWorkflow,
    anat_wf: LiterateWorkflow | None,
) -> None:
    """Figures and tables of one run: those of its motion and registration apart from those of its maps."""
    with_anat, with_pair = anat_wf is not None, run.pair is not None
    name, target = _identifier(run.stem), _target(settings, run, with_anat=with_anat)
    common = {key: label for key, label in target.common.items() if key != "datatype"}
    run_wf = init_run_reportlets_wf(
        with_anat=with_anat, with_pair=with_pair, summary=_run_facts(settings, run), name=f"{name}_run_figures_wf"
    )
    maps_wf = init_maps_reportlets_wf(series=plan.names, with_pair=with_pair, name=f"{name}_maps_figures_wf")
    edges: Edges = []
    for figures_wf in (run_wf, maps_wf):
        fields = figures_wf.get_node("inputnode").inputs.copyable_trait_names()
        shown = [field for field in fields if field not in (*SHOWN_ANAT, "highres")]
        keep = init_sink(name=f"keep_{figures_wf.name}", output_dir=target.output_dir, common=common)
        edges += [
            (func_wf, figures_wf, [(f"outputnode.{field}", f"inputnode.{field}") for field in shown]),
            (figures_wf, keep, [("outputnode.reportlets", "in_file"), ("outputnode.entities", "entities")]),
        ]
    if run.pair is not None:
        run_wf.inputs.inputnode.highres = str(run.pair.highres)
    if anat_wf is not None:
        edges.append((anat_wf, run_wf, [(f"outputnode.{field}", f"inputnode.{field}") for field in SHOWN_ANAT]))
    workflow.connect(edges)


def _run_facts(settings: Settings, run: BoldRun) -> dict[str, Any]:
    """What was acquired, for the first lines of a run in the report."""
    acquisition = _acquisition(settings, run)
    timing = "corrected" if acquisition.slice_times is not None else "not corrected"
    return {
        "Run": run.stem,
        "Volumes": run.n_volumes,
        "Repetition time (s)": run.tr,
        "Matrix": " × ".join(map(str, run.shape)),
        "Voxel (mm)": " × ".join(f"{zoom:.3g}" for zoom in run.zooms),
        "Slice timing": timing,
        "Factor of super-resolution": " × ".join(f"{f:g}" for f in acquisition.factor),
        "Pair": _pair_words(run.pair),
    }


def _pair_words(pair: Pair | None) -> str:
    if pair is None:
        return "none: only interpolations that need no pair"
    if pair.lowres is None:
        return f"{pair.highres.name}; its low-resolution member is its own k-space-truncated copy"
    return f"{pair.highres.name} and {pair.lowres.name}"


def _summary(
    settings: Settings,
    subject: Subject,
    series_of: Callable[[BoldRun], Sequence[str]],
    notices: Sequence[str],
    workflow: LiterateWorkflow,
) -> None:
    """The first section of the report."""
    sessions = sorted({run.entities["session"] for run in subject.runs if "session" in run.entities})
    facts: dict[str, Any] = {
        "Participant": subject.label,
        **({"Sessions": sessions} if sessions else {}),
        "Runs": [run.stem for run in subject.runs],
        "T1w image": subject.t1w[0].name if subject.t1w else "none: the whole brain stands for the motor area",
        "T2* pair": sorted({_pair_words(run.pair) for run in subject.runs}),
        "Series": list(dict.fromkeys(name for run in subject.runs for name in series_of(run))),
        "Smoothing (mm FWHM)": ", ".join(f"{width:g}" for width in settings.activation.smoothing),
        "Region of interest": settings.activation.roi,
        "Recipe of training": settings.superres.recipe if settings.superres.learned else "none",
        "Random seed": settings.resources.random_seed,
        "notices": [str(notice) for notice in notices if _concerns(str(notice), subject.label)],
    }
    summary_wf = init_summary_wf(summary=facts)
    keep = init_sink(name="keep_summary", output_dir=str(settings.paths.output_dir), common={"subject": subject.label})
    workflow.connect([(summary_wf, keep, [("outputnode.reportlets", "in_file"), ("outputnode.entities", "entities")])])


def _concerns(notice: str, label: str) -> bool:
    """Whether a notice is about this participant or about all."""
    named = re.findall(r"sub-([0-9A-Za-z]+)", notice)
    return not named or label in named
