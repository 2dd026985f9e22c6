"""Guards against false detail: the reconstruction's error, precision, edges, unlike images."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import ndimage
from threadpoolctl import threadpool_limits

from bids_sr.config.machine import EFFECTS, MAPS, VARIANCE, Need
from bids_sr.evaluation.evidence import was_applied
from bids_sr.evaluation.mask_overlap import mask_of_mean, mask_rows, onto_grid
from bids_sr.evaluation.qc_flags import spread_of_effect, t_change
from bids_sr.glm import activation_regions
from bids_sr.glm.activation_regions import fdr_region, reliable_region
from bids_sr.glm.block_effects import load_effects, load_mean
from bids_sr.glm.contrasts import Contrasts
from bids_sr.glm.design import Design, build_design, model_confounds
from bids_sr.glm.linear_model import ActivationSettings
from bids_sr.glm.time_series import smooth
from bids_sr.io.atomic_files import real
from bids_sr.io.grids import Array, AxisOrder, Factor, Float32, Volume
from bids_sr.io.nifti import SeriesReader, save_image
from bids_sr.metrics import MetricRow, metric_rows
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
    Transforms,
)
from bids_sr.pipeline.step import HERE, enumerated, step
from bids_sr.series import MEASURED
from bids_sr.spatial.masks import Mismatch, edge_mismatch
from bids_sr.spatial.resampling import sample_volume
from bids_sr.sr.device import Device, Precision, choose_device
from bids_sr.sr.inference.acquired import UpsamplerInputs
from bids_sr.sr.inference.apply_to_series import fine_mask, in_both, make_upsampler, some_slices
from bids_sr.sr.matrices import ResolutionError
from bids_sr.sr.method import Cost
from bids_sr.sr.models.card import domain_difference, read_card
from bids_sr.sr.models.model import load_model
from bids_sr.sr.recipe import VarianceRecipe
from bids_sr.sr.variance.temporal_components import SeriesError, motion_courses, open_uncompressed
from bids_sr.steps.activation import fitted

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
        entities = activation_regions.entities(
            series=series_name,
            contrast=name,
            stat="ensemblesd",
            desc=series_name,
            suffix="statmap",
        )
        common = activation_regions.common_sidecar(
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


_OfContrast = tuple[str, dict[str, Derivative]]

LEAST_COVERAGE = 0.9
"""Of 95 % intervals one level of resolution down, for a reliable region to be given."""
_WIDE = 2 / 3
"""Acquired voxels of smoothing (FWHM) from which on SD is no larger than the noise."""
RELIABLE = "Reliable"
_TEXT = {
    "sd": (
        "Standard deviation of the reconstruction error. This error is identical in all"
        " blocks, so it is not part of the residuals of the linear model. Thermal and"
        " physiological noise are described by the variance map",
        "arbitrary",
    ),
    "wrongsign": (
        "Posterior probability that the effect has the wrong sign, computed from the"
        " variance of the effect and the standard deviation of the reconstruction error (not"
        " a p value)",
        "1",
    ),
    "tTotal": (
        "Effect divided by its total standard deviation, the square root of the sum of the"
        " variance of the effect and the squared standard deviation of the reconstruction"
        " error",
        "1",
    ),
    "zTotal": ("z value, scaled by the ratio of tTotal to t", "1"),
}
_FITTED = ("effect", "variance", "t", "z")
_RELIABLE = (
    "Active voxels with the highest t values (FDR .05 of z), selected so that at most 5 %"
    " of the voxels are expected to have the wrong sign",
    "Active voxels (FDR .05 of zTotal)",
)


CHECKED_INTERVALS = (
    "To test the coverage of the confidence intervals of super-resolved effects, the run was"
    " downsampled by the super-resolution factor and reconstructed with variance maps"
    " estimated at the lower resolution. The reconstructed effects were then compared with"
    " the acquired effects.\n"
)
"""Methods text of `check_intervals`."""


@step(makes="coverage_rows", memory=VARIANCE, cost=Cost(always=2.0, low=70.0, volumes=0.008))
def check_intervals(
    preproc: Series,
    bold_mask: Mask,
    hmc_xfms: Transforms,
    model_file: File,
    regressors: Regressors,
    confounds: Confounds | None = None,
    *,
    here: Path = HERE,
    series_name: str,
    contrasts: Contrasts,
    factor: Factor,
    tr: float,
    n_dummy: int,
    high_pass: float,
    start_time: float,
    nuisance: list[str] | None,
    random_seed: int,
    omp_nthreads: int,
) -> Rows:
    """Coverage of 95 % intervals of each contrast where the acquired run is the truth."""
    from nibabel.affines import apply_affine
    from threadpoolctl import threadpool_limits

    from bids_sr.sr.variance.in_reference import effect_scale
    from bids_sr.sr.variance.one_level_down import errors_below

    model = load_model(model_file)
    recipe = model.recipe
    if not (isinstance(recipe, VarianceRecipe) and recipe.fwhm and was_applied(model.card.json)):
        return []
    middle = apply_affine(preproc.affine, np.argwhere(bold_mask.data).mean(0))
    try:
        with threadpool_limits(omp_nthreads), open_uncompressed(preproc.path, here) as reader:
            below = errors_below(
                reader,
                bold_mask.data,
                factor,
                recipe,
                here,
                n_dummy=n_dummy,
                nuisance=motion_courses(hmc_xfms, middle),
                seed=random_seed,
            )
    except (SeriesError, ResolutionError) as error:
        _LOGGER.warning("%s: the confidence intervals could not be tested: %s", series_name, error)
        return []
    settings = ActivationSettings(
        kinds=("glm",),
        confound_names=model_confounds(confounds, nuisance),
        tr=tr,
        n_dummy=n_dummy,
        high_pass=high_pass,
        start_time=start_time,
    )
    maps = {}
    for path, mask in ((below.low, below.low_mask), (below.errors, below.mask)):
        with SeriesReader(path) as reader:
            zooms = reader.zooms
            found = fitted(reader, mask, regressors, contrasts, settings, here, confounds)
            maps[path] = found[0.0].maps, zooms
        path.unlink()
    (seen, zooms), (missed, _) = maps[below.low], maps[below.errors]
    rows: list[MetricRow] = []
    for name in dict.fromkeys(contrast for contrast, _ in missed):
        scale = effect_scale(
            seen[name, "effect"], seen[name, "variance"], below.power, below.low_mask, zooms
        )
        variance = _onto(scale, below.mask.shape) * below.error_power
        total = (variance + missed[name, "variance"])[below.mask]
        inside = np.square(missed[name, "effect"][below.mask]) < 1.96**2 * total
        rows += metric_rows(
            series_name,
            {"coverage_one_level_down": float(inside.mean())},
            region="brain",
            contrast=name,
            n=int(inside.size),
        )
    return rows


def _onto(scale: Array, shape: Sequence[int]) -> Float32:
    """A map of the acquired grid on a finer one, linearly."""
    ratio = [n / m for n, m in zip(shape, scale.shape, strict=True)]
    found: Float32 = ndimage.zoom(scale, ratio, order=1, mode="nearest", grid_mode=True)
    return found


def describe_error(series: str) -> str:
    """Return methods text of the reconstruction error of a series."""
    return (
        f"Reconstruction error in {series} is proportional to the effect and"
        " identical in all blocks, so it is not included in the residuals of the linear model."
        " The standard deviation of the reconstruction error was therefore estimated from 64"
        " samples from the prior distribution of the run, scaled by the local power of the"
        " acquired effect above noise. For each voxel, the probability that the effect has the"
        " wrong sign was computed from this standard deviation and from the variance in the"
        " linear model.\n"
    )


@step(makes=("error_maps", "error_rows"), memory=MAPS, cost=Cost(always=4.0, high=4.0))
def measure_error(
    maps: list[Map],
    acquired_maps: list[Map],
    mask: Mask,
    bold_mask: Mask,
    coverage_rows: Rows,
    error_draws: Series | None = None,
    acquired_draws: Series | None = None,
    *,
    here: Path = HERE,
    series_name: str,
    smoothing: Sequence[float],
) -> tuple[list[Map], Rows]:
    """Maps of the reconstruction's error, reliable regions, and the share expected to be wrong.

    None for a series without a prior. `acquired_maps` are those of the acquired series, by whose
    effects at the narrowest smoothing the draws are scaled.
    """
    if error_draws is None or acquired_draws is None:
        return [], []
    from bids_sr.sr.variance.in_reference import effect_scale, wrong_sign

    brain, coarse, zooms = mask.data, bold_mask.data, bold_mask.zooms
    narrowest, covered = min(smoothing), {row.contrast: row.value for row in coverage_rows}
    # where slices get thinner, those at the centers of the acquired ones
    thinner = brain.shape[2] / coarse.shape[2]
    centers = ((np.arange(coarse.shape[2]) + 0.5) * thinner).astype(int)
    power = _mean_square(acquired_draws, narrowest)[..., centers]
    scales = {}
    for name, acquired in _by_contrast(acquired_maps, narrowest):
        effect, variance = (acquired[stat].volume.data for stat in ("effect", "variance"))
        scales[name] = _onto(
            effect_scale(effect, variance, power, coarse, zooms.tolist()), brain.shape
        )
    error_maps: list[Derivative] = []
    rows: list[MetricRow] = list(coverage_rows)
    for width in smoothing:
        unit, is_wide = _mean_square(error_draws, width), bool(width >= _WIDE * max(zooms[:2]))
        for name, fitted_maps in _by_contrast(maps, width):
            effect, variance, t, z = (fitted_maps[stat].volume.data for stat in _FITTED)
            # tau^2 averaged by the square of the Gaussian, in the place of smoothing scaled draws
            scale = smooth(scales[name], mask.zooms.tolist(), width / 2**0.5)
            error = np.where(brain, scale * unit, 0)
            total = variance + error
            wrong = np.where(brain, wrong_sign(effect, total), 0)
            images = {"sd": np.sqrt(error), "wrongsign": wrong}
            active = fdr_region(z, brain)[0]
            if is_wide:
                reduced = np.sqrt(variance / np.where(total > 0, total, 1))
                images |= {"tTotal": t * reduced, "zTotal": z * reduced}
                reliable = fdr_region(z * reduced, brain)[0]
            else:
                reliable = reliable_region(t, wrong, active)
            of = fitted_maps["effect"]
            made = list(_statmaps(images, of))
            regions = {"fdr": active}
            if covered.get(name, 0.0) >= LEAST_COVERAGE:
                regions["reliable"] = reliable
                made.append(_region(reliable, of, _RELIABLE[int(is_wide)]))
            for values, named in made:
                save_image(values, mask.affine, path := here / f"{named.name}.nii")
                error_maps.append(Derivative(path, named.entities, named.sidecar))
            for threshold, region in regions.items():
                metrics = {
                    "expected_wrong": float(wrong[region].mean()) if region.any() else None,
                    "voxels": int(region.sum()),
                }
                rows += metric_rows(
                    series_name, metrics, threshold=threshold, contrast=name, fwhm_mm=width
                )
    return error_maps, rows


def _by_contrast(maps: Sequence[Derivative], width: float) -> Iterator[_OfContrast]:
    """Maps of the linear model at one smoothing (FWHM, mm), by statistic."""
    by_contrast: dict[str, dict[str, Derivative]] = {}
    for each in maps:
        if each.entities["suffix"] == "statmap" and real(each.sidecar["SmoothingFWHM"]) == width:
            by_contrast.setdefault(each.entities["contrast"], {})[each.entities["stat"]] = each
    return ((name, own) for name, own in by_contrast.items() if own.keys() >= set(_FITTED))


def _mean_square(draws: SeriesReader, width: float) -> Float32:
    """Mean square of smoothed draws (X, Y, Z)."""
    total = np.zeros(draws.shape[:3], np.float32)
    for volume in draws.volumes():
        total += np.square(smooth(volume, draws.zooms, width)) / draws.shape[3]
    return total


_Image = tuple[Array, Derivative]


def _statmaps(images: Mapping[str, Array], effect: Derivative) -> Iterator[_Image]:
    """Maps beside that of the effect, with its entities and metadata but for what they are."""
    for stat, values in images.items():
        text, units = _TEXT[stat]
        told = {**effect.sidecar, "Description": text, "Units": units}
        named = Derivative(None, {**effect.entities, "stat": stat}, told)
        yield values.astype(np.float32), named


def _region(region: Array, effect: Derivative, text: str) -> _Image:
    """A reliable region of the contrast of an effect."""
    named = effect.entities["contrast"], effect.entities["desc"] + RELIABLE
    kept = {key: name for key, name in effect.entities.items() if key not in ("contrast", "stat")}
    entities = {**kept, "label": named[0], "desc": named[1], "suffix": "mask"}
    common = ("SkullStripped", "SourceSeries", "SmoothingFWHM", "Resolution")
    told = {key: effect.sidecar[key] for key in common if key in effect.sidecar}
    about = {"Type": "ROI", "Description": text, "ThresholdLabel": RELIABLE}
    return region.astype(np.uint8), Derivative(None, entities, {**told, **about})
