"""Find the participants' outputs for a group analysis: tables, maps and transforms.

The transforms are those from each run to the template.

Metrics of all participants as one data frame, with the runs of each participant combined.

The participant is thus the unit of the tests.

Runs are combined as fixed effects: by inverse variance where every run's value has an interval,
else by their mean.
"""

import json
import math
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pandas as pd

from bids_sr import metrics
from bids_sr.bids import entities_of
from bids_sr.bids.inputs import ENTITIES, label_of
from bids_sr.boilerplate import data_of
from bids_sr.evaluation.evidence import APPLIED, derives_from
from bids_sr.evaluation.verdict import COMPARED
from bids_sr.frozen import frozen
from bids_sr.group.equal_contrasts import unequal_contrasts
from bids_sr.io.grids import Float
from bids_sr.metrics import COLUMNS, MISSING, STATISTICS
from bids_sr.series import parse_map_label
from bids_sr.sr.method import offered_methods

TABLES = ("image", "activation", "evaluation")
RUN: Mapping[str, Mapping[str, object]] = data_of("columns.json")["runs"]
COLUMN_TEXT = {**RUN, **COLUMNS}
QUESTION = [
    "task",
    "variant",
    "table",
    "statistic",
    "band",
    "reference",
    "region",
    "threshold",
    "contrast",
    "fwhm_mm",
]
"""What was measured, apart from the series and the participant."""
_TOLD = {APPLIED: 0.0, **dict.fromkeys((f"flag_{name}" for name in metrics.FLAGS), 1.0)}
"""Values of what is told and not compared: a method not applied, a flag that is raised."""
_Key = tuple[str | float, ...]  # of `QUESTION` and the series
_Line = tuple[str, str, _Key | None]  # series, statistic; the key of what is compared


class TableError(ValueError):
    """A participant's table that cannot be joined.

    It has other columns than it should, or a value that is not a number.
    """


@frozen
class Joined:
    """What the tables of all participants hold together.

    `values`: what is compared, runs combined: columns `QUESTION` and series, then one for each
    participant (NaN: no value; infinite: not defined). `told`: columns task, name (the run as
    text), series, statistic: flags that are raised, and methods that were not applied (`APPLIED`),
    which are not compared there. `methods`: those under test, then series of other programs.
    """

    values: pd.DataFrame
    told: pd.DataFrame
    series: pd.DataFrame
    statistics: tuple[str, ...]
    methods: tuple[str, ...]


def join_tables(tables: pd.DataFrame, stream: TextIO) -> Joined:
    """Write all tables as one long table, and combine the compared metrics.

    Each table is read once, and only those of one run are in memory at a time.

    `tables`: as `bids_sr.group.group_values.find_tables` gives them. `TableError`: A table cannot
    be joined.
    """
    people = tables["participant"].unique()
    values: dict[_Key, Float] = defaultdict(lambda: np.full(len(people), np.nan))
    # tables differ in little but their numbers, so that what each line is about is parsed once
    known: dict[tuple[str, ...], dict[str, _Line]] = defaultdict(dict)
    notices, there = [], []
    stream.write("\t".join(COLUMN_TEXT) + "\n")
    for who, (_, rows_of) in enumerate(groupby(tables.itertuples(), attrgetter("participant"))):
        by_key: dict[_Key, list[tuple[float, float]]] = defaultdict(list)
        for name, of_run in groupby(rows_of, attrgetter("name")):
            sources = list(of_run)
            rows = [row for each in sources for row in _rows(each, stream, known)]
            series = list(dict.fromkeys(line[0] for line, _, _ in rows))
            there += [(name, each) for each in series]
            raised = [line for line, value, _ in rows if value == _TOLD.get(line[1])]
            notices += [(sources[0].task, name, *line[:2]) for line in raised]
            idle = [line[0] for line in raised if line[1] == APPLIED]
            left_out = {each for each in series if derives_from(each, idle)}
            # two seeds are no two conditions, and the paper's regions are no match
            at_rest = any(each.at_rest for each in sources)
            for (whose, _, key), value, width in rows:
                if key and whose not in left_out and not (at_rest and "quarter" in key):
                    by_key[key].append((value, width))
        for key, of_runs in by_key.items():
            values[key][who] = _combined(of_runs)
    lines = [line for own in known.values() for line in own.values()]
    methods = [name for name in offered_methods() if name in {line[0] for line in lines}]
    return Joined(
        values=pd.concat(
            [
                pd.DataFrame(list(values), columns=[*QUESTION, "series"]),
                pd.DataFrame(np.reshape(list(values.values()), (-1, len(people))), columns=people),
            ],
            axis=1,
        ),
        told=pd.DataFrame(notices, columns=["task", "name", "series", "statistic"]),
        series=pd.DataFrame(there, columns=["name", "series"]),
        statistics=tuple(sorted({line[1] for line in lines} & set(STATISTICS))),
        methods=(*methods, *sorted({line[0] for line in lines if line[1] == COMPARED})),
    )


