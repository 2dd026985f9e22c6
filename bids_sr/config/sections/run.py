"""Settings of a single call: output files, reports and messages."""

from bids_sr.config.presets import preset_names
from bids_sr.config.section import WHICH_DATA, OptionSection, execution_option, option
from bids_sr.engine.storage_level import StorageLevel
from bids_sr.io.frozen import frozen


@frozen
class Run(OptionSection):
    """Settings of a single call: output files, reports and messages.

    Storage levels are described in `bids_sr.config.levels`. With `strict`, a run that cannot be
    processed, or a participant without results at the group level, stops the whole call. `verbose`
    is 0 for stages, 1 for details and 2 for everything.
    """

    config_file: tuple[str, ...] = execution_option(
        (),
        "--config-file {NAME,FILE}",
        f"settings of a published analysis ({', '.join(preset_names())}), and settings.toml files"
        " of earlier runs. Later files take precedence over earlier files, and options over all"
        " files",
        per_call=True,
    )
    level: StorageLevel = execution_option(
        "standard",
        "--level",
        "files to save: minimal (series, confounds, report, tables), standard (also the maps to"
        " look at and for the group level), or full (all maps and series)",
    )
    store_series: bool = execution_option(
        True,
        help=(
            "storage of series. Without them, maps, tables and reports are the same, but there is"
            " no data set for XCP-D and fitlins, which read series"
        ),
    )
    boilerplate_only: bool = execution_option(
        False,
        "--boilerplate-only",
        "generate only the methods text (citation boilerplate). Unfinished training is"
        " described in the future tense",
        per_call=True,
    )
    md_only_boilerplate: bool = execution_option(
        False, help="methods text without HTML: only as Markdown and BibTeX files"
    )
    clean_workdir: bool = execution_option(
        False,
        help=(
            "removal of steps of earlier calls: the steps of the selected participants in the"
            " working directory, before processing"
        ),
        per_call=True,
    )
    reports_only: bool = execution_option(
        False,
        "--reports-only",
        "regenerate only the reports of completed participants",
        per_call=True,
    )
    aggregate_session_reports: int = execution_option(
        4,
        help=(
            "maximum number of sessions per report. With more sessions, there is one report per"
            " session"
        ),
        least=1,
    )
    strict: bool = execution_option(
        False,
        "--strict",
        "exit before processing if a run cannot be processed or, at the group level, a"
        " participant has no results",
    )
    stop_on_first_crash: bool = execution_option(
        False,
        "--stop-on-first-crash",
        ("stop as soon as a step crashes (default: run all independent steps)"),
    )
    sloppy: bool = option(False, help="low-quality settings for speed: for testing only")
    verbose: int = execution_option(
        0, "-v --verbose", "print more to the console; can be used twice", action="count", least=0
    )
    dry_run: bool = execution_option(
        False,
        "--dry-run",
        "check the inputs, print the plan with estimates of time, memory and disk space, and exit",
        common="check the inputs, estimate time, memory and disk space, and exit",
        per_call=True,
        among=WHICH_DATA,
    )
    run_uuid: str = execution_option(
        "", help="name of the log directory of this call", per_call=True, is_internal=True
    )

    def _check(self) -> None:
        self._need(
            not (self.boilerplate_only and self.reports_only),
            "boilerplate_only",
            "boilerplate_only cannot be combined with reports_only",
        )
