"""``bids-sr-models evaluate``: models and interpolations compared with high-resolution references.

References may belong to one or several participants. All inputs are checked before scores are
computed, and only one reference is in memory at a time.
"""

from __future__ import annotations

import re
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from bids_sr.cli.console import table_text
from bids_sr.cli.models.commands import image_files as files, model_files, output_files
from bids_sr.cli.models.commands.apply import PreparedMethod, prepare_method, require_finite
from bids_sr.cli.models.commands.options import ModelEvaluationOptions
from bids_sr.cli.models.commands.score_tables import (
    TESTS,
    ComparisonTable,
    cell_text,
    compare_rows,
    explain_missing_tests,
    make_sibling_path,
    sort_by_psnr,
    write_table,
)
from bids_sr.cli.models.method_scores import ScoreRow
from bids_sr.engine.metric_rows import MISSING
from bids_sr.evaluation.attention_unet_metrics import nmse_voxel
from bids_sr.evaluation.statistics.comparison_table import describe_columns
from bids_sr.evaluation.voxel_correlation import correlate_voxels
from bids_sr.io.arrays import Array, MaskArray, evenly_spaced
from bids_sr.io.frozen import frozen
from bids_sr.io.grids import Factor
from bids_sr.io.nifti import SeriesReader, save_image
from bids_sr.io.notices import InvalidInput, UsageError
from bids_sr.report.assembler import data_uri, plain_section, write_page
from bids_sr.report.comparison_html import comparisons_html
from bids_sr.report.facts import facts_html
from bids_sr.report.markup import join, render, table
from bids_sr.spatial import image_similarity
from bids_sr.spatial.effective_resolution import effective_resolution
from bids_sr.spatial.matrices import MATRICES, upsample
from bids_sr.version import __version__

_COLUMNS = "models_apply"  # entry of ``columns.json``
_CORRELATION_COLUMNS = ("r", "rho", "slope", "intercept", "p_independent")
_UNPRINTED_COLUMNS = ("reference", "slope", "intercept", "p_independent")


def evaluate(options: ModelEvaluationOptions) -> None:
    """Score models and interpolations against references, and compare them."""
    _check_groups(options)
    with ExitStack() as stack:
        tasks = prepare_tasks(options, stack)
        if options.out is not None:
            output_files.make_folder(options.out)
        rows = list[ScoreRow]()
        data_ranges = list[float]()
        figures = list[Path]()
        for number, task in enumerate(tasks, 1):
            task_rows, scored, images = measure_task(task, draw=options.figures != "none")
            data_ranges.append(scored.data_range)
            if images and options.out is not None:
                figures += _draw_figures(task, scored, images, options, number)
            task_rows = sort_by_psnr(task_rows)
            _print_table(task_rows, scored, task, options)
            rows += task_rows
    _write_report(rows, data_ranges, tasks, options, figures)


def _check_groups(options: ModelEvaluationOptions) -> None:
    """Reject groups that an analysis of variance cannot compare.

    Invalid groups are a participant in two groups, a single group, and a group of one participant.
    """
    if not options.group:
        return
    group_of_participant = dict[str, str]()
    for path, label in zip(options.reference, options.group, strict=False):
        participant = find_participant(path)
        first_label = group_of_participant.setdefault(participant, label)
        if first_label != label:
            raise UsageError(
                f"--group {first_label} and {label}: {participant}",
                "the participant was assigned to two groups, so the groups are not independent",
                "use the same group label for all images of a participant",
            )
    counts = Counter(group_of_participant.values())
    small_groups = [label for label, count in counts.items() if count < 2]
    if small_groups:
        problem = f"--group {small_groups[0]}: the group contains only one participant"
        reason = (
            "Welch's analysis of variance requires an estimate of the variance within each group"
        )
    elif len(counts) == 1:
        problem = f"--group {options.group[0]}: only one group was specified"
        reason = "an analysis of variance compares at least two groups"
    else:
        return
    raise UsageError(
        problem, reason, "specify at least two participants per group, or omit --group"
    )


@frozen
class _LowresImage:
    """Measured or computed low-resolution image of a reference.

    `factor` is the ratio of low-resolution to high-resolution voxel size, `window` is the part of
    the reference that the image covers, and `volumes` are the numbers of the evaluated volumes in
    the image.
    """

    reader: SeriesReader
    factor: Factor
    window: tuple[slice, slice, slice]
    volumes: Sequence[int]


