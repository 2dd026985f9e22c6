"""Scores of a model on a held-out pair of the same participant."""

from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

from bids_sr.interfaces.learning.holdout_scores import ScorePair
from bids_sr.workflows.input_plans import Factor, Training
from bids_sr.workflows.wiring import one_step, same


def init_holdout_wf(
    *, method: str, factor: Factor, how: Training, omp_nthreads: int, name: str = "holdout_wf"
) -> LiterateWorkflow:
    """Score a trained method on a pair that was held out.

    Parameters
    ----------
    method : name in `bids_sr.sr.methods`
    factor : low-resolution over high-resolution voxel along each axis
    how : device, precision and seed
    omp_nthreads : threads of the network

    Inputs
    ------
    model_file : weights, trained on the other pair
    highres : high-resolution image of the held-out pair in the pose of its lowres
    lowres : low-resolution image of the held-out pair
    mask : brain on the grid of lowres

    Outputs
    -------
    out_file : rows of the evaluation (TSV)
    """
    text = (
        "A second pair of T2*-weighted images of the same subject, which had no part in training, was super-resolved "
        "from its low-resolution member and compared with its high-resolution member; intervals come from resampled "
        "slices.\n"
    )
    score = pe.Node(
        ScorePair(
            series=method, factor=factor, device=how.device, precision=how.precision, threads=omp_nthreads,
            seed=how.seed,
        ),
        name="score", n_procs=omp_nthreads,
    )  # fmt: skip
    inputs = same("model_file", "highres", "lowres", "mask")
    return one_step(name, text, score, inputs=inputs, outputs=same("out_file"))
