"""Regressors of interest of a run: task events or, in runs without events, seed time series."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import pandas as pd

from bids_sr.engine.artifacts import ArtifactKind
from bids_sr.glm.contrasts import (
    MODULATION,
    REST_TYPES,
    UNNAMED,
    find_unmodulated_types,
    list_modeled_types,
    order_types,
    parse_seconds,
    read_modulation,
)
from bids_sr.glm.hemodynamic_response import HemodynamicResponse
from bids_sr.glm.seeds import MIN_SEGMENTS, segment_count
from bids_sr.glm.summed_types import find_summed_types
from bids_sr.io.arrays import Float
from bids_sr.io.atomic_files import write_text
from bids_sr.io.notices import InvalidInput
from bids_sr.io.tables import (
    TABLE_ERRORS,
    TableRow,
    is_missing,
    join_line,
    read_frame,
    read_rows,
)

_Weights = Mapping[str, float]
_TIME_COLUMNS = ("onset", "duration")
_COLUMNS = [*_TIME_COLUMNS, "trial_type"]


class DesignError(InvalidInput):
    """Error raised if a design cannot be built, or if a contrast is not estimable.

    The message names the condition or column.
    """


class TooManyColumns(DesignError):
    """Error raised if a design leaves no residual degrees of freedom.

    `excess` is the smallest reduction of the rank that leaves one degree of freedom.
    """

    def __init__(self, reason: str, excess: int) -> None:
        super().__init__(reason)
        self.excess = excess


class Trial(NamedTuple):
    """Modeled event: trial type, onset and duration (s), and amplitude."""

    condition: str
    onset: float
    duration: float
    modulation: float


@dataclass(frozen=True, slots=True, eq=False)
class Events:
    """Modeled events of a run, at least one.

    `table` has the columns onset (s), duration (s) and trial_type, and modulation (amplitude) if
    the events are not equally strong. `summed` are the types that are not modeled because they
    list the events of other types again, see `find_summed_types`, and `unmodulated` are types that
    are not modeled because all their events have modulation 0.
    """

    table: pd.DataFrame
    source: str = "events"
    summed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unmodulated: tuple[str, ...] = ()

    @classmethod
    def from_rows(
        cls,
        columns: Sequence[str],
        rows: Iterable[TableRow],
        file: Path | None = None,
        levels: Collection[str] = (),
    ) -> "Events":
        """Return the modeled events of a table of text.

        Rows of the trial types rest, baseline or fixation, rows without type, onset or duration,
        repeated events, types that only list the events of other types again, and types whose
        events all have modulation 0 are skipped. Without a column trial_type, all rows have the
        same type. The column modulation is used if it can be read, see `read_modulation`.

        `rows` are line numbers and cells. `file` is the file of the table; None for a table in
        memory. `levels` are the types in ``Levels`` of the table, see `list_modeled_types`. Raises
        `DesignError` if onset or duration is missing or not a number, or if no event remains.
        """
        source = "events" if file is None else file.name
        trials, modulation_cells = _read_trials(columns, rows, file, levels)
        types = [name for _, _, name in trials]
        amplitudes, _ = read_modulation(types, modulation_cells)
        # The effect of an event that is listed twice would be halved.
        if set(amplitudes) != {1.0}:
            # Types with the events of others and other amplitudes are not their sum.
            unmodulated = find_unmodulated_types(types, amplitudes)
            events = [
                (*trial, amplitude)
                for trial, amplitude in zip(trials, amplitudes, strict=True)
                if trial[2] not in unmodulated
            ]
            if not events:
                raise DesignError("all events have modulation 0", file=file or "")
            table = pd.DataFrame(list(dict.fromkeys(events)), columns=[*_COLUMNS, MODULATION])
            return cls(table, source, unmodulated=unmodulated)
        unique_trials = list(dict.fromkeys(trials))
        summed = find_summed_types(unique_trials)
        modeled_trials = [trial for trial in unique_trials if trial[2] not in summed]
        return cls(pd.DataFrame(modeled_trials, columns=_COLUMNS), source, summed)

    @classmethod
    def read(cls, path: Path) -> "Events":
        """Return the events in a file of `write`, named after the file."""
        names, rows = read_rows(path)
        table = pd.DataFrame([cells for _, cells in rows], columns=names)
        numbers = [name for name in names if name != "trial_type"]
        return cls(table.astype(dict.fromkeys(numbers, np.float64)), path.name)

    def write(self, folder: Path) -> Path:
        """Write the modeled events with all digits to a file with the name of their source."""
        rows = [list(self.table), *self.table.astype(object).values.tolist()]
        text = "".join(join_line(map(str, cells)) + "\n" for cells in rows)
        return write_text(folder / self.source, text)

    @property
    def conditions(self) -> list[str]:
        """Trial types in alphabetical order, see `order_types`."""
        return list(order_types(map(str, self.table["trial_type"].unique())))

    def without(self, types: Collection[str]) -> "Events":
        """Return the events of other trial types."""
        return replace(self, table=self.table[~self.table["trial_type"].isin(list(types))])

    def filter_contrasts(self, contrasts: Mapping[str, _Weights]) -> dict[str, _Weights]:
        """Return all contrasts; the plan has already removed contrasts that are not estimable."""
        return dict(contrasts)

    def trials(self) -> list[Trial]:
        """Return the events in the order of the table."""
        table = self.table
        columns = (table[name].tolist() for name in ("trial_type", *_TIME_COLUMNS))
        modulations = table[MODULATION].tolist() if MODULATION in table else [1.0] * len(table)
        return [
            Trial(str(name), float(onset), float(duration), float(modulation))
            for name, onset, duration, modulation in zip(*columns, modulations, strict=True)
        ]

    def spans(self) -> dict[str, list[tuple[float, float]]]:
        """Return onset and duration (s) of the events of each condition."""
        return {
            name: [(trial.onset, trial.duration) for trial in trials]
            for name, trials in self._group_trials().items()
        }

    def modulations(self) -> dict[str, Float]:
        """Return the amplitudes of the events of each condition, in the order of `spans`."""
        return {
            name: np.array([trial.modulation for trial in trials])
            for name, trials in self._group_trials().items()
        }

    def responses(self, times: Float, hrf: HemodynamicResponse) -> dict[str, Float]:
        """Return the response to each condition and its derivatives at given times (s).

        Events are weighted by their modulation, see `HemodynamicResponse.predict`. The response to
        events before the run is included, however early they are; it is 0 before an event begins.
        `times` ascend (T,). The main column of a condition precedes its derivatives (T, columns).
        """
        return {
            name: hrf.predict(
                [(trial.onset, trial.duration) for trial in trials],
                np.array([trial.modulation for trial in trials]),
                times,
            )
            for name, trials in self._group_trials().items()
        }

    def _group_trials(self) -> dict[str, list[Trial]]:
        """Return the events of each condition, in the order of the table."""
        trials = self.trials()
        names = order_types({trial.condition for trial in trials})
        trials_by_name: dict[str, list[Trial]] = {name: [] for name in names}
        for trial in trials:
            trials_by_name[trial.condition].append(trial)
        return trials_by_name


def _read_trials(
    columns: Sequence[str], rows: Iterable[TableRow], file: Path | None, levels: Collection[str]
) -> tuple[list[tuple[float, float, str]], list[str | None]]:
    """Return onset, duration (s) and trial type of modeled events, and cells of their modulation.

    The parameters and errors are as in `Events.from_rows`.
    """
    if missing_columns := [name for name in _TIME_COLUMNS if name not in columns]:
        raise DesignError(
            f"the events table lacks required columns: {', '.join(missing_columns)}. It contains"
            f" the columns {', '.join(map(str, columns))}",
            file=file or "",
        )
    trials: list[tuple[float, float, str]] = []
    modulation_cells: list[str | None] = []
    for line, row in rows:
        time_cells = [row[name] or "" for name in _TIME_COLUMNS]
        trial_types = list_modeled_types([row.get("trial_type", UNNAMED)], levels)
        if not trial_types or any(map(is_missing, time_cells)):
            continue
        onset, duration = (
            _parse_time(cell, f"the {name} in line {line}", file)
            for name, cell in zip(_TIME_COLUMNS, time_cells, strict=True)
        )
        trials.append((onset, duration, trial_types[0]))
        modulation_cells.append(row.get(MODULATION))
    if not trials:
        raise DesignError(
            "the events table contains no events that can be modeled. Rows without trial type,"
            " onset or duration and rows of the trial types"
            f" {', '.join(sorted(REST_TYPES))} are not modeled",
            file=file or "",
        )
    return trials, modulation_cells


def _parse_time(cell: str, place: str, file: Path | None) -> float:
    """Return the time in a cell (s).

    Raises `DesignError` about a place in a file if the cell is not a number.
    """
    seconds = parse_seconds(cell)
    if seconds is None:
        raise DesignError(f"{place} is not a number, but {cell!r}", file=file or "")
    return seconds


@dataclass(frozen=True, slots=True, eq=False)
class Seeds:
    """Seed time series of a run without events, in place of the conditions of a task.

    `table` has one column per seed and one row per volume; NaN in volumes that are not used.
    `measured` are the time series before standardization.
    """

    table: pd.DataFrame
    source: str = "seeds"
    measured: pd.DataFrame | None = None

    @classmethod
    def standardize(cls, table: pd.DataFrame, source: str = "seeds") -> "Seeds":
        """Standardize each seed to mean 0 and SD 1 over the volumes that are used.

        Constant seeds become 0. `table` has one seed per column; NaN in volumes that are not used.

        >>> Seeds.standardize(pd.DataFrame({"motor": [np.nan, 1.0, 3.0]})).table["motor"].tolist()
        [nan, -1.0, 1.0]
        """
        centered = table - table.mean()
        sd = table.std(ddof=0)
        return cls(centered / sd.where(sd > 0, 1.0), source, table)

    @property
    def conditions(self) -> list[str]:
        """Names of the seeds, in the order of the table."""
        return [str(name) for name in self.table]

    def filter_contrasts(self, contrasts: Mapping[str, _Weights]) -> dict[str, _Weights]:
        """Return the contrasts whose seeds are in the field of view."""
        seeds = set(self.conditions)
        return {name: weights for name, weights in contrasts.items() if set(weights) <= seeds}

    def spans(self) -> dict[str, list[tuple[float, float]]]:
        """Return an empty dictionary, because seeds have no events."""
        return {}

    def modulations(self) -> dict[str, Float]:
        """Return an empty dictionary, because seeds have no events."""
        return {}

    def time_series(self, times: Float) -> dict[str, Float]:
        """Return the time series (T,) of each seed, with 0 in volumes that are not used."""
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
        self, tr: float, n_dummy: int, max_pairs: int | None = None
    ) -> list[tuple[str, tuple[float, float]]]:
        """Return seed, start and length (s) of each segment in order of time.

        The list is empty if the run is too short. `max_pairs` limits the number of pairs of seed
        and segment, unless fewer than `MIN_SEGMENTS` segments would remain; None for the
        default of `segment_count`.
        """
        n_seeds = len(self.table.columns)
        n_segments = segment_count(len(self.table) - n_dummy, n_seeds, tr)
        if max_pairs is not None and n_segments:
            n_segments = min(n_segments, max(MIN_SEGMENTS, max_pairs // n_seeds // 2 * 2))
        if not n_segments:
            return []
        edges = np.linspace(n_dummy, len(self.table), n_segments + 1).round() * tr
        spans = [(float(start), float(end - start)) for start, end in pairwise(edges)]
        return [(name, span) for span in spans for name in self.conditions]

    def write(self, path: Path) -> None:
        """Write the measured time series as a BIDS table with seven digits."""
        measured = self.table if self.measured is None else self.measured
        measured.to_csv(
            path, sep="\t", index=False, na_rep="n/a", float_format="%.7g", lineterminator="\n"
        )


class _RegressorsKind(ArtifactKind[Events | Seeds]):
    """Modeled events of a task, or time series of seeds.

    Seeds are in a file with the suffix ``timeseries``, and events in a file of `Events.write`.
    """

    is_light, stored_extension = True, ".tsv"

    def load(self, path: Path) -> Events | Seeds:
        if not str(path).endswith("_timeseries.tsv"):
            return Events.read(path)
        return Seeds.standardize(read_frame(path).astype(np.float64), path.name)

    def save(self, value: Events | Seeds, stem: Path) -> Path:
        if isinstance(value, Events):
            return value.write(stem.parent)
        value.write(path := stem.with_name(f"{stem.name}_timeseries.tsv"))
        return path


Regressors = Annotated[Events | Seeds, _RegressorsKind()]


def read_events(path: Path, levels: Collection[str] = ()) -> Events:
    """Read an events table of a data set, see `Events.from_rows` for `levels`.

    Raises `DesignError` if the events cannot be modeled.
    """
    try:
        columns, rows = read_rows(path)
    except TABLE_ERRORS as error:
        raise DesignError(
            f"the events file cannot be read as a table ({error})", file=path
        ) from error
    return Events.from_rows(columns, rows, path, levels)
