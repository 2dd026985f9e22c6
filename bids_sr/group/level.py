"""Group level of functional runs: from tables and maps of participants to statistics and a report.

Only the names of runs are read from ``bids_dir``.
"""

import logging
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bids_sr.bids import parse_entities
from bids_sr.bids.label_lists import list_some
from bids_sr.config import Settings, UsageError
from bids_sr.config.sections.superres import SuperRes
from bids_sr.frozen import frozen
from bids_sr.group.combinable_runs import exclude_uncombinable
from bids_sr.group.equal_contrasts import unequal_lines
from bids_sr.group.input_maps import DerivativeMaps, exclude_contrasts, find_maps
from bids_sr.group.input_tables import (
    find_tables,
    missing_lines,
    missing_run_lines,
    mixed_settings_lines,
)
from bids_sr.notices import read_failed_steps
from bids_sr.series import BASELINES, MEASURED, RAW
from bids_sr.sr.method import method_names_without_controls
from bids_sr.version import __version__

if TYPE_CHECKING:
    from concurrent.futures import Executor

    import pandas as pd

    from bids_sr.execution.execute import RunOutcome
    from bids_sr.group.values import JoinedTables
    from bids_sr.group.voxel_tests import GroupMaps

_LOGGER = logging.getLogger(__name__)
_MAX_LISTED_RUNS = 5  # runs, most that a message lists
_GROUP_SETTINGS = ("evaluation.margin", "evaluation.group_permutations", "resources.random_seed")
"""Settings that affect results of the group level."""
_RUN_PARTICIPANT_LEVEL = (
    "run the participant level first (not all participants need to be finished)"
)


class _GroupResults(NamedTuple):
    """Combined tables, comparisons and maps of the group."""

    joined_tables: "JoinedTables"
    comparisons: "pd.DataFrame"
    maps: "GroupMaps"


@frozen
class RunsGroup:
    """Inputs of the group level: metrics tables, maps of runs, and missing participants.

    Attributes
    ----------
    tables : pd.DataFrame
        Tables from `find_tables`.
    maps : DerivativeMaps
        Maps of runs, and stored maps of all runs of participants.
    participants : tuple[str, ...]
        Labels (``sub-…``) of participants with tables.
    absent : tuple[str, ...]
        Sentences on missing participants and runs.
    """

    tables: "pd.DataFrame"
    maps: DerivativeMaps
    participants: tuple[str, ...]
    absent: tuple[str, ...]

    def plan_text(self) -> str:
        """Describe the tables that would be combined, and the missing participants."""
        found_text = (
            f"Found {len(self.tables)} metrics tables for {len(self.participants)} participants"
        )
        return "\n".join([found_text, *(f"missing: {line}" for line in self.absent)])

    def run(self, settings: Settings, print_line: Callable[[str], None]) -> "RunOutcome":
        """Combine, test and map the metrics, and write the group results.

        The results are ``group_metrics``, ``group_stats`` and ``group.html``.
        """
        from bids_sr.execution.execute import RunOutcome
        from bids_sr.group.comparisons import primary_method
        from bids_sr.group.maps import LEAST_PARTICIPANTS
        from bids_sr.group.report import GroupContent, build_group_report
        from bids_sr.report.index_page import write_index

        output_dir = settings.paths.output_dir
        from bids_sr.config.settings import list_unused_settings

        if unused := list_unused_settings(settings, _GROUP_SETTINGS):
            print_line(f"These settings have no effect at the group level: {', '.join(unused)}")
        for line in self.absent:
            print_line(f"missing: {line}")
        print_line(
            f"Combining {len(self.tables)} metrics tables from {len(self.participants)}"
            " participants"
        )
        # determined in advance: the last of the default methods
        default_method = SuperRes().learned[-1]
        series = (RAW, *BASELINES, *method_names_without_controls(), MEASURED)
        results = self._compute(settings, default_method, series, print_line)
        unstored: list[str] = []
        if len(self.participants) >= LEAST_PARTICIPANTS:
            available_series = set(results.joined_tables.series["series"])
            unstored = _list_unstored_maps(
                [name for name in series if name in available_series], self.maps
            )
        for line in unstored:
            print_line(line)
        print_line("Writing the group report")
        content = GroupContent(
            tables=self.tables,
            absent=self.absent,
            joined_tables=results.joined_tables,
            comparisons=results.comparisons,
            maps=replace(results.maps, exclusions=(*results.maps.exclusions, *unstored)),
            method=primary_method(default_method, results.joined_tables.methods),
            margin=settings.evaluation.margin,
            about={
                "bids-sr version": __version__,
                "Run": settings.run.run_uuid,
                "Command": " ".join(sys.argv),
            },
        )
        page = build_group_report(output_dir, content)
        write_index(output_dir)
        return RunOutcome(reports=(page,))

    def _compute(
        self,
        settings: Settings,
        default_method: str,
        series: Sequence[str],
        print_line: Callable[[str], None],
    ) -> _GroupResults:
        """Compute and write the tables and the maps of the group."""
        from bids_sr.group.maps import compute_group_maps
        from bids_sr.group.tables import write_tables
        from bids_sr.group.values import TableError

        output_dir = settings.paths.output_dir
        processes = settings.resources.nprocs or 1
        with _make_pool(processes, len(self.participants)) as pool:
            tables = pool.submit(
                write_tables,
                output_dir,
                self.tables,
                method=default_method,
                margin=settings.evaluation.margin,
            )
            maps = compute_group_maps(
                self.maps,
                output_dir,
                series=series,
                print_line=print_line,
                pool=pool,
                flips=settings.evaluation.group_permutations,
                seed=settings.resources.random_seed,
                threads=processes,
            )
            try:
                joined_tables, comparisons = tables.result()
            except TableError as error:
                raise UsageError(
                    str(error),
                    "the table was written by another version of bids-sr",
                    "rerun the participant level for this participant",
                ) from error
        return _GroupResults(joined_tables=joined_tables, comparisons=comparisons, maps=maps)


