"""Figures of the participant: what was found, the anatomy, and the pair.

Figures of what a run was registered to: the T1w image, the pair and the calibration.

Figures of structural scans that were super-resolved together.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np

from bids_sr.config.machine import Need
from bids_sr.io.grids import Array
from bids_sr.pipeline.artifacts import (
    Facts,
    File,
    Image,
    Map,
    Mask,
    Rows,
    Table,
    Transforms,
    Volume,
)
from bids_sr.pipeline.figure import Content, Drawn, figure
from bids_sr.report.sections import ANATOMICAL, PAIR, SCANS, Shown
from bids_sr.spatial.transforms import hr_grid
from bids_sr.sr.method import Cost
from bids_sr.steps.figures.display_grids import (
    binary,
    display_grid,
    grid_of,
    native_or_display,
    onto,
)
from bids_sr.steps.structural import by_series, stacked, suffixes_of, untrained_slices


@figure(
    Shown("summary", "summary", suffix=ANATOMICAL, html=True, missing="summary of the subject")
)
def summarize_subject(*, subject_facts: Mapping[str, object]) -> Content:
    """What was found and what was done.

    `subject_facts`: what is known of the participant, with warnings and notes.
    """
    from bids_sr.report.html_tables import facts_html

    return facts_html(subject_facts)


@figure(
    Shown(
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
    cost=Cost(always=0.7, t1w=0.5),
)
def draw_brain(
    t1w_preproc: Image,
    t1w_mask: Mask,
    t1w_tpms: list[Image] | None = None,
    roi_t1w: Mask | None = None,
) -> Content:
    """Draw brain mask, tissues (GM, WM, CSF probabilities) and ROI on the T1w image.

    The ROI is drawn where it is smaller than the brain.

    `t1w_tpms`: probabilities of gray matter, white matter and CSF in T1w voxels (3D each).
    `roi_t1w`: voxels of the region of interest in the T1w image (3D, boolean).
    """
    from bids_sr.figures.anat_figures import mosaic_figure
    from bids_sr.figures.canvas import PURPLE, RED, ROI_COLOR, YELLOW
    from bids_sr.figures.slices import Outline, is_brain

    colors = (("brain mask", RED), ("gray matter", YELLOW), ("white matter", PURPLE))
    grid = native_or_display(t1w_mask)
    shown = [onto(each, *grid) for each in [t1w_mask, *(t1w_tpms or ())[:2]]]
    lines = [
        Outline(name=name, image=d, color=color)
        for (name, color), d in zip(colors, shown, strict=False)
    ]
    region = onto(roi_t1w, *grid) if roi_t1w else None
    if region and not is_brain(region.data > 0.5, shown[0].data > 0.5):
        lines.append(Outline(name="region of interest", image=region, color=ROI_COLOR))
    return mosaic_figure(onto(t1w_preproc, *grid), lines, mask=shown[0])


@figure(
    Shown(
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
    cost=Cost(always=2.5),
)
def draw_normalization(
    t1w_preproc: Image, std_t1w: Image, template: Image, template_mask: Mask | None = None
) -> Content:
    """T1w against the template, before and after normalization.

    `std_t1w`: T1w image in template space, with voxels of 2 mm (3D). `template_mask`: voxels of
    the brain in the template (3D, boolean).
    """
    from bids_sr.figures.anat_figures import isolines, registration_figure

    before, after = (onto(each, *grid_of(template)) for each in (t1w_preproc, std_t1w))
    images = {"template": template, "T1w before": before, "T1w after": after}
    return registration_figure(images, isolines(template, template_mask), mask=template_mask)


@figure(
    Shown(
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
    Shown(
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
    Shown(
        "pairinfo",
        "registration",
        suffix=PAIR,
        html=True,
        tab="Values",
    ),
)
def draw_pair(
    train_highres: Image,
    train_lowres: Image,
    pair_mask: Mask | None = None,
    highres_file: Image | None = None,
    pair_facts: Facts | None = None,
) -> Iterator[Drawn]:
    """Draw the T2*w pair as used for training, and its alignment before and after.

    The pair is shown in the frame of lowres.

    `train_highres`: high-resolution image of the T2*w pair in the frame of lowres (3D).
    `pair_mask`: voxels of the head in lowres (3D, boolean). `highres_file`: high-resolution image
    of the T2*w pair as acquired (3D).
    """
    from bids_sr.figures.anat_figures import AXIAL_VIEWS, isolines, registration_figure
    from bids_sr.figures.map_figures import pair_figure
    from bids_sr.report.html_tables import labeled_html

    yield Drawn(
        "pair",
        pair_figure({"low resolution": train_lowres, "high resolution": train_highres}, pair_mask),
    )
    if highres_file:
        grid = grid_of(train_highres)
        reference, before = onto(train_lowres, *grid), onto(highres_file, *grid)
        inside = binary(onto(pair_mask, *grid)) if pair_mask else None
        images = {
            "low resolution": reference,
            "high res. before": before,
            "high res. after": train_highres,
        }
        lines = isolines(reference, inside)
        yield Drawn("pairreg", registration_figure(images, lines, mask=inside, views=AXIAL_VIEWS))
    if pair_facts:
        yield Drawn("pairinfo", labeled_html(pair_facts, "pair"))


@figure(
    Shown(
        "registration",
        "registration",
        html=True,
        tab="Values",
        missing="registration metrics of the run",
    ),
)
def show_registration(registration: Facts) -> Content:
    """How well the run was registered, with a warning for whatever seems wrong."""
    from bids_sr.report.html_tables import registration_html

    return registration_html(registration)


@figure(
    Shown(
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
    cost=Cost(always=0.4, t1w=0.27),
)
def draw_coregistration(
    boldref: Image,
    t1w_preproc: Image,
    t1w_mask: Mask,
    boldref2t1w_xfm: Transforms,
    t1w_tpms: list[Image] | None = None,
) -> Content:
    """BOLD reference against T1w, before and after registration.

    `boldref2t1w_xfm`: transform of a T1w point to its boldref point (1, 4, 4; RAS+ mm).
    `t1w_tpms`: probabilities of gray matter, white matter and CSF in T1w voxels (3D each).
    """
    from bids_sr.figures.anat_figures import registration_figure
    from bids_sr.figures.canvas import PURPLE, RED
    from bids_sr.figures.slices import Outline

    grid = display_grid(t1w_mask)
    inside = onto(t1w_mask, *grid)
    lines = [Outline(name="T1w brain mask", image=inside, color=RED)]
    if t1w_tpms and len(t1w_tpms) > 1:
        lines.append(
            Outline(name="T1w white matter", image=onto(t1w_tpms[1], *grid), color=PURPLE)
        )
    before, after = onto(boldref, *grid), onto(boldref, *grid, boldref2t1w_xfm[0])
    brain = binary(inside)
    covered = brain.like(brain.data & (after.data > 0))
    images = {"T1w": onto(t1w_preproc, *grid), "boldref before": before, "boldref after": after}
    return registration_figure(images, lines, mask=covered if covered.data.any() else brain)


@figure(
    Shown(
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
) -> Content:
    """Draw highres T2*w against the boldref, before and after registration.

    `guide_hr` is the highres T2*w image on the high-resolution grid.
    """
    from bids_sr.figures.anat_figures import AXIAL_VIEWS, isolines, registration_figure

    grid = grid_of(guide_hr)
    reference = onto(boldref, *grid)
    images = {
        "boldref": reference,
        "highres before": onto(highres_file or guide_hr, *grid),
        "highres after": guide_hr,
    }
    return registration_figure(
        images, isolines(reference, bold_mask_hr), mask=bold_mask_hr, views=AXIAL_VIEWS
    )


@figure(
    Shown(
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
    Shown("calibrationfacts", "registration", html=True, tab="Calibration values"),
)
def draw_calibration(
    boldref: Image,
    bold_mask: Mask,
    calibration_ref: Image,
    boldref2calibration_xfm: Transforms,
    calibration_facts: Facts,
    tested: Facts,
) -> Iterator[Drawn]:
    """The calibration against the run, and what became of it.

    `boldref2calibration_xfm`: transform of a boldref point to its calibration point (1, 4, 4; RAS+
    mm). `tested`: of the series that it entered, see `estimate_variance`.
    """
    from bids_sr.figures.anat_figures import AXIAL_VIEWS, isolines, registration_figure
    from bids_sr.report.html_tables import calibration_html

    ratio = boldref.zooms / calibration_ref.zooms
    grid = hr_grid(boldref.data.shape, boldref.affine, [max(float(each), 1.0) for each in ratio])
    matrix = np.asarray(boldref2calibration_xfm[0])
    inside = binary(onto(bold_mask, *grid))
    reference = onto(boldref, *grid)
    images = {
        "boldref": reference,
        "calibration before": onto(calibration_ref, *grid),
        "calibration after": onto(calibration_ref, *grid, matrix),
    }
    lines = isolines(reference, inside)
    yield Drawn(
        "calibrationreg", registration_figure(images, lines, mask=inside, views=AXIAL_VIEWS)
    )
    use = next(
        (each.get("calibration") for each in tested.values() if isinstance(each, Mapping)), None
    )
    voxel_mm = float(boldref.zooms[:2].max())
    yield Drawn("calibrationfacts", calibration_html({**calibration_facts, "use": use}, voxel_mm))


@figure(
    Shown(
        "controlscans",
        "control",
        suffix=SCANS,
        html=True,
        missing="volumes of the structural scans",
        remark="a required step did not finish",
    ),
    cost=Cost(always=0.5),
)
def draw_control(scan_metrics: Rows, scan_facts: Facts, *, session: str) -> Content:
    """Show the tissue volumes of one session of a participant without low-resolution scans.

    `scan_facts`: alignment and position of each scan. `session`: label of the session; "" without
    one.
    """
    from bids_sr.report.html_tables import facts_html
    from bids_sr.report.metric_tables import CONTROL_SCANS, tables_html
    from bids_sr.report.sections import joined, render

    title = f"Session {session}: tissue volumes" if session else "Tissue volumes"
    note = (
        f"{title}. This session has no low-resolution scans to super-resolve. For changes in"
        " tissue volume between sessions, see the group page."
    )
    positions = {
        f"Position relative to the first scan ({scan_facts['align']})": scan_facts["offsets"]
    }
    return joined(
        [
            render("note", "note", note),
            tables_html([CONTROL_SCANS], scan_metrics),
            facts_html(positions),
        ]
    )


@figure(
    Shown("lowresscans", "lowres", suffix=SCANS, html=True),
    Shown(
        "lowresslice",
        "lowres",
        suffix=SCANS,
        subtitle="Input and super-resolved scans of each contrast: one slice",
        caption=(
            "Slice in the same orientation as the training slices. Input scans were aligned and"
            " interpolated once (linear, bspline) to the voxel size of the model."
        ),
    ),
    Shown(
        "lowrescoronal",
        "lowres",
        suffix=SCANS,
        subtitle="Input and super-resolved scans of each contrast: middle coronal plane",
        caption="Same as the previous figure, for the middle coronal plane.",
    ),
    Shown("lowresfacts", "structural", suffix=SCANS, html=True, place=2, tab="Positions"),
    memory=Need(always=0.1, scans=0.10),
    cost=Cost(always=3.0),
)
def draw_lowres(
    coarse_scans: list[Map],
    other_scans: list[Map],
    made_scans: list[Map],
    scan_mask: Mask,
    scan_facts: Facts,
    *,
    session: str,
) -> Iterator[Drawn]:
    """Draw input and super-resolved scans of a session without a high-resolution scan.

    `coarse_scans`: low-resolution scans on the grid of the model by cubic spline. `other_scans`:
    the same by other interpolations. `scan_mask`: voxels that remain of the scans (3D, boolean).
    `scan_facts`: alignment and position of each scan. `session`: label of the session; "" without
    one.
    """
    from bids_sr.figures.anat_figures import scans_figure
    from bids_sr.report.html_tables import facts_html
    from bids_sr.report.sections import render

    title = f"Session {session}. " if session else ""
    note = (
        f"{title}This session has only low-resolution scans"
        f" ({', '.join(suffixes_of(coarse_scans))}), which were super-resolved with a model"
        " trained on other scans. Accuracy is unknown because there is no measured"
        " high-resolution scan. A network can add detail that does not exist, so compare each"
        " super-resolved scan with its input."
    )
    yield Drawn("lowresscans", render("note", "note", note))
    series = {
        name: {key: scan_mask.like(scan) for key, scan in scans.items()}
        for name, scans in by_series([*other_scans, *coarse_scans, *made_scans]).items()
    }
    index = _shown_slice(scan_mask.data, ())
    yield Drawn("lowresslice", scans_figure(series, {}, scan_mask, index))
    yield Drawn("lowrescoronal", scans_figure(series, {}, scan_mask, None))
    positions = f"Position relative to the first scan ({scan_facts['align']})"
    yield Drawn("lowresfacts", facts_html({positions: scan_facts["offsets"]}))


@figure(
    Shown(
        "scansoverview",
        "result",
        suffix=SCANS,
        html=True,
        missing="results of the structural scans",
        remark="a required step did not finish",
    ),
    Shown(
        "scans",
        "result",
        suffix=SCANS,
        subtitle="All series of each contrast: one slice",
        caption=(
            "Slice that was not used for training any model. Scans were aligned, interpolated"
            " once and scaled to the same mean intensity in the brain. Last column: difference"
            " between the last method and the measured scan (red: super-resolved scan too"
            " bright). A method that was trained on the same participant may have learned"
            " anatomical details of this participant. How well the method generalizes can only be"
            " assessed in other participants."
        ),
        missing="slice of each contrast",
    ),
    Shown(
        "scanscoronal",
        "result",
        suffix=SCANS,
        subtitle="All series of each contrast: middle coronal plane",
        caption=(
            "Same as the previous figure, for the middle coronal plane. This plane crosses all"
            " axial slices. With --train-on own, the network was trained on four fifths of these"
            " slices."
        ),
        missing="coronal plane of each contrast",
    ),
    Shown(
        "scanmasks",
        "result",
        suffix=SCANS,
        subtitle="Lesions and tissue classes in input, super-resolved and measured scans",
        caption=(
            "FLAIR scans with segmentations. Second row: white-matter hyperintensities in each"
            " scan (red) and in the measured scan (yellow). Fourth row: CSF (red), veins and"
            " sinuses (green) and pial layer (blue) in the middle coronal plane, segmented from"
            " T1w, T2w and FLAIR scans together. All scans were segmented separately with the"
            " same settings, and no mask was edited."
        ),
    ),
    Shown(
        "scans",
        "structural",
        suffix=SCANS,
        html=True,
        tab="Metrics",
        missing="metrics of the structural scans",
        unless="lowresfacts",
    ),
    Shown(
        "scanfacts",
        "structural",
        suffix=SCANS,
        html=True,
        place=2,
        tab="Positions",
        missing="positions of the scans",
        unless="lowresfacts",
    ),
    memory=Need(always=0.1, scans=0.10),
    cost=Cost(always=5.0),
)
def draw_scans(
    fine_scans: list[Map],
    coarse_scans: list[Map],
    other_scans: list[Map],
    scan_mask: Mask,
    made_scans: list[Map],
    card_file: list[Facts],
    scan_metrics: Rows,
    scan_classes: list[Map],
    scan_facts: Facts,
    *,
    subject_facts: Mapping[str, object],
) -> Iterator[Drawn]:
    """Draw the result, series side by side in a held-out slice, metrics, and misalignment.

    The misalignment is how far the scans lay from each other.

    `scan_mask`: voxels of the brain on the grid of the scans (3D, boolean). `scan_classes`:
    classes and lesions of all series. `scan_facts`: alignment, position of each scan, and
    intensities that became 1.
    """
    from bids_sr.figures.anat_figures import classes_figure, scans_figure
    from bids_sr.report.html_tables import facts_html
    from bids_sr.report.metric_tables import SCANS, tables_html
    from bids_sr.report.scans_overview import scans_overview_html

    who = f"sub-{subject_facts['Participant']}"
    yield Drawn("scansoverview", scans_overview_html(scan_metrics, who, suffixes_of(fine_scans)))
    found = by_series([*coarse_scans, *other_scans, *made_scans, *fine_scans])
    series = {
        name: {key: scan_mask.like(scan) for key, scan in scans.items()}
        for name, scans in found.items()
    }
    measured = series.pop("measured")
    index = _shown_slice(
        scan_mask.data, untrained_slices(fine_scans, coarse_scans, scan_mask, card_file)
    )
    yield Drawn("scans", scans_figure(series, measured, scan_mask, index))
    yield Drawn("scanscoronal", scans_figure(series, measured, scan_mask, None))
    if "FLAIR" in measured:
        made = dict.fromkeys(each.entities["desc"] for each in made_scans)
        flairs = {name: series[name]["FLAIR"] for name in (_drawn_input(series), *made)}
        kinds = {
            suffix: {
                each.entities["desc"]: each.volume
                for each in scan_classes
                if each.entities["suffix"] == suffix
            }
            for suffix in ("mask", "dseg")
        }
        flairs["measured"] = measured["FLAIR"]
        yield Drawn(
            "scanmasks", classes_figure(flairs, kinds["mask"], kinds["dseg"], scan_mask, index)
        )
    yield Drawn("scans", tables_html(SCANS, scan_metrics))
    title = f"Position relative to the first scan ({scan_facts['align']})"
    yield Drawn("scanfacts", facts_html({title: scan_facts["offsets"]}))


@figure(
    Shown(
        "attention",
        "structural",
        suffix=SCANS,
        place=1,
        subtitle="Attention gates of the network and Grad-CAM of its critic",
        tab="Attention",
        caption=(
            "Attention maps show the fraction of features that the gates pass at each level, from"
            " coarse to fine (black: none, yellow: all). Grad-CAM maps of the critic show the"
            " voxels that influence its score. The score is 1 for an image acquired at the high"
            " resolution and 0 for a generated image. If the critic scores the super-resolved"
            " slice as generated, check this slice for artifacts. These maps help with"
            " interpretation but are not evidence of accuracy."
        ),
        request="attention maps and Grad-CAM maps of the critic",
        remark="method attunet",
    ),
    Shown(
        "scantraining",
        "structural",
        suffix=SCANS,
        place=1,
        subtitle="Training curve",
        tab="Training",
        caption="Left: peak signal-to-noise ratio on held-out slices. Right: training losses.",
        missing="training curve",
        unless="lowresfacts",
    ),
    Shown("scancard", "structural", suffix=SCANS, html=True, place=1, missing="model card"),
    memory=Need(always=0.35, scans=0.10),
    cost=Cost(always=3.0),
)
def explain_scans(
    coarse_scans: list[Map],
    made_scans: list[Map],
    scan_mask: Mask,
    model_file: File,
    card_file: Facts,
    log_file: Table,
    fine_scans: list[Map] | None = None,
    *,
    method_label: str = "",
) -> Iterator[Drawn]:
    """Draw what the gates pass, what the critic looks at, and the course of training.

    Of gates and critic nothing is drawn for a network without either.

    `coarse_scans`: coarse scans on the fine grid by cubic spline, one for each contrast.
    `scan_mask`: voxels of the brain on the grid of the scans (3D, boolean). `fine_scans`: measured
    scans of high resolution; None without any.
    """
    from bids_sr.figures.anat_figures import explanation_figure, training_figure
    from bids_sr.report.html_tables import card_html
    from bids_sr.sr.models.model import load_model
    from bids_sr.sr.training.fused import explain_slice

    affine = scan_mask.affine
    kept: list[int] = []
    if fine_scans:
        kept = untrained_slices(fine_scans, coarse_scans, scan_mask, [card_file])
    index = _shown_slice(scan_mask.data, kept)
    low, high = stacked(coarse_scans), stacked(fine_scans) if fine_scans else None
    seen = explain_slice(load_model(model_file), low, high, scan_mask.data, affine, index)
    shown = (("made", seen.critic_made, "super-resolved"), ("fine", seen.critic_fine, "measured"))
    maps = {
        f"critic, {text} (score {seen.scores[key]:.2f})": m
        for key, m, text in shown
        if m is not None
    }
    if len(seen.masks) or maps:
        slabs = {title: Volume(each[..., None], affine) for title, each in maps.items()}
        gates = [Volume(each[..., None], affine) for each in seen.masks]
        drawn = explanation_figure(made_scans[0].volume, gates, slabs, index)
        yield Drawn("attention", drawn, label=method_label)
    if len(log_file):
        columns = {str(name): values.to_numpy() for name, values in log_file.items()}
        yield Drawn("scantraining", training_figure(columns, card_file), label=method_label)
    yield Drawn("scancard", card_html(card_file), label=method_label)


def _drawn_input(series: Collection[str]) -> str:
    """Return the interpolation that stands for the input: trilinear, as in attention_unet."""
    return "linear" if "linear" in series else "bspline"


def _shown_slice(mask: Array, held_out: Sequence[int]) -> int:
    """Return the held-out slice nearest to .6 of the brain's height; of all slices without any."""
    filled = np.flatnonzero(mask.any((0, 1)))
    wanted = filled[0] + 0.6 * (filled[-1] - filled[0])
    kept = [z for z in held_out if z in filled] or list(filled)
    return int(min(kept, key=lambda z: abs(z - wanted)))
