"""Maps and image quality of each series at each smoothing width."""

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import prod
from pathlib import Path
from typing import Literal

from threadpoolctl import threadpool_limits

from bids_sr.config.levels import StoredMaps
from bids_sr.config.seeds import count_mapped
from bids_sr.frozen import frozen
from bids_sr.glm import map_sidecars
from bids_sr.glm.activation_maps import ActivationMaps, ActivationSettings, map_activation
from bids_sr.glm.activation_regions import parse_thresholds
from bids_sr.glm.contrasts import Contrasts
from bids_sr.glm.design import DesignSettings, scale_weights
from bids_sr.glm.map_summary import Regions, activation_rows, find_regions
from bids_sr.glm.model_confounds import model_confounds
from bids_sr.glm.noise import FULL_ORDER_DOF, noise_words
from bids_sr.glm.temporal_regressors import uncensored_volumes
from bids_sr.io.arrays import Array, Float32
from bids_sr.io.atomic_files import link_or_copy
from bids_sr.io.grids import AxisOrder, Factor
from bids_sr.io.json_values import as_number
from bids_sr.io.nifti import SeriesReader, save_image
from bids_sr.metrics.rows import MetricRow, columns_json, metric_rows
from bids_sr.metrics.word_lists import enumerate_words
from bids_sr.pipeline.artifacts import (
    Derivative,
    Facts,
    Image,
    Map,
    Mask,
    Regressors,
    Rows,
    Series,
    Volume,
)
from bids_sr.pipeline.step import HERE, step
from bids_sr.quality.series_quality import QualitySums, quality_metrics
from bids_sr.run_time import RunTime
from bids_sr.series import RAW, map_label
from bids_sr.steps.linear_models import LinearModel
from bids_sr.steps.memory import MAPS

_LOGGER = logging.getLogger(__name__)

MapKind = Literal["cc", "glm"]
_ON_OFF = (
    "task time series (on/off) convolved with the canonical hemodynamic response function"
    " [@stss_srfmri]"
)


@frozen
class MapSettings:
    """Settings of the maps of all series of a run, apart from the linear model.

    Parameters
    ----------
    kinds : Sequence[MapKind]
        Kinds of maps: correlation, linear model, or both.
    thresholds : Sequence[str]
        Thresholds of active regions.
    smoothing : Sequence[float]
        Smoothing of the maps (FWHM, mm).
    factor : Factor
        Ratio of acquired to high-resolution voxel size, per axis.
    axis_order : AxisOrder
        Axis order of the input, for texts.
    low_pass : float | None
        Cut-off of the low-pass filter of correlations (Hz); None to disable the filter.
    input_smoothing : float
        Smoothing of the acquired volumes (FWHM, mm), for sidecars.
    correlation_confounds : bool
        Whether confounds are also regressed out of time series before correlations are computed.
    """

    kinds: Sequence[MapKind]
    thresholds: Sequence[str]
    smoothing: Sequence[float]
    factor: Factor
    axis_order: AxisOrder
    low_pass: float | None = None
    input_smoothing: float = 0.0
    correlation_confounds: bool = False


