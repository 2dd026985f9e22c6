"""Series that are evaluated and not stored: placebos of a method, and other members of its ensemble."""

from __future__ import annotations

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

from bids_sr.workflows.bold.estimate_variance import CALIBRATION, init_variance_wf
from bids_sr.workflows.bold.series_maps import Edges
from bids_sr.workflows.bold.super_resolve import init_series_wf, init_train_wf
from bids_sr.workflows.bold.train_on_volumes import init_volumes_train_wf, volumes_values
from bids_sr.workflows.evaluation.run_placebos import init_other_contrast_wf
from bids_sr.workflows.plans import Acquisition, Extra, SeriesPlan, Training

GUIDE = ("highres", "highres2boldref_xfm")
SERIES_INPUTS = ("stc_file", "boldref", "bold_mask", "hmc_xfms")
RUN_INPUTS = ("preproc_file", "n_dummy")
CONTRAST_INPUTS = ("t1w_preproc", "boldref2t1w_xfm")


def extra_fields(extra: Extra, plan: SeriesPlan, *, calibrated: bool = False) -> tuple[str, ...]:
    """Inputs that an extra series needs; `calibrated`: whether there is a calibration."""
    series = (*SERIES_INPUTS, *("shift_map",) * plan.corrected)
    if extra.method in plan.on_run:
        guide = GUIDE * (plan.guide_kind != "none")
        if extra.is_member:
            return (*series, *guide, *RUN_INPUTS, *CALIBRATION * calibrated)
        return (*series, *guide, "temporal_file", *("model_file",) * (not extra.model))
    if extra.contrast:
        return (*series, *CONTRAST_INPUTS)
    if extra.method in plan.on_volumes and not extra.model:
        return (*series, "n_dummy")
    return series if extra.model else (*series, "model_file")


def init_extra_wf(
    *, extra: Extra, plan: SeriesPlan, acquisition: Acquisition, omp_nthreads: int, name: str
) -> LiterateWorkflow:
    """Make one series for the evaluation alone.

    Parameters
    ----------
    extra : which one
    plan : of the run's series
    acquisition : how the run was acquired
    omp_nthreads : threads that one node may take
    name : of the workflow

    Inputs
    ------
    stc_file, boldref, bold_mask, hmc_xfms
        of the run
    shift_map
        distortion of its volumes, only where that is known
    preproc_file, n_dummy
        motion-corrected series on the acquired grid, first volumes to leave out; only for members of an ensemble of a
        variance method (the latter also for networks trained on its volumes)
    calibration_sd, calibration_sd_low, calibration_xfm, calibration_json
        of the calibration, where there is one; only for such members
    temporal_file
        mean and components of the run, only for placebos of a variance method
    highres, highres2boldref_xfm
        T2*-weighted image and what takes a boldref point to it; only for variance methods that add its static detail
    t1w_preproc, boldref2t1w_xfm
        only where the T1w image takes the place of the pair
    model_file
        of a member of an ensemble of a method trained on the pair, or the variance maps that are displaced

    Outputs
    -------
    series_file : on the boldref's fine grid, signal units
    """
    workflow = LiterateWorkflow(name=name)
    inputnode = pe.Node(
        niu.IdentityInterface(fields=list(extra_fields(extra, plan, calibrated=acquisition.calibration is not None))),
        name="inputnode",
    )
    outputnode = pe.Node(niu.IdentityInterface(fields=["series_file"]), name="outputnode")
    on_run = extra.method in plan.on_run
    series_wf = init_series_wf(
        series=extra.method, factor=acquisition.factor, needs_model=True,
        needs_guide=on_run and plan.guide_kind != "none", data_consistency="off", precision=plan.precision,
        device=plan.device, omp_nthreads=omp_nthreads,
        force=True,  # a placebo need not fit: that is what makes it one
        of_run=on_run, displace=extra.displace, corrected=plan.corrected,
    )  # fmt: skip
    edges: Edges = [
        (
            inputnode,
            series_wf,
            [(field, f"inputnode.{field}") for field in (*SERIES_INPUTS, *("shift_map",) * plan.corrected)],
        ),
        (series_wf, outputnode, [("outputnode.series_file", "series_file")]),
    ]
    if on_run:
        edges += _by_variance(extra, plan, acquisition, omp_nthreads, inputnode, series_wf)
    elif extra.contrast:
        edges += _learned_on_t1w(extra, plan.training, acquisition, omp_nthreads, inputnode, series_wf)
    elif extra.model:
        series_wf.inputs.inputnode.model_file = extra.model
    elif extra.method in plan.on_volumes:
        train_wf = init_volumes_train_wf(
            **volumes_values(plan.training, extra.method, seed=extra.seed), factor=acquisition.factor,
            omp_nthreads=omp_nthreads, name="train_wf",
        )  # fmt: skip
        wanted = ("stc_file", "bold_mask", "n_dummy")
        edges += [
            (inputnode, train_wf, [(field, f"inputnode.{field}") for field in wanted]),
            (train_wf, series_wf, [("outputnode.model_file", "inputnode.model_file")]),
        ]
    else:
        edges.append((inputnode, series_wf, [("model_file", "inputnode.model_file")]))
    workflow.connect(edges)
    return workflow