@frozen
class _Task:
    """Inputs shared by all rows of a reference.

    `volumes` are the numbers of the evaluated volumes in the reference. `methods` are models and
    interpolations, and `other_images` are images from other programs, both by name in the table.
    `mask_file` is the brain mask on the grid of the low-resolution image; None computes the mask.
    """

    participant: str
    lowres: _LowresImage
    reference: SeriesReader
    volumes: Sequence[int]
    methods: Mapping[str, PreparedMethod]
    other_images: Mapping[str, SeriesReader]
    mask_file: Path | None

    def read_reference(self, index: int) -> Array:
        """Read the part of a volume of the reference that is scored."""
        return self.reference.volume(index)[self.lowres.window]


def prepare_tasks(
    options: ModelEvaluationOptions, stack: ExitStack, labels: Mapping[str, str] | None = None
) -> list[_Task]:
    """Open all images and models, and reject inputs that do not match, before scores are computed.

    Computed low-resolution images are written to a temporary folder, which `stack` removes.

    `labels` maps the path of a model to its name in the table; by default, the name consists of
    method and file.
    """
    model_labels = _label_models(options.model) if labels is None else labels
    tasks = [
        _prepare_task(index, options, model_labels, stack)
        for index in range(len(options.reference))
    ]
    notes = dict.fromkeys(
        f"{name}: {note}"
        for task in tasks
        for name, method in task.methods.items()
        for note in method.notes
    )
    for note in notes:
        print(f"Note: {note}")
    return tasks


def _label_models(models: Sequence[str]) -> dict[str, str]:
    """Return the table name of each model: method and file, with folders if ambiguous."""
    paths = [name for name in dict.fromkeys(models) if name not in MATRICES]
    file_names = [Path(path).name for path in paths]
    labels = dict[str, str]()
    for path, file_name in zip(paths, file_names, strict=True):
        method = model_files.open_model(path).card.method
        is_unique = file_names.count(file_name) == 1
        labels[path] = f"{method} ({file_name if is_unique else path})"
    return labels


def _prepare_task(
    index: int, options: ModelEvaluationOptions, labels: Mapping[str, str], stack: ExitStack
) -> _Task:
    """Open all images and models for a reference, given by its index in the options."""
    reference = stack.enter_context(SeriesReader(options.reference[index]))
    volumes = evenly_spaced(reference.shape[3], options.volumes)
    lowres = (
        _open_measured(options.image[index], reference, volumes, options, stack)
        if options.image
        else _simulate_lowres(reference, volumes, options, stack)
    )
    return _Task(
        participant=find_participant(options.reference[index]),
        lowres=lowres,
        reference=reference,
        volumes=volumes,
        other_images=_open_other_images(index, reference, options, stack),
        methods={
            labels.get(name, name): prepare_method(name, lowres.reader, options, lowres.factor)
            for name in dict.fromkeys((*options.model, *MATRICES))
        },
        mask_file=options.mask[index] if options.mask else None,
    )


def _open_measured(
    file: Path,
    reference: SeriesReader,
    volumes: Sequence[int],
    options: ModelEvaluationOptions,
    stack: ExitStack,
) -> _LowresImage:
    """Open the measured image of a reference; reject another field of view or duration."""
    reader = stack.enter_context(SeriesReader(file))
    factor = files.measure_factor(reader, reference, options.factor)
    if reader.shape[3] != reference.shape[3]:
        raise InvalidInput(
            f"found {reader.shape[3]} volumes; expected {reference.shape[3]} volumes, as in the"
            f" reference {reference.path.name}",
            file=file,
        )
    x, y, z = (slice(0, size) for size in reference.shape[:3])
    return _LowresImage(reader=reader, factor=factor, window=(x, y, z), volumes=volumes)


def _simulate_lowres(
    reference: SeriesReader,
    volumes: Sequence[int],
    options: ModelEvaluationOptions,
    stack: ExitStack,
) -> _LowresImage:
    """Downsample the evaluated volumes of a reference, and open the resulting image.

    The factor is the factor of the options, or else of the first model, or else 2 in plane.
    """
    models = (model_files.open_model(name) for name in options.model if name not in MATRICES)
    default_factor = next((model.card.factor for model in models), files.IN_PLANE)
    factor = files.parse_factor(options.factor, default_factor)
    lowres_volumes, affine, window = files.downsample(
        map(reference.volume, volumes),
        reference.shape[:3],
        reference.affine,
        options.degradation,
        factor,
    )
    series = np.stack(lowres_volumes, -1).astype(np.float32)
    # the contrast is determined from the file name, which is the name of the reference
    file = Path(stack.enter_context(TemporaryDirectory())) / reference.path.name
    save_image(series if reference.ndim == 4 else series[..., 0], affine, file, tr=1.0)
    reader = stack.enter_context(SeriesReader(file))
    return _LowresImage(reader=reader, factor=factor, window=window, volumes=range(len(volumes)))


