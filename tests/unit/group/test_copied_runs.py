"""Participants with the same noise are refused at the group level; variants are not compared."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bids_sr.group.copied_runs import require_different_runs
from bids_sr.io.notices import UsageError
from bids_sr.preproc.copied_series import SeriesSample


def write_runs(folder: Path, *rows: tuple[str, str, str, int]) -> pd.DataFrame:
    """Write the noise of runs from participant, run, variant and the seed of their noise."""
    tables = []
    for participant, run, variant, seed in rows:
        stem = "_".join(filter(None, (participant, "task-tap", variant, f"run-{run}")))
        sample = SeriesSample((10, 10, 8), np.eye(4))
        for volume in np.random.default_rng(seed).normal(500, 100, (40, 800)):
            sample.add(volume)
        content = json.dumps(sample.record_noise().to_json())
        (folder / f"{stem}_desc-noise_metrics.json").write_text(content)
        columns = {"participant": participant, "session": "n/a", "task": "tap", "run": run}
        path = folder / f"{stem}_desc-image_metrics.tsv"
        tables.append({**columns, "stem": stem, "name": stem, "path": path})
    return pd.DataFrame(tables)


def test_a_series_of_two_participants_is_refused_with_both_names(tmp_path: Path) -> None:
    rows = ("sub-01", "1", "", 1), ("sub-03", "1", "", 3), ("sub-02", "1", "", 1)
    tables = write_runs(tmp_path, *rows)
    with pytest.raises(UsageError) as error:
        require_different_runs(tables)
    text = str(error.value)
    assert f"{tables['name'][0]} and {tables['name'][2]}" in text
    assert "sub-03" not in text
    assert "--participant-label" in text


def test_a_series_of_two_runs_of_a_participant_is_named(tmp_path: Path) -> None:
    rows = ("sub-01", "1", "", 1), ("sub-01", "2", "", 1), ("sub-02", "1", "", 2)
    (sentence,) = require_different_runs(write_runs(tmp_path, *rows))
    assert "sub-01_task-tap_run-1 and sub-01_task-tap_run-2" in sentence


def test_other_noise_and_variants_are_accepted_and_missing_records_named(tmp_path: Path) -> None:
    rows = [(f"sub-{number:02}", "1", "", number) for number in range(40)]
    tables = write_runs(tmp_path, *rows, ("sub-01", "1", "rec-moco", 1), ("sub-77", "1", "", 1))
    (tmp_path / f"{tables['stem'].iloc[-1]}_desc-noise_metrics.json").write_text('{"Noise": "x"}')
    (sentence,) = require_different_runs(tables)
    assert "noise: 1 " in sentence
    assert "sub-77" in sentence
