"""Uncertainty of effects from ensembles of models."""

import logging
from collections.abc import Sequence

import numpy as np

from bids_sr.evaluation.uncertainty import spread_of_effect
from bids_sr.glm import map_sidecars
from bids_sr.glm.block_effects import load_effects
from bids_sr.glm.contrasts import Contrasts
from bids_sr.io.grids import AxisOrder
from bids_sr.io.volume import Volume
from bids_sr.metrics.rows import MetricRow
from bids_sr.metrics.word_lists import enumerate_words
from bids_sr.pipeline.artifacts import Derivative, File, Map, Mask, Rows
from bids_sr.pipeline.step import step
from bids_sr.run_time import RunTime
from bids_sr.steps.memory import EFFECTS

_LOGGER = logging.getLogger(__name__)
_DESCRIPTION = (
    "Standard deviation of the effect across models that were trained with different random"
    " seeds. It reflects random variation in training, but not errors that all models have"
    " in common"
)
"""Description of uncertainty maps in sidecars."""


def describe_uncertainty(methods: Sequence[str], members: int) -> str:
    """Return methods text of the uncertainty from ensembles with `members` models."""
    return (
        f"The uncertainty of {enumerate_words(methods)} was estimated as the standard deviation of"
        f" the effect between {members} models trained with different random seeds. Errors that"
        " are common to all models are not included. "
    )


@step(makes=("uncertainty_rows", "uncertainty_maps"), memory=EFFECTS, cost=RunTime(always=2.0))
def measure_uncertainty(
    effects: File,
    bold_mask_hr: Mask,
    member_effects: dict[str, File],
    *,
    series_name: str,
    contrasts: Contrasts,
    axis_order: AxisOrder,
) -> tuple[Rows, list[Map]]:
    """Return the uncertainty of a method: the SD of the effect between members of its ensemble.

    Parameters
    ----------
    effects : File
        Block effects of the method on the high-resolution grid.
    bold_mask_hr : Mask
        Brain on the high-resolution grid.
    member_effects : dict[str, File]
        Block effects of the other members of the ensemble, by name.
    series_name : str
        Name of the series of the method.
    contrasts : Contrasts
        Weights of conditions by contrast.
    axis_order : AxisOrder
        Axis order of the input, for texts.

    Returns
    -------
    tuple[Rows, list[Map]]
        Median of the uncertainty in the brain, and its map, for each contrast that can be computed
        from the task blocks.
    """
    mask = bold_mask_hr.data
    method_effects = load_effects(effects)
    n_members = 1 + len(member_effects)
    grid_sidecar = map_sidecars.common_sidecar(
        series=series_name,
        fwhm_mm=0.0,
        zooms=bold_mask_hr.zooms.tolist(),
        axis_order=axis_order,
    )
    rows: list[MetricRow] = []
    maps: list[Derivative] = []
    for contrast, weights in contrasts.items():
        effect_sd = spread_of_effect(
            method_effects, list(member_effects.values()), weights, mask, bold_mask_hr.affine
        )
        if effect_sd is None:
            _LOGGER.warning(
                "%s: the contrast %s cannot be computed from the task blocks, so its"
                " uncertainty map is omitted",
                series_name,
                contrast,
            )
            continue
        rows.append(
            MetricRow(
                series=series_name,
                contrast=contrast,
                region="brain",
                statistic="ensemble_sd",
                value=float(np.median(effect_sd[mask])),
                n=n_members,
            )
        )
        sd_map = Volume(np.where(mask, effect_sd, 0).astype(np.float32), bold_mask_hr.affine)
        sidecar = {
            "Description": _DESCRIPTION,
            "Units": "arbitrary",
            "EnsembleMembers": n_members,
            "ContrastWeights": dict(weights),
            **grid_sidecar,
        }
        maps.append(Derivative(sd_map, _make_entities(series_name, contrast), sidecar))
    return rows, maps


def _make_entities(series_name: str, contrast: str) -> dict[str, str]:
    """Return the entities of an uncertainty map."""
    return map_sidecars.entities(
        series=series_name,
        contrast=contrast,
        stat="ensemblesd",
        desc=series_name,
        suffix="statmap",
    )