def find_participant(file: Path) -> str:
    """Return the participant (``sub-01``) from a file's name or folders, or else the file name.

    >>> find_participant(Path("sub-01/anat/sub-01_T1w.nii")), find_participant(Path("a_T1w.nii"))
    ('sub-01', 'a_T1w')
    """
    for name in (file.name, *reversed(file.parts[:-1])):
        if match := re.match(r"sub-[A-Za-z0-9+]+", name):
            return match[0]
    return output_files.get_image_stem(file)


def _open_other_images(
    index: int, reference: SeriesReader, options: ModelEvaluationOptions, stack: ExitStack
) -> dict[str, SeriesReader]:
    """Open the images from other programs for a reference, by name in the table.

    A single reference may have several images. Otherwise, there is at most one image per
    reference, and all have the same name, so that they are compared as one method. Images must be
    on the grid of the reference.
    """
    is_single = len(options.reference) == 1
    images = {}
    for file in options.made if is_single else options.made[index : index + 1]:
        reader = stack.enter_context(SeriesReader(file))
        tolerance = 0.05 * min(reference.zooms)  # mm, 5 % of a voxel
        if reader.shape != reference.shape or not np.allclose(
            reader.affine, reference.affine, atol=tolerance
        ):
            raise InvalidInput(
                f"the image has shape {reader.shape}; expected the same grid as"
                f" {reference.path.name}, {reference.shape}",
                file=file,
            )
        images[str(file) if is_single else "made elsewhere"] = reader
    return images


@frozen
class _ScoredVoxels:
    """Scored voxels of a reference.

    `data_range` is the range of the reference in the mask, and `mean_reference` the mean of its
    scored volumes.
    """

    mask: MaskArray
    data_range: float
    mean_reference: Array


class _RowImages(NamedTuple):
    """First volume of a row, and mean of its volumes (3D)."""

    first: Array
    mean: Array


def measure_task(
    task: _Task, *, draw: bool
) -> tuple[list[ScoreRow], _ScoredVoxels, dict[str, _RowImages]]:
    """Score all rows of a reference.

    The images of the rows are returned by name, for figures, if `draw` is true.
    """
    brain, scale, note = files.find_brain_and_scale(task.lowres.reader, task.mask_file)
    if note:
        print(f"Note: {note}")
    mask = upsample("nearest", brain.astype(np.float32), task.lowres.factor) > 0.5
    reference_mean = np.mean([task.read_reference(index) for index in task.volumes], axis=0)
    scored = _ScoredVoxels(
        mask=mask,
        data_range=image_similarity.reference_range(reference_mean, mask),
        mean_reference=reference_mean,
    )
    rows = list[ScoreRow]()
    images = dict[str, _RowImages]()
    for row, row_images in _score_rows(task, scale, scored):
        rows.append(row)
        if draw:
            images[str(row["name"])] = row_images
    return rows, scored, images


def _score_rows(
    task: _Task, scale: float, scored: _ScoredVoxels
) -> Iterator[tuple[ScoreRow, _RowImages]]:
    """Yield the row and the images of each method and each image from another program.

    `scale` is the intensity that corresponds to 1 in a network.
    """
    for name, method in task.methods.items():
        durations_s = list[float]()
        volumes = _super_resolve(task, method, scale, durations_s)
        row, images = _score_volumes(name, volumes, task, scored)
        row |= {
            "seconds": float(np.mean(durations_s)),
            "parameters": str(method.parameters or MISSING),
        }
        yield row, images
    for name, reader in task.other_images.items():
        volumes = (reader.volume(index)[task.lowres.window] for index in task.volumes)
        yield _score_volumes(name, volumes, task, scored)


def _super_resolve(
    task: _Task, method: PreparedMethod, scale: float, durations_s: list[float]
) -> Iterator[Array]:
    """Yield the super-resolved volumes, and append the duration (s) of each to `durations_s`."""
    upsampler = method.build_upsampler(scale)
    for index in task.lowres.volumes:
        volume = task.lowres.reader.volume(index)
        start_time = time.perf_counter()
        image = require_finite(upsampler(volume, np.eye(4)), index)
        durations_s.append(time.perf_counter() - start_time)
        yield image