def _rows(
    source: Any, stream: TextIO, known: dict[tuple[str, ...], dict[str, _Line]]
) -> Iterator[tuple[_Line, float, float]]:
    """Write a table, and return of each line what it is about, the value and its interval's width.

    Raise TableError where it has other columns.
    """
    try:
        head, *lines = source.path.read_text(encoding="utf-8").splitlines()
        if head.split("\t") != list(COLUMNS):
            raise ValueError(f"the columns are {head!r}; expected {' '.join(COLUMNS)}")
        if source.unequal:
            contrast = list(COLUMNS).index("contrast")
            lines = [line for line in lines if line.split("\t")[contrast] not in source.unequal]
        place = (source.task, source.variant, source.table)
        run = "\t".join(getattr(source, name) for name in RUN)
        stream.writelines(f"{run}\t{line}\n" for line in lines)
        of_table = known[place]
        for line in lines:
            about, value, *ends, _, _ = line.rsplit("\t", 5)
            if about not in of_table:
                of_table[about] = _line(about, place)
            lower, upper = map(_number, ends)
            yield of_table[about], _number(value), upper - lower
    except ValueError as error:
        raise TableError(f"{source.path}: {error}") from error


def _line(about: str, place: tuple[str, ...]) -> _Line:
    """Take apart what a line says before its value; `place` is task, variant and table."""
    series, minus, name, *others, fwhm = about.split("\t")
    key: _Key = (*place, name, *others, float(fwhm), series)
    if len(key) <= len(QUESTION):
        raise ValueError(f"at least one line has fewer than {len(COLUMNS)} cells")
    tested = minus == MISSING and name in STATISTICS and STATISTICS[name].better is not None
    return series, name, key if tested else None


def _number(cell: str) -> float:
    return math.nan if cell == MISSING else float(cell)


def _combined(runs: Sequence[tuple[float, float]]) -> float:
    """Combine the values of runs, each with the width of its interval, as fixed effects.

    It is infinite where the value is defined in no run.
    """
    known = [(value, width) for value, width in runs if not math.isnan(value)]
    if len(known) < 2:
        return known[0][0] if known else math.inf
    sure = all(width > 0 for _, width in known)
    weights = [1 / width**2 if sure else 1.0 for _, width in known]
    total = sum(weight * value for weight, (value, _) in zip(weights, known, strict=True))
    return total / sum(weights)


def of_people(values: pd.DataFrame) -> pd.DataFrame:
    """Return the numbers of a frame as `Joined.values`: a column for each participant.

    The same rows; NaN where there is no value, infinite where it is not defined.
    """
    return values.drop(columns=[*QUESTION, "series"])


def wide(values: pd.DataFrame) -> pd.DataFrame:
    """Return the values of one question, participants by series, for those who have any.

    Table with a row for each participant and a column for each series; NaN where there is no
    value, infinite where it is not defined.
    """
    return of_people(values).set_axis(list(values["series"])).T.dropna(how="all")


def of_question(values: pd.DataFrame, question: pd.Series) -> pd.DataFrame:
    """The rows of a frame that are about one question.

    `question`: cells of the columns `QUESTION`, maybe among others.
    """
    return values[np.logical_and.reduce([values[name] == question[name] for name in QUESTION])]


