"""One participant: anatomy once, each pair once, then every run, and the figures of all of them."""

from collections.abc import Mapping

from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

from bids_sr.interfaces.evaluation.split_halves import MergeEvaluation
from bids_sr.workflows.anat_preproc import init_anat_wf
from bids_sr.workflows.bold.bold_run import init_func_wf
from bids_sr.workflows.bold.register import init_pair_wf
from bids_sr.workflows.bold.score_holdout import init_holdout_wf
from bids_sr.workflows.bold.train_models import PAIR, init_train_wf
from bids_sr.workflows.evaluation.evaluation_parts import MAPS
from bids_sr.workflows.plans import PairPlan, RunPlan, SubjectPlan
from bids_sr.workflows.reportlets.run_evaluation import (
    init_calibration_reportlets_wf,
    init_evaluation_reportlets_wf,
    init_overview_reportlets_wf,
    init_variance_reportlets_wf,
)
from bids_sr.workflows.reportlets.subject_reportlets import (
    init_anat_reportlets_wf,
    init_maps_reportlets_wf,
    init_pair_reportlets_wf,
    init_run_reportlets_wf,
    init_summary_wf,
    init_training_reportlets_wf,
)
from bids_sr.workflows.sinks import anat_fields, keep_fields, keep_figures, keep_model, pair_fields
from bids_sr.workflows.wiring import Source, fields_of, joined, passed, same

SHOWN_ANAT = ("t1w_preproc", "t1w_mask", "t1w_tpms")
PAIR_TO_TRAINING = {"train_highres": "highres", "train_lowres": "lowres", "pair_mask": "mask"}
Models = Mapping[str, LiterateWorkflow]


