"""The group level: from tables and maps in the output folder to statistics and one page.

Of ``bids_dir``, only the names of participants and runs are read.
"""

import logging
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bids_sr.bids import entities_of
from bids_sr.bids.query import some
from bids_sr.cli import structural_group
from bids_sr.cli.structural_group import ScansGroup
from bids_sr.config import Settings, UsageError
from bids_sr.config.superres import SuperRes
from bids_sr.frozen import frozen
from bids_sr.group.equal_contrasts import unequal_lines
from bids_sr.group.input_maps import FoundMaps, find_maps, without_contrasts
from bids_sr.group.input_tables import absent, absent_runs, find_tables, mixed
from bids_sr.io.tables import column
from bids_sr.notices import failed_steps
from bids_sr.series import BASELINES, MEASURED, RAW
from bids_sr.sr.method import offered_methods
from bids_sr.version import __version__

if TYPE_CHECKING:
    import pandas as pd

    from bids_sr.execution.execute import RunOutcome

_LOGGER = logging.getLogger(__name__)
_READ = ("evaluation.margin", "evaluation.group_permutations", "resources.random_seed")
"""Decisive settings of the group level."""
_RUN_PARTICIPANTS = "run the participant level first (not all participants need to be finished)"


@frozen
class _Group:
    """Inputs of the group level: metrics tables, maps of requested runs, and who is missing."""

    tables: "pd.DataFrame"  # as of `find_tables`
    maps: FoundMaps
    participants: tuple[str, ...]  # of whom there are tables
    absent: tuple[str, ...]


def prepare(settings: Settings) -> _Group | ScansGroup:
    """Find the tables of the group level, of functional runs or of structural scans.

    Raises `UsageError` for none, for one participant, or for tables of other versions or settings.
    """
    output_dir, bids_dir = settings.paths.output_dir, settings.paths.bids_dir
    if not bids_dir.is_dir():
        raise UsageError(
            f"{bids_dir} is not a directory",
            "the list of participants in the BIDS dataset is needed to identify missing"
            " participants",
            "check the path",
        )
    _refuse_of_others(settings)
    chosen = _chooser(settings)
    if structural_group.is_structural(settings):
        return structural_group.prepare(settings, chosen, _expected_participants(settings))
    tables = find_tables(output_dir, chosen)
    if tables.empty:
        why = (
            "the group level combines the metrics tables that are written at the participant level"
        )
        if not (others := find_tables(output_dir, lambda _: True)).empty:
            there = some([*dict.fromkeys(others["name"])], 5)
            what = (
                f"{output_dir} contains no metrics tables for the requested participants and runs"
            )
            raise UsageError(
                what,
                f"metrics tables are available for {there}",
                "check the participant, session, task and run filters of the command",
            )
        raise UsageError(f"{output_dir} contains no metrics tables", why, _RUN_PARTICIPANTS)
    if lines := mixed(tables):
        what = "\n  ".join(
            ["metrics from different versions or settings cannot be combined", *lines]
        )
        why = (
            "; ".join(_what_differs(set(tables["digest"]), output_dir))
            or "the values in these tables are not comparable"
        )
        fix = (
            "rerun the participant level for these participants with the same version and"
            " settings (--force does not override this check)"
        )
        raise UsageError(what, why, fix)
    people = tuple(tables["participant"].unique())
    expected = _expected_participants(settings)
    missing = absent(expected, tables) + absent_runs(_expected_runs(bids_dir, chosen), tables)
    if not expected:
        missing.append(
            (
                "",
                f"missing participants cannot be identified because {bids_dir} does not list"
                " any participants",
            )
        )
    if len(people) < 2:
        what = "\n  ".join(
            [
                f"the group level found only one participant ({people[0]})",
                *(line for _, line in missing),
            ]
        )
        why = "group statistics require at least two participants"
        raise UsageError(what, why, "run the participant level for more participants")
    missing += unequal_lines(tables)
    unequal = dict(zip(tables["stem"], tables["unequal"], strict=True))
    return _Group(
        tables=tables,
        maps=without_contrasts(output_dir, find_maps(output_dir, chosen), unequal),
        participants=people,
        absent=tuple(_with_crashes(missing, output_dir)),
    )


