"""Test one spoiled data set of each kind: exit code 0 or 2."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from data.dataset import EVENTS, BidsMaker, snapshot
from mutations import edit
from mutations_of_derivatives import ALL

from bids_sr.cli.main import main
from bids_sr.cli.parser import parse_settings
from bids_sr.preflight import check, check_data

BOLD, EVENTS_TSV, SIDECAR = (
    f"sub-01_task-tap_{end}" for end in ("bold.nii.gz", "events.tsv", "bold.json")
)


@pytest.fixture(autouse=True)
def time_limit() -> Iterator[None]:
    """Raise TimeoutError if a test waits for a pipe."""

    def late(*_: object) -> None:
        raise TimeoutError("preflight waits for something")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(120)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def _argv(maker: BidsMaker, *more: str) -> list[str]:
    return [
        str(maker.root),
        str(maker.root.parent / "out"),
        "participant",
        "--skip-bids-validation",
        *more,
    ]


def _replace_by_pipe(name: str) -> Callable[[BidsMaker], None]:
    """Return a function that replaces a file by a pipe."""

    def spoil(maker: BidsMaker) -> None:
        path = next(maker.root.rglob(name))
        path.unlink()
        os.mkfifo(path)

    return spoil


def _endless_description(maker: BidsMaker) -> None:
    (maker.root / "dataset_description.json").unlink()
    (maker.root / "dataset_description.json").symlink_to("/dev/zero")


def _device_as_sidecar(maker: BidsMaker) -> None:
    path = maker.path(SIDECAR, "func")
    path.unlink()
    path.symlink_to("/dev/zero")


def _infinite_offset(maker: BidsMaker) -> None:
    def change(content: bytearray) -> None:
        content[108:112] = np.float32(np.inf).tobytes()

    edit(maker.path(BOLD, "func"), change)


def _bytes_in_a_name(maker: BidsMaker) -> None:
    path = maker.path(BOLD, "func")
    os.rename(path, os.fsencode(path.parent) + b"/sub-01_task-\xff_bold.nii.gz")


def _with_events(
    *rows: tuple[object, ...], header: str | None = None
) -> Callable[[BidsMaker], None]:
    def spoil(maker: BidsMaker) -> None:
        maker.events(rows=rows, header=header)

    return spoil


MANY_EVENTS = [(n * 1e-4, 0.0, "thumb") for n in range(50_001)]
FUZZED: dict[str, tuple[Callable[[BidsMaker], None], str, str]] = {
    "pipe for an image": (_replace_by_pipe(BOLD), BOLD, "a pipe, socket or device"),
    "pipe for a table": (_replace_by_pipe(EVENTS_TSV), EVENTS_TSV, "a pipe, socket or device"),
    "pipe for a sidecar": (_replace_by_pipe(SIDECAR), SIDECAR, "a pipe, socket or device"),
    "device for a sidecar": (_device_as_sidecar, SIDECAR, "a pipe, socket or device"),
    "device for the description": (
        _endless_description,
        "dataset_description.json",
        "a pipe, socket or device",
    ),
    "data at infinity": (_infinite_offset, BOLD, "the image header cannot be read"),
    "bytes in a name": (_bytes_in_a_name, "\\xff", "not valid UTF-8"),
    "more cells than columns": (
        _with_events(*EVENTS, (25, 1, "thumb", 3, 4)),
        EVENTS_TSV,
        "more cells than the header line",
    ),
    "NUL in a name": (_with_events(*EVENTS, (25, 1, "th\0umb")), EVENTS_TSV, "NUL bytes"),
    "years after the run": (
        _with_events(*EVENTS, (28, 1e9, "thumb")),
        EVENTS_TSV,
        "more than one hour before the start or after the end",
    ),
    "years before the run": (
        _with_events((-1e9, 1, "thumb"), *EVENTS),
        EVENTS_TSV,
        "more than one hour before the start or after the end",
    ),
    "samples for events": (_with_events(*MANY_EVENTS), EVENTS_TSV, "more than 50000 rows"),
    "as quick as sound": (
        lambda maker: maker.bold(tr=0.001) and None,
        BOLD,
        "must be a time in seconds",
    ),
}


@pytest.mark.parametrize("name", FUZZED)
def test_inputs_found_by_fuzzing_are_rejected_by_name(
    name: str, maker: BidsMaker, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil, file, reason = FUZZED[name]
    spoil(maker)
    problems = check(parse_settings(_argv(maker)).resolve(run_uuid="x")).problems
    matches = [
        problem
        for problem in problems
        if file in problem.what and reason in problem.why and problem.remedy
    ]
    assert len(matches) == 1, "\n".join(map(str, problems))
    assert main(_argv(maker, "--dry-run")) == 2
    assert reason in capsys.readouterr().err


@pytest.mark.parametrize("value", [[10**400] * 6, [float("nan")] * 6, [1e300] * 6, ["0"] * 6])
def test_invalid_slice_times_are_ignored_with_a_notice(
    maker: BidsMaker, value: list[object]
) -> None:
    maker.bold(sidecar={"SliceTiming": value})
    plan = check(parse_settings(_argv(maker)).resolve(run_uuid="x"))
    assert any("SliceTiming is not a list" in notice.why for notice in plan.warnings)
    assert plan.subjects[0].runs[0].slice_timing is None


def test_more_dummy_scans_than_volumes_are_rejected(maker: BidsMaker) -> None:
    problems = check(
        parse_settings(_argv(maker, "--dummy-scans", "1000000")).resolve(run_uuid="x")
    ).problems
    assert any("minus 1000000 dummy volumes" in problem.why for problem in problems)


@pytest.mark.parametrize("option", ["--bids-filter-file", "--config-file", "--roi"])
def test_a_device_as_the_file_of_an_option_is_rejected(
    maker: BidsMaker, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(_argv(maker, option, "/dev/zero", "--dry-run")) == 2
    assert "/dev/zero" in capsys.readouterr().err


def test_the_validator_does_not_wait_for_a_pipe(maker: BidsMaker) -> None:
    os.mkfifo(maker.root / "sourcedata")
    argv = [option for option in _argv(maker) if option != "--skip-bids-validation"]
    plan = check(parse_settings(argv).resolve(run_uuid="x"))
    assert plan.problems == ()
    (notice,) = plan.warnings
    assert "not validated" in notice.why


QUICK = sorted(set(ALL) - {"table_long", "several"})


@pytest.mark.parametrize("kind", QUICK)
def test_spoiled_data_sets_end_with_code_0_or_2_and_change_no_files(
    kind: str, maker: BidsMaker, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ALL[kind](np.random.default_rng([7, QUICK.index(kind)]), maker) or []
    before = path_names(maker)
    code = main(_argv(maker, "--dry-run", *options))
    output = capsys.readouterr()
    assert code in (0, 2), output.err
    assert "Traceback" not in output.err
    assert path_names(maker) == before
    if code == 0:
        assert (
            check_data(check(parse_settings(_argv(maker, *options)).resolve(run_uuid="x")))
            is not None
        )


def path_names(maker: BidsMaker) -> set[str]:
    return {str(path) for path in maker.root.parent.rglob("*")}


def test_every_kind_changes_the_data_set(maker: BidsMaker) -> None:
    """Tests of spoiled data sets prove nothing if a kind changes nothing."""
    sound = snapshot(maker.root.parent)
    inert = []
    for kind in sorted(set(QUICK) - {"place", "folders", "options"}):
        for path in maker.root.parent.rglob("*.json"):
            path.chmod(0o644)
        ALL[kind](np.random.default_rng(3), maker)
        if snapshot(maker.root.parent) == sound:
            inert.append(kind)
        maker = BidsMaker(maker.root.parent / kind / "bids")
        maker.subject()
        sound = snapshot(maker.root.parent)
    assert inert == []
