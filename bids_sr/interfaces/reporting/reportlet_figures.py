"""Nipype interfaces that draw the report's figures; what is drawn, and how, is in ``bids_sr.reports``.

Each returns parallel lists: files in the node's directory, and the entities under which the sink stores them.
"""

from pathlib import Path
from typing import Any

from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    InputMultiObject,
    SimpleInterface,
    TraitedSpec,
    isdefined,
    traits,
)

from bids_sr.interfaces.reporting import figure_data as tools

ANATOMICAL, PAIR, FUNCTIONAL = "T1w", "T2starw", "bold"


class _ReportletOutputSpec(TraitedSpec):
    out_files = traits.List(File(exists=True), desc="figures (SVG) or fragments of HTML")
    out_entities = traits.List(traits.Dict, desc="entities of each file: desc, contrast, suffix, extension, datatype")


class _Reportlet(SimpleInterface):
    """What all reportlets share: keeping what was drawn."""

    output_spec = _ReportletOutputSpec

    def _keep(self, runtime: Any, content: Any, *, desc: str, suffix: str, contrast: str = "") -> None:
        """Write a figure or a fragment into the node's directory and add it to the outputs."""
        from bids_sr.reports.figures.style import save_svg

        extension = ".html" if isinstance(content, str) else ".svg"
        path = Path(runtime.cwd) / ("_".join(filter(None, [contrast, desc, suffix])) + extension)
        if isinstance(content, str):
            tools.written(path, content)
        else:
            save_svg(content, path)
        entities = {"datatype": "figures", "desc": desc, "suffix": suffix, "extension": extension}
        if contrast:
            entities["contrast"] = contrast
        self._results.setdefault("out_files", []).append(str(path))
        self._results.setdefault("out_entities", []).append(entities)

    def _done(self, runtime: Any) -> Any:
        self._results.setdefault("out_files", [])
        self._results.setdefault("out_entities", [])
        return runtime


class _AnatReportInputSpec(BaseInterfaceInputSpec):
    t1w = File(exists=True, mandatory=True, desc="T1w image")
    mask = File(exists=True, mandatory=True, desc="brain mask on its grid")
    tpms = InputMultiObject(File(exists=True), desc="GM, WM and CSF probabilities on its grid")
    roi = File(exists=True, desc="region of interest on its grid")


class AnatReport(_Reportlet):
    """Brain mask, tissues and region of interest on the T1w image."""

    input_spec = _AnatReportInputSpec

    def _run_interface(self, runtime: Any) -> Any:
        from bids_sr.reports.figures.anat_figures import Outline, mosaic_figure

        looks = (("brain mask", "#d55e00"), ("white matter", "#56b4e9"), ("gray matter", "#f0e442"))
        mask = tools.load(self.inputs.mask)
        shape, affine = tools.native_or_display(mask)
        tpms = self.inputs.tpms if isdefined(self.inputs.tpms) else []
        masks = [mask, *[tools.load(tpms[k]) for k in (1, 0) if k < len(tpms)]]
        shown = [tools.onto(each, shape, affine) for each in masks]
        lines = [Outline(name=name, data=d, color=color) for (name, color), d in zip(looks, shown, strict=False)]
        image = tools.onto(tools.load(self.inputs.t1w), shape, affine)
        self._keep(runtime, mosaic_figure(image, affine, lines, mask=shown[0]), desc="brain", suffix=ANATOMICAL)
        if isdefined(self.inputs.roi):
            region = tools.onto(tools.load(self.inputs.roi), shape, affine)
            lines = [Outline(name="region of interest", data=region, color="#00e5ff")]
            self._keep(runtime, mosaic_figure(image, affine, lines, mask=shown[0]), desc="roi", suffix=ANATOMICAL)
        return self._done(runtime)


class _NormReportInputSpec(BaseInterfaceInputSpec):
    t1w = File(exists=True, mandatory=True, desc="T1w image")
    std_t1w = File(exists=True, mandatory=True, desc="T1w image in the template's space")
    template = File(exists=True, mandatory=True, desc="T1w template")
    template_mask = File(exists=True, desc="brain mask of the template")


class NormReport(_Reportlet):
    """T1w against the template, before and after normalization."""

    input_spec = _NormReportInputSpec

    def _run_interface(self, runtime: Any) -> Any:
        from bids_sr.reports.figures.anat_figures import isolines, registration_figure

        target = tools.load(self.inputs.template)
        grid = (target.data.shape, target.affine)
        inside = tools.load(self.inputs.template_mask).data if isdefined(self.inputs.template_mask) else None
        before, after = (tools.onto(tools.load(path), *grid) for path in (self.inputs.t1w, self.inputs.std_t1w))
        figure = registration_figure(
            target.data, before, after, target.affine, isolines(target.data, inside),
            names=("template", "T1w before", "T1w after"), mask=inside,
        )  # fmt: skip
        self._keep(runtime, figure, desc="norm", suffix=ANATOMICAL)
        return self._done(runtime)


