"""Group level: from tables and maps in the output directory to statistics and a report."""

from collections.abc import Callable, Mapping

from bids_sr.config import Settings
from bids_sr.config.lock import find_running
from bids_sr.group.dataset_contents import DatasetContents, read_dataset
from bids_sr.group.level import GroupInputs, find_runs_group
from bids_sr.io.notices import UsageError
from bids_sr.structural.group.level import find_scans_group, is_scans_group


def find_group_inputs(settings: Settings) -> GroupInputs:
    """Find the tables of the group level, of functional runs or of structural scans.

    Raises `UsageError` if there are no tables, tables of a single participant, tables of different
    versions or settings, files that cannot be read, or participants that are being processed.
    With ``--strict``, participants without tables are also an error.
    """
    _refuse_missing_mounts(settings)
    if not settings.paths.bids_dir.is_dir():
        raise UsageError(
            f"{settings.paths.bids_dir} is not a directory",
            "the list of participants in the BIDS dataset is needed to identify missing"
            " participants",
            "check the path",
        )
    _refuse_foreign_output(settings)
    dataset = read_dataset(settings.paths.bids_dir)
    _refuse_running_participants(settings, dataset)
    find_inputs = find_scans_group if is_scans_group(settings) else find_runs_group
    inputs = find_inputs(settings, _selection_filter(settings), dataset)
    requested = dataset.select(settings.selection.participant_label)
    missing = sorted(set(requested) - set(inputs.participants))
    if settings.run.strict and missing:
        raise UsageError(
            f"{', '.join(missing)}: no results",
            "with --strict, the group level requires results of all participants",
            "run the participant level for these participants, select the other participants with"
            " --participant-label, or omit --strict",
        )
    return inputs


def _refuse_missing_mounts(settings: Settings) -> None:
    """Raise `UsageError` if data set or output were not mounted in the container."""
    from bids_sr.survey.notices import InputError
    from bids_sr.survey.preflight.directories import judge_dataset_mount, judge_output_mount

    paths = settings.paths
    problems = [*judge_dataset_mount(paths.bids_dir), *judge_output_mount(paths.output_dir)]
    if problems:
        raise InputError(problems)


def _refuse_foreign_output(settings: Settings) -> None:
    """Raise `UsageError` if the output directory belongs to another program or data set.

    Links for results of the group that lead into the data are also an error.
    """
    from bids_sr.survey.notices import InputError, judge
    from bids_sr.survey.preflight.directories import judge_owner
    from bids_sr.survey.preflight.output_links import judge_links

    if links := [*judge_links(settings, labels=())]:
        raise InputError(links)
    if not (settings.paths.output_dir / "dataset_description.json").exists():
        return
    for problem in judge((judge_owner,), settings):
        raise UsageError(problem.what, problem.why, "specify the output directory of this dataset")


def _refuse_running_participants(settings: Settings, dataset: DatasetContents) -> None:
    """Raise `UsageError` if a requested participant is being processed."""
    selected = settings.selection.participant_label
    running = {
        name: holder
        for name, holder in find_running(settings.paths.output_dir).items()
        if name.startswith("sub-")
        and dataset.lists(name)
        and (not selected or name.removeprefix("sub-") in selected)
    }
    if running:
        holders = "; ".join(f"{name}: {holder}" for name, holder in running.items())
        raise UsageError(
            f"{', '.join(running)}: the participant level is still running",
            f"the results of these participants are incomplete ({holders})",
            "wait until the participant level has finished, or select the other participants with"
            " --participant-label",
        )


def _selection_filter(settings: Settings) -> Callable[[Mapping[str, str]], bool]:
    """Return a function that decides from the entities whether a run was requested."""
    selection = settings.selection
    labels = {
        "subject": selection.participant_label,
        "session": selection.session_label,
        "task": selection.task_id,
    }

    def is_selected(entities: Mapping[str, str]) -> bool:
        run = entities.get("run", "")
        has_number = not selection.run_id or (run.isdecimal() and int(run) in selection.run_id)
        return has_number and all(
            not requested_labels or entities.get(key) in requested_labels
            for key, requested_labels in labels.items()
        )

    return is_selected
