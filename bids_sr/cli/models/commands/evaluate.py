"""``bids-sr-models evaluate``: models and interpolations compared with high-resolution references.

References may belong to one or several participants. All inputs are checked before scores are
computed, and only one reference is in memory at a time.
"""

from __future__ import annotations

import json
import re
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import numpy as np
from markupsafe import Markup

from bids_sr.boilerplate import data_of
from bids_sr.cli.console import table_text
from bids_sr.cli.models.commands import image_files as files, model_files, output_files
from bids_sr.cli.models.commands.apply import (
    PreparedMethod,
    list_overruled_notes,
    prepare_method,
    require_finite,
)
from bids_sr.cli.models.commands.options import ModelEvaluationOptions
from bids_sr.cli.models.commands.score_tables import (
    MISSING,
    TESTS,
    ComparisonTable,
    cell_text,
    compare_rows,
    explain_missing_tests,
    format_tsv,
    make_sibling_path,
    sort_by_psnr,
)
from bids_sr.cli.models.method_scores import ScoreRow
from bids_sr.evaluation.attention_unet_metrics import nmse_voxel
from bids_sr.evaluation.voxel_correlation import correlate_voxels
from bids_sr.io.arrays import Array, MaskArray, evenly_spaced
from bids_sr.io.atomic_files import write_text
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

_CORRELATION_COLUMNS = ("r", "rho", "slope", "intercept", "p_independent")
_UNPRINTED_COLUMNS = ("reference", "slope", "intercept", "p_independent")


@frozen
class FigureImages:
    """Images in the figures of a reference, all 3D on the same part of its grid.

    `title` is the name of the reference file, and `affine` is the voxel-to-world matrix (4 x 4,
    RAS+ mm). `reference` is the first scored volume of the reference, `interpolated_image` is the
    low-resolution image after linear interpolation, and `methods` contains the super-resolved
    image of each row, by name in the table. `mask` selects the scored voxels. `mean_reference` and
    `mean_images` are means of the scored volumes: of the reference, and of each model and each
    image from another program.
    """

    title: str
    affine: Array
    reference: Array
    interpolated_image: Array
    mask: MaskArray
    methods: Mapping[str, Array]
    mean_reference: Array
    mean_images: Mapping[str, Array]


@frozen
class _TaskScores:
    """Rows of a reference, with number of scored voxels, and range of the reference in them."""

    rows: tuple[ScoreRow, ...]
    voxels: int
    data_range: float


def evaluate(options: ModelEvaluationOptions) -> None:
    """Score models and interpolations against references, and compare them."""
    _check_groups(options)
    with ExitStack() as stack:
        tasks = prepare_tasks(options, stack)
        if options.out is not None:
            output_files.make_folder(options.out)
        results = list[_TaskScores]()
        figures = list[Path]()
        for number, task in enumerate(tasks, 1):
            task_scores, figure_images = measure_task(task, draw=options.figures != "none")
            results.append(task_scores)
            if figure_images is not None and options.out is not None:
                figures += _draw_figures(figure_images, options, number)
            _print_table(task_scores, task, options)
    _write_report(results, tasks, options, figures)


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
        for note in list_overruled_notes(method)
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
    """Open the measured low-resolution image of a reference; reject another field of view."""
    reader = stack.enter_context(SeriesReader(file))
    factor = files.measure_factor(reader, reference, options.factor)
    _check_volume_count(reader, reference)
    x, y, z = (slice(0, size) for size in reference.shape[:3])
    return _LowresImage(reader=reader, factor=factor, window=(x, y, z), volumes=volumes)


def _check_volume_count(lowres: SeriesReader, reference: SeriesReader) -> None:
    """Reject a low-resolution image with another number of volumes than its reference."""
    if lowres.shape[3] != reference.shape[3]:
        raise InvalidInput(
            f"found {lowres.shape[3]} volumes; expected"
            f" {reference.shape[3]} volumes, as in the reference"
            f" {reference.path.name}",
            file=lowres.path,
        )


def _simulate_lowres(
    reference: SeriesReader,
    volumes: Sequence[int],
    options: ModelEvaluationOptions,
    stack: ExitStack,
) -> _LowresImage:
    """Downsample the evaluated volumes of a reference, and open the resulting image."""
    factor = _choose_factor(options)
    folder = Path(stack.enter_context(TemporaryDirectory()))
    file, window = _write_downsampled(reference, volumes, options.degradation, factor, folder)
    reader = stack.enter_context(SeriesReader(file))
    return _LowresImage(reader=reader, factor=factor, window=window, volumes=range(len(volumes)))


