"""Scores of a model on a held-out pair of the same participant."""

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

from bids_sr.interfaces.learning.holdout_scores import ScorePair


def init_holdout_wf(
    *,
    method: str,
    factor: tuple[float, float, float],
    device: str,
    precision: str,
    omp_nthreads: int,
    seed: int,
    name: str = "holdout_wf",
) -> LiterateWorkflow:
    """Score a trained method on a pair that was held out.

    Parameters
    ----------
    method : name in `bids_sr.sr.methods`
    factor : coarse over fine voxel along each axis
    device : "auto", "cpu" or "cuda"
    precision : of the network, as in inference
    omp_nthreads : threads of the network
    seed : of the slices that are resampled for intervals
    name : of the workflow

    Inputs
    ------
    model_file : weights, trained on the other pair
    highres : fine image of the held-out pair in the pose of its lowres, on the fine grid
    lowres : coarse image of the held-out pair
    mask : brain on the grid of lowres

    Outputs
    -------
    out_file : rows of the evaluation (TSV)
    """
    workflow = LiterateWorkflow(name=name)
    workflow.__desc__ = (
        "A second pair of T2*-weighted images of the same subject, which had no part in training, was super-resolved "
        "from its low-resolution member and compared with its high-resolution member; intervals come from resampled "
        "slices.\n"
    )
    inputnode = pe.Node(niu.IdentityInterface(fields=["model_file", "highres", "lowres", "mask"]), name="inputnode")
    outputnode = pe.Node(niu.IdentityInterface(fields=["out_file"]), name="outputnode")
    score = pe.Node(
        ScorePair(
            series=method, factor=tuple(float(f) for f in factor), device=device, precision=precision,
            threads=omp_nthreads, seed=seed,
        ),
        name="score",
        n_procs=omp_nthreads,
    )  # fmt: skip
    fields = [(field, field) for field in ("model_file", "highres", "lowres", "mask")]
    workflow.connect([(inputnode, score, fields), (score, outputnode, [("out_file", "out_file")])])
    return workflow
