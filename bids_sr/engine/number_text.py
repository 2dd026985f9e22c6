"""Format of numbers and intervals in pages, sentences and figures.

All numbers for readers are formatted here.
"""

from __future__ import annotations

import math

from bids_sr.engine.metric_rows import MISSING

_PERCENT_STATISTICS = frozenset(
    {
        "ev",
        "detail_fineness",
        "ev_without_task",
        "correct_fraction",
        "amplitude",
        "tested_share",
    }
)
"""Statistics that readers see in percent; tables contain fractions."""


def short_number(value: float) -> str:
    """Format a number in four significant digits, or without decimals if it is an integer.

    >>> short_number(0.123456), short_number(-2.0), short_number(1200.0)
    ('0.1235', '−2', '1200')
    """
    is_integer = float(value).is_integer() and abs(value) < 1e6
    return number(value, ".0f" if is_integer else ".4g")


def points(difference: float, lower: float, upper: float) -> str:
    """Format a difference of shares with its interval in percentage points.

    >>> points(0.09, 0.08, 0.1)
    '+9 [8, 10] percentage points'
    """
    text = estimate(difference, lower, upper, "+.0%").replace(" %", "", 1)
    return f"{text} percentage points"


def estimate(value: float, lower: float, upper: float, form: str = "") -> str:
    """Format a value with its interval; a plus sign in `form` applies only to the value.

    >>> estimate(0.08, 0.07, 0.09, "+.2f"), estimate(0.08, math.nan, math.nan)
    ('+0.08 [0.07, 0.09]', '0.080 (no interval)')
    """
    ends = interval(lower, upper, form.lstrip("+"), unit=False)
    return f"{number(value, form)} {ends or '(no interval)'}"


def interval(lower: float, upper: float, form: str = "", *, unit: bool = True) -> str:
    """Format an interval in brackets, or as "" if an end is not finite.

    If `unit` is False, percentages have no sign.

    >>> interval(-0.04, 0.1), interval(-3.9, 0.41, ".0%"), interval(math.nan, 1.0)
    ('[−0.040, 0.100]', '[below −100, 41] %', '')
    """
    end_texts = interval_ends(lower, upper, form)
    percent_sign = " %" if unit and form.endswith("%") else ""
    return f"[{', '.join(end_texts)}]{percent_sign}" if end_texts else ""


def interval_ends(lower: float, upper: float, form: str = "") -> tuple[str, ...]:
    """Format both ends of an interval without percent signs, or return () if either is not finite.

    >>> interval_ends(-0.04, 0.1), interval_ends(-3.9, 0.41, ".0%"), interval_ends(math.nan, 1.0)
    (('−0.040', '0.100'), ('below −100', '41'), ())
    """
    if not (math.isfinite(lower) and math.isfinite(upper)):
        return ()
    if not form.endswith("%"):
        return number(lower, form), number(upper, form)
    return tuple("below −100" if end < -1 else number(end, form)[:-2] for end in (lower, upper))


def value_form(statistic: str, *, sign: str = "") -> str:
    """Return the format of a statistic in the report: shares of energy are in percent.

    `sign` is ``+`` for a sign before all values, otherwise "".

    >>> value_form("ev"), value_form("ev", sign="+"), value_form("r")
    ('.0%', '+.0%', '')
    """
    if statistic in _PERCENT_STATISTICS:
        return f"{sign}.0%"
    return f"{sign}.3f" if sign else ""


def p_value(value: float, form: str = ".3f") -> str:
    """Format a p value without its leading zero.

    >>> p_value(0.0312), p_value(0.0001), p_value(1.0), p_value(0.15625, ".3g")
    ('.031', '< .001', '1.000', '.156')
    """
    return "< .001" if value < 0.001 else number(value, form).replace("0.", ".", 1)


def number(value: float, form: str = "") -> str:
    """Format a number with a true minus sign and without negative zero, or as n/a if not finite.

    A percentage below -100 is not given exactly, as the error is more than twice the signal.

    Without a format specification `form`, numbers have three decimals below 1, two below 10,
    otherwise one.

    >>> number(0.12345), number(-12.345), number(0.274, ".0%"), number(1095, ",.0f")
    ('0.123', '−12.3', '27 %', '1,095')
    >>> number(-0.0004, "+.3f"), number(math.nan), number(-156.2, ".0%")
    ('0.000', 'n/a', 'below −100 %')
    """
    if not math.isfinite(value):
        return MISSING
    if form.endswith("%") and value < -1:
        return "below −100 %"
    text = f"{value:{form or _choose_form(value)}}"
    if not float(text.rstrip("%").replace(",", "")):
        text = text.lstrip("+-")
    return text.replace("-", "−").replace("%", " %")


def _choose_form(value: float) -> str:
    """Return the format of a number: three decimals below 1, two below 10, otherwise one."""
    if abs(value) < 1:
        return ".3f"
    return ".2f" if abs(value) < 10 else ".1f"
