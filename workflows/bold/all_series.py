"""The series of one run: motion, registration, and raw, every baseline and method, and the measured run on one grid."""

from typing import Any

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

from bids_sr.workflows.bold.calibrate import calibrate, use_calibration
from bids_sr.workflows.bold.estimate_variance import init_variance_wf
from bids_sr.workflows.bold.hmc_workflow import init_confounds_wf, init_motion_wf
from bids_sr.workflows.bold.reference_series import init_truth_wf
from bids_sr.workflows.bold.register import init_bold_registration_wf
from bids_sr.workflows.bold.series_maps import Edges
from bids_sr.workflows.bold.super_resolve import init_series_wf
from bids_sr.workflows.bold.take_precomputed import init_given_confounds_wf, init_given_motion_wf
from bids_sr.workflows.bold.train_on_volumes import init_volumes_train_wf, volumes_values
from bids_sr.workflows.evaluation.control_quality import init_precision_wf
from bids_sr.workflows.sinks import init_sink_wf, model_fields
from bids_sr.workflows.stages import ANAT_FIELDS, PAIR_FIELDS, RunParts, Stages


def prepare(run: RunParts, inputnode: pe.Node, outputnode: pe.Node) -> tuple[Stages, Edges]:
    """Motion, registration and confounds."""
    acquisition = run.acquisition
    given = {} if acquisition.given is None else acquisition.given.files
    motion_wf = _motion(run)
    registration_wf = init_bold_registration_wf(
        with_anat=run.with_anat, with_pair=run.with_pair, factor=acquisition.factor, omp_nthreads=run.omp_nthreads,
        seed=run.seed, given=tuple(given),
        origin="" if acquisition.given is None else acquisition.given.origin,
    )  # fmt: skip
    confounds_wf = _confounds(run)
    for name, field in (("bold_mask", "given_mask"), ("boldref2t1w_xfm", "given_xfm")):
        if name in given and (run.with_anat or name == "bold_mask"):
            setattr(registration_wf.inputs.inputnode, field, given[name])
    into = (*ANAT_FIELDS * run.with_anat, *PAIR_FIELDS[:2] * run.with_pair)
    out = ("bold_mask", "bold_mask_hr", "registration_json", *run.registered)
    stages = Stages(inputnode=inputnode, motion=motion_wf, registration=registration_wf, confounds=confounds_wf)
    edges: Edges = [
        (inputnode, motion_wf, [("bold_file", "inputnode.bold_file")]),
        (inputnode, registration_wf, [(field, f"inputnode.{field}") for field in into]),
        (motion_wf, registration_wf, [("outputnode.boldref", "inputnode.boldref")]),
        (motion_wf, confounds_wf, [("outputnode.n_dummy", "inputnode.n_dummy")]),
        (motion_wf, outputnode, [(f"outputnode.{f}", f) for f in ("boldref", "n_dummy")]),
        (registration_wf, outputnode, [(f"outputnode.{f}", f) for f in out]),
        (confounds_wf, outputnode, [("outputnode.confounds_tsv", "confounds_tsv")]),
    ]  # fmt: skip
    if "confounds_tsv" not in given:
        tissues = ("bold_mask", *("tpms_bold",) * run.with_anat)
        edges += [
            (motion_wf, confounds_wf, [("outputnode.motion_tsv", "inputnode.motion_tsv")]),
            (registration_wf, confounds_wf, [(f"outputnode.{f}", f"inputnode.{f}") for f in tissues]),
        ]
    if run.plan.guide_kind == "highres":
        stages.guide = ((inputnode, "highres"), (registration_wf, "outputnode.highres2boldref_xfm"))
    return stages, edges


def _motion(run: RunParts) -> LiterateWorkflow:
    """Head motion, estimated here or given."""
    acquisition, given = run.acquisition, run.acquisition.given
    timed: dict[str, Any] = {
        "n_dummy": acquisition.n_dummy,
        "slice_times": None if acquisition.slice_times is None else list(acquisition.slice_times),
        "slice_time_ref": acquisition.slice_time_ref,
    }  # fmt: skip
    if given is None:
        return init_motion_wf(omp_nthreads=run.omp_nthreads, **timed)
    motion_wf = init_given_motion_wf(
        origin=given.origin, phase_encoding=acquisition.phase_encoding if run.plan.corrected else None,
        readout=given.readout, **timed,
    )  # fmt: skip
    for name in ("hmc_xfms", *("fieldmap", "boldref2fmap_xfm") * run.plan.corrected):
        setattr(motion_wf.inputs.inputnode, name, given.files[name])
    return motion_wf


