"""Data sets that are damaged at random end with code 0 or 2, and no file is written."""

import re
from pathlib import Path

import numpy as np
import pytest
from _spoiled_derivatives import ALL
from data.dataset import BidsMaker, snapshot

from bids_sr.cli.main import main
from bids_sr.cli.parser import parse_settings
from bids_sr.survey.preflight.voxel_checks import check_data
from bids_sr.workflows.call_checks import check

SLOW = {"table_long"}
"""Kinds that take minutes."""


def make_data(folder: Path) -> BidsMaker:
    maker = BidsMaker(folder / "bids")
    maker.subject()
    return maker


def path_names(folder: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*")}


@pytest.mark.timeout(120)  # ends a preflight that waits for a pipe
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", sorted(ALL.keys() - SLOW))
def test_a_spoiled_data_set_ends_with_code_0_or_2_and_no_file_is_written(
    kind: str,
    seed: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TEMPLATEFLOW_HOME", str(tmp_path / "templateflow"))
    monkeypatch.chdir(tmp_path)
    maker = make_data(tmp_path)
    options = ALL[kind](np.random.default_rng([seed, *kind.encode()]), maker) or []
    folders = [str(maker.root), str(tmp_path / "out"), "participant", "--skip-bids-validation"]
    before = path_names(tmp_path)
    code = main([*folders, "--dry-run", *options])
    output = capsys.readouterr()
    assert code in ((0,) if maker.accepted else (0, 2)), output.err
    assert "Traceback" not in output.err
    assert path_names(tmp_path) == before
    if code == 0:
        text = " ".join((output.out + output.err).split())
        assert re.search(maker.expected, text), (maker.expected, text)
        check_data(check(parse_settings([*folders, *options]).resolve(run_uuid="x")))


def test_every_kind_changes_the_data_set(tmp_path: Path) -> None:
    """Tests of spoiled data sets prove nothing if a kind changes nothing."""
    inert = []
    for kind in sorted(ALL.keys() - SLOW - {"options", "several"}):
        for seed in range(4):
            folder = tmp_path / f"{kind}-{seed}"
            maker = make_data(folder)
            sound = snapshot(folder)
            ALL[kind](np.random.default_rng(seed), maker)
            if snapshot(folder) != sound:
                break
        else:
            inert.append(kind)
    assert inert == []
