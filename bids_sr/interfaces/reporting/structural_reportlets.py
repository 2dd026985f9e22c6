"""Reportlets of fused structural scans."""

from __future__ import annotations

from typing import Any

from nipype.interfaces.base import BaseInterfaceInputSpec, File, InputMultiObject, traits

from bids_sr.interfaces.reporting import figure_data as tools
from bids_sr.interfaces.reporting.reportlet_figures import _Reportlet

SCANS = "metrics"  # suffix of what belongs to several contrasts


class _ScansReportInputSpec(BaseInterfaceInputSpec):
    contrasts = traits.List(traits.Str, mandatory=True, desc="BIDS suffix of each contrast")
    fine_files = InputMultiObject(File(exists=True), mandatory=True, desc="fine scans")
    series_files = InputMultiObject(File(exists=True), mandatory=True, desc="all contrasts of each series, in order")
    series_names = traits.List(traits.Str, mandatory=True, desc="series of each of these files")
    mask = File(exists=True, mandatory=True, desc="brain")
    card_files = InputMultiObject(File(exists=True), mandatory=True, desc="cards of the models")
    metrics_tsv = File(exists=True, mandatory=True, desc="table of measures")
    facts_json = File(exists=True, mandatory=True, desc="position of each scan")


class ScansReport(_Reportlet):
    """Series side by side in a slice that was held out, the measures, and how far the scans lay from each other."""

    input_spec = _ScansReportInputSpec

    def _run_interface(self, runtime: Any) -> Any:
        import csv
        import json
        from pathlib import Path

        from bids_sr.interfaces.learning.fused_contrasts import head_of, head_set
        from bids_sr.reports.figures.structural_figures import scans_figure
        from bids_sr.reports.tables.html_tables import facts_html
        from bids_sr.reports.tables.structural_tables import structural_html

        inputs, mask = self.inputs, tools.load(self.inputs.mask)
        measured = {c: tools.load(f).data for c, f in zip(inputs.contrasts, inputs.fine_files, strict=True)}
        series: dict[str, dict[str, Any]] = {}
        for place, (name, path) in enumerate(zip(inputs.series_names, inputs.series_files, strict=True)):
            series.setdefault(name, {})[inputs.contrasts[place % len(measured)]] = tools.load(path).data
        own = head_set(head_of(inputs), inputs.contrasts).images[0].checksum()
        index = shown_slice(mask.data, inputs.card_files, own)
        figure = scans_figure(series, measured, mask.data > 0.5, mask.affine, index)
        self._keep(runtime, figure, desc="scans", suffix=SCANS)
        with Path(inputs.metrics_tsv).open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream, delimiter="\t"))
        self._keep(runtime, structural_html(rows), desc="scans", suffix=SCANS)
        facts = json.loads(Path(inputs.facts_json).read_text(encoding="utf-8"))
        title = f"Position against the first scan ({facts['align']})"
        self._keep(runtime, facts_html({title: facts["offsets"]}), desc="scanfacts", suffix=SCANS)
        return self._done(runtime)


def shown_slice(mask: Any, card_files: list[str], checksum: str) -> int:
    """The slice to look at: of those that no model was trained on the one nearest to two thirds of the brain's height,
    where ventricles and cortex are both seen."""
    import numpy as np

    from bids_sr.interfaces.learning.fused_scores import held_out_slices

    filled = np.flatnonzero((mask > 0.5).any((0, 1)))
    wanted = filled[0] + 0.6 * (filled[-1] - filled[0])
    kept = [z for z in held_out_slices(card_files, mask.shape[2], checksum) if z in filled] or list(filled)
    return int(min(kept, key=lambda z: abs(z - wanted)))


class _ExplanationReportInputSpec(BaseInterfaceInputSpec):
    contrasts = traits.List(traits.Str, mandatory=True, desc="BIDS suffix of each channel")
    coarse_files = InputMultiObject(File(exists=True), mandatory=True, desc="coarse scans on the fine grid")
    fine_files = InputMultiObject(File(exists=True), mandatory=True, desc="fine scans")
    made_files = InputMultiObject(File(exists=True), mandatory=True, desc="super-resolved scans")
    mask = File(exists=True, mandatory=True, desc="brain")
    model_file = File(exists=True, mandatory=True, desc="weights")
    card_file = File(exists=True, mandatory=True, desc="card of the model (JSON)")
    log_file = File(exists=True, mandatory=True, desc="log of the training (TSV)")
    method = traits.Str(usedefault=True, desc="name of the method, where there are several: goes into desc")


class ExplanationReport(_Reportlet):
    """What the gates let through and what the critic looked at, and how the training went."""

    input_spec = _ExplanationReportInputSpec

    def _run_interface(self, runtime: Any) -> Any:
        import json
        from pathlib import Path

        from bids_sr.reports.figures.superres_figures import training_figure
        from bids_sr.reports.tables.html_tables import card_html
        from bids_sr.reports.text.training_text import read_training

        inputs, label = self.inputs, self.inputs.method[:1].upper() + self.inputs.method[1:]
        self._explain(runtime, label)
        card = json.loads(Path(inputs.card_file).read_text(encoding="utf-8"))
        found = read_training(tools.table(inputs.log_file), card)
        if len(found.steps):
            figure = training_figure(
                found.steps, found.curves, found.levels, found.losses, chosen_step=found.chosen_step
            )  # fmt: skip
            self._keep(runtime, figure, desc=f"scantraining{label}", suffix=SCANS)
        self._keep(runtime, card_html(card), desc=f"scancard{label}", suffix=SCANS)
        return self._done(runtime)

    def _explain(self, runtime: Any, label: str) -> None:
        """Attention masks and Grad-CAM over the first contrast of one slice; nothing for a network without either."""
        from bids_sr.interfaces.learning.fused_contrasts import _stack, head_set
        from bids_sr.reports.figures.structural_figures import explanation_figure
        from bids_sr.sr.models.model import load_model
        from bids_sr.sr.training.fused import explain_slice

        inputs = self.inputs
        (coarse, affine), (fine, _) = _stack(inputs.coarse_files), _stack(inputs.fine_files)
        mask = tools.load(inputs.mask).data > 0.5
        own = {"head": "own", "fine_files": inputs.fine_files, "coarse_files": inputs.coarse_files, "mask": inputs.mask}
        index = shown_slice(mask, [inputs.card_file], head_set(own, inputs.contrasts).images[0].checksum())
        seen = explain_slice(load_model(inputs.model_file), coarse, fine, mask, affine, index)
        maps = {}
        for key, found, words in (
            ("made", seen.critic_made, "super-resolved"),
            ("fine", seen.critic_fine, "measured"),
        ):
            if found is not None:
                maps[f"critic, {words} (score {seen.scores[key]:.2f})"] = found
        if len(seen.masks) or maps:
            made = tools.load(inputs.made_files[0]).data[..., index]
            figure = explanation_figure(made, list(seen.masks), maps, affine, index)
            self._keep(runtime, figure, desc=f"attention{label}", suffix=SCANS)
