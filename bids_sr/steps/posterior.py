"""Error of the reconstruction: its standard deviation, and which voxels of a map to believe."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy import ndimage

from bids_sr.config.memory_model import MAPS, VARIANCE
from bids_sr.io.array_types import Array, Float32
from bids_sr.io.json_values import real
from bids_sr.io.nifti import SeriesReader, save_image
from bids_sr.metrics.long_tables import MetricRow, metric_rows
from bids_sr.pipeline.artifacts import (
    Confounds,
    Derivative,
    File,
    Map,
    Mask,
    Regressors,
    Rows,
    Series,
    Transforms,
)
from bids_sr.pipeline.step import Keep, Part, step
from bids_sr.sr.data.temporal_components import SeriesError, motion_courses, open_uncompressed
from bids_sr.sr.method import Cost
from bids_sr.sr.models.model import load_model
from bids_sr.sr.recipe import VarianceRecipe
from bids_sr.sr.resolution.matrices import Factor, ResolutionError
from bids_sr.stats.evaluation.evidence import was_applied
from bids_sr.stats.glm.design import model_confounds
from bids_sr.stats.glm.statmaps import ActivationSettings
from bids_sr.stats.glm.time_series import smooth
from bids_sr.stats.regions.activation_regions import fdr_region, reliable_region
from bids_sr.steps.activation import OF_CONTRAST, Contrasts, fitted, stored_maps

_OfContrast = tuple[str, dict[str, Derivative]]

_LOGGER = logging.getLogger(__name__)
LEAST_COVERAGE = 0.9
"""Of 95 % intervals one level of resolution down, for a reliable region to be given."""
_WIDE = 2 / 3
"""Acquired voxels of smoothing (FWHM) from which on SD is no larger than the noise."""
RELIABLE = "Reliable"
_TEXT = {
    "sd": (
        "Standard deviation of the reconstruction's error, which repeats in every block and is in"
        " no residual of the model; thermal and physiological noise is in the variance",
        "arbitrary",
    ),
    "wrongsign": (
        "Posterior probability that the effect has the opposite sign, by its variance and the"
        " standard deviation of the reconstruction's error together; no p value",
        "1",
    ),
    "tTotal": (
        "Effect over the square root of its variance and the squared standard deviation of the"
        " reconstruction's error",
        "1",
    ),
    "zTotal": ("z, reduced as tTotal is from t", "1"),
}
_FITTED = ("effect", "variance", "t", "z")
_RELIABLE = (
    "Active voxels (false discovery rate .05 of z) in the order of t, until .05 of them are"
    " expected to have the opposite sign",
    "Voxels that are active at a false discovery rate of .05 of zTotal",
)


@step(
    makes="coverage_rows",
    part=Part.EVALUATION,
    memory=VARIANCE,
    text=(
        "Intervals of the super-resolved effect were tested one level of resolution down: the run"
        " was brought down once more, reconstructed by its own maps there, and held against what"
        " was acquired.\n"
    ),
    cost=Cost(always=2.0, low=40.0, volumes=0.008),
)
def check_intervals(
    preproc: Series,
    bold_mask: Mask,
    hmc_xfms: Transforms,
    model_file: File,
    regressors: Regressors,
    confounds: Confounds | None = None,
    *,
    here: Path,
    series_name: str,
    contrasts: Contrasts,
    factor: Factor,
    tr: float,
    n_dummy: int,
    high_pass: float,
    slice_time_ref: float,
    has_stc: bool,
    nuisance: list[str] | None,
    random_seed: int,
    omp_nthreads: int,
) -> Rows:
    """Coverage of 95 % intervals of each contrast where the acquired run is the truth."""
    from nibabel.affines import apply_affine
    from threadpoolctl import threadpool_limits

    from bids_sr.sr.variance.one_level_down import errors_below
    from bids_sr.sr.variance.posterior import effect_scale

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
        _LOGGER.warning("%s: its intervals cannot be tested: %s", series_name, error)
        return []
    how = ActivationSettings(
        kinds=("glm",),
        confound_names=model_confounds(confounds, nuisance),
        tr=tr,
        n_dummy=n_dummy,
        high_pass=high_pass,
        slice_time_ref=slice_time_ref,
        has_stc=has_stc,
    )
    maps = {}
    for path, mask in ((below.low, below.low_mask), (below.errors, below.mask)):
        with SeriesReader(path) as reader:
            zooms = reader.zooms
            found = fitted(reader, mask, regressors, contrasts, how, here, confounds)
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


@step(
    makes=("error_maps", "error_rows"),
    part=Part.MAPS,
    memory=MAPS,
    text=lambda setting: (
        f"The error of the reconstruction by {setting('series_name')} is proportional to the"
        " effect and repeats in every block. Its standard deviation was taken of 64 draws from the"
        " prior of the run, scaled by the power of the acquired effect above its noise around each"
        " voxel; the probability of the opposite sign follows from it and the variance of the"
        " linear model.\n"
    ),
    keep={"error_maps": Keep(among=stored_maps, varies=OF_CONTRAST)},
    cost=Cost(always=4.0),
)
def measure_error(
    maps: list[Map],
    acquired_maps: list[Map],
    mask: Mask,
    bold_mask: Mask,
    coverage_rows: Rows,
    error_draws: Series | None = None,
    acquired_draws: Series | None = None,
    *,
    here: Path,
    series_name: str,
    smoothing: Sequence[float],
) -> tuple[list[Map], Rows]:
    """Maps of the reconstruction's error, reliable regions, and the share expected to be wrong.

    None for a series without a prior. `acquired_maps` are those of the acquired series, by whose
    effects at the narrowest smoothing the draws are scaled.
    """
    if error_draws is None or acquired_draws is None:
        return [], []
    from bids_sr.sr.variance.posterior import effect_scale, wrong_sign

    brain, coarse, zooms = mask.data, bold_mask.data, bold_mask.zooms
    narrowest, covered = min(smoothing), {row.contrast: row.value for row in coverage_rows}
    # where slices get thinner, those at the centers of the acquired ones
    thinner = brain.shape[2] / coarse.shape[2]
    centers = ((np.arange(coarse.shape[2]) + 0.5) * thinner).astype(int)
    power = _mean_square(acquired_draws, narrowest)[..., centers]
    scales = {}
    for name, own in _by_contrast(acquired_maps, narrowest):
        effect, variance = (own[stat].volume.data for stat in ("effect", "variance"))
        scales[name] = _onto(
            effect_scale(effect, variance, power, coarse, zooms.tolist()), brain.shape
        )
    found: list[Derivative] = []
    rows: list[MetricRow] = list(coverage_rows)
    for width in smoothing:
        unit, is_wide = _mean_square(error_draws, width), bool(width >= _WIDE * max(zooms[:2]))
        for name, own in _by_contrast(maps, width):
            effect, variance, t, z = (own[stat].volume.data for stat in _FITTED)
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
            of = own["effect"]
            made = list(_statmaps(images, of))
            regions = {"fdr": active}
            if covered.get(name, 0.0) >= LEAST_COVERAGE:
                regions["reliable"] = reliable
                made.append(_region(reliable, of, _RELIABLE[int(is_wide)]))
            for values, named in made:
                save_image(values, mask.affine, path := here / f"{named.name}.nii")
                found.append(Derivative(path, named.entities, named.sidecar))
            for threshold, region in regions.items():
                metrics = {
                    "expected_wrong": float(wrong[region].mean()) if region.any() else None,
                    "voxels": int(region.sum()),
                }
                rows += metric_rows(
                    series_name, metrics, threshold=threshold, contrast=name, fwhm_mm=width
                )
    return found, rows


def _by_contrast(maps: Sequence[Derivative], width: float) -> Iterator[_OfContrast]:
    """Maps of the linear model at one smoothing (FWHM, mm), by statistic."""
    found: dict[str, dict[str, Derivative]] = {}
    for each in maps:
        if each.entities["suffix"] == "statmap" and real(each.sidecar["SmoothingFWHM"]) == width:
            found.setdefault(each.entities["contrast"], {})[each.entities["stat"]] = each
    return ((name, own) for name, own in found.items() if own.keys() >= set(_FITTED))


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
    own = {key: label for key, label in effect.entities.items() if key not in ("contrast", "stat")}
    own |= {"label": effect.entities["contrast"], "desc": own["desc"] + RELIABLE, "suffix": "mask"}
    common = ("SkullStripped", "SourceSeries", "SmoothingFWHM", "Resolution")
    told = {key: effect.sidecar[key] for key in common if key in effect.sidecar}
    about = {"Type": "ROI", "Description": text, "ThresholdLabel": RELIABLE}
    return region.astype(np.uint8), Derivative(None, own, {**told, **about})
