"""Design matrices: what the events predict, slow drift, and head motion.

Choices that the paper leaves open and that are ours:

- The response is SPM's canonical double gamma (the paper used SPM12), without
  derivatives. It sums to one, so that a block that outlasts it has a plateau of one: an effect is
  the change of the signal, in the series' own units, that a sustained block makes, for shorter
  events too.
- Volume t is taken to be acquired at t·TR + slice_time_ref·TR where slice timing was corrected to
  that moment, else at the middle of its repetition time, in every series alike.
- Dummy volumes keep their place in time and lose their row.
"""

import logging
import warnings
from collections.abc import Mapping, Sequence
from fnmatch import filter as matching

import numpy as np
import pandas as pd

from bids_sr.frozen import frozen
from bids_sr.io.array_types import Float
from bids_sr.stats.glm.regressors import DesignError, Regressors

_LOGGER = logging.getLogger(__name__)

MOTION = tuple(
    f"{kind}_{axis}{suffix}"
    for suffix in ("", "_derivative1")
    for kind in ("trans", "rot")
    for axis in "xyz"
)
_COMPCOR_VOLUMES = 50
_N_COMPONENTS = 5
# A regressor below this share of a sustained block's plateau carries no information: the condition
# is not in the run.
_SILENT = 1e-3


@frozen
class Design:
    """The model of one run, rows of dummy volumes left out.

    `matrix`: (rows, columns) float64, read-only; conditions first, then confounds, drift,
    constant. `conditions`: names of the columns that are conditions; their plateau is one. `rank`:
    of the matrix; below the number of columns where confounds or conditions repeat each other.
    """

    matrix: Float
    columns: tuple[str, ...]
    conditions: tuple[str, ...]
    n_dummy: int
    tr: float
    high_pass: float
    rank: int

    @property
    def dof(self) -> int:
        """Return degrees of freedom of the residuals: rows less rank."""
        return self.matrix.shape[0] - self.rank


def model_confounds(
    table: pd.DataFrame | None, named: Sequence[str] | None = None
) -> tuple[str, ...]:
    """Return the confounds that enter the model, those of the table that are named.

    By default these are motion, its derivatives and the first five aCompCor components. Without
    tissue maps there are no aCompCor components.

    Without the components breathing and pulse stay in the residuals of smoothed series, and twice
    as many voxels as nominal pass p < .001 where the phantom is silent. Runs of fewer than 50
    volumes cannot spare the regressors. None of a run without a table.

    `named`: names of columns, some with wildcards; what the table lacks is left out. None: the
    default. Names of columns, by default at most seventeen.
    """
    if table is None:
        return ()
    if named is not None:
        return tuple(dict.fromkeys(one for name in named for one in matching(table, name)))
    found = [name for name in table if name.startswith("a_comp_cor")]
    return (*MOTION, *found[:_N_COMPONENTS]) if len(table) >= _COMPCOR_VOLUMES else MOTION


def frame_times(
    n_volumes: int, tr: float, *, slice_time_ref: float = 0.5, has_stc: bool = False
) -> Float:
    """Return the acquisition time of each volume (s after run start), (n_volumes,).

    See the module's docstring.

    `slice_time_ref`: moment within a TR (0 to 1) to which slice timing was corrected. Times since
    the first volume began (s).
    """
    return np.asarray((np.arange(n_volumes) + (slice_time_ref if has_stc else 0.5)) * tr)


def _confound_columns(
    table: pd.DataFrame | None, names: Sequence[str], n_volumes: int
) -> dict[str, Float]:
    """Confounds by name, (n_volumes,) each; the first row of a derivative, n/a, is 0.

    DesignError for a name that is no column, a table of another length, or values that are missing
    further down.
    """
    if table is None or not names:
        return {}
    missing = [name for name in names if name not in table]
    if missing:
        raise DesignError(f"confounds have no column {', '.join(missing)}")
    if len(table) != n_volumes:
        raise DesignError(f"confounds have {len(table)} rows and the series {n_volumes} volumes")
    found = {}
    for name in names:
        values = pd.to_numeric(table[name], errors="coerce").to_numpy(dtype=np.float64, copy=True)
        if np.isnan(values[0]):
            values[0] = 0.0
        if not np.isfinite(values).all():
            raise DesignError(
                f"confound {name} has no value in volume {int(np.argmin(np.isfinite(values)))}"
            )
        found[name] = values
    return found


