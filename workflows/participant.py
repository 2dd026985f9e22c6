"""One participant: anatomy once, each pair once, then every run, and the figures of all of them."""

from collections.abc import Mapping
from typing import Any

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

from bids_sr.interfaces.evaluation.split_halves import MergeEvaluation
from bids_sr.workflows.anat_preproc import init_anat_wf
from bids_sr.workflows.bold.all_series import ANAT_FIELDS
from bids_sr.workflows.bold.bold_run import init_func_wf
from bids_sr.workflows.bold.calibrate import init_calibration_reportlets_wf
from bids_sr.workflows.bold.register import init_pair_wf
from bids_sr.workflows.bold.score_holdout import init_holdout_wf
from bids_sr.workflows.bold.series_maps import Edges
from bids_sr.workflows.bold.super_resolve import init_train_wf
from bids_sr.workflows.bold.take_precomputed import init_given_anat_wf
from bids_sr.workflows.evaluation.evaluation_parts import MAPS
from bids_sr.workflows.node_names import into, passed
from bids_sr.workflows.plans import PairPlan, RunPlan, SubjectPlan
from bids_sr.workflows.reportlets.run_evaluation import init_evaluation_reportlets_wf, init_variance_reportlets_wf
from bids_sr.workflows.reportlets.subject_reportlets import (
    init_anat_reportlets_wf,
    init_maps_reportlets_wf,
    init_pair_reportlets_wf,
    init_run_reportlets_wf,
    init_summary_wf,
    init_training_reportlets_wf,
)
from bids_sr.workflows.sinks import anat_fields, init_sink, init_sink_wf, model_fields, pair_fields

SHOWN_ANAT = ("t1w_preproc", "t1w_mask", "t1w_tpms")
PAIR_TO_TRAINING = (
    ("outputnode.train_highres", "inputnode.highres"), ("outputnode.train_lowres", "inputnode.lowres"),
    ("outputnode.pair_mask", "inputnode.mask"),
)  # fmt: skip


def init_subject_wf(*, subject: SubjectPlan, name: str) -> LiterateWorkflow:
    """Build the graph of one participant.

    Parameters
    ----------
    subject : what there is and what is to be done
    name : of the workflow
    """
    workflow = LiterateWorkflow(name=name)
    anat_wf = _anat(subject, workflow) if subject.t1w else None
    pairs = {pair.number: _pair(subject, pair, workflow) for pair in subject.pairs}
    scores = {
        pair.number: _holdout(subject, pair, pairs[pair.number][1], workflow)
        for pair in subject.pairs
        if pair.holdout is not None and subject.methods
    }
    highres = {pair.number: pair.highres for pair in subject.pairs}
    for run in subject.runs:
        func_wf = init_func_wf(run=run, name=f"{run.name}_wf")
        func_wf.inputs.inputnode.bold_file = run.bold_file
        func_wf.inputs.inputnode.events_file = run.events_file
        if run.evaluation.measured:
            func_wf.inputs.inputnode.truth_file = run.evaluation.truth_file
        if anat_wf is not None:
            workflow.connect([(anat_wf, func_wf, passed(*ANAT_FIELDS))])
        if run.target.spaces:
            workflow.connect([(anat_wf, func_wf, passed("t1w2std_xfm", "template"))])
        if run.with_pair:
            func_wf.inputs.inputnode.highres = highres[run.pair]
            pair_wf, train_wfs = pairs[run.pair]
            shared = ("highres2lowres_xfm", "train_highres", "train_lowres", "pair_mask")
            workflow.connect(
                [
                    (pair_wf, func_wf, passed(*shared)),
                    *(
                        (train_wfs[each], func_wf, passed(model_file=f"model_{each}"))
                        for each in run.series.models_of_pair
                    ),
                ]
            )
        if run.with_holdout:
            workflow.connect([(scores[run.pair], func_wf, into(out_file="holdout_tsv"))])
        _run_reportlets(run, highres.get(run.pair, ""), workflow, func_wf, anat_wf)
    summary_wf = init_summary_wf(summary=subject.facts)
    keep = init_sink(name="keep_summary", output_dir=subject.output_dir, common={"subject": subject.label})
    workflow.connect([(summary_wf, keep, [("outputnode.reportlets", "in_file"), ("outputnode.entities", "entities")])])
    return workflow


