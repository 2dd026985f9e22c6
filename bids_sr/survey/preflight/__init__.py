"""Checks of a call before its processing: design, options, models, memory and voxel values.

`checks.plan_call` reads headers, sidecars and tables, returns the plan of the call with all
problems that were found, and writes nothing but missing templates and the index of
``--bids-database-dir``; `bids_sr.workflows.call_checks` calls it for runs and scans.
`check_machine` checks memory and device of the machine that processes the data. `check_data` reads
voxels once processing starts; files of the data set are located and checked in
`bids_sr.survey.bids`.
"""

from typing import TYPE_CHECKING

from bids_sr.io.lazy import import_on_use

if TYPE_CHECKING:
    from bids_sr.survey.preflight.checks import exclude_runs as exclude_runs
    from bids_sr.survey.preflight.estimates import check_machine as check_machine
    from bids_sr.survey.preflight.exclusions import describe_skipped_runs as describe_skipped_runs
    from bids_sr.survey.preflight.plan import (
        Estimate as Estimate,
        Plan as Plan,
        StageCost as StageCost,
    )
    from bids_sr.survey.preflight.plan_text import (
        choice_lines as choice_lines,
        cost_text as cost_text,
        describe_saved_time as describe_saved_time,
        dry_run_text as dry_run_text,
        format_problems as format_problems,
        notes as notes,
    )
    from bids_sr.survey.preflight.unfit_references import (
        drop_unfit_references as drop_unfit_references,
    )
    from bids_sr.survey.preflight.voxel_checks import check_data as check_data
else:
    __getattr__ = import_on_use(
        __name__,
        {
            "checks": ["exclude_runs"],
            "estimates": ["check_machine"],
            "exclusions": ["describe_skipped_runs"],
            "plan": ["Estimate", "Plan", "StageCost"],
            "plan_text": [
                "choice_lines",
                "cost_text",
                "describe_saved_time",
                "dry_run_text",
                "format_problems",
                "notes",
            ],
            "unfit_references": ["drop_unfit_references"],
            "voxel_checks": ["check_data"],
        },
    )
