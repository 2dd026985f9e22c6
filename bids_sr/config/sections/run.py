"""Settings of a single call: output files, reports and messages."""

from bids_sr.config.presets import preset_names
from bids_sr.config.section import WHICH_DATA, OptionSection, option
from bids_sr.engine.storage_level import StorageLevel
from bids_sr.io.frozen import frozen


@frozen
class Run(OptionSection):
    """Settings of a single call: output files, reports and messages.

    Storage levels are described in `bids_sr.config.levels`. With `strict`, a run that cannot be
    processed, or a participant without results at the group level, stops the whole call. `verbose`
    is 0 for stages, 1 for details and 2 for everything.
    """

    config_file: tuple[str, ...] = option(
        (),
        "--config-file {NAME,FILE}",
        f"settings of a published analysis ({', '.join(preset_names())}), and settings.toml files"
        " of earlier runs. Later files take precedence over earlier files, and options over all"
        " files",
        affects_results=False,
        per_call=True,
    )
    level: StorageLevel = option(
        "standard",
        "--level",
        "files to save: minimal (series, confounds, report, tables), standard (also the maps to"
        " look at and for the group level), or full (all maps and series)",
        affects_results=False,
    )
    store_series: bool = option(
        True,
        help=(
            "storage of series. Without them, maps, tables and reports are the same, but there is"
            " no data set for XCP-D and fitlins, which read series"
        ),
        affects_results=False,
    )
    boilerplate_only: bool = option(
        False,
        "--boilerplate-only",
        "generate only the methods text (citation boilerplate). Unfinished training is"
        " described in the future tense",
        affects_results=False,
        per_call=True,
    )
    md_only_boilerplate: bool = option(
        False,
        help="methods text without HTML: only as Markdown and BibTeX files",
        affects_results=False,
    )
    clean_workdir: bool = option(
        False,
        help=(
            "removal of steps of earlier calls: the steps of the selected participants in the"
            " working directory, before processing"
        ),
        affects_results=False,
        per_call=True,
    )
    reports_only: bool = option(
        False,
        "--reports-only",
        "regenerate only the reports of completed participants",
        affects_results=False,
        per_call=True,
    )
    aggregate_session_reports: int = option(
        4,
        help=(
            "maximum number of sessions per report. With more sessions, there is one report per"
            " session"
        ),
        affects_results=False,
        least=1,
    )
    strict: bool = option(
        False,
        "--strict",
        "exit before processing if a run cannot be processed or, at the group level, a"
        " participant has no results",
        affects_results=False,
    )
    stop_on_first_crash: bool = option(
        False,
        "--stop-on-first-crash",
        ("stop as soon as a step crashes (default: run all independent steps)"),
        affects_results=False,
    )
    sloppy: bool = option(False, help="low-quality settings for speed: for testing only")
    verbose: int = option(
        0,
        "-v --verbose",
        "print more to the console; can be used twice",
        affects_results=False,
        action="count",
        least=0,
    )
    dry_run: bool = option(
        False,
        "--dry-run",
        "check the inputs, print the plan with estimates of time, memory and disk space, and exit",
        common="check the inputs, estimate time, memory and disk space, and exit",
        affects_results=False,
        per_call=True,
        among=WHICH_DATA,
    )
    run_uuid: str = option(
        "",
        help="name of the log directory of this call",
        affects_results=False,
        per_call=True,
        is_internal=True,
    )

    def _check(self) -> None:
        self._need(
            not (self.boilerplate_only and self.reports_only),
            "boilerplate_only",
            "boilerplate_only cannot be combined with reports_only",
        )
