"""Variance maps of a run: where it fluctuates on the high-resolution grid."""

from __future__ import annotations

from nipype.interfaces import utility as niu
from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

from bids_sr.interfaces.learning.variance_maps import EstimateVariance

CALIBRATION = ("calibration_sd", "calibration_sd_low", "calibration_xfm", "calibration_json")
_CONTROL = "As a control, the standard deviation over time of the zero-filled change was taken of the run."
_CALIBRATED = (
    " The map measured in the calibration was blended in (weighted mean of logarithms) by the share with which "
    "held-out halves were explained best, or left out where it did not add to them."
)


def init_variance_wf(
    *,
    factor: tuple[float, float, float],
    recipe: str,
    seed: int,
    model_source: str = "auto",
    model_dir: str | None = None,
    pretrained: str | None = None,
    omp_nthreads: int = 1,
    force: bool = False,
    sloppy: bool = False,
    method: str = "sbl",
    with_calibration: bool = False,
    text: str = "",
    calibrated: bool = False,
    control: bool = False,
    name: str = "variance_wf",
) -> LiterateWorkflow:
    """Find where a run fluctuates on the high-resolution grid, and whether that may be used.

    Parameters
    ----------
    factor : acquired voxel over wanted voxel along each axis
    recipe : name in `bids_sr.sr.methods`
    seed : of draws from the prior
    model_source : "auto" reuses maps of the same data, settings and seed found in `model_dir`, "train" never does,
        "reuse" must find some there
    model_dir : folder with models, or None
    pretrained : maps of another run that are used instead, or None
    omp_nthreads : threads
    force : accept maps that do not fit the run
    sloppy : fewer draws, for tests
    method : name in `bids_sr.sr.methods`
    with_calibration : whether a short high-resolution run was measured
    text : what the maps are, for the methods text
    calibrated : whether such a run enters maps of this method
    control : whether it stands among the baselines
    name : of the workflow

    Inputs
    ------
    in_file : series on its acquired grid, head motion undone (`raw`)
    bold_mask : brain on that grid
    n_dummy : first volumes to leave out
    hmc_xfms : ITK text, one transform a volume; what follows head motion is taken out
    calibration_sd, calibration_sd_low, calibration_xfm, calibration_json : only with a calibration: its standard
        deviation map as measured and at the resolution of the run, what takes a boldref point to it, if it is usable

    Outputs
    -------
    model_file : maps
    card_file : their card (JSON)
    log_file : rounds of the estimation (TSV)
    temporal_file : acquired grid; mean, standard deviation of the change, then its strongest components
    weight_file : high-resolution grid; standard deviation of the fluctuations
    """
    workflow = LiterateWorkflow(name=name)
    given = pretrained is not None or model_source == "reuse"
    what = _CONTROL if control else _text(method, text, given=given, calibrated=calibrated and with_calibration)
    workflow.__desc__ = f"{what}\n"
    calibration = CALIBRATION * with_calibration
    fields = ["in_file", "bold_mask", "n_dummy", "hmc_xfms", *calibration]
    inputnode = pe.Node(niu.IdentityInterface(fields=fields), name="inputnode")
    made = ["model_file", "card_file", "log_file", "temporal_file", "weight_file"]
    outputnode = pe.Node(niu.IdentityInterface(fields=made), name="outputnode")
    estimate = pe.Node(
        EstimateVariance(
            method=method, recipe=recipe, factor=tuple(float(f) for f in factor), seed=seed, model_source=model_source,
            threads=omp_nthreads, force=force, sloppy=sloppy,
        ),
        name="estimate",
        n_procs=omp_nthreads,
    )  # fmt: skip
    for trait, value in {"model_dir": model_dir, "pretrained": pretrained}.items():
        if value is not None:
            setattr(estimate.inputs, trait, value)
    workflow.connect([
        (inputnode, estimate, [
            ("in_file", "in_file"), ("bold_mask", "mask"), ("n_dummy", "n_dummy"), ("hmc_xfms", "hmc_xfms"),
            *[(field, field) for field in calibration],
        ]),
        (estimate, outputnode, [(field, field) for field in made]),
    ])  # fmt: skip
    return workflow


def _text(method: str, text: str, *, given: bool, calibrated: bool) -> str:
    """Methods text of the estimation."""
    if given:
        return f"Variance maps of another run ({method}) were used for super-resolution."
    return (
        "The change of the run over time was reconstructed beyond the acquired band of k-space under a Gaussian prior "
        f"whose variance map was {text or method}. The map of each half of the run had to explain part of "
        "what zero filling misses in the other half, one level of resolution down; otherwise the run was zero filled."
        + (_CALIBRATED if calibrated else "")
    )
