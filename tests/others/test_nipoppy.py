"""Nipoppy installs the pipeline, processes one of two participants and tracks both."""

from pathlib import Path

import pandas as pd
import pytest
from pages import RECIPES, Run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
STUDY = ("--study", "study")


def test_one_participant_is_processed_and_tracked(run: Run, data: Path, tmp_path: Path) -> None:
    checked = run("nipoppy", "pipeline", "validate", RECIPES / "nipoppy")
    assert checked.returncode == 0, checked.stdout
    for words in (
        ("init", *STUDY, "--bids-source", "DATA"),
        ("pipeline", "install", *STUDY, RECIPES / "nipoppy"),
    ):
        done = run("nipoppy", *words)
        assert done.returncode == 0, done.stdout
    config = tmp_path / "study" / "global_config.json"
    without = config.read_text().replace('"COMMAND": "apptainer"', '"COMMAND": null')
    assert without != config.read_text()
    config.write_text(without)
    for words in (
        ("process", *STUDY, "--pipeline", "bids-sr", "--participant-id", "01"),
        ("track-processing", *STUDY, "--pipeline", "bids-sr"),
    ):
        done = run("nipoppy", *words)
        assert done.returncode == 0, done.stdout
    [table] = (tmp_path / "study").rglob("processing_status.tsv")
    states = pd.read_csv(table, sep="\t", dtype=str).set_index("participant_id")["status"]
    assert states.to_dict() == {"01": "SUCCESS", "02": "FAIL"}
