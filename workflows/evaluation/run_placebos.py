"""Negative controls of a run: false activation without signal, a training pair of another contrast."""

from __future__ import annotations

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

from bids_sr.interfaces.evaluation.placebos import AnotherContrast, NullShuffles
from bids_sr.interfaces.evaluation.split_halves import MergeEvaluation


def init_null_wf(
    *,
    series: list[str],
    n_shuffles: int,
    tr: float,
    high_pass: float,
    slice_time_ref: float,
    has_stc: bool,
    seed: int,
    fwhm_mm: float = 0.0,
    max_voxels: int = 20_000,
    name: str = "null_wf",
) -> LiterateWorkflow:
    """How often the linear model finds activity in each series once its order in time is undone.

    Parameters
    ----------
    series : names, ``raw`` among them; it is tested on the acquired grid, all others on the high-resolution one
    n_shuffles : draws of phases and onsets
    tr : s
    high_pass : Hz, drift of the linear model
    slice_time_ref, has_stc : moment within a TR to which slice timing was corrected, and whether it was
    seed : of the draws; all series get the same
    fwhm_mm : smoothing (mm)
    max_voxels : tested at most; 0: all
    name : of the workflow

    Inputs
    ------
    series_files : in the order of ``series``
    bold_mask : brain on the acquired grid
    bold_mask_hr : brain on the high-resolution grid
    events_file : BIDS events
    confounds_tsv : one row a volume
    n_dummy : volumes at the start that are left out

    Outputs
    -------
    out_file : rows of the evaluation: null_rate, nominal, fwe, threshold, peak and active of each series
    """
    workflow = LiterateWorkflow(name=name)
    workflow.__desc__ = _null_text(n_shuffles) + "\n"
    fields = ["series_files", "bold_mask", "bold_mask_hr", "events_file", "confounds_tsv", "n_dummy"]
    inputnode = pe.Node(niu.IdentityInterface(fields=fields), name="inputnode")
    outputnode = pe.Node(niu.IdentityInterface(fields=["out_file"]), name="outputnode")
    gather = pe.Node(niu.Merge(len(series)), name="gather", n_procs=1, run_without_submitting=True)
    merge = pe.Node(MergeEvaluation(), name="merge", n_procs=1)
    for number, one in enumerate(series):
        null = pe.Node(
            NullShuffles(
                series=one, n_shuffles=n_shuffles, tr=tr, high_pass=high_pass, slice_time_ref=slice_time_ref,
                has_stc=has_stc, seed=seed, fwhm_mm=fwhm_mm, max_voxels=max_voxels,
            ),
            name=f"null_{one}", n_procs=1,
        )  # fmt: skip
        workflow.connect([
            (inputnode, null, [(("series_files", _member, number), "in_file"), ("events_file", "events_file"),
                               ("confounds_tsv", "confounds_tsv"), ("n_dummy", "n_dummy"),
                               ("bold_mask" if one == "raw" else "bold_mask_hr", "mask")]),
            (null, gather, [("out_file", f"in{number + 1}")]),
        ])  # fmt: skip
    workflow.connect([
        (gather, merge, [("out", "in_files")]),
        (merge, outputnode, [("out_file", "out_file")]),
    ])  # fmt: skip
    return workflow


def _member(files: list[str], number: int) -> str:
    return files[number]


def _null_text(n_shuffles: int) -> str:
    return (
        "The rate of false activity was measured in each series: task, drift and confounds were removed, the phases of "
        "what was left were randomized alike in all voxels, onsets were drawn at random, and the same linear model was "
        f"fitted ({n_shuffles} times); rates are means over these shuffles. The largest z of all voxels in each "
        "sets a threshold that runs without signal pass in 5 % [maximum statistic, @nichols2002]."
    )


def init_other_contrast_wf(*, factor: tuple[float, float, float], name: str = "other_contrast_wf") -> LiterateWorkflow:
    """A training pair made of the subject's T1w, for a model that has seen another contrast.

    Parameters
    ----------
    factor : acquired voxel over wanted voxel along each axis
    name : of the workflow

    Inputs
    ------
    t1w_preproc : T1w without bias
    boldref : reference of the run
    boldref2t1w_xfm : takes a T1w point to its boldref point

    Outputs
    -------
    highres : T1w on the run's high-resolution grid
    lowres : its k-space-truncated copy on the run's grid, where the run's brain mask lies
    """
    workflow = LiterateWorkflow(name=name)
    workflow.__desc__ = (
        "As a placebo, a network was also trained on the T1w image and its k-space-truncated copy, at the same "
        "resolutions.\n"
    )
    inputnode = pe.Node(niu.IdentityInterface(fields=["t1w_preproc", "boldref", "boldref2t1w_xfm"]), name="inputnode")
    outputnode = pe.Node(niu.IdentityInterface(fields=["highres", "lowres"]), name="outputnode")
    contrast = pe.Node(AnotherContrast(factor=tuple(float(f) for f in factor)), name="contrast", n_procs=1)
    workflow.connect([
        (inputnode, contrast, [("t1w_preproc", "in_file"), ("boldref", "reference"),
                               ("boldref2t1w_xfm", "reference2image_xfm")]),
        (contrast, outputnode, [("highres", "highres"), ("lowres", "lowres")]),
    ])  # fmt: skip
    return workflow
