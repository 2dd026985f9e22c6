"""VolumeTiming: equal intervals determine the repetition time, unequal intervals are rejected."""

from pathlib import Path

import pytest

from bids_sr.bids.findings import Findings
from bids_sr.bids.volume_timing import read_spacing

SERIES = Path("sub-01_task-tap_bold.nii.gz")
REGULAR = [0.0, 2.0, 4.001, 6.0]


def test_equal_intervals_determine_the_repetition_time() -> None:
    findings = Findings()
    assert read_spacing(SERIES, REGULAR, 4, None, findings) == pytest.approx(2.0)
    assert read_spacing(SERIES, [5.0, 7.0, 9.0], 3, 2.0, findings) == pytest.approx(2.0)
    assert not findings.problems


@pytest.mark.parametrize(
    ("timing", "tr", "reason"),
    [
        (
            [0.0, 2.0, 4.0, 14.0],
            None,
            "intervals in VolumeTiming are not constant (2 s at the start, 10 s after volume 2)",
        ),
        ([0.0, 2.0, 4.0, 14.0], 2.0, "intervals in VolumeTiming are not constant"),
        ([0.0, 2.0, 4.0], None, "3 entries, but the series has 4 volumes"),
        ([0.0, 0.0, 2.0, 4.0], None, "intervals in VolumeTiming are not constant"),
        (REGULAR, 3.0, "2 s according to VolumeTiming, but RepetitionTime is 3 s"),
        ("0 2 4 6", None, "not a list of times"),
    ],
)
def test_invalid_volume_timing_is_rejected(timing: object, tr: float | None, reason: str) -> None:
    findings = Findings()
    assert read_spacing(SERIES, timing, 4, tr, findings) is None
    (problem,) = findings.problems
    assert "VolumeTiming" in str(problem)
    assert reason in str(problem)
