"""Tissue volumes over time: change from baseline by month (attention-unet, figure 13).

A participant is one unit at each time. Participants who only have measured high-resolution scans
(`anat.control`) are treated like all others.
"""

import re
from collections.abc import Sequence

import pandas as pd

from bids_sr.engine.metric_rows import MISSING
from bids_sr.evaluation.statistics.comparison_table import describe_columns

BASELINE = "0"
"""Time label of the baseline, in months."""
VOLUME_KEY = ["contrast", "region", "series"]
"""Columns that identify a volume, without the participant and the session or time."""


def change_table(values: pd.DataFrame) -> pd.DataFrame:
    """Summarize volumes and their change from baseline over participants at each time.

    The paper reports medians and quartiles of differences, but not whether they are signed, so
    both signed and absolute changes are summarized. The table is empty if no participant has two
    sessions.

    `values` are rows of `inputs.read_values`.
    """
    volumes = read_volumes(values)
    rows = []
    for identifiers, class_volumes in volumes.groupby(VOLUME_KEY, sort=False):
        times = sort_times(class_volumes["time"])
        for time in times:
            time_volumes = class_volumes[class_volumes["time"] == time]
            change = time_volumes["change"].dropna()
            if time == times[0]:  # the baseline has no change
                change = change.iloc[:0]
            rows.append(
                {
                    **dict(zip(VOLUME_KEY, identifiers, strict=True)),
                    "time": time,
                    "n": len(time_volumes),
                    "mean": time_volumes["value"].mean(),
                    **_summarize_quartiles(time_volumes["value"], ""),
                    "minimum": time_volumes["value"].min(),
                    "maximum": time_volumes["value"].max(),
                    "n_change": len(change),
                    **_summarize_quartiles(change, "change_"),
                    **_summarize_quartiles(change.abs(), "absolute_"),
                }
            )
    return pd.DataFrame(rows).reindex(columns=list(describe_columns("scans_change")))


def read_volumes(values: pd.DataFrame) -> pd.DataFrame:
    """Return the tissue volumes of participants at each time.

    Times are whole months since the participant's first session, or session labels if no month is
    known. Several sessions in one month are averaged. Participants with one session are included,
    as in figure 13.

    `values` are rows of `inputs.read_values`. The columns of the result are contrast, region,
    series, participant, time, value (ml), and change (percent of the volume at baseline; NaN if it
    is missing). The table is empty if no participant has two sessions.
    """
    columns = [*VOLUME_KEY, "participant", "time", "value", "change"]
    volumes = values[(values["statistic"] == "tissue_volume") & (values["session"] != MISSING)]
    by_month = has_months(values)
    if by_month:
        volumes = volumes[volumes["month"].notna()]
        whole_months = volumes["month"].round().astype(int)
        volumes = volumes.assign(time=whole_months.astype(str))
    else:
        volumes = volumes.assign(time=volumes["session"])
    n_sessions = volumes.groupby("participant")["session"].nunique()
    if not (n_sessions >= 2).any():
        return pd.DataFrame(columns=columns)
    participant_key = [*VOLUME_KEY, "participant"]
    means = volumes.groupby([*participant_key, "time"], sort=False)["value"].mean().reset_index()
    baseline_time = BASELINE if by_month else sort_times(means["time"])[0]
    is_baseline = means["time"] == baseline_time
    baselines = means[is_baseline].set_index(participant_key)["value"].rename("baseline")
    means = means.join(baselines, on=participant_key)
    positive_baseline = means["baseline"].where(means["baseline"] > 0)
    means["change"] = 100 * (means["value"] - positive_baseline) / positive_baseline
    return means[columns]


def has_months(values: pd.DataFrame) -> bool:
    """Return whether any participant has two sessions with known months.

    `values` are rows of `inputs.read_values`.
    """
    dated = values[values["month"].notna() & (values["session"] != MISSING)]
    return bool((dated.groupby("participant")["session"].nunique() >= 2).any())


def sort_times(times: Sequence[str] | pd.Series) -> list[str]:
    """Return the distinct times in order; numbers in labels are compared by value.

    >>> sort_times(["10", "2", "0"]), sort_times(["m10", "m2", "base"])
    (['0', '2', '10'], ['base', 'm2', 'm10'])
    """

    def sort_key(label: str) -> list[tuple[int, int, str]]:
        parts = re.findall(r"-?\d+|\D+", label)
        return [
            (0, int(part), "") if part.lstrip("-").isdigit() else (1, 0, part) for part in parts
        ]

    return sorted(dict.fromkeys(times), key=sort_key)


def _summarize_quartiles(values: pd.Series, prefix: str) -> dict[str, float]:
    """Return the median and the quartiles by column name, NaN if there are no values."""
    column_names = [f"{prefix}{name}" for name in ("median", "q1", "q3")]
    return dict(zip(column_names, values.quantile([0.5, 0.25, 0.75]), strict=True))
