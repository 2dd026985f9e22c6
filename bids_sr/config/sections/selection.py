"""Selection of the data to process."""

from pathlib import Path
from typing import Literal

from bids_sr.config import readers
from bids_sr.config.section import OptionSection, execution_option, is_label
from bids_sr.io.frozen import frozen


@frozen
class Selection(OptionSection):
    """Selection of the data to process, by labels without prefix; empty settings select all."""

    analysis_level: Literal["participant", "group"] = execution_option(
        "participant",
        "{participant,group}",
        (
            "participant: process each run. group: compute statistics across the participants in"
            " output_dir"
        ),
        per_call=True,
    )
    participant_label: tuple[str, ...] = execution_option(
        (),
        "--participant-label --participant-labels LABEL",
        (
            "labels of the participants, separated by spaces or commas, or @FILE with one label"
            " per line (default: all participants)"
        ),
        common="participants to process (default: all)",
        type=readers.parse_labels,
    )
    session_label: tuple[str, ...] = execution_option(
        (),
        "--session-label --session-id LABEL",
        "labels of the sessions to process (default: all sessions)",
        type=readers.parse_labels,
    )
    task_id: tuple[str, ...] = execution_option(
        (),
        "-t --task-id TASK",
        "labels of the tasks to process (default: all tasks)",
        common="tasks to process (default: all)",
        type=readers.parse_labels,
    )
    run_id: tuple[int, ...] = execution_option(
        (),
        "--run-id N",
        "numbers of the runs to process (default: all runs)",
        type=readers.parse_run_number,
        least=0,
    )
    bids_filter_file: Path | None = execution_option(
        None,
        "--bids-filter-file FILE",
        "JSON file with PyBIDS filters for bold, t2starw, t1w, t2w and flair images. Filters for"
        " other images, such as fmap, are ignored",
    )
    bids_database_dir: Path | None = execution_option(
        None,
        "--bids-database-dir DIR",
        "directory of a PyBIDS database, for faster indexing",
        command_line_only=True,
    )
    skip_bids_validation: bool = execution_option(
        False, "--skip-bids-validation", "skip validation with the BIDS validator"
    )

    def _check(self) -> None:
        for name, prefix in (
            ("participant_label", "sub-"),
            ("session_label", "ses-"),
            ("task_id", "task-"),
        ):
            labels = tuple(
                dict.fromkeys(label.removeprefix(prefix) for label in getattr(self, name))
            )
            self._set(name, labels)
            for label in labels:
                reason = (
                    f"{label!r} is not a valid BIDS label (letters, digits and +). Separate"
                    " several labels with spaces or commas."
                )
                self._need(is_label(label), name, reason)
        self._set("run_id", tuple(dict.fromkeys(self.run_id)))
