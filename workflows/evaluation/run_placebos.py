"""Negative controls of a run: false activation without signal, a training pair of another contrast."""

from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

from bids_sr.interfaces.evaluation.placebos import AnotherContrast, NullShuffles
from bids_sr.interfaces.evaluation.split_halves import MergeEvaluation
from bids_sr.workflows.input_plans import Factor
from bids_sr.workflows.plans import RunPlan
from bids_sr.workflows.wiring import Source, joined, new_stage, one_step, same


def member(files: list[str], number: int) -> str:
    """One of a list; runs between two nodes."""
    return files[number]


def init_null_wf(*, run: RunPlan, name: str = "null_wf") -> LiterateWorkflow:
    """How often the linear model finds activity in each series once its order in time is undone.

    Parameters
    ----------
    run : ``raw`` is tested on the acquired grid, the series of its plan on the high-resolution one; all get the same
        draws of phases and onsets

    Inputs
    ------
    series_files : ``raw``, then those stored; more are passed over
    bold_mask : brain on the acquired grid
    bold_mask_hr : brain on the high-resolution grid
    events_file : BIDS events
    confounds_tsv : one row a volume
    n_dummy : volumes at the start that are left out

    Outputs
    -------
    out_file : rows of the evaluation: null_rate, nominal, fwe, threshold, peak and active of each series
    """
    model = ("events_file", "confounds_tsv", "n_dummy")
    workflow, inputnode, outputnode = new_stage(
        name, _null_text(run.evaluation.null_checks) + "\n",
        inputs=["series_files", "bold_mask", "bold_mask_hr", *model], outputs=["out_file"],
    )  # fmt: skip
    tables: list[Source] = []
    for number, series in enumerate(("raw", *run.series.names)):
        null = pe.Node(
            NullShuffles(
                series=series, n_shuffles=run.evaluation.null_checks, high_pass=run.activation.high_pass,
                seed=run.seed, **run.acquisition.timing,
            ),
            name=f"null_{series}",
        )  # fmt: skip
        mask = "bold_mask" if series == "raw" else "bold_mask_hr"
        own = [(("series_files", member, number), "in_file"), (mask, "mask"), *same(*model)]
        workflow.connect([(inputnode, null, own)])
        tables.append((null, "out_file"))
    merge = pe.Node(MergeEvaluation(), name="merge")
    workflow.connect([
        (joined(workflow, "gather", tables), merge, same(out="in_files")),
        (merge, outputnode, same("out_file")),
    ])  # fmt: skip
    return workflow


def _null_text(n_shuffles: int) -> str:
    return (
        "The rate of false activity was measured in each series: task, drift and confounds were removed, the phases of "
        "what was left were randomized alike in all voxels, onsets were drawn at random, and the same linear model was "
        f"fitted ({n_shuffles} times); rates are means over these shuffles. The largest z of all voxels in each "
        "sets a threshold that runs without signal pass in 5 % [maximum statistic, @nichols2002]."
    )


def init_other_contrast_wf(*, factor: Factor, name: str = "other_contrast_wf") -> LiterateWorkflow:
    """A training pair made of the subject's T1w, for a model that has seen another contrast.

    Parameters
    ----------
    factor : acquired voxel over wanted voxel along each axis

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
    text = (
        "As a placebo, a network was also trained on the T1w image and its k-space-truncated copy, at the same "
        "resolutions.\n"
    )
    return one_step(
        name, text, pe.Node(AnotherContrast(factor=factor), name="contrast"), outputs=same("highres", "lowres"),
        inputs=same(t1w_preproc="in_file", boldref="reference", boldref2t1w_xfm="reference2image_xfm"),
    )  # fmt: skip
