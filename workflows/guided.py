"""Training of a method that learns from the run itself."""

from __future__ import annotations

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

from bids_sr.interfaces.guided import TrainGuided

_GUIDES = {
    "highres": "the high-resolution T2*-weighted image",
    "t1w": "the T1-weighted image",
    "none": "the mean of the run",
}


def init_guided_train_wf(
    *,
    factor: tuple[float, float, float],
    guide_kind: str,
    recipe: str,
    seed: int,
    model_source: str = "auto",
    model_dir: str | None = None,
    pretrained: str | None = None,
    omp_nthreads: int = 1,
    max_train_minutes: float | None = None,
    device: str = "cpu",
    force: bool = False,
    sloppy: bool = False,
    method: str = "guided",
    with_calibration: bool = False,
    name: str = "guided_train_wf",
) -> LiterateWorkflow:
    """Learn from a run how its changes over time follow anatomy and their own variance.

    Parameters
    ----------
    factor : acquired voxel over wanted voxel along each axis
    guide_kind : "highres", "t1w" or "none": then the inputs of the guide do not exist
    recipe : name in `bids_sr.sr.methods.guided`
    seed : of weights, batches and augmentation
    model_source : "auto" reuses a model of the same data, settings and seed found in `model_dir`, "train" never does,
        "reuse" must find one there
    model_dir : folder with models, or None
    pretrained : weights of another run's kernels that are used instead, or None
    omp_nthreads : threads of training
    max_train_minutes : stop on the clock, or None
    device : "auto", "cpu" or "cuda"
    force : accept a model that does not fit the run
    sloppy : a handful of iterations, for tests
    method : name in `bids_sr.sr.methods`
    with_calibration : the run has a calibration
    name : of the workflow

    Inputs
    ------
    in_file : series on its acquired grid, head motion undone (`raw`)
    boldref : reference of the run
    bold_mask : brain on that grid
    n_dummy : first volumes to leave out
    hmc_xfms : ITK text, one transform a volume; what follows head motion is not learned from
    guide_image : image of the anatomy as acquired, unless `guide_kind` is "none"
    guide_xfm : takes a boldref point to its point in the guide, unless `guide_kind` is "none"
    calibration_sd, calibration_xfm, calibration_json : standard deviation map of the calibration, what takes a boldref
        point to it, and whether it is usable; only with a calibration

    Outputs
    -------
    model_file : weights
    card_file : model card (JSON)
    log_file : training log (TSV)
    temporal_file : acquired grid; mean, standard deviation of the change, then its strongest components
    kernels_file : fine grid; sharpening, anisotropy, cosine and sine of twice the angle along which kernels average
    """
    workflow = LiterateWorkflow(name=name)
    workflow.__desc__ = _text(guide_kind, given=pretrained is not None or model_source == "reuse", method=method) + "\n"
    guide = ["guide_image", "guide_xfm"] if guide_kind != "none" else []
    guide += ["calibration_sd", "calibration_xfm", "calibration_json"] * with_calibration
    fields = ["in_file", "boldref", "bold_mask", "n_dummy", "hmc_xfms", *guide]
    inputnode = pe.Node(niu.IdentityInterface(fields=fields), name="inputnode")
    made = ["model_file", "card_file", "log_file", "temporal_file", "kernels_file"]
    outputnode = pe.Node(niu.IdentityInterface(fields=made), name="outputnode")
    train = pe.Node(
        TrainGuided(
            method=method, recipe=recipe, factor=tuple(float(f) for f in factor), guide_kind=guide_kind, seed=seed,
            model_source=model_source, threads=omp_nthreads, device=device, force=force, sloppy=sloppy,
        ),
        name="train",
        n_procs=omp_nthreads,
    )  # fmt: skip
    optional = {"model_dir": model_dir, "pretrained": pretrained, "max_train_minutes": max_train_minutes}
    for trait, value in optional.items():
        if value is not None:
            setattr(train.inputs, trait, value)
    names = [("in_file", "in_file"), ("boldref", "boldref"), ("bold_mask", "mask"), ("n_dummy", "n_dummy")]
    names.append(("hmc_xfms", "hmc_xfms"))
    workflow.connect([
        (inputnode, train, names + [(field, field) for field in guide]),
        (train, outputnode, [(field, field) for field in made]),
    ])  # fmt: skip
    return workflow


def _text(guide_kind: str, *, given: bool, method: str) -> str:
    """Methods text of the training."""
    if given:
        return f"Kernels learned from another run ({method}) were used for super-resolution."
    return (
        f"Kernels ({method}) [@kernel_prediction] were learned from the run itself: its strongest temporal components "
        f"were brought down by the same factor once more, and a network that sees {_GUIDES[guide_kind]} and the "
        "standard deviation of the change over time learned to predict, for every voxel, the 3 x 3 kernel that takes "
        "the zero-filled change closest to the measured one; held-out slices decided which weights were kept. Kernels "
        "act on the change alone, and linearly."
    )
