"""Group tables of metrics of structural scans.

Six tables are computed from the participants' metrics: series by metric (attention-unet, table
1), comparisons of methods with interpolation, errors of quality metrics by acquisition protocol
(table 2), agreement of tissue volumes (figure 10), their variability over sessions and their
change from baseline (figure 13). The unit is the participant: sessions of a participant are
averaged first, except in the tables over sessions.
"""

import dataclasses
import math
from collections.abc import Sequence

import pandas as pd

from bids_sr.engine.metric_rows import MISSING, SCAN
from bids_sr.evaluation.statistics.comparison_table import describe_columns
from bids_sr.evaluation.statistics.comparisons import PairedComparison, compare_pairs
from bids_sr.evaluation.statistics.decisions import decide_all
from bids_sr.evaluation.statistics.limits_of_agreement import (
    compute_within_unit_sd,
    limits_of_agreement,
    percent_differences,
)
from bids_sr.evaluation.statistics.summaries import summarize
from bids_sr.io.frozen import frozen
from bids_sr.io.metric_registry import LOWER, statistic
from bids_sr.io.series import MEASURED, get_kind
from bids_sr.structural.group.volume_change import VOLUME_KEY, change_table

SIMILARITY = ("mae", "rmse", "nmse", "nmse_voxel", "psnr", "ssim")
"""Statistics that compare a series with the measured scan."""
QUALITY = (
    "cjv",
    "cjv_signed",
    "efc",
    "efc_sum",
    "fwhm",
    "half_maximum",
    "wm2max",
    "wm2max_p95",
    "ratio_mean",
    "ratio_sd",
    "ratio_p05",
    "ratio_p95",
)
"""Statistics of one image; their error is the difference from the value of the measured scan.

The forms that attention-unet reports follow the usual definitions."""
OVERLAP = ("tissue_dice", "tissue_jaccard", "tpf", "tnf", "ppv")
"""Statistics that compare segmentations with the segmentation of the measured scan."""
VOLUME = "tissue_volume"
SIZE = "parameters"
"""Statistic with the number of parameters of a network."""
QUESTION = ["contrast", "statistic", "region"]
"""Columns that identify a metric, without the series and the participant."""
_SUMMARY_COLUMNS = ("n", "mean", "sd", "median", "minimum", "maximum")
_NO_VALUES = pd.Series(dtype=float)


@frozen
class StructuralTables:
    """Group tables of structural scans.

    `values` are metrics, one row per participant, session and value, and `methods` series by
    metric across participants. `comparisons` compare methods with the better interpolation.
    `protocols` are errors of quality metrics by protocol, and `agreement` bias and limits of
    agreement of volumes. `variability` and `change` are volumes over sessions, and their change
    from baseline by month; empty if no participant has two sessions.
    """

    values: pd.DataFrame
    methods: pd.DataFrame
    comparisons: pd.DataFrame
    protocols: pd.DataFrame
    agreement: pd.DataFrame
    variability: pd.DataFrame
    change: pd.DataFrame


def compute_tables(values: pd.DataFrame) -> StructuralTables:
    """Compute all group tables from the rows of `read_values`."""
    return StructuralTables(
        values=values,
        methods=methods_table(values),
        comparisons=compare_methods(values),
        protocols=protocols_table(values),
        agreement=agreement_table(values),
        variability=variability_table(values),
        change=change_table(values),
    )


def methods_table(values: pd.DataFrame) -> pd.DataFrame:
    """Summarize each similarity and overlap metric of each series across participants.

    The metrics include the number of parameters of networks (`SIZE`).
    """
    wide_values = average_by_participant(
        values[values["statistic"].isin((*SIMILARITY, *OVERLAP, SIZE))]
    )
    rows = []
    for question, participant_values in wide_values.groupby(level=QUESTION, sort=False):
        for name in list_series(values):
            if name == MEASURED or name not in participant_values:
                continue
            summary = summarize(participant_values[name])
            if summary.n:
                numbers = (getattr(summary, column) for column in _SUMMARY_COLUMNS)
                rows.append([*question, name, *numbers])
    return pd.DataFrame(rows, columns=list(describe_columns("scans_methods")))


