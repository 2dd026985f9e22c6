"""Events of a run, for the linear model and for other programs."""

from collections.abc import Sequence

import pandas as pd

from bids_sr.glm.regressors import read_events
from bids_sr.io.tables import read_rows
from bids_sr.pipeline.artifacts import File, Regressors, Table
from bids_sr.pipeline.step import step

# column of paths relative to ``stimuli/`` of the data set, which the results do not contain
_STIMULUS_FILE = "stim_file"


@step(makes=("regressors", "events_table"))
def import_events(events_file: File, *, levels: Sequence[str]) -> tuple[Regressors, Table]:
    """Return the modeled events of a run, and a copy of the events table.

    The copy has the same text in all cells. Onsets remain valid, because stored series contain all
    volumes. The column ``stim_file`` is omitted. `levels` are the trial types in ``Levels`` of the
    table.
    """
    columns, rows = read_rows(events_file)
    names = [name for name in columns if name != _STIMULUS_FILE]
    cells = [[row[name] for name in names] for _, row in rows]
    return read_events(events_file, levels), pd.DataFrame(cells, columns=names, dtype=object)
