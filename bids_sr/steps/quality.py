"""Guards against false detail: uncertainty, precision, edges, images unlike those trained on."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from threadpoolctl import threadpool_limits

from bids_sr.config.memory_model import EFFECTS, Need
from bids_sr.io.nifti import SeriesReader
from bids_sr.io.volume import Volume
from bids_sr.metrics.long_tables import MetricRow, metric_rows
from bids_sr.pipeline.artifacts import (
    Confounds,
    Derivative,
    Effects,
    File,
    Image,
    Map,
    Mask,
    Regressors,
    Rows,
    Series,
)
from bids_sr.pipeline.step import Keep, Part, enumerated, step
from bids_sr.spatial.edges import Mismatch, edge_mismatch
from bids_sr.spatial.resampling import sample_volume
from bids_sr.sr.device import choose_device
from bids_sr.sr.inference.acquired import UpsamplerInputs
from bids_sr.sr.inference.apply_to_series import fine_mask, in_both, make_upsampler, some_slices
from bids_sr.sr.method import Cost
from bids_sr.sr.models.card import read_card
from bids_sr.sr.models.compatibility import domain_difference
from bids_sr.sr.models.model import load_model
from bids_sr.stats.controls.t_perturbation import t_change
from bids_sr.stats.controls.uncertainty import spread_of_effect
from bids_sr.stats.glm.design import Design, build_design, model_confounds
from bids_sr.stats.regions import map_sidecars
from bids_sr.steps.activation import Contrasts, Factor

_LOGGER = logging.getLogger(__name__)
_LARGEST_CHANGE = 0.01
"""Of t, in units of its noise, that a lower precision may make."""
_TRIED_SLICES = 3
"""On which it is tried, all volumes of each."""
_UNCERTAINTY = (
    "Standard deviation of the effect between members of an ensemble that differ in the seed of"
    " training. It shows what chance in training decides and is blind to errors that all members"
    " share"
)
"""What the map of an ensemble's uncertainty says of itself."""


def uncertainty_text(methods: Sequence[str], members: int) -> str:
    """Return methods text of the uncertainty of methods that have an ensemble of so many members.

    Parameters
    ----------
    methods : Sequence[str]
        Names of the methods with an ensemble.
    members : int
        Number of models in each ensemble.

    Returns
    -------
    str
        Sentences of the methods text.
    """
    return (
        f"The uncertainty of {enumerated(methods)} is the standard deviation of the effect between"
        f" {members} models trained with different seeds; errors common to all of them go"
        " undetected. "
    )


@step(
    makes=("uncertainty_rows", "uncertainty_maps"),
    memory=EFFECTS,
    keep={"uncertainty_maps": Keep()},
    cost=Cost(always=2.0),
)
def measure_uncertainty(
    effects: Effects,
    bold_mask_hr: Mask,
    member_effects: dict[str, File],
    *,
    series_name: str,
    contrasts: Contrasts,
    axis_order: tuple[int, int, int],
) -> tuple[Rows, list[Map]]:
    """Return a method's uncertainty: the SD of the effect between members of its ensemble.

    Parameters
    ----------
    effects : Effects
        Of the method, and of the further members of its ensemble.
    bold_mask_hr : Mask
        Voxels of the brain on the high-resolution grid (3D, boolean).
    member_effects : dict[str, File]
        Of the method, and of the further members of its ensemble.
    series_name : str
        Name of the series, such as ``raw`` or that of a method.
    contrasts : Contrasts
        Weights of conditions (at rest: seeds) by contrast.
    axis_order : tuple[int, int, int]
        Stored axis that each axis in use takes.

    Returns
    -------
    tuple[Rows, list[Map]]
        Rows, and a map a contrast.
    """
    mask, affine = bold_mask_hr.data, bold_mask_hr.affine
    rows, maps = [], []
    for name, weights in contrasts.items():
        found = spread_of_effect(effects, list(member_effects.values()), weights, mask, affine)
        if found is None:
            _LOGGER.warning(
                "%s: contrast %s cannot be made of the blocks; no uncertainty map",
                series_name,
                name,
            )
            continue
        rows.append(
            MetricRow(
                series=series_name,
                contrast=name,
                region="brain",
                statistic="ensemble_sd",
                value=float(np.median(found[mask])),
                n=1 + len(member_effects),
            )
        )
        own = map_sidecars.entities(
            series=series_name,
            contrast=name,
            stat="ensemblesd",
            desc=series_name,
            suffix="statmap",
        )
        common = map_sidecars.common_sidecar(
            series=series_name,
            fwhm_mm=0.0,
            zooms=bold_mask_hr.zooms.tolist(),
            axis_order=axis_order,
        )
        sidecar = {
            "Description": _UNCERTAINTY,
            "Units": "arbitrary",
            "EnsembleMembers": 1 + len(member_effects),
            "ContrastWeights": dict(weights),
            **common,
        }
        maps.append(
            Derivative(Volume(np.where(mask, found, 0).astype(np.float32), affine), own, sidecar)
        )
    return rows, maps


