"""The measured high-resolution run, brought through the steps of the run under test."""

from __future__ import annotations

from collections.abc import Sequence

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

from bids_sr.interfaces.head_motion import SliceTiming
from bids_sr.interfaces.learning.pair_training import SuperResolve
from bids_sr.interfaces.series_images import ImportSeries


def init_truth_wf(
    *,
    slice_times: Sequence[float] | None,
    slice_time_ref: float,
    omp_nthreads: int,
    corrected: bool = False,
    name: str = "truth_wf",
) -> LiterateWorkflow:
    """Bring the measured run through slice timing and the head motion of the run under test.

    Nothing is estimated from the measured volumes, so that they stay a reference: transforms, brain mask and model are
    those of the run under test.

    Parameters
    ----------
    slice_times : of the measured run, seconds from the start of a volume; None where slice timing is left alone
    slice_time_ref : moment within the TR to which slices are brought, as a fraction
    omp_nthreads : threads that one node may take; these take one each
    corrected : whether the distortion of the volumes is known
    name : of the workflow

    Inputs
    ------
    truth_file : measured high-resolution series, as acquired
    n_dummy : volumes left out at the start, only with slice times
    hmc_xfms : ITK text, one transform a volume, of the run under test
    shift_map : distortion of its volumes, with `corrected`
    reference : image on the high-resolution grid of the boldref; its grid is taken

    Outputs
    -------
    series_file : on that grid, head motion undone by one interpolation, signal units
    consistency_file : one row a volume; n/a, as nothing was acquired beneath it
    """
    workflow = LiterateWorkflow(name=name)
    workflow.__desc__ = (
        "The measured high-resolution series went through the same slice timing correction, head motion transforms, "
        "single interpolation, mask and model as the series under test; nothing was estimated from it.\n"
    )
    warp = ["shift_map"] * corrected
    fields = ["truth_file", "hmc_xfms", "reference", *warp, *["n_dummy"] * (slice_times is not None)]
    inputnode = pe.Node(niu.IdentityInterface(fields=fields), name="inputnode")
    outputnode = pe.Node(niu.IdentityInterface(fields=["series_file", "consistency_file"]), name="outputnode")
    read = pe.Node(ImportSeries(), name="read", n_procs=1)
    resample = pe.Node(
        SuperResolve(series="raw", factor=(1.0, 1.0, 1.0), data_consistency="off", threads=1),
        name="resample",
        n_procs=1,
    )
    edges = [
        (inputnode, read, [("truth_file", "in_file")]),
        (
            inputnode,
            resample,
            [
                ("reference", "boldref"),
                ("reference", "mask"),
                ("hmc_xfms", "hmc_xfms"),
                *[(f, f) for f in warp],
            ],
        ),
        (resample, outputnode, [("out_file", "series_file"), ("consistency_file", "consistency_file")]),
    ]
    if slice_times is None:
        edges += [(read, resample, [("out_file", "in_file")])]
    else:
        timing = pe.Node(
            SliceTiming(slice_times=list(slice_times), ref_fraction=slice_time_ref), name="slicetiming", n_procs=1
        )
        edges += [
            (inputnode, timing, [("n_dummy", "n_dummy")]),
            (read, timing, [("out_file", "in_file")]),
            (timing, resample, [("out_file", "in_file")]),
        ]
    workflow.connect(edges)
    return workflow
