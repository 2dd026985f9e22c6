"""Steps of the graph as functions, inputs and outputs that many share, and how they write images and tables of rows."""

import statistics
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from nipype.interfaces.base import BaseInterfaceInputSpec, File, InputMultiObject, SimpleInterface, TraitedSpec, traits

from bids_sr.io import atomic_files


class Step(SimpleInterface):
    """An interface that is a function of its inputs."""

    @property
    def given(self) -> SimpleNamespace:
        """Inputs as plain values; those that are not set are None."""
        return SimpleNamespace(**dict.fromkeys(self.inputs.copyable_trait_names()) | self.inputs.get_traitsfree())

    @abstractmethod
    def results(self, inputs: Any, here: Path) -> dict[str, Any]:
        """Outputs by name; `inputs` as `given`, `here` is the directory to write to."""

    def _run_interface(self, runtime: Any) -> Any:
        self._results |= self.results(self.given, Path(runtime.cwd))
        return runtime


FACTOR = traits.Tuple(
    traits.Float, traits.Float, traits.Float, mandatory=True, desc="acquired over high-resolution voxel, by axis"
)

AXIS_ORDER = traits.Tuple(
    (0, 1, 2), traits.Int, traits.Int, traits.Int, usedefault=True,
    desc="axis of the stored image that each axis is in use, where slices are on the third; see `io.grids`",
)  # fmt: skip


class AntsInputSpec(BaseInterfaceInputSpec):
    """Inputs of a step that antspyx computes."""

    seed = traits.Int(1, usedefault=True, desc="of everything random in antspyx")


class SloppyInputSpec(AntsInputSpec):
    """Inputs of a step of ANTs that tests want quicker."""

    sloppy = traits.Bool(False, usedefault=True, desc="at lower resolution and quicker, for tests")


class ModelInputSpec(BaseInterfaceInputSpec):
    """Inputs of a step that fits the linear model of a run to one series."""

    in_file = File(exists=True, mandatory=True, desc="series in BOLD signal units, dummies included")
    mask = File(exists=True, mandatory=True, desc="brain mask on the grid of the series")
    events_file = File(exists=True, mandatory=True, desc="BIDS events")
    confounds_tsv = File(exists=True, desc="one row a volume; without it no confound enters the model")
    confound_names = traits.List(traits.Str, desc="columns of the model; default: motion, with derivatives")
    n_dummy = traits.Range(low=0, value=0, usedefault=True, desc="volumes at the start that are left out")
    tr = traits.Float(mandatory=True, desc="repetition time (s)")
    series = traits.Str(mandatory=True, desc="name of the series")
    high_pass = traits.Float(mandatory=True, desc="Hz, drift of the linear model; 0 is a straight line")
    slice_time_ref = traits.Float(0.5, usedefault=True, desc="moment within a TR to which slice timing was corrected")
    has_stc = traits.Bool(False, usedefault=True, desc="slice timing was corrected")


def timing(inputs: Any) -> dict[str, Any]:
    """What `ModelInputSpec` tells of time, by the names of arguments of the linear model."""
    names = ("tr", "n_dummy", "high_pass", "slice_time_ref", "has_stc")
    return {name: getattr(inputs, name) for name in names}


class MapsInputSpec(BaseInterfaceInputSpec):
    """Inputs of a step that looks at statistical maps and regions of several series."""

    in_files = InputMultiObject(File(exists=True), mandatory=True, desc="maps and regions")
    in_entities = traits.List(traits.Dict, mandatory=True, desc="entities of each, as ActivationMaps gives them")
    contrasts = traits.Dict(mandatory=True, desc="name to weights of trial types")
    mask = File(exists=True, mandatory=True, desc="brain mask")
    roi = File(exists=True, mandatory=True, desc="region of interest on its grid")


class RowsOutputSpec(TraitedSpec):
    """The table of a step of the evaluation."""

    out_file = File(exists=True, desc="rows of the evaluation (TSV)")


def write_rows(path: Path, rows: Iterable[Any], columns: Iterable[str] | None = None) -> str:
    """Write rows as TSV, by default with the columns of the evaluation; the path as text."""
    from bids_sr.metrics.long_tables import EVALUATION, table_text

    path.write_text(table_text(rows, EVALUATION if columns is None else columns), encoding="utf-8")
    return str(path)


def saved_json(path: Path, content: Any) -> str:
    """Save values as JSON; the path as text."""
    return str(atomic_files.write_json(path, content))


def saved(path: Path, data: Any, affine: Any, **how: Any) -> str:
    """Save an image; its path as text."""
    from bids_sr.io.nifti import save_image

    save_image(data, affine, path, **how)
    return str(path)


def saved_xfm(path: Path, matrices: Any) -> str:
    """Save transforms as ITK text; their path as text."""
    from bids_sr.spatial.transforms import write_itk

    write_itk(path, matrices)
    return str(path)


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
        from bids_sr.stats.image.image_quality import quality_metrics, series_quality

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


def _write_long(rows: Sequence[Any], schema: Any, stem: Path) -> dict[str, str]:
    """Write a long table and the description of its columns; the outputs of an interface that merges such tables."""
    from bids_sr.metrics.long_tables import columns_json

    described = columns_json(schema, (row.measure for row in rows))
    out_json = saved_json(stem.with_suffix(".json"), described)
    return {"out_file": write_rows(stem.with_suffix(".tsv"), rows, schema), "out_json": out_json}


class MergeMetrics(Step):
    """Join long tables of figures and describe their columns."""

    class input_spec(BaseInterfaceInputSpec):
        in_files = InputMultiObject(File(exists=True), mandatory=True, desc="long tables with the same columns")

    class output_spec(TraitedSpec):
        out_file = File(exists=True, desc="their rows in order, one header")
        out_json = File(exists=True, desc="what columns and measures mean, and their units")

    def results(self, inputs: Any, here: Path) -> dict[str, Any]:
        from bids_sr.metrics.long_tables import SERIES, read_table

        rows = [row for path in inputs.in_files for row in read_table(path, SERIES)]
        return _write_long(rows, SERIES, here / "metrics")


class MergeEvaluation(MergeMetrics):
    """Join tables of the evaluation and describe their columns; who was not applied is compared with nobody."""

    def results(self, inputs: Any, here: Path) -> dict[str, Any]:
        from bids_sr.metrics.long_tables import EVALUATION, read_table
        from bids_sr.stats.evaluation.evidence import compared_rows

        rows = compared_rows(row for path in inputs.in_files for row in read_table(path))
        return _write_long(rows, EVALUATION, here / "evaluation")
