"""Guards against false detail: uncertainty, unrepeated detail, precision, edges, images unlike those trained on."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from threadpoolctl import threadpool_limits

from bids_sr.config.memory_model import EFFECTS, Need
from bids_sr.io.array_types import Float
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
from bids_sr.pipeline.step import Keep, Lookup, Part, enumerated, step
from bids_sr.spatial.edges import Mismatch, edge_mismatch
from bids_sr.spatial.masks import voxel_sizes
from bids_sr.spatial.resampling import sample_volume
from bids_sr.sr.device import choose_device
from bids_sr.sr.inference.acquired import Acquired
from bids_sr.sr.inference.apply_to_series import fine_mask, in_both, make_upsampler, some_slices
from bids_sr.sr.models.compatibility import domain_difference
from bids_sr.sr.models.model import load_model, read_card
from bids_sr.stats.controls.t_perturbation import t_change
from bids_sr.stats.controls.uncertainty import ControlMap, uncertainty_maps, unrepeated_maps
from bids_sr.stats.glm.design import Design, build_design, default_confounds
from bids_sr.stats.regions import map_sidecars
from bids_sr.steps.activation import Contrasts, Factor
from bids_sr.steps.evaluation import N_BOOT

LOGGER = logging.getLogger(__name__)
LARGEST_CHANGE = 0.01
"""Of t, in units of its noise, that a lower precision may make."""
TRIED_SLICES = 3
"""On which it is tried, all volumes of each."""


class PrecisionRefused(ValueError):
    """A lower precision was asked for that changes the statistics; the message has the figure and the remedy."""


def guards_text(methods: Sequence[str], members: int, *, with_pair: bool, several: Sequence[str] = ()) -> str:
    """Methods text of the maps of quality control.

    Parameters
    ----------
    methods, several : all that have maps, and those of them with an ensemble
    members : of an ensemble
    """
    pair = ", or followed the detail of the high-resolution T2*-weighted image," if with_pair else ""
    text = (
        f"Detail of {enumerated(methods)} beyond the acquired Nyquist limit was marked unrepeated unless it agreed "
        f"between the two halves of the blocks{pair} more than expected by chance (null distribution: flipped signs of "
        f"blocks{', shifted images' if with_pair else ''}). "
    )
    if several:
        text += (
            f"The uncertainty of {enumerated(several)} is the standard deviation of the effect between {members} "
            "models trained with different seeds; errors common to all of them go undetected. "
        )
    return text


def _stored_checks(setting: Lookup) -> list[dict[str, str]]:
    """Which maps are stored: the spread of an ensemble, which somebody asked for; the others are in the report."""
    stats = {"minimal": (), "standard": ("sd",), "full": ("sd", "unrepeated")}[setting("level")]
    return [{"stat": stat} for stat in stats]


@step(makes=("guard_rows", "guard_maps"), memory=EFFECTS, keep={"guard_maps": Keep(among=_stored_checks)})
def guard_series(
    effects: Effects, bold_mask_hr: Mask, guide_hr: Image | None = None, member_effects: dict[str, File] | None = None,
    measured_effects: Effects | None = None, truth_maps: dict[str, Image] | None = None, model_file: File | None = None,
    boldref: Image | None = None, bold_mask: Mask | None = None, *, series_name: str, contrasts: Contrasts,
    factor: Factor, random_seed: int, axis_order: tuple[int, int, int], n_boot: int = N_BOOT,
) -> tuple[Rows, list[Map]]:  # fmt: skip
    """Unrepeated detail and uncertainty of one method, and whether the run is like what its model was trained on.

    Parameters
    ----------
    effects, member_effects, measured_effects : of the method, of the further members of its ensemble, and of the
        measured series
    guide_hr : high-resolution image of the pair in the boldref's pose, on the grid of bold_mask_hr
    truth_maps : known activation in signal units by contrast, in the frame of the mask
    model_file, boldref, bold_mask : weights of a network with the card beside them, reference of the run and its brain
    n_boot : resamples of slices

    Returns
    -------
    Rows, and a map of unrepeated detail a contrast, then of an ensemble its standard deviation
    """
    mask, affine = bold_mask_hr.data, bold_mask_hr.affine
    with threadpool_limits(1):
        rows, maps = unrepeated_maps(
            effects, contrasts, mask, affine, factor, guide=None if guide_hr is None else guide_hr.data,
            seed=random_seed,
        )  # fmt: skip
    if member_effects:
        known = {
            name: sample_volume(each.data, each.affine, mask.shape, affine) for name, each in (truth_maps or {}).items()
        }
        found, spread = uncertainty_maps(
            effects, list(member_effects.values()), contrasts, mask, affine, measured=measured_effects, truth=known,
            n_boot=n_boot, seed=random_seed,
        )  # fmt: skip
        rows, maps = [*rows, *found], [*maps, *spread]
    if model_file is not None and boldref is not None and bold_mask is not None:
        rows = [*rows, *check_domain(model_file, boldref, bold_mask, series_name)]
    return rows, [_stored(each, affine, axis_order) for each in maps]


def _stored(found: ControlMap, affine: Float, axis_order: tuple[int, int, int]) -> Derivative:
    """A map with its entities and sidecar."""
    own = map_sidecars.entities(
        series=found.series, contrast=found.contrast, stat=found.stat, desc=found.series, suffix="statmap"
    )
    common = map_sidecars.common_sidecar(
        series=found.series, fwhm_mm=0.0, zooms=voxel_sizes(affine).tolist(), axis_order=axis_order
    )
    return Derivative(Volume(found.values, affine), own, {**found.sidecar, **common})


def check_domain(model_file: File, boldref: Volume, bold_mask: Volume, series_name: str) -> list[MetricRow]:
    """Whether the run looks like what the model was trained on: its intensities, and how much edge is in it."""
    found = domain_difference(read_card(model_file), boldref.data, bold_mask.data)
    if found is None:
        return []
    for text in found.warnings:
        LOGGER.warning("%s: %s", series_name, text)
    values = {
        "domain_distance": found.distance, "domain_edges": found.edges, "flag_domain": float(bool(found.warnings)),
    }  # fmt: skip
    return metric_rows(series_name, values, region="brain")


@step(
    makes=("precision", "precision_rows"), part=Part.SERIES, memory=Need(always=0.12, high=0.25),
    text="Networks computed in single precision unless bfloat16 changed t by less than 1 % of its noise in every "
    "contrast, on slices of the run itself. ",
)  # fmt: skip
def guard_precision(
    stc: Series, boldref: Image, bold_mask: Mask, model_file: File, regressors: Regressors,
    confounds: Confounds | None = None, *, series_name: str, contrasts: Contrasts, factor: Factor,
    precision: Literal["auto", "fp32", "bf16"], device: Literal["auto", "cpu", "cuda"], force: bool, omp_nthreads: int,
    tr: float, n_dummy: int, high_pass: float, slice_time_ref: float, has_stc: bool,
) -> tuple[str, Rows]:  # fmt: skip
    """Choose the network's precision, fp32 or bf16: the lower one only where it leaves t alone.

    ``fp32`` tries nothing. ``auto`` tries bf16 on CUDA devices and takes it where it passes; elsewhere it is fp32.
    ``bf16`` is tried, and refused where it fails unless forced. Variance maps of the run are applied in fp32 whatever
    is asked for.

    Raises
    ------
    PrecisionRefused : bf16 was asked for and changes t, and nothing is forced
    """
    where = choose_device(device)
    if not (precision == "bf16" or (precision == "auto" and where.startswith("cuda"))):
        return "fp32", []
    if read_card(model_file).trained_on == "series":
        LOGGER.info("%s is applied in fp32, whatever precision is asked for", series_name)
        return "fp32", []
    design = build_design(
        regressors, n_volumes=stc.shape[3], tr=tr, n_dummy=n_dummy, high_pass=high_pass, has_stc=has_stc,
        slice_time_ref=slice_time_ref, confounds=confounds, confound_names=default_confounds(confounds),
    )  # fmt: skip
    found = _change_of_t(
        stc, boldref, bold_mask, model_file, design, regressors.contrasts(contrasts), factor, series_name, where,
        omp_nthreads,
    )  # fmt: skip
    change = max(found.values())
    passes = change <= LARGEST_CHANGE
    if not passes:
        _refuse_or_warn(series_name, change, asked=precision == "bf16", force=force)
    rows = [row for name, each in found.items()
            for row in metric_rows(series_name, {"precision_change": each}, contrast=name, region="brain")]  # fmt: skip
    return "bf16" if passes or (precision == "bf16" and force) else "fp32", rows


def _refuse_or_warn(series_name: str, change: float, *, asked: bool, force: bool) -> None:
    text = (
        f"{series_name}: bf16 changes t by {change:.3g} of its noise (root mean square, worst contrast); at most "
        f"{LARGEST_CHANGE:g} is allowed"
    )
    if asked and not force:
        raise PrecisionRefused(f"{text}. Use --precision fp32 or auto, or overrule with --force")
    LOGGER.warning("%s; %s", text, "overruled by --force" if force else "fp32 is used")


def _change_of_t(
    stc: SeriesReader, boldref: Volume, bold_mask: Volume, model_file: File, design: Design, contrasts: Contrasts,
    factor: Factor, series_name: str, device: str, threads: int,
) -> dict[str, float]:  # fmt: skip
    """Change of t from fp32 to bf16, by contrast, on some slices of all volumes."""
    slices = some_slices(bold_mask.data, TRIED_SLICES)
    inside = fine_mask(bold_mask.data, slices, factor)
    scale = float(np.percentile(boldref.data[bold_mask.data], 99))
    acquired = Acquired(factor=factor, scale=scale, precision="fp32", device=device, threads=threads)
    full, lower = (
        make_upsampler(series_name, each, load_model(model_file))
        for each in (acquired, replace(acquired, precision="bf16"))
    )
    with threadpool_limits(threads):
        return t_change(in_both(stc, full, lower, slices, inside, start=design.n_dummy), design, contrasts)


@step(
    makes="edges", part=Part.EVALUATION,
    text="Distortion was measured as the displacement at which the edges of the BOLD reference and of the T2*-weighted "
    "image agree best locally, regardless of contrast. ",
)  # fmt: skip
def compare_edges(
    boldref: Image, guide_hr: Image, bold_mask_hr: Mask, *, phase_encoding: str, guided_names: Sequence[str]
) -> Rows:
    """How far edges of the boldref lie from those of the T2*-weighted image: distortion by susceptibility.

    Parameters
    ----------
    guide_hr : image of the pair on the fine grid, in the boldref's pose
    phase_encoding : direction as in BIDS; "" where it is not known
    guided_names : series that lay the guide's detail over the BOLD, for the warning
    """
    axis = {"i": 0, "j": 1}.get(phase_encoding[:1])
    sizes = voxel_sizes(boldref.affine)
    seen = sample_volume(boldref.data, boldref.affine, guide_hr.data.shape, guide_hr.affine)
    found = edge_mismatch(
        seen, guide_hr.data, bold_mask_hr.data, guide_hr.affine, blur_mm=float(sizes[:2].max()), axis=axis
    )
    limit = 0.5 * float(sizes[1 if axis is None else axis])
    if text := _edge_warning(found, limit, guided_names):
        LOGGER.warning(text)
    values = {
        "edge_mismatch": found.median, "edge_mismatch_p90": found.p90, "flag_distortion": float(found.median > limit),
    }  # fmt: skip
    return metric_rows("run", values, region="brain", n=found.n)


def _edge_warning(found: Mismatch, limit: float, guided: Sequence[str]) -> str:
    """What the user should know; nothing where the edges agree."""
    if np.isnan(found.median):
        return "Too few edges of the boldref were found in the T2*-weighted image to measure distortion."
    if found.median <= limit:
        return ""
    names = f" {', '.join(guided)} lay" if guided else " What takes detail from that image lays"
    return (
        f"Edges of the boldref and of the T2*-weighted image lie {found.median:.1f} mm apart (median; a tenth more "
        f"than {found.p90:.1f} mm), more than half an acquired voxel ({limit:.1f} mm): the BOLD is distorted."
        f"{names} detail where it does not belong."
    )