_Wanted = Callable[[Mapping[str, str]], bool]
"""Told the entities of a file (long names of pybids), whether its run takes part."""
MapKey = tuple[str, str, float, str]
"""Contrast, series, FWHM (mm), statistic."""
_SHORT = {long: short for short, long in ENTITIES.items()}
_OF_FILES = ("echo", "part", "space", "cohort", "res", "contrast", "stat", "label", "desc")
_PLACE = ("subject", "session", "task", "run")
_LISTED = 6  # files of an odd version in a message


def _run_name(entities: Mapping[str, str]) -> str:
    """Start of the names of all files of a run, whose echoes and parts are one."""
    return "_".join(
        f"{_SHORT.get(key, key)}-{label}"
        for key, label in entities.items()
        if key not in _OF_FILES
    )


def _run_text(columns: pd.DataFrame) -> pd.Series:
    """The runs of a table of them as text."""
    text = columns["participant"]
    for start, name in (
        (" ses-", "session"),
        (" task-", "task"),
        (" run-", "run"),
        (" ", "variant"),
    ):
        text = text + (start + columns[name]).where(columns[name] != MISSING, "")
    return text


def _run_columns(entities: Mapping[str, str]) -> dict[str, str]:
    others = {key: label for key, label in entities.items() if key not in _PLACE}
    return {
        "participant": f"sub-{entities['subject']}",
        **{name: entities.get(name, MISSING) for name in _PLACE[1:]},
        "variant": _run_name(others) or MISSING,
    }


def _scan(entities: Mapping[str, str]) -> frozenset[tuple[str, str]]:
    """Entities of a run, apart from how its number is written."""
    return frozenset((key, label_of(entities, key)) for key in entities if key not in _OF_FILES)


def _func_files(output_dir: Path, ending: str) -> Iterator[tuple[Path, list[str]]]:
    """Return the ``func`` folders of all participants, each with the names that end so.

    Matching paths by pattern takes many times as long.
    """
    for participant in output_dir.glob("sub-*"):
        for place, _, names in os.walk(participant):
            if os.path.basename(place) == "func":
                yield Path(place), sorted(name for name in names if name.endswith(ending))


def find_tables(output_dir: Path, asked: _Wanted = lambda _: True) -> pd.DataFrame:
    """Find all metrics tables of participants in a derivatives folder, in the order of their runs.

    A row each: participant, session, task, run and variant as in the group's table, their text
    (``name``), path, table, version and digest of the settings (empty if not recorded), whether
    seeds took the place of events (``at_rest``), weights of the trial types by contrast, and the
    contrasts that are left out because their weights differ from most participants' (``unequal``).
    """
    rows = []
    folders = _func_files(output_dir, "_metrics.tsv")
    for path in (folder / name for folder, names in folders for name in names):
        entities = entities_of(path)
        if entities.get("desc") in TABLES and asked(entities):
            beside = path.with_suffix(".json")
            facts = json.loads(beside.read_text(encoding="utf-8")) if beside.exists() else {}
            rows.append(
                {
                    **_run_columns(entities),
                    "table": entities["desc"],
                    "path": path,
                    "version": str(facts.get("GeneratedByVersion", "")),
                    "digest": str(facts.get("SettingsDigest", "")),
                    "at_rest": facts.get("MappedBy") == "seeds",
                    "weights": facts.get("ContrastWeights", {}),
                    "stem": _run_name(entities),
                    "scan": _scan(entities),
                }
            )
    if not rows:
        return pd.DataFrame()
    table = pd.DataFrame(rows)
    table["table"] = pd.Categorical(table["table"], categories=TABLES, ordered=True)
    table = table.sort_values(
        ["participant", "session", "task", "run", "variant", "table"], ignore_index=True
    )
    table = table.assign(name=_run_text(table))
    unequal = unequal_contrasts(table)
    return table.assign(unequal=[unequal.get(name, frozenset()) for name in table["name"]])