def _holdout(
    subject: SubjectPlan, pair: PairPlan, train_wfs: Mapping[str, LiterateWorkflow], workflow: LiterateWorkflow
) -> pe.Node:
    """Scores of the models of one pair on another, all methods in one table."""
    assert pair.holdout is not None
    number, methods, how = pair.number, subject.methods, subject.training
    pair_wf = _registered(subject, pair.holdout, f"holdout_{number}_wf")
    rows = pe.Node(niu.Merge(len(methods)), name=f"holdout_rows_{number}", run_without_submitting=True)
    table = pe.Node(MergeEvaluation(), name=f"holdout_table_{number}", n_procs=1)
    edges: Edges = [(rows, table, [("out", "in_files")])]
    for place, method in enumerate(methods, 1):
        score_wf = init_holdout_wf(
            method=method, factor=pair.holdout.factor, device=how.device, precision=how.precision,
            omp_nthreads=subject.omp_nthreads, seed=how.seed, name=f"holdout_{method}_{number}_wf",
        )  # fmt: skip
        edges += [
            (train_wfs[method], score_wf, [("outputnode.model_file", "inputnode.model_file")]),
            (pair_wf, score_wf, list(PAIR_TO_TRAINING)),
            (score_wf, rows, [("outputnode.out_file", f"in{place}")]),
        ]
    workflow.connect(edges)
    return table


def _anat(subject: SubjectPlan, workflow: LiterateWorkflow) -> LiterateWorkflow:
    """The anatomical stage of a participant, its derivatives and its figures."""
    anat_wf = _prepared(subject)
    out, fields = subject.output_dir, anat_fields(template=subject.template)
    sources = [subject.t1w_source] if subject.given is None else subject.given.uris
    keep_wf = init_sink_wf(
        fields=fields, output_dir=out, common=subject.t1w_common, sources=sources, name="keep_anat_wf"
    )
    figures_wf = init_anat_reportlets_wf()
    keep = init_sink(name="keep_anat_figures", output_dir=out, common={"subject": subject.label})
    shown = ("t1w_preproc", "t1w_mask", "t1w_tpms", "roi_t1w", "std_t1w", "template", "template_mask")
    workflow.connect([
        (anat_wf, keep_wf, [(f"outputnode.{field}", f"inputnode.{field}") for field in fields]),
        (anat_wf, figures_wf, [(f"outputnode.{field}", f"inputnode.{field}") for field in shown]),
        (figures_wf, keep, [("outputnode.reportlets", "in_file"), ("outputnode.entities", "entities")]),
    ])  # fmt: skip
    return anat_wf


def _prepared(subject: SubjectPlan) -> LiterateWorkflow:
    """The anatomy, prepared here or given."""
    how: dict[str, Any] = {
        "template": subject.template, "roi": subject.roi, "seed": subject.training.seed,
        "sloppy": subject.training.sloppy,
    }  # fmt: skip
    if subject.given is None:
        anat_wf = init_anat_wf(omp_nthreads=subject.omp_nthreads, **how)
        anat_wf.inputs.inputnode.t1w = subject.t1w
        return anat_wf
    files, xfms = subject.given.files, ("t1w2std_xfm", "std2t1w_xfm")
    anat_wf = init_given_anat_wf(
        origin=subject.given.origin, with_tissues="gm" in files, with_labels="t1w_dseg" in files,
        with_transforms=xfms[0] in files, **how,
    )  # fmt: skip
    start = anat_wf.inputs.inputnode
    start.t1w, start.mask = files["t1w_preproc"], files["t1w_mask"]
    if "gm" in files:
        start.tpms = [files[tissue] for tissue in ("gm", "wm", "csf")]
    if "gm" in files and "t1w_dseg" in files:
        start.dseg = files["t1w_dseg"]
    for xfm in xfms:
        if xfm in files:
            setattr(start, xfm, files[xfm])
    return anat_wf


