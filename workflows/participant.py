"""One participant: anatomy once, each pair once, then every run, and the figures of all of them."""

from collections.abc import Mapping

from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

from bids_sr.interfaces.steps import MergeEvaluation
from bids_sr.workflows import drawings
from bids_sr.workflows.anat_preproc import init_anat_wf
from bids_sr.workflows.bold.bold_run import init_func_wf
from bids_sr.workflows.bold.register import init_pair_wf
from bids_sr.workflows.bold.train_models import PAIR, init_holdout_wf, init_train_wf
from bids_sr.workflows.drawings import Drawings, init_reportlets_wf
from bids_sr.workflows.plans import PairPlan, RunPlan, Store, SubjectPlan
from bids_sr.workflows.sinks import anat_fields, keep_fields, keep_figures, keep_model, pair_fields
from bids_sr.workflows.wiring import Source, fields_of, joined, passed, same

SHOWN_ANAT = ("t1w_preproc", "t1w_mask", "t1w_tpms", "std2t1w_xfm")
PAIR_TO_TRAINING = {"train_highres": "highres", "train_lowres": "lowres", "pair_mask": "mask"}
Models = Mapping[str, LiterateWorkflow]


def init_subject_wf(*, subject: SubjectPlan, name: str) -> LiterateWorkflow:
    """Build the graph of one participant."""
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
    _drawn(subject, workflow, "summary", drawings.summary(subject.facts))
    return workflow


def _drawn(
    subject: SubjectPlan, workflow: LiterateWorkflow, name: str, shown: Drawings,
    common: Mapping[str, str] | None = None,
) -> LiterateWorkflow:  # fmt: skip
    """Draw and keep something of the participant; its inputs are to be connected."""
    figures_wf = init_reportlets_wf(drawings=shown, name=f"{name}_figures_wf")
    common = common or {"subject": subject.label}
    keep_figures(workflow, figures_wf, output_dir=subject.output_dir, common=common)
    return figures_wf


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
    sources = (subject.t1w_source,) if precomputed is None else precomputed.uris
    store = Store(output_dir=subject.output_dir, common=subject.t1w_common, sources=sources)
    keep_fields(workflow, anat_wf, store, name="keep_anat", fields=anat_fields(template=subject.template))
    figures_wf = _drawn(subject, workflow, "anat", drawings.anatomy())
    workflow.connect([(anat_wf, figures_wf, passed(*fields_of(figures_wf)))])
    return anat_wf


def _pair(
    subject: SubjectPlan, pair: PairPlan, workflow: LiterateWorkflow
) -> tuple[LiterateWorkflow, dict[str, LiterateWorkflow]]:
    """One T2*-weighted pair: its register, a model of each method and of each member, derivatives and figures."""
    number, how = pair.number, subject.training
    pair_wf = _registered(subject, pair, f"pair_{number}_wf")
    store = Store(
        output_dir=subject.output_dir, common={**pair.common, "datatype": "anat"}, sources=pair.sources,
        axis_order=pair.orders[1],
    )  # fmt: skip
    fields = pair_fields(high=pair.high, low=pair.low, tag=pair.tag)
    keep_fields(workflow, pair_wf, store, name=f"keep_pair_{number}", fields=fields)
    train_wfs, models = {}, Store(output_dir=subject.output_dir, common=pair.common)
    for method in subject.methods:
        own = ((one.name, one.seed) for one in subject.members if one.method == method)
        for name, seed in ((method, 0), *own):
            train_wfs[name] = init_train_wf(
                series=method, learned=PAIR, how=how, factor=pair.factor, seed=seed, omp_nthreads=subject.omp_nthreads,
                name=f"train_{name}_{number}_wf",
            )  # fmt: skip
            workflow.connect([(pair_wf, train_wfs[name], passed(**PAIR_TO_TRAINING))])
        keep_model(workflow, train_wfs[method], models, name=f"keep_{method}_{number}_wf", method=method)
        shown = drawings.training(method if len(subject.methods) > 1 else "")
        figures_wf = _drawn(subject, workflow, f"training_{method}_{number}", shown, pair.common)
        workflow.connect([(train_wfs[method], figures_wf, passed("log_file", "card_file"))])
    figures_wf = _drawn(subject, workflow, f"pair_{number}", drawings.pair(), pair.common)
    figures_wf.inputs.inputnode.highres = pair.highres
    workflow.connect([(pair_wf, figures_wf, passed("train_highres", "train_lowres", "pair_mask", "pair_json"))])
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


def _run_reportlets(
    run: RunPlan, n_runs: int, highres: str, workflow: LiterateWorkflow, func_wf: LiterateWorkflow,
    anat_wf: LiterateWorkflow | None,
) -> None:  # fmt: skip
    """Figures and tables of one run of `n_runs`: those of its motion and registration apart from those of its maps."""
    shown = {
        "run": drawings.motion_and_registration(run), "maps": drawings.maps(run, n_runs),
        "evaluation": drawings.evaluation(run), "overview": drawings.overview(run),
    }  # fmt: skip
    if run.series.on_run:
        shown["variance"] = drawings.variance(run)
        if run.calibrated:
            shown["calibration"] = drawings.calibration()
    shown |= {f"training_{method}": drawings.training(method, of_run=True) for method in run.series.on_volumes}
    common = {key: label for key, label in run.target.common.items() if key != "datatype"}
    for name, drawn in shown.items():
        figures_wf = init_reportlets_wf(drawings=drawn, name=f"{run.name}_{name}_figures_wf")
        method = name.removeprefix("training_") if name.startswith("training_") else ""
        for field in fields_of(figures_wf):
            if field == "highres":
                figures_wf.inputs.inputnode.highres = highres
            elif field in SHOWN_ANAT:
                workflow.connect([(anat_wf, figures_wf, passed(field))])
            else:
                source = f"{field}_{method}" if method else field
                workflow.connect([(func_wf, figures_wf, passed(**{source: field}))])
        keep_figures(workflow, figures_wf, output_dir=run.target.output_dir, common=common)
