"""One-line descriptions of series: the definition of their method, baseline or control."""

from bids_sr.evaluation.negative_controls import NEGATIVE_CONTROLS
from bids_sr.io.series import (
    ACQUIRED_NAMES,
    BASELINES,
    MEASURED,
    PCA,
    SAME,
    SMOOTH,
    parse_series_name,
)
from bids_sr.sr.method import UnknownMethod, method_of_series

_FIXED_TEXTS = {
    **dict.fromkeys(
        ACQUIRED_NAMES,
        "acquired series after motion correction; maps are interpolated to the high-resolution"
        " grid by cubic splines",
    ),
    SMOOTH: (
        "B-spline series with spatial smoothing; the kernel width is the one that agrees best"
        " with the reference"
    ),
    PCA: (
        "B-spline series with temporal PCA denoising; the number of components is the one that"
        " agrees best with the reference"
    ),
    MEASURED: "series measured at the high resolution (reference)",
}


def describe_series(name: str) -> str:
    """Return a one-line description of a series, without a period.

    >>> describe_series("zerofill")
    'baseline: in-plane zero filling of k-space'
    >>> describe_series("nobody")
    ''

    The text is "" if the name is not a known series.
    """
    if name in BASELINES:
        return f"baseline: {BASELINES[name]}"
    if name in NEGATIVE_CONTROLS:
        control = NEGATIVE_CONTROLS[name]
        return f"negative control for {control.method}: {control.replacement}"
    if name in _FIXED_TEXTS:
        return _FIXED_TEXTS[name]
    parsed_name = parse_series_name(name)
    if parsed_name.variant == SAME:
        return f"acquired series (zerofill), smoothed to the resolution of {parsed_name.method}"
    summary = summarize_method(parsed_name.method)
    return f"method: {summary}" if summary else ""


def summarize_method(method: str) -> str:
    """Return the phrase that defines a method; "" if there is no such method.

    >>> summarize_method("sbl")
    'sparse Bayesian learning with few iterations and with prior SD maps of the acquired run'
    """
    try:
        return method_of_series(method).summary
    except UnknownMethod:
        return ""
