"""Maps of each series at each smoothing, its quality, and the tables that compare all series."""

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from math import prod
from pathlib import Path
from typing import Literal

from threadpoolctl import threadpool_limits

from bids_sr.config.levels import StoredMaps
from bids_sr.config.seeds import count_mapped
from bids_sr.glm import map_sidecars
from bids_sr.glm.activation_maps import ActivationMaps, ActivationSettings, map_activation
from bids_sr.glm.activation_regions import parse_thresholds
from bids_sr.glm.contrasts import Contrasts
from bids_sr.glm.design import scaled_weights
from bids_sr.glm.map_summary import Regions, activation_rows, find_regions, raised_rows
from bids_sr.glm.model_confounds import model_confounds
from bids_sr.glm.noise import FULL_ORDER_DOF, noise_words
from bids_sr.glm.time_columns import kept_volumes
from bids_sr.io.arrays import Array, Float32
from bids_sr.io.atomic_files import link_whole
from bids_sr.io.grids import AxisOrder, Factor
from bids_sr.io.json_values import real
from bids_sr.io.nifti import SeriesReader, save_image
from bids_sr.metrics.rows import MetricRow, columns_json, metric_rows
from bids_sr.pipeline.artifacts import (
    Confounds,
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
from bids_sr.pipeline.step import HERE, enumerated, step
from bids_sr.quality.series_quality import QualitySums, quality_metrics
from bids_sr.series import RAW, map_label
from bids_sr.sr.method import Cost
from bids_sr.steps.memory import MAPS

_LOGGER = logging.getLogger(__name__)

_Kinds = Sequence[Literal["cc", "glm"]]
_ON_OFF = (
    "task time series (on/off) convolved with the canonical hemodynamic response function"
    " [@stss_srfmri]"
)


def describe_maps(
    *,
    kinds: _Kinds,
    thresholds: Sequence[str],
    smoothing: Sequence[float],
    high_pass: float,
    low_pass: float | None,
    nuisance: Sequence[str] | None,
    correlation_confounds: bool,
    at_rest: bool,
) -> str:
    """Return methods text of the maps of all series; for parameters see `map_series`.

    `at_rest`: whether time series of seeds replace events.
    """
    widths = enumerated([f"{width:g}" for width in smoothing])
    what, course = (
        ("Connectivity", "time series of each seed") if at_rest else ("Activation", _ON_OFF)
    )
    unit = "standard deviation of the seed" if at_rest else "sustained block"
    none = " (0 mm: no smoothing)" if 0 in smoothing else ""
    parts = [
        f"{what} was mapped in all series with the same model, after smoothing with a Gaussian"
        f" kernel of {widths} mm FWHM{none}."
    ]
    if "cc" in kinds:
        filtered = f", low-pass filtered at {low_pass:g} Hz" if low_pass else ""
        if correlation_confounds:
            filtered += f", corrected for confounds (`{', '.join(nuisance or ()) or 'none'}`)"
        parts.append(
            f"For correlation maps, voxel time series were linearly detrended{filtered} and"
            f" correlated with the {course}. Active regions were defined as voxels in the region"
            " of interest with a correlation of at least max - (max - min)/4."
        )
    if "glm" in kinds:
        named = (
            "six head-motion parameters and their temporal derivatives, and, if tissue maps were"
            " available, the first five aCompCor components [@behzadi2007] of all nuisance"
            " tissues combined"
            if nuisance is None
            else f"and the selected confounds (`{', '.join(nuisance) or 'none'}`), as far as they"
            " were available in the run"
        )
        drift = f"discrete cosines up to {high_pass:.2g} Hz" if high_pass else "a linear trend"
        parts.append(
            "A general linear model (GLM) was fitted to the unfiltered series with generalized"
            " least squares. Regressors were computed with nilearn [@nilearn]. Nuisance"
            f" regressors were {drift}, {named}. The noise model was {noise_words()}"
            " [@woolrich2001]. Autocorrelations were adjusted for image intensity, pooled over"
            " voxels with similar noise [@corbin2018] and corrected for the effect of the design"
            f" on the residuals [@worsley2002]. For runs with fewer than {FULL_ORDER_DOF} degrees"
            " of freedom, the model had a lower order, which is listed in the sidecar of each"
            f" map. Effects are reported as signal change per {unit}."
        )
        if "fdr" in thresholds:
            parts.append(
                "Maps were also thresholded at a false discovery rate (FDR) of .05"
                " [@benjamini1995]."
            )
    return " ".join(parts) + "\n"


OF_CONTRAST = {"contrast": ["ContrastWeights"], "label": []}
"""What sidecars of maps and of regions say of their contrast alone."""


_BESIDE = {"effect": ("sd", "tTotal"), "variance": ("wrongsign",), "z": ("zTotal",)}
"""Maps of `steps.quality`, and beside which they are stored."""


def stored_maps(
    series: str, chosen: StoredMaps, contrasts: Collection[str]
) -> list[dict[str, str]]:
    """Return the maps and regions of a series to be stored, by their entities.

    At a level that stores no maps of the series, there are none.
    """
    entities: list[dict[str, str]] = []
    left_out = chosen.leaves_out(series)
    for fwhm_mm, statistics in chosen.of(series).items():
        desc = map_label(series, fwhm_mm)
        stats = [each for stat in statistics.stats for each in (stat, *_BESIDE.get(stat, ()))]
        entities += [{"suffix": "statmap", "stat": stat, "desc": desc} for stat in stats]
        regions = [
            map_label(series, fwhm_mm, each.label)
            for each in parse_thresholds(statistics.thresholds)
        ]
        regions += [desc + "Reliable"] * ("effect" in statistics.stats)
        entities += [{"suffix": "mask", "desc": region} for region in regions]
    if not left_out:
        return entities
    key = {"statmap": "contrast", "mask": "label"}
    named = [name for name in contrasts if name not in left_out]
    return [{**own, key[own["suffix"]]: name} for own in entities for name in named]


def _cost_of_maps(contrasts: Contrasts) -> Cost:
    return Cost(always=1.1, volumes=0.015, high=0.9 * count_mapped(contrasts))


@step(makes=("maps", "map_metrics", "quality", "middle", "tsnr"), memory=MAPS, cost=_cost_of_maps)
def map_series(
    series: Series,
    mask: Mask,
    roi: Mask,
    regressors: Regressors,
    here: Path = HERE,
    confounds: Confounds | None = None,
    zerofilled: Series | None = None,
    zerofilled_maps: Sequence[Map] = (),
    zerofilled_metrics: Rows | None = None,
    zerofilled_quality: Rows | None = None,
    zerofilled_tsnr: Image | None = None,
    *,
    series_name: str,
    smoothing: Sequence[float],
    contrasts: Contrasts,
    kinds: _Kinds,
    thresholds: Sequence[str],
    factor: Factor,
    tr: float,
    n_dummy: int,
    high_pass: float,
    low_pass: float | None,
    start_time: float,
    axis_order: AxisOrder,
    nuisance: list[str] | None,
    input_smoothing: float = 0.0,
    correlation_confounds: bool = False,
) -> tuple[list[Map], Rows, Rows, Image, Image]:
    """Map correlation and linear model of one series, with regions, metrics and image quality.

    The series is read once for all smoothings, and for tSNR, mean signal and noise smoothness of
    its steady volumes that are not censored. Figures need its middle volume and the map of tSNR,
    and no series.

    `series`: in BOLD signal units, dummies included. `mask`, `roi`: on its grid. `low_pass`: Hz,
    of correlation only. `zerofilled, zerofilled_maps, zerofilled_metrics, zerofilled_quality,
    zerofilled_tsnr`: the zero-filled series and what this step made of it: that of the series,
    too, where the series is the same file, as of a method that is not applied. `start_time`:
    moment of a volume for which its values hold (s after its start). `nuisance`: columns of the
    confounds that enter the model; None: motion and aCompCor. `input_smoothing`: FWHM (mm) by
    which the acquired volumes had been smoothed, for the sidecars. `correlation_confounds`:
    whether the confounds are also regressed out of the time series that are correlated.
    """
    middle = Volume(series.volume(series.shape[3] // 2), series.affine)
    if zerofilled is not None and Path(series.path).samefile(zerofilled.path):
        about = partial(
            map_sidecars.common_sidecar,
            series=series_name,
            zooms=series.zooms,
            axis_order=axis_order,
        )
        return (
            [_named_anew(one, series_name, about, here) for one in zerofilled_maps],
            [replace(row, series=series_name) for row in zerofilled_metrics or ()],
            [replace(row, series=series_name) for row in zerofilled_quality or ()],
            middle,
            zerofilled_tsnr or middle,
        )
    always = model_confounds(confounds, [])  # of the temporal model
    lacking = [name for name in nuisance or () if model_confounds(confounds, [name]) == always]
    if lacking and series_name == RAW:
        _LOGGER.warning("The confounds of this run do not include %s", ", ".join(lacking))
    settings = ActivationSettings(
        kinds=tuple(kinds),
        confound_names=model_confounds(confounds, nuisance),
        low_pass=low_pass,
        smoothing=tuple(map(float, smoothing)),
        tr=tr,
        n_dummy=n_dummy,
        high_pass=high_pass,
        start_time=start_time,
        correlation_confounds=correlation_confounds,
    )
    kept = kept_volumes(confounds, series.shape[3])[n_dummy:]
    sums = QualitySums(mask.data, series.zooms, len(kept), None if kept.all() else kept)
    fits = fitted(series, mask.data, regressors, contrasts, settings, here, confounds, sums.add)
    maps: list[Derivative] = []
    rows: list[MetricRow] = []
    for fwhm_mm, fit in fits.items():
        regions = find_regions(fit.maps, mask.data, roi.data, parse_thresholds(thresholds))
        common = map_sidecars.common_sidecar(
            series=series_name, fwhm_mm=fwhm_mm, zooms=series.zooms, axis_order=axis_order
        )
        if input_smoothing:
            common = {**common, "InputSmoothingFWHM": input_smoothing}
        maps += [
            _written(
                Derivative(
                    Volume(values, series.affine),
                    map_sidecars.entities(series=series_name, **entities),
                    {**sidecar, **common},
                ),
                here,
            )
            for values, entities, sidecar in _images(
                fit, regions, thresholds, contrasts, settings, map_label(series_name, fwhm_mm)
            )
        ]
        design = fit.design
        size = {
            "dof": design.dof,
            "design_rank": design.rank,
            "design_columns": len(design.columns),
        }
        rows += metric_rows(series_name, size if "glm" in kinds else {}, fwhm_mm=fwhm_mm)
        rows += activation_rows(
            fit.maps,
            regions,
            regressors.contrasts(contrasts),
            mask=mask.data,
            roi=roi.data,
            affine=series.affine,
            series=series_name,
            fwhm_mm=fwhm_mm,
            per_acquired=1 if series_name == RAW else prod(factor),
        )
    quality = sums.quality()
    quality_rows = metric_rows(series_name, quality_metrics(quality, mask.data))
    return maps, rows, quality_rows, middle, Volume(quality.tsnr, series.affine)


def _written(made: Derivative, here: Path) -> Derivative:
    """Return a map or region as a file, so that no more than one is held on its grid."""
    save_image(made.volume.data, made.volume.affine, path := here / f"{made.name}.nii")
    return replace(made, content=path)


def _named_anew(
    made: Derivative, series: str, about: Callable[..., map_sidecars.Sidecar], here: Path
) -> Derivative:
    """Return a map or region under the name of a series of the same values."""
    fwhm_mm = real(made.sidecar["SmoothingFWHM"])
    label = map_label(series, fwhm_mm, str(made.sidecar.get("ThresholdLabel", "")))
    named = replace(
        made,
        entities={**made.entities, "desc": label},
        sidecar={**made.sidecar, **about(fwhm_mm=fwhm_mm)},
    )
    link_whole(Path(str(made.content)), path := here / f"{named.name}.nii")
    return replace(named, content=path)


def fitted(
    series: SeriesReader,
    mask: Array,
    regressors: Regressors,
    contrasts: Contrasts,
    settings: ActivationSettings,
    here: Path,
    confounds: Confounds | None = None,
    seen: Callable[[list[Float32]], None] | None = None,
) -> dict[float, ActivationMaps]:
    """Map the contrasts that can be made, in one thread.

    There is one step for every series.

    `settings`: of the correlation and of the linear model. `seen`: what else is done with the
    volumes that are read, some at a time. `confounds`: confounds of the run, one row a volume;
    None: none enter the model. Returns maps, with the design, by smoothing (FWHM, mm).
    """
    there = regressors.contrasts(contrasts)
    with threadpool_limits(1):
        return map_activation(
            series,
            mask,
            regressors,
            there,
            settings,
            scratch=here,
            confounds=confounds,
            seen=seen,
        )


def _images(
    fit: ActivationMaps,
    regions: Regions,
    thresholds: Sequence[str],
    contrasts: Contrasts,
    settings: ActivationSettings,
    desc: str,
) -> Iterator[tuple[Array, dict[str, str], map_sidecars.Sidecar]]:
    """Values, entities and sidecar of maps and of regions."""
    limits = {each.label: each for each in parse_thresholds(thresholds)}
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
            map_sidecars.map_sidecar(stat, scaled_weights(contrasts[name]), model),
        )
    for (name, label), (region, _) in regions.items():
        entities = {"label": name, "desc": desc + label, "suffix": "mask"}
        yield region, entities, map_sidecars.region_sidecar(limits[label])


@step(makes=("image_metrics", "image_columns"), small=True)
def join_quality(quality: list[Rows]) -> tuple[Rows, Facts]:
    """Quality of all series in one table, and what its columns and measures mean."""
    rows = [row for table in quality for row in table]
    return rows, columns_json(row.statistic for row in rows)


_COMPARED = ("cc", "effect", "t", "z")
"""Statistics of the maps that tables of regions and comparisons are made of."""
_MapsBySmoothing = dict[float, dict[str, dict[tuple[str, str], Derivative]]]


def by_smoothing(maps: Iterable[Derivative], stats: Collection[str]) -> _MapsBySmoothing:
    """Return maps of some statistics as FWHM → series → (contrast, stat) → map.

    Regions are skipped.

    Maps by smoothing (FWHM, mm), series, and contrast with statistic.
    """
    out: _MapsBySmoothing = {}
    for (contrast, stat, fwhm_mm), of_series in sorted_maps(maps)[0].items():
        for series, each in of_series.items() if stat in stats else ():
            out.setdefault(fwhm_mm, {}).setdefault(series, {})[contrast, stat] = each
    return out


_Sorted = dict[tuple[str, str, float], dict[str, Derivative]]


def sorted_maps(maps: Iterable[Derivative]) -> tuple[_Sorted, _Sorted]:
    """Return maps and regions of a run by series; those in another space are left out.

    Maps are by contrast, statistic and FWHM (mm), regions by contrast, kind and FWHM.
    """
    stats, regions = _Sorted(), _Sorted()
    for made in maps:
        entities, about = made.entities, made.sidecar
        if entities.get("space"):
            continue
        series = str(about["SourceSeries"])
        fwhm_mm = real(about["SmoothingFWHM"])
        if entities["suffix"] == "statmap":
            stats.setdefault((entities["contrast"], entities["stat"], fwhm_mm), {})[series] = made
        elif entities["suffix"] == "mask":
            region = str(about["ThresholdLabel"])
            regions.setdefault((entities["label"], region, fwhm_mm), {})[series] = made
    return stats, regions


COMPARED_MAPS = (
    "For comparisons between series, maps of the acquired series were resampled to the"
    " high-resolution grid with cubic spline interpolation. "
)
"""Methods text of `compare_maps`."""


def _cost_of_comparison(contrasts: Contrasts) -> Cost:
    return Cost(always=1.5, high=0.6 * count_mapped(contrasts))


@step(makes=("activation", "activation_columns"), cost=_cost_of_comparison)
def compare_maps(
    maps: list[Map],
    map_metrics: list[Rows],
    bold_mask: Mask,
    bold_mask_hr: Mask,
    roi_hr: Mask,
    *,
    contrasts: Contrasts,
    thresholds: Sequence[str],
    factor: Factor,
) -> tuple[Rows, Facts]:
    """Return all metrics of the maps of each series and of the upsampled raw maps.

    The raw maps are brought to the high-resolution grid by splines.
    """
    made = {each.entities["contrast"] for each in maps if each.entities["suffix"] == "statmap"}
    among = {name: contrasts[name] for name in contrasts if name in made}
    rows = [row for table in map_metrics for row in table]
    for fwhm_mm, of_series in by_smoothing(maps, _COMPARED).items():
        if raw := {key: each.volume.data for key, each in of_series.get(RAW, {}).items()}:
            rows += raised_rows(
                raw,
                among,
                parse_thresholds(thresholds),
                acquired=bold_mask,
                fine=bold_mask_hr,
                roi=roi_hr.data,
                fwhm_mm=fwhm_mm,
                per_acquired=prod(factor),
            )
    return rows, columns_json(row.statistic for row in rows)