def _pair(
    subject: SubjectPlan, pair: PairPlan, workflow: LiterateWorkflow
) -> tuple[LiterateWorkflow, dict[str, LiterateWorkflow]]:
    """One T2*-weighted pair: its register, a model of each method and of each member, derivatives and figures."""
    out, number, common = subject.output_dir, pair.number, pair.common
    pair_wf = _registered(subject, pair, f"pair_{number}_wf")
    fields = pair_fields(high=pair.high, low=pair.low, tag=pair.tag)
    keep_wf = init_sink_wf(
        fields=fields,
        output_dir=out,
        common={**common, "datatype": "anat"},
        sources=pair.sources,
        name=f"keep_pair_{number}_wf",
    )
    edges: Edges = [(pair_wf, keep_wf, [(f"outputnode.{field}", f"inputnode.{field}") for field in fields])]
    train_wfs = {}
    for method in subject.methods:
        own = ((one.name, one.seed) for one in subject.members if one.method == method)
        for name, seed in ((method, 0), *own):
            train_wf = train_wfs[name] = _trained(subject, method, pair, seed, f"train_{name}_{number}_wf")
            edges.append((pair_wf, train_wf, list(PAIR_TO_TRAINING)))
        models = model_fields(method=method)
        keep_model_wf = init_sink_wf(
            fields=models, output_dir=out, common={**common, "datatype": "models"}, name=f"keep_{method}_{number}_wf"
        )
        edges.append(
            (train_wfs[method], keep_model_wf, [(f"outputnode.{field}", f"inputnode.{field}") for field in models])
        )
    workflow.connect(edges)
    shown = {method: train_wfs[method] for method in subject.methods}
    _pair_reportlets(subject, pair, pair_wf, shown, workflow)
    return pair_wf, train_wfs


def _registered(subject: SubjectPlan, pair: PairPlan, name: str) -> LiterateWorkflow:
    """The members of a pair in one frame."""
    pair_wf = init_pair_wf(
        factor=pair.factor, truncate=not pair.lowres, omp_nthreads=subject.omp_nthreads,
        seed=subject.training.seed, name=name,
    )  # fmt: skip
    pair_wf.inputs.inputnode.highres = pair.highres
    if pair.lowres:
        pair_wf.inputs.inputnode.lowres = pair.lowres
    return pair_wf


def _trained(subject: SubjectPlan, method: str, pair: PairPlan, seed: int, name: str) -> LiterateWorkflow:
    """A model of one method from one pair."""
    how = subject.training
    return init_train_wf(
        method=how.method(method), recipe=how.recipe, factor=pair.factor, model_source=how.model_source,
        model_dir=how.model_dir, about=how.about.get(method, ""), text=how.text.get(method, ""),
        pretrained=how.pretrained.get(method), seed=how.seed + seed, omp_nthreads=subject.omp_nthreads,
        max_train_minutes=how.max_train_minutes, device=how.device, precision=how.precision, force=how.force,
        sloppy=how.sloppy, vgg_weights=how.vgg_weights, start=how.starts.get(method), name=name,
    )  # fmt: skip