def init_subject_wf(*, subject: SubjectPlan, name: str) -> LiterateWorkflow:
    """Build the graph of one participant.

    Parameters
    ----------
    subject : what there is and what is to be done
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
        known = {
            "bold_file": run.bold_file, "events_file": run.events_file, "truth_file": run.evaluation.truth_file,
            "highres": highres.get(run.pair),
        }  # fmt: skip
        pair_wf, models = pairs.get(run.pair, (None, {}))
        for field in fields_of(func_wf):
            if field in known:
                setattr(func_wf.inputs.inputnode, field, known[field])
            elif field == "holdout_tsv":
                workflow.connect([(scores[run.pair], func_wf, [("out_file", "inputnode.holdout_tsv")])])
            elif field.startswith("model_"):
                workflow.connect([(models[field.removeprefix("model_")], func_wf, passed(model_file=field))])
            else:
                of_pair = pair_wf is not None and field in fields_of(pair_wf, "outputnode")
                workflow.connect([(pair_wf if of_pair else anat_wf, func_wf, passed(field))])
        _run_reportlets(run, len(subject.runs), highres.get(run.pair, ""), workflow, func_wf, anat_wf)
    summary_wf = init_summary_wf(summary=subject.facts)
    _keep_figures(subject, workflow, summary_wf, "keep_summary")
    return workflow


def _keep_figures(
    subject: SubjectPlan, workflow: LiterateWorkflow, drawn_by: LiterateWorkflow, name: str,
    common: Mapping[str, str] | None = None,
) -> None:  # fmt: skip
    common = common or {"subject": subject.label}
    keep_figures(workflow, drawn_by, name=name, output_dir=subject.output_dir, common=common)


def _holdout(subject: SubjectPlan, pair: PairPlan, train_wfs: Models, workflow: LiterateWorkflow) -> pe.Node:
    """Scores of the models of one pair on another, all methods in one table."""
    assert pair.holdout is not None
    pair_wf = _registered(subject, pair.holdout, f"holdout_{pair.number}_wf")
    rows: list[Source] = []
    for method in subject.methods:
        score_wf = init_holdout_wf(
            method=method, factor=pair.holdout.factor, how=subject.training, omp_nthreads=subject.omp_nthreads,
            name=f"holdout_{method}_{pair.number}_wf",
        )  # fmt: skip
        workflow.connect([
            (train_wfs[method], score_wf, passed("model_file")),
            (pair_wf, score_wf, passed(**PAIR_TO_TRAINING)),
        ])  # fmt: skip
        rows.append((score_wf, "outputnode.out_file"))
    table = pe.Node(MergeEvaluation(), name=f"holdout_table_{pair.number}")
    workflow.connect([(joined(workflow, f"holdout_rows_{pair.number}", rows), table, same(out="in_files"))])
    return table


def _anat(subject: SubjectPlan, workflow: LiterateWorkflow) -> LiterateWorkflow:
    """The anatomical stage of a participant, its derivatives and its figures."""
    precomputed, how = subject.precomputed, subject.training
    anat_wf = init_anat_wf(
        template=subject.template, roi=subject.roi, seed=how.seed, sloppy=how.sloppy, precomputed=precomputed
    )
    anat_wf.inputs.inputnode.t1w = subject.t1w if precomputed is None else precomputed.files["t1w_preproc"]
    keep_fields(
        workflow, anat_wf, name="keep_anat_wf", fields=anat_fields(template=subject.template),
        output_dir=subject.output_dir, common=subject.t1w_common,
        sources=[subject.t1w_source] if precomputed is None else precomputed.uris,
    )  # fmt: skip
    figures_wf = init_anat_reportlets_wf()
    workflow.connect([(anat_wf, figures_wf, passed(*fields_of(figures_wf)))])
    _keep_figures(subject, workflow, figures_wf, "keep_anat_figures")
    return anat_wf


def _pair(
    subject: SubjectPlan, pair: PairPlan, workflow: LiterateWorkflow
) -> tuple[LiterateWorkflow, dict[str, LiterateWorkflow]]:
    """One T2*-weighted pair: its register, a model of each method and of each member, derivatives and figures."""
    number, how = pair.number, subject.training
    pair_wf = _registered(subject, pair, f"pair_{number}_wf")
    keep_fields(
        workflow, pair_wf, name=f"keep_pair_{number}_wf", sources=pair.sources, output_dir=subject.output_dir,
        fields=pair_fields(high=pair.high, low=pair.low, tag=pair.tag), common={**pair.common, "datatype": "anat"},
        axis_order=pair.orders[1],
    )  # fmt: skip
    train_wfs = {}
    for method in subject.methods:
        own = ((one.name, one.seed) for one in subject.members if one.method == method)
        for name, seed in ((method, 0), *own):
            train_wfs[name] = init_train_wf(
                series=method, learned=PAIR, how=how, factor=pair.factor, seed=seed, omp_nthreads=subject.omp_nthreads,
                name=f"train_{name}_{number}_wf",
            )  # fmt: skip
            workflow.connect([(pair_wf, train_wfs[name], passed(**PAIR_TO_TRAINING))])
        keep_model(
            workflow, train_wfs[method], name=f"keep_{method}_{number}_wf", method=method,
            output_dir=subject.output_dir, common=pair.common,
        )  # fmt: skip
    _pair_reportlets(subject, pair, pair_wf, {method: train_wfs[method] for method in subject.methods}, workflow)
    return pair_wf, train_wfs


def _registered(subject: SubjectPlan, pair: PairPlan, name: str) -> LiterateWorkflow:
    """The members of a pair in one frame."""
    pair_wf = init_pair_wf(
        factor=pair.factor, truncate=not pair.lowres, seed=subject.training.seed, orders=pair.orders, name=name
    )
    pair_wf.inputs.inputnode.highres = pair.highres
    if pair.lowres:
        pair_wf.inputs.inputnode.lowres = pair.lowres
    return pair_wf


def _pair_reportlets(
    subject: SubjectPlan, pair: PairPlan, pair_wf: LiterateWorkflow, train_wfs: Models, workflow: LiterateWorkflow
) -> None:
    """Figures of a pair, and of the training of each method on it."""
    for place, method in enumerate(train_wfs or ("",)):
        label = f"{method}_{pair.number}" if method else str(pair.number)
        name, named = f"pair_figures_{label}_wf", method if len(train_wfs) > 1 else ""
        if place == 0:
            figures_wf = init_pair_reportlets_wf(with_model=bool(method), method=named, name=name)
            figures_wf.inputs.inputnode.highres = pair.highres
            workflow.connect([(pair_wf, figures_wf, passed("train_highres", "train_lowres", "pair_mask", "pair_json"))])
        else:  # the pair itself is drawn once
            figures_wf = init_training_reportlets_wf(method=named, of_run=False, name=name)
        if method:
            workflow.connect([(train_wfs[method], figures_wf, passed("log_file", "card_file"))])
        _keep_figures(subject, workflow, figures_wf, f"keep_pair_figures_{label}", pair.common)


def _run_reportlets(
    run: RunPlan, n_runs: int, highres: str, workflow: LiterateWorkflow, func_wf: LiterateWorkflow,
    anat_wf: LiterateWorkflow | None,
) -> None:  # fmt: skip
    """Figures and tables of one run of `n_runs`: those of its motion and registration apart from those of its maps."""
    name, plan = run.name, run.series
    run_wf = init_run_reportlets_wf(run=run, name=f"{name}_run_figures_wf")
    drawn = [
        run_wf,
        init_maps_reportlets_wf(run=run, n_runs=n_runs, name=f"{name}_maps_figures_wf"),
        init_evaluation_reportlets_wf(run=run, name=f"{name}_evaluation_figures_wf"),
        init_overview_reportlets_wf(run=run, name=f"{name}_overview_figures_wf"),
    ]
    if plan.on_run:
        drawn.append(init_variance_reportlets_wf(with_guide=run.with_pair, name=f"{name}_variance_figures_wf"))
        if run.calibrated:
            drawn.append(init_calibration_reportlets_wf(name=f"{name}_calibration_figures_wf"))
    for method in plan.on_volumes:
        drawn.append(
            init_training_reportlets_wf(method=method, of_run=True, name=f"{name}_training_{method}_figures_wf")
        )
    common = {key: label for key, label in run.target.common.items() if key != "datatype"}
    for figures_wf in drawn:
        fields = fields_of(figures_wf)
        source = {"mask_hr": "bold_mask_hr"} | {f: f"guard_{f}" for f in MAPS if "consistency_files" in fields}
        if "log_file" in fields:
            source |= {f: f"{f}_{figures_wf.get_node('course').inputs.method}" for f in ("log_file", "card_file")}
        shown = [field for field in fields if field not in (*SHOWN_ANAT, "highres")]
        workflow.connect([
            (func_wf, figures_wf, [(f"outputnode.{source.get(f, f)}", f"inputnode.{f}") for f in shown]),
        ])  # fmt: skip
        keep_figures(
            workflow, figures_wf, name=f"keep_{figures_wf.name}", output_dir=run.target.output_dir, common=common
        )
    if run.with_pair:
        run_wf.inputs.inputnode.highres = highres
    if anat_wf is not None:
        workflow.connect([(anat_wf, run_wf, passed(*SHOWN_ANAT))])