def compare_methods(values: pd.DataFrame) -> pd.DataFrame:
    """Compare methods with the interpolation that has the better median across participants.

    P values are corrected over the methods, contrasts and regions of one statistic, separately for
    the whole scan. The choice of the better interpolation favors interpolation.
    """
    wide_values = average_by_participant(values[values["statistic"].isin((*SIMILARITY, *OVERLAP))])
    questions: list[dict[str, str]] = []
    comparisons: list[PairedComparison] = []
    for question, participant_values in wide_values.groupby(level=QUESTION, sort=False):
        cells = dict(zip(QUESTION, question, strict=True))
        series = {
            name: participant_values[name].to_numpy()
            for name in list_series(values)
            if name != MEASURED and participant_values.get(name, _NO_VALUES).notna().any()
        }
        interpolations = [name for name in series if get_kind(name) == "baseline"]
        baseline = _select_better(interpolations, participant_values, cells["statistic"])
        pairs = [(name, baseline) for name in series if baseline and get_kind(name) != "baseline"]
        compared = compare_pairs(series, pairs)
        comparisons += compared
        questions += [cells] * len(compared)
    families = [(cells["statistic"], cells["region"] == SCAN) for cells in questions]
    rows = decide_all(questions, comparisons, families, least_n=1)
    return pd.DataFrame(rows, columns=list(describe_columns("scans_stats")))


def _select_better(
    series_names: Sequence[str], participant_values: pd.DataFrame, name: str
) -> str:
    """Return the series with the best median of a statistic, "" if no median is defined."""
    medians = participant_values[list(series_names)].median().dropna()
    if medians.empty:
        return ""
    lower_is_better = statistic(name).better == LOWER
    return str(medians.idxmin() if lower_is_better else medians.idxmax())


def protocols_table(values: pd.DataFrame) -> pd.DataFrame:
    """Return the absolute error of each quality metric by protocol, contrast and series.

    The error is the absolute difference from the measured scan's value; mean and standard
    deviation are computed across participants (attention-unet, table 2). Sessions of a participant
    with the same protocol are averaged.
    """
    quality_values = values[values["statistic"].isin(QUALITY)]
    session_key = ["participant", "session", "protocol", "contrast", "region", "statistic"]
    session_means = quality_values.groupby([*session_key, "series"], sort=False)["value"].mean()
    wide_values = session_means.unstack("series")
    errors = wide_values.sub(wide_values.get(MEASURED, math.nan), axis=0).abs()
    protocol_question = ["protocol", *QUESTION]
    participant_errors = errors.groupby([*protocol_question, "participant"], sort=False).mean()
    series_names = [
        name for name in list_series(values) if name in participant_errors and name != MEASURED
    ]
    rows = []
    for question, question_errors in participant_errors.groupby(
        level=protocol_question, sort=False
    ):
        for name in series_names:
            summary = summarize(question_errors[name])
            if summary.n:
                rows.append(
                    {
                        **dict(zip(protocol_question, question, strict=True)),
                        "series": name,
                        "n": summary.n,
                        "mae": summary.mean,
                        "mae_sd": summary.sd,
                    }
                )
    return pd.DataFrame(rows).reindex(columns=list(describe_columns("scans_protocols")))


