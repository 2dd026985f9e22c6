"""Group level of functional runs: tables, tests, maps and page across participants.

`level` finds the outputs of the participants and writes the results. Runs of one participant are
combined in `bids_sr.combination`, and structural scans have a group level of their own,
`bids_sr.structural.group`.
"""

from typing import TYPE_CHECKING

from bids_sr.lazy import import_on_use

if TYPE_CHECKING:
    from bids_sr.group.input_tables import (
        find_tables as find_tables,
        mixed_settings_lines as mixed_settings_lines,
    )
    from bids_sr.group.level import find_runs_group as find_runs_group
    from bids_sr.group.values import TableError as TableError
else:
    __getattr__ = import_on_use(
        __name__,
        {
            "input_tables": ["find_tables", "mixed_settings_lines"],
            "level": ["find_runs_group"],
            "values": ["TableError"],
        },
    )
