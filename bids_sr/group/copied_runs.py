"""Check that no two runs of the group level contain the same series under different names."""

import contextlib

import numpy as np
import pandas as pd

from bids_sr.io.confound_names import MOTION_PARAMETERS
from bids_sr.io.notices import UsageError
from bids_sr.preproc.copied_series import find_equal_motion

_RUN = ["participant", "session", "task", "run"]  # columns that identify an acquisition


def require_different_runs(tables: pd.DataFrame) -> None:
    """Raise `UsageError` if runs have the same head motion, and therefore the same series.

    `tables` are from `find_tables`. Variants of one acquisition are not compared, and runs without
    a readable confounds table are ignored.
    """
    runs = []
    motion = []
    for row in tables.drop_duplicates("stem").to_dict("records"):
        path = row["path"].with_name(f"{row['stem']}_desc-confounds_timeseries.tsv")
        with contextlib.suppress(OSError, ValueError):
            table = pd.read_csv(path, sep="\t", usecols=list(MOTION_PARAMETERS), na_values="n/a")
            motion.append(table.to_numpy(np.float64))
            runs.append(row)
    copies = [
        f"{runs[first]['name']} and {runs[second]['name']} (correlation {correlation:.2f})"
        for first, second, correlation in find_equal_motion(motion)
        if [runs[first][key] for key in _RUN] != [runs[second][key] for key in _RUN]
    ]
    if copies:
        raise UsageError(
            "\n  ".join(["some runs are copies of other runs", *copies]),
            "changes of head motion from volume to volume are the same, so these runs contain the"
            " same series and are not independent",
            "find out which participant the series belongs to, replace the other file and rerun"
            " its participant level, or select participants with --participant-label",
        )
