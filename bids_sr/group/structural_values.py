"""Metrics of structural scans over participants: tables of the group level.

Five tables are computed from the participants' metrics: series by metric (attention-unet, table
1), errors of quality metrics by acquisition protocol (table 2), agreement of tissue volumes
(figure 10), their variability over sessions and their change from baseline (figure 13). The unit
is the participant: sessions of one participant are averaged first, except in the tables over
sessions.
"""

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd

from bids_sr.bids.entities import entities_of
from bids_sr.frozen import frozen
from bids_sr.group.limits_of_agreement import (
    limits_of_agreement,
    percent_differences,
    within_unit_sd,
)
from bids_sr.group.paired_tests import differences, hodges_lehmann, holm, signed_rank
from bids_sr.group.values import TableError
from bids_sr.group.volume_change import change_table
from bids_sr.metrics.registry import LOWER, statistic
from bids_sr.metrics.rows import COLUMNS, MISSING, SCAN, read_frame
from bids_sr.series import BASELINES, MEASURED

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
"""Statistics of one image, whose error is the difference from the measured scan's value; metrics
that attention-unet prints in another form follow the usual ones."""
OVERLAP = ("tissue_dice", "tissue_jaccard", "tpf", "tnf", "ppv")
"""Statistics that compare segmentations with the segmentation of the measured scan."""
VOLUME = "tissue_volume"
SIZE = "parameters"
"""Statistic with the number of parameters of a network."""
ALL_PROTOCOLS = "all"
"""Protocol of participants if no column was named."""
_KEY = ["participant", "session", "protocol", "contrast", "region", "statistic", "series"]
_PERSON = ["contrast", "statistic", "region"]


@frozen
class StructuralTables:
    """Tables of the group level of structural scans.

    `values`: metrics, a row per participant, session and value. `methods`: series by metric over
    participants. `protocols`: errors of quality metrics by protocol. `agreement`: bias and limits
    of agreement of volumes. `variability`, `change`: volumes over sessions, and their change from
    baseline by month; no rows if no participant has two sessions.
    """

    values: pd.DataFrame
    methods: pd.DataFrame
    protocols: pd.DataFrame
    agreement: pd.DataFrame
    variability: pd.DataFrame
    change: pd.DataFrame


def find_scan_tables(
    output_dir: Path, chosen: Callable[[Mapping[str, str]], bool] = lambda _: True
) -> pd.DataFrame:
    """Find the metrics tables of structural scans, sorted by participant and session.

    A row per table: participant, session (n/a without one), name, path, and version and digest of
    the settings (empty if not recorded). `chosen`: whether the entities of a table (pybids names)
    were requested.
    """
    rows = []
    for pattern in ("sub-*/anat", "sub-*/ses-*/anat"):
        for path in sorted(output_dir.glob(f"{pattern}/*_desc-anat_metrics.tsv")):
            entities = entities_of(path)
            if not chosen(entities):
                continue
            sidecar = path.with_suffix(".json")
            facts = json.loads(sidecar.read_text(encoding="utf-8")) if sidecar.exists() else {}
            session = entities.get("session", MISSING)
            participant = f"sub-{entities['subject']}"
            rows.append(
                {
                    "participant": participant,
                    "session": session,
                    "name": participant + (f" ses-{session}" if session != MISSING else ""),
                    "path": path,
                    "version": str(facts.get("GeneratedByVersion", "")),
                    "digest": str(facts.get("SettingsDigest", "")),
                }
            )
    table = pd.DataFrame(rows)
    if table.empty:
        return table
    return table.sort_values(["participant", "session"], ignore_index=True)


