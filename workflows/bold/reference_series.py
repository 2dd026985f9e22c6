"""The measured high-resolution run, brought through the steps of the run under test."""

from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

from bids_sr.interfaces.head_motion import ImportSeries, SliceTiming
from bids_sr.interfaces.learning.pair_training import SuperResolve
from bids_sr.workflows.plans import RunPlan
from bids_sr.workflows.wiring import new_stage, same


def init_truth_wf(*, run: RunPlan, name: str = "truth_wf") -> LiterateWorkflow:
    """Bring the measured run through slice timing and the head motion of the run under test.

    Nothing is estimated from the measured volumes, so that they stay a reference: transforms, brain mask and model are
    those of the run under test.

    Parameters
    ----------
    run : the run under test

    Inputs
    ------
    truth_file : measured high-resolution series, as acquired
    n_dummy : volumes left out at the start, only with slice times of the measured run
    hmc_xfms : ITK text, one transform a volume, of the run under test
    shift_map : distortion of its volumes, only where that is known
    reference : image on the high-resolution grid of the boldref; its grid is taken

    Outputs
    -------
    series_file : on that grid, head motion undone by one interpolation, signal units
    consistency_file : one row a volume; n/a, as nothing was acquired beneath it
    """
    times = run.evaluation.truth_slice_times
    own = ["hmc_xfms", "shift_map"] if run.acquisition.corrected else ["hmc_xfms"]
    inputs = ["truth_file", "reference", *own]
    if times is not None:
        inputs.append("n_dummy")
    workflow, inputnode, outputnode = new_stage(
        name,
        "The measured high-resolution series went through the same slice timing correction, head motion transforms, "
        "single interpolation, mask and model as the series under test; nothing was estimated from it.\n",
        inputs=inputs, outputs=["series_file", "consistency_file"],
    )  # fmt: skip
    read = pe.Node(ImportSeries(axis_order=run.evaluation.truth_axis_order), name="read")
    resample = pe.Node(SuperResolve(series="raw", factor=(1.0, 1.0, 1.0), data_consistency="off", threads=1),
                       name="resample")  # fmt: skip
    workflow.connect([
        (inputnode, read, same(truth_file="in_file")),
        (inputnode, resample, [("reference", "boldref"), ("reference", "mask"), *same(*own)]),
        (resample, outputnode, same("consistency_file", out_file="series_file")),
    ])  # fmt: skip
    if times is None:
        workflow.connect([(read, resample, same(out_file="in_file"))])
    else:
        timing = pe.Node(SliceTiming(slice_times=list(times), ref_fraction=run.acquisition.slice_time_ref),
                         name="slicetiming")  # fmt: skip
        workflow.connect([
            (inputnode, timing, same("n_dummy")),
            (read, timing, same(out_file="in_file")),
            (timing, resample, same(out_file="in_file")),
        ])  # fmt: skip
    return workflow