def mixed(tables: pd.DataFrame) -> list[str]:
    """Return the reasons why tables cannot be joined.

    The reasons are other versions or settings, named with their files. The list is empty if there
    are none.

    The most frequent is taken for the rule and the files that differ from it are listed.

    One line for each version or settings; empty where they agree.
    """
    lines = []
    for what, key in (("bids-sr version", "version"), ("settings", "digest")):
        counts = tables[key].value_counts()
        rule, *others = sorted(counts.index, key=lambda value: (-counts[value], value))
        for value in [rule, *others] if others else []:
            paths = [str(path) for path in tables["path"][tables[key] == value]]
            if value == rule:
                where = f"{len(paths)} tables (for example, {paths[0]})"
            else:
                more = f" and {len(paths) - _LISTED} other tables" if len(paths) > _LISTED else ""
                where = ", ".join(paths[:_LISTED]) + more
            lines.append(f"{what}: {value or 'not recorded'} in {where}")
    return lines


def absent(expected: Iterable[str], tables: pd.DataFrame) -> list[tuple[str, str]]:
    """Return the participants and runs that are missing.

    These are participants (``sub-…``) without any table, and runs without one that others have.

    Each as what logs call whom it is about (nobody: empty), and in words.
    """
    lines = [
        (label, f"{label}: no metrics tables were found for this participant")
        for label in sorted(set(expected) - set(tables["participant"]))
    ]
    for _, of_task in tables.groupby("task", sort=False):
        there = set(of_task["table"])
        for (name, who), own in of_task.groupby(["name", "participant"], sort=False)["table"]:
            if lacking := sorted(there.difference(own), key=TABLES.index):
                lines.append(
                    (
                        who,
                        f"{name}: no table with {' or '.join(lacking)} metrics was found for "
                        "this run",
                    )
                )
    nowhere = [name for name in TABLES[1:] if not (tables["table"] == name).any()]
    return [
        *lines,
        *(("", f"no table with {name} metrics was found for any run") for name in nowhere),
    ]


def absent_runs(runs: Iterable[Mapping[str, str]], tables: pd.DataFrame) -> list[tuple[str, str]]:
    """Return runs without a table of the included participants, in the form of `absent`.

    The runs are found by their entities.
    """
    people, known = set(tables["participant"]), set(tables["scan"])
    why = (
        "no metrics table was found, because the run was skipped or not processed, or is a "
        "calibration or reference run"
    )
    lacking = [
        run for run in runs if f"sub-{run['subject']}" in people and _scan(run) not in known
    ]
    return [(name, f"{name}: {why}") for name in dict.fromkeys(map(_run_name, lacking))]


@frozen
class RunMaps:
    """The maps of one run.

    `task`, `variant`: label of the task, and entities besides session, task and run; n/a for none.
    `maps`: by space of a template (empty: that of the boldref) and key, the name of a map without
    the participant, as many runs share it. `mask`, `boldref`: on the acquired grid. `boldref2t1w`:
    ITK file that takes a T1w point to its boldref point, or None. `t1w2std`: file that takes a
    template point to its T1w point, by space.
    """

    participant: str
    task: str
    variant: str
    name: str
    folder: Path
    maps: Mapping[str, Mapping[MapKey, str]]
    mask: Path | None
    boldref: Path | None
    boldref2t1w: Path | None
    t1w2std: Mapping[str, Path]

    def map_file(self, key: MapKey, space: str = "") -> Path | None:
        """Return the file of a map, or None.

        `key`: contrast, series, FWHM (mm) and statistic. `space`: name of a template; empty for
        the space of the boldref.
        """
        ending = self.maps.get(space, {}).get(key)
        return None if ending is None else self.folder / f"{self.participant}{ending}"

    def map_keys(self) -> set[MapKey]:
        """Return the keys of all its maps, in any space.

        Contrast, series, FWHM (mm) and statistic of each.
        """
        return {key for own in self.maps.values() for key in own}

    def without(self, contrasts: Collection[str]) -> "RunMaps":
        """Return the run without the maps of some contrasts."""
        maps = {
            space: {key: name for key, name in of_space.items() if key[0] not in contrasts}
            for space, of_space in self.maps.items()
        }
        return replace(self, maps=maps)

    def reaches(self, space: str) -> bool:
        """Whether the maps can be had in a template's space, and their scale is known.

        `space`: name of the template as in TemplateFlow, cohort after a plus sign. False also
        where the brain mask or boldref is missing.
        """
        by_transform = self.boldref2t1w is not None and space in self.t1w2std
        return (
            self.mask is not None
            and self.boldref is not None
            and (by_transform or space in self.maps)
        )


