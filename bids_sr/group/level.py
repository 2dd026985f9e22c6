"""Group level of functional runs: from participants' tables and maps to statistics and a page."""

import logging
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from bids_sr.config import Settings
from bids_sr.config.sections.superres import SuperRes
from bids_sr.glm.connectivity_seeds import seed_names
from bids_sr.group.combinable_runs import find_uncombinable
from bids_sr.group.copied_runs import require_different_runs
from bids_sr.group.dataset_contents import DatasetContents, absence_lines
from bids_sr.group.equal_contrasts import unequal_lines
from bids_sr.group.input_checks import require_readable, require_units
from bids_sr.group.input_maps import exclude_contrasts, find_maps
from bids_sr.group.input_tables import (
    exclude_unequal,
    find_tables,
    missing_lines,
    missing_run_lines,
    mixed_settings_lines,
)
from bids_sr.group.map_plan import (
    LEAST_PARTICIPANTS,
    GroupMembers,
    MapPlan,
    list_weights,
    plan_maps,
)
from bids_sr.group.map_records import (
    exclusion_lines,
    plan_lines,
    session_lines,
)
from bids_sr.group.output_files import (
    GroupNames,
    list_group_files,
    list_other_sessions,
    replace_group_files,
)
from bids_sr.io.frozen import frozen
from bids_sr.io.notices import UsageError, read_failed_steps
from bids_sr.io.series import ACQUIRED, BASELINES, MEASURED
from bids_sr.sr.method import method_names_without_controls
from bids_sr.survey.bids.content import describe_denied, is_denied
from bids_sr.survey.bids.label_lists import list_some
from bids_sr.version import __version__

if TYPE_CHECKING:
    import pandas as pd

    from bids_sr.engine.execute import RunOutcome
    from bids_sr.group.page import GroupPage

_LOGGER = logging.getLogger(__name__)
_MAX_LISTED_RUNS = 5  # runs, most that a message lists
_RUN_PARTICIPANT_LEVEL = (
    "run the participant level first (not all participants need to be finished)"
)