def _make_pool(processes: int, n_participants: int) -> "Executor":
    """Return a pool of processes, or a single thread if several processes would not be faster."""
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

    from bids_sr.group.maps import CHUNK

    if processes > 1 and n_participants > CHUNK:
        return ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn"))
    return ThreadPoolExecutor(1)  # executes tasks one after the other


def find_runs_group(
    settings: Settings,
    is_selected: Callable[[Mapping[str, str]], bool],
    expected: Sequence[str],
) -> RunsGroup:
    """Find the tables and maps of functional runs.

    Parameters
    ----------
    settings : Settings
        Settings of the call.
    is_selected : Callable[[Mapping[str, str]], bool]
        Returns whether a run was requested, given its entities (pybids names).
    expected : Sequence[str]
        Participants (``sub-…``) of the data set or of the call.

    Raises
    ------
    UsageError
        If there are no tables, tables of a single participant, or tables of different versions or
        settings.
    """
    output_dir, bids_dir = settings.paths.output_dir, settings.paths.bids_dir
    tables = find_tables(output_dir, is_selected)
    if tables.empty:
        raise _no_tables_error(output_dir)
    if lines := mixed_settings_lines(tables):
        raise _mixed_settings_error(lines, tables, output_dir)
    participants = tuple(tables["participant"].unique())
    missing = missing_lines(expected, tables) + missing_run_lines(
        _list_expected_runs(bids_dir, is_selected), tables
    )
    if not expected:
        missing.append(
            (
                "",
                f"missing participants cannot be identified because {bids_dir} does not list"
                " any participants",
            )
        )
    if len(participants) < 2:
        problem = "\n  ".join(
            [
                f"the group level found only one participant ({participants[0]})",
                *(line for _, line in missing),
            ]
        )
        reason = "group statistics require at least two participants"
        raise UsageError(problem, reason, "run the participant level for more participants")
    missing += unequal_lines(tables)
    unequal = dict(zip(tables["stem"], tables["unequal"], strict=True))
    maps = exclude_contrasts(output_dir, find_maps(output_dir, is_selected), unequal)
    maps, uncombined = exclude_uncombinable(maps)
    missing += [*uncombined, *maps.outdated]
    return RunsGroup(
        tables=tables,
        maps=maps,
        participants=participants,
        absent=tuple(_add_crashed_steps(missing, output_dir)),
    )


