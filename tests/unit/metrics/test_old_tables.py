"""Every number of the tables of 0.2.0.dev and before is found again in the table of today, or was
dropped by name.
"""

from pathlib import Path

import pytest
from oldtables import DROPPED, DROPPED_OF_MEASURED, NONE, lost, numbers_of, place_of, rows_of

from bids_sr.metrics import COLUMNS, STATISTICS, MetricRow, table_text

ROWS = [
    {name: NONE if table != "anat" and name == "reference" else cell for name, cell in row.items()}
    for row in rows_of(Path(__file__).with_name("old_tables.tsv"))
    for table in [row["table"]]
]
KEPT = [row for row in ROWS if place_of(row["table"], row) is not None]


def as_written_today(rows: list[dict[str, str]], path: Path) -> Path:
    """A table of today with the numbers of an old one."""
    told = []
    for row in rows:
        place = place_of(row["table"], row)
        numbers = {
            name: float(row[name].replace(NONE, "nan")) for name in ("value", "lower", "upper")
        }
        count = None if row["n"] == NONE else int(row["n"])
        told.append(
            MetricRow(
                **{**place._asdict(), **numbers, "fwhm_mm": float(place.fwhm_mm), "n": count}
            )
        )
    path.write_text(table_text(told), encoding="utf-8")
    return path


def test_what_was_dropped_is_named():
    gone = {row["measure"].removeprefix("gain_") for row in ROWS if row not in KEPT}
    assert gone - DROPPED == DROPPED_OF_MEASURED, "detection with a measured map as the reference"
    assert len(KEPT) > 100


@pytest.mark.parametrize("table", sorted({row["table"] for row in KEPT}))
def test_every_number_is_found_again(table, tmp_path):
    own = [row for row in KEPT if row["table"] == table]
    new = numbers_of(as_written_today(own, tmp_path / "new.tsv"))
    assert lost(table, own, new) == []
    changed = [{**own[0], "value": "0.123456"}, *own[1:]]
    assert len(lost(table, changed, new)) == 1
    assert len(lost(table, own, dict(list(new.items())[1:]))) == 1


def test_columns_hold_registered_values_alone():
    for row in KEPT:
        place = place_of(row["table"], row)
        assert place.statistic in STATISTICS, row
        for column in ("band", "reference", "threshold"):
            assert getattr(place, column) in {NONE, *COLUMNS[column]["Levels"]}, row
        assert STATISTICS[place.statistic].unit == row["unit"] or row["table"] == "anat", row