@frozen
class GroupInputs(ABC):
    """Inputs of the group level, of functional runs or of structural scans.

    `tables` are the metrics tables of the participants. `absent` are sentences on missing
    participants and runs, and `leftovers` on results that do not belong to the data set.
    """

    names: GroupNames
    tables: "pd.DataFrame"
    absent: tuple[str, ...]
    leftovers: tuple[str, ...]
    kind: ClassVar[str] = "metrics tables"
    used_settings: ClassVar[tuple[str, ...]] = ()
    """Settings that affect results of this level."""

    @property
    def participants(self) -> tuple[str, ...]:
        """Labels (``sub-…``) of participants with tables."""
        return tuple(self.tables["participant"].unique())

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on results that cannot be computed."""
        return ()

    def describe_tables(self) -> list[str]:
        """Describe the tables that would be combined."""
        return [f"Found {len(self.tables)} {self.kind} for {len(self.participants)} participants"]

    def plan_text(self) -> str:
        """Describe the tables that would be combined, and the missing participants."""
        return "\n".join([*self.describe_tables(), *absence_lines(self.absent, self.leftovers)])

    @abstractmethod
    def compute(
        self, settings: Settings, print_line: Callable[[str], None], folder: Path
    ) -> "GroupPage":
        """Write all files but the page to a folder, and return the contents of the page."""

    def run(self, settings: Settings, print_line: Callable[[str], None]) -> "RunOutcome":
        """Write tables, maps and page, and replace the results of an earlier call.

        `print_line` prints a line. Raises `UsageError` if the table of a participant cannot be
        compared.
        """
        from bids_sr.config.settings import list_unused_settings
        from bids_sr.engine.execute import RunOutcome
        from bids_sr.group.page import write_group_page
        from bids_sr.report.index_page import write_index

        if unused := list_unused_settings(settings, self.used_settings):
            print_line(f"These settings have no effect at the group level: {', '.join(unused)}")
        for line in (*absence_lines(self.absent, self.leftovers), *self.notes):
            print_line(line)
        print_line(
            f"Combining {len(self.tables)} {self.kind} from {len(self.participants)} participants"
        )
        output_dir, names = settings.paths.output_dir, self.names
        earlier_files = set(list_group_files(output_dir, names))
        with replace_group_files(output_dir, names) as folder:
            write_group_page(folder, self.compute(settings, print_line, folder))
        if other_sessions := list_other_sessions(output_dir, names):
            print_line(f"Results of earlier calls for {', '.join(other_sessions)} were kept")
        if removed := earlier_files - set(list_group_files(output_dir, names)):
            print_line(
                f"Results of an earlier call were replaced. {len(removed)} files that this call"
                f" does not compute were removed, for example {min(removed)}"
            )
        write_index(output_dir)
        return RunOutcome(reports=(output_dir / names.page,))


@frozen
class RunsGroup(GroupInputs):
    """Inputs of the group level of functional runs.

    `plan` has the planned maps, and `stored_series` are series with stored maps. The results are
    ``group_metrics``, ``group_stats``, ``group.html`` and the folder ``group``.
    """

    plan: MapPlan
    stored_series: frozenset[str]
    used_settings: ClassVar[tuple[str, ...]] = (
        "evaluation.margin",
        "evaluation.group_permutations",
        "resources.random_seed",
    )

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on maps that cannot be computed."""
        return self.plan.notes

    def describe_tables(self) -> list[str]:
        """Describe the tables and maps that would be combined."""
        records = self.plan.records
        return [
            *GroupInputs.describe_tables(self),
            *plan_lines(self.plan.computed),
            *session_lines(self.plan.computed),
            *self.notes,
            *exclusion_lines(records),
        ]

    def compute(
        self, settings: Settings, print_line: Callable[[str], None], folder: Path
    ) -> "GroupPage":
        """Compute and write the tables and the maps, and return the contents of the page."""
        from bids_sr.group.maps import compute_group_maps
        from bids_sr.group.recipe_labels import find_recipe_labels
        from bids_sr.group.report import RunsContent, count_runs_by_task, describe_runs
        from bids_sr.group.tables import write_inputs, write_tables
        from bids_sr.report.evaluation_rows import label_series
        from bids_sr.report.stored_verdicts import read_verdicts

        tables = write_tables(
            folder,
            self.names,
            self.tables,
            # determined in advance: the last of the default methods
            default_method=SuperRes().learned[-1],
            requested_margin=settings.evaluation.margin,
        )
        maps = compute_group_maps(
            self.plan,
            folder,
            print_line=print_line,
            flips=settings.evaluation.group_permutations,
            seed=settings.resources.random_seed,
            threads=settings.resources.nprocs or 1,
        )
        if maps.records:
            records = [record for record in maps.records if record.n_voxels]
            write_inputs(folder / "group", self.names, records, settings.paths.output_dir)
        notes = [
            *maps.notes,
            *exclusion_lines(maps.records),
            *session_lines([record for record in maps.records if record.members]),
        ]
        if len(self.participants) >= LEAST_PARTICIPANTS:
            available_series = set(tables.joined_tables.series["series"])
            series = [name for name in _list_series() if name in available_series]
            notes += list_unstored_series(series, self.stored_series)
        for note in notes:
            print_line(note)
        content = RunsContent(
            names=self.names,
            runs=self.tables,
            tasks=count_runs_by_task(self.tables),
            absent=(*self.absent, *self.leftovers),
            tables=tables.joined_tables,
            comparisons=tables.comparisons,
            maps=maps,
            notes=(*self.plan.notes, *notes),
            method=tables.method,
            verdicts=read_verdicts(settings.paths.output_dir, runs=frozenset(self.tables["stem"])),
            requested_margin=settings.evaluation.margin,
            about=describe_call(settings),
        )
        print_line("Writing the group report")
        with label_series(find_recipe_labels(settings.paths.output_dir)):
            return describe_runs(folder, content)


def list_unstored_series(series: Sequence[str], stored: Collection[str]) -> list[str]:
    """Return notes on series without stored maps, with the storage level that includes them.

    `series` are the series in the tables, `stored` the series with stored maps.
    """
    if not stored:
        return [
            "Group maps cannot be computed because no t maps and effect maps are stored."
            " Run the participant level with --set activation.kinds=glm and --level standard or"
            " full."
        ]
    missing_series = [name for name in series if name not in stored]
    notice = (
        f"Group maps cannot be computed for {', '.join(missing_series)} because the participant"
        " level stores maps of these series only with --level full."
    )
    return [notice] if missing_series else []


def describe_call(settings: Settings) -> dict[str, str]:
    """Return facts about the call for the page."""
    return {
        "bids-sr version": __version__,
        "Run": settings.run.run_uuid,
        "Command": " ".join(sys.argv),
    }