def read_values(
    tables: pd.DataFrame,
    protocols: Mapping[str, str],
    months: Mapping[tuple[str, str], float] = MappingProxyType({}),
) -> pd.DataFrame:
    """Return the rows of all tables, preceded by participant, session, month and protocol.

    `protocols`: protocol by name of the table's row (`find_scan_tables`); others are
    `ALL_PROTOCOLS`. `months`: months since the first session by participant and session. Raises
    `TableError` if a table has other columns than this version writes.
    """
    frames = []
    for row in tables.itertuples():
        try:
            frame = read_frame(row.path)
        except (ValueError, KeyError, OSError) as error:
            raise TableError(f"{row.path}: {error}") from error
        if list(frame) != list(COLUMNS):
            raise TableError(
                f"{row.path}: the columns are {', '.join(frame)}; expected {', '.join(COLUMNS)}"
            )
        frame.insert(0, "participant", row.participant)
        frame.insert(1, "session", row.session)
        frame.insert(2, "month", months.get((row.participant, row.session), math.nan))
        frame.insert(3, "protocol", protocols.get(row.name, ALL_PROTOCOLS))
        frames.append(frame)
    values = pd.concat(frames, ignore_index=True)
    return values.fillna({"region": MISSING, "contrast": MISSING})


def tables_of(values: pd.DataFrame) -> StructuralTables:
    """Compute all tables of the group level from the rows of `read_values`."""
    return StructuralTables(
        values=values,
        methods=methods_table(values),
        protocols=protocols_table(values),
        agreement=agreement_table(values),
        variability=variability_table(values),
        change=change_table(values),
    )


def series_of(values: pd.DataFrame) -> list[str]:
    """Return the series of the rows: interpolations, methods, then the measured scans."""
    names = list(dict.fromkeys(values["series"]))
    last = [name for name in names if name == MEASURED]
    first = [name for name in names if name in BASELINES]
    return [*first, *(name for name in names if name not in (*first, *last)), *last]


def by_participant(values: pd.DataFrame) -> pd.DataFrame:
    """Return one row per participant and metric (mean over sessions), one column per series."""
    means = values.groupby([*_PERSON, "participant", "series"], sort=False)["value"].mean()
    return means.unstack("series")


def methods_table(values: pd.DataFrame) -> pd.DataFrame:
    """Compare the series by each metric of similarity and overlap, over participants.

    A method is compared with the interpolation of the better median (`minus`) by the Wilcoxon
    signed-rank test; p values are corrected within the methods and contrasts of one statistic
    (Holm), those over the whole scan apart from those in the brain and its tissues. The choice of
    the better interpolation favors the interpolation. Rows of `SIZE` are not compared.
    """
    wide = by_participant(values[values["statistic"].isin((*SIMILARITY, *OVERLAP, SIZE))])
    rows = []
    for question, people in wide.groupby(level=_PERSON, sort=False):
        place = dict(zip(_PERSON, question, strict=True))
        names = [name for name in series_of(values) if name in people and name != MEASURED]
        best = _better([name for name in names if name in BASELINES], people, place["statistic"])
        for name in names:
            known = people[name].dropna().to_numpy()
            if not known.size:
                continue
            row = {**place, "series": name, **_summary(known)}
            if best and name not in BASELINES:
                row |= {"minus": best, **_paired(people[name], people[best])}
            rows.append(row)
    table = pd.DataFrame(rows).reindex(columns=list(METHODS_COLUMNS))
    table["p_holm"] = np.nan
    compared = table[table["minus"].notna()]
    for _, own in compared.groupby(["statistic", compared["region"] == SCAN]):
        table.loc[own.index, "p_holm"] = holm(list(own["p_wilcoxon"]))
    return table


def _better(names: Sequence[str], people: pd.DataFrame, name: str) -> str:
    """Return the series of the best median of a statistic; "" if there is no series."""
    medians = {each: float(people[each].median()) for each in names}
    medians = {each: value for each, value in medians.items() if not math.isnan(value)}
    if not medians:
        return ""
    lower = statistic(name).better == LOWER
    return (min if lower else max)(medians, key=lambda each: medians[each])


def _summary(known: np.ndarray) -> dict[str, float]:
    return {
        "n": len(known),
        "mean": float(known.mean()),
        "sd": float(known.std(ddof=1)) if len(known) > 1 else math.nan,
        "median": float(np.median(known)),
        "minimum": float(known.min()),
        "maximum": float(known.max()),
    }


def _paired(values: pd.Series, reference: pd.Series) -> dict[str, float]:
    both = pd.concat([values, reference], axis=1).dropna().to_numpy()
    if not len(both):
        return {}
    change = differences(both[:, 0], both[:, 1])
    shift, test = hodges_lehmann(change), signed_rank(change)
    return {
        "difference": shift["difference"],
        "lower": shift["lower"],
        "upper": shift["upper"],
        "p_wilcoxon": float(test["p_wilcoxon"]),
        "p_smallest": float(test["p_smallest"]),
    }


