"""Negative controls (placebos) of each method.

A placebo runs the method with one input exchanged that the method claims to use: the participant's
model, the contrast that the model was trained on, or the map of the run's fluctuations. Detail
that a placebo reproduces is therefore not attributable to this input. Placebos do not show whether
the detail is true; only a comparison with known activation or a measured reference does.
"""

from collections.abc import Mapping
from dataclasses import replace

from bids_sr.io.series import series_name
from bids_sr.sr.method import NegativeControl, list_methods

NEGATIVE_CONTROLS: Mapping[str, NegativeControl] = {
    series_name(method.name, placebo.suffix): replace(placebo, method=series_name(method.name))
    for method in list_methods()
    for placebo in method.placebos
}
"""Placebos by name of their series."""


def list_negative_controls(method: str) -> tuple[str, ...]:
    """Return the names of a method's placebo series, in the order of the method's definition.

    The tuple is empty if the method has no placebos.
    """
    return tuple(name for name, placebo in NEGATIVE_CONTROLS.items() if placebo.method == method)
