"""Means of regions in contrasts over runs, from their maps and the errors in their tables.

The means in the tables are over the voxels of each run's own grid, which are not the same part of
the brain if the head moved: in a steep map they differ. Effects are therefore averaged over the
same voxels of all runs, in the frame of the first run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce
from pathlib import Path

import numpy as np
import pandas as pd

from bids_sr.engine.artifacts import Facts, File, Map, Mask, Rows, Table
from bids_sr.engine.memory import Need
from bids_sr.engine.step import HERE, Stage, step
from bids_sr.evaluation.changes import Change, MapChange, StoredChanges, find_change
from bids_sr.evaluation.detail_support import classify_detail
from bids_sr.evaluation.steps.region_effects import COLUMNS, describe_peak, place_peaks
from bids_sr.glm.clusters import largest_clusters, name_cluster
from bids_sr.glm.region_means import ERROR_DOF, MeanEffect
from bids_sr.glm.steps.atlas_regions import AtlasOfRun
from bids_sr.glm.steps.map_comparison import read_input_smoothing, sort_maps_of_run
from bids_sr.group.combination.placement import compute_place_gradients, compute_place_sd
from bids_sr.group.combination.run_combination import (
    RunEstimate,
    combine_estimates,
    correlate_error,
    correlate_opposite,
)
from bids_sr.group.combination.steps.combined_runs import (
    RunsOfContrast,
    exclude_from_contrasts,
    place_estimates,
    select_runs,
)
from bids_sr.io.arrays import Array, Float, MaskArray
from bids_sr.spatial.itk_files import Transforms
from bids_sr.survey.preflight.combined_runs import RunTerm, name_over_runs

_KEYS = ["origin", "region", "fwhm_mm"]
_OF_REGION = ("voxels_given", "voxels", "input_fwhm_mm")  # cells that the runs share
_COLUMNS = [*COLUMNS, "smallest_change", "detail"]
_DESCRIPTIONS = {
    "error_sd": {
        "Description": "Standard deviation of the reconstruction error (in differences, of the"
        " part that the runs do not share) and of the error of their registration; n/a if the"
        " former is unknown, so that interval and q contain noise and the latter only",
        "Units": "percent",
    },
    "smallest_change": {
        "Description": "Change that is found with a probability of 80 % (two-sided p < .05), given"
        " noise, errors and degrees of freedom",
        "Units": "percent",
    },
    "q": {
        "Description": "False discovery rate (Benjamini and Hochberg) of the contrast, among the"
        " regions of interest or among the atlas labels",
    },
    "detail": {
        "Description": "Test of the detail of the difference at half the resolution, in active"
        " voxels: recovered, not supported or not testable",
    },
}


@step(
    Stage.COMBINATION,
    makes=("contrasted_regions", "contrasted_columns", "changes"),
    memory=Need(always=0.05, high=0.8),
)
def contrast_regions(
    run_regions: dict[str, Table],
    resampled_maps: list[Map],
    place_errors: dict[str, Facts],
    run_agreement: Facts,
    region_masks: dict[str, Mask] | None = None,
    atlas: AtlasOfRun | None = None,
    tested_rows: Rows | None = None,
    *,
    series_name: str,
    over_runs: Mapping[str, Sequence[RunTerm]],
    calibrated: bool,
    voxel_mm: float,
) -> tuple[Table, Facts, StoredChanges]:
    """Measure contrasts over runs in regions of interest and atlas labels.

    Effects are means over the maps of the runs; regions without a voxel in the frame have the
    effects of `run_regions`, the tables of the runs by name. Noise and reconstruction error are
    those of the tables. The error of the registration is one for all voxels, so that gradients are
    averaged over a region. `region_masks`, by name, and the atlas are on the grid of the first
    run. `tested_rows` is the result of `tested_runs.compare_runs`; None if nothing was tested.
    `voxel_mm` is the acquired in-plane voxel size. For the other parameters, see
    `bids_sr.group.combination.steps.combined_runs.contrast_runs`.

    Returns one row per region, contrast and width that all runs of the contrast have,
    descriptions of the columns, and the result of each contrast at the least smoothing.
    """
    regions = {name: mask.data > 0 for name, mask in (region_masks or {}).items()}
    if atlas is not None:
        labels = atlas.atlas_bold_hr.data.round().astype(int)
        regions |= {name: labels == number for number, name in atlas.names.items()}
    excluded = exclude_from_contrasts(resampled_maps, series_name, run_agreement)
    tables, changes = [], dict[str, Change]()
    tested = classify_detail(tested_rows or (), series_name)
    for used in select_runs(resampled_maps, over_runs, excluded):
        if not used.is_complete or not used.maps.keys() <= run_regions.keys():
            continue
        effects = {name: run_maps["effect"] for name, run_maps in used.maps.items()}
        rows = {
            name: _select_rows(
                run_regions[name], series_name, effect.entities["contrast"], used.fwhm_mm
            )
            for name, effect in effects.items()
        }
        common = reduce(pd.Index.intersection, (table.index for table in rows.values()))
        placed = dict(zip(used.maps, place_estimates(used.maps, place_errors), strict=True))
        inside = np.logical_and.reduce([run.variance > 0 for run in placed.values()])
        empty = np.zeros_like(inside)
        common_regions = [regions.get(key[1], empty) & inside for key in common]
        place_sds = {
            name: _compute_place_sds(effect, common_regions, place_errors[name])
            for name, effect in effects.items()
            if name in place_errors
        }
        common_rows = {
            name: _replace_effects(rows[name].loc[common], placed[name].effect, common_regions)
            for name in placed
        }
        table, change = _combine_rows(
            common_rows, used, place_sds, used.fwhm_mm / voxel_mm, calibrated=calibrated
        )
        changes.setdefault(used.contrast, change)
        result = tested.get(used.contrast)
        state = "not testable" if result is None else result.state
        tables.append(table.assign(contrast=used.contrast, series=series_name, detail=state))
    table = pd.concat(tables).reset_index() if tables else pd.DataFrame(columns=_COLUMNS)
    descriptions = {**COLUMNS, **_DESCRIPTIONS}
    columns = {name: dict(descriptions[name]) for name in _COLUMNS}
    return table.reindex(columns=_COLUMNS), columns, tuple(changes.values())


@step(Stage.COMBINATION, makes=("contrasted_clusters", "changes_in_map"))
def add_clusters(
    contrasted_regions: Table,
    difference_maps: list[Map],
    changes: StoredChanges,
    atlas: AtlasOfRun | None = None,
    boldref2t1w_xfm: Transforms | None = None,
    std2t1w_xfm: File | None = None,
    here: Path = HERE,
    *,
    series_name: str,
) -> tuple[Table, StoredChanges]:
    """Add the largest clusters of contrasts over runs to the table of their regions.

    Clusters are of significant voxels of `difference_maps` with the largest smoothing, and are
    numbered over all contrasts. Their mean effects have no interval, because they are selected by
    these effects. For the transforms, which are of the first run, see
    `bids_sr.evaluation.steps.region_effects.join_regions`.

    Returns the table, and `changes` with what is significant in their maps.
    """
    stats, regions = sort_maps_of_run(difference_maps)
    widest = max((width for _, _, width in stats), default=0.0)
    rows: list[dict[str, object]] = []
    in_map: dict[str, MapChange] = {}
    for contrast, kind, width in regions:
        t_map = stats.get((contrast, "t", width), {}).get(series_name)
        if (kind, width) != ("Fdr", widest) or t_map is None:
            continue
        effect = stats[contrast, "effect", width][series_name].volume.data
        active = regions[contrast, kind, width][series_name].volume.data > 0.5
        for cluster in largest_clusters(t_map.volume.data, active, t_map.volume.affine):
            voxels = tuple(cluster.voxels.T)
            labels = None if atlas is None else atlas.atlas_bold_hr.data[voxels]
            names = {} if atlas is None else atlas.names
            name, size = name_cluster(len(rows) + 1, labels, names), float(effect[voxels].mean())
            largest = MapChange(n_voxels=int(active.sum()), largest=name, is_increase=size > 0)
            in_map.setdefault(contrast, largest)
            rows.append(
                {
                    "region": name,
                    "origin": "cluster",
                    "contrast": contrast,
                    "series": series_name,
                    "input_fwhm_mm": read_input_smoothing(t_map),
                    "fwhm_mm": width,
                    "voxels_given": len(cluster.voxels),
                    "voxels": len(cluster.voxels),
                    "effect": size,
                    **describe_peak(cluster),
                }
            )
    if not rows:
        return contrasted_regions, changes
    clusters = pd.DataFrame(rows).reindex(columns=_COLUMNS)
    if boldref2t1w_xfm is not None and std2t1w_xfm is not None:
        clusters = place_peaks(clusters, boldref2t1w_xfm, std2t1w_xfm, here)
    return (
        pd.concat([contrasted_regions, clusters], ignore_index=True),
        tuple(replace(change, in_map=in_map.get(change.contrast)) for change in changes),
    )


def _select_rows(table: pd.DataFrame, series: str, contrast: str, width: float) -> pd.DataFrame:
    """Return the rows of a run of a contrast by region, without clusters, which are of one run."""
    is_selected = (table["series"] == series) & (table["contrast"] == contrast)
    is_selected &= (table["fwhm_mm"] == width) & (table["origin"] != "cluster")
    return table[is_selected].set_index(_KEYS)


def _compute_place_sds(effect: Map, regions: Sequence[MaskArray], place_error: Facts) -> Float:
    """Return the SD of the means over regions due to the error of the registration (regions,)."""
    gradients = compute_place_gradients(
        effect.volume.data, effect.volume.affine, np.asarray(place_error["Center"])
    )
    means = [gradients[region].mean(axis=0) if region.any() else np.zeros(6) for region in regions]
    return compute_place_sd(np.reshape(means, (-1, 6)), np.asarray(place_error["Covariance"]))


def _replace_effects(
    rows: pd.DataFrame, effect: Array, regions: Sequence[MaskArray]
) -> pd.DataFrame:
    """Return the rows of a run with the means of an effect map over their regions, and their size.

    Regions without voxels keep both.
    """
    means = [
        effect[region].mean() if region.any() else row_effect
        for region, row_effect in zip(regions, rows["effect"], strict=True)
    ]
    n_voxels = np.array([region.sum() for region in regions], dtype=int)
    return rows.assign(effect=means, voxels=np.where(n_voxels > 0, n_voxels, rows["voxels"]))


def _combine_rows(
    rows: Mapping[str, pd.DataFrame],
    used: RunsOfContrast,
    place_sds: Mapping[str, Float],
    fwhm_voxels: float,
    *,
    calibrated: bool,
) -> tuple[pd.DataFrame, Change]:
    """Return rows and result of a contrast over runs, from the rows of the runs by name."""
    estimates = [
        RunEstimate(
            effect=table["effect"].to_numpy(),
            variance=np.square(table["noise_se"].to_numpy()),
            dof=1.0,
            sd=None if table["error_sd"].isna().any() else table["error_sd"].to_numpy(),
            place_sd=place_sds.get(name),
        )
        for name, table in rows.items()
    ]
    combined = combine_estimates(
        estimates,
        used.weights,
        shared=correlate_error(fwhm_voxels, calibrated=calibrated, n_runs=len(rows)),
        opposite=correlate_opposite(
            fwhm_voxels,
            estimates,
            calibrated=calibrated,
            same_condition=used.has_same_condition,
        ),
    )
    spread = sum(
        np.square(weight**2 * run.variance) / table["noise_dof"]
        for weight, run, table in zip(used.weights, estimates, rows.values(), strict=True)
    )
    errors = np.sqrt(combined.total_variance - combined.variance)
    result = next(iter(rows.values()))[list(_OF_REGION)].assign(
        effect=combined.effect,
        noise_se=np.sqrt(combined.variance),
        noise_dof=np.square(combined.variance) / spread,
        error_sd=np.nan if combined.sd is None else errors,
    )
    effects = {
        (str(row.Index[0]), str(row.Index[1])): MeanEffect(
            effect=row.effect, noise_sd=row.noise_se, noise_dof=row.noise_dof
        ).add_error(error, ERROR_DOF)
        for row, error in zip(result.itertuples(), errors.tolist(), strict=True)
    }
    intervals = [effect.compute_interval() for effect in effects.values()]
    result[["lower", "upper"]] = np.reshape(intervals, (-1, 2))
    result["smallest_change"] = [effect.compute_smallest_change() for effect in effects.values()]
    change, result["q"] = find_change(
        used.contrast, name_over_runs(used.contrast, used.terms), effects
    )
    return result, change
