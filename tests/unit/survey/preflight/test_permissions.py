"""Files and folders that the user may not read: they are named, and others are processed."""

from __future__ import annotations

import ctypes
import json
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from data.calls import plan_for
from data.dataset import BidsMaker
from data.group_tables import FACTS

from bids_sr.cli import main
from bids_sr.engine.metric_rows import MetricRow, table_text
from bids_sr.survey.preflight.plan import Plan

CAPABILITY_VERSION = 0x20080522
READS_EVERYTHING = 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH


def set_effective(change: Callable[[int], int]) -> None:
    """Change the effective capabilities of this process."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0)
    values = (ctypes.c_uint32 * 6)()  # effective, permitted and inheritable; then the same, high
    assert libc.capget(header, values) == 0
    values[0] = change(values[0])
    assert libc.capset(header, values) == 0, os.strerror(ctypes.get_errno())


@contextmanager
def forbidden(path: Path) -> Iterator[None]:
    """Take all permissions of a path away, also from the administrator of the machine.

    The administrator stays the same user, who can still import modules from the own home.
    """
    mode = stat.S_IMODE(path.stat().st_mode)
    is_root = os.geteuid() == 0
    path.chmod(0)
    if is_root:
        set_effective(lambda capabilities: capabilities & ~READS_EVERYTHING)
    try:
        yield
    finally:
        if is_root:
            set_effective(lambda capabilities: capabilities | READS_EVERYTHING)
        path.chmod(mode)


@pytest.fixture
def two(maker: BidsMaker) -> BidsMaker:
    """Return a data set of two participants, of which the second has a session."""
    maker.subject("02", session="a")
    plan = plan_for(maker)
    assert (plan.problems, plan.skipped) == ((), {})
    return maker


def plan_without(maker: BidsMaker, path: Path, *options: str) -> Plan:
    with forbidden(path):
        return plan_for(maker, *options)


@pytest.mark.parametrize(
    "name", ["sub-02", "sub-02/ses-a", "sub-02/ses-a/func", "sub-02/ses-a/anat"]
)
def test_a_participant_whose_folder_may_not_be_read_is_left_out(two: BidsMaker, name: str) -> None:
    path = two.root / name
    plan = plan_without(two, path)
    assert [subject.label for subject in plan.subjects] == ["01"]
    ((run, (problem,)),) = plan.skipped.items()
    assert (run, problem.what, problem.code) == ("sub-02", str(path), "forbidden")
    assert f"chmod -R u+rX {path}" in problem.remedy
    strict = plan_without(two, path, "--strict")
    assert [problem.what for problem in strict.problems] == [str(path)]


@pytest.mark.parametrize("end", ["bold.nii.gz", "bold.json", "events.tsv", "T1w.nii.gz"])
def test_a_run_with_a_file_that_may_not_be_read_is_left_out(two: BidsMaker, end: str) -> None:
    (path,) = two.root.glob(f"sub-02/**/*_{end}")
    plan = plan_without(two, path)
    assert plan.problems == ()
    assert [subject.label for subject in plan.subjects] == ["01"]
    ((problem,),) = plan.skipped.values()
    assert (problem.what, problem.code) == (str(path), "forbidden")
    assert "DICOM" not in problem.remedy


def test_a_participant_whose_derivatives_may_not_be_read_is_left_out(two: BidsMaker) -> None:
    derivatives = two.root.parent / "prep"
    for label in ("01", "02"):
        (derivatives / f"sub-{label}" / "func").mkdir(parents=True)
    description = derivatives / "dataset_description.json"
    description.write_text('{"GeneratedBy": [{"Name": "fMRIPrep", "Version": "24.1.1"}]}')
    path = derivatives / "sub-02" / "func"
    plan = plan_without(two, path, "-d", str(derivatives))
    assert [subject.label for subject in plan.subjects] == ["01"]
    assert [problem.what for (problem,) in plan.skipped.values()] == [str(path)]
    for refused in (description, derivatives):
        plan = plan_without(two, refused, "-d", str(derivatives))
        assert [problem.what for problem in plan.problems] == [str(refused)]


def test_a_reference_folder_that_may_not_be_read_is_named(two: BidsMaker) -> None:
    folder = two.root.parent / "other"
    (folder / "sub-01").mkdir(parents=True)
    plan = plan_without(two, folder, "--truth", str(folder))
    assert [problem.what for problem in plan.problems] == [str(folder)]


def test_a_dataset_that_may_not_be_read_is_named(two: BidsMaker) -> None:
    for path in (two.root, two.root / "dataset_description.json"):
        assert [problem.what for problem in plan_without(two, path).problems] == [str(path)]


@pytest.mark.parametrize("level", [["group"], ["participant", "--reports-only"]])
@pytest.mark.parametrize("name", ["bids", "out"])
def test_the_group_level_and_reports_name_a_folder_that_may_not_be_entered(
    two: BidsMaker, name: str, level: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    closed = two.root.parent / "closed"
    folders = {"bids": two.root, "out": two.root.parent / "out"} | {name: closed / name}
    (closed / name).mkdir(parents=True)
    call = [*map(str, folders.values()), *level]
    assert main.main(call) == 2
    capsys.readouterr()
    with forbidden(closed):
        assert main.main(call) == 2
    error = "".join(capsys.readouterr().err.split())
    if name == "out" or level == ["group"]:  # reports do not need the data set
        assert f"a+rX{closed}" in error or f"u+rX{closed}" in error


def test_settings_in_a_folder_that_may_not_be_entered_are_refused(
    two: BidsMaker, capsys: pytest.CaptureFixture[str]
) -> None:
    file = two.root.parent / "closed" / "settings.toml"
    file.parent.mkdir()
    file.write_text("")
    call = [str(two.root), str(two.root.parent / "out"), "participant", "--dry-run"]
    with forbidden(file.parent):
        assert main.main([*call, "--config-file", str(file)]) == 2
    assert str(file) in "".join(capsys.readouterr().err.split())


def test_the_group_level_names_results_that_may_not_be_read(
    two: BidsMaker, capsys: pytest.CaptureFixture[str]
) -> None:
    out = two.root.parent / "out"
    for label in ("01", "02"):
        (out / f"sub-{label}" / "func").mkdir(parents=True)
    table = out / "sub-01" / "func" / "sub-01_task-tap_desc-activation_metrics.tsv"
    table.write_text(table_text([MetricRow(series="acquired", statistic="dof", value=44.0)]))
    table.with_suffix(".json").write_text(json.dumps(FACTS))
    call = [str(two.root), str(out), "group"]
    assert main.main(call) == 2
    error = capsys.readouterr().err
    assert "permission denied" not in error
    with forbidden(out / "sub-02"):
        assert main.main(call) == 2
    error = "".join(capsys.readouterr().err.split())
    assert f"sub-02:{out / 'sub-02'}:permissiondenied" in error
