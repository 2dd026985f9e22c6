"""Results of the self-test of all series of a run."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from bids_sr.engine.artifacts import Facts, Rows
from bids_sr.engine.metric_rows import MetricRow
from bids_sr.engine.step import Stage, step
from bids_sr.evaluation.self_test_results import SELF_TEST_SCORE
from bids_sr.io.grids import Factor, mm_text, size_text
from bids_sr.io.series import get_need

SELF_TEST_TEXT = (
    "Methods that estimate prior SD maps were also tested without a high-resolution reference"
    " (self-test). For this test, the acquired volumes were downsampled by the super-resolution"
    " factor, super-resolved to the acquired resolution and compared with the original volumes."
    " The self-test score is the reduction in squared error relative to zero filling, with a"
    " confidence interval from segments of the run. "
)
"""Methods text of a run with a method that estimates prior SD maps."""

# entries of a self-test result that are reported once for the run
_RUN_KEYS = ("stretches", "stretch_volumes", "thermal_noise")


@step(Stage.EVALUATION, makes=("self_test_rows", "self_test_facts"), small=True)
def gather_self_tests(
    self_tests: Sequence[Facts] = (),
    *,
    series_names: Sequence[str],
    network_names: Sequence[str],
    voxel: tuple[float, float, float],
    factor: Factor,
) -> tuple[Rows, Facts]:
    """Combine the self-test results of all series, with reasons for series that were not tested.

    `self_tests` are results of `estimate_variance`, by series. `series_names` are all series
    of the run, and `network_names` the series of networks. `voxel` is the acquired voxel size
    (mm).

    Returns rows of the evaluation; and scores with intervals, or the reason why a score is
    missing, by series. The score of zero filling is 0.
    """
    results: dict[str, dict[str, Any]] = {}
    for table in self_tests:
        results |= {name: result for name, result in table.items() if isinstance(result, dict)}
    result_by_series = {
        name: results.get(name)
        or {"reason": _explain_untested(name, network_names, voxel, factor)}
        for name in series_names
        if name != "zerofill"
    }
    scores_by_series = {
        name: result for name, result in result_by_series.items() if "share" in result
    }
    facts = {
        "from_mm": [round(mm * f, 4) for mm, f in zip(voxel, factor, strict=True)],
        "to_mm": [round(mm, 4) for mm in voxel],
        "stretches": _find_largest(scores_by_series, "stretches"),
        "stretch_volumes": _find_largest(scores_by_series, "stretch_volumes"),
        "calibrated": any(result.get("calibrated", False) for result in scores_by_series.values()),
        "thermal_noise": _find_largest(scores_by_series, "thermal_noise"),
        "series": {
            name: {key: value for key, value in result.items() if key not in _RUN_KEYS}
            for name, result in result_by_series.items()
        },
    }
    return [_make_row(name, result) for name, result in scores_by_series.items()], facts


def _explain_untested(
    name: str, networks: Sequence[str], voxel: Sequence[float], factor: Sequence[float]
) -> str:
    """Return the reason why a series was not tested at half the resolution.

    `voxel` is the acquired voxel size (mm), and `factor` the super-resolution factor by axis.
    """
    if name in networks:
        high, acquired, low = (_describe_size(voxel, factor, power) for power in (-1, 0, 1))
        return (
            f"the network was trained to super-resolve {acquired} mm data to {high} mm; a"
            f" self-test from {low} mm to {acquired} mm would require a separately trained network"
        )
    if name == "inject":
        return (
            "the added detail is constant over time, so the signal changes are the same as"
            " with zero filling"
        )
    if get_need(name) == "pair":
        return "a T2*-weighted image at the acquired resolution would be required"
    return "not tested: the run has too few volumes, or no variance-based method was requested"


def _describe_size(voxel: Sequence[float], factor: Sequence[float], power: int) -> str:
    """Return a voxel size (mm) after multiplication by a power of the factor, without its unit.

    If slices keep their thickness, only the larger size in plane is returned.
    """
    sizes = [mm * f**power for mm, f in zip(voxel, factor, strict=True)]
    return mm_text(max(sizes[:2])) if factor[2] == 1 else size_text(sizes, "×", "")


def _find_largest(results: Mapping[str, Mapping[str, Any]], key: str) -> Any:
    """Return the largest value of a key in the results of all series, or 0."""
    return max((result.get(key, 0) for result in results.values()), default=0)


def _make_row(series: str, result: Mapping[str, Any]) -> MetricRow:
    """Return the self-test score of a series as a row of the evaluation."""
    return MetricRow(
        series=series,
        statistic=SELF_TEST_SCORE,
        reference="oneLevelDown",
        value=result["share"],
        region="brain",
        lower=result.get("lower", math.nan),
        upper=result.get("upper", math.nan),
        n=result["stretches"] or None,
    )