def _confounds(run: RunParts) -> LiterateWorkflow:
    """Confounds, gathered here or given."""
    given = run.acquisition.given
    if given is None or "confounds_tsv" not in given.files:
        return init_confounds_wf()
    confounds_wf = init_given_confounds_wf(origin=given.origin)
    confounds_wf.inputs.inputnode.confounds_file = given.files["confounds_tsv"]
    return confounds_wf


def make_series(run: RunParts, stages: Stages, outputnode: pe.Node) -> Edges:
    """Raw, every baseline and method, and the measured series."""
    edges: Edges = calibrate(run, stages, outputnode)
    for series in run.plan.every:
        edges += _one_series(run, stages, series)
    raw, names = stages.series["raw"], run.plan.names
    given = run.acquisition.given
    if given is None or "confounds_tsv" not in given.files:
        edges.append((raw, stages.confounds, [("outputnode.series_file", "inputnode.preproc_file")]))
    edges += [
        (raw, outputnode, [("outputnode.series_file", "preproc_file")]),
    ]
    if run.evaluation.measured:
        truth_wf = stages.series["measured"] = init_truth_wf(
            slice_times=run.evaluation.truth_slice_times, slice_time_ref=run.acquisition.slice_time_ref,
            omp_nthreads=run.omp_nthreads, corrected=run.plan.corrected,
        )  # fmt: skip
        shifted = ("shift_map",) * run.plan.corrected
        timed = ("n_dummy",) * (run.evaluation.truth_slice_times is not None)
        edges += [
            (stages.inputnode, truth_wf, [("truth_file", "inputnode.truth_file")]),
            (stages.motion, truth_wf, [(f"outputnode.{f}", f"inputnode.{f}") for f in ("hmc_xfms", *shifted, *timed)]),
            (stages.registration, truth_wf, [("outputnode.bold_mask_hr", "inputnode.reference")]),
        ]
    finer = pe.Node(niu.Merge(len(run.mapped) - 1), name="all_series", run_without_submitting=True)
    lost = pe.Node(niu.Merge(len(names)), name="all_consistency", run_without_submitting=True)
    stages.merged["series"] = finer
    return [
        *edges,
        *[(stages.series[s], finer, [("outputnode.series_file", f"in{k}")]) for k, s in enumerate(run.mapped[1:], 1)],
        *[(stages.series[s], lost, [("outputnode.consistency_file", f"in{k}")]) for k, s in enumerate(names, 1)],
        (finer, outputnode, [("out", "series_files")]),
        (lost, outputnode, [("out", "consistency_files")]),
        *[(wf, outputnode, [("outputnode.weight_file", "weight_file")]) for wf in list(stages.models.values())[-1:]],
        *[
            (wf, outputnode, [(f"outputnode.{f}", f"{f}_{name}") for f in ("log_file", "card_file")])
            for name, wf in stages.trained.items()
        ],
    ]


def _one_series(run: RunParts, stages: Stages, series: str) -> Edges:
    """One series, with the training that it needs."""
    plan, on_run = run.plan, series in run.plan.on_run
    guided = series in plan.guided or (on_run and run.guide)
    series_wf = stages.series[series] = init_series_wf(
        series=series, factor=run.acquisition.factor, needs_model=series in plan.trained, needs_guide=guided,
        data_consistency=plan.data_consistency, precision=plan.precision, device=plan.device,
        omp_nthreads=run.omp_nthreads, force=plan.training.force,
        of_run=on_run, needs_precision=series in plan.checked,
        corrected=plan.corrected,
        name=f"series_{series}_wf",
    )  # fmt: skip
    motion = ("stc_file", "boldref", "hmc_xfms", *("shift_map",) * plan.corrected)
    edges: Edges = [
        (stages.motion, series_wf, [(f"outputnode.{field}", f"inputnode.{field}") for field in motion]),
        (stages.registration, series_wf, [("outputnode.bold_mask", "inputnode.bold_mask")]),
    ]
    if series in plan.models:
        if series in plan.on_volumes:
            edges += _training_on_volumes(run, stages, series)
        source, field = run.model(stages, series)
        edges.append((source, series_wf, [(field, "inputnode.model_file")]))
    if series in plan.checked:
        edges += _precision(run, stages, series)
    if on_run:
        edges += _variance_of_run(run, stages, series)
        made = ("model_file", "temporal_file")
        edges.append((stages.models[series], series_wf, [(f"outputnode.{f}", f"inputnode.{f}") for f in made]))
    if on_run and stages.guide is not None:
        (image_node, image), (xfm_node, xfm) = stages.guide
        edges += [
            (image_node, series_wf, [(image, "inputnode.highres")]),
            (xfm_node, series_wf, [(xfm, "inputnode.highres2boldref_xfm")]),
        ]
    elif guided:
        edges += [
            (stages.inputnode, series_wf, [("highres", "inputnode.highres")]),
            (stages.registration, series_wf, [("outputnode.highres2boldref_xfm", "inputnode.highres2boldref_xfm")]),
        ]
    return edges


