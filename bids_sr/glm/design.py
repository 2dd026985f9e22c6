"""Design matrices: what the events predict, slow drift, and head motion.

Choices that the paper leaves open and that are ours:

- The response is SPM's canonical double gamma (the paper used SPM12), without
  derivatives. It sums to one, so that a block that outlasts it has a plateau of one: an effect is
  the change of the signal, in the series' own units, that a sustained block makes, for shorter
  events too.
- Volume t is dated t·TR + start_time, in every series of a run alike: the moment to which slice
  timing was corrected, else the middle of the time in which a volume is acquired.
- Dummy volumes keep their place in time and lose their row.
"""

import logging
import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from bids_sr.frozen import frozen
from bids_sr.glm.model_confounds import MOTION
from bids_sr.glm.regressors import IMPULSE_S, DesignError, Regressors, TooManyColumns
from bids_sr.glm.time_columns import kept_volumes
from bids_sr.io.arrays import Float

_LOGGER = logging.getLogger(__name__)
# A regressor below this share of the plateau of its longest event carries no information: the
# condition is not in the run. The plateau of an event shorter than 1 s is its area.
_SILENT = 1e-3


@frozen
class Design:
    """The model of one run, rows of dummy volumes left out.

    `matrix`: (rows, columns) float64, read-only; conditions first, then confounds, drift,
    constant. `conditions`: names of the columns that are conditions; their plateau is one. `rank`:
    of the matrix; below the number of columns where confounds or conditions repeat each other.
    `censored`: volumes that the model does not use, counted from 0 with the dummies; the matrix
    has a column for each (`bids_sr.glm.time_columns`).
    """

    matrix: Float
    columns: tuple[str, ...]
    conditions: tuple[str, ...]
    n_dummy: int
    tr: float
    high_pass: float
    rank: int
    censored: tuple[int, ...] = ()

    @property
    def dof(self) -> int:
        """Return degrees of freedom of the residuals: rows less rank.

        A censored volume is a row and a column, and gives none.
        """
        return self.matrix.shape[0] - self.rank


def frame_times(n_volumes: int, tr: float, *, start_time: float | None = None) -> Float:
    """Return the time of each volume, (n_volumes,), in s after the first volume began.

    Parameters
    ----------
    n_volumes : int
        Number of volumes, dummies included.
    tr : float
        Repetition time (s).
    start_time : float | None, optional
        Moment of a volume for which its values hold (s after its start); None: the middle of TR.
    """
    offset = tr / 2 if start_time is None else start_time
    return np.asarray(np.arange(n_volumes) * tr + offset, dtype=np.float64)


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
        raise DesignError(f"the confounds table lacks required columns: {', '.join(missing)}")
    if len(table) != n_volumes:
        raise DesignError(
            f"the confounds table has {len(table)} rows, but the series has {n_volumes} volumes"
        )
    columns = {}
    for name in names:
        values = pd.to_numeric(table[name], errors="coerce").to_numpy(dtype=np.float64, copy=True)
        if np.isnan(values[0]):
            values[0] = 0.0
        if not np.isfinite(values).all():
            raise DesignError(
                f"the confound {name} has no value in volume {int(np.argmin(np.isfinite(values)))}"
            )
        columns[name] = values
    return columns


def build_design(
    events: Regressors,
    *,
    n_volumes: int,
    tr: float,
    n_dummy: int = 0,
    start_time: float | None = None,
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
    start_time : float | None, optional
        Moment of a volume for which its values hold (s after its start), such as the one to which
        slice timing was corrected; None: the middle of TR.
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
    DesignError : no row is left, or confounds do not fit
    TooManyColumns : no degree of freedom is left
    """
    from nilearn.glm.first_level import make_first_level_design_matrix

    if n_volumes - n_dummy < 3:
        raise DesignError(
            f"the run has {n_volumes} volumes, but the first {n_dummy} are non-steady-state "
            "volumes; at least 3 steady-state volumes are required"
        )
    times = frame_times(n_volumes, tr, start_time=start_time)
    kept = {name: values[n_dummy:] for name, values in events.courses(times).items()}
    used = set(confound_names)
    within_run = None if confounds is None else confounds[[c for c in confounds if c in used]]
    counted = kept_volumes(within_run, n_volumes)[n_dummy:]
    if not counted.any():
        raise DesignError("all volumes of the run are censored, so no model can be fitted")
    plateaus = {
        name: min(1.0, max(duration or IMPULSE_S for _, duration in spans))
        for name, spans in events.spans().items()
    }
    silent = [
        name
        for name, values in kept.items()
        if np.abs(values[counted]).max() < _SILENT * plateaus.get(name, 1.0)
    ]
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
    if rank >= matrix.shape[0]:
        censored = int((~counted).sum())
        raise TooManyColumns(
            f"the design matrix has rank {rank - censored}, but the model can use only "
            f"{matrix.shape[0] - censored} volumes; more volumes than the rank are required",
            rank - matrix.shape[0] + 1,
        )
    if rank < len(columns):
        _LOGGER.warning(
            "The design matrix has %d columns but rank %d, because some columns are collinear.",
            len(columns),
            rank,
        )
    matrix.setflags(write=False)
    return Design(
        matrix=matrix,
        columns=columns,
        conditions=conditions,
        n_dummy=n_dummy,
        tr=tr,
        high_pass=high_pass,
        rank=rank,
        censored=tuple(n_dummy + int(row) for row in np.flatnonzero(~counted)),
    )


def nuisance_columns(columns: Sequence[str], conditions: Sequence[str]) -> tuple[str, ...]:
    """Return the columns of a design that are confounds or of the temporal model.

    Drift by cosines and the constant are not among them.
    """
    of_drift = ("drift", "constant")
    return tuple(c for c in columns if c not in conditions and not c.startswith(of_drift))


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
        raise DesignError(
            f"all weights of the contrast are zero ({dict(weights)}); expected at least one "
            "nonzero weight"
        )
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
                f"the contrast {name} cannot be estimated, because the condition {condition!r} "
                "has no events inside the run (conditions with events: "
                f"{', '.join(design.conditions) or 'none'})"
            )
        vector[design.conditions.index(condition)] = weight
    if design.rank < len(design.columns):
        projected = np.linalg.pinv(design.matrix) @ (design.matrix @ vector)
        if np.abs(projected - vector).max() > 1e-6:
            raise DesignError(
                f"the contrast {name} cannot be estimated, because its conditions are "
                "collinear with other columns of the design matrix"
            )
    return vector
