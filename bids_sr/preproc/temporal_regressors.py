"""Regressors of the temporal model that censor volumes, filter by frequency and remove drift.

All regressors are columns of the confounds table, so that all models of a run use the same
regressors: maps, seeds, block effects, controls and the measured reference.

- `censored…`: 1 in one volume and 0 elsewhere, for outlier volumes
  (`bids_sr.preproc.outlier_volumes`) and, if requested, volumes with head motion. A model with
  this column estimates all other parameters from the other volumes. Least squares and generalized
  least squares give the same estimates, residuals and degrees of freedom as without the row, and
  noise keeps its distance in time across the gap.
- `alternating0000`: 1 and -1 in turn, if every second volume has another contrast
  (`bids_sr.preproc.alternation`).
- `band_stop…`: cosines (DCT-II) outside a pass band. The filter is thus part of the model
  (simultaneous regression, as in AFNI's 3dTproject), which accounts for its degrees of freedom and
  does not reintroduce signal that other regressors removed (Lindquist et al. 2019).
- `legendre…`: Legendre polynomials over the run, instead of slow cosines.

Non-steady-state volumes have no row in a model; columns are 0 in these volumes.

Sources of the thresholds: power2012 for framewise displacement, and AFNI's 1d_tool.py for the
Euclidean norm of motion derivatives, in mm and degrees.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from bids_sr.io.arrays import Array, Float, MaskArray
from bids_sr.io.confound_names import (
    ALTERNATING,
    BAND_STOP,
    CENSORED,
    LEGENDRE,
    MOTION_PARAMETERS,
    TIME_PREFIXES,
    ColumnDescriptions,
    describe_regressor,
    name_time_column,
)
from bids_sr.io.frozen import frozen
from bids_sr.io.notices import InvalidInput

LEAST_AT_REST_S = 10.0
"""Smallest duration of a run without events (s), which preflight also requires."""


@frozen
class TimeModel:
    """Options of the temporal model of a run; None turns an option off.

    Volumes are censored if their framewise displacement (mm) is above `fd_censor`, or if the
    Euclidean norm of the motion derivatives (mm, degrees) is at least `enorm_censor`. `band_pass`
    are the lowest and highest frequency that pass (Hz). `legendre` is the order of the polynomials
    that model drift.
    """

    fd_censor: float | None = None
    enorm_censor: float | None = None
    band_pass: tuple[float, float] | None = None
    legendre: int | None = None

    @property
    def censors(self) -> bool:
        """Whether volumes with head motion are censored."""
        return self.fd_censor is not None or self.enorm_censor is not None

    @property
    def column_prefixes(self) -> tuple[str, ...]:
        """Beginnings of the columns that a confounds table can have, also without censoring.

        Outlier volumes and volumes that alternate have columns in every model.
        """
        filters = {BAND_STOP: self.band_pass, LEGENDRE: self.legendre}
        return (CENSORED, ALTERNATING, *(prefix for prefix, option in filters.items() if option))

    @property
    def words(self) -> str:
        """Filters of the model in words; "slow cosines" if no other filter is given."""
        phrases = []
        if self.band_pass is not None:
            phrases.append(
                f"band-pass filter from {self.band_pass[0]:g} to {self.band_pass[1]:g} Hz"
            )
        if self.legendre is not None:
            phrases.append(f"Legendre polynomials up to order {self.legendre}")
        return ", ".join(phrases) or "slow cosines"

    @property
    def rules(self) -> str:
        """Censoring rules in words; "" if no volumes are censored."""
        rules = []
        if self.fd_censor is not None:
            rules.append(f"framewise displacement above {self.fd_censor:g} mm")
        if self.enorm_censor is not None:
            rules.append(
                f"a Euclidean norm of the motion derivatives of at least {self.enorm_censor:g} "
                "(mm, degrees)"
            )
        return " or ".join(rules)


def time_columns(
    confounds: pd.DataFrame, model: TimeModel, *, tr: float, n_dummy: int = 0
) -> tuple[pd.DataFrame, ColumnDescriptions]:
    """Return the columns of a temporal model, one row per volume, and their descriptions.

    `confounds` has the six motion parameters and framewise_displacement of the run. Volumes that
    already have a column there get no second one.
    """
    n_volumes = len(confounds)
    n_steady = n_volumes - n_dummy
    censored = select_censored_volumes(confounds, model) & uncensored_volumes(confounds, n_volumes)
    censored[:n_dummy] = False
    rule = f"censoring rule: {model.rules}"
    columns, descriptions = censor_columns(
        {int(volume): rule for volume in np.flatnonzero(censored)}, n_volumes
    )
    for column in _iterate_filter_columns(n_steady, tr, model):
        columns[column.name] = prepend_dummies(column.values, n_dummy)
        descriptions[column.name] = describe_regressor(
            f"{column.text}; 0 in non-steady-state volumes"
        )
    return pd.DataFrame(columns, index=confounds.index), descriptions


def select_censored_volumes(confounds: pd.DataFrame, model: TimeModel) -> MaskArray:
    """Return a mask of censored volumes, (T,); the first volume is never censored.

    `confounds` has the six motion parameters and framewise_displacement, one row per volume.
    """
    censored = np.zeros(len(confounds), dtype=bool)
    if model.fd_censor is not None:
        censored |= (
            confounds["framewise_displacement"].to_numpy(dtype=np.float64) > model.fd_censor
        )
    if model.enorm_censor is not None:
        norm = motion_norm(confounds[list(MOTION_PARAMETERS)].to_numpy(dtype=np.float64))
        censored |= norm >= model.enorm_censor
    return censored


def motion_norm(params: Array) -> Float:
    """Return the Euclidean norm of the motion derivatives, (T,); the first value is NaN.

    The norm is the root of the sum of squared backward differences, with rotations in degrees, as
    in AFNI's 1d_tool.py. `params` are six motion parameters, one row per volume (T, 6; mm, rad).
    """
    change = np.diff(np.asarray(params, dtype=np.float64), axis=0)
    change[:, 3:] = np.degrees(change[:, 3:])
    return np.concatenate([[np.nan], np.linalg.norm(change, axis=1)])


def uncensored_volumes(table: pd.DataFrame | None, n_volumes: int) -> MaskArray:
    """Return a mask of volumes that are not censored, (n_volumes,), from a confounds table."""
    uncensored = np.ones(n_volumes, dtype=bool)
    if table is None:
        return uncensored
    for name in time_column_names(table):
        if name.startswith(CENSORED):
            uncensored[table[name].to_numpy() != 0] = False
    return uncensored


def time_column_names(names: Sequence[object] | pd.DataFrame | None) -> tuple[str, ...]:
    """Return the names of columns that belong to the temporal model; () if `names` is None."""
    if names is None:
        return ()
    return tuple(str(name) for name in names if str(name).startswith(TIME_PREFIXES))


def censor_columns(
    reasons: Mapping[int, str], n_volumes: int
) -> tuple[dict[str, Float], ColumnDescriptions]:
    """Return one column per censored volume, and the descriptions of the columns.

    Volumes in `reasons` are counted from 0; `n_volumes` is the length of the columns.
    """
    columns: dict[str, Float] = {}
    descriptions: ColumnDescriptions = {}
    for volume, reason in reasons.items():
        name = name_time_column(CENSORED, volume)
        columns[name] = indicate_volume(volume, n_volumes)
        descriptions[name] = describe_regressor(
            f"1 in volume {volume} and 0 elsewhere. The volume is excluded from all models "
            f"({reason})"
        )
    return columns, descriptions


def indicate_volume(volume: int, n_volumes: int) -> Float:
    """Return a column (n_volumes,) that is 1 in one volume, counted from 0, and 0 elsewhere."""
    return (np.arange(n_volumes) == volume).astype(np.float64)


class _FilterColumn(NamedTuple):
    """Regressor of a filter in the steady-state volumes (n,), with its description."""

    name: str
    values: Array
    text: str


def _iterate_filter_columns(n: int, tr: float, model: TimeModel) -> Iterator[_FilterColumn]:
    """Yield the cosines outside the pass band and the Legendre polynomials for n samples."""
    if model.band_pass is not None:
        low, high = model.band_pass
        cosines, frequencies = cosines_outside(n, tr, low, high)
        for cosine, frequency in zip(cosines.T, frequencies, strict=True):
            yield _FilterColumn(
                name_time_column(BAND_STOP, round(2 * n * tr * frequency)),
                cosine,
                f"Discrete cosine regressor of {frequency:.4g} Hz, outside the pass band "
                f"from {low:g} to {high:g} Hz",
            )
    for order in range(1, 1 + (model.legendre or 0)):
        yield _FilterColumn(
            name_time_column(LEGENDRE, order),
            np.polynomial.Legendre.basis(order)(np.linspace(-1, 1, n)),
            f"Legendre polynomial of order {order} across the run",
        )


def prepend_dummies(values: Array, n_dummy: int) -> Float:
    """Return a column with 0 in the non-steady-state volumes, followed by the values (T,)."""
    return np.concatenate([np.zeros(n_dummy), values])


def column_count(n: int, tr: float, model: TimeModel) -> int:
    """Return the number of columns of a model for n steady volumes, without censored volumes."""
    n_cosines = 0 if model.band_pass is None else cosines_outside(n, tr, *model.band_pass)[1].size
    return n_cosines + (model.legendre or 0)


def cosines_outside(n: int, tr: float, low: float, high: float) -> tuple[Float, Float]:
    """Return cosines (DCT-II) of n samples below and above a pass band, and their frequencies.

    The pass band is from `low` to `high` (Hz); `tr` is in s. Cosines have amplitude 1 and do not
    include the constant (n, K); frequencies (K,) are in Hz.
    """
    orders = np.arange(1, n)
    frequencies = orders / (2 * n * tr)
    is_outside = (frequencies < low * (1 - 1e-9)) | (frequencies > high * (1 + 1e-9))
    cosines = np.cos(np.pi * (np.arange(n)[:, None] + 0.5) * orders[is_outside] / n)
    return cosines, frequencies[is_outside]


def check_volumes(
    n_kept: int,
    n_steady: int,
    n_columns: int,
    model: TimeModel,
    *,
    tr: float,
    least_s: float = 0.0,
) -> None:
    """Raise `InvalidInput` if too few volumes remain for a model.

    `n_kept` steady-state volumes of `n_steady` are not censored. `n_columns` does not include
    regressors of censored volumes. The options of `model` are stated in the message. `tr` and the
    smallest duration of the remaining volumes, `least_s`, are in s.
    """
    reason = (
        f"only {n_kept} of {n_steady} steady-state volumes remain, because the other"
        f" {n_steady - n_kept} volumes were censored ({model.rules})"
        if model.censors
        else f"the run has only {n_steady} steady-state volumes"
    )
    if n_kept <= n_columns:
        raise InvalidInput(
            f"{reason}. The linear model has {n_columns} regressors and requires at least "
            f"{n_columns + 1} volumes",
            _suggest_fix(model),
        )
    if n_kept * tr < least_s - 1e-6:
        raise InvalidInput(
            f"{reason}. The duration of these volumes is {n_kept * tr:g} s, but a run without"
            f" events requires at least {least_s:g} s",
            _suggest_fix(model),
        )


def _suggest_fix(model: TimeModel) -> str:
    """Return a sentence with the options that would leave more volumes."""
    options = {
        "a higher limit of --censor fd": model.fd_censor,
        "a higher limit of --censor enorm": model.enorm_censor,
        "a wider --band-pass": model.band_pass,
        "a lower order of activation.drift": model.legendre,
    }
    applicable = [text for text, value in options.items() if value is not None]
    return f"Use {' or '.join(applicable)}, or exclude the run with --task-id or --run-id."


def censoring_facts(uncensored: MaskArray, model: TimeModel) -> Mapping[str, object]:
    """Return the counts of a run's censoring.

    `uncensored` is a mask of uncensored volumes among the steady-state volumes (T,).
    """
    n_censored = int((~uncensored).sum())
    return {
        "rules": model.rules,
        "censored": n_censored,
        "steady": len(uncensored),
        "share": round(n_censored / max(len(uncensored), 1), 4),
    }
