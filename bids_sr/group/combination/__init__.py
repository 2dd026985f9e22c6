"""Combination of the runs of a participant: the maps of all runs.

`checks` decides which runs belong together, and `steps` estimates their combined maps with an
error. The order of steps is in `bids_sr.workflows.combination`.
"""

from typing import TYPE_CHECKING

from bids_sr.io.lazy import import_on_use

if TYPE_CHECKING:
    from bids_sr.api.combined_runs import combine_runs as combine_runs
    from bids_sr.group.combination.checks import (
        format_combined_runs as format_combined_runs,
        group_runs as group_runs,
        warn_of_left_out as warn_of_left_out,
    )
    from bids_sr.group.combination.run_combination import (
        RunEstimate as RunEstimate,
        combine_estimates as combine_estimates,
    )
    from bids_sr.group.combination.separate_calls import (
        warn_of_separate_runs as warn_of_separate_runs,
    )
    from bids_sr.group.combination.steps.figures import COMBINATION_FIGURES as COMBINATION_FIGURES
else:
    __getattr__ = import_on_use(
        __name__,
        {
            "api": ["combine_runs"],
            "checks": ["format_combined_runs", "group_runs", "warn_of_left_out"],
            "steps.figures": ["COMBINATION_FIGURES"],
            "run_combination": ["RunEstimate", "combine_estimates"],
            "separate_calls": ["warn_of_separate_runs"],
        },
    )
