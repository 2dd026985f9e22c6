"""Design matrices: what the events predict, slow drift, and head motion.

Choices that the paper leaves open and that are ours:

- The response is SPM's canonical double gamma (the paper used SPM12), without
  derivatives. It sums to one, so that a block that outlasts it has a plateau of one: an effect is
  the change of the signal, in the series' own units, that a sustained block makes, for shorter
  events too.
- Volume t is dated t·TR + start_time, in every series of a run alike: the moment to which slice
  timing was corrected, else the middle of the time in which a volume is acquired.
- Dummy volumes keep their place in time and lose their row.

Regressors of interest of a run's linear model: task events or, if there are none, seeds.

The seeds enter as time series.

Seed-based connectivity: the seeds of a run without events replace the conditions of a task.

A seed's time series, read once from the acquired series, is the regressor of all series of the
run; their maps are then maps of correlation and of a linear model as those of a task, and every
control of the evaluation holds for them too. Halves of the run are made of segments: a segment's
regressor is the seed within it, its own mean taken off.

Source: seed-correlation maps of TV self-supervision, section 3.3. The choice of seeds as
regressors of one model beside motion and drift, instead of band-passed residuals, is ours: it is
the model that runs with events get.
"""

import logging
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import filter as matching
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from nibabel.affines import apply_affine

from bids_sr.frozen import frozen
from bids_sr.glm.confounds import is_complete
from bids_sr.glm.contrasts import NO_TIME, NOT_MODELED, UNNAMED, modeled_types, seconds
from bids_sr.glm.time_columns import kept_volumes, time_column_names
from bids_sr.io.grids import Float, Mask
from bids_sr.io.nifti import SeriesReader
from bids_sr.io.tables import TABLE_ERRORS, TableRow, read_frame, read_rows

_SEGMENT_S = 30.0  # about the length of a block of a task
MOST_SEGMENTS, LEAST_SEGMENTS = 20, 4
LEAST_S, LEAST_ROWS = 90.0, 40
_ROWS_PER_REGRESSOR = 5


def seed_voxels(
    mask: Mask,
    affine: Float,
    center_mm: Sequence[float],
    radius_mm: float,
    *,
    nearest: bool = False,
) -> Mask:
    """Return the mask voxels whose centers lie within the radius of a seed.

    If no voxel lies there, it is the nearest voxel within a voxel's diagonal.

    Parameters
    ----------
    mask : Mask
        (X, Y, Z) brain.
    affine : Float
        (4, 4) voxel to RAS mm.
    center_mm : Sequence[float]
        Of the seed, RAS mm of the mask.
    radius_mm : float
        Radius of the sphere (mm).
    nearest : bool, optional
        Whether the nearest voxel is taken at any distance.

    Returns
    -------
    Mask
        Voxels of the seed (3D, boolean), one at least.

    Raises
    ------
    ValueError : the seed lies outside the mask
    """
    at = np.argwhere(mask)
    if not len(at):
        raise ValueError("the brain mask is empty")
    away = np.linalg.norm(apply_affine(affine, at) - center_mm, axis=1)
    diagonal = float(np.linalg.norm(affine[:3, :3].sum(axis=1)))
    chosen = away <= radius_mm + 1e-6
    if not chosen.any() and (nearest or away.min() <= diagonal):
        chosen = away == away.min()
    if not chosen.any():
        limit = max(radius_mm, diagonal)
        raise ValueError(f"the brain mask contains no voxels within {limit:.3g} mm of the seed")
    out = np.zeros(mask.shape, dtype=bool)
    out[tuple(at[chosen].T)] = True
    return out