def find_runs(output_dir: Path, asked: _Wanted = lambda _: True) -> list[RunMaps]:
    """Find runs with effect maps in a derivatives folder, sorted by name.

    The parameters are those of `find_tables`.
    """
    runs = []
    for folder, names in _func_files(output_dir, "_statmap.nii.gz"):
        whose = names[0].partition("_")[0] if names else ""
        endings = tuple(name.removeprefix(whose) for name in names)
        for run, maps in _maps_named(endings).items():
            stem = folder / f"{whose}_{run}"
            if asked(entities := entities_of(stem.with_name(f"{stem.name}_statmap"))):
                runs.append(_run(stem, maps, _run_columns(entities)))
    return sorted(runs, key=lambda run: run.name)


@lru_cache(maxsize=1024)
def _maps_named(endings: tuple[str, ...]) -> Mapping[str, Mapping[str, Mapping[MapKey, str]]]:
    """Maps by run, space and key, from the names of a folder without their participant.

    Participants have the same names but for their label, so that thousands share one answer.
    """
    by_run: dict[str, dict[str, dict[MapKey, str]]] = defaultdict(lambda: defaultdict(dict))
    for ending in endings:
        entities = entities_of(Path(ending))
        # which is of one head alone
        if entities["stat"] in ("effect", "t") and entities.get("space") != "T1w":
            space = "+".join(entities[key] for key in ("space", "cohort") if key in entities)
            label = parse_map_label(entities["desc"])
            key = (entities["contrast"], label.series, label.fwhm_mm, entities["stat"])
            by_run[_run_name(entities)][space][key] = ending
    return {run: dict(spaces) for run, spaces in by_run.items()}


def _run(
    stem: Path, maps: Mapping[str, Mapping[MapKey, str]], columns: Mapping[str, str]
) -> RunMaps:
    mask, before, boldref, coreg = (
        path if (path := stem.with_name(f"{stem.name}_{name}")).exists() else None
        for name in (
            "desc-rawBrain_mask.nii.gz",
            "desc-brain_mask.nii.gz",
            "desc-hmc_boldref.nii.gz",
            "from-boldref_to-T1w_mode-image_desc-coreg_xfm.txt",
        )
    )
    subject = next(parent for parent in stem.parents if parent.name == columns["participant"])
    return RunMaps(
        participant=columns["participant"],
        task=columns["task"],
        variant=columns["variant"],
        name=stem.name,
        folder=stem.parent,
        maps=maps,
        mask=mask or before,
        boldref=boldref,
        boldref2t1w=coreg,
        t1w2std=_normalizations(subject, stem.parent.parent),
    )


def _normalizations(subject: Path, session: Path) -> dict[str, Path]:
    """Return transforms to templates by space.

    Those of the run's own session come first, then those of no session.
    """
    transforms: dict[str, Path] = {}
    folders = [session / "anat", subject / "anat", *sorted(subject.glob("ses-*/anat"))]
    for path in (path for folder in folders for path in sorted(folder.glob("*_xfm.h5"))):
        entities = entities_of(path)
        if (entities.get("from"), entities.get("mode")) == ("T1w", "image"):
            transforms.setdefault(entities["to"], path)
    return transforms


def common_space(runs: Sequence[RunMaps]) -> str | None:
    """Return the space available for most participants, or None.

    Of several, the first by name is taken. None means that no participant has any.
    """
    reached = Counter(
        space
        for _, space in {
            (run.participant, space)
            for run in runs
            for space in {*run.t1w2std, *run.maps} - {""}
            if run.reaches(space)
        }
    )
    return min(reached, key=lambda space: (-reached[space], space)) if reached else None


def first_smoothing(runs: Sequence[RunMaps]) -> float | None:
    """Return the smallest nonzero smoothing (mm) of the maps.

    It is 0 where the maps have no other, and None without maps.
    """
    widths = {key[2] for run in runs for key in run.map_keys()}
    above = [width for width in widths if width > 0]
    return min(above) if above else min(widths, default=None)