def find_runs_group(
    settings: Settings,
    is_selected: Callable[[Mapping[str, str]], bool],
    dataset: DatasetContents,
) -> RunsGroup:
    """Find the tables and maps of functional runs, and plan the group maps.

    `is_selected` returns whether a run was requested, given its entities (pybids names). `dataset`
    decides whose results are used. Raises `UsageError` if there are no tables, tables of a single
    participant, tables of different versions or settings, or files that cannot be read.
    """
    output_dir, selection = settings.paths.output_dir, settings.selection
    all_tables = find_tables(output_dir, is_selected)
    if all_tables.empty:
        raise _no_tables_error(output_dir)
    leftovers = dataset.describe_leftovers(all_tables, dataset.has_run)
    tables = exclude_unequal(
        all_tables[[dataset.has_run(row) for row in all_tables.to_dict("records")]]
    )
    if lines := mixed_settings_lines(tables):
        raise mixed_settings_error(lines, tables, output_dir)
    participants = tuple(tables["participant"].unique())
    expected = dataset.select(selection.participant_label)
    missing = _list_missing(output_dir, dataset, expected, is_selected, tables)
    if len(participants) < 2:
        raise too_few_error(participants, [*leftovers, *missing])
    copy_notes = require_different_runs(tables)
    collected = find_maps(output_dir, is_selected, dataset)
    uncombined = find_uncombinable(collected)
    absent = [*missing, *unequal_lines(tables), *uncombined.lines, *collected.outdated]
    unequal = dict(zip(tables["stem"], tables["unequal"], strict=True))
    usable = uncombined.exclude(exclude_contrasts(output_dir, collected, unequal))
    outsiders = {label for label, _ in leftovers if not dataset.lists(label)}
    names = GroupNames(sessions=selection.session_label)
    plan = plan_maps(
        collected,
        usable,
        GroupMembers(
            labels=sorted({*expected, *outsiders, *participants}),
            outsiders=outsiders,
            with_tables=frozenset(participants),
            runs_at_rest=frozenset(tables["stem"][tables["at_rest"].astype(bool)]),
            component_names=seed_names(()),
            unequal=unequal,
            weights=list_weights(tables),
            uncombined=uncombined.reasons,
        ),
        series=_list_series(),
        names=names,
    )
    plan = replace(plan, notes=(*plan.notes, *copy_notes))
    require_readable(
        tables=tables["path"], images=plan.list_images(), transforms=plan.list_transforms()
    )
    require_units(plan.list_maps())
    return RunsGroup(
        tables=tables,
        names=names,
        plan=plan,
        stored_series=frozenset(key[1] for run in collected.all for key in run.map_keys()),
        absent=tuple(_add_crashed_steps(absent, output_dir)),
        leftovers=tuple(sentence for _, sentence in leftovers),
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


def mixed_settings_error(
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
        " settings (superres.force does not override this check)"
    )
    return UsageError(problem, reason, fix)


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


def _list_missing(
    output_dir: Path,
    dataset: DatasetContents,
    expected: Sequence[str],
    is_selected: Callable[[Mapping[str, str]], bool],
    tables: "pd.DataFrame",
) -> list[tuple[str, str]]:
    """Return missing participants, runs and tables, in the form of `missing_lines`.

    Results that this user may not read are missing.
    """
    denied = {
        label: describe_denied(folder)
        for label in expected
        # the participant's folder last: it also denies its subfolders
        for folder in (output_dir / label / "func", output_dir / label)
        if is_denied(folder)
    }
    requested_runs = [run for runs in dataset.runs.values() for run in runs if is_selected(run)]
    sentences = [*dataset.table.list_skipped_lines()]
    if not dataset.participants:
        sentences.append(
            f"missing participants cannot be identified because {dataset.folder} does not list any"
            " participants"
        )
    return [
        *((label, f"{label}: {notice.what}: {notice.why}") for label, notice in denied.items()),
        *missing_lines([label for label in expected if label not in denied], tables),
        *missing_run_lines(requested_runs, tables),
        *(("", sentence) for sentence in sentences),
    ]


def too_few_error(participants: Sequence[str], missing: Sequence[tuple[str, str]]) -> UsageError:
    """Return the error if there are tables of fewer than two participants."""
    number = f"only one participant ({participants[0]})" if participants else "no participants"
    problem = "\n  ".join(
        [f"the group level found {number}", *(sentence for _, sentence in missing)]
    )
    reason = "group statistics require at least two participants"
    return UsageError(problem, reason, "run the participant level for more participants")


def _list_series() -> tuple[str, ...]:
    """Return the series of group maps in the order of the page."""
    return (ACQUIRED, *BASELINES, *method_names_without_controls(), MEASURED)


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
