"""Head motion, reference, slice timing and confounds of one BOLD run; nothing is interpolated in space here."""

from __future__ import annotations

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

from bids_sr.interfaces.head_motion import (
    BoldMask,
    Confounds,
    EstimateDummies,
    EstimateMotion,
    MakeBoldRef,
    SliceTiming,
)
from bids_sr.interfaces.series_images import ImportSeries
from bids_sr.workflows.bold.series_maps import Edges


def init_motion_wf(
    *,
    n_dummy: int | None,
    slice_times: list[float] | None,
    slice_time_ref: float,
    omp_nthreads: int,
    name: str = "motion_wf",
) -> LiterateWorkflow:
    """Estimate head motion on the acquired series; correct slice timing in time only.

    Parameters
    ----------
    n_dummy : volumes at the start that are not steady; None: detected
    slice_times : s after the start of a volume, one a slice as on disk; None: no slice-time correction
    slice_time_ref : time to which slices are brought, 0 (first slice) to 1 (last)
    omp_nthreads : threads that one node may take; these nodes take one
    name : of the workflow

    Inputs
    ------
    bold_file
        series as acquired

    Outputs
    -------
    n_dummy
        volumes at the start that are not steady
    boldref
        mean of realigned steady volumes, on the acquired grid
    bold_mask_init
        brain in boldref, from its own intensities
    hmc_xfms
        ITK text, one affine a volume, takes a boldref point to where it lies in that volume
    motion_tsv
        six motion parameters (mm, rad) a volume
    stc_file
        series on the acquired grid, slices brought to one time where slice times are given
    """
    workflow = LiterateWorkflow(name=name)
    workflow.__desc__ = _motion_sentences(n_dummy, slice_times, slice_time_ref)
    inputnode = pe.Node(niu.IdentityInterface(fields=["bold_file"]), name="inputnode")
    outputnode = pe.Node(
        niu.IdentityInterface(fields=["n_dummy", "boldref", "bold_mask_init", "hmc_xfms", "motion_tsv", "stc_file"]),
        name="outputnode",
    )
    imported = pe.Node(ImportSeries(), name="import_series", n_procs=1)
    dummies = pe.Node(EstimateDummies(), name="dummies", n_procs=1)
    if n_dummy is not None:
        dummies.inputs.n_dummy = n_dummy
    boldref = pe.Node(MakeBoldRef(), name="boldref", n_procs=1)
    mask = pe.Node(BoldMask(), name="bold_mask", n_procs=1)
    motion = pe.Node(EstimateMotion(), name="estimate_motion", n_procs=1)
    edges: Edges = [
        (inputnode, imported, [("bold_file", "in_file")]),
        *[(imported, node, [("out_file", "in_file")]) for node in (dummies, boldref, motion)],
        *[(dummies, node, [("n_dummy", "n_dummy")]) for node in (boldref, motion, outputnode)],
        (boldref, mask, [("out_file", "boldref")]),
        (boldref, motion, [("out_file", "boldref")]),
        (mask, motion, [("out_mask", "mask")]),
        (boldref, outputnode, [("out_file", "boldref")]),
        (mask, outputnode, [("out_mask", "bold_mask_init")]),
        (motion, outputnode, [("hmc_xfms", "hmc_xfms"), ("motion_tsv", "motion_tsv")]),
    ]
    edges += timing_edges(imported, dummies, outputnode, slice_times, slice_time_ref)
    workflow.connect(edges)
    return workflow


def timing_edges(
    imported: pe.Node, dummies: pe.Node, outputnode: pe.Node, slice_times: list[float] | None, slice_time_ref: float
) -> Edges:
    """What leads a series to `stc_file`, through slice timing where times are given."""
    if slice_times is None:
        return [(imported, outputnode, [("out_file", "stc_file")])]
    timing = pe.Node(SliceTiming(slice_times=slice_times, ref_fraction=slice_time_ref), name="slice_timing", n_procs=1)
    return [
        (imported, timing, [("out_file", "in_file")]),
        (dummies, timing, [("n_dummy", "n_dummy")]),
        (timing, outputnode, [("out_file", "stc_file")]),
    ]


def timing_sentence(slice_times: list[float] | None, slice_time_ref: float) -> str:
    """What `timing_edges` did, for the methods text."""
    if slice_times is None:
        return ""
    return (
        "Slices were brought to one time of acquisition, at "
        f"{slice_time_ref:g} of the way from the first to the last slice, by cubic spline interpolation in time. "
    )


def _motion_sentences(n_dummy: int | None, slice_times: list[float] | None, slice_time_ref: float) -> str:
    """What was done, for the methods text."""
    if n_dummy is None:
        dummies = "Volumes before the steady state were detected from the global signal"
    else:
        dummies = f"The first {n_dummy} volumes were taken as not in steady state"
    text = (
        f"{dummies} and left out of all estimates. The reference of the run is the mean of steady volumes after "
        "registration to one another. Rigid head motion of each volume against it was estimated by Gauss-Newton "
        "minimization of squared differences with the gradients of the reference [@bakermatthews2004], together with a "
        "gain and a quadratic intensity bias; volumes were not resampled at this stage. "
    )
    return text + timing_sentence(slice_times, slice_time_ref)


def init_confounds_wf(*, name: str = "confounds_wf") -> LiterateWorkflow:
    """Gather the confounds of one run.

    Parameters
    ----------
    name : of the workflow

    Inputs
    ------
    preproc_file
        motion-corrected series on the acquired grid
    bold_mask
        brain, on its grid
    tpms_bold
        gray matter, white matter, cerebrospinal fluid on its grid; left undefined without a T1w image
    motion_tsv
        six motion parameters a volume
    n_dummy
        volumes at the start that are not steady

    Outputs
    -------
    confounds_tsv
        one row a volume
    confounds_json
        description and unit of each column
    """
    workflow = LiterateWorkflow(name=name)
    workflow.__desc__ = (
        "Confounds are the six motion parameters with their backward differences, framewise displacement and DVARS "
        "[@power2012], DVARS standardized by its expectation [@nichols2017], the mean signals of brain, white matter "
        "and cerebrospinal fluid, and the first five components of anatomical CompCor [@behzadi2007]. "
    )
    inputnode = pe.Node(
        niu.IdentityInterface(fields=["preproc_file", "bold_mask", "tpms_bold", "motion_tsv", "n_dummy"]),
        name="inputnode",
    )
    outputnode = pe.Node(niu.IdentityInterface(fields=["confounds_tsv", "confounds_json"]), name="outputnode")
    confounds = pe.Node(Confounds(), name="confounds", n_procs=1)
    workflow.connect([
        (inputnode, confounds, [
            ("preproc_file", "in_file"), ("bold_mask", "mask"), ("tpms_bold", "tpms"),
            ("motion_tsv", "motion_tsv"), ("n_dummy", "n_dummy"),
        ]),
        (confounds, outputnode, [("out_file", "confounds_tsv"), ("out_json", "confounds_json")]),
    ])  # fmt: skip
    return workflow
