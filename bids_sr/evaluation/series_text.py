"""One-line descriptions of series: the definition of their method, baseline or control."""

from bids_sr.io.series import parse_series_name
from bids_sr.sr.method import UnknownMethod, method_of_series


def describe_series(name: str) -> str:
    """Return a one-line description of a series, without a period.

    >>> describe_series("zerofill")
    'baseline: in-plane zero filling of k-space'
    >>> describe_series("nobody")
    ''

    The text is "" if the name is not a known series.
    """
    series = parse_series_name(name)
    if series.words:
        return f"baseline: {series.words}" if series.kind == "baseline" else series.words
    summary = summarize_method(name)
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
