"""Figures of structural scans that were super-resolved together."""

from collections.abc import Iterator, Sequence

import numpy as np

from bids_sr.config.memory_model import Need
from bids_sr.io.grids import Array
from bids_sr.pipeline.artifacts import Facts, File, Map, Mask, Rows, Table, Volume
from bids_sr.pipeline.step import Drawn, figure
from bids_sr.report.sections import SCANS, Shown
from bids_sr.sr.method import Cost
from bids_sr.steps.structural import by_series, stacked, untrained_slices


@figure(
    Shown(
        "scans",
        "structural",
        suffix=SCANS,
        subtitle="One slice of each contrast in all series",
        tab="Slices",
        caption=(
            "A slice on which no model was trained. Scans were aligned, interpolated once and"
            " scaled to the same mean within the brain. Last column: the last method minus the"
            " measured scan (red: too bright). A method that was trained on the same head may have"
            " learned that head; only other heads show how well it generalizes."
        ),
        missing="slice of each contrast",
    ),
    Shown(
        "scans",
        "structural",
        suffix=SCANS,
        html=True,
        tab="Metrics",
        missing="metrics of the structural scans",
    ),
    Shown(
        "scanfacts",
        "structural",
        suffix=SCANS,
        html=True,
        place=2,
        tab="Positions",
        missing="positions of the scans",
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
    scan_facts: Facts,
) -> Iterator[Drawn]:
    """Draw series side by side in a held-out slice, the metrics, and the scans' misalignment.

    The misalignment is how far the scans lay from each other.

    `scan_mask`: voxels of the brain on the grid of the scans (3D, boolean). `scan_facts`:
    alignment, position of each scan, and intensities that became 1.
    """
    from bids_sr.figures.anat_figures import scans_figure
    from bids_sr.report.html_tables import facts_html
    from bids_sr.report.metric_tables import SCANS, tables_html

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
    yield Drawn("scans", tables_html(SCANS, scan_metrics))
    title = f"Position against the first scan ({scan_facts['align']})"
    yield Drawn("scanfacts", facts_html({title: scan_facts["offsets"]}))


@figure(
    Shown(
        "attention",
        "structural",
        suffix=SCANS,
        place=1,
        subtitle="Attention gates of the network, and Grad-CAM of its critic",
        tab="Attention",
        caption=(
            "Attention: how much of the features the gates pass at each level, from coarse to fine"
            " (black: nothing, yellow: all). Critic: Grad-CAM, the places that suggest an image"
            " acquired at high resolution; the score is 1 for such an image and 0 for a generated"
            " one. If the critic scores the super-resolved slice as generated, check for"
            " artifacts. Neither map is proof."
        ),
        request="attention masks and maps of a critic (method attunet)",
    ),
    Shown(
        "scantraining",
        "structural",
        suffix=SCANS,
        place=1,
        subtitle="Training curve",
        tab="Training",
        caption="Left: peak signal-to-noise ratio on held-out slices. Right: losses.",
        missing="training curve",
    ),
    Shown("scancard", "structural", suffix=SCANS, html=True, place=1, missing="model card"),
    memory=Need(always=0.35, scans=0.10),
    cost=Cost(always=3.0),
)
def explain_scans(
    fine_scans: list[Map],
    coarse_scans: list[Map],
    made_scans: list[Map],
    scan_mask: Mask,
    model_file: File,
    card_file: Facts,
    log_file: Table,
    *,
    method_label: str = "",
) -> Iterator[Drawn]:
    """Draw what the gates pass, what the critic looks at, and the course of training.

    Of gates and critic nothing is drawn for a network without either.

    `coarse_scans`: coarse scans on the fine grid by cubic spline, one for each contrast.
    `scan_mask`: voxels of the brain on the grid of the scans (3D, boolean).
    """
    from bids_sr.figures.anat_figures import explanation_figure, training_figure
    from bids_sr.report.html_tables import card_html
    from bids_sr.sr.models.model import load_model
    from bids_sr.sr.training.fused import explain_slice

    affine = scan_mask.affine
    index = _shown_slice(
        scan_mask.data, untrained_slices(fine_scans, coarse_scans, scan_mask, [card_file])
    )
    low, high = stacked(coarse_scans), stacked(fine_scans)
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


def _shown_slice(mask: Array, held_out: Sequence[int]) -> int:
    """Of the slices that were held out, the one nearest to .6 of the brain's height."""
    filled = np.flatnonzero(mask.any((0, 1)))
    wanted = filled[0] + 0.6 * (filled[-1] - filled[0])
    kept = [z for z in held_out if z in filled] or list(filled)
    return int(min(kept, key=lambda z: abs(z - wanted)))
