"""Nipype interfaces for what the run found: one slice through all series, maps, regions, tables and the summary."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from nipype.interfaces.base import BaseInterfaceInputSpec, File, InputMultiObject, isdefined, traits

from bids_sr.interfaces.reporting import figure_data as tools
from bids_sr.interfaces.reporting.reportlet_figures import FUNCTIONAL, _Reportlet
from bids_sr.series import map_label

MAX_PAIRS = 3


class _SuperresReportInputSpec(BaseInterfaceInputSpec):
    series_files = InputMultiObject(File(exists=True), mandatory=True, desc="series on the high-resolution grid")
    series_names = traits.List(traits.Str, mandatory=True, desc="their names")
    raw_file = File(exists=True, desc="motion-corrected series on the acquired grid")
    roi_hr = File(exists=True, mandatory=True, desc="region of interest on the high-resolution grid")
    mask_hr = File(exists=True, desc="brain on the high-resolution grid")
    volume = traits.Int(desc="index of the volume; default: the middle of the run")


class SuperresReport(_Reportlet):
    """One slice of one volume: acquired, every baseline, super-resolved, and the difference."""

    input_spec = _SuperresReportInputSpec

    def _run_interface(self, runtime: Any) -> Any:
        from bids_sr.io.nifti import SeriesReader
        from bids_sr.reports.figures.superres_figures import SeriesVolume, slice_figure

        files = dict(zip(self.inputs.series_names, self.inputs.series_files, strict=True))
        if isdefined(self.inputs.raw_file):
            files = {"raw": self.inputs.raw_file} | files
        shown = []
        for name, path in files.items():
            with SeriesReader(path) as reader:
                t = self.inputs.volume if isdefined(self.inputs.volume) else reader.shape[3] // 2
                shown.append(SeriesVolume(name=name, data=reader.volume(t), affine=reader.affine))
        mask = tools.load(self.inputs.mask_hr).data if isdefined(self.inputs.mask_hr) else None
        reference = "bspline" if "bspline" in files else self.inputs.series_names[0]
        figure = slice_figure(shown, tools.load(self.inputs.roi_hr).data, mask=mask, reference=reference)
        self._keep(runtime, figure, desc="srslice", suffix=FUNCTIONAL)
        return self._done(runtime)


class _MapsInputSpec(BaseInterfaceInputSpec):
    maps = traits.List(
        mandatory=True, desc="statistical maps and region masks of all series; lists of lists are joined"
    )
    entities = traits.List(mandatory=True, desc="entities of each map, in the same order")
    background = File(exists=True, mandatory=True, desc="image to draw over, on any grid")
    mask_hr = File(exists=True, mandatory=True, desc="brain on the high-resolution grid")
    roi_hr = File(exists=True, mandatory=True, desc="region of interest on that grid")
    series_names = traits.List(traits.Str, desc="order of the rows; default: as they come")


def _scene(inputs: Any) -> Any:
    """Background, brain and region of a run."""
    from bids_sr.reports.figures.activation_figures import Scene

    mask = tools.load(inputs.mask_hr)
    return Scene(
        background=tools.onto(tools.load(inputs.background), mask.data.shape, mask.affine),
        affine=mask.affine,
        mask=mask.data,
        roi=tools.load(inputs.roi_hr).data,
    )


def _series_maps(files: Mapping[str, str], regions: Mapping[str, str], names: Sequence[str]) -> list[Any]:
    """Rows of an activation figure."""
    from bids_sr.reports.figures.activation_figures import SeriesMap

    rows = []
    for name in tools.ordered(files, names):
        image = tools.load(files[name])
        significant = tools.load(regions[name]).data if name in regions else None
        rows.append(SeriesMap(name=name, data=image.data, affine=image.affine, significant=significant))
    return rows


class ActivationReport(_Reportlet):
    """For each contrast and smoothing, the t-maps (CC, where there are no t-maps) of all series on one scale."""

    input_spec = _MapsInputSpec

    def _run_interface(self, runtime: Any) -> Any:
        from bids_sr.reports.figures.activation_figures import CC_DISPLAY, T_DISPLAY, activation_figure

        found = tools.sort_maps(tools.flat(self.inputs.maps), tools.flat(self.inputs.entities))
        names = self.inputs.series_names if isdefined(self.inputs.series_names) else []
        scene = _scene(self.inputs)
        display = T_DISPLAY if any(stat == "t" for _, stat, _ in found.stats) else CC_DISPLAY
        for (contrast, stat, fwhm), files in found.stats.items():
            if stat != display.statistic:
                continue
            rows = _series_maps(files, found.regions.get((contrast, "Fdr", fwhm), {}), names)
            desc = map_label("activation", fwhm / 10)
            figure = activation_figure(rows, scene, display=display)
            self._keep(runtime, figure, desc=desc, suffix=FUNCTIONAL, contrast=contrast)
        return self._done(runtime)


class _RegionsReportInputSpec(_MapsInputSpec):
    conditions = traits.List(traits.Str, desc="single conditions; default: labels but for all and differences")


def _condition_pairs(labels: Sequence[str], given: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of single conditions, the first ``MAX_PAIRS`` of them."""
    from itertools import combinations

    single = (
        [name for name in labels if name in given] if given else [n for n in labels if n != "all" and "Minus" not in n]
    )
    return list(combinations(single, 2))[:MAX_PAIRS]