def _no_tables_error(output_dir: Path) -> UsageError:
    """Return the error if there are no metrics tables, or none of the requested runs."""
    other_tables = find_tables(output_dir)
    if other_tables.empty:
        return UsageError(
            f"{output_dir} contains no metrics tables",
            "the group level combines the metrics tables that are written at the participant"
            " level",
            _RUN_PARTICIPANT_LEVEL,
        )
    available = list_some([*dict.fromkeys(other_tables["name"])], _MAX_LISTED_RUNS)
    return UsageError(
        f"{output_dir} contains no metrics tables for the requested participants and runs",
        f"metrics tables are available for {available}",
        "check the participant, session, task and run filters of the command",
    )


def _mixed_settings_error(
    lines: Sequence[str], tables: "pd.DataFrame", output_dir: Path
) -> UsageError:
    """Return the error if tables have different versions or settings, which `lines` list."""
    problem = "\n  ".join(
        ["metrics from different versions or settings cannot be combined", *lines]
    )
    reason = (
        "; ".join(_list_differing_settings(set(tables["digest"]), output_dir))
        or "the values in these tables are not comparable"
    )
    fix = (
        "rerun the participant level for these participants with the same version and"
        " settings (--force does not override this check)"
    )
    return UsageError(problem, reason, fix)


def _list_expected_runs(
    bids_dir: Path, is_selected: Callable[[Mapping[str, str]], bool]
) -> list[dict[str, str]]:
    """Return the requested runs of the data set, as the entities of their series."""
    paths = (
        path
        for folder in ("sub-*/func", "sub-*/ses-*/func")
        for path in bids_dir.glob(f"{folder}/*_bold.nii*")
    )
    return [entities for entities in map(parse_entities, sorted(paths)) if is_selected(entities)]


def _list_differing_settings(digests: Collection[str], output_dir: Path) -> list[str]:
    """Return the settings that differ between the runs that wrote the tables, as far as logged."""
    from bids_sr.config.settings import analysis_digest, differing_settings

    settings_by_digest: dict[str, Settings] = {}
    for path in sorted(output_dir.glob("logs/*/settings.toml")):
        try:
            settings = Settings.from_toml(path)
        except UsageError as error:
            _LOGGER.info("The settings of an earlier run could not be read: %s", error)
        else:
            settings_by_digest.setdefault(analysis_digest(settings), settings)
    earlier = [settings for digest, settings in settings_by_digest.items() if digest in digests]
    return [
        f"{name}: {values}"
        for later in earlier[1:]
        for name, values in differing_settings(earlier[0], later).items()
    ]


def _add_crashed_steps(absent: Sequence[tuple[str, str]], output_dir: Path) -> list[str]:
    """Return the lines about missing participants and runs, with crashed steps if recorded."""
    steps = [
        step for run_steps in read_failed_steps(output_dir / "logs").values() for step in run_steps
    ]
    completed_lines = []
    for participant_label, line in absent:
        failed = dict.fromkeys(
            step.what
            for step in steps
            if participant_label
            and (
                participant_label == f"sub-{step.subject}"
                or f"{step.run}_".startswith(f"{participant_label}_")
            )
        )
        completed_lines.append(f"{line}; crashed steps: {', '.join(failed)}" if failed else line)
    return completed_lines


def _list_unstored_maps(series: Sequence[str], maps: DerivativeMaps) -> list[str]:
    """Return notes on series without stored maps, with the storage level that includes them."""
    stored = {key[1] for run in (*maps.runs, *maps.combined) for key in run.map_keys()}
    if not stored:
        return [
            "Group maps cannot be computed because no t maps and effect maps are stored."
            " Run the participant level with --activation glm and --level standard or full."
        ]
    missing_series = [name for name in series if name not in stored]
    notice = (
        f"Group maps cannot be computed for {', '.join(missing_series)} because the participant"
        " level stores maps of these series only with --level full."
    )
    return [notice] if missing_series else []
