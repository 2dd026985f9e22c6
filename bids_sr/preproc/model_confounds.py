"""Confounds in the linear model of a run, selected from its table by name or by set."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from bids_sr.io.confound_names import (
    COMPONENTS_SET,
    CONFOUND_SETS,
    MOTION_REGRESSORS,
    MOTION_SET,
    match_columns,
)
from bids_sr.preproc.temporal_regressors import time_column_names

COMPCOR_VOLUMES = 50  # volumes; shorter runs have no components in their model
N_COMPONENTS = 5


def model_confounds(
    table: pd.DataFrame | None, selected: Sequence[str] | None = None
) -> tuple[str, ...]:
    """Return the names of the confounds in the model of a run.

    By default, these are head motion, its derivatives, and the first five aCompCor components,
    which require tissue maps. Columns of the temporal model
    (`bids_sr.preproc.temporal_regressors`) are always included.

    Without the components, respiration and pulse remain in the residuals of smoothed series, and
    more voxels than nominal exceed a threshold. In runs of fewer than 50 volumes, these regressors
    would use too many degrees of freedom. Components with a missing value in any volume after the
    first are skipped.

    `table` has one row per volume; None for a model without confounds. `selected` are columns,
    possibly with wildcards, and the sets ``motion`` (six parameters and derivatives) and
    ``acompcor`` (see above); None for both sets. Names that are not in the table are skipped.
    """
    if table is None:
        return ()
    sets = {MOTION_SET: MOTION_REGRESSORS, COMPONENTS_SET: _select_components(table)}
    columns = [
        column
        for name in (CONFOUND_SETS if selected is None else selected)
        for column in sets.get(name, match_columns(table, [name]))
    ]
    return tuple(dict.fromkeys((*columns, *time_column_names(table))))


def _select_components(table: pd.DataFrame) -> tuple[str, ...]:
    """Return the first aCompCor components with a value in every volume after the first."""
    if len(table) < COMPCOR_VOLUMES:
        return ()
    names = [name for name in table if name.startswith("a_comp_cor") and is_complete(table[name])]
    return tuple(names[:N_COMPONENTS])


def is_complete(values: pd.Series) -> bool:
    """Return True if a confound has a number in every volume after the first.

    Derivatives are undefined in the first volume.
    """
    return bool(np.isfinite(values.to_numpy(dtype=np.float64)[1:]).all())
