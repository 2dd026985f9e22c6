"""Figure of the prior SD map of a run."""

from collections.abc import Mapping

from bids_sr.engine.artifacts import Facts, Image
from bids_sr.report.figure_step import FigureContent, figure
from bids_sr.report.figure_steps.display_grids import binarize, read_grid, resample_to
from bids_sr.report.figure_steps.run_maps import SceneImages
from bids_sr.report.sections import FigureSpec


@figure(
    FigureSpec(
        "variance",
        "superres",
        place=1,
        subtitle="Prior SD map",
        tab="Prior SD map",
        caption=(
            "Prior of the method (sbl): temporal standard deviation of the signal on"
            " the high-resolution grid, estimated from the data listed below the color bar."
            " Detail is reconstructed in regions with fine"
            " structure in this map. The map should follow gray matter, vessels and CSF. Regions"
            " are black if the method was not applied."
        ),
        missing="prior SD map of the run",
        remark="this figure requires sbl",
    ),
)
def draw_variance(
    weight: Image,
    self_tests: Facts,
    images: SceneImages,
) -> FigureContent:
    """Draw the prior SD map of a run on the high-resolution grid, below an anatomical image.

    `weight` is the temporal standard deviation on the high-resolution grid (3D, signal units).
    `self_tests` are results by series; they record whether a calibration run was used.
    """
    from bids_sr.report.figures.maps import variance_figure

    grid = read_grid(weight)
    anatomy = resample_to(images.guide_hr or images.boldref, *grid)
    calibrated = any(
        isinstance(result, Mapping) and result.get("calibrated") for result in self_tests.values()
    )
    source = f"the acquired series{' and the calibration' if calibrated else ''}"
    return variance_figure(
        weight, binarize(resample_to(images.bold_mask_hr, *grid)), anatomy, source=source
    )
