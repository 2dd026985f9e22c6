"""Outputs of several made-up participants: tables of metrics with known figures, nothing else."""

import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from bids_sr.group import values as group_values
from bids_sr.group.input_tables import find_tables
from bids_sr.metrics.rows import MetricRow, metric_rows, table_text

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
    "fwhm_mm": 0.0,
}
"""What the rows of `detail` are about."""
FACTS = {"GeneratedByVersion": "1.0", "SettingsDigest": "abc"}


def write_tables(
    output_dir: Path,
    participant: str,
    *,
    rows: Sequence[MetricRow] = (),
    activation: Sequence[MetricRow] = (),
    run: str = "task-tap",
    facts: Mapping[str, str] = FACTS,
) -> None:
    """Write the evaluation and the activation table of one run, as far as there are rows."""
    folder = output_dir / f"sub-{participant}" / "func"
    folder.mkdir(parents=True, exist_ok=True)
    texts = {}
    if rows:
        texts["evaluation"] = table_text(rows)
    if activation:
        texts["activation"] = table_text(activation)
    for kind, text in texts.items():
        stem = folder / f"sub-{participant}_{run}_desc-{kind}_metrics"
        stem.with_suffix(".tsv").write_text(text)
        stem.with_suffix(".json").write_text(json.dumps(dict(facts)))


def write_as_finished(output_dir: Path, participant: str) -> None:
    """Write a file for every name that a finished participant has; of its content only what the
    group level reads.
    """
    for name in (Path(__file__).parent / "expected_outputs.txt").read_text().split():
        path = output_dir / name.replace("sub-01", f"sub-{participant}")
        path.parent.mkdir(parents=True, exist_ok=True)
        content = table_text(()) if name.endswith("desc-image_metrics.tsv") else ""
        path.write_text("{}" if path.suffix == ".json" else content)


def indexed_tables(bids_dir: Path, output_dir: Path, *, validate: bool) -> list[list[Any]]:
    """What pybids finds of participants' tables of metrics: of the outputs alone, and beside their
    data set.
    """
    from bids import BIDSLayout

    alone = BIDSLayout(output_dir, validate=validate, is_derivative=True)
    beside = BIDSLayout(bids_dir, validate=validate, derivatives=output_dir)
    assert len(beside.get(scope="raw", suffix="bold", extension=".nii.gz")) >= 1
    wanted = {"suffix": "metrics", "extension": ".tsv"}
    found = (alone.get(**wanted), beside.get(scope="derivatives", **wanted))
    return [[each for each in tables if "subject" in each.entities] for tables in found]


def detail(series: str, value: float, **how: float) -> MetricRow:
    """Confirmed detail beyond Nyquist of one series."""
    about = {
        name: BEYOND[name] for name in ("statistic", "band", "reference", "region", "contrast")
    }
    return MetricRow(series=series, value=value, **about, **how)


def sizes(
    series: str, thumb: float, little: float, dice: float | None, fwhm: float = 0.0
) -> list[MetricRow]:
    """Region sizes and overlap of one series."""
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


def joined(output_dir: Path) -> group_values.Joined:
    """All tables below a folder, joined."""
    return group_values.join_tables(find_tables(output_dir), io.StringIO())


def values_of(series: Mapping[str, Mapping[str, float]], **about: object) -> pd.DataFrame:
    """Values by series and participant, as joined (NaN: not defined); `about` is what differs from
    `BEYOND`.
    """
    people = pd.DataFrame.from_dict(series, orient="index", dtype=float).reset_index(drop=True)
    for row, known in enumerate(series.values()):
        people.loc[row, [who for who, value in known.items() if math.isnan(value)]] = math.inf
    about = {**BEYOND, **about}
    keys = pd.DataFrame([{**about, "series": name} for name in series])
    return pd.concat([keys, people[sorted(people)]], axis=1)


def one(comparisons: pd.DataFrame, series: str, minus: str, **about: object) -> Any:
    """The comparison of two series on one question, told as in `values_of`."""
    wanted = {**BEYOND, **about, "series": series, "minus": minus}
    (row,) = (
        each
        for each in comparisons.itertuples()
        if all(getattr(each, k) == v for k, v in wanted.items())
    )
    return row


def cohort(output_dir: Path, count: int = 8) -> list[str]:
    """A group in which sbl beats all, zerofill is bspline, and regions shrink by interpolation
    alone.
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
            detail("sblMirror", base + 0.01),
            detail("measured", base + 0.2 + odd),
        ]
        activation = [
            *sizes("raw", 100 + number, 120 + number, 0.6),
            *sizes("bspline", 80 + number, 90 + 2 * number, 0.5),
            *sizes("sbl", 70 + number, 85 + number, None if number == 0 else 0.4),
        ]
        write_tables(output_dir, label, rows=rows, activation=activation)
    return [f"sub-{label}" for label in labels]
