"""Nipype interfaces that draw the evaluation: verdict, agreement with the truth, placebos, the claim, the guards."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from nipype.interfaces.base import BaseInterfaceInputSpec, File, InputMultiObject, isdefined, traits

from bids_sr.interfaces.reporting import figure_data as tools
from bids_sr.interfaces.reporting.reportlet_figures import FUNCTIONAL, _Reportlet

MAX_CONTRASTS = 4
SCORED = (("split_ev", "explained variance"), ("split_r", "r"), ("self_r", "r"))
"""What is written beside a map beyond the Nyquist limit, the strongest evidence first."""
BEYOND = "beyond_"
"""How the arrays of `figures_npz` begin that hold an effect beyond the acquired Nyquist limit."""
GUARD_MAPS = {"sd": "uncertainty", "unrepeated": "unrepeated"}
"""Statistic of a map of the guards to the desc of its figure."""
Rows = Sequence[Any]


def _json(path: Any) -> Any:
    """What a JSON file holds; None where there is no file."""
    import json

    return json.loads(Path(path).read_text(encoding="utf-8")) if isdefined(path) else None


class _EvaluationReportInputSpec(BaseInterfaceInputSpec):
    in_table = File(exists=True, mandatory=True, desc="rows of the evaluation (TSV)")
    verdict_json = File(exists=True, desc="the verdict in words")
    flags_json = File(exists=True, desc="list of flags in words")
    figures_npz = File(exists=True, desc="effects beyond the Nyquist limit of each series, for the maps")
    has_truth = traits.Bool(False, usedefault=True, desc="whether high-resolution BOLD or activation is known")
    series_names = traits.List(traits.Str, desc="order of the series")


class EvaluationReport(_Reportlet):
    """Verdict, agreement with the truth (without one, reliability), placebos and the paper's claim."""

    input_spec = _EvaluationReportInputSpec

    def _run_interface(self, runtime: Any) -> Any:
        from bids_sr.metrics.long_tables import read_table
        from bids_sr.reports.tables.attribution_tables import claim_html
        from bids_sr.reports.tables.evaluation_rows import having
        from bids_sr.reports.tables.evaluation_tables import holdout_html, images_html
        from bids_sr.reports.text.evaluation_text import verdict_html

        rows = read_table(self.inputs.in_table)
        names = list(self.inputs.series_names) if isdefined(self.inputs.series_names) else []
        if isdefined(self.inputs.verdict_json):
            page = verdict_html(_json(self.inputs.verdict_json), rows, _json(self.inputs.flags_json))
            self._keep(runtime, page, desc="verdict", suffix=FUNCTIONAL)
        leading = "split_ev" if having(rows, "split_ev_") else "split_r"
        if self.inputs.has_truth and having(rows, f"{leading}_"):
            self._agreement(runtime, rows, names, prefix=leading, desc="splithalf")
        elif having(rows, "self_r_"):
            self._agreement(runtime, rows, names, prefix="self_r", desc="reliability")
        self._maps(runtime, rows)
        self._truth(runtime, rows, names)
        self._placebos(runtime, rows, names)
        if having(rows, "truth_psnr"):
            self._keep(runtime, images_html(rows, names), desc="images", suffix=FUNCTIONAL)
        if having(rows, "pair_"):
            self._keep(runtime, holdout_html(rows, names), desc="holdout", suffix=FUNCTIONAL)
        if having(rows, "claim_"):
            self._keep(runtime, claim_html(rows, names), desc="claim", suffix=FUNCTIONAL)
        return self._done(runtime)

    def _agreement(self, runtime: Any, rows: Rows, names: Sequence[str], *, prefix: str, desc: str) -> None:
        """Agreement of halves: the first contrast whole, the finest band of the others, and all of it as tables."""
        from bids_sr.reports.figures.evaluation_figures import agreement_figure, contrasts_figure
        from bids_sr.reports.tables.evaluation_rows import contrasts_of, having
        from bids_sr.reports.tables.evaluation_tables import agreement_html

        contrasts = contrasts_of(having(rows, f"{prefix}_"))
        figure = agreement_figure(rows, prefix=prefix, contrast=contrasts[0], names=names)
        self._keep(runtime, figure, desc=desc, suffix=FUNCTIONAL)
        others = [c for c in contrasts_of(having(rows, f"{prefix}_beyond")) if c != contrasts[0]][:MAX_CONTRASTS]
        if others:
            figure = contrasts_figure(rows, prefix=prefix, contrasts=others, names=names)
            self._keep(runtime, figure, desc=f"{desc}Contrasts", suffix=FUNCTIONAL)
        self._keep(runtime, agreement_html(rows, prefix=prefix, names=names), desc=desc, suffix=FUNCTIONAL)

    def _maps(self, runtime: Any, rows: Rows) -> None:
        """Effects beyond the Nyquist limit side by side, where they were kept."""
        from bids_sr.reports.figures.detail_figures import beyond_figure
        from bids_sr.reports.tables.evaluation_rows import pick, shown_series

        if not isdefined(self.inputs.figures_npz):
            return
        with np.load(self.inputs.figures_npz, allow_pickle=False) as found:
            names = [name.removeprefix(BEYOND) for name in found.files if name.startswith(BEYOND)]
            scores: dict[str, Any] = {}
            what = ""
            for prefix, words in SCORED[0 if self.inputs.has_truth else len(SCORED) - 1 :]:
                own = pick(rows, f"{prefix}_beyond", contrast=str(found["contrast"]), region="brain")
                what = what or (words if own else "")
                scores = scores or own
            maps = {name: found[BEYOND + name] for name in shown_series(names, scores)}
            affine, mask = found["affine"], found["mask"]
        if maps:
            values = {name: row.value for name, row in scores.items()}
            figure = beyond_figure(maps, affine, mask, scores=values, score=what)
            self._keep(runtime, figure, desc="beyond", suffix=FUNCTIONAL)

    def _truth(self, runtime: Any, rows: Rows, names: Sequence[str]) -> None:
        from bids_sr.reports.figures.evaluation_figures import truth_figure
        from bids_sr.reports.tables.evaluation_rows import contrasts_of, having
        from bids_sr.reports.tables.evaluation_tables import truth_html

        own = having(rows, "truth_")
        if not own:
            return
        against = "measured" if any(row.against == "measured" for row in own) else own[0].against
        contrast = contrasts_of([row for row in own if row.against == against])[0]
        figure = truth_figure(rows, contrast=contrast, against=against, names=names)
        if figure is not None:
            self._keep(runtime, figure, desc="truth", suffix=FUNCTIONAL)
        self._keep(runtime, truth_html(rows, names), desc="truth", suffix=FUNCTIONAL)

    def _placebos(self, runtime: Any, rows: Rows, names: Sequence[str]) -> None:
        from bids_sr.reports.figures.evaluation_figures import null_figure, placebo_figure
        from bids_sr.reports.tables.evaluation_rows import contrasts_of, having, placebo_gains
        from bids_sr.reports.tables.evaluation_tables import BANDS, null_html, placebo_html

        if having(rows, "null_rate", "null_fwe"):
            self._keep(runtime, null_figure(rows, names), desc="nullrate", suffix=FUNCTIONAL)
            self._keep(runtime, null_html(rows, names), desc="nullrate", suffix=FUNCTIONAL)
        gains = placebo_gains(rows)
        if gains:
            measures = {
                name: words
                for band, words in BANDS.items() for name in (f"gain_split_ev_{band}", f"gain_self_r_{band}")
                if any(row.measure == name for row in gains)
            }  # fmt: skip
            figure = placebo_figure(gains, measures=measures, contrast=contrasts_of(gains)[0])
            self._keep(runtime, figure, desc="placebo", suffix=FUNCTIONAL)
            self._keep(runtime, placebo_html(rows), desc="placebo", suffix=FUNCTIONAL)


