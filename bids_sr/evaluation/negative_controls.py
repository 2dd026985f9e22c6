"""Negative controls (placebos) of each method.

A placebo is the method itself with one thing exchanged that the method claims to use: the model of
this subject, the contrast it learned from, or the map of where the run fluctuates. Detail that a
placebo reproduces is attributable to none of these. Whether such detail is true is another
question, which only a truth answers.
"""

from collections.abc import Mapping
from dataclasses import replace

from bids_sr.series import series_name
from bids_sr.sr.method import Placebo, all_methods

PLACEBOS: Mapping[str, Placebo] = {
    series_name(method.name, each.suffix): replace(each, method=series_name(method.name))
    for method in all_methods()
    for each in method.placebos
}
"""Placebos by the names of their series."""


def placebos_of(method: str) -> tuple[str, ...]:
    """Return names of the placebo series of a method, in the order of the table.

    Names of series; empty for a method without placebos.
    """
    return tuple(name for name, placebo in PLACEBOS.items() if placebo.method == method)
