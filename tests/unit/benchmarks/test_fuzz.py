"""What fuzzing found is refused by name now; and one spoiled data set of each kind ends with code
0 or 2.

benchmarks/fuzz.py does the same with hundreds, each in a process of its own.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from bidsmaker import EVENTS, BidsMaker, snapshot
from mutations import edit
from mutations_of_derivatives import ALL

from bids_sr.cli.main import main
from bids_sr.cli.parser import parse_settings
from bids_sr.preflight import check, check_data

BOLD, EVENTS_TSV, SIDECAR = (
    f"sub-01_task-tap_{end}" for end in ("bold.nii.gz", "events.tsv", "bold.json")
)


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    """End a test that waits for a pipe."""

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


def _instead(name: str) -> Callable[[BidsMaker], None]:
    """Put a pipe in the place of a file."""

    def spoil(maker: BidsMaker) -> None:
        path = next(maker.root.rglob(name))
        path.unlink()
        os.mkfifo(path)

    return spoil


def _endless(maker: BidsMaker) -> None:
    (maker.root / "dataset_description.json").unlink()
    (maker.root / "dataset_description.json").symlink_to("/dev/zero")


def _device(maker: BidsMaker) -> None:
    path = maker.path(SIDECAR, "func")
    path.unlink()
    path.symlink_to("/dev/zero")


def _offset(maker: BidsMaker) -> None:
    def change(content: bytearray) -> None:
        content[108:112] = np.float32(np.inf).tobytes()

    edit(maker.path(BOLD, "func"), change)


def _bytes_in_a_name(maker: BidsMaker) -> None:
    path = maker.path(BOLD, "func")
    os.rename(path, os.fsencode(path.parent) + b"/sub-01_task-\xff_bold.nii.gz")


def _rows(*rows: tuple[object, ...], header: str | None = None) -> Callable[[BidsMaker], None]:
    def spoil(maker: BidsMaker) -> None:
        maker.events(rows=rows, header=header)

    return spoil


MANY = [(n * 1e-4, 0.0, "thumb") for n in range(50_001)]
FOUND: dict[str, tuple[Callable[[BidsMaker], None], str, str]] = {
    "pipe for an image": (_instead(BOLD), BOLD, "a pipe, socket or device"),
    "pipe for a table": (_instead(EVENTS_TSV), EVENTS_TSV, "a pipe, socket or device"),
    "pipe for a sidecar": (_instead(SIDECAR), SIDECAR, "a pipe, socket or device"),
    "device for a sidecar": (_device, SIDECAR, "a pipe, socket or device"),
    "device for the description": (
        _endless,
        "dataset_description.json",
        "a pipe, socket or device",
    ),
    "data at infinity": (_offset, BOLD, "the image header cannot be read"),
    "bytes in a name": (_bytes_in_a_name, "\\xff", "not valid UTF-8"),
    "more cells than columns": (
        _rows(*EVENTS, (25, 1, "thumb", 3, 4)),
        EVENTS_TSV,
        "more cells than the header line",
    ),
    "NUL in a name": (_rows(*EVENTS, (25, 1, "th\0umb")), EVENTS_TSV, "NUL bytes"),
    "years after the run": (
        _rows(*EVENTS, (28, 1e9, "thumb")),
        EVENTS_TSV,
        "more than one hour before the start or after the end",
    ),
    "years before the run": (
        _rows((-1e9, 1, "thumb"), *EVENTS),
        EVENTS_TSV,
        "more than one hour before the start or after the end",
    ),
    "samples for events": (_rows(*MANY), EVENTS_TSV, "more than 50000 rows"),
    "two names for one": (
        _rows(*((t, 2, name) for t in (3, 12, 20) for name in ("thumb", "little"))),
        EVENTS_TSV,
        "collinear with other columns",
    ),
    "after the last volume": (
        _rows(*EVENTS, (29.999, 0, "late")),
        EVENTS_TSV,
        "'late' has no events inside the run",
    ),
    "as quick as sound": (
        lambda maker: maker.bold(tr=0.001) and None,
        BOLD,
        "must be a time in seconds",
    ),
}


@pytest.mark.parametrize("name", FOUND)
def test_what_was_found_is_refused_by_name(
    name: str, maker: BidsMaker, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil, file, reason = FOUND[name]
    spoil(maker)
    problems = check(parse_settings(_argv(maker)).resolved(run_uuid="x")).problems
    fitting = [
        each for each in problems if file in each.what and reason in each.why and each.remedy
    ]
    assert len(fitting) == 1, "\n".join(map(str, problems))
    assert main(_argv(maker, "--dry-run")) == 2
    assert reason in capsys.readouterr().err


@pytest.mark.parametrize("value", [[10**400] * 6, [float("nan")] * 6, [1e300] * 6, ["0"] * 6])
def test_slice_times_that_are_no_times_are_told(maker: BidsMaker, value: list[object]) -> None:
    maker.bold(sidecar={"SliceTiming": value})
    plan = check(parse_settings(_argv(maker)).resolved(run_uuid="x"))
    assert any("SliceTiming is not a list" in notice.why for notice in plan.warnings)
    assert plan.subjects[0].runs[0].slice_timing is None


def test_dummies_beyond_the_run_are_refused(maker: BidsMaker) -> None:
    problems = check(
        parse_settings(_argv(maker, "--dummy-scans", "1000000")).resolved(run_uuid="x")
    ).problems
    assert any("minus 1000000 dummy volumes" in problem.why for problem in problems)


@pytest.mark.parametrize("option", ["--bids-filter-file", "--config-file", "--roi"])
def test_devices_are_no_option_files(
    maker: BidsMaker, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(_argv(maker, option, "/dev/zero", "--dry-run")) == 2
    assert "/dev/zero" in capsys.readouterr().err


def test_the_validator_does_not_wait_for_a_pipe(maker: BidsMaker) -> None:
    os.mkfifo(maker.root / "sourcedata")
    argv = [option for option in _argv(maker) if option != "--skip-bids-validation"]
    plan = check(parse_settings(argv).resolved(run_uuid="x"))
    assert plan.problems == ()
    (notice,) = plan.warnings
    assert "not validated" in notice.why


QUICK = sorted(set(ALL) - {"table_long", "several"})


@pytest.mark.parametrize("kind", QUICK)
def test_spoiled_data_sets_end_with_a_word(
    kind: str, maker: BidsMaker, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ALL[kind](np.random.default_rng([7, QUICK.index(kind)]), maker) or []
    before = snapshot_of_names(maker)
    code = main(_argv(maker, "--dry-run", *options))
    shown = capsys.readouterr()
    assert code in (0, 2), shown.err
    assert "Traceback" not in shown.err
    assert snapshot_of_names(maker) == before
    if code == 0:
        assert (
            check_data(check(parse_settings(_argv(maker, *options)).resolved(run_uuid="x")))
            is not None
        )


def snapshot_of_names(maker: BidsMaker) -> set[str]:
    return {str(path) for path in maker.root.parent.rglob("*")}


def test_the_kinds_do_spoil(maker: BidsMaker) -> None:
    """Otherwise the cases above would prove nothing."""
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