class _GuardsReportInputSpec(BaseInterfaceInputSpec):
    in_table = File(exists=True, mandatory=True, desc="rows of the evaluation (TSV)")
    flags_json = File(exists=True, desc="list of flags in words")
    consistency_files = InputMultiObject(File(exists=True), desc="loss of acquired data, one row a volume, by series")
    consistency_names = traits.List(traits.Str, desc="their series, in the same order")
    maps = traits.List(desc="maps of the guards among any others; lists of lists are joined")
    entities = traits.List(desc="entities of each map, in the same order")
    sidecars = traits.List(desc="metadata of each map, in the same order; without it, no calibration is drawn")
    mask_hr = File(exists=True, desc="brain on the high-resolution grid")
    background = File(exists=True, desc="image to draw over, on any grid")


class GuardsReport(_Reportlet):
    """Flags and figures of the guards, loss of acquired data by volume, uncertainty and unrepeated detail as maps."""

    input_spec = _GuardsReportInputSpec

    def _run_interface(self, runtime: Any) -> Any:
        from bids_sr.metrics.long_tables import read_table
        from bids_sr.reports.text.evaluation_text import guards_html

        rows = read_table(self.inputs.in_table)
        if text := guards_html(rows, _json(self.inputs.flags_json)):
            self._keep(runtime, text, desc="guards", suffix=FUNCTIONAL)
        self._consistency(runtime)
        if isdefined(self.inputs.maps) and isdefined(self.inputs.mask_hr):
            self._overlays(runtime)
        if isdefined(self.inputs.sidecars):
            self._calibration(runtime)
        return self._done(runtime)

    def _consistency(self, runtime: Any) -> None:
        from bids_sr.reports.figures.quality_control_figures import consistency_figure

        if not isdefined(self.inputs.consistency_files):
            return
        names = self.inputs.consistency_names
        curves = {
            name: tools.table(path)["inconsistency"]
            for name, path in zip(names, self.inputs.consistency_files, strict=True)
        }
        if any(np.isfinite(values).any() for values in curves.values()):
            self._keep(runtime, consistency_figure(curves), desc="consistency", suffix=FUNCTIONAL)

    def _overlays(self, runtime: Any) -> None:
        """One figure a kind of map and contrast, a row each series."""
        from bids_sr.reports.figures.quality_control_figures import OVERLAYS, overlay_figure

        brain = tools.load(self.inputs.mask_hr)
        under = tools.load(self.inputs.background) if isdefined(self.inputs.background) else brain
        background = tools.onto(under, brain.data.shape, brain.affine)
        found = _guard_maps(tools.flat(self.inputs.maps), tools.flat(self.inputs.entities))
        for (stat, contrast), paths in found.items():
            maps = {name: tools.onto(tools.load(path), brain.data.shape, brain.affine) for name, path in paths.items()}
            figure = overlay_figure(maps, brain.affine, background, brain.data, **OVERLAYS[stat])
            self._keep(runtime, figure, desc=GUARD_MAPS[stat], suffix=FUNCTIONAL, contrast=contrast)

    def _calibration(self, runtime: Any) -> None:
        """True error by tenths of the uncertainty, a line each series and contrast."""
        from bids_sr.reports.figures.quality_control_figures import calibration_figure

        tables: dict[str, list[tuple[float, float]]] = {}
        for own, said in zip(tools.flat(self.inputs.entities), tools.flat(self.inputs.sidecars), strict=True):
            for against, rows in said.get("Reliability", {}).items():
                if isinstance(rows, list):
                    name = f"{own.get('desc', '')}, {own.get('contrast', '')} (against {against})"
                    pairs = [(row["sd"], row["error"]) for row in rows]
                    tables[name] = [(x, y) for x, y in pairs if isinstance(x, float) and isinstance(y, float)]
        shown = dict(list(tables.items())[: 2 * MAX_CONTRASTS])
        if any(shown.values()):
            self._keep(runtime, calibration_figure(shown), desc="calibration", suffix=FUNCTIONAL)


