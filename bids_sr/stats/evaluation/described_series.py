"""What each series of a run is, in one line, for those who meet its name in a table."""

from bids_sr.series import ACQUIRED, BASELINES, MEASURED, PCA, SMOOTH, series
from bids_sr.sr.method import UnknownMethod, method_of_series
from bids_sr.stats.controls.negative_controls import PLACEBOS

_FIXED = {
    **dict.fromkeys(ACQUIRED, "as acquired, motion-corrected; on the high-resolution grid by a spline of its maps"),
    SMOOTH: "the B-spline series, smoothed in space by the width that fits the other half of the blocks best",
    PCA: "the B-spline series from as many leading temporal components as fit the other half of the blocks best",
    MEASURED: "measured at the high resolution: the reference",
}


def description_of(name: str) -> str:
    """One line on a series: what makes it; "" for one that no method or baseline makes.

    >>> description_of("zerofill")
    'baseline: in-plane zero filling of k-space'
    >>> description_of("nobody")
    ''
    """
    if name in BASELINES:
        return f"baseline: {BASELINES[name]}"
    if name in PLACEBOS:
        return f"control analysis of {PLACEBOS[name].method}: {PLACEBOS[name].instead}"
    if name in _FIXED:
        return _FIXED[name]
    found = series(name)
    try:
        summary = method_of_series(found.method).summary
    except UnknownMethod:
        return ""
    member = ", trained with another seed" if found.kind == "member" else ""
    return f"method: {summary}{member}"
