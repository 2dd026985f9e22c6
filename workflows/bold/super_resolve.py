"""Training on the pair, and one super-resolved (or baseline, or raw) series of a run."""

from __future__ import annotations

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

from bids_sr.interfaces.learning.pair_training import SuperResolve, TrainModel
from bids_sr.series import BASELINES

_WITHOUT_PAPER = "written without its paper"  # in what a method says of itself that is known from others alone


def init_train_wf(
    *,
    method: str,
    recipe: str,
    factor: tuple[float, float, float],
    model_source: str,
    model_dir: str | None,
    pretrained: str | None,
    seed: int,
    omp_nthreads: int,
    max_train_minutes: float | None,
    device: str,
    precision: str,
    force: bool,
    sloppy: bool,
    vgg_weights: str | None = None,
    start: str | None = None,
    about: str = "",
    text: str = "",
    name: str = "train_wf",
) -> LiterateWorkflow:
    """Train a network on the subject's T2*-weighted pair, or reuse one.

    Parameters
    ----------
    method, recipe : names in `bids_sr.sr.methods`
    factor : acquired voxel over wanted voxel along each axis
    model_source : "auto" reuses a model of the same data, settings and seed found in `model_dir`, "train" never does,
        "reuse" must find one there
    model_dir : folder with models, or None
    pretrained : weights that are used instead, or None
    seed : of weights, batches and augmentation
    omp_nthreads : threads of training
    max_train_minutes : stop on the clock, or None
    device : "auto", "cpu" or "cuda"
    precision : of inference; training is in fp32 whatever it says
    force : accept a model that does not fit the pair
    sloppy : a handful of iterations, for tests
    vgg_weights : file for the perceptual term, or None: the term is off
    start : weights to begin training with, or None
    about : what the method is, with its reference, for the methods text
    text : what the methods text says of its training, where it says that itself
    name : of the workflow

    Inputs
    ------
    highres : high-resolution image in the pose of lowres, on its fine grid
    lowres : low-resolution image
    mask : of the pair, on the grid of lowres

    Outputs
    -------
    model_file : weights
    card_file : model card (JSON)
    log_file : training log (TSV)
    """
    workflow = LiterateWorkflow(name=name)
    given = pretrained is not None or model_source == "reuse"
    workflow.__desc__ = _training_text(method=method, recipe=recipe, pretrained=given, about=about, text=text) + "\n"
    inputnode = pe.Node(niu.IdentityInterface(fields=["highres", "lowres", "mask"]), name="inputnode")
    outputnode = pe.Node(niu.IdentityInterface(fields=["model_file", "card_file", "log_file"]), name="outputnode")
    train = pe.Node(
        TrainModel(
            method=method, recipe=recipe, factor=tuple(float(f) for f in factor), model_source=model_source,
            seed=seed, threads=omp_nthreads, device=device, force=force, sloppy=sloppy,
        ),
        name="train",
        n_procs=omp_nthreads,
    )  # fmt: skip
    optional = {
        "model_dir": model_dir, "pretrained": pretrained, "vgg_weights": vgg_weights,
        "max_train_minutes": max_train_minutes, "start": start,
    }  # fmt: skip
    for trait, value in optional.items():
        if value is not None:
            setattr(train.inputs, trait, value)
    workflow.connect([
        (inputnode, train, [("highres", "highres"), ("lowres", "lowres"), ("mask", "mask")]),
        (train, outputnode, [("model_file", "model_file"), ("card_file", "card_file"), ("log_file", "log_file")]),
    ])  # fmt: skip
    return workflow


def _training_text(*, method: str, recipe: str, pretrained: bool, about: str = "", text: str = "") -> str:
    """Methods text of the training."""
    if pretrained:
        return f"A network trained beforehand ({method}) was used for super-resolution."
    if text:
        return text
    full = "with settings of ours for the published ones" if _WITHOUT_PAPER in about else "with the published settings"
    how = "with a smaller network and fewer steps" if recipe == "fast" else full
    return f"The network {method} ({about}) was trained on this subject's own pair of T2*-weighted images, {how}."


