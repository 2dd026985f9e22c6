"""Tables of figures: quality of a series over time, and many tables made one."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nipype.interfaces.base import BaseInterfaceInputSpec, File, InputMultiObject, TraitedSpec, traits

from bids_sr.interfaces.steps import Step, saved_json, write_rows


class TableOutputSpec(TraitedSpec):
    """A table of metrics."""

    metrics_tsv = File(exists=True, desc="long table: series, fwhm_mm, contrast, measure, value, unit")


class SeriesQuality(Step):
    """Temporal signal-to-noise ratio, mean signal and smoothness of the noise of one series."""

    class input_spec(BaseInterfaceInputSpec):
        in_file = File(exists=True, mandatory=True, desc="series, dummies included")
        mask = File(exists=True, mandatory=True, desc="brain mask on its grid")
        n_dummy = traits.Range(low=0, value=0, usedefault=True, desc="volumes at the start that are left out")
        series = traits.Str(mandatory=True, desc="name of the series")
        consistency_file = File(exists=True, desc="one row a volume, n/a where it was not measured")

    output_spec = TableOutputSpec

    def results(self, inputs: Any, here: Path) -> dict[str, Any]:
        from bids_sr.io.nifti import SeriesReader, load_image
        from bids_sr.metrics.long_tables import SERIES, metric_rows
        from bids_sr.stats.image.temporal_quality import quality_metrics, series_quality

        start, mask = inputs.n_dummy, load_image(inputs.mask)[0] > 0.5
        with SeriesReader(inputs.in_file) as reader:
            n_volumes = reader.shape[3] - start
            quality = series_quality(reader.volumes(start), mask, reader.zooms, n_volumes=n_volumes)
        figures = quality_metrics(quality, mask)
        if inputs.consistency_file:
            figures |= _consistency(inputs.consistency_file, start)
        rows = metric_rows(inputs.series, figures)
        return {"metrics_tsv": write_rows(here / "quality.tsv", rows, SERIES)}


def _consistency(path: str, start: int) -> dict[str, float | None]:
    """Median and maximum over the volumes from `start`; nothing where it was not measured."""
    lines = Path(path).read_text().split()[1 + start :]
    values = [float(line) for line in lines if line != "n/a"]
    if not values:
        return {}
    return {"inconsistency_median": statistics.median(values), "inconsistency_max": max(values)}


def write_long(rows: Sequence[Any], schema: Any, stem: Path) -> dict[str, str]:
    """Write a long table and the description of its columns; the outputs of an interface that merges such tables."""
    from bids_sr.metrics.long_tables import columns_json

    described = columns_json(schema, (row.measure for row in rows))
    out_json = saved_json(stem.with_suffix(".json"), described)
    return {"out_file": write_rows(stem.with_suffix(".tsv"), rows, schema), "out_json": out_json}


class MergeInputSpec(BaseInterfaceInputSpec):
    in_files = InputMultiObject(File(exists=True), mandatory=True, desc="long tables with the same columns")


class MergeOutputSpec(TraitedSpec):
    out_file = File(exists=True, desc="their rows in order, one header")
    out_json = File(exists=True, desc="what columns and measures mean, and their units")


class MergeMetrics(Step):
    """Join long tables of figures and describe their columns."""

    input_spec = MergeInputSpec
    output_spec = MergeOutputSpec

    def results(self, inputs: Any, here: Path) -> dict[str, Any]:
        from bids_sr.metrics.long_tables import SERIES, read_table

        rows = [row for path in inputs.in_files for row in read_table(path, SERIES)]
        return write_long(rows, SERIES, here / "metrics")
