"""Guards against false detail: uncertainty, precision, edges, masks and unlike images."""

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from threadpoolctl import threadpool_limits

from bids_sr.config.memory import Need
from bids_sr.evaluation.mask_overlap import mask_of_mean, mask_rows, onto_grid
from bids_sr.evaluation.t_change import t_change
from bids_sr.evaluation.uncertainty import spread_of_effect
from bids_sr.glm import map_sidecars
from bids_sr.glm.block_effects import load_effects, load_mean
from bids_sr.glm.contrasts import Contrasts
from bids_sr.glm.design import Design, build_design
from bids_sr.glm.model_confounds import model_confounds
from bids_sr.io.grids import AxisOrder, Factor
from bids_sr.io.nifti import SeriesReader
from bids_sr.io.volume import Volume
from bids_sr.metrics.rows import MetricRow, metric_rows
from bids_sr.pipeline.artifacts import (
    Confounds,
    Derivative,
    File,
    Image,
    Map,
    Mask,
    Regressors,
    Rows,
    Series,
)
from bids_sr.pipeline.step import enumerated, step
from bids_sr.series import MEASURED
from bids_sr.spatial.edges import Mismatch, edge_mismatch
from bids_sr.spatial.resampling import sample_volume
from bids_sr.sr.device import Device, Precision, choose_device
from bids_sr.sr.inference.acquired import UpsamplerInputs
from bids_sr.sr.inference.apply_to_series import fine_mask, in_both, make_upsampler, some_slices
from bids_sr.sr.method import Cost
from bids_sr.sr.models.card import read_card
from bids_sr.sr.models.domain import domain_difference
from bids_sr.sr.models.model import load_model
from bids_sr.steps.memory import EFFECTS

_LOGGER = logging.getLogger(__name__)
_LARGEST_CHANGE = 0.01
"""Of t, in units of its noise, that a lower precision may make."""
_TRIED_SLICES = 3
"""On which it is tried, all volumes of each."""
_UNCERTAINTY = (
    "Standard deviation of the effect across models that were trained with different random"
    " seeds. It reflects random variation in training, but not errors that all models have"
    " in common"
)
"""What the map of an ensemble's uncertainty says of itself."""


def describe_uncertainty(methods: Sequence[str], members: int) -> str:
    """Return methods text of the uncertainty of methods with an ensemble of so many members."""
    return (
        f"The uncertainty of {enumerated(methods)} was estimated as the standard deviation of the"
        f" effect between {members} models trained with different random seeds. Errors that are"
        " common to all models are not included. "
    )


@step(makes=("uncertainty_rows", "uncertainty_maps"), memory=EFFECTS, cost=Cost(always=2.0))
def measure_uncertainty(
    effects: File,
    bold_mask_hr: Mask,
    member_effects: dict[str, File],
    *,
    series_name: str,
    contrasts: Contrasts,
    axis_order: AxisOrder,
) -> tuple[Rows, list[Map]]:
    """Return a method's uncertainty: the SD of the effect between members of its ensemble."""
    mask, affine = bold_mask_hr.data, bold_mask_hr.affine
    of_method = load_effects(effects)
    rows, maps = [], []
    for name, weights in contrasts.items():
        spread = spread_of_effect(of_method, list(member_effects.values()), weights, mask, affine)
        if spread is None:
            _LOGGER.warning(
                "%s: the contrast %s cannot be computed from the task blocks, so its"
                " uncertainty map is omitted",
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
                value=float(np.median(spread[mask])),
                n=1 + len(member_effects),
            )
        )
        entities = map_sidecars.entities(
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
            Derivative(
                Volume(np.where(mask, spread, 0).astype(np.float32), affine), entities, sidecar
            )
        )
    return rows, maps