def _pair_reportlets(
    subject: SubjectPlan,
    pair: PairPlan,
    pair_wf: LiterateWorkflow,
    train_wfs: Mapping[str, LiterateWorkflow],
    workflow: LiterateWorkflow,
) -> None:
    """Figures of a pair, and of the training of each method on it."""
    several = len(train_wfs) > 1
    for number, method in enumerate(train_wfs or ("",)):
        label = f"{method}_{pair.number}" if method else str(pair.number)
        name, named = f"pair_figures_{label}_wf", method if several else ""
        if number == 0:
            figures_wf = init_pair_reportlets_wf(with_model=bool(method), method=named, name=name)
            figures_wf.inputs.inputnode.highres = pair.highres
        else:  # the pair itself is drawn once
            figures_wf = init_training_reportlets_wf(method=named, of_run=False, name=name)
        keep = init_sink(name=f"keep_pair_figures_{label}", output_dir=subject.output_dir, common=pair.common)
        edges: Edges = [(figures_wf, keep, [("outputnode.reportlets", "in_file"), ("outputnode.entities", "entities")])]
        if number == 0:
            shown = ("train_highres", "train_lowres", "pair_mask", "pair_json")
            edges.append((pair_wf, figures_wf, [(f"outputnode.{field}", f"inputnode.{field}") for field in shown]))
        if method:
            trained = [(f"outputnode.{field}", f"inputnode.{field}") for field in ("log_file", "card_file")]
            edges.append((train_wfs[method], figures_wf, trained))
        workflow.connect(edges)


def _run_reportlets(
    run: RunPlan,
    highres: str,
    workflow: LiterateWorkflow,
    func_wf: LiterateWorkflow,
    anat_wf: LiterateWorkflow | None,
) -> None:
    """Figures and tables of one run: those of its motion and registration apart from those of its maps."""
    with_anat, with_pair = anat_wf is not None, run.pair > 0
    name, target, plan, evaluation = run.name, run.target, run.series, run.evaluation
    common = {key: label for key, label in target.common.items() if key != "datatype"}
    run_wf = init_run_reportlets_wf(
        with_anat=with_anat, with_pair=with_pair, summary=run.facts, name=f"{name}_run_figures_wf"
    )
    drawn = [
        run_wf,
        init_maps_reportlets_wf(
            series=(*plan.names, *evaluation.measured), with_pair=with_pair, name=f"{name}_maps_figures_wf"
        ),
        init_evaluation_reportlets_wf(
            with_truth=bool(evaluation.truth_file or evaluation.truth_maps), with_guide=with_pair,
            with_maps=bool(run.guarded), with_halves=evaluation.split, series=plan.names,
            name=f"{name}_evaluation_figures_wf",
        ),
    ]  # fmt: skip
    if plan.on_run:
        drawn.append(init_variance_reportlets_wf(with_guide=with_pair, name=f"{name}_variance_figures_wf"))
        if run.calibrated:
            drawn.append(init_calibration_reportlets_wf(name=f"{name}_calibration_figures_wf"))
    for method in plan.on_volumes:
        drawn.append(
            init_training_reportlets_wf(method=method, of_run=True, name=f"{name}_training_{method}_figures_wf")
        )
    renamed = {"mask_hr": "bold_mask_hr"}
    edges: Edges = []
    for figures_wf in drawn:
        fields = figures_wf.get_node("inputnode").inputs.copyable_trait_names()
        shown = [field for field in fields if field not in (*SHOWN_ANAT, "highres")]
        keep = init_sink(name=f"keep_{figures_wf.name}", output_dir=target.output_dir, common=common)
        source = renamed | {f: f"guard_{f}" for f in MAPS if "flags_json" in fields}
        if "log_file" in fields:
            source |= {f: f"{f}_{figures_wf.get_node('course').inputs.method}" for f in ("log_file", "card_file")}
        edges += [
            (func_wf, figures_wf, [(f"outputnode.{source.get(f, f)}", f"inputnode.{f}") for f in shown]),
            (figures_wf, keep, [("outputnode.reportlets", "in_file"), ("outputnode.entities", "entities")]),
        ]
    if with_pair:
        run_wf.inputs.inputnode.highres = highres
    if anat_wf is not None:
        edges.append((anat_wf, run_wf, [(f"outputnode.{field}", f"inputnode.{field}") for field in SHOWN_ANAT]))
    workflow.connect(edges)
