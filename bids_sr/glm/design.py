"""Design matrices: predicted responses, drift, and head motion.

The paper leaves these choices open:

- The default response is SPM's canonical double gamma (the paper used SPM12), without derivatives.
  It sums to one, so that the plateau of a sustained block is one. An effect is therefore the
  signal change of a sustained block, in the unit of the series, also for shorter events.
- The time of volume t is t·TR + start_time in all series of a run: the reference time of
  slice-timing correction, or else the middle of the acquisition of a volume.
- Dummy volumes are removed from the matrix, but not from the time axis.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from bids_sr.glm.hemodynamic_response import IMPULSE_S, HemodynamicResponse
from bids_sr.glm.regressors import DesignError, Regressors, Seeds, TooManyColumns
from bids_sr.io.arrays import Float, MaskArray
from bids_sr.io.confound_names import LEGENDRE, MOTION_REGRESSORS
from bids_sr.io.frozen import frozen
from bids_sr.preproc.drift import slow_cosines
from bids_sr.preproc.temporal_regressors import uncensored_volumes

# fraction of the plateau of a condition's longest event; weaker regressors carry no information,
# and their condition is not in the run. The plateau of an event shorter than 1 s is its area.
_MIN_RESPONSE = 1e-3
# smallest standard deviation of a confound that is not constant, relative to its largest value
_MIN_RELATIVE_SD = 1e-12
# largest deviation of an estimable contrast from its projection on the rows of the design
_MAX_DEVIATION = 1e-6


@frozen
class DesignSettings:
    """Options of the design matrix, which all linear models of a run share.

    `hrf` is the response to events. Drift is modeled by cosines up to the cut-off frequency
    `high_pass` (Hz), or by a straight line if it is 0. `start_time` is the reference time of a
    volume (s after its start), such as the reference time of slice-timing correction; None for the
    middle of TR.
    """

    high_pass: float = 1 / 128
    start_time: float | None = None
    hrf: HemodynamicResponse = HemodynamicResponse()


@frozen
class Design:
    """Model of one run, without rows of dummy volumes.

    The columns of `matrix` (rows, columns; read-only) are conditions, derivatives of their
    responses, confounds, drift and constant; the plateau of a sustained block is one. `conditions`
    and `derivatives` are the names of these columns. `hrf` is the response to events; None for
    seeds. `tr` is in s. `rank` is below the number of
    columns if columns are collinear. `censored` lists the volumes that the model does not use,
    counted from 0 including dummies; the matrix has a column for each of them
    (`bids_sr.preproc.temporal_regressors`).
    """

    matrix: Float
    columns: tuple[str, ...]
    conditions: tuple[str, ...]
    n_dummy: int
    tr: float
    settings: DesignSettings
    rank: int
    derivatives: tuple[str, ...] = ()
    hrf: HemodynamicResponse | None = None
    censored: tuple[int, ...] = ()

    @property
    def nuisance_columns(self) -> tuple[str, ...]:
        """Names of the columns that are confounds or belong to the temporal model."""
        return tuple(
            name
            for name in self.columns[len(self.conditions) + len(self.derivatives) :]
            if not name.startswith(("drift", "constant"))
        )

    @property
    def dof(self) -> int:
        """Degrees of freedom of the residuals: rows minus rank.

        Censored volumes do not add degrees of freedom, because each is a row and a column.
        """
        return self.matrix.shape[0] - self.rank


def build_design(
    events: Regressors,
    settings: DesignSettings = DesignSettings(),
    *,
    n_volumes: int,
    tr: float,
    n_dummy: int = 0,
    confounds: pd.DataFrame | None = None,
    confound_names: Sequence[str] = MOTION_REGRESSORS,
) -> Design:
    """Return the model of a run.

    Parameters
    ----------
    events : Regressors
        Events, or seeds instead of events.
    settings : DesignSettings, optional
        Options of the design matrix.
    n_volumes : int
        Number of volumes of the series, including dummies.
    tr : float
        Repetition time (s).
    n_dummy : int, optional
        Number of volumes at the start that are not in the steady state and have no row.
    confounds, confound_names : pd.DataFrame | None, optional
        Table with n_volumes rows, and the names of the columns that enter the model. Confounds are
        standardized, and constant columns are omitted.

    Returns
    -------
    Design
        Model with the conditions that have an event inside the run.

    Raises
    ------
    DesignError
        If too few volumes remain, or if the confounds do not match the run.
    TooManyColumns
        If no degrees of freedom remain.
    """
    if n_volumes - n_dummy < 3:
        raise DesignError(
            f"the run has {n_volumes} volumes, but the first {n_dummy} are non-steady-state "
            "volumes; at least 3 steady-state volumes are required"
        )
    times = frame_times(n_volumes, tr, start_time=settings.start_time)
    hrf_columns = (
        {name: values[:, None] for name, values in events.time_series(times).items()}
        if isinstance(events, Seeds)
        else events.responses(times, settings.hrf)
    )
    responses = {name: values[n_dummy:, 0] for name, values in hrf_columns.items()}
    uncensored = find_uncensored_volumes(confounds, confound_names, n_volumes)[n_dummy:]
    if not uncensored.any():
        raise DesignError("all volumes of the run are censored, so no model can be fitted")
    silent_conditions = _find_silent_conditions(events, responses, uncensored)
    conditions = tuple(name for name in responses if name not in silent_conditions)
    regressors = {name: responses[name] for name in conditions}
    derivatives = {
        f"{name}_{derivative}": hrf_columns[name][n_dummy:, column]
        for column, derivative in enumerate(settings.hrf.derivatives, 1)
        for name in conditions
        if not isinstance(events, Seeds)
    }
    nuisance = dict[str, Float]()
    for name, values in _read_confound_columns(confounds, confound_names, n_volumes).items():
        standardized = _standardize(values[n_dummy:])
        if standardized is not None:
            # A trial type may have the name of a confound, such as trans_x.
            is_taken = name in responses or name in derivatives
            nuisance[f"{name}_confound" if is_taken else name] = standardized
    drift = _make_drift(n_volumes - n_dummy, tr, settings.high_pass)
    if not settings.high_pass and any(name.startswith(LEGENDRE) for name in nuisance):
        del drift["drift_1"]  # the first polynomial is also a straight line
    nuisance |= drift
    # Not joined by name: a trial type may have the name of the derivative of another type.
    columns = (*regressors, *derivatives, *nuisance)
    matrix = np.column_stack([*regressors.values(), *derivatives.values(), *nuisance.values()])
    rank = _compute_rank(matrix, n_censored=int((~uncensored).sum()))
    matrix.setflags(write=False)
    return Design(
        matrix=matrix,
        columns=columns,
        conditions=conditions,
        n_dummy=n_dummy,
        tr=tr,
        settings=settings,
        rank=rank,
        derivatives=tuple(derivatives),
        hrf=None if isinstance(events, Seeds) else settings.hrf,
        censored=tuple(n_dummy + int(row) for row in np.flatnonzero(~uncensored)),
    )


def frame_times(n_volumes: int, tr: float, *, start_time: float | None = None) -> Float:
    """Return the time of each volume, (n_volumes,), in s after the start of the first volume.

    `n_volumes` includes dummies, `tr` is in s, and `start_time` is the reference time of a volume
    (s after its start); None for the middle of TR.
    """
    offset = tr / 2 if start_time is None else start_time
    return np.asarray(np.arange(n_volumes) * tr + offset, dtype=np.float64)


def find_uncensored_volumes(
    confounds: pd.DataFrame | None, confound_names: Sequence[str], n_volumes: int
) -> MaskArray:
    """Return a mask of volumes that the confounds of a model do not censor, (n_volumes,)."""
    if confounds is None:
        return uncensored_volumes(None, n_volumes)
    names_in_model = set(confound_names)
    return uncensored_volumes(
        confounds[[name for name in confounds if name in names_in_model]], n_volumes
    )


def _find_silent_conditions(
    events: Regressors, responses: Mapping[str, Float], uncensored: MaskArray
) -> list[str]:
    """Return the conditions without a response in any volume that the model uses.

    `responses` are the regressors of the conditions and `uncensored` a mask of volumes, without
    dummies (T,).
    """
    modulations = events.modulations()
    plateaus = {
        name: min(1.0, max(duration or IMPULSE_S for _, duration in spans))
        * float(np.abs(modulations[name]).max())
        for name, spans in events.spans().items()
    }
    return [
        name
        for name, values in responses.items()
        if np.abs(values[uncensored]).max() <= _MIN_RESPONSE * plateaus.get(name, 1.0)
    ]


def _read_confound_columns(
    table: pd.DataFrame | None, names: Sequence[str], n_volumes: int
) -> dict[str, Float]:
    """Return confounds by name, (n_volumes,) each; an undefined first value is replaced by 0.

    Raises `DesignError` if a column is missing, if the table has another number of rows, or if
    values are missing after the first volume.
    """
    if table is None or not names:
        return {}
    missing_names = [name for name in names if name not in table]
    if missing_names:
        raise DesignError(
            f"the confounds table lacks required columns: {', '.join(missing_names)}"
        )
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


def _standardize(values: Float) -> Float | None:
    """Return values (T,) with mean 0 and standard deviation 1; None if they are constant."""
    centered = values - values.mean()
    sd = float(centered.std())
    if sd > _MIN_RELATIVE_SD * max(1.0, float(np.abs(values).max())):
        return centered / sd
    return None


def _make_drift(n_rows: int, tr: float, high_pass: float) -> dict[str, Float]:
    """Return the columns of drift and constant (n_rows,); `tr` is in s, `high_pass` in Hz."""
    if high_pass > 0:
        drift = slow_cosines(n_rows, tr, high_pass)[:, 1:].T
    else:
        drift = np.linspace(-1, 1, n_rows)[None]
    columns = {f"drift_{order}": values for order, values in enumerate(drift, 1)}
    return {**columns, "constant": np.ones(n_rows)}


def _compute_rank(matrix: Float, *, n_censored: int) -> int:
    """Return the rank of a design matrix.

    `n_censored` is the number of censored volumes, which have a row and a column each. Raises
    `TooManyColumns` if no degrees of freedom remain.
    """
    n_rows = len(matrix)
    rank = int(np.linalg.matrix_rank(matrix))
    if rank >= n_rows:
        raise TooManyColumns(
            f"the design matrix has rank {rank - n_censored}, but the model can use only "
            f"{n_rows - n_censored} volumes; more volumes than the rank are required",
            rank - n_rows + 1,
        )
    return rank


def contrast_vector(design: Design, name: str, weights: Mapping[str, float]) -> Float:
    """Return the weights of a contrast over the design's columns, (columns,).

    Parameters
    ----------
    design : Design
        Model of the run.
    name : str
        Name of the contrast, for messages.
    weights : Mapping[str, float]
        Weights of conditions in the contrast, by name.

    Returns
    -------
    Float
        Weights; 0 for columns that are not conditions.

    Raises
    ------
    DesignError
        If all weights are 0, if a condition has no event inside the run, or if the contrast is not
        estimable, that is, not a combination of the design's rows.
    """
    if not any(weights.values()):
        raise DesignError(
            f"all weights of the contrast {name} are zero; expected at least one nonzero weight"
        )
    vector = np.zeros(len(design.columns))
    for condition, weight in weights.items():
        if not weight:
            continue
        if condition not in design.conditions:
            raise DesignError(
                f"the contrast {name} cannot be estimated, because the condition {condition!r} "
                "has no events inside the run (conditions with events: "
                f"{', '.join(design.conditions) or 'none'})"
            )
        vector[design.conditions.index(condition)] = weight
    if design.rank < len(design.columns):
        projected = np.linalg.pinv(design.matrix) @ (design.matrix @ vector)
        if np.abs(projected - vector).max() > _MAX_DEVIATION:
            raise DesignError(
                f"the contrast {name} cannot be estimated, because its conditions are "
                "collinear with other columns of the design matrix"
            )
    return vector
