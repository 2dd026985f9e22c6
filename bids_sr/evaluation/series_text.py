"""Description of each series in a line: the definition of its method, baseline or control."""

from bids_sr.evaluation.negative_controls import PLACEBOS
from bids_sr.series import ACQUIRED, BASELINES, MEASURED, PCA, SAME, SMOOTH, series
from bids_sr.sr.method import UnknownMethod, method_of_series

_FIXED = {
    **dict.fromkeys(
        ACQUIRED,
        "acquired series after motion correction; maps are interpolated to the high-resolution"
        " grid by cubic splines",
    ),
    SMOOTH: (
        "B-spline series with spatial smoothing; the kernel width was chosen in the other half of"
        " the blocks"
    ),
    PCA: (
        "B-spline series with temporal PCA denoising; the number of components was chosen in the"
        " other half of the blocks"
    ),
    MEASURED: "series measured at the high resolution (reference)",
}


def description_of(name: str) -> str:
    """One line on a series: what makes it; "" for one that no method or baseline makes.

    >>> description_of("zerofill")
    'baseline: in-plane zero filling of k-space'
    >>> description_of("nobody")
    ''

    Phrase without a period, or an empty text.
    """
    if name in BASELINES:
        return f"baseline: {BASELINES[name]}"
    if name in PLACEBOS:
        return f"negative control for {PLACEBOS[name].method}: {PLACEBOS[name].instead}"
    if name in _FIXED:
        return _FIXED[name]
    known = series(name)
    if known.variant == SAME:
        return f"acquired series (zerofill), smoothed to the resolution of {known.method}"
    member = ", trained with another seed" if known.kind == "member" else ""
    summary = summary_of(known.method)
    return f"method: {summary}{member}" if summary else ""


def summary_of(method: str) -> str:
    """Return the phrase that defines a method; "" if there is no such method.

    >>> summary_of("sbl")
    'sparse Bayesian learning with few iterations and with prior SD maps of the acquired run'
    """
    try:
        return method_of_series(method).summary
    except UnknownMethod:
        return ""
