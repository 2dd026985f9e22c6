"""Reportlets of fused structural scans, drawn from files."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bids_sr.interfaces.reporting import figure_data as tools
from bids_sr.interfaces.reporting.reportlet import SCANS, Drawn, FileName, reportlet


@reportlet
def ScansReport(
    *,
    contrasts: Sequence[str],
    fine_files: Sequence[FileName],
    series_files: Sequence[FileName],
    series_names: Sequence[str],
    mask: FileName,
    card_files: Sequence[FileName],
    metrics_tsv: FileName,
    facts_json: FileName,
) -> Iterator[Drawn]:
    """Series side by side in a slice that was held out, the metrics, and how far the scans lay from each other.

    Parameters
    ----------
    series_files, series_names : all contrasts of each series, in order, and the series of each of these files

    """
    from bids_sr.interfaces.learning.fused_contrasts import checksum_of
    from bids_sr.reports.figures.anat_figures import scans_figure
    from bids_sr.reports.tables.html_tables import facts_html, structural_html

    brain = tools.load(mask)
    measured = {c: tools.load(f).data for c, f in zip(contrasts, fine_files, strict=True)}
    series: dict[str, dict[str, Any]] = {}
    for place, (name, path) in enumerate(zip(series_names, series_files, strict=True)):
        series.setdefault(name, {})[contrasts[place % len(measured)]] = tools.load(path).data
    checksum = checksum_of(fine_files, series_files[: len(contrasts)], mask, contrasts)
    index = shown_slice(brain.data, card_files, checksum)
    yield Drawn(scans_figure(series, measured, brain.data > 0.5, brain.affine, index), "scans", SCANS)
    with Path(metrics_tsv).open(encoding="utf-8", newline="") as stream:
        yield Drawn(structural_html(list(csv.DictReader(stream, delimiter="\t"))), "scans", SCANS)
    facts = tools.read_json(facts_json)
    title = f"Position against the first scan ({facts['align']})"
    yield Drawn(facts_html({title: facts["offsets"]}), "scanfacts", SCANS)


def shown_slice(mask: Any, card_files: Sequence[str], checksum: str) -> int:
    """Of the slices that no model was trained on, the one nearest to .6 of the brain's height (ventricles, cortex)."""
    import numpy as np

    from bids_sr.interfaces.learning.fused_scores import held_out_slices

    filled = np.flatnonzero((mask > 0.5).any((0, 1)))
    wanted = filled[0] + 0.6 * (filled[-1] - filled[0])
    kept = [z for z in held_out_slices(list(card_files), mask.shape[2], checksum) if z in filled] or list(filled)
    return int(min(kept, key=lambda z: abs(z - wanted)))


@reportlet
def ExplanationReport(
    *,
    contrasts: Sequence[str],
    coarse_files: Sequence[FileName],
    fine_files: Sequence[FileName],
    made_files: Sequence[FileName],
    mask: FileName,
    model_file: FileName,
    card_file: FileName,
    log_file: FileName,
    method: str = "",
) -> Iterator[Drawn]:
    """What the gates let through and what the critic looked at (nothing for a network without either), and how the
    training went.

    Parameters
    ----------
    coarse_files, fine_files, made_files : low-resolution, high-resolution and super-resolved scans on one grid
    method : its name, where there are several: goes into desc
    """
    from bids_sr.interfaces.learning.fused_contrasts import checksum_of, stack
    from bids_sr.reports.figures.anat_figures import explanation_figure
    from bids_sr.reports.figures.superres_figures import training_figure
    from bids_sr.reports.tables.html_tables import card_html
    from bids_sr.reports.text.training_text import read_training
    from bids_sr.sr.models.model import load_model
    from bids_sr.sr.training.fused import explain_slice

    label = method[:1].upper() + method[1:]
    (low, affine), (high, _) = stack(coarse_files), stack(fine_files)
    brain = tools.load(mask).data > 0.5
    index = shown_slice(brain, [card_file], checksum_of(fine_files, coarse_files, mask, contrasts))
    seen = explain_slice(load_model(model_file), low, high, brain, affine, index)
    shown = (("made", seen.critic_made, "super-resolved"), ("fine", seen.critic_fine, "measured"))
    maps = {f"critic, {text} (score {seen.scores[key]:.2f})": m for key, m, text in shown if m is not None}
    if len(seen.masks) or maps:
        made = tools.load(made_files[0]).data[..., index]
        yield Drawn(explanation_figure(made, list(seen.masks), maps, affine, index), f"attention{label}", SCANS)
    card = tools.read_json(card_file)
    record = read_training(tools.table(log_file), card)
    if len(record.steps):
        yield Drawn(training_figure(record), f"scantraining{label}", SCANS)
    yield Drawn(card_html(card), f"scancard{label}", SCANS)