class RegionsReport(_Reportlet):
    """The paper's quarter regions of pairs of conditions in each series, with their Dice coefficient."""

    input_spec = _RegionsReportInputSpec

    def _run_interface(self, runtime: Any) -> Any:
        from bids_sr.reports.figures.activation_figures import regions_figure
        from bids_sr.stats.regions.activation_regions import dice

        found = tools.sort_maps(tools.flat(self.inputs.maps), tools.flat(self.inputs.entities))
        names = self.inputs.series_names if isdefined(self.inputs.series_names) else []
        given = self.inputs.conditions if isdefined(self.inputs.conditions) else []
        scene = _scene(self.inputs)
        quarters = {(label, fwhm): files for (label, kind, fwhm), files in found.regions.items() if kind == "Quarter"}
        pairs = _condition_pairs(list(dict.fromkeys(label for label, _ in quarters)), given)
        for (one, other), fwhm in ((p, f) for p in pairs for f in sorted({f for _, f in quarters})):
            first, second = quarters.get((one, fwhm), {}), quarters.get((other, fwhm), {})
            both = tools.ordered([name for name in first if name in second], names)
            rows = {name: (_series_maps(first, {}, [name])[0], _series_maps(second, {}, [name])[0]) for name in both}
            if not rows:
                continue
            overlap = {name: dice(a.data > 0, b.data > 0) for name, (a, b) in rows.items()}
            values = {name: np.nan if value is None else value for name, value in overlap.items()}
            figure = regions_figure(rows, scene, (one, other), values)
            desc = map_label("regions", fwhm / 10)
            self._keep(
                runtime, figure, desc=desc, suffix=FUNCTIONAL, contrast=f"{one}Versus{other[:1].upper()}{other[1:]}"
            )
        return self._done(runtime)


class _MetricsReportInputSpec(BaseInterfaceInputSpec):
    image_tsv = File(exists=True, desc="image measures, long table")
    activation_tsv = File(exists=True, desc="activation measures, long table")
    series_names = traits.List(traits.Str, desc="order of the rows")


class MetricsReport(_Reportlet):
    """The metrics tables as HTML."""

    input_spec = _MetricsReportInputSpec

    def _run_interface(self, runtime: Any) -> Any:
        from bids_sr.metrics.long_tables import SERIES, read_cells
        from bids_sr.reports.tables.html_tables import metrics_html

        names = self.inputs.series_names if isdefined(self.inputs.series_names) else []
        given = [self.inputs.image_tsv, self.inputs.activation_tsv]
        image, activation = (
            [] if not isdefined(path) else read_cells(path, SERIES).to_dict("records") for path in given
        )
        self._keep(runtime, metrics_html(image, activation, names), desc="metrics", suffix=FUNCTIONAL)
        return self._done(runtime)


class _SummaryReportInputSpec(BaseInterfaceInputSpec):
    summary = traits.Dict(mandatory=True, desc="labels to text, numbers, lists or tables; see summary_html")
    n_dummy = traits.Int(desc="non-steady volumes found, added to the summary")
    desc = traits.Str("summary", usedefault=True, desc="entity desc of the fragment")
    suffix = traits.Enum("T1w", "bold", "T2starw", usedefault=True, desc="suffix of the fragment")


class SummaryReport(_Reportlet):
    """What was found and what was done, with warnings aloud."""

    input_spec = _SummaryReportInputSpec

    def _run_interface(self, runtime: Any) -> Any:
        from bids_sr.reports.tables.html_tables import summary_html

        summary = dict(self.inputs.summary)
        if isdefined(self.inputs.n_dummy):
            summary["Non-steady volumes"] = self.inputs.n_dummy
        self._keep(runtime, summary_html(summary), desc=self.inputs.desc, suffix=self.inputs.suffix)
        return self._done(runtime)
