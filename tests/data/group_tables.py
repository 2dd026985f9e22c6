"""Write tables of metrics of several made-up participants, and no other outputs."""

import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from bids_sr.engine.metric_rows import MetricRow, metric_rows, table_text, with_input_smoothing
from bids_sr.group import values as group_values
from bids_sr.group.input_tables import find_tables

BEYOND: dict[str, Any] = {
    "task": "tap",
    "variant": "n/a",
    "table": "evaluation",
    "statistic": "ev",
    "band": "beyond",
    "reference": "measured",
    "region": "brain",
    "threshold": "n/a",
    "contrast": "all",
    "input_fwhm_mm": "0",
    "fwhm_mm": 0.0,
}
"""Keys of the rows of `detail`."""
FACTS = {"GeneratedByVersion": "1.0", "SettingsDigest": "abc"}


def write_tables(
    output_dir: Path,
    participant: str,
    *,
    rows: Sequence[MetricRow] = (),
    activation: Sequence[MetricRow] = (),
    run: str = "task-tap",
    facts: Mapping[str, str] = FACTS,
    input_smoothing: float = 0.0,
) -> None:
    """Write the evaluation and activation tables of one run, if they have rows."""
    folder = output_dir / f"sub-{participant}" / "func"
    folder.mkdir(parents=True, exist_ok=True)
    texts = {}
    if rows:
        texts["evaluation"] = table_text(with_input_smoothing(rows, input_smoothing))
    if activation:
        texts["activation"] = table_text(with_input_smoothing(activation, input_smoothing))
    for kind, text in texts.items():
        stem = folder / f"sub-{participant}_{run}_desc-{kind}_metrics"
        stem.with_suffix(".tsv").write_text(text)
        stem.with_suffix(".json").write_text(json.dumps(dict(facts)))


def indexed_tables(bids_dir: Path, output_dir: Path, *, validate: bool) -> list[list[Any]]:
    """Return the metrics tables that pybids indexes, in the outputs only and with their
    data set.
    """
    from bids import BIDSLayout

    output_only = BIDSLayout(output_dir, validate=validate, is_derivative=True)
    with_raw = BIDSLayout(bids_dir, validate=validate, derivatives=output_dir)
    assert len(with_raw.get(scope="raw", suffix="bold", extension=".nii.gz")) >= 1
    query = {"suffix": "metrics", "extension": ".tsv"}
    tables_of_layouts = (output_only.get(**query), with_raw.get(scope="derivatives", **query))
    return [
        [table for table in tables if "subject" in table.entities] for tables in tables_of_layouts
    ]


def detail(series: str, value: float, **fields: float) -> MetricRow:
    """Return a row with the confirmed detail above the Nyquist frequency of a series."""
    about = {
        name: BEYOND[name] for name in ("statistic", "band", "reference", "region", "contrast")
    }
    return MetricRow(series=series, value=value, **about, **fields)


def sizes(
    series: str, thumb: float, little: float, dice: float | None, fwhm: float = 0.0
) -> list[MetricRow]:
    """Return rows with region sizes and overlap of one series."""
    return [
        *metric_rows(
            series,
            {"size_acquired_voxels": thumb},
            threshold="quarter",
            fwhm_mm=fwhm,
            contrast="thumb",
        ),
        *metric_rows(
            series,
            {"size_acquired_voxels": little},
            threshold="quarter",
            fwhm_mm=fwhm,
            contrast="little",
        ),
        *metric_rows(
            series, {"dice": dice}, threshold="quarter", fwhm_mm=fwhm, contrast="thumb+little"
        ),
    ]


def joined(output_dir: Path) -> group_values.JoinedTables:
    """Join all tables below a folder."""
    return group_values.join_tables(find_tables(output_dir), io.StringIO())


def values_of(series: Mapping[str, Mapping[str, float]], **about: object) -> pd.DataFrame:
    """Return values by series and participant, as joined (NaN: not defined).

    `about` replaces keys of `BEYOND`.
    """
    table = pd.DataFrame.from_dict(series, orient="index", dtype=float).reset_index(drop=True)
    for row, values in enumerate(series.values()):
        table.loc[
            row, [participant for participant, value in values.items() if math.isnan(value)]
        ] = math.inf
    about = {**BEYOND, **about}
    keys = pd.DataFrame([{**about, "series": name} for name in series])
    return pd.concat([keys, table[sorted(table)]], axis=1)


def one(comparisons: pd.DataFrame, series: str, minus: str, **about: object) -> Any:
    """Return the comparison of two series; keys are as in `values_of`."""
    expected = {**BEYOND, **about, "series": series, "minus": minus}
    (row,) = (
        candidate
        for candidate in comparisons.itertuples()
        if all(getattr(candidate, k) == v for k, v in expected.items())
    )
    return row


def cohort(output_dir: Path, count: int = 8) -> list[str]:
    """Write tables of a group.

    sbl has the largest values, zerofill equals bspline, and interpolation alone shrinks regions.
    """
    labels = [f"{number:02d}" for number in range(1, count + 1)]
    for number, label in enumerate(labels):
        base, odd = 0.02 + 0.003 * number, 0.0005 * (-1) ** number
        swing = 80 * odd + 0.00011 * number**2
        rows = [
            detail("bspline", base),
            detail("zerofill", base + odd),
            detail("inject", base + 0.02 + odd / 3),
            detail("srgan", base + swing),
            detail("sbl", base + 0.1 + 0.001 * number),
            detail("measured", base + 0.2 + odd),
        ]
        activation = [
            *sizes("acquired", 100 + number, 120 + number, 0.6),
            *sizes("bspline", 80 + number, 90 + 2 * number, 0.5),
            *sizes("sbl", 70 + number, 85 + number, None if number == 0 else 0.4),
        ]
        write_tables(output_dir, label, rows=rows, activation=activation)
    return [f"sub-{label}" for label in labels]