class _PairReportInputSpec(BaseInterfaceInputSpec):
    train_highres = File(exists=True, mandatory=True, desc="highres T2*w in the frame of lowres")
    train_lowres = File(exists=True, mandatory=True, desc="lowres T2*w")
    pair_mask = File(exists=True, desc="brain on the grid of lowres")
    highres = File(exists=True, desc="highres T2*w as acquired")
    pair_json = File(exists=True, desc="offset of the pair, and whether it was resampled or truncated")


class PairReport(_Reportlet):
    """The T2*w pair as used for training, and its register before and after."""

    input_spec = _PairReportInputSpec

    def _run_interface(self, runtime: Any) -> Any:
        from bids_sr.reports.figures.anat_figures import AXIAL_VIEWS, isolines, registration_figure
        from bids_sr.reports.figures.superres_figures import SeriesVolume, pair_figure

        high, low = tools.load(self.inputs.train_highres), tools.load(self.inputs.train_lowres)
        mask = tools.load(self.inputs.pair_mask).data if isdefined(self.inputs.pair_mask) else None
        pair = [
            SeriesVolume(name=name, data=image.data, affine=image.affine)
            for name, image in (("low resolution", low), ("high resolution", high))
        ]
        self._keep(runtime, pair_figure(pair[0], pair[1], mask), desc="pair", suffix=PAIR)
        if isdefined(self.inputs.highres):
            shape, affine = high.data.shape, high.affine
            reference = tools.onto(low, shape, affine)
            before = tools.onto(tools.load(self.inputs.highres), shape, affine)
            inside = (
                None if mask is None else tools.onto(tools.Image(data=mask, affine=low.affine), shape, affine) > 0.5
            )
            figure = registration_figure(
                reference, before, high.data, affine, isolines(reference, inside), mask=inside, views=AXIAL_VIEWS,
                names=("low resolution", "high res. before", "high res. after"),
            )  # fmt: skip
            self._keep(runtime, figure, desc="pairreg", suffix=PAIR)
        if isdefined(self.inputs.pair_json):
            self._keep(runtime, _facts(self.inputs.pair_json), desc="pairinfo", suffix=PAIR)
        return self._done(runtime)


def _facts(path: str) -> str:
    """A JSON file of plain values as a fragment of HTML."""
    import json

    from bids_sr.reports.tables.html_tables import facts_html

    return facts_html(json.loads(Path(path).read_text(encoding="utf-8")))


class _TrainingReportInputSpec(BaseInterfaceInputSpec):
    log_file = File(exists=True, mandatory=True, desc="log of the training (TSV)")
    card_file = File(exists=True, mandatory=True, desc="card of the model (JSON)")
    method = traits.Str(usedefault=True, desc="name of the method, where several are trained: goes into desc")
    of_run = traits.Bool(False, usedefault=True, desc="trained on the volumes of a run, not on the pair")


class TrainingReport(_Reportlet):
    """The training curve with the levels of plain interpolation, and what the model's card says."""

    input_spec = _TrainingReportInputSpec

    def _run_interface(self, runtime: Any) -> Any:
        import json

        from bids_sr.reports.figures.superres_figures import training_figure
        from bids_sr.reports.tables.html_tables import card_html
        from bids_sr.reports.text.training_text import read_training
        from bids_sr.sr.models.model import renamed

        card = renamed(json.loads(Path(self.inputs.card_file).read_text(encoding="utf-8")))
        found = read_training(tools.table(self.inputs.log_file), card)
        figure = training_figure(found.steps, found.curves, found.levels, found.losses, chosen_step=found.chosen_step)
        label = self.inputs.method[:1].upper() + self.inputs.method[1:]
        stem, suffix = ("volume", "bold") if self.inputs.of_run else ("", PAIR)
        for what, shown in (("training", figure), ("card", card_html(card))):
            self._keep(runtime, shown, desc=f"{stem}{what}{label}", suffix=suffix)
        return self._done(runtime)


class _CoregReportInputSpec(BaseInterfaceInputSpec):
    boldref = File(exists=True, mandatory=True, desc="BOLD reference")
    t1w_preproc = File(exists=True, mandatory=True, desc="T1w image")
    t1w_mask = File(exists=True, mandatory=True, desc="brain mask on its grid")
    t1w_tpms = InputMultiObject(File(exists=True), desc="GM, WM and CSF probabilities on its grid")
    boldref2t1w_xfm = File(exists=True, mandatory=True, desc="ITK text, takes a T1w point to its boldref point")


