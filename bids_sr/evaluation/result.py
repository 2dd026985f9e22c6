"""Result of a run: states of the detail of each contrast and region, with their numbers.

Page, console, JSON, index, methods text and Python state this one record, in the words of
`bids_sr.evaluation.result_text`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Annotated

from bids_sr.engine.artifacts import RecordKind
from bids_sr.engine.metric_rows import MetricRow
from bids_sr.evaluation.changes import Change
from bids_sr.evaluation.detail_support import ContrastResult, SupportState
from bids_sr.evaluation.evidence import ACQUIRED_ACTIVE
from bids_sr.evaluation.tested_detail import HALF_RESOLUTION
from bids_sr.io.frozen import frozen

_STATE_ORDER: Sequence[SupportState] = ("recovered", "not supported", "not testable")


@frozen
class RunResult:
    """Result of a run, or of all runs of a participant together.

    `method` is the series whose detail is judged; "" if no method was applied. `contrasts` are the
    results of its contrasts, recovered contrasts first; empty if none was measured or tested.
    `shown` is the contrast with most acquired activation of those whose detail may be interpreted
    in active voxels; None if there are none. `not_applied` are methods that fell back to zero
    filling. `acquired` and `final` are the voxel sizes before and after super-resolution in words.
    `changes` are the results of contrasts over runs.
    """

    method: str = ""
    contrasts: tuple[ContrastResult, ...] = ()
    shown: ContrastResult | None = None
    not_applied: tuple[str, ...] = ()
    acquired: str = "the acquired resolution"
    final: str = "the final resolution"
    changes: tuple[Change, ...] = ()

    @property
    def interpretable(self) -> list[ContrastResult]:
        """Contrasts whose detail may be interpreted in active voxels."""
        return [result for result in self.contrasts if result.state == "recovered"]

    def select(self, map_contrast: str) -> "RunResult":
        """Return the result for one contrast of the maps.

        It has no contrast if the contrast of the maps was neither measured nor tested.
        """
        changes = tuple(item for item in self.changes if item.contrast == map_contrast)
        contrasts = tuple(item for item in self.contrasts if item.map_contrast == map_contrast)
        shown = next((item for item in contrasts if item.state == "recovered"), None)
        return replace(self, contrasts=contrasts, shown=shown, changes=changes)

    @property
    def is_measured(self) -> bool:
        """Whether the detail of any contrast was compared with a high-resolution reference."""
        return any(
            region.tested is not None
            for result in self.contrasts
            for region in result.regions.values()
        )


StoredResult = Annotated[RunResult, RecordKind(RunResult)]
"""Result as an artifact."""


def make_result(
    method: str,
    results: Mapping[str, ContrastResult],
    rows: Sequence[MetricRow],
    *,
    not_applied: Sequence[str] = (),
    sizes: tuple[str, str] | None = None,
    names: Mapping[str, str] = MappingProxyType({}),
) -> RunResult:
    """Return the result of a run from the results of the contrasts of its best method.

    `rows` of the test give the number of active voxels. `sizes` are the voxel sizes before and
    after super-resolution in words; None if they are unknown. `names` are the names of contrasts
    over runs as requested, by contrast; these contrasts come first.
    """
    n_active = {
        row.contrast: row.value
        for row in rows
        if (row.series, row.statistic, row.reference, row.region, row.fwhm_mm)
        == (method, "voxels", HALF_RESOLUTION, ACQUIRED_ACTIVE, 0)
    }
    contrasts = sorted(
        (replace(item, name=names.get(item.map_contrast, "")) for item in results.values()),
        key=lambda item: [
            not item.name,
            *(_STATE_ORDER.index(region.state) for region in item.regions.values()),
        ],
    )
    interpretable = [item for item in contrasts if item.state == "recovered" and not item.name]
    result = RunResult(
        method=method,
        contrasts=tuple(contrasts),
        shown=max(interpretable, key=lambda item: n_active.get(item.contrast, 0.0), default=None),
        not_applied=tuple(not_applied),
    )
    return result if sizes is None else replace(result, acquired=sizes[0], final=sizes[1])
