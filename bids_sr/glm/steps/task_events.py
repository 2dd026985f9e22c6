"""Events of a run: for the linear model, and a stored copy for other programs."""

from collections.abc import Sequence

import pandas as pd

from bids_sr.engine.artifacts import File, Table
from bids_sr.engine.step import Stage, step
from bids_sr.glm.regressors import Regressors, read_events
from bids_sr.io.tables import read_rows

# column of paths relative to ``stimuli/`` of the data set, which the results do not contain
_STIMULUS_FILE = "stim_file"


@step(Stage.EVALUATION, makes="regressors")
def select_events(
    events_file: File, *, levels: Sequence[str], pauses: Sequence[str] = ()
) -> Regressors:
    """Return the modeled events of a run.

    `levels` are the trial types in ``Levels`` of the events table, and `pauses` trial types that
    are taken for rest.
    """
    return read_events(events_file, levels).without(pauses)


@step(Stage.EVALUATION, makes="events_table")
def copy_events(events_file: File) -> Table:
    """Copy the events table of the linear model, with the same text in all cells.

    Onsets remain valid, because stored series contain all volumes. The column ``stim_file`` is
    omitted.
    """
    columns, rows = read_rows(events_file)
    names = [name for name in columns if name != _STIMULUS_FILE]
    cells = [[row[name] for name in names] for _, row in rows]
    return pd.DataFrame(cells, columns=names, dtype=object)