def describe_maps(
    settings: MapSettings,
    design: DesignSettings,
    nuisance: Sequence[str] | None,
    *,
    at_rest: bool,
) -> str:
    """Return methods text of the maps of all series.

    `nuisance`: columns of the confounds in the model; None for motion and aCompCor. `at_rest` is
    True if time series of seeds replace events.
    """
    widths = enumerate_words([f"{width:g}" for width in settings.smoothing])
    map_text, course = (
        ("Connectivity", "time series of each seed") if at_rest else ("Activation", _ON_OFF)
    )
    unit = "standard deviation of the seed" if at_rest else "sustained block"
    none = " (0 mm: no smoothing)" if 0 in settings.smoothing else ""
    sentences = [
        f"{map_text} was mapped in all series with the same model, after smoothing with a Gaussian"
        f" kernel of {widths} mm FWHM{none}."
    ]
    if "cc" in settings.kinds:
        filtered = f", low-pass filtered at {settings.low_pass:g} Hz" if settings.low_pass else ""
        if settings.correlation_confounds:
            filtered += f", corrected for confounds (`{', '.join(nuisance or ()) or 'none'}`)"
        sentences.append(
            f"For correlation maps, voxel time series were linearly detrended{filtered} and"
            f" correlated with the {course}. Active regions were defined as voxels in the region"
            " of interest with a correlation of at least max - (max - min)/4."
        )
    if "glm" in settings.kinds:
        series_text = (
            "six head-motion parameters and their temporal derivatives, and, if tissue maps were"
            " available, the first five aCompCor components [@behzadi2007] of all nuisance"
            " tissues combined"
            if nuisance is None
            else f"and the selected confounds (`{', '.join(nuisance) or 'none'}`), as far as they"
            " were available in the run"
        )
        drift = (
            f"discrete cosines up to {design.high_pass:.2g} Hz"
            if design.high_pass
            else "a linear trend"
        )
        sentences.append(
            "A general linear model (GLM) was fitted to the unfiltered series with generalized"
            " least squares. Regressors were computed with nilearn [@nilearn]. Nuisance"
            f" regressors were {drift}, {series_text}. The noise model was {noise_words()}"
            " [@woolrich2001]. Autocorrelations were adjusted for image intensity, pooled over"
            " voxels with similar noise [@corbin2018] and corrected for the effect of the design"
            f" on the residuals [@worsley2002]. For runs with fewer than {FULL_ORDER_DOF} degrees"
            " of freedom, the model had a lower order, which is listed in the sidecar of each"
            f" map. Effects are reported as signal change per {unit}."
        )
        if "fdr" in settings.thresholds:
            sentences.append(
                "Maps were also thresholded at a false discovery rate (FDR) of .05"
                " [@benjamini1995]."
            )
    return " ".join(sentences) + "\n"


OF_CONTRAST = {"contrast": ["ContrastWeights"], "label": []}
"""Sidecar entries of maps and regions that are specific to their contrast."""


_BESIDE = {"effect": ("sd", "tTotal"), "variance": ("wrongsign",), "z": ("zTotal",)}
"""Maps of `steps.quality`, by the statistic that they are stored with."""


def select_stored_maps(
    series: str, stored_maps: StoredMaps, contrasts: Collection[str]
) -> list[dict[str, str]]:
    """Return the entities of the maps and regions of a series that are stored.

    The list is empty if the storage level does not include maps of the series.
    """
    entities: list[dict[str, str]] = []
    omitted = stored_maps.omitted_contrasts(series)
    for fwhm_mm, statistics in stored_maps.outputs_of(series).items():
        desc = map_label(series, fwhm_mm)
        stats = [
            statistic for stat in statistics.stats for statistic in (stat, *_BESIDE.get(stat, ()))
        ]
        entities += [{"suffix": "statmap", "stat": stat, "desc": desc} for stat in stats]
        regions = [
            map_label(series, fwhm_mm, threshold.label)
            for threshold in parse_thresholds(statistics.thresholds)
        ]
        regions += [desc + "Reliable"] * ("effect" in statistics.stats)
        entities += [{"suffix": "mask", "desc": region} for region in regions]
    if not omitted:
        return entities
    key = {"statmap": "contrast", "mask": "label"}
    stored_contrasts = [name for name in contrasts if name not in omitted]
    return [
        {**map_entities, key[map_entities["suffix"]]: name}
        for map_entities in entities
        for name in stored_contrasts
    ]


def _cost_of_maps(contrasts: Contrasts) -> RunTime:
    return RunTime(always=1.1, volumes=0.015, high=0.9 * count_mapped(contrasts))


@frozen
class SeriesMaps:
    """Maps of one series, with metrics and inputs of figures.

    Parameters
    ----------
    maps : list[Map]
        Maps and regions.
    map_metrics : Rows
        Metrics of the maps.
    quality : Rows
        Image quality of the series.
    middle : Image
        Middle volume.
    tsnr : Image
        Temporal signal-to-noise ratio.
    """

    maps: list[Map]
    map_metrics: Rows
    quality: Rows
    middle: Image
    tsnr: Image


