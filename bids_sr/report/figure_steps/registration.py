"""Figures of the registrations of a run: to the T1w image, the pair and the calibration run."""

from collections.abc import Iterator, Mapping

import numpy as np

from bids_sr.engine.artifacts import Facts, Image, Mask
from bids_sr.engine.memory import Need
from bids_sr.report.figure_step import FigureContent, FigureDrawing, figure
from bids_sr.report.figure_steps.display_grids import (
    binarize,
    display_grid,
    read_grid,
    resample_to,
)
from bids_sr.report.sections import FigureSpec, HtmlSpec
from bids_sr.spatial.itk_files import Transforms
from bids_sr.spatial.transforms import hr_grid


@figure(
    HtmlSpec(
        "registration", "registration", tab="Values", missing="registration metrics of the run"
    ),
)
def show_registration(registration: Facts) -> FigureContent:
    """Show the quality of the registrations of a run, with warnings about implausible values."""
    from bids_sr.report.registration_facts import registration_html

    return registration_html(registration)


@figure(
    FigureSpec(
        "coreg",
        "registration",
        static=False,
        subtitle="boldref to T1w",
        tab="BOLD to T1w",
        caption=(
            "Top: T1w image. Middle: boldref (mean of the run) before registration, in scanner"
            " space. Bottom: boldref after registration. The outlines were computed from the T1w"
            " image."
        ),
        missing="registration of the boldref to the T1w image",
        remark="this figure requires a T1w image and a completed registration",
    ),
    memory=Need(always=0.03, t1w=0.020, high=0.0),
)
def draw_coregistration(
    boldref: Image,
    t1w_preproc: Image,
    t1w_mask: Mask,
    boldref2t1w_xfm: Transforms,
    t1w_tpms: list[Image] | None = None,
) -> FigureContent:
    """Draw the registration of the boldref to the T1w image, before and after.

    `t1w_preproc` is bias-corrected. `boldref2t1w_xfm` is the transform of T1w points to boldref
    points (1, 4, 4; RAS mm). `t1w_tpms` are probabilities of gray matter, white matter and CSF in
    the T1w image (3D).
    """
    from bids_sr.report.figures.anatomy import registration_figure
    from bids_sr.report.figures.canvas import PURPLE, RED
    from bids_sr.report.figures.slices import Outline

    grid = display_grid(t1w_mask)
    brain_fraction = resample_to(t1w_mask, *grid)
    outlines = [Outline(name="T1w brain mask", image=brain_fraction, color=RED)]
    if t1w_tpms and len(t1w_tpms) > 1:
        outlines.append(
            Outline(name="T1w white matter", image=resample_to(t1w_tpms[1], *grid), color=PURPLE)
        )
    unaligned = resample_to(boldref, *grid)
    aligned = resample_to(boldref, *grid, boldref2t1w_xfm[0])
    brain = binarize(brain_fraction)
    covered = brain.like(brain.data & (aligned.data > 0))
    images = {
        "T1w": resample_to(t1w_preproc, *grid),
        "boldref before": unaligned,
        "boldref after": aligned,
    }
    return registration_figure(images, outlines, mask=covered if covered.data.any() else brain)


@figure(
    FigureSpec(
        "highres",
        "registration",
        static=False,
        subtitle="High-resolution T2* to the boldref",
        tab="T2* to BOLD",
        caption=(
            "Top: boldref. Middle: high-resolution T2*-weighted image before registration, in"
            " scanner space. Bottom: high-resolution T2*-weighted image after registration. The"
            " outlines were computed from the boldref."
        ),
        missing="registration of the high-resolution T2* image to the boldref",
        remark="this figure requires a T2* pair and a completed registration",
    ),
)
def draw_guide(
    boldref: Image,
    guide_hr: Image,
    highres_file: Image | None = None,
    bold_mask_hr: Mask | None = None,
) -> FigureContent:
    """Draw the high-resolution T2*w image and the boldref, before and after registration.

    `guide_hr` is the registered T2*w image on the high-resolution grid.
    """
    from bids_sr.report.figures.anatomy import AXIAL_VIEWS, make_isolines, registration_figure

    grid = read_grid(guide_hr)
    reference = resample_to(boldref, *grid)
    images = {
        "boldref": reference,
        "highres before": resample_to(highres_file or guide_hr, *grid),
        "highres after": guide_hr,
    }
    return registration_figure(
        images, make_isolines(reference, bold_mask_hr), mask=bold_mask_hr, views=AXIAL_VIEWS
    )


@figure(
    FigureSpec(
        "calibrationreg",
        "registration",
        static=False,
        subtitle="Calibration to the boldref",
        tab="Calibration to BOLD",
        caption=(
            "Top: boldref. Middle: mean of the calibration run (a short run at the high"
            " resolution) before registration, in scanner space. Bottom: mean of the calibration"
            " run after registration. The outlines were computed from the boldref. If the"
            " outlines do not match the registered image, the two runs differ in susceptibility"
            " distortion."
        ),
    ),
    HtmlSpec("calibrationfacts", "registration", tab="Calibration values"),
)
def draw_calibration(
    boldref: Image,
    bold_mask: Mask,
    calibration_ref: Image,
    boldref2calibration_xfm: Transforms,
    calibration_facts: Facts,
    self_tests: Facts,
) -> Iterator[FigureDrawing]:
    """Draw the registration of a calibration run, and the result of the calibration.

    `calibration_ref` is the mean of the calibration run, and `boldref2calibration_xfm` the
    transform of boldref points to calibration points (1, 4, 4; RAS mm). `calibration_facts` are
    measurements of the calibration run. `self_tests` are results of `estimate_variance`,
    which record the use of the calibration run.
    """
    from bids_sr.report.figures.anatomy import AXIAL_VIEWS, make_isolines, registration_figure
    from bids_sr.report.registration_facts import calibration_html

    ratio = boldref.zooms / calibration_ref.zooms
    grid = hr_grid(boldref.data.shape, boldref.affine, [max(float(size), 1.0) for size in ratio])
    matrix = np.asarray(boldref2calibration_xfm[0])
    brain = binarize(resample_to(bold_mask, *grid))
    reference = resample_to(boldref, *grid)
    images = {
        "boldref": reference,
        "calibration before": resample_to(calibration_ref, *grid),
        "calibration after": resample_to(calibration_ref, *grid, matrix),
    }
    drawing = registration_figure(
        images, make_isolines(reference, brain), mask=brain, views=AXIAL_VIEWS
    )
    yield FigureDrawing("calibrationreg", drawing)
    results = (result for result in self_tests.values() if isinstance(result, Mapping))
    calibration_use = next((result.get("calibration") for result in results), None)
    facts = {**calibration_facts, "use": calibration_use}
    voxel_mm = float(boldref.zooms[:2].max())
    yield FigureDrawing("calibrationfacts", calibration_html(facts, voxel_mm))
