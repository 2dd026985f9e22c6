"""Training of a method that learns from the acquired volumes of a run alone, and models that are given to a run."""

from __future__ import annotations

from typing import Any

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

from bids_sr.interfaces.learning.volume_training import VOLUMES, TrainOnVolumes
from bids_sr.workflows.input_plans import Training


def volumes_values(how: Training, series: str, *, seed: int = 0) -> dict[str, Any]:
    """What `init_volumes_train_wf` wants to know of a series; `seed` is added to that of training."""
    return {
        "method": how.method(series), "recipe": how.recipe, "seed": how.seed + seed, "about": how.about.get(series, ""),
        "model_source": how.model_source, "model_dir": how.model_dir, "pretrained": how.pretrained.get(series),
        "max_train_minutes": how.max_train_minutes, "device": how.device, "force": how.force, "sloppy": how.sloppy,
    }  # fmt: skip


def init_volumes_train_wf(
    *,
    method: str,
    recipe: str,
    factor: tuple[float, float, float],
    seed: int,
    about: str = "",
    model_source: str = "auto",
    model_dir: str | None = None,
    pretrained: str | None = None,
    omp_nthreads: int = 1,
    max_train_minutes: float | None = None,
    device: str = "cpu",
    force: bool = False,
    sloppy: bool = False,
    name: str = "volumes_train_wf",
) -> LiterateWorkflow:
    """Train a network on volumes of a run, as they were acquired, or take a model that was given.

    Parameters
    ----------
    method, recipe : names in `bids_sr.sr.methods`
    factor : acquired voxel over wanted voxel along each axis
    seed : of the choice of volumes, weights, batches and augmentation
    about : what the method is, with its reference, for the methods text
    model_source : "auto" reuses a model of the same data, settings and seed found in `model_dir`, "train" never does,
        "reuse" must find one there
    model_dir : folder with models, or None
    pretrained : weights that are used instead, or None
    omp_nthreads : threads of training
    max_train_minutes : stop on the clock, or None
    device : "auto", "cpu" or "cuda"
    force : accept a model that does not fit the run
    sloppy : a handful of iterations, for tests
    name : of the workflow

    Inputs
    ------
    stc_file : series on its acquired grid, corrected in time only
    bold_mask : brain on that grid
    n_dummy : first volumes to leave out

    Outputs
    -------
    model_file : weights
    card_file : model card (JSON)
    log_file : training log (TSV)
    """
    workflow = LiterateWorkflow(name=name)
    given = pretrained is not None or model_source == "reuse"
    workflow.__desc__ = _text(method, about, given=given) + "\n"
    inputnode = pe.Node(niu.IdentityInterface(fields=["stc_file", "bold_mask", "n_dummy"]), name="inputnode")
    made = ["model_file", "card_file", "log_file"]
    outputnode = pe.Node(niu.IdentityInterface(fields=made), name="outputnode")
    train = pe.Node(
        TrainOnVolumes(
            method=method, recipe=recipe, factor=tuple(float(f) for f in factor), model_source=model_source,
            seed=seed, threads=omp_nthreads, device=device, force=force, sloppy=sloppy,
        ),
        name="train",
        n_procs=omp_nthreads,
    )  # fmt: skip
    optional = {"model_dir": model_dir, "pretrained": pretrained, "max_train_minutes": max_train_minutes}
    for trait, value in optional.items():
        if value is not None:
            setattr(train.inputs, trait, value)
    workflow.connect([
        (inputnode, train, [("stc_file", "in_file"), ("bold_mask", "mask"), ("n_dummy", "n_dummy")]),
        (train, outputnode, [(field, field) for field in made]),
    ])  # fmt: skip
    return workflow


def _text(method: str, about: str, *, given: bool) -> str:
    """Methods text of the training."""
    what = f" ({about})" if about else ""
    if given:
        return f"A network trained beforehand, {method}{what}, was used for super-resolution."
    return (
        f"The network {method}{what} was trained on {VOLUMES} volumes of the run itself, drawn at random, as they were "
        "acquired; no finer image was needed."
    )