def _score_volumes(
    name: str, volumes: Iterator[Array], task: _Task, scored: _ScoredVoxels
) -> tuple[ScoreRow, _RowImages]:
    """Return the metrics of a row as means over the volumes, and its images.

    The correlation with the reference is computed from the means of the volumes.
    """
    volume_metrics = list[dict[str, float]]()
    first_image: Array | None = None
    total = np.zeros(scored.mask.shape)
    for index, image in zip(task.volumes, map(np.asarray, volumes), strict=True):
        first_image = image if first_image is None else first_image
        total += image
        volume_metrics.append(
            measure_image(task.read_reference(index), image, scored.mask, scored.data_range)
        )
    assert first_image is not None
    means = {
        metric: float(np.mean([metrics[metric] for metrics in volume_metrics]))
        for metric in volume_metrics[0]
    }
    resolution = None
    if name != "nearest":  # block edges of nearest-neighbor interpolation would count as detail
        resolution = effective_resolution(first_image, task.reference.zooms, scored.mask)
    images = _RowImages(first=first_image, mean=total / len(volume_metrics))
    row: ScoreRow = {
        "name": name,
        **means,
        "resolution_mm": MISSING if resolution is None else resolution,
        **_correlate(scored, images.mean),
        "seconds": MISSING,
        "parameters": MISSING,
        "participant": task.participant,
        "reference": str(task.reference.path),
    }
    return row, images


def measure_image(
    reference: Array, image: Array, mask: MaskArray, data_range: float
) -> dict[str, float]:
    """Return the metrics of one volume within a mask, by column."""
    return {
        "psnr": image_similarity.psnr(reference, image, data_range=data_range, mask=mask),
        "ssim": image_similarity.ssim(reference, image, data_range=data_range, mask=mask),
        "rmse": image_similarity.rmse(reference, image, mask=mask),
        "mae": image_similarity.mae(reference, image, mask=mask),
        "nmse": image_similarity.nmse(reference, image, mask=mask),
        "nmse_voxel": nmse_voxel(reference, image, mask=mask),
    }


def _correlate(scored: _ScoredVoxels, image: Array) -> ScoreRow:
    """Return correlation and regression line of the image on the reference, n/a if constant."""
    try:
        correlation = correlate_voxels(scored.mean_reference, image, scored.mask)
    except ValueError:
        return dict.fromkeys(_CORRELATION_COLUMNS, MISSING)
    return {column: getattr(correlation, column) for column in _CORRELATION_COLUMNS}


def _draw_figures(
    task: _Task,
    scored: _ScoredVoxels,
    images: Mapping[str, _RowImages],
    options: ModelEvaluationOptions,
    number: int,
) -> list[Path]:
    """Write the figures of a reference next to the table, and return their files."""
    from bids_sr.report.figures.comparison import comparison_figure, correlation_histogram
    from bids_sr.report.figures.decorrelation import decorrelation_figure
    from bids_sr.report.figures.svg_files import save_figure

    assert options.out is not None
    title = task.reference.path.name
    reference = task.read_reference(task.volumes[0])
    affine = task.reference.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [extent.start for extent in task.lowres.window]
    methods = {name: row_images.first for name, row_images in images.items()}
    drawn = {"reference": reference, **methods}
    del drawn["nearest"]  # block edges would count as detail
    figures = {
        "images": comparison_figure(
            title, affine, reference, methods["linear"], scored.mask, methods
        ),
        "decorrelation": decorrelation_figure(title, drawn, task.reference.zooms, scored.mask),
    }
    correlated = [name for name in images if name not in MATRICES]
    for index, name in enumerate(correlated, 1):
        x, y = (image[scored.mask] for image in (scored.mean_reference, images[name].mean))
        figures[f"correlation-{index}"] = correlation_histogram((title, name), x, y)
    return [
        save_figure(figure, make_sibling_path(options.out, f"{number}_{kind}.{options.figures}"))
        for kind, figure in figures.items()
    ]


