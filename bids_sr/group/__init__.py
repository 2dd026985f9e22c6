"""Group level of functional runs: tables, tests, maps and page across participants.

`level` finds the outputs of the participants and writes the results. Runs of one participant are
combined in `bids_sr.combination`, and structural scans have a group level of their own,
`bids_sr.structural.group`.
"""

from typing import TYPE_CHECKING

from bids_sr.lazy import import_on_use

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
    from bids_sr.group.level import find_runs_group as find_runs_group
    from bids_sr.group.output_files import (
        GroupNames as GroupNames,
        make_group_names as make_group_names,
        replace_group_files as replace_group_files,
    )
    from bids_sr.group.values import TableError as TableError
else:
    __getattr__ = import_on_use(
        __name__,
        {
            "dataset_contents": ["DatasetContents", "absence_lines", "read_dataset"],
            "input_checks": ["require_readable"],
            "input_tables": ["iter_func_folders", "mixed_settings_lines", "read_table_sidecar"],
            "level": ["find_runs_group"],
            "output_files": [
                "GroupNames",
                "make_group_names",
                "replace_group_files",
            ],
            "values": ["TableError"],
        },
    )
