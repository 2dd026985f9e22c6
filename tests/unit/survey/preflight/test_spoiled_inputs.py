"""Spoiled inputs are refused by name, neither waited for nor read endlessly."""

import gzip
import os
from collections.abc import Callable

import numpy as np
import pytest
from data.dataset import BidsMaker

from bids_sr.cli.main import main
from bids_sr.cli.parser import parse_settings
from bids_sr.survey.preflight.plan import Plan
from bids_sr.workflows.call_checks import check

pytestmark = pytest.mark.timeout(120)  # ends a preflight that waits for a pipe

BOLD, TABLE, SIDECAR = (
    f"sub-01_task-tap_{end}" for end in ("bold.nii.gz", "events.tsv", "bold.json")
)
DESCRIPTION = "dataset_description.json"


def argv(maker: BidsMaker, *more: str) -> list[str]:
    folders = [str(maker.root), str(maker.root.parent / "out")]
    return [*folders, "participant", "--skip-bids-validation", *more]


def plan(maker: BidsMaker, *more: str) -> Plan:
    return check(parse_settings(argv(maker, *more)).resolve(run_uuid="x"))


def pipe(name: str) -> Callable[[BidsMaker], None]:
    def spoil(maker: BidsMaker) -> None:
        path = next(maker.root.rglob(name))
        path.unlink()
        os.mkfifo(path)

    return spoil


def endless(name: str) -> Callable[[BidsMaker], None]:
    def spoil(maker: BidsMaker) -> None:
        path = next(maker.root.rglob(name))
        path.unlink()
        path.symlink_to("/dev/zero")

    return spoil


def nested(*parts: str) -> Callable[[BidsMaker], None]:
    """Return a function that writes JSON that is nested too deeply, to a file beside the data."""

    def spoil(maker: BidsMaker) -> None:
        path = maker.root.parent.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("[" * 100_000)

    return spoil


def header(offset: int, content: bytes) -> Callable[[BidsMaker], None]:
    """Return a function that writes bytes into the header of the run."""

    def spoil(maker: BidsMaker) -> None:
        path = maker.path(BOLD, "func")
        data = bytearray(gzip.decompress(path.read_bytes()))
        data[offset : offset + len(content)] = content
        path.write_bytes(gzip.compress(data, 1))

    return spoil


def bytes_in_a_name(maker: BidsMaker) -> None:
    path = maker.path(BOLD, "func")
    os.rename(path, os.fsencode(path.parent) + b"/sub-01_task-\xff_bold.nii.gz")


@pytest.mark.parametrize(
    ("spoil", "file"),
    [
        (pipe(BOLD), BOLD),
        (pipe(TABLE), TABLE),
        (pipe(SIDECAR), SIDECAR),
        (endless(SIDECAR), SIDECAR),
        (endless(DESCRIPTION), DESCRIPTION),
        (nested("bids", DESCRIPTION), f"bids/{DESCRIPTION}"),
        (nested("out", DESCRIPTION), f"out/{DESCRIPTION}"),
        (nested("bids", "sub-01", "func", SIDECAR), SIDECAR),
        (header(108, np.float32(np.inf).tobytes()), BOLD),  # position of the data
        (bytes_in_a_name, "\\xff"),
    ],
)
def test_a_spoiled_file_is_refused_by_name(
    spoil: Callable[[BidsMaker], None],
    file: str,
    maker: BidsMaker,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spoil(maker)
    problems = plan(maker).problems
    assert len([problem for problem in problems if file in problem.what and problem.remedy]) == 1
    assert main(argv(maker, "--dry-run")) == 2
    output = capsys.readouterr()
    assert file in "".join(output.err.split())
    assert "Traceback" not in output.err


@pytest.mark.parametrize("option", ["--bids-filter-file", "--config-file", "--roi"])
def test_a_device_as_the_file_of_an_option_is_refused(
    maker: BidsMaker, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv(maker, option, "/dev/zero", "--dry-run")) == 2
    assert "/dev/zero" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "name"),
    [
        ("--derivatives", DESCRIPTION),
        ("--bids-filter-file", "query.json"),
        ("--model", "model.json"),
        ("--config-file", "settings.toml"),
    ],
)
def test_a_file_of_an_option_that_is_nested_too_deeply_is_refused(
    maker: BidsMaker, option: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = maker.root.parent / "other" / name
    file.parent.mkdir()
    file.write_text(f"{'x = ' * (file.suffix == '.toml')}{'[' * 100_000}")
    path = file.parent if option == "--derivatives" else file
    assert main(argv(maker, option, str(path), "--dry-run")) == 2
    assert name in "".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("value", [[10**400] * 6, [float("nan")] * 6, [1e300] * 6, ["0"] * 6])
def test_slice_times_that_are_not_times_are_left_out_with_a_notice(
    maker: BidsMaker, value: list[object]
) -> None:
    maker.bold(sidecar={"SliceTiming": value})
    found = plan(maker)
    assert any("SliceTiming" in notice.why for notice in found.warnings)
    assert found.subjects[0].runs[0].slice_timing is None