def _print_table(
    rows: Sequence[ScoreRow], scored: _ScoredVoxels, task: _Task, options: ModelEvaluationOptions
) -> None:
    """Print the rows of a reference."""
    print(
        f"{task.reference.path.name}: scored {len(task.volumes)} of {task.reference.shape[3]}"
        f" volume(s). Low-resolution image: {_describe_lowres_image(task, options)}. Factor:"
        f" {' x '.join(f'{ratio:.4g}' for ratio in task.lowres.factor)}. Mask:"
        f" {np.count_nonzero(scored.mask)} voxels. Data range: {scored.data_range:.6g} (maximum"
        " minus minimum of the reference inside the mask)."
    )
    columns = [name for name in describe_columns(_COLUMNS) if name not in _UNPRINTED_COLUMNS]
    if len(options.reference) == 1:
        columns.remove("participant")
    cells = [[cell_text(row[column]) for column in columns] for row in rows]
    print(table_text([columns, *cells]))


def _write_report(
    rows: Sequence[ScoreRow],
    data_ranges: Sequence[float],
    tasks: Sequence[_Task],
    options: ModelEvaluationOptions,
    figures: Sequence[Path],
) -> None:
    """Print the comparison over participants, and write tables and page."""
    if options.out is not None:
        conditions = {
            "DataRange": _unwrap_single(data_ranges),
            "Factor": _unwrap_single([list(task.lowres.factor) for task in tasks]),
            "CoarseImage": _unwrap_single(
                [_describe_lowres_image(task, options) for task in tasks]
            ),
            "Reference": _unwrap_single([str(file) for file in options.reference]),
            "Volumes": _unwrap_single([list(task.volumes) for task in tasks]),
        }
        write_table(options.out, _COLUMNS, rows, conditions)
    tables = _compare_methods(rows, tasks, options) if len(tasks) > 1 else {}
    if reason := explain_missing_tests({task.participant for task in tasks}):
        print(f"Note: {reason}")
    if options.figures != "none" and options.out is not None:
        page = options.out.with_suffix(".html")
        _write_comparison_page(page, rows, tables, figures)
        print(f"Comparison page: {page}")


def _unwrap_single(values: Sequence[object]) -> object:
    """Return the value of a single reference, or a list with one value per reference."""
    return values[0] if len(values) == 1 else list(values)


def _describe_lowres_image(task: _Task, options: ModelEvaluationOptions) -> str:
    """Return the origin of the low-resolution image as text."""
    if options.image:
        return f"measured ({task.lowres.reader.path.name})"
    return f"computed with the {options.degradation} degradation"


def _compare_methods(
    rows: Sequence[ScoreRow], tasks: Sequence[_Task], options: ModelEvaluationOptions
) -> dict[ComparisonTable, list[ScoreRow]]:
    """Compare models and images from other programs over participants (see `compare_rows`)."""
    first_task = tasks[0]
    method_names = [
        name for name, method in first_task.methods.items() if method.model is not None
    ]
    method_names += list(first_task.other_images)
    group_of_participant = {
        task.participant: label for task, label in zip(tasks, options.group, strict=False)
    }
    return compare_rows(rows, method_names, group_of_participant, options.out)


def _write_comparison_page(
    page: Path,
    rows: Sequence[ScoreRow],
    tables: Mapping[ComparisonTable, Sequence[ScoreRow]],
    figures: Sequence[Path],
) -> None:
    """Write a page with the rows of all references, tables of the comparison, and figures."""
    contents = {
        "Scores": _format_page_table(rows, _COLUMNS, "Scores"),
        **{
            kind.title: _format_page_table(table_rows, kind.columns, kind.title)
            for kind, table_rows in tables.items()
        },
        "Figures": join(map(_embed_figure, figures)),
        "About": facts_html({"bids-sr version": __version__}),
    }
    write_page(
        page,
        title="Super-resolved images and their references",
        sections=[
            plain_section(f"part{number}", title, content)
            for number, (title, content) in enumerate(contents.items())
        ],
    )


def _format_page_table(rows: Sequence[ScoreRow], columns: str, caption: str) -> Markup:
    """Return a table of the page; `columns` is an entry of ``columns.json``."""
    if columns == TESTS.columns:
        return comparisons_html(
            columns,
            [SimpleNamespace(**row) for row in rows],
            caption,
            {"metric": [str(row["statistic"]) for row in rows]},
        )
    column_names = list(describe_columns(columns))
    cells = [[cell_text(row[name]) for name in column_names] for row in rows]
    return table(caption, column_names, cells)


def _embed_figure(file: Path) -> Markup:
    """Return an embedded figure with its file name as caption."""
    content = file.read_bytes()
    uri = (
        data_uri(content)
        if file.suffix == ".svg"
        else f"data:image/png;base64,{b64encode(content).decode('ascii')}"
    )
    return render("figure", uri, file.name, file.name, file.stem)
