"""Plan group maps from maps in a derivatives folder, without tables and without a data set."""

from collections.abc import Sequence

from bids_sr.group.input_maps import DerivativeMaps
from bids_sr.group.map_plan import GroupMembers, MapPlan, plan_maps
from bids_sr.group.output_files import GroupNames


def plan_of(maps: DerivativeMaps, series: Sequence[str] = ("raw",)) -> MapPlan:
    """Return the plan of group maps of all participants who have maps."""
    labels = sorted({run.participant for run in (*maps.runs, *maps.combined)})
    members = GroupMembers(
        labels=labels,
        outsiders={},
        with_tables=frozenset(labels),
        components=frozenset(),
        unequal={},
        weights={},
        uncombined={},
    )
    return plan_maps(maps, maps, members, series=series, names=GroupNames())