def build_design(
    events: Regressors,
    *,
    n_volumes: int,
    tr: float,
    n_dummy: int = 0,
    slice_time_ref: float = 0.5,
    has_stc: bool = False,
    high_pass: float = 1 / 128,
    confounds: pd.DataFrame | None = None,
    confound_names: Sequence[str] = MOTION,
) -> Design:
    """Build the model of a run.

    Parameters
    ----------
    events : Regressors
        Events, or seeds in their place.
    n_volumes : int
        Of the series, dummies included; and those at its start, which are left out.
    tr : float
        Repetition time (s).
    n_dummy : int, optional
        Of the series, dummies included; and those at its start, which are left out.
    slice_time_ref, has_stc : float, optional
        The moment within a TR (0–1) to which slice timing was corrected, and whether it was.
    high_pass : float, optional
        Hz; drift is modeled by cosines up to this frequency, by a straight line where it is 0.
    confounds, confound_names : pd.DataFrame | None, optional
        Table of n_volumes rows and which of its columns enter; standardized, constants left out.

    Returns
    -------
    Design
        Model whose conditions have an event inside the run.

    Raises
    ------
    DesignError : no row or degree of freedom is left, or confounds do not fit
    """
    from nilearn.glm.first_level import make_first_level_design_matrix

    if n_volumes - n_dummy < 3:
        raise DesignError(f"{n_volumes} volumes less {n_dummy} dummies leave no time series")
    times = frame_times(n_volumes, tr, slice_time_ref=slice_time_ref, has_stc=has_stc)
    kept = {name: values[n_dummy:] for name, values in events.courses(times).items()}
    silent = [name for name, values in kept.items() if np.abs(values).max() < _SILENT]
    parts = {name: values for name, values in kept.items() if name not in silent}
    conditions = tuple(parts)
    for name, values in _confound_columns(confounds, confound_names, n_volumes).items():
        inside = values[n_dummy:]
        centered = inside - inside.mean()
        spread = float(centered.std())
        if spread > 1e-12 * max(1.0, float(np.abs(inside).max())):
            parts[name] = centered / spread
    with warnings.catch_warnings():
        # a cut-off beyond Nyquist is told by our own error on dof
        warnings.simplefilter("ignore", UserWarning)
        drift = make_first_level_design_matrix(
            times[n_dummy:],
            drift_model="cosine" if high_pass > 0 else "polynomial",
            high_pass=high_pass,
            drift_order=1,
        )
    matrix = np.column_stack([*parts.values(), drift.to_numpy(dtype=np.float64)])
    columns = (*parts, *(str(name) for name in drift.columns))
    rank = int(np.linalg.matrix_rank(matrix))
    if rank < len(columns):
        _LOGGER.warning(
            "design of %d columns has rank %d: some repeat each other", len(columns), rank
        )
    if rank >= matrix.shape[0]:
        raise DesignError(f"{matrix.shape[0]} volumes are too few for a model of rank {rank}")
    matrix.setflags(write=False)
    return Design(
        matrix=matrix,
        columns=columns,
        conditions=conditions,
        n_dummy=n_dummy,
        tr=tr,
        high_pass=high_pass,
        rank=rank,
    )


def scaled_weights(weights: Mapping[str, float]) -> dict[str, float]:
    """Return weights divided by the sum of the positive or the negative ones, whichever is larger.

    t, z and CC do not change; the effect becomes a mean over conditions (``all``) or a difference
    of two means, in the unit of one sustained block.

    New weights by name; those of 0 are left out.

    >>> scaled_weights({"thumb": 1.0, "little": -2.0})
    {'thumb': 0.5, 'little': -1.0}
    """
    sides = (sum(w for w in weights.values() if w > 0), -sum(w for w in weights.values() if w < 0))
    if not max(sides) > 0:
        raise DesignError(f"a contrast needs a weight other than 0, not {dict(weights)}")
    return {name: weight / max(sides) for name, weight in weights.items() if weight != 0}


def contrast_vector(design: Design, name: str, weights: Mapping[str, float]) -> Float:
    """Return weights over the design's columns, (columns,).

    DesignError for a condition without an event inside the run, or a contrast that the design
    cannot estimate (its vector is not a combination of the design's rows).

    Parameters
    ----------
    design : Design
        Model of the run, dummies left out.
    name : str
        Name of the contrast, for messages.
    weights : Mapping[str, float]
        Weights of conditions in the contrast, by name.

    Returns
    -------
    Float
        Scaled weights, 0 for all but conditions.

    Raises
    ------
    DesignError
        A condition has no event inside the run, or the design cannot estimate the contrast.
    """
    vector = np.zeros(len(design.columns))
    for condition, weight in scaled_weights(weights).items():
        if condition not in design.conditions:
            raise DesignError(
                f"contrast {name}: condition {condition!r} has no event inside the run; there are "
                f"{', '.join(design.conditions) or 'none'}"
            )
        vector[design.conditions.index(condition)] = weight
    if design.rank < len(design.columns):
        projected = np.linalg.pinv(design.matrix) @ (design.matrix @ vector)
        if np.abs(projected - vector).max() > 1e-6:
            raise DesignError(
                f"contrast {name}: its conditions cannot be told from other columns of the design"
            )
    return vector
