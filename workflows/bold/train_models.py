"""Training of a method on the T2*-weighted pair, volumes of the run or its fluctuations; its score on another pair."""

from dataclasses import dataclass
from typing import Any

from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

from bids_sr.interfaces.learning.method_steps import VOLUMES, EstimateVariance, ScorePair, TrainModel, TrainOnVolumes
from bids_sr.workflows.plans import Factor, Training
from bids_sr.workflows.wiring import Pairs, Part, one_step, same, set_given

CALIBRATION = ("calibration_sd", "calibration_sd_low", "calibration_xfm", "calibration_json")
MODEL = ("model_file", "card_file", "log_file")
_WITHOUT_PAPER = "written without its paper"  # in what a method says of itself that is known from others alone


@dataclass(frozen=True, kw_only=True, slots=True)
class Learned:
    """What a method learns from: the interface, the name of its node, its inputs, outputs and settings of its own."""

    interface: Any
    node: str
    inputs: Pairs
    outputs: tuple[str, ...] = MODEL
    settings: tuple[str, ...] = ()


PAIR = Learned(
    interface=TrainModel, node="train", inputs=same("highres", "lowres", "mask"),
    settings=("device", "vgg_weights", "max_train_minutes", "start"),
)  # fmt: skip
RUN_VOLUMES = Learned(
    interface=TrainOnVolumes, node="train", inputs=same("n_dummy", stc_file="in_file", bold_mask="mask"),
    settings=("device", "max_train_minutes"),
)  # fmt: skip
FLUCTUATIONS = Learned(
    interface=EstimateVariance, node="estimate", inputs=same("in_file", "n_dummy", "hmc_xfms", bold_mask="mask"),
    outputs=(*MODEL, "temporal_file", "weight_file", "tested_json"),
)  # fmt: skip


def init_train_wf(
    *,
    series: str,
    learned: Learned,
    how: Training,
    factor: Factor,
    omp_nthreads: int,
    seed: int = 0,
    with_calibration: bool = False,
    control: bool = False,
    interpolations: tuple[str, ...] = (),
    name: str = "train_wf",
) -> LiterateWorkflow:
    """Train a method, or take a model that was trained.

    Parameters
    ----------
    learned : `PAIR`, `RUN_VOLUMES` or `FLUCTUATIONS`: what it learns from
    factor : acquired voxel over wanted voxel along each axis
    seed : added to that of the settings: of the choice of volumes, weights, batches and augmentation
    with_calibration : whether a short high-resolution run was measured, which enters variance maps
    control : whether it stands among the baselines
    interpolations : plain ones that are tried one level of resolution down beside it; only from fluctuations

    Inputs
    ------
    highres, lowres, mask : images of the pair in the pose of lowres, head or brain on its grid; only from a pair
    stc_file : series on its acquired grid, corrected in time only; only from volumes
    in_file, hmc_xfms : series on its acquired grid, head motion undone (`raw`), and the motion as ITK text, whose
        effects are taken out; only from fluctuations
    bold_mask, n_dummy : brain on that grid, first volumes to leave out; only from the run
    calibration_sd, calibration_sd_low, calibration_xfm, calibration_json : only with a calibration: its standard
        deviation map as measured and at the resolution of the run, what takes a boldref point to it, if it is usable

    Outputs
    -------
    model_file, card_file, log_file : weights or maps, their card (JSON), log of training (TSV)
    temporal_file : acquired grid; mean, standard deviation of the change, then its strongest components; only from
        fluctuations, as the next
    weight_file : high-resolution grid; standard deviation of the fluctuations; only from them, as the next
    tested_json : what it and the interpolations explain one level of resolution down
    """
    optional = {
        "device": how.device, "vgg_weights": how.vgg_weights, "max_train_minutes": how.max_train_minutes,
        "start": how.starts.get(series),
    }  # fmt: skip
    node = pe.Node(
        learned.interface(
            method=how.method(series), recipe=how.recipe, factor=factor, model_source=how.model_source,
            seed=how.seed + seed, threads=omp_nthreads, force=how.force, sloppy=how.sloppy,
        ),
        name=learned.node, n_procs=omp_nthreads,
    )  # fmt: skip
    set_given(node, {"model_dir": how.model_dir, "pretrained": how.pretrained.get(series)})
    set_given(node, {name: optional[name] for name in learned.settings})
    set_given(node, {"interpolations": list(interpolations) or None})
    text = "" if control else training_text(series, learned, how, with_calibration=with_calibration) + " "
    inputs = learned.inputs + same(*(CALIBRATION if with_calibration else ()))
    part = Part.PAIR if learned is PAIR else Part.SERIES
    return one_step(name, text, node, inputs=inputs, outputs=same(*learned.outputs), part=part)


def training_text(series: str, learned: Learned, how: Training, *, with_calibration: bool = False) -> str:
    """Methods text of what a method learned from."""
    method, about, own = how.method(series), how.about.get(series, ""), how.text.get(series, "")
    given = series in how.pretrained or how.model_source == "reuse"
    if learned is FLUCTUATIONS:
        if given:
            return f"Variance maps of another run ({method}) were used for super-resolution."
        blended = (
            " The map measured in the calibration was blended in (weighted mean of logarithms) with the weight that "
            "explained held-out halves best, or left out where it did not help."
        )
        return (
            f"{series} estimated the signal change over time beyond the acquired band of k-space under a "
            f"Gaussian prior {own or f'given by {about or method}'}. The variance map of each half of the run had to "
            "explain part of what zero filling misses in the other half, one level of resolution down; otherwise the "
            f"run was zero filled.{blended if with_calibration and series in how.calibrated else ''}"
        )
    if learned is RUN_VOLUMES:
        what = f": {about}." if about else "."
        if given:
            return f"A network trained beforehand ({method}) was used for super-resolution{what}"
        return (
            f"The network {method} was trained on {VOLUMES} randomly drawn volumes of the run itself, as acquired, "
            f"without a high-resolution image{what}"
        )
    if given:
        return f"A network trained beforehand ({method}) was used for super-resolution."
    if own:
        return own
    full = "with settings chosen by us" if _WITHOUT_PAPER in about else "with the published settings"
    kind = "with a smaller network and fewer steps" if how.recipe == "fast" else full
    return f"The network {method} was trained on the participant's own pair of T2*-weighted images, {kind}: {about}."


def init_holdout_wf(
    *, method: str, factor: Factor, how: Training, omp_nthreads: int, name: str = "holdout_wf"
) -> LiterateWorkflow:
    """Score a trained method on a pair that was held out.

    Inputs
    ------
    model_file : weights, trained on the other pair
    highres, lowres, mask : images of the held-out pair in the pose of lowres, and brain on its grid

    Outputs
    -------
    out_file : rows of the evaluation (TSV)
    """
    text = (
        "A second pair of T2*-weighted images of the same participant, not used for training, was super-resolved from "
        "its low-resolution member and compared with its high-resolution member; intervals come from resampled "
        "slices. "
    )
    score = pe.Node(
        ScorePair(
            series=method, factor=factor, device=how.device, precision=how.precision, threads=omp_nthreads,
            seed=how.seed,
        ),
        name="score", n_procs=omp_nthreads,
    )  # fmt: skip
    inputs = same("model_file", "highres", "lowres", "mask")
    return one_step(name, text, score, inputs=inputs, outputs=same("out_file"), part=Part.PAIR)
