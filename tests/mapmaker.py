"""Maps and regions of a run, as the step that maps activation makes them."""

from bids_sr.io.grids import BOLDREF
from bids_sr.pipeline.artifacts import Derivative
from bids_sr.series import parse_map_label


def mapped(content: object, entities: dict[str, str]) -> Derivative:
    """Return a map or region whose sidecar agrees with its label."""
    series, fwhm_mm, region = parse_map_label(entities["desc"])
    about = {"SourceSeries": series, "SmoothingFWHM": fwhm_mm}
    return Derivative(content, {"space": BOLDREF, **entities}, about | ({"ThresholdLabel": region} if region else {}))