@step(memory=MAPS, cost=_cost_of_maps)
def map_series(
    series: Series,
    mask: Mask,
    roi: Mask,
    model: LinearModel,
    here: Path = HERE,
    own_regressors: Sequence[Regressors] = (),
    zerofilled: Series | None = None,
    zerofilled_maps: SeriesMaps | None = None,
    *,
    series_name: str,
    settings: MapSettings,
) -> SeriesMaps:
    """Map correlation and linear model of one series, with regions, metrics and image quality.

    The series is read once for all smoothing widths, and for tSNR, mean signal and noise
    smoothness of its uncensored steady-state volumes. Figures use its middle volume and tSNR map
    instead of the series.

    Parameters
    ----------
    series : Series
        Series in BOLD signal units, including dummies.
    mask, roi : Mask
        Brain and region of interest on the grid of the series.
    model : LinearModel
        Linear model of the run, whose regressors are also used for correlations.
    own_regressors : Sequence[Regressors]
        Seed time series of this series, one per smoothing width; empty to use the regressors of
        the model at all widths.
    zerofilled, zerofilled_maps : Series | None, SeriesMaps | None
        Zero-filled series, and its maps. They are reused if the series is the same file, because
        its method was not applied.
    series_name : str
        Name of the series.
    settings : MapSettings
        Settings of the maps.
    """
    inputs = model.inputs
    middle = Volume(series.volume(series.shape[3] // 2), series.affine)
    if zerofilled is not None and Path(series.path).samefile(zerofilled.path):
        shared_sidecar = partial(
            map_sidecars.common_sidecar,
            series=series_name,
            zooms=series.zooms,
            axis_order=settings.axis_order,
        )
        assert zerofilled_maps is not None
        return SeriesMaps(
            maps=[
                _link_map(zerofilled_map, series_name, shared_sidecar, here)
                for zerofilled_map in zerofilled_maps.maps
            ],
            map_metrics=[replace(row, series=series_name) for row in zerofilled_maps.map_metrics],
            quality=[replace(row, series=series_name) for row in zerofilled_maps.quality],
            middle=middle,
            tsnr=zerofilled_maps.tsnr,
        )
    time_names = model_confounds(inputs.confounds, [])  # columns of the temporal model
    missing_names = [
        name
        for name in model.nuisance or ()
        if model_confounds(inputs.confounds, [name]) == time_names
    ]
    if missing_names and series_name == RAW:
        _LOGGER.warning("The confounds of this run do not include %s", ", ".join(missing_names))
    uncensored = uncensored_volumes(inputs.confounds, series.shape[3])[inputs.n_dummy :]
    sums = QualitySums(
        mask.data, series.zooms, len(uncensored), None if uncensored.all() else uncensored
    )
    widths = tuple(map(float, settings.smoothing))
    own_seeds = dict(zip(widths, own_regressors, strict=bool(own_regressors)))
    fits = map_contrasts(
        series,
        mask.data,
        model,
        here,
        kinds=settings.kinds,
        smoothing=widths,
        own_regressors=own_seeds,
        low_pass=settings.low_pass,
        correlation_confounds=settings.correlation_confounds,
        inspect_volumes=sums.add,
    )
    maps: list[Derivative] = []
    rows: list[MetricRow] = []
    for fwhm_mm, fit in fits.items():
        regions = find_regions(
            fit.maps, mask.data, roi.data, parse_thresholds(settings.thresholds)
        )
        common = map_sidecars.common_sidecar(
            series=series_name,
            fwhm_mm=fwhm_mm,
            zooms=series.zooms,
            axis_order=settings.axis_order,
        )
        if settings.input_smoothing:
            common = {**common, "InputSmoothingFWHM": settings.input_smoothing}
        maps += [
            _write_map(
                Derivative(
                    Volume(values, series.affine),
                    map_sidecars.entities(series=series_name, **entities),
                    {**sidecar, **common},
                ),
                here,
            )
            for values, entities, sidecar in _images(
                fit, regions, model.contrasts, settings, map_label(series_name, fwhm_mm)
            )
        ]
        design = fit.design
        size = {
            "dof": design.dof,
            "design_rank": design.rank,
            "design_columns": len(design.columns),
        }
        rows += metric_rows(series_name, size if "glm" in settings.kinds else {}, fwhm_mm=fwhm_mm)
        rows += activation_rows(
            fit.maps,
            regions,
            own_seeds.get(fwhm_mm, inputs.regressors).contrasts(model.contrasts),
            mask=mask.data,
            roi=roi.data,
            affine=series.affine,
            series=series_name,
            fwhm_mm=fwhm_mm,
            per_acquired=1 if series_name == RAW else prod(settings.factor),
        )
    quality = sums.quality()
    quality_rows = metric_rows(series_name, quality_metrics(quality, mask.data))
    return SeriesMaps(
        maps=maps,
        map_metrics=rows,
        quality=quality_rows,
        middle=middle,
        tsnr=Volume(quality.tsnr, series.affine),
    )


def _write_map(derivative: Derivative, here: Path) -> Derivative:
    """Write a map or region to a file, so that only one is in memory on its grid."""
    save_image(
        derivative.volume.data, derivative.volume.affine, path := here / f"{derivative.name}.nii"
    )
    return replace(derivative, content=path)


def _link_map(
    derivative: Derivative,
    series: str,
    shared_sidecar: Callable[..., map_sidecars.Sidecar],
    here: Path,
) -> Derivative:
    """Link a map or region under the name of a series with the same values."""
    fwhm_mm = as_number(derivative.sidecar["SmoothingFWHM"])
    label = map_label(series, fwhm_mm, str(derivative.sidecar.get("ThresholdLabel", "")))
    renamed = replace(
        derivative,
        entities={**derivative.entities, "desc": label},
        sidecar={**derivative.sidecar, **shared_sidecar(fwhm_mm=fwhm_mm)},
    )
    link_or_copy(Path(str(derivative.content)), path := here / f"{renamed.name}.nii")
    return replace(renamed, content=path)


def map_contrasts(
    series: SeriesReader,
    mask: Array,
    model: LinearModel,
    here: Path,
    *,
    kinds: Sequence[MapKind],
    smoothing: Sequence[float],
    own_regressors: Mapping[float, Regressors] | None = None,
    low_pass: float | None = 0.1,
    correlation_confounds: bool = False,
    inspect_volumes: Callable[[list[Float32]], None] | None = None,
) -> dict[float, ActivationMaps]:
    """Map the contrasts of a run that can be estimated, in a single thread.

    Parameters
    ----------
    series : SeriesReader
        Series in BOLD signal units, including dummies.
    mask : Array
        Brain on the grid of the series (X, Y, Z).
    model : LinearModel
        Linear model of the run.
    here : Path
        Folder of scratch files.
    kinds : Sequence[MapKind]
        Kinds of maps.
    smoothing : Sequence[float]
        Smoothing of the maps (FWHM, mm).
    own_regressors : Mapping[float, Regressors] | None
        Seeds by smoothing width that were smoothed like the maps and replace the regressors of
        the model; None or empty to use these.
    low_pass, correlation_confounds : float | None, bool
        Filter of correlations; see `MapSettings`.
    inspect_volumes : Callable | None
        Function that is called with each batch of volumes that are read.

    Returns
    -------
    dict[float, ActivationMaps]
        Maps with the design, by smoothing width (FWHM, mm).
    """
    inputs = model.inputs
    regressors = own_regressors or inputs.regressors
    # Seeds are the same voxels at all widths.
    some = next(iter(own_regressors.values())) if own_regressors else inputs.regressors
    with threadpool_limits(1):
        return map_activation(
            series,
            mask,
            regressors,
            some.contrasts(model.contrasts),
            ActivationSettings(
                design=inputs.design,
                n_dummy=inputs.n_dummy,
                confound_names=model.confound_names,
                kinds=tuple(kinds),
                smoothing=tuple(smoothing),
                low_pass=low_pass,
                correlation_confounds=correlation_confounds,
            ),
            scratch=here,
            confounds=inputs.confounds,
            seen=inspect_volumes,
        )


def _images(
    fit: ActivationMaps,
    regions: Regions,
    contrasts: Contrasts,
    settings: MapSettings,
    desc: str,
) -> Iterator[tuple[Array, dict[str, str], map_sidecars.Sidecar]]:
    """Yield values, entities and sidecar of maps and regions."""
    limits = {threshold.label: threshold for threshold in parse_thresholds(settings.thresholds)}
    for (name, stat), values in fit.maps.items():
        model = map_sidecars.model_text(
            stat,
            fit.design,
            noise_order=fit.noise_order,
            low_pass=settings.low_pass,
            correlation_confounds=settings.correlation_confounds,
        )
        entities = {"contrast": name, "stat": stat, "desc": desc, "suffix": "statmap"}
        yield (
            values,
            entities,
            map_sidecars.map_sidecar(stat, scale_weights(contrasts[name]), model),
        )
    for (name, label), (region, _) in regions.items():
        entities = {"label": name, "desc": desc + label, "suffix": "mask"}
        yield region, entities, map_sidecars.region_sidecar(limits[label])


@step(makes=("image_metrics", "image_columns"), small=True)
def join_quality(quality: list[Rows]) -> tuple[Rows, Facts]:
    """Join the image quality of all series in one table, with descriptions of its columns."""
    rows = [row for table in quality for row in table]
    return rows, columns_json(row.statistic for row in rows)
