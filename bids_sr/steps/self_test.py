"""Results of the self-test of all series of a run."""

from collections.abc import Sequence

from bids_sr.evaluation.self_test import TESTED
from bids_sr.io.grids import Factor, mm_text, size_text
from bids_sr.metrics.rows import MetricRow
from bids_sr.pipeline.artifacts import Facts, Rows
from bids_sr.pipeline.step import step
from bids_sr.series import PAIR_BASELINES

SELF_TEST_TEXT = (
    "Methods that estimate variance maps were also tested without a high-resolution reference"
    " (self-test). For this test, the acquired volumes were downsampled by the super-resolution"
    " factor, super-resolved to the acquired resolution and compared with the original volumes."
    " The self-test score is the reduction in squared error relative to zero filling, with a"
    " confidence interval from segments of the run. "
)
"""Methods text of a run with a method that estimates variance maps."""


@step(makes=("tested_shares", "one_level_down"), small=True)
def gather_tested(
    tested: Sequence[Facts] = (),
    *,
    series_names: Sequence[str],
    network_names: Sequence[str],
    voxel: tuple[float, float, float],
    factor: Factor,
) -> tuple[Rows, Facts]:
    """Combine the self-test results of all series, with reasons for series that were not tested.

    Returns
    -------
    tuple[Rows, Facts]
        Rows of the evaluation; and scores with intervals, or the reason why a score is missing, by
        series. The score of zero filling is 0.
    """
    results = {
        name: result
        for table in tested
        for name, result in table.items()
        if isinstance(result, dict)
    }
    names = [name for name in series_names if name != "zerofill"]
    by_name = {
        name: results.get(name) or {"reason": _reason_untested(name, network_names, voxel, factor)}
        for name in names
    }
    scored = {name: result for name, result in by_name.items() if "share" in result}
    facts = {
        "from_mm": [round(mm * f, 4) for mm, f in zip(voxel, factor, strict=True)],
        "to_mm": [round(mm, 4) for mm in voxel],
        "stretches": max((result["stretches"] for result in scored.values()), default=0),
        "stretch_volumes": max(
            (result["stretch_volumes"] for result in scored.values()), default=0
        ),
        "calibrated": any(result.get("calibrated", False) for result in scored.values()),
        "thermal_noise": max(
            (result.get("thermal_noise", 0) for result in scored.values()), default=0
        ),
        "series": {
            name: {
                key: value
                for key, value in result.items()
                if key not in ("stretches", "stretch_volumes", "thermal_noise")
            }
            for name, result in by_name.items()
        },
    }
    nan = float("nan")
    rows = [
        MetricRow(
            series=name,
            statistic=TESTED,
            reference="oneLevelDown",
            value=result["share"],
            region="brain",
            lower=result.get("lower", nan),
            upper=result.get("upper", nan),
            n=result["stretches"] or None,
        )
        for name, result in scored.items()
    ]
    return rows, facts


def _reason_untested(
    name: str, networks: Sequence[str], voxel: Sequence[float], factor: Sequence[float]
) -> str:
    """Return why a series was not tested at half the resolution."""
    if name in networks:
        sizes = (
            [mm * f**power for mm, f in zip(voxel, factor, strict=True)] for power in (-1, 0, 1)
        )
        fine, acquired, low = (
            mm_text(max(size[:2])) if factor[2] == 1 else size_text(size, "×", "")
            for size in sizes
        )
        trained = f"the network was trained to super-resolve {acquired} mm data to {fine} mm"
        return (
            f"{trained}; a self-test from {low} mm to {acquired} mm would require a"
            " separately trained network"
        )
    if name == "inject":
        return (
            "the added detail is constant over time, so the signal changes are the same as"
            " with zero filling"
        )
    if name in PAIR_BASELINES:
        return "a T2*-weighted image at the acquired resolution would be required"
    return "not tested: the run has too few volumes, or no variance-based method was requested"