def _refuse_of_others(settings: Settings) -> None:
    """Raise `UsageError` where the output directory says that it is another's."""
    from bids_sr.bids.findings import Findings
    from bids_sr.preflight.directories import check_owner

    findings = Findings()
    if (settings.paths.output_dir / "dataset_description.json").exists():
        check_owner(settings, findings)
    for problem in findings.problems:
        raise UsageError(problem.what, problem.why, "specify the output directory of this dataset")


def _chooser(settings: Settings) -> Callable[[Mapping[str, str]], bool]:
    """Whether a run, told by its entities, was asked for."""
    asked = settings.selection
    labels = {
        "subject": asked.participant_label,
        "session": asked.session_label,
        "task": asked.task_id,
    }

    def chosen(entities: Mapping[str, str]) -> bool:
        run = entities.get("run", "")
        numbered = not asked.run_id or (run.isdecimal() and int(run) in asked.run_id)
        return numbered and all(
            not wanted or entities.get(key) in wanted for key, wanted in labels.items()
        )

    return chosen


def _expected_participants(settings: Settings) -> list[str]:
    """Return the participants expected in the group.

    These are the requested ones, else those of ``participants.tsv`` and the folders of the data
    set.
    """
    if settings.selection.participant_label:
        return [f"sub-{label}" for label in settings.selection.participant_label]
    bids_dir = settings.paths.bids_dir
    labels = {path.name for path in bids_dir.glob("sub-*") if path.is_dir()}
    listing = bids_dir / "participants.tsv"
    if listing.exists():
        names = (name.strip() for name in column(listing, "participant_id"))
        labels |= {f"sub-{name.removeprefix('sub-')}" for name in names if name}
    return sorted(labels)


def _expected_runs(
    bids_dir: Path, chosen: Callable[[Mapping[str, str]], bool]
) -> list[dict[str, str]]:
    """Runs of the data set that were asked for, by the entities of their series."""
    paths = (
        path
        for folder in ("sub-*/func", "sub-*/ses-*/func")
        for path in bids_dir.glob(f"{folder}/*_bold.nii*")
    )
    return [entities for entities in map(entities_of, sorted(paths)) if chosen(entities)]


def _what_differs(digests: Collection[str], output_dir: Path) -> list[str]:
    """Settings in which the runs that made the tables differ, as far as their logs tell."""
    from bids_sr.config.settings import analysis_digest, differing

    known: dict[str, Settings] = {}
    for path in sorted(output_dir.glob("logs/*/settings.toml")):
        try:
            settings = Settings.from_toml(path)
        except UsageError as error:
            _LOGGER.info("The settings of an earlier run could not be read: %s", error)
        else:
            known.setdefault(analysis_digest(settings), settings)
    earlier = [settings for digest, settings in known.items() if digest in digests]
    return [
        f"{name}: {values}"
        for other in earlier[1:]
        for name, values in differing(earlier[0], other).items()
    ]


def _with_crashes(absent: Sequence[tuple[str, str]], output_dir: Path) -> list[str]:
    """The lines of who is missing, with the steps that failed where a record names some."""
    steps = [each for own in failed_steps(output_dir / "logs").values() for each in own]
    lines = []
    for whose, line in absent:
        failed = dict.fromkeys(
            each.what
            for each in steps
            if whose and (whose == f"sub-{each.subject}" or f"{each.run}_".startswith(f"{whose}_"))
        )
        lines.append(f"{line}; crashed steps: {', '.join(failed)}" if failed else line)
    return lines


def plan_text(prepared: _Group | ScansGroup) -> str:
    """Return what would be joined, and who is missing."""
    if isinstance(prepared, ScansGroup):
        return structural_group.plan_text(prepared)
    lines = [
        f"Found {len(prepared.tables)} metrics tables for {len(prepared.participants)}"
        " participants"
    ]
    return "\n".join([*lines, *(f"missing: {line}" for line in prepared.absent)])


