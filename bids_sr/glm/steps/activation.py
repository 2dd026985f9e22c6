"""Maps and image quality of each series at each smoothing width."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from math import prod
from pathlib import Path

from bids_sr.engine.artifacts import Derivative, Facts, Image, Map, Mask, Rows, Volume
from bids_sr.engine.metric_rows import MetricRow, columns_json, metric_rows, with_input_smoothing
from bids_sr.engine.step import HERE, Stage, step
from bids_sr.engine.step_memory import MAPS
from bids_sr.glm import map_sidecars
from bids_sr.glm.activation_maps import ActivationMaps, ActivationSettings, map_activation
from bids_sr.glm.activation_regions import Threshold, parse_thresholds
from bids_sr.glm.contrasts import Contrasts
from bids_sr.glm.design import Design
from bids_sr.glm.map_summary import Regions, activation_rows, find_regions
from bids_sr.glm.regressors import Regressors
from bids_sr.glm.series_quality import QualitySums, quality_metrics
from bids_sr.glm.steps.linear_models import LinearModel
from bids_sr.glm.steps.mapped_series import MaskedSeries
from bids_sr.io.arrays import Array
from bids_sr.io.frozen import frozen
from bids_sr.io.grids import AxisOrder
from bids_sr.io.nifti import SeriesReader, save_image
from bids_sr.io.series import ACQUIRED, map_label
from bids_sr.preproc.model_confounds import model_confounds
from bids_sr.preproc.steps.aligned_series import BoldBrain
from bids_sr.preproc.temporal_regressors import uncensored_volumes
from bids_sr.spatial.masks import compute_mean_signal

_LOGGER = logging.getLogger(__name__)
_DescribedImage = tuple[Array, dict[str, str], map_sidecars.Sidecar]


@frozen
class MapSettings(ActivationSettings):
    """Settings of the maps of all series of a run, apart from the linear model.

    `thresholds` define active regions. `smoothing` is the smoothing of the maps, and
    `input_smoothing` the smoothing of the acquired volumes, for sidecars (FWHM, mm). `axis_order`
    is the axis order of the input, for texts.
    """

    thresholds: Sequence[str]
    smoothing: Sequence[float]
    axis_order: AxisOrder
    input_smoothing: float = 0.0


@frozen
class SeriesMaps:
    """Maps of one series, with metrics and inputs of figures.

    `maps` include active regions. `quality` is the image quality of the series, and `middle` its
    middle volume.
    """

    maps: list[Map]
    map_metrics: Rows
    quality: Rows
    middle: Image


@step(Stage.MAPS, memory=MAPS)
def map_series(
    masked: MaskedSeries,
    roi: Mask,
    model: LinearModel,
    brain: BoldBrain,
    here: Path = HERE,
    *,
    settings: MapSettings,
) -> SeriesMaps:
    """Map correlation and linear model of one series, with regions, metrics and image quality.

    The series is read once for all smoothing widths, and for tSNR, mean signal and noise
    smoothness of its uncensored steady-state volumes. Figures use its middle volume instead of
    the series.

    `roi` is on the grid of the series. The mean of the boldref in the `brain` is 100 % in all
    effects of the run: maps, tables and regions are in percent from here on, for every series.
    Block effects and tests are in signal units. Regressors of the `model` are also used for
    correlations.
    """
    series_name, series, mask = masked.series_name, masked.series, masked.mask
    middle = Volume(series.volume(series.shape[3] // 2), series.affine)
    if series_name == ACQUIRED:
        _warn_of_missing_confounds(model)
    sums = _make_quality_sums(series, mask.data, model)
    designs, contrasts = model.build_designs(series, settings.smoothing, masked.own_regressors)
    if not masked.own_regressors:
        _warn_of_silent_conditions(model.inputs.regressors, designs)
    fits = map_activation(
        series, mask.data, designs, contrasts, settings, scratch=here, inspect_volumes=sums.add
    )
    mean_signal = compute_mean_signal(brain.boldref.data, brain.bold_mask.data)
    maps: list[Derivative] = []
    rows: list[MetricRow] = []
    thresholds = parse_thresholds(settings.thresholds)
    for fwhm_mm, signal_fit in fits.items():
        fit = signal_fit.in_percent(mean_signal)
        regions = find_regions(fit.maps, mask.data, roi.data, thresholds)
        shared_sidecar = map_sidecars.common_sidecar(
            series=series_name, fwhm_mm=fwhm_mm, zooms=series.zooms, axis_order=settings.axis_order
        )
        if settings.input_smoothing:
            shared_sidecar["InputSmoothingFWHM"] = settings.input_smoothing
        described_images = chain(
            _iterate_maps(fit, contrasts, mean_signal, settings),
            _iterate_regions(regions, thresholds),
        )
        for image, labels, sidecar in described_images:
            desc = map_label(series_name, fwhm_mm, labels["desc"])
            entities = map_sidecars.entities(series=series_name, **{**labels, "desc": desc})
            derivative = Derivative(None, entities, {**sidecar, **shared_sidecar})
            maps.append(write_map(image, series.affine, derivative, here))
        if "glm" in settings.kinds:
            rows += metric_rows(series_name, {"dof": fit.design.dof}, fwhm_mm=fwhm_mm)
        rows += activation_rows(
            fit.maps,
            regions,
            contrasts,
            mask=mask.data,
            roi=roi.data,
            affine=series.affine,
            series=series_name,
            fwhm_mm=fwhm_mm,
            per_acquired=1 if series_name == ACQUIRED else prod(brain.factor),
        )
    quality = sums.quality()
    return SeriesMaps(
        maps=maps,
        map_metrics=rows,
        quality=metric_rows(series_name, quality_metrics(quality, mask.data)),
        middle=middle,
    )


def _warn_of_missing_confounds(model: LinearModel) -> None:
    """Log a warning if the confounds of the run lack columns that were requested."""
    confounds = model.inputs.confounds
    temporal_columns = model_confounds(confounds, [])
    missing_names = [
        name
        for name in model.nuisance or ()
        if model_confounds(confounds, [name]) == temporal_columns
    ]
    if missing_names:
        _LOGGER.warning("The confounds of this run do not include %s", ", ".join(missing_names))


def _warn_of_silent_conditions(regressors: Regressors, designs: Mapping[float, Design]) -> None:
    """Log a warning of conditions without events inside the run."""
    modeled = next(iter(designs.values())).conditions
    if unmodeled := sorted(set(regressors.conditions) - set(modeled)):
        _LOGGER.warning(
            "The conditions %s have no events inside the run and are not modeled.",
            ", ".join(unmodeled),
        )


def _make_quality_sums(series: SeriesReader, mask: Array, model: LinearModel) -> QualitySums:
    """Return sums for the image quality of the uncensored steady-state volumes of a series."""
    inputs = model.inputs
    uncensored = uncensored_volumes(inputs.confounds, series.shape[3])[inputs.n_dummy :]
    return QualitySums(
        mask, series.zooms, len(uncensored), None if uncensored.all() else uncensored
    )


def _iterate_maps(
    fit: ActivationMaps, contrasts: Contrasts, mean_signal: float, settings: MapSettings
) -> Iterator[_DescribedImage]:
    """Yield the maps with their entities and sidecars."""
    for (contrast, stat), statmap in fit.maps.items():
        model_text = map_sidecars.model_text(
            stat, fit.design, settings, noise_memory_s=fit.noise_memory_s
        )
        yield (
            statmap,
            {"contrast": contrast, "stat": stat, "desc": "", "suffix": "statmap"},
            map_sidecars.map_sidecar(stat, contrasts[contrast], model_text, mean_signal),
        )


def _iterate_regions(
    regions: Regions, thresholds: Sequence[Threshold]
) -> Iterator[_DescribedImage]:
    """Yield the regions with their entities and sidecars; ``desc`` is the kind of region."""
    threshold_by_label = {threshold.label: threshold for threshold in thresholds}
    for (contrast, label), (region, _) in regions.items():
        yield (
            region,
            {"label": contrast, "desc": label, "suffix": "mask"},
            map_sidecars.region_sidecar(threshold_by_label[label]),
        )


def write_map(values: Array, affine: Array, derivative: Derivative, here: Path) -> Derivative:
    """Write a map or region to an uncompressed file in the folder `here`.

    The result refers to the file, so that only one map is in memory on its grid.
    """
    path = here / f"{derivative.name}.nii"
    save_image(values, affine, path)
    return replace(derivative, content=path)


@step(Stage.MAPS, makes=("image_metrics", "image_columns"), small=True)
def join_quality(quality: list[Rows], *, input_smoothing: float) -> tuple[Rows, Facts]:
    """Join the image quality of all series in one table, with descriptions of its columns.

    `input_smoothing` is the smoothing of the acquired volumes (FWHM, mm).
    """
    rows = [row for table in quality for row in table]
    return (
        with_input_smoothing(rows, input_smoothing),
        columns_json(row.statistic for row in rows),
    )