def _guard_maps(paths: Sequence[str], entities: Sequence[Mapping[str, str]]) -> dict[tuple[str, str], dict[str, str]]:
    """(statistic, contrast) to series to file; of many contrasts, that of all and the first ones."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for path, own in zip(paths, entities, strict=True):
        if own.get("stat") in GUARD_MAPS and not own.get("space"):
            found.setdefault((own["stat"], own.get("contrast", "")), {})[own.get("desc", "")] = path
    shown = sorted(dict.fromkeys(contrast for _, contrast in found), key=lambda name: name != "all")[:MAX_CONTRASTS]
    return {key: files for key, files in found.items() if key[1] in shown}


class _VarianceReportInputSpec(BaseInterfaceInputSpec):
    weight_file = File(exists=True, mandatory=True, desc="standard deviation of the fluctuations, high-resolution grid")
    guide = File(exists=True, desc="image of the anatomy, on any grid; default: none above the map")
    mask = File(exists=True, mandatory=True, desc="brain on the high-resolution grid")


class VarianceReport(_Reportlet):
    """Where a run fluctuates on the high-resolution grid."""

    input_spec = _VarianceReportInputSpec

    def _run_interface(self, runtime: Any) -> Any:
        import nibabel as nib

        from bids_sr.reports.figures.quality_control_figures import variance_figure

        image: Any = nib.load(self.inputs.weight_file)
        weight, affine = np.asarray(image.dataobj, dtype=np.float32), np.asarray(image.affine)
        mask = tools.onto(tools.load(self.inputs.mask), weight.shape, affine)
        guide = (
            tools.onto(tools.load(self.inputs.guide), weight.shape, affine) if isdefined(self.inputs.guide) else None
        )
        self._keep(runtime, variance_figure(weight, affine, mask > 0.5, guide), desc="variance", suffix=FUNCTIONAL)
        return self._done(runtime)