def without(
    table: pd.DataFrame, nuisance: Float, n_dummy: int = 0, censored: Sequence[int] = ()
) -> pd.DataFrame:
    """Subtract from time series what nuisance regressors explain of them.

    Dummy and censored volumes are NaN; the latter are counted from 0.

    Their standard deviation is then that of what the maps are about, and effects are changes of
    the signal per standard deviation of a seed's own fluctuation; t does not change, as the model
    has the same regressors. `nuisance` is (rows after the dummies, regressors), a constant among
    them.

    Residuals in a table of the same shape.
    """
    out = table.astype(np.float64)
    values = out.iloc[n_dummy:].to_numpy()
    out.iloc[:n_dummy] = np.nan
    out.iloc[n_dummy:] = values - nuisance @ np.linalg.lstsq(nuisance, values, rcond=None)[0]
    out.iloc[list(censored)] = np.nan
    return out


def seed_series(reader: SeriesReader, seeds: Mapping[str, Mask], n_dummy: int = 0) -> pd.DataFrame:
    """Return mean time series of seeds (X, Y, Z) by name, one row per volume.

    Dummy volumes are NaN.

    `seeds`: voxels of each seed (3D, boolean) by name. `ValueError`: no seed lies in the field of
    view.
    """
    flat = {name: np.flatnonzero(voxels) for name, voxels in seeds.items()}
    values = np.full((reader.shape[3], len(flat)), np.nan)
    for row, volume in enumerate(reader.volumes(n_dummy), n_dummy):
        signal = volume.ravel()
        values[row] = [float(signal[voxels].mean(dtype=np.float64)) for voxels in flat.values()]
    return pd.DataFrame(values, columns=list(flat))


