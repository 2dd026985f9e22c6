"""Unsaved series, which are only evaluated: placebos of a method and further members of its ensemble."""

from collections.abc import Sequence
from dataclasses import replace

from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

from bids_sr.interfaces.evaluation.placebos import AnotherContrast
from bids_sr.workflows.bold.super_resolve import init_series_wf
from bids_sr.workflows.bold.train_models import CALIBRATION, FLUCTUATIONS, PAIR, RUN_VOLUMES, Learned, init_train_wf
from bids_sr.workflows.node_names import enumerated
from bids_sr.workflows.plans import Extra, Factor, RunPlan, Training
from bids_sr.workflows.wiring import Edges, Pairs, Part, fields_of, into, new_stage, one_step, out_of, passed, same


def init_extra_wf(*, extra: Extra, run: RunPlan, name: str) -> LiterateWorkflow:
    """Make one series for the evaluation alone.

    Inputs
    ------
    stc_file, boldref, bold_mask, hmc_xfms : of the run
    shift_map : distortion of its volumes, only where that is known
    preproc_file, n_dummy : motion-corrected series on the acquired grid, first volumes to leave out; only for members
        of an ensemble of a variance method (the latter also for networks trained on its volumes)
    calibration_sd, calibration_sd_low, calibration_xfm, calibration_json : of the calibration, where there is one; only
        for such members
    temporal_file : mean and components of the run, only for placebos of a variance method
    highres, highres2boldref_xfm : T2*-weighted image and what takes a boldref point to it; only for variance methods
        that add its static detail
    t1w_preproc, boldref2t1w_xfm : only where the T1w image takes the place of the pair
    model_file : of a member of an ensemble of a method trained on the pair, or the variance maps that are displaced

    Outputs
    -------
    series_file : on the boldref's high-resolution grid, signal units
    """
    on_run, how = extra.method in run.series.on_run, run.series.training
    series_wf = init_series_wf(series=extra.method, run=run, extra=extra)
    own = fields_of(series_wf)
    reads: list[tuple[LiterateWorkflow, Pairs]] = []
    edges: Edges = []
    given: tuple[str, ...] = ()  # to the series by others than the run
    if extra.model:
        series_wf.inputs.inputnode.model_file, given = extra.model, ("model_file",)
    elif on_run and extra.is_member:
        how = replace(how, model_source="auto", model_dir=None, pretrained={}, force=True, text={}, about={})
        train_wf = _trained(extra, run, FLUCTUATIONS, replace(how, calibrated=()), name="variance_wf")
        reads.append((train_wf, into("bold_mask", "n_dummy", "hmc_xfms", preproc_file="in_file")))
        if run.calibrated:
            reads.append((train_wf, into(*CALIBRATION)))
        given = ("model_file", "temporal_file")
    elif extra.contrast:  # a network of the pair's kind that has seen the T1w image in its place
        contrast_wf = init_other_contrast_wf(factor=run.acquisition.factor)
        how = replace(how, model_source="train", model_dir=None, pretrained={}, force=True)
        train_wf, given = _trained(extra, run, PAIR, how), ("model_file",)
        edges.append((contrast_wf, train_wf, passed("highres", "lowres")))
        reads += [(contrast_wf, into("boldref", "t1w_preproc", "boldref2t1w_xfm")), (train_wf, into(bold_mask="mask"))]
    elif extra.method in run.series.on_volumes:
        train_wf, given = _trained(extra, run, RUN_VOLUMES, how), ("model_file",)
        reads.append((train_wf, into("stc_file", "bold_mask", "n_dummy")))
    if given and not extra.model:
        edges.append((train_wf, series_wf, passed(*given)))
    reads.append((series_wf, into(*(field for field in own if field not in given))))
    fields = dict.fromkeys(field for _, pairs in reads for field, _ in pairs)
    workflow, inputnode, outputnode = new_stage(name, "", inputs=fields, outputs=["series_file"], part=Part.EVALUATION)
    for of_method in (series_wf, *(reader for reader, _ in reads)):
        of_method.__desc__ = ""  # is that of the method itself
    edges += [(inputnode, reader, pairs) for reader, pairs in reads]
    workflow.connect([*edges, (series_wf, outputnode, out_of("series_file"))])
    return workflow


def placebos_text(extras: Sequence[Extra]) -> str:
    """Methods text of the placebos among unsaved series."""
    changed = {"mirror": "its variance maps mirrored left to right", "shift": "its variance maps shifted"}
    repeated: dict[str, list[str]] = {}
    for extra in (each for each in extras if not each.is_member):
        how = changed.get(extra.displace) or (
            "a network trained on the T1-weighted image and its k-space-truncated copy instead of the pair"
            if extra.contrast else "a model that was not trained on this participant"
        )  # fmt: skip
        repeated.setdefault(extra.method, []).append(f"with {how}")
    listed = [f"{method} was repeated {enumerated(ways)}" for method, ways in repeated.items()]
    return f"As negative controls, {'; '.join(listed)}. " if listed else ""


def _trained(extra: Extra, run: RunPlan, learned: Learned, how: Training, name: str = "train_wf") -> LiterateWorkflow:
    return init_train_wf(
        series=extra.method, learned=learned, how=how, factor=run.acquisition.factor, seed=extra.seed,
        omp_nthreads=run.omp_nthreads, name=name,
        with_calibration=learned is FLUCTUATIONS and run.calibrated,
    )  # fmt: skip


def init_other_contrast_wf(*, factor: Factor, name: str = "other_contrast_wf") -> LiterateWorkflow:
    """A training pair made of the subject's T1w, for a model that has seen another contrast.

    Inputs
    ------
    t1w_preproc, boldref, boldref2t1w_xfm : T1w without bias, reference, takes a T1w point to its boldref point

    Outputs
    -------
    highres : T1w on the run's high-resolution grid
    lowres : its k-space-truncated copy on the run's grid, where the run's brain mask lies
    """
    return one_step(
        name, "", pe.Node(AnotherContrast(factor=factor), name="contrast"), outputs=same("highres", "lowres"),
        inputs=same(t1w_preproc="in_file", boldref="reference", boldref2t1w_xfm="reference2image_xfm"),
    )  # fmt: skip
