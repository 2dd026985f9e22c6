"""Figures of structural scans: super-resolved, measured, and without low-resolution scans."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from bids_sr.engine.artifacts import Derivative, Facts, File, Map, Rows, Volume
from bids_sr.engine.memory import Need
from bids_sr.io.arrays import Array
from bids_sr.report.figure_step import FigureContent, FigureDrawing, figure
from bids_sr.report.sections import SCANS, FigureSpec, HtmlSpec
from bids_sr.sr.steps.training import ModelFiles
from bids_sr.structural.steps.scans import (
    PreparedScans,
    check_acquired,
    group_by_series,
    list_suffixes,
    read_edited_mask,
    select_untrained_slices,
    stack_scans,
)

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.figure import Figure

_SLICE_HEIGHT = 0.6  # of the brain, from its lowest to its highest slice
_scans_figure, _scans_html = partial(FigureSpec, suffix=SCANS), partial(HtmlSpec, suffix=SCANS)


@figure(
    _scans_html(
        "controlscans",
        "control",
        missing="volumes of the structural scans",
        remark="a required step did not finish",
    ),
)
def draw_control(scan_metrics: Rows, scan_facts: Facts, *, session: str) -> FigureContent:
    """Show the tissue volumes of one session of a participant without low-resolution scans.

    `scan_facts` has alignment and position of each scan. `session` is the session label, or "" if
    there are no sessions.
    """
    from bids_sr.report.markup import join, render
    from bids_sr.report.metric_tables import CONTROL_SCANS, tables_html

    title = f"Session {session}: tissue volumes" if session else "Tissue volumes"
    note = (
        f"{title}. This session has no low-resolution scans to super-resolve. For changes in"
        " tissue volume between sessions, see the group page."
    )
    return join(
        [
            render("note", "note", note),
            tables_html([CONTROL_SCANS], scan_metrics),
            _list_positions(scan_facts),
        ]
    )


@figure(
    _scans_html("lowresscans", "lowres"),
    _scans_figure(
        "lowresslice",
        "lowres",
        subtitle="Input and super-resolved scans of each contrast: one slice",
        caption=(
            "Slice in the same orientation as the training slices. Input scans were aligned and"
            " interpolated once (linear, bspline) to the voxel size of the model."
        ),
    ),
    _scans_figure(
        "lowrescoronal",
        "lowres",
        subtitle="Input and super-resolved scans of each contrast: middle coronal plane",
        caption="Same as the previous figure, for the middle coronal plane.",
    ),
    _scans_html("lowresfacts", "structural", place=2, tab="Positions"),
    memory=Need(always=0.1, scans=0.10),
)
def draw_lowres(
    scans: PreparedScans,
    made_scans: list[Map],
    *,
    session: str,
) -> Iterator[FigureDrawing]:
    """Draw input and super-resolved scans of a session without high-resolution scans.

    `made_scans` are super-resolved. `session` is "" if there are no sessions.
    """
    from bids_sr.evaluation.acquired_scan import altered_sentences
    from bids_sr.report.facts import messages_html
    from bids_sr.report.markup import join, render
    from bids_sr.report.metric_tables import ACQUIRED_SCANS, tables_html
    from bids_sr.structural.figures import scans_figure

    title = f"Session {session}. " if session else ""
    note = (
        f"{title}This session has only low-resolution scans"
        f" ({', '.join(list_suffixes(scans.coarse_scans))}), which were super-resolved with a"
        " model trained on other scans. Accuracy is unknown because there is no measured"
        " high-resolution scan. A network can add detail that does not exist, so compare each"
        " super-resolved scan with its input."
    )
    rows = check_acquired(scans, made_scans)
    warnings = altered_sentences(rows)
    metrics = tables_html([ACQUIRED_SCANS], rows) if rows else ""
    paragraphs = [messages_html("warning", warnings), render("note", "note", note), metrics]
    yield FigureDrawing("lowresscans", join(paragraphs))
    scan_mask = scans.scan_mask
    series = _group_volumes([*scans.other_scans, *scans.coarse_scans, *made_scans], scan_mask)
    index = _select_slice(scan_mask.data, ())
    yield FigureDrawing("lowresslice", scans_figure(series, {}, scan_mask, index))
    yield FigureDrawing("lowrescoronal", scans_figure(series, {}, scan_mask, None))
    yield FigureDrawing("lowresfacts", _list_positions(scans.scan_facts))


@figure(
    _scans_html(
        "scansoverview",
        "result",
        missing="results of the structural scans",
        remark="a required step did not finish",
    ),
    _scans_figure(
        "scans",
        "result",
        subtitle="All series of each contrast: one slice",
        caption=(
            "Slice that was not used for training any model, unless the participant is in the"
            " training set of anat.split. Scans were aligned, interpolated once and scaled to the"
            " same mean intensity in the brain. Last column: difference between the last method"
            " and the measured scan (red: super-resolved scan too bright). A method that was"
            " trained on the same participant may have learned"
            " anatomical details of this participant. How well the method generalizes can only be"
            " assessed in other participants."
        ),
        missing="slice of each contrast",
    ),
    _scans_figure(
        "scanscoronal",
        "result",
        subtitle="All series of each contrast: middle coronal plane",
        caption=(
            "Same as the previous figure, for the middle coronal plane. This plane crosses all"
            " axial slices. If the network was trained on the participant's own scans, it was"
            " trained on four fifths of these slices."
        ),
        missing="coronal plane of each contrast",
    ),
    _scans_figure(
        "scanmasks",
        "result",
        subtitle="Lesions and tissue classes in input, super-resolved and measured scans",
        caption=(
            "FLAIR scans with segmentations, in the slice with most hyperintensities among the"
            " slices that were not used for training. Second row: white-matter hyperintensities in"
            " each scan (red) and in the measured scan (yellow), and the edited mask (orange) if"
            " it was specified. Fourth row: CSF (red), veins and sinuses (green) and pial layer"
            " (blue) in the middle coronal plane, segmented from T1w, T2w and FLAIR scans together"
            " with class intensities that were fitted to the measured scans."
        ),
    ),
    _scans_html(
        "scans",
        "structural",
        tab="Metrics",
        missing="metrics of the structural scans",
        unless=("lowresfacts",),
    ),
    _scans_html(
        "scanfacts",
        "structural",
        place=2,
        tab="Positions",
        missing="positions of the scans",
        unless=("lowresfacts",),
    ),
    memory=Need(always=0.1, scans=0.10),
)
def draw_scans(
    scans: PreparedScans,
    made_scans: list[Map],
    card_file: list[Facts],
    scan_metrics: Rows,
    scan_classes: list[Map],
    given_wmh_reference: File | None = None,
    *,
    subject_facts: Mapping[str, object],
) -> Iterator[FigureDrawing]:
    """Draw overview, slices of all series, lesions and tissue classes, metrics, and positions.

    `made_scans` are super-resolved. `card_file` has model cards, which list held-out slices.
    `scan_classes` are tissue classes and lesions of all series. `given_wmh_reference` is an edited
    mask of white-matter hyperintensities in the measured scans.
    """
    from bids_sr.report import metric_tables
    from bids_sr.structural.figures import scans_figure
    from bids_sr.structural.overview import scans_overview_html

    fine_scans, scan_mask = scans.fine_scans, scans.scan_mask
    assert fine_scans is not None
    participant = f"sub-{subject_facts['Participant']}"
    yield FigureDrawing(
        "scansoverview", scans_overview_html(scan_metrics, participant, list_suffixes(fine_scans))
    )
    all_scans = [*scans.coarse_scans, *scans.other_scans, *made_scans, *fine_scans]
    series = _group_volumes(all_scans, scan_mask)
    measured = series.pop("measured")
    held_out = select_untrained_slices(scans, card_file)
    index = _select_slice(scan_mask.data, held_out)
    yield FigureDrawing("scans", scans_figure(series, measured, scan_mask, index))
    yield FigureDrawing("scanscoronal", scans_figure(series, measured, scan_mask, None))
    if "FLAIR" in measured:
        method_names = dict.fromkeys(scan.entities["desc"] for scan in made_scans)
        # the series shown as the input: trilinear if available, as in attention_unet
        input_series = "linear" if "linear" in series else "bspline"
        flairs = {name: series[name]["FLAIR"] for name in (input_series, *method_names)}
        flairs["measured"] = measured["FLAIR"]
        edited = None
        if given_wmh_reference is not None:
            edited = scan_mask.like(read_edited_mask(given_wmh_reference, scan_mask))
        drawing = _draw_classes(flairs, scan_classes, scan_mask, held_out, edited)
        yield FigureDrawing("scanmasks", drawing)
    tables = metric_tables.tables_html(metric_tables.SCANS, scan_metrics)
    yield FigureDrawing("scans", tables)
    yield FigureDrawing("scanfacts", _list_positions(scans.scan_facts))


def _list_positions(scan_facts: Facts) -> "Markup":
    """Render the position of each scan relative to the first scan."""
    from bids_sr.report.facts import facts_html

    title = f"Position relative to the first scan ({scan_facts['align']})"
    return facts_html({title: scan_facts["offsets"]})


def _group_volumes(scans: Sequence[Derivative], grid: Volume) -> dict[str, dict[str, Volume]]:
    """Return the images of scans on a common grid, by series and contrast."""
    return {
        series: {contrast: grid.like(image) for contrast, image in images.items()}
        for series, images in group_by_series(scans).items()
    }


def _draw_classes(
    flairs: Mapping[str, Volume],
    scan_classes: Sequence[Derivative],
    scan_mask: Volume,
    held_out: Sequence[int],
    edited: Volume | None,
) -> "Figure":
    """Draw lesions and tissue classes in FLAIR scans.

    `flairs` are FLAIR scans by series, and `scan_classes` the tissue classes and lesions of all
    series. `held_out` are slices that were not used for training, counted from 0. `edited` are
    edited lesions of the measured scan (3D, boolean); None if there is no edited mask.
    """
    from bids_sr.structural.figures import classes_figure

    lesion_masks, class_labels = (
        {
            scan.entities["desc"]: scan.volume
            for scan in scan_classes
            if scan.entities["suffix"] == suffix
        }
        for suffix in ("mask", "dseg")
    )
    lesions = edited or lesion_masks["measured"]
    counts = np.count_nonzero(lesions.data, axis=(0, 1))
    index = int(max(held_out or range(len(counts)), key=lambda z: counts[z]))
    if not counts[index]:  # no held-out slice has lesions
        index = _select_slice(scan_mask.data, held_out)
    return classes_figure(flairs, lesion_masks, class_labels, scan_mask, index, edited=edited)


@figure(
    _scans_figure(
        "attention",
        "structural",
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
    _scans_figure(
        "scantraining",
        "structural",
        place=1,
        subtitle="Training curve",
        tab="Training",
        caption="Left: peak signal-to-noise ratio on held-out slices. Right: training losses.",
        missing="training curve",
        unless=("lowresfacts",),
    ),
    _scans_html("scancard", "structural", place=1, missing="model card"),
    memory=Need(always=0.35, scans=0.10),
)
def explain_scans(
    scans: PreparedScans,
    made_scans: list[Map],
    files: ModelFiles,
    *,
    method_label: str = "",
) -> Iterator[FigureDrawing]:
    """Draw attention gates, Grad-CAM maps of the critic, training curve and model card.

    Attention and Grad-CAM maps are only drawn if the network has gates or a critic. `made_scans`
    are super-resolved. `method_label` is the label of the figures if several networks
    are shown.
    """
    from bids_sr.report.facts import card_html
    from bids_sr.report.figures.training import training_figure
    from bids_sr.sr.models.model import load_model
    from bids_sr.sr.networks.inference.apply_to_contrasts import explain_slice
    from bids_sr.structural.figures import explanation_figure

    scan_mask, fine_scans, affine = scans.scan_mask, scans.fine_scans, scans.scan_mask.affine
    held_out = select_untrained_slices(scans, [files.card_file]) if fine_scans else []
    index = _select_slice(scan_mask.data, held_out)
    explanation = explain_slice(
        load_model(files.model_file),
        stack_scans(scans.coarse_scans),
        stack_scans(fine_scans) if fine_scans else None,
        scan_mask.data,
        affine,
        index,
    )
    critic_maps = (
        ("made", explanation.critic_made, "super-resolved"),
        ("fine", explanation.critic_fine, "measured"),
    )
    critic_slices = {
        f"critic, {text} (score {explanation.scores[key]:.2f})": Volume(values[..., None], affine)
        for key, values, text in critic_maps
        if values is not None
    }
    if len(explanation.masks) or critic_slices:
        gates = [Volume(gate[..., None], affine) for gate in explanation.masks]
        drawing = explanation_figure(made_scans[0].volume, gates, critic_slices, index)
        yield FigureDrawing("attention", drawing, label=method_label)
    if len(files.log_file):
        columns = {str(name): values.to_numpy() for name, values in files.log_file.items()}
        yield FigureDrawing(
            "scantraining", training_figure(columns, files.card_file), label=method_label
        )
    yield FigureDrawing("scancard", card_html(files.card_file), label=method_label)


def _select_slice(mask: Array, held_out: Sequence[int]) -> int:
    """Return the held-out slice closest to `_SLICE_HEIGHT` of the brain's height.

    If no slice was held out, the closest of all slices is returned.
    """
    brain_slices = np.flatnonzero(mask.any((0, 1)))
    first, last = brain_slices[0], brain_slices[-1]
    target = first + _SLICE_HEIGHT * (last - first)
    candidates = [z for z in held_out if z in brain_slices] or list(brain_slices)
    return int(min(candidates, key=lambda z: abs(z - target)))