def _choose_factor(options: ModelEvaluationOptions) -> Factor:
    """Return the factor of the options, or else of the first model, or else 2 in plane."""
    first_model = next((name for name in options.model if name not in MATRICES), None)
    default_factor = (
        files.IN_PLANE if first_model is None else model_files.open_model(first_model).card.factor
    )
    return files.parse_factor(options.factor, default_factor)


def _write_downsampled(
    reference: SeriesReader,
    volumes: Sequence[int],
    degradation: str | None,
    factor: Factor,
    folder: Path,
) -> tuple[Path, tuple[slice, slice, slice]]:
    """Write downsampled volumes of a reference, and return file and covered window.

    The file name, which determines the contrast, is the name of the reference.
    """
    import torch

    from bids_sr.sr.operators import get_operator

    operator = get_operator(degradation, tuple(reference.shape[:3]), tuple(factor))
    lowres_volumes = [
        operator.forward(torch.from_numpy(reference.volume(index).astype(np.float64))).numpy()
        for index in volumes
    ]
    series = np.stack(lowres_volumes, -1).astype(np.float32)
    file = folder / reference.path.name
    save_image(
        series if reference.ndim == 4 else series[..., 0],
        operator.lowres_affine(reference.affine),
        file,
        tr=1.0,
    )
    x, y, z = (slice(start, stop) for start, stop in operator.window)
    return file, (x, y, z)


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
    reference, and all have the same name, so that they are compared as one method.
    """
    if len(options.reference) == 1:
        return {str(file): _open_other_image(file, reference, stack) for file in options.made}
    if not options.made:
        return {}
    return {"made elsewhere": _open_other_image(options.made[index], reference, stack)}


def _open_other_image(file: Path, reference: SeriesReader, stack: ExitStack) -> SeriesReader:
    """Open an image from another program; it must be on the grid of the reference."""
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
    return reader


@frozen
class _ScoredVoxels:
    """Scored voxels of a reference.

    `data_range` is the range of the reference in the mask, and `mean_reference` the mean of its
    scored volumes.
    """

    mask: MaskArray
    data_range: float
    mean_reference: Array


@frozen
class _RowImages:
    """First volume of a row, and mean of its volumes (3D)."""

    first: Array
    mean: Array


def measure_task(task: _Task, *, draw: bool) -> tuple[_TaskScores, FigureImages | None]:
    """Score all rows of a reference; return them with the images for figures, if requested."""
    brain, scale, note = files.find_brain_and_scale(task.lowres.reader, task.mask_file)
    if note:
        print(f"Note: {note}")
    mask = upsample("nearest", brain.astype(np.float32), task.lowres.factor) > 0.5
    reference_mean = np.mean(
        [task.reference.volume(index)[task.lowres.window] for index in task.volumes], axis=0
    )
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
    scores = _TaskScores(rows=tuple(rows), voxels=int(mask.sum()), data_range=scored.data_range)
    return scores, _collect_figure_images(task, scored, images) if draw else None


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
            "parameters": method.parameters or MISSING,
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
        reference = task.reference.volume(index)[task.lowres.window]
        first_image = image if first_image is None else first_image
        total += image
        volume_metrics.append(measure_image(reference, image, scored.mask, scored.data_range))
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


def _collect_figure_images(
    task: _Task, scored: _ScoredVoxels, images: Mapping[str, _RowImages]
) -> FigureImages:
    """Return the images in the figures of a reference, on the part that is scored."""
    first_voxel = [extent.start for extent in task.lowres.window]
    affine = task.reference.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ first_voxel
    return FigureImages(
        title=task.reference.path.name,
        affine=affine,
        reference=task.reference.volume(task.volumes[0])[task.lowres.window],
        interpolated_image=images["linear"].first,
        mask=scored.mask,
        methods={name: row_images.first for name, row_images in images.items()},
        mean_reference=scored.mean_reference,
        mean_images={
            name: row_images.mean for name, row_images in images.items() if name not in MATRICES
        },
    )


def _draw_figures(
    figure_images: FigureImages, options: ModelEvaluationOptions, number: int
) -> list[Path]:
    """Write the figures of a reference next to the table, and return their files."""
    from bids_sr.report.figures.comparison import comparison_figure, correlation_histogram
    from bids_sr.report.figures.decorrelation import decorrelation_figure
    from bids_sr.report.figures.svg_files import save_figure

    assert options.out is not None
    zooms = np.linalg.norm(figure_images.affine[:3, :3], axis=0)
    figures = {
        "images": comparison_figure(
            figure_images.title,
            figure_images.affine,
            figure_images.reference,
            figure_images.interpolated_image,
            figure_images.mask,
            figure_images.methods,
        )
    }
    images = {"reference": figure_images.reference, **figure_images.methods}
    del images["nearest"]  # block edges would count as detail
    figures["decorrelation"] = decorrelation_figure(
        figure_images.title, images, zooms, figure_images.mask
    )
    x = figure_images.mean_reference[figure_images.mask]
    for index, (name, image) in enumerate(figure_images.mean_images.items(), 1):
        y = image[figure_images.mask]
        figures[f"correlation-{index}"] = correlation_histogram((figure_images.title, name), x, y)
    paths = list[Path]()
    for kind, figure in figures.items():
        file = make_sibling_path(options.out, f"{number}_{kind}.{options.figures}")
        paths.append(save_figure(figure, file))
    return paths


def _print_table(scores: _TaskScores, task: _Task, options: ModelEvaluationOptions) -> None:
    """Print the rows of a reference, sorted by PSNR."""
    print(
        f"{task.reference.path.name}: scored {len(task.volumes)} of {task.reference.shape[3]}"
        f" volume(s). Low-resolution image: {_describe_lowres_image(task, options)}. Factor:"
        f" {' x '.join(f'{ratio:.4g}' for ratio in task.lowres.factor)}. Mask:"
        f" {scores.voxels} voxels. Data range: {scores.data_range:.6g} (maximum minus minimum"
        " of the reference inside the mask)."
    )
    columns = [
        name for name in data_of("columns.json")["models_apply"] if name not in _UNPRINTED_COLUMNS
    ]
    if len(options.reference) == 1:
        columns.remove("participant")
    print(table_text([tuple(columns), *_cells(sort_by_psnr(scores.rows), columns)]))


def _write_report(
    results: Sequence[_TaskScores],
    tasks: Sequence[_Task],
    options: ModelEvaluationOptions,
    figures: Sequence[Path],
) -> None:
    """Print the comparison over participants, and write tables and page."""
    rows = [row for result in results for row in sort_by_psnr(result.rows)]
    if options.out is not None:
        _write_scores(options.out, rows, results, tasks, options)
    tables = _compare_methods(rows, tasks, options) if len(tasks) > 1 else {}
    if reason := explain_missing_tests({task.participant for task in tasks}):
        print(f"Note: {reason}")
    if options.figures != "none" and options.out is not None:
        page = options.out.with_suffix(".html")
        _write_comparison_page(page, rows, tables, figures)
        print(f"Comparison page: {page}")


def _write_scores(
    out: Path,
    rows: Sequence[ScoreRow],
    results: Sequence[_TaskScores],
    tasks: Sequence[_Task],
    options: ModelEvaluationOptions,
) -> None:
    """Write the rows of all references, and a JSON file that describes columns and conditions."""
    columns = data_of("columns.json")["models_apply"]
    write_text(out, format_tsv(list(columns), _cells(rows, list(columns))))
    description: Mapping[str, object] = {
        **columns,
        "DataRange": _unwrap_single([result.data_range for result in results]),
        "Factor": _unwrap_single([list(task.lowres.factor) for task in tasks]),
        "CoarseImage": _unwrap_single([_describe_lowres_image(task, options) for task in tasks]),
        "Reference": _unwrap_single([str(file) for file in options.reference]),
        "Volumes": _unwrap_single([list(task.volumes) for task in tasks]),
    }
    write_text(out.with_suffix(".json"), json.dumps(description, indent=2) + "\n")


def _cells(rows: Sequence[ScoreRow], columns: Sequence[str]) -> list[list[str]]:
    """Return cells as text."""
    return [
        [
            f"{row[column]:.5g}" if isinstance(row[column], float) else str(row[column])
            for column in columns
        ]
        for row in rows
    ]


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
    contents = {"Scores": _format_page_table(rows, "models_apply", "Scores")}
    contents |= {
        kind.title: _format_page_table(table_rows, kind.columns, kind.title)
        for kind, table_rows in tables.items()
    }
    contents["Figures"] = join(map(_embed_figure, figures))
    contents["About"] = facts_html({"bids-sr version": __version__})
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
    column_names = list(data_of("columns.json")[columns])
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
