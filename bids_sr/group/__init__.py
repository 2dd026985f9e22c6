"""Group level of functional runs: tables, tests, maps and page across participants.

`level` finds the outputs of the participants and writes the results. Runs of one participant are
combined in `bids_sr.group.combination`. The group level of structural scans,
`bids_sr.structural.group`, writes its results and its page with functions of this package.
"""

from typing import TYPE_CHECKING

from bids_sr.io.lazy import import_on_use

if TYPE_CHECKING:
    from bids_sr.group.dataset_contents import (
        DatasetContents as DatasetContents,
        absence_lines as absence_lines,
        read_dataset as read_dataset,
    )
    from bids_sr.group.input_checks import require_readable as require_readable
    from bids_sr.group.input_tables import (
        iter_func_folders as iter_func_folders,
        mixed_settings_lines as mixed_settings_lines,
        read_table_sidecar as read_table_sidecar,
    )
    from bids_sr.group.level import (
        announce_inputs as announce_inputs,
        describe_call as describe_call,
        find_runs_group as find_runs_group,
        mixed_settings_error as mixed_settings_error,
        too_few_error as too_few_error,
        write_group_results as write_group_results,
    )
    from bids_sr.group.output_files import (
        GroupNames as GroupNames,
        describe_replaced as describe_replaced,
    )
    from bids_sr.group.page import (
        GroupFigures as GroupFigures,
        GroupPage as GroupPage,
        GroupSection as GroupSection,
    )
    from bids_sr.group.paired_values_figure import (
        choose_color as choose_color,
        plot_paired_values as plot_paired_values,
    )
    from bids_sr.group.values import TableError as TableError
else:
    __getattr__ = import_on_use(
        __name__,
        {
            "dataset_contents": ["DatasetContents", "absence_lines", "read_dataset"],
            "input_checks": ["require_readable"],
            "input_tables": ["iter_func_folders", "mixed_settings_lines", "read_table_sidecar"],
            "level": [
                "announce_inputs",
                "describe_call",
                "find_runs_group",
                "mixed_settings_error",
                "too_few_error",
                "write_group_results",
            ],
            "output_files": ["GroupNames", "describe_replaced"],
            "page": ["GroupFigures", "GroupPage", "GroupSection"],
            "paired_values_figure": ["choose_color", "plot_paired_values"],
            "values": ["TableError"],
        },
    )