def _by_variance(
    extra: Extra,
    plan: SeriesPlan,
    acquisition: Acquisition,
    omp_nthreads: int,
    inputnode: pe.Node,
    series_wf: LiterateWorkflow,
) -> Edges:
    """Variance maps of the run displaced, those of somebody else, or of the run by another seed."""
    how, made = plan.training, ("model_file", "temporal_file")
    edges: Edges = [(inputnode, series_wf, [(f, f"inputnode.{f}") for f in GUIDE])] * (plan.guide_kind != "none")
    if extra.model:
        series_wf.inputs.inputnode.model_file = extra.model
        return [*edges, (inputnode, series_wf, [("temporal_file", "inputnode.temporal_file")])]
    if not extra.is_member:
        return [*edges, (inputnode, series_wf, [(field, f"inputnode.{field}") for field in made])]
    calibration = CALIBRATION * (acquisition.calibration is not None)
    variance_wf = init_variance_wf(
        factor=acquisition.factor, recipe=how.recipe, seed=how.seed + extra.seed, model_source="auto",
        omp_nthreads=omp_nthreads, force=True, sloppy=how.sloppy, method=how.method(extra.method),
        with_calibration=acquisition.calibration is not None,
    )  # fmt: skip
    return [
        *edges,
        (inputnode, variance_wf, [
            ("preproc_file", "inputnode.in_file"),
            *[(field, f"inputnode.{field}") for field in ("bold_mask", "n_dummy", "hmc_xfms", *calibration)],
        ]),
        (variance_wf, series_wf, [(f"outputnode.{field}", f"inputnode.{field}") for field in made]),
    ]  # fmt: skip


def _learned_on_t1w(
    extra: Extra,
    how: Training,
    acquisition: Acquisition,
    omp_nthreads: int,
    inputnode: pe.Node,
    series_wf: LiterateWorkflow,
) -> Edges:
    """A network of the pair's kind that has seen the T1w image in its place."""
    contrast_wf = init_other_contrast_wf(factor=acquisition.factor)
    train_wf = init_train_wf(
        method=how.method(extra.method), recipe=how.recipe, factor=acquisition.factor, model_source="train",
        model_dir=None, about=how.about.get(extra.method, ""), text=how.text.get(extra.method, ""),
        pretrained=None, seed=how.seed, omp_nthreads=omp_nthreads, max_train_minutes=how.max_train_minutes,
        device=how.device, precision=how.precision, force=True, sloppy=how.sloppy, vgg_weights=how.vgg_weights,
        start=how.starts.get(extra.method),  # begun otherwise than the real one, it would differ by that too
    )  # fmt: skip
    return [
        (inputnode, contrast_wf, [(field, f"inputnode.{field}") for field in ("boldref", *CONTRAST_INPUTS)]),
        (inputnode, train_wf, [("bold_mask", "inputnode.mask")]),
        (contrast_wf, train_wf, [(f"outputnode.{f}", f"inputnode.{f}") for f in ("highres", "lowres")]),
        (train_wf, series_wf, [("outputnode.model_file", "inputnode.model_file")]),
    ]
