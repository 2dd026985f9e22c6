"""The reportlets of a calibration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nipype.interfaces.base import BaseInterfaceInputSpec, File

from bids_sr.interfaces.reporting import figure_data as tools
from bids_sr.interfaces.reporting.reportlet_figures import FUNCTIONAL, _Reportlet


class _CalibrationReportInputSpec(BaseInterfaceInputSpec):
    boldref = File(exists=True, mandatory=True, desc="reference of the run")
    bold_mask = File(exists=True, mandatory=True, desc="brain on its grid")
    calibration_ref = File(exists=True, mandatory=True, desc="reference of the calibration")
    sd_file = File(exists=True, mandatory=True, desc="its standard deviation map, on its own grid")
    boldref2calibration_xfm = File(exists=True, mandatory=True, desc="ITK text, takes a boldref point to it")
    calibration_json = File(exists=True, mandatory=True, desc="what was measured")


class CalibrationReport(_Reportlet):
    """The calibration against the run, its standard deviation map in the place of the run, and what it told."""

    input_spec = _CalibrationReportInputSpec

    def _run_interface(self, runtime: Any) -> Any:
        from bids_sr.reports.figures.anat_figures import AXIAL_VIEWS, isolines, registration_figure
        from bids_sr.reports.figures.superres_figures import SeriesVolume, pair_figure
        from bids_sr.reports.text.calibration_text import calibration_html
        from bids_sr.spatial.masks import voxel_sizes
        from bids_sr.spatial.transforms import hr_grid

        inputs = self.inputs
        facts = json.loads(Path(inputs.calibration_json).read_text(encoding="utf-8"))
        boldref, fine = tools.load(inputs.boldref), tools.load(inputs.calibration_ref)
        ratio = voxel_sizes(boldref.affine) / voxel_sizes(fine.affine)
        shape, affine = hr_grid(boldref.data.shape, boldref.affine, [max(float(each), 1.0) for each in ratio])
        matrix = tools.first_matrix(inputs.boldref2calibration_xfm)
        mask = tools.load(inputs.bold_mask)
        inside = tools.onto(mask, shape, affine) > 0.5
        reference = tools.onto(boldref, shape, affine)
        figure = registration_figure(
            reference, tools.onto(fine, shape, affine), tools.onto(fine, shape, affine, matrix), affine,
            isolines(reference, inside), mask=inside, views=AXIAL_VIEWS,
            names=("boldref", "calibration before", "calibration after"),
        )  # fmt: skip
        self._keep(runtime, figure, desc="calibrationreg", suffix=FUNCTIONAL)
        if facts["usable"]:
            sd = tools.onto(tools.load(inputs.sd_file), shape, affine, matrix)
            low = SeriesVolume(name="boldref", data=boldref.data, affine=boldref.affine)
            high = SeriesVolume(name="standard deviation", data=sd, affine=affine)
            self._keep(runtime, pair_figure(low, high, mask.data), desc="calibrationsd", suffix=FUNCTIONAL)
        text = calibration_html(facts, float(voxel_sizes(boldref.affine)[:2].max()))
        self._keep(runtime, text, desc="calibrationfacts", suffix=FUNCTIONAL)
        return self._done(runtime)
