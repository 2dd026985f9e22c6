"""Notices about events: similar names, modulation, pass bands, and blocks of short runs."""

from pathlib import Path

import nibabel as nb
import numpy as np
import pytest
from data.calls import about, plan_for, problem_of
from data.dataset import BidsMaker

from bids_sr.bids import Findings
from bids_sr.preflight.events import check_events

TABLE = "sub-01_task-tap_events.tsv"
BASELINE = ("--sr-method", "bspline")


@pytest.mark.parametrize(
    ("first", "second", "names"),
    [
        ("caf\u00e9", "cafe\u0301", ["'caf\\xe9'", "'cafe\\u0301'"]),
        ("thumb", "Thumb", ["'Thumb'", "'thumb'"]),
        ("thumb", "thu\u200bmb", ["'thu\\u200bmb'", "'thumb'"]),
        ("x2", "x\u00b2", None),
    ],
)
def test_types_that_look_alike_are_reported(
    maker: BidsMaker, first: str, second: str, names: list[str] | None
) -> None:
    maker.events(rows=[(0, 4, first), (8, 4, second), (16, 4, first), (24, 4, second)])
    warnings = plan_for(maker, *BASELINE).warnings
    similar = [notice for notice in warnings if "Unicode" in notice.why]
    assert len(similar) == (names is not None)
    assert about(similar, "sub-01_task-tap", *(names or ())) == similar


@pytest.mark.parametrize(("high", "is_reported"), [("2", True), ("0.51", True), ("0.4", False)])
def test_a_pass_band_above_nyquist_is_reported(
    maker: BidsMaker, high: str, *, is_reported: bool
) -> None:
    maker.bold(n_volumes=200)
    warnings = plan_for(maker, *BASELINE, "--band-pass", "0.005", high).warnings
    assert bool(about(warnings, "", "0.5")) is is_reported


@pytest.mark.parametrize(
    ("header", "values", "level", "mentioned"),
    [
        ("modulation", ["1", "2.5"], "note", ["1", "2.5"]),
        ("modulation", ["1", "high"], "warning", ["'high'"]),
        ("modulation", ["1", "n/a"], "warning", ["'n/a'"]),
        ("modulation", ["1", "1"], None, []),
        ("response_time", ["1", "2.5"], None, []),
    ],
)
def test_a_modulation_is_noted_or_ignored_with_a_warning(
    tmp_path: Path, header: str, values: list[str], level: str | None, mentioned: list[str]
) -> None:
    table = tmp_path / TABLE
    rows = [f"{10 + 20 * k}\t8\tgo\t{value}" for k, value in enumerate(values)]
    rows = [f"onset\tduration\ttrial_type\t{header}", *rows, "200\t8\trest\tn/a"]
    table.write_text("\n".join(rows) + "\n")
    findings = Findings()
    assert check_events(table, tmp_path / "bold.nii.gz", 300.0, findings) == ("go",)
    notices = about(findings.notices, TABLE, "modulation", *mentioned)
    assert [notice.level for notice in findings.notices] == [level] * len(notices)
    assert bool(notices) is (level is not None)


@pytest.mark.parametrize(
    ("modulations", "repeated"), [((1, 2), None), ((1, 1, 2), "1 of 4"), ((2, 2), "1 of 3")]
)
def test_events_that_differ_in_modulation_are_not_repetitions(
    tmp_path: Path, modulations: tuple[int, ...], repeated: str | None
) -> None:
    table = tmp_path / TABLE
    rows = [f"10\t8\tgo\t{value}\n" for value in modulations]
    header = "onset\tduration\ttrial_type\tmodulation\n"
    table.write_text("".join([header, *rows, "30\t8\tgo\t2\n"]))
    check_events(table, tmp_path / "bold.nii.gz", 300.0, findings := Findings())
    repetitions = [notice for notice in findings.notices if "trial_type" in notice.why]
    assert len(repetitions) == (repeated is not None)
    assert about(repetitions, TABLE, repeated or "") == repetitions


@pytest.mark.parametrize(("n_types", "is_split"), [(2, True), (9, False)])
def test_dense_events_are_reported_before_the_run(
    maker: BidsMaker, n_types: int, *, is_split: bool
) -> None:
    """With 9 types of 2 blocks, joined blocks are not enough for split halves."""
    maker.events(rows=[(1 + 1.2 * k, 0.5, f"type{k % n_types}") for k in range(18)])
    plan = plan_for(maker, *BASELINE)
    assert len(about(plan.warnings, "sub-01_task-tap", "30", "18")) == 1
    assert (plan.unsplit == frozenset()) is is_split


def test_non_steady_volumes_reduce_the_length_of_a_short_run(maker: BidsMaker) -> None:
    path = maker.bold(n_volumes=18)
    maker.events(rows=[(5.0, 2.0, "thumb"), (11.0, 2.0, "little")])
    assert plan_for(maker, *BASELINE).problems == ()
    image = nb.load(path)
    brighter = np.asarray(image.dataobj).astype(np.float32)
    brighter[..., :4] *= 3
    nb.Nifti1Image(brighter, image.affine, image.header).to_filename(path)
    problems = plan_for(maker, *BASELINE).problems
    problem_of(problems, str(path), "16", "18", "4", code="events")
