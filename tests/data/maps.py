"""Maps and regions of a run, as the step that maps activation makes them."""

from bids_sr.engine.artifacts import Derivative
from bids_sr.io.grids import BOLDREF
from bids_sr.io.series import parse_map_label


def mapped(content: object, entities: dict[str, str]) -> Derivative:
    """Return a map or region whose sidecar agrees with its label."""
    series, fwhm_mm, region = parse_map_label(entities["desc"])
    about: dict[str, object] = {"SourceSeries": series, "SmoothingFWHM": fwhm_mm}
    if region:
        about["ThresholdLabel"] = region
    return Derivative(content, {"space": BOLDREF, **entities}, about)
