"""Events of a task as tables of the program."""

from collections.abc import Iterable

import pandas as pd

from bids_sr.glm.regressors import Events


def make_events(rows: Iterable[tuple[float, float, str]], source: str = "events") -> Events:
    """Return events from onset (s), duration (s) and trial type."""
    return Events(pd.DataFrame(rows, columns=["onset", "duration", "trial_type"]), source)
