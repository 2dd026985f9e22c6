"""Test notices on the column modulation of events tables."""

from pathlib import Path

import pytest

from bids_sr.bids import Findings
from bids_sr.preflight.events import check_events


def _notices(folder: Path, *modulations: str, header: str = "modulation") -> list[tuple[str, str]]:
    table = folder / "sub-01_task-tap_events.tsv"
    rows = [f"{10 + 20 * k}\t8\tgo\t{value}" for k, value in enumerate(modulations)]
    rows.append("200\t8\trest\tn/a")
    table.write_text("\n".join([f"onset\tduration\ttrial_type\t{header}", *rows]) + "\n")
    findings = Findings()
    assert check_events(table, folder / "bold.nii.gz", 300.0, findings) == ("go",)
    return [(notice.level, notice.why) for notice in findings.notices]


def test_a_modulation_that_is_used_is_noted(tmp_path: Path) -> None:
    ((level, why),) = _notices(tmp_path, "1", "2.5")
    assert level == "note"
    assert "modulation is used as the amplitude of the events (1 to 2.5)" in why


@pytest.mark.parametrize("odd", ["high", "n/a"])
def test_a_modulation_that_is_not_a_number_is_a_warning(tmp_path: Path, odd: str) -> None:
    ((level, why),) = _notices(tmp_path, "1", odd)
    assert level == "warning"
    assert "modulation is not used" in why
    assert repr(odd) in why


def test_equal_events_and_other_columns_are_not_noted(tmp_path: Path) -> None:
    assert _notices(tmp_path, "1", "1") == []
    assert _notices(tmp_path, "1", "2.5", header="response_time") == []


def test_events_that_differ_in_modulation_are_not_repetitions(tmp_path: Path) -> None:
    table = tmp_path / "sub-01_task-tap_events.tsv"
    table.write_text(
        "onset\tduration\ttrial_type\tmodulation\n10\t8\tgo\t1\n10\t8\tgo\t2\n30\t8\tgo\t2\n"
    )
    findings = Findings()
    check_events(table, tmp_path / "bold.nii.gz", 300.0, findings)
    assert not any("only once" in notice.why for notice in findings.notices)
