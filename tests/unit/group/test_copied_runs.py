"""Runs with the same head motion are refused at the group level; variants are not compared."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bids_sr.group.copied_runs import require_different_runs
from bids_sr.io.confound_names import MOTION_PARAMETERS
from bids_sr.io.notices import UsageError


def write_runs(folder: Path, *rows: tuple[str, str, str, int]) -> pd.DataFrame:
    """Write the confounds of runs from participant, run, variant and the seed of their motion."""
    tables = []
    for participant, run, variant, seed in rows:
        stem = "_".join(filter(None, (participant, "task-tap", variant, f"run-{run}")))
        motion = np.random.default_rng(seed).normal(0, 0.1, (60, 6)).cumsum(axis=0)
        confounds = pd.DataFrame(motion, columns=MOTION_PARAMETERS)
        confounds.insert(0, "dvars", np.nan)
        confounds.to_csv(
            folder / f"{stem}_desc-confounds_timeseries.tsv", sep="\t", na_rep="n/a", index=False
        )
        columns = {"participant": participant, "session": "n/a", "task": "tap", "run": run}
        path = folder / f"{stem}_desc-image_metrics.tsv"
        tables.append({**columns, "stem": stem, "name": stem, "path": path})
    return pd.DataFrame(tables)


@pytest.mark.parametrize("other", [("sub-02", "1"), ("sub-01", "2")])
def test_a_copied_series_is_refused_with_both_names(
    tmp_path: Path, other: tuple[str, str]
) -> None:
    tables = write_runs(tmp_path, ("sub-01", "1", "", 1), ("sub-03", "1", "", 3), (*other, "", 1))
    with pytest.raises(UsageError) as error:
        require_different_runs(tables)
    text = str(error.value)
    assert f"{tables['name'][0]} and {tables['name'][2]}" in text
    assert "sub-03" not in text
    assert "--participant-label" in text


def test_other_motion_variants_and_missing_confounds_are_accepted(tmp_path: Path) -> None:
    rows = [(f"sub-{number:02}", "1", "", number) for number in range(40)]
    tables = write_runs(tmp_path, *rows, ("sub-01", "1", "rec-moco", 1), ("sub-77", "1", "", 1))
    (tmp_path / f"{tables['stem'].iloc[-1]}_desc-confounds_timeseries.tsv").write_text("x\n1\n")
    require_different_runs(tables)
    for path in tmp_path.iterdir():
        path.unlink()
    require_different_runs(tables)
