"""Rule for contrasts whose added detail is supported by a run without a reference.

The added detail lies above the acquired Nyquist frequency. The test at half the resolution
(`bids_sr.evaluation.tested_detail`) shows detail just below this frequency, from which the added
detail is extrapolated. The detail of a contrast is therefore *recovered* if

- the explained variance is above 0,
- the acquired effect does not fade toward the acquired Nyquist frequency: its spectral density in
  the upper half of the tested frequencies is more than a third of the density in the lower half.
  If a Gaussian spectrum falls to a third, a tenth is left in the band that is added,
- and the activity follows fluctuations that were measured without the task: with a prior that is
  estimated from the run without its task, at least `MIN_FOLLOWING` of the explained variance is
  left. This is not required at rest, where the activity is the fluctuation.

The first two conditions refer to the lower limit of a 95 % interval (one-sided for the second), so
that few or unequal parts of the brain lead to rejection. If the active voxels do not decide the
second condition, the whole brain may confirm it with an interval above `_MIN_BRAIN_FINENESS`, if
the value in active voxels is also above the limit. With an interval above `MIN_FINENESS`, it only
opens the safe map (`bids_sr.io.safe_width`), in which wrong detail does little harm. The brain
never contradicts, and its detail is only recovered with the detail of its active voxels.

The last condition is required because the run's own prior also contains the activity. Balls of 9
mm and Gaussian foci of 5 mm FWHM at the same places have equal values in all other conditions, but
in one of them the added detail is right, and in the other wrong (6 mm acquired). The detail of
compact activity is therefore *not testable*, even if it is right.

Compact patches in places that also fluctuate without the task meet all conditions, and their
detail is wrong. Their values are those of right draws (`benchmarks/FINDINGS.md`), so that no
condition can reject them. Tested detail is therefore first read in the safe map.

The detail is *not supported* if the data are evidence against it: the upper limit of one of the
first two conditions is below `_MAX_ABSENT` or `MIN_FINENESS`. It is *not testable* if the data do
not suffice to decide, or if the run is smooth.

`MIN_FOLLOWING` and `_MIN_BRAIN_FINENESS` were fixed with draws of seeds 901 and 905 to 907 in
``benchmarks/tested_worlds.py``, and the rule was then applied once to seeds from 1001.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Literal

from bids_sr.engine.metric_rows import MetricRow
from bids_sr.engine.number_text import interval_ends, number
from bids_sr.evaluation.evidence import ACQUIRED_ACTIVE
from bids_sr.evaluation.missing_blocks import (
    explain_missing_blocks,
    find_map_contrasts,
    list_untested,
)
from bids_sr.evaluation.statements import Statement
from bids_sr.evaluation.tested_detail import (
    FINENESS,
    FOLLOWING,
    HALF_RESOLUTION,
    MIN_UNITS,
    compute_one_sided_limits,
)
from bids_sr.io.frozen import frozen

COVERAGE = "coverage_one_level_down"
SMOOTHNESS = "smoothness_voxels"
"""In-plane smoothness of the noise of a run (FWHM) in acquired voxels."""
MIN_COVERAGE = 0.9
"""Lowest coverage of 95 % intervals at half the resolution that permits sign reliable voxels."""
MIN_ACTIVE_VOXELS = 50
"""Smallest number of active voxels at half the resolution."""
MIN_FINENESS = 1 / 3
"""Smallest spectral density of the detail in the upper half of the tested frequencies, relative to
the lower half.
"""
MIN_FOLLOWING = 0.45
"""Smallest explained variance with a prior of the run without its task, relative to the explained
variance with the run's own prior.
"""
MAX_SMOOTHNESS = 0.8
"""Largest smoothness of a run (FWHM in voxels) that can be tested."""
_MAX_ABSENT = 0.1  # upper limit of explained variance, below which there is evidence against it
_MIN_BRAIN_FINENESS = 0.4  # of the whole brain, to confirm the fineness in active voxels
_NEAR = 0.05  # distance of a limit of the fineness, which one block more or less can change
SupportState = Literal["recovered", "not supported", "not testable"]


@frozen
class RegionResult:
    """Result for the detail of one contrast in one region, measured or tested.

    `row` is the explained variance of the detail, measured if possible; None if it is unknown.
    `reason` is a clause: why the detail is not recovered, or another remark on the value; "" if
    the value and its interval are the reason. `short_reason` says the same in at most six words.
    `deciding_row` is the value that decided; None if a property of the run or the number of voxels
    decided. `only_safe` states whether the safe map may be used although the detail is not
    recovered. `tested` is the result of the test at half the resolution if the detail was
    measured.
    """

    state: SupportState
    row: MetricRow | None = None
    reason: str = ""
    short_reason: str = ""
    deciding_row: MetricRow | None = None
    only_safe: bool = False
    tested: "RegionResult | None" = None

    @property
    def opens_safe_map(self) -> bool:
        """Whether the safe map may be used (`bids_sr.io.safe_width`)."""
        return self.only_safe or self.state == "recovered"

    @property
    def test(self) -> "RegionResult":
        """Result of the test at half the resolution."""
        return self.tested or self


@frozen
class ContrastResult:
    """Results for the detail of one contrast in active voxels and in the brain.

    `contrast` is the tested contrast. The maps have the contrast `map_contrast`, which may also
    have conditions with too few blocks to be tested, `untested`. `name` is the name as requested;
    "" if it follows from the contrast.
    """

    contrast: str
    map_contrast: str
    active: RegionResult
    brain: RegionResult
    untested: tuple[str, ...] = ()
    name: str = ""

    @property
    def state(self) -> SupportState:
        """Result in active voxels."""
        return self.active.state

    @property
    def regions(self) -> Mapping[str, RegionResult]:
        """Results by region: ``active``, ``brain``."""
        return {"active": self.active, "brain": self.brain}

    @property
    def has_values(self) -> bool:
        """Whether the detail was measured or tested in any region."""
        return any(region.row is not None for region in self.regions.values())


def permits_sign_reliable(
    rows: Iterable[MetricRow], method: str, contrast: str, *, is_safe: bool = False
) -> bool | None:
    """Return whether the tests of a run permit sign reliable voxels in the maps of a contrast.

    Voxels can only be sign reliable if the detail of the contrast is recovered in active voxels,
    or the map `is_safe` and may be used, and if the intervals were covered. None is returned if
    the coverage of the contrast was not measured. For the other parameters, see `classify_detail`.
    """
    rows = list(rows)
    coverages = [
        row.value for row in rows if (row.statistic, row.contrast) == (COVERAGE, contrast)
    ]
    if not coverages:
        return None
    may_be_used = any(
        support.active.opens_safe_map if is_safe else support.state == "recovered"
        for support in classify_detail(rows, method).values()
        if support.map_contrast == contrast
    )
    return min(coverages) >= MIN_COVERAGE and may_be_used


def decide_state(lower: float, upper: float) -> SupportState:
    """Return the state of an explained variance with its interval.

    Detail is not supported only if there is evidence that hardly any detail is recovered.
    """
    is_recovered = _is_above_0(lower, upper)
    if is_recovered is None:
        return "not testable"
    return "recovered" if is_recovered else "not supported"


def classify_detail(
    rows: Iterable[MetricRow], method: str, contrasts: Sequence[str] = (), fwhm_mm: float = 0.0
) -> dict[str, ContrastResult]:
    """Return whether the run supports the detail of a method, for each contrast.

    `contrasts` are listed even if they were not tested, before other tested contrasts in the order
    of the rows. `fwhm_mm` is the smoothing of the effects (FWHM). The result is empty if nothing
    was tested and there are no `contrasts`. Contrasts of maps that were tested under another name
    are left out.
    """
    rows = list(rows)
    map_contrasts, untested = find_map_contrasts(rows), list_untested(rows)
    method_rows = [row for row in rows if row.series == method]
    smoothness = next((row.value for row in method_rows if row.statistic == SMOOTHNESS), math.nan)
    tested_rows = [
        row for row in method_rows if row.reference == HALF_RESOLUTION and row.fwhm_mm == fwhm_mm
    ]
    tested_contrasts = [row.contrast for row in tested_rows if row.statistic == "ev"]
    listed_contrasts = [*contrasts, *tested_contrasts]
    renamed = {map_contrasts[name] for name in listed_contrasts if name in map_contrasts}
    supports = {}
    for contrast in dict.fromkeys(name for name in listed_contrasts if name not in renamed):
        contrast_rows = [row for row in tested_rows if row.contrast == contrast]
        map_contrast = map_contrasts.get(contrast, contrast)
        if contrast_rows:
            active, brain = (
                _classify_region(contrast_rows, region, smoothness, region_words=words)
                for region, words in (
                    (ACQUIRED_ACTIVE, "active voxels"),
                    ("brain", "brain voxels"),
                )
            )
            if brain.state == "recovered" and active.state != "recovered":
                brain = _reject(Statement.ACTIVE_NOT_RECOVERED, row=brain.row)
        else:
            reason = explain_missing_blocks(method_rows, contrast)
            active = brain = RegionResult(
                state="not testable",
                reason=reason or Statement.NOT_SPLIT,
                short_reason=Statement.FEW_BLOCKS.short if reason else Statement.NOT_SPLIT.short,
            )
        supports[contrast] = ContrastResult(
            contrast=contrast,
            map_contrast=map_contrast,
            active=active,
            brain=brain,
            untested=tuple(untested[map_contrast]) if map_contrast != contrast else (),
        )
    return supports


def _classify_region(
    rows: Sequence[MetricRow], region: str, smoothness: float, *, region_words: str
) -> RegionResult:
    """Apply the rule to the rows of one contrast in one region.

    `smoothness` is the smoothness of the run (FWHM in voxels), NaN if it was not measured.
    """
    rows_by_statistic = {row.statistic: row for row in rows if row.region == region}
    if not rows_by_statistic.keys() >= {"ev", FINENESS, "voxels"}:
        return _reject(Statement.NOT_SPLIT)
    row = rows_by_statistic["ev"]
    n_voxels = rows_by_statistic["voxels"].value
    if smoothness > MAX_SMOOTHNESS:
        values = {"fwhm": number(smoothness, ".1f"), "limit": f"{MAX_SMOOTHNESS:g}"}
        return _reject(Statement.SMOOTH_RUN, values, row=row)
    if n_voxels < MIN_ACTIVE_VOXELS:
        limit = f"{MIN_ACTIVE_VOXELS}"
        values = {"n": f"{n_voxels:.0f}", "region": region_words, "limit": limit}
        return _reject(Statement.FEW_VOXELS, values, row=row)
    is_explained = _is_above_0(row.lower, row.upper)
    if is_explained is False:
        return RegionResult(
            state="not supported",
            row=row,
            short_reason=Statement.NO_GAIN.short,
            deciding_row=row,
        )
    fineness = rows_by_statistic[FINENESS]
    is_fine = _decide_fineness(rows, region)
    if is_fine is False:
        return RegionResult(
            state="not supported",
            row=row,
            reason=Statement.FADES,
            short_reason=Statement.FADES.short,
            deciding_row=fineness,
        )
    if not math.isfinite(row.value):
        return _reject(Statement.NOTHING_TO_RECOVER, row=row)
    if not math.isfinite(row.lower):
        values = {"limit": f"{MIN_UNITS}", "region": region_words}
        return _reject(_explain_missing_interval(rows), values, row=row)
    if not is_explained:
        ends = " to ".join(interval_ends(row.lower, row.upper, ".0%"))
        return _reject(Statement.WIDE_INTERVAL, {"ends": ends}, row, row)
    following = rows_by_statistic.get(FOLLOWING)
    if following is not None and not following.value >= MIN_FOLLOWING * row.value:
        return _reject(Statement.COMPACT, row=row, deciding_row=following)
    is_near = abs(compute_one_sided_limits(fineness)[0] - MIN_FINENESS) < _NEAR
    if not is_fine:
        values = {"n": f"{fineness.n}", "near": f", {Statement.NEAR_LIMIT}" if is_near else ""}
        unknown = _reject(Statement.UNKNOWN_FINENESS, values, row, fineness)
        return replace(unknown, only_safe=bool(_decide_fineness(rows, region, MIN_FINENESS)))
    reason = Statement.NEAR_LIMIT if is_near else ""
    return RegionResult(state="recovered", row=row, reason=reason, deciding_row=row)


def _reject(
    statement: Statement,
    values: Mapping[str, str] = MappingProxyType({}),
    row: MetricRow | None = None,
    deciding_row: MetricRow | None = None,
) -> RegionResult:
    """Return the result for detail that is not testable, with the reason."""
    return RegionResult(
        state="not testable",
        row=row,
        reason=statement.format_map(values),
        short_reason=statement.short,
        deciding_row=deciding_row,
    )


def _explain_missing_interval(rows: Sequence[MetricRow]) -> Statement:
    """Return why a region has no interval, from the tested rows of one contrast."""
    n_units = [row.n or 0 for row in rows if (row.statistic, row.region) == ("ev", "brain")]
    has_few_slices = min(n_units, default=0) < MIN_UNITS
    return Statement.FEW_SLICES if has_few_slices else Statement.FEW_PARTS


def _is_above_0(lower: float, upper: float) -> bool | None:
    """Return whether an interval of explained variance is above 0.

    None is returned if detail may be recovered or not, and for NaN.
    """
    if lower > 0:
        return True
    return False if upper < _MAX_ABSENT else None


def _decide_fineness(
    rows: Sequence[MetricRow], region: str, brain_limit: float = _MIN_BRAIN_FINENESS
) -> bool | None:
    """Return whether an effect does not fade toward the acquired Nyquist frequency.

    `rows` are the tested rows of one contrast. None is returned if the interval in the region
    contains `MIN_FINENESS`, or for NaN, unless the whole brain confirms a value above this limit
    with an interval above `brain_limit`.
    """
    region_rows = {row.region: row for row in rows if row.statistic == FINENESS}
    row, brain_row = region_rows[region], region_rows.get("brain")
    lower, upper = compute_one_sided_limits(row)
    if lower > MIN_FINENESS:
        return True
    if upper < MIN_FINENESS:
        return False
    if brain_row is None or region == "brain" or not row.value > MIN_FINENESS:
        return None
    return True if compute_one_sided_limits(brain_row)[0] > brain_limit else None