def _precision(run: RunParts, stages: Stages, series: str) -> Edges:
    """The precision of a network, chosen by what it does to t."""
    plan, acquisition = run.plan, run.acquisition
    precision_wf = stages.precision[series] = init_precision_wf(
        method=series, contrasts=run.activation.contrasts, factor=acquisition.factor, tr=acquisition.tr,
        high_pass=run.activation.high_pass, slice_time_ref=acquisition.slice_time_ref,
        has_stc=acquisition.slice_times is not None, precision=plan.precision, device=plan.device,
        force=plan.training.force, omp_nthreads=run.omp_nthreads, name=f"precision_{series}_wf",
    )  # fmt: skip
    motion, (source, model) = ("stc_file", "boldref", "n_dummy"), run.model(stages, series)
    return [
        (stages.inputnode, precision_wf, [("events_file", "inputnode.events_file")]),
        (source, precision_wf, [(model, "inputnode.model_file")]),
        (stages.motion, precision_wf, [(f"outputnode.{field}", f"inputnode.{field}") for field in motion]),
        (stages.registration, precision_wf, [("outputnode.bold_mask", "inputnode.bold_mask")]),
        (stages.confounds, precision_wf, [("outputnode.confounds_tsv", "inputnode.confounds_tsv")]),
        (precision_wf, stages.series[series], [("outputnode.precision", "inputnode.precision")]),
    ]  # fmt: skip


def _training_on_volumes(run: RunParts, stages: Stages, series: str) -> Edges:
    """A model of the run's own volumes, and its place in the derivatives."""
    train_wf = stages.trained[series] = init_volumes_train_wf(
        **volumes_values(run.plan.training, series), factor=run.acquisition.factor, omp_nthreads=run.omp_nthreads,
        name=f"train_{series}_wf",
    )  # fmt: skip
    kept = model_fields(method=series)
    keep_wf = init_sink_wf(
        fields=kept, output_dir=run.target.output_dir, common={**run.target.common, "datatype": "models"},
        name=f"keep_model_{series}_wf",
    )  # fmt: skip
    return [
        (stages.motion, train_wf, [(f"outputnode.{f}", f"inputnode.{f}") for f in ("stc_file", "n_dummy")]),
        (stages.registration, train_wf, [("outputnode.bold_mask", "inputnode.bold_mask")]),
        (train_wf, keep_wf, [(f"outputnode.{field}", f"inputnode.{field}") for field in kept]),
    ]


def _variance_of_run(run: RunParts, stages: Stages, method: str) -> Edges:
    """Variance maps of the run, and their place in the derivatives."""
    how, target = run.plan.training, run.target
    variance_wf = stages.models[method] = init_variance_wf(
        factor=run.acquisition.factor, recipe=how.recipe, seed=how.seed, model_source=how.model_source,
        model_dir=how.model_dir, pretrained=how.pretrained.get(method), omp_nthreads=run.omp_nthreads, force=how.force,
        sloppy=how.sloppy, method=how.method(method), with_calibration=stages.calibration is not None,
        text=how.text.get(method) or how.about.get(method, ""), calibrated=method in how.calibrated,
        control=method in run.plan.controls,
        name=f"variance_{method}_wf",
    )  # fmt: skip
    edges: Edges = [
        (stages.series["raw"], variance_wf, [("outputnode.series_file", "inputnode.in_file")]),
        (stages.motion, variance_wf, [(f"outputnode.{f}", f"inputnode.{f}") for f in ("n_dummy", "hmc_xfms")]),
        (stages.registration, variance_wf, [("outputnode.bold_mask", "inputnode.bold_mask")]),
    ]
    if method in run.plan.controls:
        return edges
    kept = model_fields(method=method)
    keep_wf = init_sink_wf(
        fields=kept, output_dir=target.output_dir, common={**target.common, "datatype": "models"},
        name=f"keep_model_{method}_wf",
    )  # fmt: skip
    return [
        *edges,
        *use_calibration(stages, variance_wf),
        (variance_wf, keep_wf, [(f"outputnode.{field}", f"inputnode.{field}") for field in kept]),
    ]
