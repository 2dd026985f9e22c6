"""Figures of a participant: summary, anatomy, and T2* pair."""

from collections.abc import Iterator, Mapping

from bids_sr.engine.artifacts import Facts, Image, Mask
from bids_sr.engine.memory import Need
from bids_sr.report.figure_step import FigureContent, FigureDrawing, figure
from bids_sr.report.figure_steps.display_grids import (
    binarize,
    choose_display_grid,
    read_grid,
    resample_to,
)
from bids_sr.report.sections import ANATOMICAL, PAIR, FigureSpec, HtmlSpec


@figure(HtmlSpec("summary", "summary", suffix=ANATOMICAL, missing="summary of the subject"))
def summarize_subject(*, subject_facts: Mapping[str, object]) -> FigureContent:
    """Show the inputs of a participant, with warnings and notes.

    `subject_facts` has the entries of the summary.
    """
    from bids_sr.report.facts import facts_html

    return facts_html(subject_facts)


@figure(
    FigureSpec(
        "brain",
        "anatomical",
        suffix=ANATOMICAL,
        subtitle="Brain mask and tissues",
        tab="Brain mask and tissues",
        caption=(
            "Bias-corrected T1w image with outlines of the brain mask and of the tissue"
            " probability maps (threshold .5). If the region of interest is not the whole brain,"
            " it is outlined in light blue."
        ),
        missing="brain mask and tissues",
        remark="this figure requires a T1w image and a completed segmentation",
    ),
    memory=Need(always=0.02, t1w=0.029, high=0.0),
)
def draw_brain(
    t1w_preproc: Image,
    t1w_mask: Mask,
    t1w_tpms: list[Image] | None = None,
    roi_t1w: Mask | None = None,
) -> FigureContent:
    """Draw brain mask, tissues and region of interest on the T1w image.

    The region of interest is outlined unless it covers about the whole brain.

    `t1w_preproc` is bias-corrected. `t1w_tpms` are probabilities of gray matter, white matter and
    CSF in the T1w image (3D).
    """
    from bids_sr.report.figures.anatomy import mosaic_figure
    from bids_sr.report.figures.canvas import PURPLE, RED, ROI_COLOR, YELLOW
    from bids_sr.report.figures.slices import Outline, covers_brain

    colors = (("brain mask", RED), ("gray matter", YELLOW), ("white matter", PURPLE))
    grid = choose_display_grid(t1w_mask)
    brain, *tissues = (resample_to(image, *grid) for image in [t1w_mask, *(t1w_tpms or ())[:2]])
    outlines = [
        Outline(name=name, image=image, color=color)
        for (name, color), image in zip(colors, [brain, *tissues], strict=False)
    ]
    region = resample_to(roi_t1w, *grid) if roi_t1w else None
    if region and not covers_brain(region.data > 0.5, brain.data > 0.5):
        outlines.append(Outline(name="region of interest", image=region, color=ROI_COLOR))
    return mosaic_figure(resample_to(t1w_preproc, *grid), outlines, mask=brain)


@figure(
    FigureSpec(
        "norm",
        "anatomical",
        suffix=ANATOMICAL,
        static=False,
        subtitle="T1w to the template",
        tab="T1w to the template",
        caption=(
            "Top: template. Middle: T1w image before registration, in scanner space. Bottom: T1w"
            " image after spatial normalization. The outlines were computed from the template."
        ),
        missing="T1w to template",
    ),
    memory=Need(always=0.29, t1w=0.011, high=0.0),
)
def draw_normalization(
    t1w_preproc: Image, std_t1w: Image, template: Image, template_mask: Mask | None = None
) -> FigureContent:
    """Draw the registration of the T1w image to the template, before and after.

    `t1w_preproc` is bias-corrected. `std_t1w` is the T1w image in template space, with voxels of 2
    mm (3D), and `template` is skull-stripped.
    """
    from bids_sr.report.figures.anatomy import make_isolines, registration_figure

    unaligned, aligned = (
        resample_to(image, *read_grid(template)) for image in (t1w_preproc, std_t1w)
    )
    images = {"template": template, "T1w before": unaligned, "T1w after": aligned}
    return registration_figure(images, make_isolines(template, template_mask), mask=template_mask)


@figure(
    FigureSpec(
        "pair",
        "superres-training",
        suffix=PAIR,
        subtitle="Training images (T2* pair)",
        tab="Images",
        caption="Top: low-resolution image. Bottom: high-resolution image. Both images are shown"
        " as they were used for training.",
        missing="T2* pair and its registration",
        remark="these figures require a T2* pair and a completed registration",
    ),
    FigureSpec(
        "pairreg",
        "registration",
        suffix=PAIR,
        static=False,
        subtitle="Registration of the T2* pair",
        tab="T2* pair",
        caption=(
            "Top: low-resolution image. Middle: high-resolution image before registration, in"
            " scanner space. Bottom: high-resolution image after registration. The outlines were"
            " computed from the low-resolution image."
        ),
    ),
    HtmlSpec("pairinfo", "registration", suffix=PAIR, tab="Values"),
)
def draw_pair(
    train_highres: Image,
    train_lowres: Image,
    pair_mask: Mask | None = None,
    highres_file: Image | None = None,
    pair_facts: Facts | None = None,
) -> Iterator[FigureDrawing]:
    """Draw the T2*w pair as used for training, and its registration before and after.

    The images are in the frame of the low-resolution image.

    `pair_mask` is the head in the low-resolution image, `highres_file` the high-resolution image
    as acquired (3D), and `pair_facts` are values of the registration of the pair.
    """
    from bids_sr.report.facts import render_labeled
    from bids_sr.report.figures.anatomy import AXIAL_VIEWS, make_isolines, registration_figure
    from bids_sr.report.figures.maps import pair_figure

    yield FigureDrawing(
        "pair",
        pair_figure({"low resolution": train_lowres, "high resolution": train_highres}, pair_mask),
    )
    if highres_file:
        grid = read_grid(train_highres)
        reference, unaligned = resample_to(train_lowres, *grid), resample_to(highres_file, *grid)
        head = binarize(resample_to(pair_mask, *grid)) if pair_mask else None
        images = {
            "low resolution": reference,
            "high res. before": unaligned,
            "high res. after": train_highres,
        }
        drawing = registration_figure(
            images, make_isolines(reference, head), mask=head, views=AXIAL_VIEWS
        )
        yield FigureDrawing("pairreg", drawing)
    if pair_facts:
        yield FigureDrawing("pairinfo", render_labeled(pair_facts, "pair"))
