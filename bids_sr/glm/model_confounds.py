"""Confounds that enter the linear model of a run, chosen from its table by name or by set."""

from collections.abc import Sequence
from fnmatch import filter as matching

import pandas as pd

from bids_sr.glm.confounds import is_complete
from bids_sr.glm.time_columns import time_column_names

MOTION = tuple(
    f"{kind}_{axis}{suffix}"
    for suffix in ("", "_derivative1")
    for kind in ("trans", "rot")
    for axis in "xyz"
)
MOTION_SET, COMPONENTS_SET = CONFOUND_SETS = ("motion", "acompcor")
"""Sets of confounds that can be named together."""
COMPCOR_VOLUMES = 50  # with fewer, no components enter a model
_N_COMPONENTS = 5


def model_confounds(
    table: pd.DataFrame | None, named: Sequence[str] | None = None
) -> tuple[str, ...]:
    """Return the confounds that enter the model, those of the table that are named.

    By default these are motion, its derivatives and the first five aCompCor components. Without
    tissue maps there are no aCompCor components. The columns of the temporal model
    (`bids_sr.glm.time_columns`) always enter.

    Without the components breathing and pulse stay in the residuals of smoothed series, and twice
    as many voxels as nominal pass p < .001 where the phantom is silent. Runs of fewer than 50
    volumes cannot spare the regressors, and components without a value in some volume after the
    first are skipped.

    Parameters
    ----------
    table : pd.DataFrame | None
        Confounds of the run, one row per volume; None: none enter the model.
    named : Sequence[str] | None, optional
        Columns, some with wildcards, and the sets ``motion`` (six parameters and derivatives) and
        ``acompcor`` (see above). Names that the table lacks are skipped. None: both sets.

    Returns
    -------
    tuple[str, ...]
        Names of columns.
    """
    if table is None:
        return ()
    sets = {MOTION_SET: MOTION, COMPONENTS_SET: _components(table)}
    if named is None:
        chosen = [*MOTION, *sets[COMPONENTS_SET]]
    else:
        chosen = [one for name in named for one in sets.get(name, matching(table, name))]
    return tuple(dict.fromkeys((*chosen, *time_column_names(table))))


def _components(table: pd.DataFrame) -> tuple[str, ...]:
    """Return the first aCompCor components that have a value in every volume after the first."""
    if len(table) < COMPCOR_VOLUMES:
        return ()
    names = [name for name in table if name.startswith("a_comp_cor") and is_complete(table[name])]
    return tuple(names[:_N_COMPONENTS])
