"""Spoiled inputs are refused by name, neither waited for nor read endlessly."""

import os
import re
from collections.abc import Callable

import pytest
from data.dataset import BidsMaker

from bids_sr.cli.main import main

pytestmark = pytest.mark.timeout(120)  # ends a preflight that waits for a pipe

BOLD, TABLE, SIDECAR = (
    f"sub-01_task-tap_{end}" for end in ("bold.nii.gz", "events.tsv", "bold.json")
)
DESCRIPTION = "dataset_description.json"


def argv(maker: BidsMaker, *more: str) -> list[str]:
    folders = [str(maker.root), str(maker.root.parent / "out")]
    return [*folders, "participant", "--skip-bids-validation", *more]


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


def nested_output(maker: BidsMaker) -> None:
    """Write JSON that is nested too deeply to the output directory."""
    path = maker.root.parent / "out" / DESCRIPTION
    path.parent.mkdir()
    path.write_text("[" * 100_000)


def long_number(maker: BidsMaker) -> None:
    """Write a number that no float can hold to the sidecar."""
    path = next(maker.root.rglob(SIDECAR))
    path.write_text(path.read_text().replace("{", f'{{"EchoTime": 1{"0" * 400}, ', 1))


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
        (nested_output, f"out/{DESCRIPTION}"),
        (long_number, SIDECAR),
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
    assert main(argv(maker, "--dry-run")) == 2
    output = "".join(capsys.readouterr().err.split())
    assert re.search(rf"{re.escape(file)}[^:]*why:.*fix:", output)
    assert "Traceback" not in output


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
