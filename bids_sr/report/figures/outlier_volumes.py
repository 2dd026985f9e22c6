"""Figure of the volumes of a run that do not show the head as the other volumes do."""

from collections.abc import Mapping

from matplotlib.figure import Figure

from bids_sr.io.volume import Volume
from bids_sr.report.figures.slices import (
    Layer,
    image_figure,
    make_gray_layer,
    make_row,
    spread_cuts,
)

_MARGIN_MM = 10.0
_TALLEST_INCH = 1.2  # inches, panels of a figure with many rows
_DIFFERENCE_RANGE = 0.3  # largest difference that is drawn, relative to white in the images


def outlier_figure(
    outliers: Mapping[int, Volume], neighbors: Mapping[int, tuple[int, Volume]], mask: Volume
) -> Figure:
    """Plot outlier volumes as acquired, and their differences from ordinary volumes.

    `outliers` (at least one) are by number of the volume, counted from 0. `neighbors` are number
    and image of the nearest ordinary volume by number of the outlier. `mask` is the brain, which
    determines slices and gray scale.
    """
    cuts = spread_cuts(mask, _MARGIN_MM, (2, 4), (1, 1), (0, 1))
    rows = []
    last_ordinary = -1  # number of the ordinary volume that was drawn last
    for outlier_number, outlier in outliers.items():
        ordinary_number, ordinary = neighbors[outlier_number]
        ordinary_layer = make_gray_layer(ordinary, mask)
        if ordinary_number != last_ordinary:
            rows.append(make_row(f"volume {ordinary_number}", cuts, ordinary_layer))
            last_ordinary = ordinary_number
        outlier_layer = Layer(image=outlier, low=ordinary_layer.low, high=ordinary_layer.high)
        rows.append(make_row(f"volume {outlier_number}", cuts, outlier_layer))
        limit = _DIFFERENCE_RANGE * (ordinary_layer.high - ordinary_layer.low)
        difference = Layer(
            image=outlier.like(outlier.data - ordinary.data),
            low=-limit,
            high=limit,
            colors="RdBu_r",
        )
        rows.append(make_row(f"{outlier_number} minus {ordinary_number}", cuts, difference))
    return image_figure(
        rows, scale=difference, label="difference (signal units)", tallest_inch=_TALLEST_INCH
    )