def init_series_wf(
    *,
    series: str,
    factor: tuple[float, float, float],
    needs_model: bool,
    needs_guide: bool,
    data_consistency: str,
    precision: str,
    device: str,
    omp_nthreads: int,
    force: bool = False,
    of_run: bool = False,
    displace: str = "",
    needs_precision: bool = False,
    corrected: bool = False,
    name: str = "series_wf",
) -> LiterateWorkflow:
    """One series of a run with head motion undone by a single interpolation: raw, a baseline or a method.

    Parameters
    ----------
    series : "raw" stays on the acquired grid, through the same code with a factor of 1; every other comes out on the
        boldref's fine grid
    factor : acquired voxel over wanted voxel along each axis
    needs_model, needs_guide : whether the inputs of that kind exist
    data_consistency : "off", "report" or "enforce"
    precision, device : of the network
    omp_nthreads : threads of one node
    force : accept a model that does not fit the series
    of_run : whether it is made by variance maps of the run; with `needs_guide` static detail of that image is added
    displace : "mirror" or "shift" where the maps are displaced, as a placebo
    needs_precision : whether the precision is told by a guard that has tried it
    corrected : whether the distortion of the volumes is known, and undone by the same interpolation
    name : of the workflow

    Inputs
    ------
    stc_file : series on the acquired grid, corrected in time only
    boldref : reference of the run
    bold_mask : brain on that grid; sets the intensity scale
    hmc_xfms : ITK text, one transform a volume
    model_file : weights, with `needs_model`
    highres : high-resolution image as acquired, with `needs_guide`
    highres2boldref_xfm : takes a boldref point to its highres point, with `needs_guide`
    temporal_file : mean, standard deviation and components of the run, with `of_run`
    precision : of the network, with `needs_precision`
    shift_map : distortion of the volumes, with `corrected`

    Outputs
    -------
    series_file : in signal units
    consistency_file : one row a volume
    """
    workflow = LiterateWorkflow(name=name)
    workflow.__desc__ = _series_text(series, of_run, corrected) + "\n"
    extra = ["model_file"] if needs_model else []
    extra += ["highres", "highres2boldref_xfm"] if needs_guide else []
    extra += ["temporal_file"] * of_run
    extra += ["precision"] * needs_precision + ["shift_map"] * corrected
    fields = ["stc_file", "boldref", "bold_mask", "hmc_xfms", *extra]
    inputnode = pe.Node(niu.IdentityInterface(fields=fields), name="inputnode")
    outputnode = pe.Node(niu.IdentityInterface(fields=["series_file", "consistency_file"]), name="outputnode")
    resolve = pe.Node(
        SuperResolve(
            series=series, factor=(1.0, 1.0, 1.0) if series == "raw" else tuple(float(f) for f in factor),
            data_consistency=data_consistency,
            precision=precision, device=device if needs_model else "cpu",
            threads=omp_nthreads if needs_model else 1, force=force,
        ),
        name="resolve",
        n_procs=omp_nthreads if needs_model else 1,
    )  # fmt: skip
    if displace:
        resolve.inputs.displace = displace
    names = [("stc_file", "in_file"), ("boldref", "boldref"), ("bold_mask", "mask"), ("hmc_xfms", "hmc_xfms")]
    workflow.connect([
        (inputnode, resolve, names + [(field, field) for field in extra]),
        (resolve, outputnode, [("out_file", "series_file"), ("consistency_file", "consistency_file")]),
    ])  # fmt: skip
    return workflow


def _series_text(series: str, of_run: bool, corrected: bool) -> str:
    """Methods text of one series."""
    shifted = " and susceptibility distortion together" if corrected else ""
    if series == "raw":
        return f"The acquired series was resampled once on its own grid to undo head motion{shifted}."
    shifted = " and distortion" if corrected else ""
    once = (
        f"Each volume was then interpolated once, with its estimated head motion{shifted}, on the high-resolution grid."
    )
    if series in BASELINES:
        return f"As a baseline, the series was also brought to the high resolution by {BASELINES[series]}."
    if of_run:
        return (
            f"What {series} reconstructs of the change of every volume against the mean of the run, under the variance "
            "map in the pose of that volume, was added to the zero-filled volume without the acquired band of k-space. "
            f"{once}"
        )
    return f"Every slice of every volume was super-resolved on its acquired grid by {series}. {once}"
