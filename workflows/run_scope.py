"""A run while its steps are placed."""

from collections.abc import Mapping, Sequence
from dataclasses import field

from bids_sr.bids import BoldRun
from bids_sr.frozen import frozen
from bids_sr.pipeline.graph import Scope
from bids_sr.series import MEASURED
from bids_sr.workflows.planned import Planned
from bids_sr.workflows.wanted import Wanted


def methods_of(wanted: Sequence[Wanted]) -> tuple[str, ...]:
    """Stored series that are under judgment, networks first."""
    found = [one for one in wanted if one.stored and one.judged]
    return tuple(one.name for one in sorted(found, key=lambda one: not one.network))


@frozen
class RunOf:
    """A run while its steps are placed.

    It holds the inputs, the scope of the run, and those of its series by their names.
    """

    planned: Planned
    bold: BoldRun
    wanted: Sequence[Wanted]
    scope: Scope
    models: Mapping[str, Scope]
    series: dict[str, Scope] = field(default_factory=dict)

    @property
    def taken(self) -> tuple[str, ...]:
        """Return names of the files that another program has made of the run."""
        return tuple(self.bold.precomputed.files) if self.bold.precomputed else ()

    @property
    def methods(self) -> tuple[str, ...]:
        """Stored series that are under judgment, networks first."""
        return methods_of(self.wanted)

    @property
    def compared(self) -> tuple[str, ...]:
        """Return series of other programs that are judged beside it."""
        return tuple(self.bold.compared)

    @property
    def mapped(self) -> tuple[str, ...]:
        """Return the mapped series: raw, the plan's, other programs', and the measured one."""
        return (
            "raw",
            *(one.name for one in self.wanted if one.stored),
            *self.compared,
            *([MEASURED] if MEASURED in self.series else []),
        )

    @property
    def judged(self) -> tuple[str, ...]:
        """Return the evaluated high-resolution series: those mapped, then the others."""
        return (*self.mapped[1:], *(one.name for one in self.wanted if not one.stored))
