"""Tissue volumes over time: change from baseline by month (attention-unet, figure 13).

A participant is one unit at each time. Participants who only have measured high-resolution scans
(``--anat-control``) are treated like all others.
"""

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from bids_sr.metrics.rows import MISSING

BASELINE = "0"
"""Time label of the baseline, in months."""
_PLACE = ["contrast", "region", "series"]


def knows_months(values: pd.DataFrame) -> bool:
    """Return whether any participant has two sessions with known months.

    `values` are rows of `structural_inputs.read_values`.
    """
    dated = values[values["month"].notna() & (values["session"] != MISSING)]
    return bool((dated.groupby("participant")["session"].nunique() >= 2).any())


def read_volumes(values: pd.DataFrame) -> pd.DataFrame:
    """Return the tissue volumes of participants at each time.

    Times are whole months since the participant's first session, or session labels if no month is
    known. Several sessions in one month are averaged. Participants with one session are included,
    as in figure 13.

    Parameters
    ----------
    values : pd.DataFrame
        Rows of `structural_inputs.read_values`.

    Returns
    -------
    pd.DataFrame
        Columns contrast, region, series, participant, time, value (ml), and change (percent of the
        volume at baseline; NaN if it is missing). Empty if no participant has two sessions.
    """
    columns = [*_PLACE, "participant", "time", "value", "change"]
    volumes = values[(values["statistic"] == "tissue_volume") & (values["session"] != MISSING)]
    by_month = knows_months(values)
    if by_month:
        volumes = volumes[volumes["month"].notna()]
        rounded = volumes["month"].round().astype(int)
        volumes = volumes.assign(time=rounded.astype(str))
    else:
        volumes = volumes.assign(time=volumes["session"])
    n_sessions = volumes.groupby("participant")["session"].nunique()
    if not (n_sessions >= 2).any():
        return pd.DataFrame(columns=columns)
    key = [*_PLACE, "participant"]
    means = volumes.groupby([*key, "time"], sort=False)["value"].mean().reset_index()
    start = BASELINE if by_month else sort_times(means["time"])[0]
    first = means[means["time"] == start].set_index(key)["value"].rename("baseline")
    means = means.join(first, on=key)
    positive = means["baseline"].where(means["baseline"] > 0)
    means["change"] = 100 * (means["value"] - positive) / positive
    return means[columns]


def sort_times(times: Sequence[str] | pd.Series) -> list[str]:
    """Sort distinct times; digits are compared as numbers.

    >>> sort_times(["10", "2", "0"]), sort_times(["m10", "m2", "base"])
    (['0', '2', '10'], ['base', 'm2', 'm10'])
    """

    def key(text: str) -> list[tuple[int, int, str]]:
        runs_of_digits = re.findall(r"-?\d+|\D+", text)
        return [(0, int(p), "") if p.lstrip("-").isdigit() else (1, 0, p) for p in runs_of_digits]

    return sorted(dict.fromkeys(times), key=key)


def change_table(values: pd.DataFrame) -> pd.DataFrame:
    """Summarize volumes and their change from baseline over participants at each time.

    The paper reports medians and quartiles of differences, but not whether they are signed, so
    both signed and absolute changes are summarized. The table is empty if no participant has two
    sessions.

    `values` are rows of `structural_inputs.read_values`.
    """
    volumes = read_volumes(values)
    rows = []
    for question_values, place_volumes in volumes.groupby(_PLACE, sort=False):
        start = sort_times(place_volumes["time"])[0]
        for time in sort_times(place_volumes["time"]):
            part = place_volumes[place_volumes["time"] == time]
            change = part["change"].dropna() if time != start else part["change"].iloc[:0]
            rows.append(
                {
                    **dict(zip(_PLACE, question_values, strict=True)),
                    "time": time,
                    "n": len(part),
                    "mean": part["value"].mean(),
                    **_quartiles(part["value"], ""),
                    "minimum": part["value"].min(),
                    "maximum": part["value"].max(),
                    "n_change": len(change),
                    **_quartiles(change, "change_"),
                    **_quartiles(change.abs(), "absolute_"),
                }
            )
    return pd.DataFrame(rows).reindex(columns=list(CHANGE_COLUMNS))


def _quartiles(values: pd.Series, prefix: str) -> dict[str, float]:
    names = [f"{prefix}{name}" for name in ("median", "q1", "q3")]
    if values.empty:
        return dict.fromkeys(names, np.nan)
    return dict(zip(names, np.percentile(values, (50, 25, 75)), strict=True))


CHANGE_COLUMNS = {
    name: {"Description": text}
    for name, text in {
        "contrast": "Suffix of the scans, or all (all contrasts combined)",
        "region": "Tissue class of the segmentation",
        "series": "Interpolation, super-resolution method, or measured (high-resolution scan)",
        "time": (
            "Whole months since the participant's first session, or the session label if the "
            "dataset contains no scan dates"
        ),
        "n": "Number of participants with scans at this time",
        "mean": "Mean volume across participants (ml)",
        "median": "Median volume across participants (ml)",
        "q1": "25th percentile of the volume across participants (ml)",
        "q3": "75th percentile of the volume across participants (ml)",
        "minimum": "Smallest volume across participants (ml)",
        "maximum": "Largest volume across participants (ml)",
        "n_change": "Number of participants with scans at this time and at baseline; 0 at"
        " baseline",
        "change_median": (
            "Median change from baseline across participants, in percent of the participant's "
            "volume at baseline"
        ),
        "change_q1": "25th percentile of the change from baseline across participants (percent)",
        "change_q3": "75th percentile of the change from baseline across participants (percent)",
        "absolute_median": "Median absolute change from baseline across participants (percent)",
        "absolute_q1": (
            "25th percentile of the absolute change from baseline across participants (percent)"
        ),
        "absolute_q3": (
            "75th percentile of the absolute change from baseline across participants (percent)"
        ),
    }.items()
}