class CoregReport(_Reportlet):
    """BOLD reference against T1w, before and after registration."""

    input_spec = _CoregReportInputSpec

    def _run_interface(self, runtime: Any) -> Any:
        from bids_sr.reports.figures.anat_figures import Outline, registration_figure

        mask, bold = tools.load(self.inputs.t1w_mask), tools.load(self.inputs.boldref)
        shape, affine = tools.display_grid(mask)
        inside = tools.onto(mask, shape, affine)
        lines = [Outline(name="brain mask of T1w", data=inside, color="#d55e00")]
        if isdefined(self.inputs.t1w_tpms) and len(self.inputs.t1w_tpms) > 1:
            white = tools.onto(tools.load(self.inputs.t1w_tpms[1]), shape, affine)
            lines.append(Outline(name="white matter of T1w", data=white, color="#56b4e9"))
        matrix = tools.first_matrix(self.inputs.boldref2t1w_xfm)
        before, after = tools.onto(bold, shape, affine), tools.onto(bold, shape, affine, matrix)
        brain, covered = inside > 0.5, (inside > 0.5) & (after > 0)
        figure = registration_figure(
            tools.onto(tools.load(self.inputs.t1w_preproc), shape, affine),
            before,
            after,
            affine, lines, names=("T1w", "boldref before", "boldref after"), mask=covered if covered.any() else brain,
        )  # fmt: skip
        self._keep(runtime, figure, desc="coreg", suffix=FUNCTIONAL)
        return self._done(runtime)


class _GuideReportInputSpec(BaseInterfaceInputSpec):
    boldref = File(exists=True, mandatory=True, desc="BOLD reference")
    guide_hr = File(exists=True, mandatory=True, desc="highres T2*w on the high-resolution grid of the BOLD reference")
    highres = File(exists=True, desc="highres T2*w as acquired")
    mask_hr = File(exists=True, desc="brain on the high-resolution grid")


class GuideReport(_Reportlet):
    """Highres T2*w against the BOLD reference, before and after registration."""

    input_spec = _GuideReportInputSpec

    def _run_interface(self, runtime: Any) -> Any:
        from bids_sr.reports.figures.anat_figures import AXIAL_VIEWS, isolines, registration_figure

        guide = tools.load(self.inputs.guide_hr)
        shape, affine = guide.data.shape, guide.affine
        reference = tools.onto(tools.load(self.inputs.boldref), shape, affine)
        before = (
            tools.onto(tools.load(self.inputs.highres), shape, affine) if isdefined(self.inputs.highres) else guide.data
        )
        mask = tools.load(self.inputs.mask_hr).data if isdefined(self.inputs.mask_hr) else None
        figure = registration_figure(
            reference, before, guide.data, affine, isolines(reference, mask), mask=mask, views=AXIAL_VIEWS,
            names=("boldref", "highres before", "highres after"),
        )  # fmt: skip
        self._keep(runtime, figure, desc="highres", suffix=FUNCTIONAL)
        return self._done(runtime)


class _MotionReportInputSpec(BaseInterfaceInputSpec):
    confounds_tsv = File(exists=True, mandatory=True, desc="confounds of the run")
    preproc_file = File(exists=True, mandatory=True, desc="motion-corrected series on the acquired grid")
    mask = File(exists=True, mandatory=True, desc="brain on its grid")
    tpms = InputMultiObject(File(exists=True), desc="GM, WM and CSF probabilities on its grid")
    n_dummy = traits.Int(0, usedefault=True, desc="non-steady volumes at the start")


class MotionReport(_Reportlet):
    """Motion parameters, FD and DVARS, and the carpet plot."""

    input_spec = _MotionReportInputSpec

    def _run_interface(self, runtime: Any) -> Any:
        from bids_sr.reports.figures.motion_figures import carpet_figure, carpet_rows, motion_figure

        columns, n_dummy = tools.table(self.inputs.confounds_tsv), self.inputs.n_dummy
        tpms = self.inputs.tpms if isdefined(self.inputs.tpms) else []
        tissues = {name: tools.load(path).data for name, path in zip(("GM", "WM", "CSF"), tpms, strict=False)}
        rows, groups, tr = tools.carpet(self.inputs.preproc_file, tools.load(self.inputs.mask).data, tissues)
        self._keep(runtime, motion_figure(columns, tr, n_dummy=n_dummy), desc="motion", suffix=FUNCTIONAL)
        wanted = (("FD (mm)", "framewise_displacement"), ("DVARS", "std_dvars"), ("global", "global_signal"))
        traces = {label: columns[name] for label, name in wanted if name in columns}
        figure = carpet_figure(carpet_rows(rows, n_dummy), groups, tr, traces=traces, n_dummy=n_dummy)
        self._keep(runtime, figure, desc="carpet", suffix=FUNCTIONAL)
        return self._done(runtime)


class _RegistrationReportInputSpec(BaseInterfaceInputSpec):
    in_json = File(exists=True, mandatory=True, desc="facts of the registrations of a run")


class RegistrationReport(_Reportlet):
    """How well the run was registered, with a warning for whatever looks wrong."""

    input_spec = _RegistrationReportInputSpec

    def _run_interface(self, runtime: Any) -> Any:
        import json

        from bids_sr.reports.tables.html_tables import registration_html

        facts = json.loads(Path(self.inputs.in_json).read_text(encoding="utf-8"))
        self._keep(runtime, registration_html(facts), desc="registration", suffix=FUNCTIONAL)
        return self._done(runtime)
