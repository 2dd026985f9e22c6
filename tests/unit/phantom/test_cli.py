"""Test the command `bids-sr-phantom`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from bids_sr.phantom import cli as phantom_cli, simulated_dataset
from bids_sr.phantom.presets import PRESETS
from bids_sr.phantom.simulated_subject import TASKS
from bids_sr.phantom.study import Study


@pytest.fixture
def dataset_calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, Study]]:
    """Record calls of `make_dataset` instead of running it."""
    calls: list[tuple[Path, Study]] = []
    monkeypatch.setattr(
        simulated_dataset, "make_dataset", lambda out, study, **_: calls.append((out, study))
    )
    return calls


def test_the_default_preset_is_the_demo(dataset_calls: list[tuple[Path, Study]]) -> None:
    assert phantom_cli.main(["demo"]) == 0
    assert dataset_calls == [(Path("demo"), Study(preset="demo", seed=0, scene="ribbon"))]


def test_every_option_is_passed_to_the_study(dataset_calls: list[tuple[Path, Study]]) -> None:
    line = [
        "out",
        "--preset",
        "tiny",
        "--subjects",
        "3",
        "--pairs",
        "2",
        "--seed",
        "9",
        "--scene",
        "veins",
        "--anat",
        "--lesions",
        "7",
        "--task",
        "rest",
        "--volumes",
        "70",
    ]
    assert phantom_cli.main(line) == 0
    assert dataset_calls[0][1] == Study(
        preset="tiny",
        subjects=3,
        pairs=2,
        seed=9,
        scene="veins",
        anat=True,
        lesions=7,
        task="rest",
        volumes=70,
    )


def test_choices_equal_the_presets_and_tasks() -> None:
    hints = get_type_hints(Study)
    assert tuple(PRESETS) == get_args(hints["preset"])
    assert tuple(TASKS) == get_args(hints["task"])


def test_a_nonempty_directory_exits_with_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x").write_text("")
    assert phantom_cli.main([str(tmp_path), "--preset", "tiny"]) == 2
    assert "is not empty" in capsys.readouterr().err


def test_invalid_values_exit_with_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert phantom_cli.main([str(tmp_path / "new"), "--subjects", "0"]) == 2
    assert "--subjects: 0\n  why: expected at least 1" in capsys.readouterr().err
    assert phantom_cli.main([str(tmp_path / "new"), "--preset", "huge"]) == 2
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_exits_with_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(simulated_dataset, "make_dataset", interrupted)
    assert phantom_cli.main(["out"]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_help_does_not_import_numpy() -> None:
    code = (
        "import sys; from bids_sr.phantom import cli as phantom\n"
        "try: phantom.main(['--help'])\n"
        "except SystemExit: pass\n"
        "print('numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("False")
    assert "--scene" in done.stdout
