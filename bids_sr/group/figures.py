"""Series and units of a figure of values."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from bids_sr.engine.number_text import value_form
from bids_sr.group.values import participants_by_series
from bids_sr.io.series import MEASURED, REFERENCE_NAMES


def select_series(values: pd.DataFrame, methods: Sequence[str]) -> pd.DataFrame:
    """Return the columns of values (participants by series) that a figure shows, in order.

    Undefined values are NaN.
    """
    table = participants_by_series(values).replace(np.inf, np.nan).dropna(axis=1, how="all")
    order = (*REFERENCE_NAMES, *methods, MEASURED)
    return table[[name for name in order if name in table]]


def percent_factor(statistic: str) -> float:
    """Return 100 for statistics that readers see in percent, otherwise 1."""
    return 100.0 if value_form(statistic).endswith("%") else 1.0


def format_unit(unit: str) -> str:
    """Return a unit as a label, "" for pure numbers."""
    return "" if unit in ("", "1") else unit.replace("mm^3", "mm³")
