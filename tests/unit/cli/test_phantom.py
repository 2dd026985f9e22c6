"""Test the command `bids-sr-phantom`: options reach the study, and invalid options are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from bids_sr.cli import phantom as phantom_cli
from bids_sr.phantom import simulated_dataset
from bids_sr.phantom.study import Study

ALL_OPTIONS = (
    "--preset tiny --subjects 3 --pairs 2 --seed 9 --scene veins --anat --lesions 7 --task rest"
    " --volumes 70"
)


@pytest.mark.parametrize(
    ("options", "study"),
    [
        ("", Study(preset="demo", seed=0, scene="ribbon", echoes=(), calibration=0)),
        (
            ALL_OPTIONS,
            Study(
                preset="tiny",
                subjects=3,
                pairs=2,
                seed=9,
                scene="veins",
                anat=True,
                lesions=7,
                task="rest",
                volumes=70,
            ),
        ),
        ("--echoes 3", Study(echoes=(13.0, 29.0, 45.0))),
        ("--echoes 14,30.5", Study(echoes=(14.0, 30.5))),
        ("--calibration", Study(calibration=20)),
        ("--calibration 3", Study(calibration=3)),
    ],
)
def test_options_are_passed_to_the_study(
    options: str, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[Path, Study]] = []
    monkeypatch.setattr(
        simulated_dataset, "make_dataset", lambda out, study, **_: calls.append((out, study))
    )
    assert phantom_cli.main(["out", *options.split()]) == 0
    assert calls == [(Path("out"), study)]


@pytest.mark.parametrize(
    ("options", "limit"),
    [
        ("--preset huge", "tiny"),
        ("--scene sea", "overlap"),
        ("--task nap", "rest"),
        ("--subjects 0", "at least 1"),
        ("--pairs 0", "at least 1"),
        ("--seed -1", "at least 0"),
        ("--lesions 3", "--anat"),
        ("--anat --lesions 201", "200"),
        ("--preset tiny --task rest --volumes 20", "31"),
        ("--calibration 1", "at least 2"),
        ("--echoes three", "number"),
        ("--echoes 1", "at least 2"),
        ("--echoes 30,14", "ascending"),
        ("--echoes 14,14", "ascending"),
        ("--echoes 1,30", "between 5 and 150 ms"),
        ("--echoes 14,400", "between 5 and 150 ms"),
    ],
)
def test_invalid_options_exit_with_code_2_and_write_nothing(
    options: str, limit: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = phantom_cli.main([str(tmp_path / "new"), *options.split()])
    except SystemExit as error:
        code = error.code  # type: ignore[assignment]
    assert code == 2
    option = options.split()[-2]
    message = capsys.readouterr().err
    assert option in message
    assert limit in message
    assert list(tmp_path.iterdir()) == []


def test_a_full_directory_and_an_interrupt_have_exit_codes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x").write_text("")
    assert phantom_cli.main([str(tmp_path), "--preset", "tiny"]) == 2
    assert str(tmp_path) in capsys.readouterr().err

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(simulated_dataset, "make_dataset", interrupted)
    assert phantom_cli.main(["out"]) == 130
