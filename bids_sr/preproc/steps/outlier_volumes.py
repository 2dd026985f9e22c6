"""Volumes that do not show the head as the other volumes of a run do."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from bids_sr.engine.artifacts import Facts, Series
from bids_sr.engine.step import HERE, Stage, step
from bids_sr.io.arrays import Array
from bids_sr.io.atomic_files import read_json
from bids_sr.io.confound_names import (
    ALTERNATING,
    ColumnDescriptions,
    describe_regressor,
    name_time_column,
)
from bids_sr.io.copies import combine_volumes
from bids_sr.io.nifti import SeriesReader
from bids_sr.io.word_lists import enumerate_words
from bids_sr.preproc.alternation import EXAMINED_VOLUMES, measure_alternation
from bids_sr.preproc.outlier_volumes import find_outlier_volumes, interpolation_weights

_LOGGER = logging.getLogger(__name__)
# keys of the facts on outlier volumes, which are also the keys of sidecars
_VOLUMES_KEY, _REASONS_KEY = "OutlierVolumes", "OutlierVolumesReason"
_ALTERNATION_KEY = "AlternatingVolumes"
_SEARCH_TEXT = (
    "Volumes that differ from their neighbors after registration, or are copies of others, were"
    " searched first."
)


@step(Stage.HEAD_MOTION, makes=("bold", "outliers"))
def replace_outliers(acquired: Series, here: Path = HERE, *, n_dummy: int) -> tuple[Series, Facts]:
    """Find outlier volumes of a run and replace them, so that they do not affect other volumes.

    Models do not use the replaced volumes.

    `acquired` is uncompressed. Returns the series with outlier volumes interpolated linearly in
    time, and without the mean difference of volumes that alternate, the same file if there are
    none; and outlier volumes with the reason, and the share by which every second volume is
    darker, empty if there are none.
    """
    outliers = find_outlier_volumes(acquired, n_dummy=n_dummy)
    signal = [volume.mean() for volume in acquired.volumes(n_dummy, n_dummy + EXAMINED_VOLUMES)]
    alternation = measure_alternation(signal)
    facts: dict[str, object] = {_ALTERNATION_KEY: alternation} if alternation else {}
    if not outliers:
        return _remove_unlike(acquired, facts, here, n_dummy) if facts else acquired, facts
    outliers_text = "; ".join(f"volume {outlier.volume}: {outlier.reason}" for outlier in outliers)
    _LOGGER.warning(
        "%d of %d volumes (counted from 0) do not show the head as the other volumes do and were"
        " excluded from all models. %s. Check the figure of outlier volumes. To include all"
        " volumes, use --ignore outliers.",
        len(outliers),
        acquired.shape[3] - n_dummy,
        outliers_text[0].upper() + outliers_text[1:],
    )
    facts[_VOLUMES_KEY] = [outlier.volume for outlier in outliers]
    facts[_REASONS_KEY] = [outlier.reason for outlier in outliers]
    return _remove_unlike(acquired, facts, here, n_dummy), facts


@step(Stage.HEAD_MOTION, makes="bold")
def replace_same_volumes(
    acquired: Series, outliers: Facts, here: Path = HERE, *, n_dummy: int
) -> Series:
    """Replace outlier volumes and remove alternation in another series of the same moments.

    `outliers` are the facts of `replace_outliers`.
    """
    return _remove_unlike(acquired, outliers, here, n_dummy) if outliers else acquired


def _remove_unlike(acquired: Series, outliers: Facts, here: Path, n_dummy: int) -> Series:
    """Write a copy of a series with interpolated outlier volumes, and without alternation."""
    n_volumes, volumes = acquired.shape[3], list(reasons_by_volume(outliers))
    alternation: Array | float = 0.0
    if get_alternation(outliers):
        steady = [t for t in range(n_dummy, n_volumes) if t not in volumes]
        shares = [1 / sum(t % 2 == phase for t in steady) for phase in (0, 1)]
        for t in steady:
            alternation = alternation + (-1) ** t * shares[t % 2] / 2 * acquired.volume(t)
    weights = interpolation_weights(volumes, n_volumes, n_dummy)
    combine_volumes(acquired, here / "replaced.nii", weights, alternation)
    return SeriesReader(here / "replaced.nii")


def describe_outliers(folders: Sequence[Path] = (), unfinished: int = 0) -> str:
    """Return methods text of the search for outlier volumes, with the number of outliers.

    `folders` are the folders of finished `replace_outliers` steps.
    """
    counts = [len(reasons_by_volume(read_json(folder / "outliers.json"))) for folder in folders]
    if unfinished or not counts:
        return _SEARCH_TEXT
    if not any(counts):
        return f"{_SEARCH_TEXT} No such volume was found."
    if len(counts) == 1:
        result_text = f"{counts[0]} volume{'s were' if counts[0] > 1 else ' was'} found"
    else:
        numbers = enumerate_words([f"{count}" for count in counts])
        result_text = f"In the {len(counts)} runs, {numbers} volumes were found"
    return (
        f"{_SEARCH_TEXT} {result_text}. These volumes were excluded from all models by one"
        " regressor per volume. In the series, they were replaced by linear interpolation in"
        " time."
    )


def add_alternation(
    table: pd.DataFrame, descriptions: ColumnDescriptions, outliers: Mapping[str, object] | None
) -> tuple[pd.DataFrame, ColumnDescriptions]:
    """Add a column of 1 and -1 and its description to confounds if volumes alternate.

    `outliers` are the facts of `replace_outliers`; None if outliers were not searched.
    """
    if not get_alternation(outliers):
        return table, descriptions
    name = name_time_column(ALTERNATING, 0)
    text = "1 and -1 in turn, because every second volume has another contrast"
    column = 1.0 - 2.0 * (np.arange(len(table)) % 2)
    return table.assign(**{name: column}), {**descriptions, name: describe_regressor(text)}


def get_alternation(outliers: Mapping[str, object] | None) -> float:
    """Return the share by which every second volume of a run is darker, see `add_alternation`."""
    share = (outliers or {}).get(_ALTERNATION_KEY, 0.0)
    assert isinstance(share, float)
    return share


def reasons_by_volume(outliers: Mapping[str, object] | None) -> dict[int, str]:
    """Return the outlier volumes of a run, counted from 0, with the reason.

    `outliers` are the facts of `replace_outliers`; None if outliers were not searched.
    """
    facts = outliers or {}
    volumes, reasons = facts.get(_VOLUMES_KEY, []), facts.get(_REASONS_KEY, [])
    assert isinstance(volumes, list)
    assert isinstance(reasons, list)
    return {int(volume): str(reason) for volume, reason in zip(volumes, reasons, strict=True)}