def segment_count(n_rows: int, n_seeds: int, tr: float) -> int:
    """Return the number of segments of a run: some 30 s each, even, and four or more.

    There are few enough of them for the model.

    0 for less than 90 s, or fewer volumes than 40 or three times the regressors of the fewest
    segments.
    """
    if n_rows * tr < LEAST_S or n_rows < max(LEAST_ROWS, 3 * LEAST_SEGMENTS * n_seeds):
        return 0
    count = min(
        n_rows * tr / _SEGMENT_S, n_rows / (_ROWS_PER_REGRESSOR * max(n_seeds, 1)), MOST_SEGMENTS
    )
    return max(LEAST_SEGMENTS, int(count) // 2 * 2)


def within(regressor: Float, tr: float, start: float, length: float) -> Float:
    """A regressor within one segment, the mean of the segment taken off, and 0 outside it.

    `regressor`: time series of a seed (T,), dummies included; NaN in censored volumes, which are 0
    in the result.
    """
    first, last = round(start / tr), round((start + length) / tr)
    out = np.zeros_like(regressor)
    values = regressor[first:last]
    known = ~np.isnan(values)
    if known.any():
        out[first:last] = np.where(known, values - values[known].mean(), 0)
    return out


_Weights = Mapping[str, float]
_TIMES = ("onset", "duration")


class DesignError(ValueError):
    """A design that cannot be built, or a contrast that it cannot estimate.

    The message names the condition or column.
    """


class TooManyColumns(DesignError):
    """A design without degrees of freedom.

    `excess`: reduction of the rank that leaves one degree of freedom.
    """

    def __init__(self, message: str, excess: int) -> None:
        super().__init__(message)
        self.excess = excess


_OVERSAMPLING = 50  # samples of the stimulus per TR, nilearn's default
_IMPULSE_S = 1.0  # area of an event of duration 0, as in SPM


def _amplitudes(events: pd.DataFrame, grid: Float) -> Float:
    """Return heights of events that give brief ones their area.

    A sampled event has a whole number of steps, at least one, and the height 1 would give it the
    area of these.

    Parameters
    ----------
    events : pd.DataFrame
        Columns onset and duration (s).
    grid : Float
        Times at which nilearn samples the stimulus (s), evenly spaced.
    """
    durations = events["duration"].to_numpy(dtype=np.float64)
    onsets = events["onset"].to_numpy(dtype=np.float64)
    step = float(grid[1] - grid[0])
    n_steps = np.searchsorted(grid, onsets + durations) - np.searchsorted(grid, onsets)
    areas = np.where(durations > 0, durations, _IMPULSE_S)
    # the rounding of a longer event is below 2 %, and its plateau has to be 1
    brief = durations < _OVERSAMPLING * step
    return np.where(brief, areas / (np.maximum(n_steps, 1) * step), 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class Events:
    """The events of a run that are modeled, one at least.

    `table`: onset (s), duration (s), trial_type.
    """

    table: pd.DataFrame
    source: str = "events"

    @classmethod
    def of(
        cls, columns: Sequence[str], rows: Iterable[TableRow], where: str, source: str = "events"
    ) -> "Events":
        """Those of a table of text; `where` names it in a DesignError.

        Rows named rest, baseline, fixation or n/a, or without onset or duration, are left out, and
        so are repetitions of an event; without a column trial_type all rows are of one type.
        """
        if missing := [name for name in _TIMES if name not in columns]:
            raise DesignError(
                f"{where}: the events table lacks required columns: {', '.join(missing)}. It "
                f"contains the columns {', '.join(map(str, columns))}"
            )
        kept = []
        for line, row in rows:
            cells = [row[name] or "" for name in _TIMES]
            named = modeled_types([row.get("trial_type", UNNAMED)])
            if not named or any(cell.strip().lower() in NO_TIME for cell in cells):
                continue
            for name, cell in zip(_TIMES, cells, strict=True):
                if seconds(cell) is None:
                    raise DesignError(
                        f"{where}: the {name} in line {line} is not a number, but {cell!r}"
                    )
            kept.append((*map(seconds, cells), *named))
        if not kept:
            raise DesignError(
                f"{where}: the events table contains no events that can be modeled. Rows "
                "without onset or duration and rows of the trial types "
                f"{', '.join(sorted(filter(None, NOT_MODELED)))} are not modeled"
            )
        # an event that is listed twice would halve its effect
        unique = list(dict.fromkeys(kept))
        return cls(pd.DataFrame(unique, columns=[*_TIMES, "trial_type"]), source)

    @property
    def conditions(self) -> list[str]:
        """Trial types, by name."""
        return [str(name) for name in sorted(self.table["trial_type"].unique())]

    def contrasts(self, weights: Mapping[str, _Weights]) -> dict[str, _Weights]:
        """The contrasts that can be made: all, as the plan has left out those that cannot."""
        return dict(weights)

    def spans(self) -> dict[str, list[tuple[float, float]]]:
        """Return (onset, duration) in s of the events of each condition."""
        return {
            str(name): list(zip(rows["onset"], rows["duration"], strict=True))
            for name, rows in self.table.groupby("trial_type")
        }

    def courses(self, times: Float) -> dict[str, Float]:
        """Return the convolved on/off time series of each condition at given times (s).

        The plateau of a sustained block is one. The area under a shorter event is its duration; an
        event of duration 0 is an impulse of area 1 s, as in SPM. (nilearn samples the stimulus at
        1/50 of TR, and gives events shorter than that, also those of duration 0, this duration.)

        Events before the run count: what they leave behind in the first volumes is part of the
        model, however early. Those that begin after the last volume do not.

        Time series (T,) by condition; zeros where no event has begun.
        """
        from nilearn.glm.first_level import compute_regressor

        events = self.table
        by_name = {}
        earliest = min(-24.0, float(events["onset"].min()) - float(times[0]) - 1.0)
        tr = float(times[1] - times[0])
        begin, end = float(times[0]) + earliest, float(times[-1]) * (1 + 1 / (len(times) - 1))
        grid = np.linspace(begin, end, round((end - begin) / tr * _OVERSAMPLING) + 1)
        for name in self.conditions:
            rows = events.loc[(events["trial_type"] == name) & (events["onset"] <= times[-1])]
            if rows.empty:
                by_name[name] = np.zeros(len(times))
                continue
            amplitudes = _amplitudes(rows, grid)
            timing = np.vstack([rows["onset"], rows["duration"], amplitudes])
            by_name[name] = compute_regressor(
                timing, "spm", times, oversampling=_OVERSAMPLING, min_onset=earliest
            )[0][:, 0]
        return by_name


@dataclass(frozen=True, slots=True, eq=False)
class Seeds:
    """Seed time series of a run without events, in place of the conditions of a task.

    `table`: A column a seed, a row a volume; NaN in volumes that do not count.
    """

    table: pd.DataFrame
    source: str = "seeds"
    measured: pd.DataFrame | None = None

    @classmethod
    def of(cls, table: pd.DataFrame, source: str = "seeds") -> "Seeds":
        """Standardize each seed to mean 0 and SD 1 over the volumes that count.

        A constant seed becomes 0.

        `table`: time series, one seed a column; NaN in volumes that do not count. Standardized
        time series, with the measured ones.

        >>> Seeds.of(pd.DataFrame({"motor": [np.nan, 1.0, 3.0]})).table["motor"].tolist()
        [nan, -1.0, 1.0]
        """
        centered = table - table.mean()
        spread = table.std(ddof=0)
        return cls(centered / spread.where(spread > 0, 1.0), source, table)

    @property
    def conditions(self) -> list[str]:
        """Return names of the seeds, in the order of the table."""
        return [str(name) for name in self.table]

    def contrasts(self, chosen: Mapping[str, _Weights]) -> dict[str, _Weights]:
        """The contrasts that can be made: those whose seeds lie in the field of view."""
        there = set(self.conditions)
        return {name: weights for name, weights in chosen.items() if set(weights) <= there}

    def spans(self) -> dict[str, list[tuple[float, float]]]:
        """A seed has no events.

        Always an empty dictionary.
        """
        return {}

    def courses(self, times: Float) -> dict[str, Float]:
        """Return each seed's time series (T,), its own regressor; 0 in volumes left out."""
        if len(self.table) != len(times):
            raise DesignError(
                f"the seed time series have {len(self.table)} values, but the series has "
                f"{len(times)} volumes"
            )
        return {
            str(name): np.nan_to_num(self.table[name].to_numpy(dtype=np.float64))
            for name in self.table
        }

    def segments(
        self, tr: float, n_dummy: int, most: int | None = None
    ) -> list[tuple[str, tuple[float, float]]]:
        """Return seed and (start, length) in s of each segment; none if the run is too short.

        The segments are in order of time.

        `most`: number of pairs of seed and segment, exceeded only by `LEAST_SEGMENTS` segments;
        None: see `segment_count`.
        """
        n_seeds = len(self.table.columns)
        count = segment_count(len(self.table) - n_dummy, n_seeds, tr)
        if most is not None and count:
            count = min(count, max(LEAST_SEGMENTS, most // n_seeds // 2 * 2))
        edges = (
            np.linspace(n_dummy, len(self.table), count + 1).round() * tr if count else np.zeros(0)
        )
        spans = [(float(start), float(end - start)) for start, end in pairwise(edges)]
        return [(name, span) for span in spans for name in self.conditions]

    def write(self, path: Path) -> None:
        """Write what was measured as BIDS has it, seven digits."""
        measured = self.table if self.measured is None else self.measured
        measured.to_csv(
            path, sep="\t", index=False, na_rep="n/a", float_format="%.7g", lineterminator="\n"
        )


Regressors = Events | Seeds


def read_events(path: Path) -> Events:
    """Read an events file; DesignError where it cannot be modeled, see `Events.of`."""
    try:
        columns, rows = read_rows(path)
    except TABLE_ERRORS as error:
        raise DesignError(
            f"{path}: the events file cannot be read as a table ({error})"
        ) from error
    return Events.of(columns, rows, str(path), path.name)


def read_regressors(path: Path) -> Regressors:
    """Read seeds from a file with the suffix ``timeseries``, events from any other.

    Events of the task, or time series of seeds at rest.
    """
    if not str(path).endswith("_timeseries.tsv"):
        return read_events(path)
    return Seeds.of(read_frame(path).astype(np.float64), path.name)


_LOGGER = logging.getLogger(__name__)

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
        name: min(1.0, max(duration or _IMPULSE_S for _, duration in spans))
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