def agreement_table(values: pd.DataFrame) -> pd.DataFrame:
    """Return bias and limits of agreement of tissue volumes with the measured scans.

    There is one row per class, series and unit (ml, and percent of the mean of both volumes).
    """
    rows = []
    for identifiers, series_pairs in volume_pairs(values).groupby(VOLUME_KEY, sort=False):
        changes = {
            "ml": (series_pairs["volume"] - series_pairs[MEASURED]).to_numpy(),
            "percent": series_pairs["percent"].dropna().to_numpy(),
        }
        for unit, change in changes.items():
            if change.size:
                row = dict(zip(VOLUME_KEY, identifiers, strict=True))
                rows.append(
                    {**row, "unit": unit, **dataclasses.asdict(limits_of_agreement(change))}
                )
    return pd.DataFrame(rows).reindex(columns=list(describe_columns("scans_agreement")))


def volume_pairs(values: pd.DataFrame) -> pd.DataFrame:
    """Return each participant's tissue volumes (ml) with the volumes in the measured scans.

    The columns are contrast, region, series, participant, volume, measured, mean and percent
    (difference in percent of the mean of both). The table is empty if there are no pairs.
    """
    volumes = average_by_participant(values[values["statistic"] == VOLUME])
    names = [name for name in list_series(values) if name != MEASURED]
    wide_values = volumes.reindex(columns=[*names, MEASURED]).reset_index()
    pairs = wide_values.melt([*QUESTION, "participant", MEASURED], names, "series", "volume")
    pairs = pairs.dropna(subset=["volume", MEASURED]).reset_index(drop=True)
    pairs["mean"] = (pairs["volume"] + pairs[MEASURED]) / 2
    pairs["percent"] = percent_differences(pairs["volume"], pairs[MEASURED])
    return pairs


def average_by_participant(values: pd.DataFrame) -> pd.DataFrame:
    """Return one row per participant and metric (mean over sessions), one column per series."""
    means = values.groupby([*QUESTION, "participant", "series"], sort=False)["value"].mean()
    return means.unstack("series")


def list_series(values: pd.DataFrame) -> list[str]:
    """Return the series of the rows in order: interpolations, methods, measured scans."""
    return sorted(
        dict.fromkeys(values["series"]),
        key=lambda name: (name == MEASURED, get_kind(name) != "baseline"),
    )


def variability_table(values: pd.DataFrame) -> pd.DataFrame:
    """Return the variability of tissue volumes over the sessions of a participant.

    Each row is a class and series, with the pooled standard deviation within participants (ml) and
    the pooled coefficient of variation (percent of the participant's mean). A method adds
    variability if its value exceeds the value of the measured scans. The table is empty if no
    participant has two sessions.
    """
    volumes = session_volumes(values)
    rows = []
    for identifiers, series_volumes in volumes.groupby(VOLUME_KEY, sort=False):
        by_participant = series_volumes.groupby("participant")
        volumes_ml = [sessions.to_numpy() for _, sessions in by_participant["value"]]
        percentages = [sessions.to_numpy() for _, sessions in by_participant["percent"]]
        rows.append(
            {
                **dict(zip(VOLUME_KEY, identifiers, strict=True)),
                "n": len(volumes_ml),
                "n_scans": len(series_volumes),
                "mean": float(series_volumes["value"].mean()),
                "sd_within": compute_within_unit_sd(volumes_ml),
                "cv_percent": compute_within_unit_sd(percentages),
            }
        )
    return pd.DataFrame(rows).reindex(columns=list(describe_columns("scans_variability")))


def session_volumes(values: pd.DataFrame) -> pd.DataFrame:
    """Return volumes of participants with two or more sessions.

    The columns are contrast, region, series, participant, session, value (ml) and percent (of the
    participant's mean over sessions).
    """
    volumes = values[(values["statistic"] == VOLUME) & (values["session"] != MISSING)].copy()
    participant_key = [*VOLUME_KEY, "participant"]
    n_sessions = volumes.groupby(participant_key)["session"].transform("nunique")
    volumes = volumes[n_sessions >= 2]
    means = volumes.groupby(participant_key)["value"].transform("mean")
    percent = 100 * volumes["value"] / means.where(means != 0)
    return volumes.assign(percent=percent)[[*participant_key, "session", "value", "percent"]]