def protocols_table(values: pd.DataFrame) -> pd.DataFrame:
    """Return the absolute error of each quality metric by protocol, contrast and series.

    The error is the absolute difference from the measured scan's value; mean and standard
    deviation are over participants (attention-unet, table 2). Sessions of a participant under one
    protocol are averaged.
    """
    chosen = values[values["statistic"].isin(QUALITY)]
    wide = chosen.groupby([*(k for k in _KEY if k != "series"), "series"], sort=False)["value"]
    table = wide.mean().unstack("series")
    if MEASURED not in table:
        return pd.DataFrame(columns=list(PROTOCOL_COLUMNS))
    errors = table.drop(columns=MEASURED).sub(table[MEASURED], axis=0).abs()
    people = errors.groupby(["protocol", *_PERSON, "participant"], sort=False).mean()
    rows = []
    for question, own in people.groupby(level=["protocol", *_PERSON], sort=False):
        place = dict(zip(["protocol", *_PERSON], question, strict=True))
        for name in series_of(values):
            known = own[name].dropna().to_numpy() if name in own else np.empty(0)
            if known.size:
                figures = _summary(known)
                means = {key: figures[key] for key in ("n", "mean", "sd")}
                rows.append({**place, "series": name, **means})
    table = pd.DataFrame(rows).rename(columns={"mean": "mae", "sd": "mae_sd"})
    return table.reindex(columns=list(PROTOCOL_COLUMNS))


def volume_pairs(values: pd.DataFrame) -> pd.DataFrame:
    """Return each participant's tissue volumes (ml) beside those of the measured scans.

    Columns contrast, region, series, participant, volume, measured, mean and percent (difference
    in percent of the mean of both).
    """
    wide = by_participant(values[values["statistic"] == VOLUME])
    if MEASURED not in wide:
        return pd.DataFrame()
    parts = []
    for name in series_of(values):
        if name == MEASURED or name not in wide:
            continue
        part = wide[[name, MEASURED]].set_axis(["volume", "measured"], axis=1).reset_index()
        parts.append(part.assign(series=name).dropna(subset=["volume", "measured"]))
    if not parts:
        return pd.DataFrame()
    pairs = pd.concat(parts, ignore_index=True)
    pairs["mean"] = (pairs["volume"] + pairs["measured"]) / 2
    pairs["percent"] = percent_differences(pairs["volume"], pairs["measured"])
    return pairs


def agreement_table(values: pd.DataFrame) -> pd.DataFrame:
    """Return bias and limits of agreement of tissue volumes with the measured scans.

    A row per class, series and unit (ml, and percent of the mean of both volumes).
    """
    pairs = volume_pairs(values)
    rows = []
    if len(pairs):
        for place, own in pairs.groupby(["contrast", "region", "series"], sort=False):
            changes = {
                "ml": (own["volume"] - own["measured"]).to_numpy(),
                "percent": own["percent"].dropna().to_numpy(),
            }
            for unit, change in changes.items():
                if change.size:
                    found = dataclasses.asdict(limits_of_agreement(change))
                    names = dict(zip(("contrast", "region", "series"), place, strict=True))
                    rows.append({**names, "unit": unit, **found})
    return pd.DataFrame(rows).reindex(columns=list(AGREEMENT_COLUMNS))


def session_volumes(values: pd.DataFrame) -> pd.DataFrame:
    """Return volumes of participants with two or more sessions.

    Columns contrast, region, series, participant, session, value (ml) and percent (of the
    participant's mean over sessions).
    """
    volumes = values[(values["statistic"] == VOLUME) & (values["session"] != MISSING)].copy()
    key = ["contrast", "region", "series", "participant"]
    count = volumes.groupby(key)["session"].transform("nunique")
    volumes = volumes[count >= 2]
    means = volumes.groupby(key)["value"].transform("mean")
    percent = 100 * volumes["value"] / means.where(means != 0)
    return volumes.assign(percent=percent)[[*key, "session", "value", "percent"]]