def _maps_not_stored(series: Sequence[str], maps: FoundMaps) -> list[str]:
    """What participants have tables of and nobody a map, and the level that stores maps."""
    stored = {key[1] for run in (*maps.runs, *maps.combined) for key in run.map_keys()}
    if not stored:
        return [
            "Group maps cannot be computed because no t maps and effect maps are stored."
            " Run the participant level with --activation glm and --level standard or full."
        ]
    lacking = [name for name in series if name not in stored]
    text = (
        f"Group maps cannot be computed for {', '.join(lacking)} because the participant"
        " level stores maps of these series only with --level full."
    )
    return [text] if lacking else []


def _without_effect(settings: Settings) -> list[str]:
    """Settings that differ from their defaults and that the group level does not read."""
    from bids_sr.config.settings import differing

    plain = Settings(paths=settings.paths, selection=settings.selection)
    return [name for name in differing(plain, settings) if name not in _READ]


def run_group(
    settings: Settings, group: _Group | ScansGroup, say: Callable[[str], None]
) -> "RunOutcome":
    """Join, test and map the metrics, and write the group results; `say` prints one line.

    The results are ``group_metrics``, ``group_stats`` and ``group.html``; of structural scans
    ``group_scans_*`` and ``group_scans.html``.
    """
    if isinstance(group, ScansGroup):
        return structural_group.run_structural_group(settings, group, say)
    import multiprocessing
    from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor

    from bids_sr.execution.execute import RunOutcome
    from bids_sr.group.comparisons import primary_method
    from bids_sr.group.maps import CHUNK, LEAST_PARTICIPANTS, group_maps
    from bids_sr.group.report import GroupContent, build_group_report
    from bids_sr.group.tables import write_tables
    from bids_sr.group.values import TableError
    from bids_sr.report.index_page import write_index

    output_dir, margin = settings.paths.output_dir, settings.evaluation.margin
    if idle := _without_effect(settings):
        say(f"These settings have no effect at the group level: {', '.join(idle)}")
    for line in group.absent:
        say(f"missing: {line}")
    say(
        f"Combining {len(group.tables)} metrics tables from {len(group.participants)} participants"
    )
    # fixed beforehand: of the methods that run unless others are named, the last
    default = SuperRes().learned[-1]
    series = (RAW, *BASELINES, *offered_methods(), MEASURED)
    processes = settings.resources.nprocs or 1
    pool: Executor = (
        ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn"))
        if processes > 1 and len(group.participants) > CHUNK
        else ThreadPoolExecutor(1)  # does one after the other
    )
    with pool:
        tables = pool.submit(write_tables, output_dir, group.tables, method=default, margin=margin)
        maps = group_maps(
            group.maps,
            output_dir,
            series=series,
            say=say,
            pool=pool,
            flips=settings.evaluation.group_permutations,
            seed=settings.resources.random_seed,
            threads=processes,
        )
        try:
            joined, comparisons = tables.result()
        except TableError as error:
            raise UsageError(
                str(error),
                "the table was written by another version of bids-sr",
                "rerun the participant level for this participant",
            ) from error
    present = set(joined.series["series"])
    enough = len(group.participants) >= LEAST_PARTICIPANTS
    named = [name for name in series if name in present]
    unstored = _maps_not_stored(named, group.maps) if enough else []
    for line in unstored:
        say(line)
    say("Writing the group report")
    content = GroupContent(
        tables=group.tables,
        absent=group.absent,
        joined=joined,
        comparisons=comparisons,
        maps=replace(maps, left_out=(*maps.left_out, *unstored)),
        method=primary_method(default, joined.methods),
        margin=margin,
        about={
            "bids-sr version": __version__,
            "Run": settings.run.run_uuid,
            "Command": " ".join(sys.argv),
        },
    )
    page = build_group_report(output_dir, content)
    write_index(output_dir)
    return RunOutcome(reports=(page,))