@step(makes="domain_rows", small=True)
def check_domain(model_file: File, boldref: Image, bold_mask: Mask, *, series_name: str) -> Rows:
    """Check whether the run resembles a network's training data.

    Its intensities and its amount of edges are compared.

    Parameters
    ----------
    model_file : File
        Weights of the model, with the card beside them.
    boldref : Image
        Reference image of the BOLD run (3D).
    bold_mask : Mask
        Voxels of the brain in boldref (3D, boolean).
    series_name : str
        Name of the series, such as ``raw`` or that of a method.

    Returns
    -------
    Rows
        Rows of both differences and a flag; none for cards without such data.
    """
    found = domain_difference(read_card(model_file), boldref.data, bold_mask.data)
    if found is None:
        return []
    distance, edges, warnings = found
    for text in warnings:
        _LOGGER.warning("%s: %s", series_name, text)
    values = {
        "domain_distance": distance,
        "domain_edges": edges,
        "flag_domain": float(bool(warnings)),
    }
    return metric_rows(series_name, values, region="brain")


@step(
    makes=("precision", "precision_rows"),
    part=Part.SERIES,
    memory=Need(always=0.12, high=0.25),
    text=(
        "Networks computed in single precision unless bfloat16 changed t by less than 1 % of its"
        " noise in every contrast, on slices of the run itself. "
    ),
)
def guard_precision(
    stc: Series,
    boldref: Image,
    bold_mask: Mask,
    model_file: File,
    regressors: Regressors,
    confounds: Confounds | None = None,
    *,
    series_name: str,
    contrasts: Contrasts,
    factor: Factor,
    precision: Literal["auto", "fp32", "bf16"],
    device: Literal["auto", "cpu", "cuda"],
    force: bool,
    omp_nthreads: int,
    tr: float,
    n_dummy: int,
    high_pass: float,
    slice_time_ref: float,
    has_stc: bool,
    nuisance: list[str] | None,
) -> tuple[str, Rows]:
    """Choose the network's precision, fp32 or bf16: the lower one only where it leaves t alone.

    ``fp32`` tries nothing. ``auto`` tries bf16 on CUDA devices and takes it where it passes;
    elsewhere it is fp32. ``bf16`` is tried, and refused where it fails unless forced. Variance
    maps of the run are applied in fp32 whatever is asked for.

    Parameters
    ----------
    stc : Series
        Acquired series, corrected in time only (4D).
    boldref : Image
        Reference image of the BOLD run (3D).
    bold_mask : Mask
        Voxels of the brain in boldref (3D, boolean).
    model_file : File
        Weights of the model, with the card beside them.
    regressors : Regressors
        Events of the task, or time series of seeds at rest.
    confounds : Confounds | None, optional
        Confounds of the run, one row a volume; None: none enter the model.
    series_name : str
        Name of the series, such as ``raw`` or that of a method.
    contrasts : Contrasts
        Weights of conditions (at rest: seeds) by contrast.
    factor : Factor
        Acquired over high-resolution voxel size along each axis.
    precision : Literal['auto', 'fp32', 'bf16']
        Arithmetic of the network: ``fp32``, ``bf16``, or ``auto`` to choose.
    device : Literal['auto', 'cpu', 'cuda']
        Where torch computes: ``cpu``, ``cuda``, or ``auto`` to choose.
    force : bool
        Whether to take bf16 although it changes t.
    omp_nthreads : int
        Number of threads that compute side by side.
    tr : float
        Repetition time, TR (s).
    n_dummy : int
        Number of volumes at the start that are not in the steady state.
    high_pass : float
        Cut-off of the drift model (Hz); 0 for a straight line.
    slice_time_ref : float
        Moment within a TR (0 to 1) to which slice timing was corrected.
    has_stc : bool
        Whether slice timing was corrected.
    nuisance : list[str] | None
        Columns of the confounds that enter the model; None: motion and aCompCor.

    Returns
    -------
    tuple[str, Rows]
        Precision to use, and rows of the change of t by contrast.

    Raises
    ------
    ValueError : bf16 was asked for and changes t, and nothing is forced
    """
    where = choose_device(device)
    if not (precision == "bf16" or (precision == "auto" and where.startswith("cuda"))):
        return "fp32", []
    if read_card(model_file).trained_on == "series":
        _LOGGER.info("%s is applied in fp32, whatever precision is asked for", series_name)
        return "fp32", []
    design = build_design(
        regressors,
        n_volumes=stc.shape[3],
        tr=tr,
        n_dummy=n_dummy,
        high_pass=high_pass,
        has_stc=has_stc,
        slice_time_ref=slice_time_ref,
        confounds=confounds,
        confound_names=model_confounds(confounds, nuisance),
    )
    found = _change_of_t(
        stc,
        boldref,
        bold_mask,
        model_file,
        design,
        regressors.contrasts(contrasts),
        factor,
        series_name,
        where,
        omp_nthreads,
    )
    change = max(found.values())
    passes = change <= _LARGEST_CHANGE
    if not passes:
        _refuse_or_warn(series_name, change, asked=precision == "bf16", force=force)
    rows = [
        row
        for name, each in found.items()
        for row in metric_rows(
            series_name, {"precision_change": each}, contrast=name, region="brain"
        )
    ]
    return "bf16" if passes or (precision == "bf16" and force) else "fp32", rows