def variability_table(values: pd.DataFrame) -> pd.DataFrame:
    """Return the variability of tissue volumes over the sessions of a participant.

    A row per class and series: pooled standard deviation within participants (ml) and pooled
    coefficient of variation (percent of the participant's mean). A method adds variability if its
    value exceeds the measured scans' value. No rows if no participant has two sessions.
    """
    volumes = session_volumes(values)
    rows = []
    for place, own in volumes.groupby(["contrast", "region", "series"], sort=False):
        people = [part for _, part in own.groupby("participant")]
        rows.append(
            {
                **dict(zip(("contrast", "region", "series"), place, strict=True)),
                "n": len(people),
                "n_scans": len(own),
                "mean": float(own["value"].mean()),
                "sd_within": within_unit_sd([part["value"].to_numpy() for part in people]),
                "cv_percent": within_unit_sd([part["percent"].to_numpy() for part in people]),
            }
        )
    return pd.DataFrame(rows).reindex(columns=list(VARIABILITY_COLUMNS))


def _columns(**texts: str) -> dict[str, dict[str, str]]:
    return {name: {"Description": text} for name, text in texts.items()}


_PLACE = _columns(
    contrast="Suffix of the scans, or all (all contrasts combined)",
    statistic="Name of the metric, as in the participants' tables",
    region="Brain, tissue, pair of tissues, or scan (all voxels of the evaluated slices)",
    series="Interpolation, super-resolution method, or measured (high-resolution scan)",
)
METHODS_COLUMNS = {
    **_PLACE,
    **_columns(
        n="Participants",
        mean="Mean across participants",
        sd="Standard deviation across participants",
        median="Median across participants",
        minimum="Lowest value across participants",
        maximum="Highest value across participants",
        minus="Interpolation with the better median across participants, used as the reference for"
        " the method",
        difference="Hodges-Lehmann estimate of the difference from the interpolation in the"
        " column minus",
        lower="Lower limit of the 95 % confidence interval of the difference",
        upper="Upper limit of the 95 % confidence interval of the difference",
        p_wilcoxon="Two-sided p value of the Wilcoxon signed-rank test, not corrected for"
        " multiple "
        "comparisons",
        p_smallest="Smallest p value that the test can reach with this number of participants",
        p_holm="p value corrected for all comparisons of the metric (Holm). Comparisons in the"
        " whole "
        "scan are corrected separately.",
    ),
}
PROTOCOL_COLUMNS = {
    **_columns(protocol="Acquisition protocol, or all if --protocol was not specified"),
    **_PLACE,
    **_columns(
        n="Participants",
        mae="Mean absolute difference from the value of the measured scan, across participants",
        mae_sd="Standard deviation of the absolute difference across participants",
    ),
}
AGREEMENT_COLUMNS = {
    **{name: text for name, text in _PLACE.items() if name != "statistic"},
    **_columns(
        unit="Unit of the differences: ml, or percent of the mean of both volumes",
        n="Participants",
        bias="Bias: mean difference from the volumes of the measured scans",
        bias_lower="Lower limit of the 95 % confidence interval of the bias",
        bias_upper="Upper limit of the 95 % confidence interval of the bias",
        sd="Standard deviation of the differences across participants",
        low_limit="Lower 95 % limit of agreement (bias - 1.96 SD)",
        low_limit_lower="Lower limit of the 95 % confidence interval of the lower limit of"
        " agreement",
        low_limit_upper="Upper limit of the 95 % confidence interval of the lower limit of"
        " agreement",
        high_limit="Upper 95 % limit of agreement (bias + 1.96 SD)",
        high_limit_lower="Lower limit of the 95 % confidence interval of the upper limit of"
        " agreement",
        high_limit_upper="Upper limit of the 95 % confidence interval of the upper limit of"
        " agreement",
    ),
}
VARIABILITY_COLUMNS = {
    **{name: text for name, text in _PLACE.items() if name != "statistic"},
    **_columns(
        n="Number of participants with at least two sessions",
        n_scans="Total number of sessions across these participants",
        mean="Mean volume across participants and sessions (ml)",
        sd_within="Pooled within-participant standard deviation (ml)",
        cv_percent="Pooled within-participant standard deviation, in percent of the participant's"
        " mean "
        "volume",
    ),
}
