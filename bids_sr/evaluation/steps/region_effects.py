"""Mean effects of regions in all series of a run, and their table."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import sparse

from bids_sr.boilerplate import data_of
from bids_sr.engine.artifacts import (
    Derivative,
    Facts,
    File,
    Map,
    Mask,
    Rows,
    Series,
    ShortTable,
    Table,
    Volume,
)
from bids_sr.engine.step import HERE, Stage, step
from bids_sr.engine.step_memory import MAPS
from bids_sr.evaluation.detail_support import classify_detail
from bids_sr.evaluation.statistics.multiple_comparisons import benjamini_hochberg
from bids_sr.evaluation.steps.error_maps import iterate_contrasts
from bids_sr.evaluation.steps.reconstruction_error import gather_samples, scale_by_contrast
from bids_sr.glm.clusters import Cluster, largest_clusters, name_cluster
from bids_sr.glm.contrasts import Contrasts
from bids_sr.glm.design import Design, contrast_vector
from bids_sr.glm.region_means import (
    MeanEffect,
    Origin,
    Region,
    average_series,
    fit_mean_series,
    locate_region,
    weigh_means,
)
from bids_sr.glm.steps.atlas_regions import AtlasOfRun
from bids_sr.glm.steps.linear_models import LinearModel
from bids_sr.glm.steps.mapped_series import SampledSeries
from bids_sr.glm.vein_signs import VeinSigns
from bids_sr.io.frozen import frozen
from bids_sr.io.grids import Shape
from bids_sr.io.json_values import as_number
from bids_sr.io.nifti import SeriesReader
from bids_sr.io.region_names import atlas_title
from bids_sr.io.series import ACQUIRED, MEASURED
from bids_sr.preproc.ants import apply_to_points
from bids_sr.preproc.bold_regions import chain_through_t1w
from bids_sr.preproc.steps.aligned_series import BoldBrain
from bids_sr.spatial.itk_files import Transforms
from bids_sr.spatial.masks import compute_mean_signal

REGIONS_TEXT = (
    "The mean effect of a region and its noise were estimated from the mean time series of the"
    " region, and the standard deviation of its reconstruction error from the means of the same"
    " samples over the region.\n"
)
"""Methods text of `measure_regions`."""
COLUMNS: Mapping[str, Mapping[str, object]] = data_of("columns.json")["regions"]
"""Columns of the table of regions, with their descriptions for the sidecar."""
_KEYS = ("region", "origin", "contrast", "fwhm_mm")  # of rows of the same region in all series
_CLUSTER_T = 4.0  # threshold of the clusters for which coverage was measured
# fewest degrees of freedom of the noise of a cluster with an interval; below, the interval covers,
# but is several times the effect
_MIN_CLUSTER_DOF = 3.0
_MIN_MEASURED_SHARE = 0.5  # of the volume of an atlas label
_SCANNER_AXES, _AXES = ("scanner_x", "scanner_y", "scanner_z"), ("x", "y", "z")
_Mean = tuple[Region, float]


def describe_clusters(atlas: str | None) -> str:
    """Return methods text of clusters and labels; `atlas` is the name of the atlas or None."""
    labels = "" if atlas is None else f" and labels of the {atlas_title(atlas)}"
    return (
        f"Clusters of acquired maps (|t| > {_CLUSTER_T:g}; 6-connected; above 10 cm³, split at a"
        f" higher |t|){labels} were measured in the super-resolved series if its detail was"
        " recovered, else in the B-spline series.\n"
    )


@step(
    Stage.EVALUATION,
    makes="region_effects",
    memory=MAPS,
)
def measure_regions(
    sampled: SampledSeries,
    model: LinearModel,
    brain: BoldBrain,
    acquired_maps: list[Map],
    region_masks: dict[str, Mask] | None = None,
    coverage_rows: Rows | None = None,
    other_series: dict[str, Series] | None = None,
    atlas: AtlasOfRun | None = None,
    *,
    exported_name: str,
    region_origin: Origin,
    smoothing: Sequence[float],
    input_smoothing: float,
    in_contrast_over_runs: bool = False,
) -> Table:
    """Measure the mean effects of regions in one series, with their errors.

    Regions of interest are measured in all series and at all widths. Clusters of the acquired map
    and atlas labels are only measured at the narrowest width, and in the series that is to be
    used: the exported series if the detail of the contrast is recovered, else B-spline
    interpolation. Contrasts over runs require labels of all contrasts in the exported series.
    Effects in `other_series` are estimated with the same noise model; not if this series has its
    own seeds.

    The series is read once for all regions. The reconstruction error of each sample is averaged
    over a region, so that the result includes the correlation of errors between voxels. The
    interval of an effect covers noise and reconstruction error.

    The `region_masks`, by name, are on the grid of the `sampled` series. The mean of the boldref
    in the `brain` is 100 % in all effects. Effects of `acquired_maps` at the narrowest smoothing
    scale the samples. `coverage_rows` are the tests of the detail of the series `exported_name`;
    None if it has no prior. `atlas` is None if there is no T1w image. `other_series` are series on
    the acquired grid or on the grid of this series, by the name of their column in the table.
    `smoothing` is the smoothing of the maps, and `input_smoothing` the smoothing of the acquired
    volumes (FWHM, mm).

    Returns one row per region, contrast and width. Regions without a voxel in the brain, or with
    all of its voxels, have no rows.
    """
    series, width = sampled.series, min(map(float, smoothing))
    means = _list_requested_means(region_masks or {}, region_origin, sampled.mask, smoothing)
    regions: dict[Shape, list[Region]] = {}
    supports = classify_detail(coverage_rows or (), exported_name).values()
    recovered = {support.map_contrast for support in supports if support.state == "recovered"}
    used = [
        contrast
        for contrast, _ in iterate_contrasts(acquired_maps, width)
        if sampled.series_name == (exported_name if contrast in recovered else "bspline")
    ]
    is_in_contrast = in_contrast_over_runs and sampled.series_name == exported_name
    if used or is_in_contrast:
        regions = _find_regions(acquired_maps, used, brain.bold_mask, sampled.mask, atlas)
        means += [(region, width) for region in regions[sampled.mask.data.shape]]
    if not means:
        return pd.DataFrame(columns=list(COLUMNS))
    weights = _weigh_regions(means, series)
    other_means = {
        name: _average_same_regions(
            means, [(region, width) for region in same_regions], other, model
        )
        for name, other in (other_series or {}).items()
        if (same_regions := regions.get(other.shape[:3])) and not sampled.own_regressors
    }
    designs, contrasts = model.build_designs(series, smoothing, sampled.own_regressors)
    mean_series = average_series(series, weights, model.inputs.n_dummy)
    effects = _fit_means(mean_series, means, designs, contrasts, other_means)
    percent = 100 / compute_mean_signal(brain.boldref.data, brain.bold_mask.data)
    errors = _estimate_errors(sampled, brain, acquired_maps, weights, width)
    veins = _find_vein_signs(sampled.mask, brain, acquired_maps, width)
    rows = [
        {"series": sampled.series_name, "input_fwhm_mm": input_smoothing}
        | _make_row(mean, contrast, effect.times(percent), errors.get_sd(contrast, column), errors)
        | veins.measure(contrast, np.unravel_index(mean[0].voxels, series.shape[:3], order="F"))
        for column, (mean, effects_by_contrast) in enumerate(zip(means, effects, strict=True))
        for contrast, effect in effects_by_contrast.items()
        if mean[0].contrast in ("", contrast)
        and (mean[0].origin != "atlas" or contrast in used or is_in_contrast)
    ]
    table = pd.DataFrame(rows, columns=[*COLUMNS, "p"])
    for _, tested in table[table["origin"] == "atlas"].groupby("contrast"):
        table.loc[tested.index, "q"] = benjamini_hochberg(tested["p"].tolist())
    return table[list(COLUMNS)]


def _list_requested_means(
    region_masks: Mapping[str, Volume], origin: Origin, mask: Volume, smoothing: Sequence[float]
) -> list[_Mean]:
    """Return regions of interest within the brain, `mask`, at all widths (FWHM, mm)."""
    return [
        (region, float(width))
        for name, region_mask in region_masks.items()
        if (region := locate_region(name, origin, region_mask.data, mask.data)) is not None
        for width in smoothing
    ]


def _find_regions(
    acquired_maps: Sequence[Derivative],
    contrasts: Collection[str],
    bold_mask: Volume,
    mask: Volume,
    atlas: AtlasOfRun | None,
) -> dict[Shape, list[Region]]:
    """Return clusters of contrasts and atlas labels, by the shape of the grid.

    The grids are those of the brain masks: acquired (`bold_mask`), and of a series (`mask`).
    """
    labels = (None, None) if atlas is None else (atlas.atlas_bold, atlas.atlas_bold_hr)
    return {
        own_mask.data.shape: [
            *_find_clusters(acquired_maps, contrasts, bold_mask, own_mask, atlas),
            *_find_atlas_regions(own_labels, atlas, own_mask),
        ]
        for own_mask, own_labels in zip((bold_mask, mask), labels, strict=True)
    }


@frozen
class _Errors:
    """Standard deviations of the reconstruction error of K means, by contrast (percent).

    `dof` is the number of samples. There are no SDs if the series has no estimate of this error.
    """

    sds: Mapping[str, Sequence[float]]
    dof: float = 1.0

    def get_sd(self, contrast: str, column: int) -> float | None:
        """Return the SD of a mean; None if it is not known."""
        return self.sds[contrast][column] if contrast in self.sds else None


def _estimate_errors(
    sampled: SampledSeries,
    brain: BoldBrain,
    acquired_maps: Sequence[Derivative],
    weights: sparse.csr_array,
    width: float,
) -> _Errors:
    """Estimate the reconstruction error of means from their `weights` (K, voxels).

    Acquired effects at the smoothing `width` (FWHM, mm) scale the samples.
    """
    samples = gather_samples(sampled, brain)
    if samples is None:
        return _Errors(sds={})
    acquired_power = samples.compute_acquired_power(width)
    scales = scale_by_contrast(samples, acquired_maps, acquired_power, width)
    sds = samples.compute_mean_sds(weights, list(scales.values()))
    return _Errors(
        sds=dict(zip(scales, sds.tolist(), strict=True)), dof=float(samples.errors.shape[3])
    )


def _find_vein_signs(
    mask: Volume, brain: BoldBrain, acquired_maps: Sequence[Derivative], width: float
) -> VeinSigns:
    """Find the signs of veins in acquired effects at a smoothing width, on the grid of `mask`."""
    acquired_effects = {
        contrast: fitted_maps["effect"].volume
        for contrast, fitted_maps in iterate_contrasts(acquired_maps, width)
    }
    return VeinSigns.find(brain.boldref, brain.bold_mask, acquired_effects, mask)


def _find_clusters(
    acquired_maps: Sequence[Derivative],
    contrasts: Collection[str],
    bold_mask: Volume,
    mask: Volume,
    atlas: AtlasOfRun | None,
) -> Iterator[Region]:
    """Yield the largest clusters of the acquired map of some contrasts, on the grid of a series.

    Clusters are numbered over all contrasts, so that a number is unique in a run. `bold_mask` is
    on the acquired grid, and `mask` is on the grid of the series.
    """
    factor = [n // m for n, m in zip(mask.data.shape, bold_mask.data.shape, strict=True)]
    width = min(as_number(statmap.sidecar["SmoothingFWHM"]) for statmap in acquired_maps)
    n_earlier = 0
    for contrast, fitted_maps in iterate_contrasts(acquired_maps, width):
        t = fitted_maps["t"].volume.data
        clusters = largest_clusters(t, bold_mask.data & (np.abs(t) > _CLUSTER_T), bold_mask.affine)
        first, n_earlier = n_earlier + 1, n_earlier + len(clusters)
        if contrast not in contrasts:
            continue
        for number, cluster in enumerate(clusters, start=first):
            voxels = np.zeros(bold_mask.data.shape, dtype=bool)
            voxels[tuple(cluster.voxels.T)] = True
            labels = None if atlas is None else atlas.atlas_bold.data[voxels]
            name = name_cluster(number, labels, {} if atlas is None else atlas.names)
            cluster_mask = np.kron(voxels, np.ones(factor, dtype=bool))
            region = locate_region(name, "cluster", cluster_mask, mask.data, contrast)
            if region is not None:
                yield replace(region, cluster=cluster)


def _find_atlas_regions(
    labels: Volume | None, atlas: AtlasOfRun | None, mask: Volume
) -> Iterator[Region]:
    """Yield the labels of an atlas of which at least half is measured, if there is an atlas.

    `labels` and `mask` are on the grid of a series. The volume of a label on the T1w grid includes
    voxels outside the field of view of the run.
    """
    if atlas is None or labels is None:
        return
    numbers, voxel_mm3 = labels.data.round().astype(int), float(np.prod(mask.zooms))
    for number, name, volume_mm3 in atlas.atlas_labels.itertuples(index=False):
        region = locate_region(name, "atlas", numbers == number, mask.data)
        if region is None:
            continue
        n_given = max(round(volume_mm3 / voxel_mm3), region.n_given)
        if len(region.voxels) >= _MIN_MEASURED_SHARE * n_given:
            yield replace(region, n_given=n_given)


def _average_same_regions(
    means: Sequence[_Mean], own_means: Sequence[_Mean], series: SeriesReader, model: LinearModel
) -> np.ndarray:
    """Return the mean time series of other means in a series (T, K); NaN if it has no such region.

    `means` are the K means of another series, and `own_means` those on the grid of this series.
    """
    averages = average_series(series, _weigh_regions(own_means, series), model.inputs.n_dummy)
    columns = {_get_key(mean): column for column, mean in enumerate(own_means)}
    result = np.full((len(averages), len(means)), np.nan)
    for column, mean in enumerate(means):
        if (own_column := columns.get(_get_key(mean))) is not None:
            result[:, column] = averages[:, own_column]
    return result


def _weigh_regions(means: Sequence[_Mean], series: SeriesReader) -> sparse.csr_array:
    """Return the weights of the voxels of a series in K means (K, voxels)."""
    voxels = [(region.voxels, width) for region, width in means]
    return weigh_means(voxels, series.shape[:3], series.zooms)


def _get_key(mean: _Mean) -> tuple[str, str, str, float]:
    """Return what identifies a mean on any grid."""
    region, width = mean
    return region.origin, region.name, region.contrast, width


def _fit_means(
    mean_series: np.ndarray,
    means: Sequence[_Mean],
    designs: Mapping[float, Design],
    contrasts: Contrasts,
    other_means: Mapping[str, np.ndarray],
) -> list[dict[str, MeanEffect]]:
    """Return the effects of mean time series (T, K) by contrast, in signal units.

    `designs` are the models by smoothing width (FWHM, mm), and `other_means` mean time series of
    other series by name (T, K).
    """
    effects = dict[int, dict[str, MeanEffect]]()
    # Noise is pooled over regions of one origin, because clusters are active and labels are not.
    groups = [(region.origin, width) for region, width in means]
    for origin, width in dict.fromkeys(groups):
        columns = [column for column, group in enumerate(groups) if group == (origin, width)]
        others = {name: other[:, columns] for name, other in other_means.items()}
        design = designs[width]
        vectors = [contrast_vector(design, name, weights) for name, weights in contrasts.items()]
        fitted = fit_mean_series(
            mean_series[:, columns],
            design,
            np.array(vectors),
            list(contrasts),
            others,
            [len(means[column][0].voxels) for column in columns],
        )
        effects |= dict(zip(columns, fitted, strict=True))
    return [effects[column] for column in range(len(means))]


def _make_row(
    mean: _Mean, contrast: str, effect: MeanEffect, error_sd: float | None, errors: _Errors
) -> dict[str, object]:
    """Return the cells of one mean effect, except the cells of the series.

    `error_sd` is the standard deviation of the reconstruction error; None if it is not known.
    """
    region, fwhm_mm = mean
    total = effect.add_error(error_sd or 0.0, errors.dof)
    lower, upper = total.compute_interval()
    if region.origin == "cluster" and effect.noise_dof < _MIN_CLUSTER_DOF:
        lower = upper = np.nan
    return {
        "region": region.name,
        "origin": region.origin,
        "contrast": contrast,
        "fwhm_mm": fwhm_mm,
        "voxels_given": region.n_given,
        "voxels": len(region.voxels),
        "effect": effect.effect,
        "noise_se": effect.noise_sd,
        "noise_dof": effect.noise_dof,
        "error_sd": np.nan if error_sd is None else error_sd,
        "lower": lower,
        "upper": upper,
        # only labels of the atlas are tested together
        "p": total.compute_p() if region.origin == "atlas" else np.nan,
        **effect.others,
        **({} if region.cluster is None else describe_peak(region.cluster)),
    }


def describe_peak(cluster: Cluster) -> dict[str, object]:
    """Return the cells of a cluster in a table of regions, without coordinates in the template."""
    position = zip(_SCANNER_AXES, cluster.peak.position.round(1).tolist(), strict=True)
    return {"peak": cluster.peak.value, "above": cluster.threshold, **dict(position)}


@step(Stage.EVALUATION, makes=("regions", "regions_columns"), small=True)
def join_regions(
    region_effects: list[Table],
    boldref2t1w_xfm: Transforms | None = None,
    std2t1w_xfm: File | None = None,
    here: Path = HERE,
) -> tuple[ShortTable, Facts]:
    """Join the mean effects of all series, with acquired and measured values in each row.

    `boldref2t1w_xfm` is the transform of T1w points to boldref points, and `std2t1w_xfm` the
    transform of T1w points to template points; None if there is no T1w image.

    Returns the table, and descriptions of its columns.
    """
    table = pd.concat(region_effects, ignore_index=True)
    for series_name, column in ((ACQUIRED, "acquired"), (MEASURED, "measured")):
        rows = table[table["series"] == series_name].set_index(list(_KEYS))["effect"]
        keys = pd.MultiIndex.from_frame(table[list(_KEYS)])
        table[column] = table[column].fillna(
            pd.Series(rows.reindex(keys).to_numpy(), index=table.index)
        )
    if boldref2t1w_xfm is not None and std2t1w_xfm is not None:
        table = place_peaks(table, boldref2t1w_xfm, std2t1w_xfm, here)
    columns = {name: dict(text) for name, text in COLUMNS.items()}
    return table[list(COLUMNS)], columns


def place_peaks(
    table: pd.DataFrame, boldref2t1w_xfm: Transforms, std2t1w_xfm: Path, here: Path
) -> pd.DataFrame:
    """Return a table of regions with the positions of its peaks in the template.

    For the transforms, see `join_regions`. A file is written to the folder `here`.
    """
    has_peak = table["scanner_x"].notna()
    if not has_peak.any():
        return table
    points = table.loc[has_peak, list(_SCANNER_AXES)].to_numpy(dtype=float)
    chain = chain_through_t1w(boldref2t1w_xfm[0], [std2t1w_xfm], here)
    table = table.copy()
    table.loc[has_peak, list(_AXES)] = apply_to_points(points, chain).round(1)
    return table