@step(makes="domain_rows", small=True)
def check_domain(model_file: File, boldref: Image, bold_mask: Mask, *, series_name: str) -> Rows:
    """Check whether the run resembles a network's training data.

    Its intensities and its amount of edges are compared.

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


PRECISION_TEXT = (
    "Networks were applied in single precision, except if bfloat16 changed t by less than 1 %"
    " of its noise in all contrasts, as tested in slices of the run. "
)
"""Methods text of the choice of the precision of networks."""


@step(makes=("precision", "precision_rows"), memory=Need(always=0.12, high=0.25))
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
    precision: Precision,
    device: Device,
    force: bool,
    omp_nthreads: int,
    tr: float,
    n_dummy: int,
    high_pass: float,
    start_time: float,
    nuisance: list[str] | None,
) -> tuple[Precision, Rows]:
    """Choose the network's precision, fp32 or bf16: the lower one only where it leaves t alone.

    ``fp32`` tries nothing. ``auto`` tries bf16 on CUDA devices and takes it where it passes;
    elsewhere it is fp32. ``bf16`` is tried, and refused where it fails unless forced. Variance
    maps of the run are applied in fp32 whatever is asked for.

    `start_time`: moment of a volume for which its values hold (s after its start). `nuisance`:
    columns of the confounds that enter the model; None: motion and aCompCor. `ValueError`: bf16
    was asked for and changes t, and nothing is forced.
    """
    where = choose_device(device)
    if not (precision == "bf16" or (precision == "auto" and where.startswith("cuda"))):
        return "fp32", []
    if read_card(model_file).trained_on == "series":
        _LOGGER.info(
            "%s is always applied in fp32; the requested precision is ignored", series_name
        )
        return "fp32", []
    design = build_design(
        regressors,
        n_volumes=stc.shape[3],
        tr=tr,
        n_dummy=n_dummy,
        high_pass=high_pass,
        start_time=start_time,
        confounds=confounds,
        confound_names=model_confounds(confounds, nuisance),
    )
    t_change = _change_of_t(
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
    change = max(t_change.values())
    passes = change <= _LARGEST_CHANGE
    if not passes:
        _refuse_or_warn(series_name, change, asked=precision == "bf16", force=force)
    rows = [
        row
        for name, each in t_change.items()
        for row in metric_rows(
            series_name, {"precision_change": each}, contrast=name, region="brain"
        )
    ]
    return "bf16" if passes or (precision == "bf16" and force) else "fp32", rows


def _refuse_or_warn(series_name: str, change: float, *, asked: bool, force: bool) -> None:
    text = (
        f"{series_name}: bf16 precision changes the t values by {change:.3g} standard deviations"
        " of their noise (root mean square for the worst contrast); at most"
        f" {_LARGEST_CHANGE:g} is allowed"
    )
    if asked and not force:
        raise ValueError(
            f"{text}. Use --precision fp32 or auto, or override this check with --force."
        )
    _LOGGER.warning(
        "%s; %s", text, "bf16 is used because of --force" if force else "fp32 is used instead"
    )


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


COMPARED_EDGES = (
    "Susceptibility distortion was measured as the local displacement that maximizes the"
    " agreement between edges in the boldref and edges in the T2*-weighted image, independent"
    " of image contrast. "
)
"""Methods text of `compare_edges`."""


@step(makes="edges", cost=Cost(low=8.0))
def compare_edges(
    boldref: Image,
    guide_hr: Image,
    bold_mask_hr: Mask,
    *,
    phase_encoding: str,
    guided_names: Sequence[str],
) -> Rows:
    """Measure how far boldref edges lie from T2*-weighted ones: susceptibility distortion.

    `phase_encoding`: direction as in BIDS; "" where it is not known. Returns rows of median and
    90th percentile (mm), and of the flag.
    """
    axis = {"i": 0, "j": 1}.get(phase_encoding[:1])
    sizes = boldref.zooms
    seen = sample_volume(boldref.data, boldref.affine, guide_hr.data.shape, guide_hr.affine)
    mismatch = edge_mismatch(
        seen,
        guide_hr.data,
        bold_mask_hr.data,
        guide_hr.affine,
        blur_mm=float(sizes[:2].max()),
        axis=axis,
    )
    limit = 0.5 * float(sizes[1 if axis is None else axis])
    if text := _edge_warning(mismatch, limit, guided_names):
        _LOGGER.warning(text)
    values = {
        "edge_mismatch": mismatch.median,
        "edge_mismatch_p90": mismatch.p90,
        "flag_distortion": float(mismatch.median > limit),
    }
    return metric_rows("run", values, region="brain", n=mismatch.n)


COMPARED_MASKS = (
    "In addition, a brain mask was computed from the mean of each series, and the overlap"
    " between these masks was measured with the Jaccard index. "
)
"""Methods text of `compare_masks`."""


@step(makes="mask_rows", memory=EFFECTS, cost=Cost(always=0.5, volumes=0.002))
def compare_masks(
    preproc: Series, effects: dict[str, File], bold_mask_hr: Mask, *, n_dummy: int
) -> Rows:
    """Compare the brain mask of each series' own mean with the acquired and the measured one.

    `preproc`: acquired series, head motion undone. `effects`: of all series on the high-resolution
    grid, whose means are read one at a time.
    """
    total = np.zeros(preproc.shape[:3], dtype=np.float64)
    for volume in preproc.volumes(n_dummy):
        total += volume
    acquired = mask_of_mean(total / (preproc.shape[3] - n_dummy), preproc.affine)
    masks = {name: mask_of_mean(*load_mean(path)) for name, path in effects.items()}
    references = {}
    if acquired is not None:
        references["acquired"] = onto_grid(acquired, preproc.affine, bold_mask_hr)
    if (measured := masks.get(MEASURED)) is not None:
        references[MEASURED] = bold_mask_hr.like(measured)
    return mask_rows(masks, references)


def _edge_warning(mismatch: Mismatch, limit: float, guided: Sequence[str]) -> str:
    """What the user should know; nothing where the edges agree."""
    if np.isnan(mismatch.median):
        return (
            "Too few edges of the boldref were found in the T2*-weighted image to measure"
            " distortion."
        )
    if mismatch.median <= limit:
        return ""
    names = enumerated(list(guided)) if guided else "methods that use this image"
    verb = "places" if len(guided) == 1 else "place"
    return (
        f"Edges of the boldref and of the T2*-weighted image are {mismatch.median:.1f} mm apart"
        f" (median; 90th percentile {mismatch.p90:.1f} mm), more than half an acquired voxel"
        f" ({limit:.1f} mm): the BOLD is distorted, and {names} {verb} detail at wrong positions."
    )