def _refuse_or_warn(series_name: str, change: float, *, asked: bool, force: bool) -> None:
    text = (
        f"{series_name}: bf16 changes t by {change:.3g} of its noise (root mean square, worst"
        f" contrast); at most {_LARGEST_CHANGE:g} is allowed"
    )
    if asked and not force:
        raise ValueError(f"{text}. Use --precision fp32 or auto, or overrule with --force")
    _LOGGER.warning("%s; %s", text, "overruled by --force" if force else "fp32 is used")


def _change_of_t(
    stc: SeriesReader,
    boldref: Volume,
    bold_mask: Volume,
    model_file: File,
    design: Design,
    contrasts: Contrasts,
    factor: Factor,
    series_name: str,
    device: str,
    threads: int,
) -> dict[str, float]:
    """Change of t from fp32 to bf16, by contrast, on some slices of all volumes."""
    slices = some_slices(bold_mask.data, _TRIED_SLICES)
    inside = fine_mask(bold_mask.data, slices, factor)
    scale = float(np.percentile(boldref.data[bold_mask.data], 99))
    acquired = UpsamplerInputs(
        factor=factor, scale=scale, precision="fp32", device=device, threads=threads
    )
    full, lower = (
        make_upsampler(series_name, each, load_model(model_file))
        for each in (acquired, replace(acquired, precision="bf16"))
    )
    with threadpool_limits(threads):
        return t_change(
            in_both(stc, full, lower, slices, inside, start=design.n_dummy), design, contrasts
        )


@step(
    makes="edges",
    part=Part.EVALUATION,
    text=(
        "Distortion was measured as the displacement at which the edges of the BOLD reference and"
        " of the T2*-weighted image agree best locally, regardless of contrast. "
    ),
    cost=Cost(low=8.0),
)
def compare_edges(
    boldref: Image,
    guide_hr: Image,
    bold_mask_hr: Mask,
    *,
    phase_encoding: str,
    guided_names: Sequence[str],
) -> Rows:
    """Measure how far boldref edges lie from T2*-weighted ones: susceptibility distortion.

    Parameters
    ----------
    boldref : Image
        Reference image of the BOLD run (3D).
    guide_hr : Image
        Image of the pair on the fine grid, in the boldref's pose.
    bold_mask_hr : Mask
        Voxels of the brain on the high-resolution grid (3D, boolean).
    phase_encoding : str
        Direction as in BIDS; "" where it is not known.
    guided_names : Sequence[str]
        Series that lay the guide's detail over the BOLD, for the warning.

    Returns
    -------
    Rows
        Rows of median and 90th percentile (mm), and of the flag.
    """
    axis = {"i": 0, "j": 1}.get(phase_encoding[:1])
    sizes = boldref.zooms
    seen = sample_volume(boldref.data, boldref.affine, guide_hr.data.shape, guide_hr.affine)
    found = edge_mismatch(
        seen,
        guide_hr.data,
        bold_mask_hr.data,
        guide_hr.affine,
        blur_mm=float(sizes[:2].max()),
        axis=axis,
    )
    limit = 0.5 * float(sizes[1 if axis is None else axis])
    if text := _edge_warning(found, limit, guided_names):
        _LOGGER.warning(text)
    values = {
        "edge_mismatch": found.median,
        "edge_mismatch_p90": found.p90,
        "flag_distortion": float(found.median > limit),
    }
    return metric_rows("run", values, region="brain", n=found.n)


def _edge_warning(found: Mismatch, limit: float, guided: Sequence[str]) -> str:
    """What the user should know; nothing where the edges agree."""
    if np.isnan(found.median):
        return (
            "Too few edges of the boldref were found in the T2*-weighted image to measure"
            " distortion."
        )
    if found.median <= limit:
        return ""
    names = f" {', '.join(guided)} lay" if guided else " What takes detail from that image lays"
    return (
        f"Edges of the boldref and of the T2*-weighted image lie {found.median:.1f} mm apart"
        f" (median; a tenth more than {found.p90:.1f} mm), more than half an acquired voxel"
        f" ({limit:.1f} mm): the BOLD is distorted.{names} detail where it does not belong."
    )
