"""``bids-sr-models evaluate``: models and interpolations compared with high-resolution references.

References may belong to one or several participants. All inputs are checked before scores are
computed, and only one reference is in memory at a time.
"""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from markupsafe import Markup

from bids_sr.boilerplate import data_of
from bids_sr.cli.console import table_text
from bids_sr.config import UsageError
from bids_sr.frozen import frozen
from bids_sr.io.arrays import Array, MaskArray, evenly_spaced
from bids_sr.io.atomic_files import write_text
from bids_sr.io.grids import Factor
from bids_sr.io.nifti import ImageError, SeriesReader, save_image
from bids_sr.metrics import similarity
from bids_sr.model_commands.cli import image_files as files, model_files, output_files
from bids_sr.model_commands.cli.apply import (
    ReadyMethod,
    list_overruled_notes,
    ready_method,
    require_finite,
)
from bids_sr.model_commands.cli.options import ModelEvaluationOptions
from bids_sr.model_commands.cli.score_tables import (
    MISSING,
    cell_text,
    compare_rows,
    explain_missing_tests,
    file_next_to,
    sort_by_psnr,
)
from bids_sr.model_commands.method_scores import ScoreRow
from bids_sr.quality.attention_unet_metrics import nmse_voxel
from bids_sr.quality.effective_resolution import effective_resolution
from bids_sr.sr.matrices import MATRICES, upsample
from bids_sr.version import __version__

_STYLE = """body{font:15px/1.5 system-ui,sans-serif;color:#1f2933;background:#fff;
max-width:75rem;margin:1.5rem auto;padding:0 1rem}
img{max-width:100%}table{border-collapse:collapse;display:block;overflow-x:auto}
td,th{padding:.15rem .6rem;text-align:left;border-bottom:1px solid #d5dade}
footer{color:#5b6770;font-size:.85em}"""
_MIME = {".png": "image/png", ".svg": "image/svg+xml"}


def write_comparison_page(
    target: Path,
    title: str,
    tables: Mapping[str, Sequence[Sequence[str]]],
    figures: Sequence[Path],
) -> Path:
    """Write a page of tables and figures, atomically.

    Parameters
    ----------
    target : Path
        File of the page.
    title : str
        Title of the page.
    tables : Mapping[str, Sequence[Sequence[str]]]
        Rows of cells by heading; the first row has the names of the columns.
    figures : Sequence[Path]
        PNG or SVG files, which are embedded.
    """
    tables_html = [_table_html(heading, rows) for heading, rows in tables.items()]
    tables_html += [_figure_html(file) for file in figures]
    page = Markup(
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        "<style>{style}</style></head><body><h1>{title}</h1>{body}"
        "<footer>bids-sr {version}; for research, not for clinical use</footer></body></html>\n"
    ).format(
        title=title, style=Markup(_STYLE), body=Markup("\n").join(tables_html), version=__version__
    )
    return write_text(target, str(page))


def _table_html(heading: str, rows: Sequence[Sequence[str]]) -> Markup:
    head, *lines = rows
    cells = Markup("").join(Markup("<th>{}</th>").format(name) for name in head)
    body = Markup("").join(
        Markup("<tr>{}</tr>").format(
            Markup("").join(Markup("<td>{}</td>").format(cell) for cell in line)
        )
        for line in lines
    )
    return Markup("<h2>{}</h2><table><tr>{}</tr>{}</table>").format(heading, cells, body)


def _figure_html(file: Path) -> Markup:
    from base64 import b64encode

    data = b64encode(file.read_bytes()).decode("ascii")
    return Markup(
        '<figure><img alt="{name}" src="data:{mime};base64,{data}">'
        "<figcaption>{name}</figcaption></figure>"
    ).format(name=file.name, mime=_MIME[file.suffix], data=data)


@frozen
class DrawnImages:
    """Images in the figures of a reference: its first scored volume, and the results of all rows.

    All images are 3D on the grid of the reference. `interpolated` is the low-resolution image
    after linear interpolation, and `mask` contains the scored voxels.
    """

    title: str
    affine: Array
    reference: Array
    interpolated: Array
    mask: MaskArray
    methods: Mapping[str, Array]


@frozen
class _Task:
    """Inputs shared by all rows of a reference."""

    participant: str
    coarse: SeriesReader
    reference: SeriesReader
    # window of the reference that the low-resolution image covers
    window: tuple[slice, slice, slice]
    factor: Factor  # low- divided by high-resolution voxel size
    volumes: Sequence[int]  # numbers of the evaluated volumes
    coarse_volumes: Sequence[int]  # numbers of these volumes in the low-resolution image
    methods: Mapping[str, ReadyMethod]  # by name in the table
    made: Mapping[str, SeriesReader]
    mask_file: Path | None


@frozen
class _Measured:
    """Rows of a reference, with the region and intensity range of the metrics."""

    rows: tuple[ScoreRow, ...]
    voxels: int
    data_range: float


def find_participant(file: Path) -> str:
    """Return the participant (``sub-01``) from a file's name or folders, or else the file name.

    >>> find_participant(Path("sub-01/anat/sub-01_T1w.nii")), find_participant(Path("a_T1w.nii"))
    ('sub-01', 'a_T1w')
    """
    for part in (file.name, *reversed(file.parts[:-1])):
        if match := re.match(r"sub-[A-Za-z0-9+]+", part):
            return match[0]
    return output_files.image_stem(file)


def evaluate(options: ModelEvaluationOptions) -> None:
    """Score models and interpolations against references, and compare them."""
    _check_groups(options)
    with ExitStack() as stack:
        tasks = prepare_tasks(options, stack)
        if options.out is not None:
            output_files.make_folder(options.out)
        results = list[_Measured]()
        pages = list[Path]()
        for number, task in enumerate(tasks, 1):
            task_result, drawn_images = measure_task(task, draw=options.figures != "none")
            results.append(task_result)
            if drawn_images is not None and options.out is not None:
                pages += _draw(drawn_images, options, number)
            _print_table(task_result, task, options)
    _report(results, tasks, options, pages)


def _check_groups(options: ModelEvaluationOptions) -> None:
    """Reject groups that an analysis of variance cannot compare.

    Invalid groups are a participant in two groups, a single group, and a group of one participant.
    """
    group_of = dict[str, str]()
    for path, label in zip(options.reference, options.group, strict=False):
        participant = find_participant(path)
        if group_of.setdefault(participant, label) != label:
            problem = f"--group {group_of[participant]} and {label}: {participant}"
            reason = (
                "the participant was assigned to two groups, so the groups are not independent"
            )
            raise UsageError(
                problem, reason, "use the same group label for all images of a participant"
            )
    counts = Counter(group_of.values())
    small_groups = [label for label, count in counts.items() if count < 2]
    if not options.group or (len(counts) > 1 and not small_groups):
        return
    if small_groups:
        problem = f"--group {small_groups[0]}: the group contains only one participant"
        reason = (
            "Welch's analysis of variance requires an estimate of the variance within each group"
        )
    else:
        problem = f"--group {options.group[0]}: only one group was specified"
        reason = "an analysis of variance compares at least two groups"
    raise UsageError(
        problem, reason, "specify at least two participants per group, or omit --group"
    )


def prepare_tasks(
    options: ModelEvaluationOptions, stack: ExitStack, labels: Mapping[str, str] | None = None
) -> list[_Task]:
    """Open all images and models, and reject inputs that do not match, before scores are computed.

    Computed low-resolution images are written to a temporary folder, which `stack` removes.

    `labels` maps the path of a model to its name in the table; by default, the name consists of
    method and file.
    """
    tasks = list[_Task]()
    labels = _labels(options.model) if labels is None else labels
    for number, path in enumerate(options.reference):
        reference = stack.enter_context(SeriesReader(path))
        volumes = evenly_spaced(reference.shape[3], options.volumes)
        if options.image:
            coarse = stack.enter_context(SeriesReader(options.image[number]))
            x, y, z = (slice(0, size) for size in reference.shape[:3])
            factor = files.factor_between(coarse, reference, options.factor)
            if coarse.shape[3] != reference.shape[3]:
                raise ImageError(
                    f"{coarse.path}: found {coarse.shape[3]} volumes; expected"
                    f" {reference.shape[3]} volumes, as in the reference"
                    f" {reference.path.name}"
                )
            coarse_volumes = volumes
        else:
            first_model = next((name for name in options.model if name not in MATRICES), None)
            factor = files.factor_from(
                options.factor,
                files.IN_PLANE
                if first_model is None
                else model_files.open_model(first_model).card.factor,
            )
            folder = Path(stack.enter_context(TemporaryDirectory()))
            file, (x, y, z) = _write_downsampled(reference, options, factor, folder)
            coarse = stack.enter_context(SeriesReader(file))
            coarse_volumes = tuple(range(len(volumes)))
        given_files = options.made if len(options.reference) == 1 else options.made[number:][:1]
        given_images = {
            str(file) if len(options.reference) == 1 else "made elsewhere": _open_given(
                file, reference, stack
            )
            for file in given_files
        }
        tasks.append(
            _Task(
                participant=find_participant(path),
                coarse=coarse,
                reference=reference,
                window=(x, y, z),
                factor=factor,
                volumes=volumes,
                coarse_volumes=coarse_volumes,
                methods={
                    labels.get(name, name): ready_method(name, coarse, options, factor)
                    for name in dict.fromkeys((*options.model, *MATRICES))
                },
                made=given_images,
                mask_file=options.mask[number] if options.mask else None,
            )
        )
    notes = {
        f"{name}: {note}": None
        for task in tasks
        for name, ready in task.methods.items()
        for note in list_overruled_notes(ready, options)
    }
    for note in notes:
        print(f"Note: {note}")
    return tasks


def _labels(models: Sequence[str]) -> dict[str, str]:
    """Return the table name of each model: method and file, with folders if ambiguous."""
    paths = [name for name in dict.fromkeys(models) if name not in MATRICES]
    names = [Path(name).name for name in paths]
    return {
        path: f"{model_files.open_model(path).card.method}"
        f" ({name if names.count(name) == 1 else path})"
        for path, name in zip(paths, names, strict=True)
    }


def _write_downsampled(
    reference: SeriesReader, options: ModelEvaluationOptions, factor: Factor, folder: Path
) -> tuple[Path, tuple[slice, slice, slice]]:
    """Write the downsampled reference to a file, and return it with the window that it covers.

    The file name, which determines the contrast, is the name of the reference.
    """
    import torch

    from bids_sr.sr.operators import get_operator

    operator = get_operator(options.degradation, tuple(reference.shape[:3]), tuple(factor))
    volumes = evenly_spaced(reference.shape[3], options.volumes)
    low = [
        operator.forward(torch.from_numpy(reference.volume(index).astype(np.float64))).numpy()
        for index in volumes
    ]
    data = np.stack(low, -1).astype(np.float32)
    file = folder / reference.path.name
    save_image(
        data if reference.ndim == 4 else data[..., 0],
        operator.lowres_affine(reference.affine),
        file,
        tr=1.0,
    )
    x, y, z = (slice(start, stop) for start, stop in operator.window)
    return file, (x, y, z)


def _open_given(file: Path, reference: SeriesReader, stack: ExitStack) -> SeriesReader:
    """Open an image from another program; it must be on the grid of the reference."""
    reader = stack.enter_context(SeriesReader(file))
    tolerance = 0.05 * min(reference.zooms)
    if reader.shape != reference.shape or not np.allclose(
        reader.affine, reference.affine, atol=tolerance
    ):
        raise ImageError(
            f"{file}: the image has shape {reader.shape}; expected the same grid as"
            f" {reference.path.name}, {reference.shape}"
        )
    return reader


def measure_task(task: _Task, *, draw: bool) -> tuple[_Measured, DrawnImages | None]:
    """Score all rows of a reference; return them with the images for figures, if requested."""
    brain, scale, note = files.brain_and_scale(task.coarse, task.mask_file)
    if note:
        print(f"Note: {note}")
    mask = upsample("nearest", brain.astype(np.float32), task.factor) > 0.5
    reference_mean = np.mean(
        [task.reference.volume(index)[task.window] for index in task.volumes], axis=0
    )
    data_range = similarity.reference_range(reference_mean, mask)
    images = dict[str, Array]()
    rows = list[ScoreRow]()
    for name, ready in task.methods.items():
        seconds = list[float]()
        volumes = _super_resolved(task, ready, scale, seconds)
        row, image = _scores(name, volumes, task, mask, data_range)
        images |= {name: image} if draw else {}
        rows.append(
            row | {"seconds": float(np.mean(seconds)), "parameters": ready.parameters or MISSING}
        )
    for name, reader in task.made.items():
        volumes = (reader.volume(index)[task.window] for index in task.volumes)
        row, image = _scores(name, volumes, task, mask, data_range)
        images |= {name: image} if draw else {}
        rows.append(row)
    measured = _Measured(rows=tuple(rows), voxels=int(mask.sum()), data_range=data_range)
    if not draw:
        return measured, None
    start = [extent.start for extent in task.window]
    affine = task.reference.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ start
    return measured, DrawnImages(
        title=task.reference.path.name,
        affine=affine,
        reference=task.reference.volume(task.volumes[0])[task.window],
        interpolated=images["linear"],
        mask=mask,
        methods=images,
    )


def _super_resolved(
    task: _Task, ready: ReadyMethod, scale: float, seconds: list[float]
) -> Iterator[Array]:
    """Yield the super-resolved volumes, and append the seconds of each volume to `seconds`."""
    upsampler = ready.make(scale)
    for index in task.coarse_volumes:
        volume = task.coarse.volume(index)
        start = time.perf_counter()
        image = require_finite(upsampler(volume, np.eye(4)), index)
        seconds.append(time.perf_counter() - start)
        yield image


def _scores(
    name: str, volumes: Iterator[Array], task: _Task, mask: MaskArray, data_range: float
) -> tuple[ScoreRow, Array]:
    """Return the metrics of a row as means over the volumes, and the first volume."""
    by_volume = list[dict[str, float]]()
    first_image: Array | None = None
    for index, image in zip(task.volumes, map(np.asarray, volumes), strict=True):
        reference = task.reference.volume(index)[task.window]
        first_image = image if first_image is None else first_image
        by_volume.append(
            {
                "psnr": similarity.psnr(reference, image, data_range=data_range, mask=mask),
                "ssim": similarity.ssim(reference, image, data_range=data_range, mask=mask),
                "rmse": similarity.rmse(reference, image, mask=mask),
                "mae": similarity.mae(reference, image, mask=mask),
                "nmse": similarity.nmse(reference, image, mask=mask),
                "nmse_voxel": nmse_voxel(reference, image, mask=mask),
            }
        )
    assert first_image is not None
    means = {
        key: float(np.mean([volume_scores[key] for volume_scores in by_volume]))
        for key in by_volume[0]
    }
    resolution = None
    if name != "nearest":  # block edges of nearest-neighbor interpolation would count as detail
        resolution = effective_resolution(first_image, task.reference.zooms, mask)
    row: ScoreRow = {
        "name": name,
        **means,
        "resolution_mm": MISSING if resolution is None else resolution,
        "seconds": MISSING,
        "parameters": MISSING,
        "participant": task.participant,
        "reference": str(task.reference.path),
    }
    return row, first_image


def _coarse_text(task: _Task, options: ModelEvaluationOptions) -> str:
    """Return the origin of the low-resolution image as text."""
    if options.image:
        return f"measured ({task.coarse.path.name})"
    return f"computed with the {options.degradation} degradation"


def _print_table(measured: _Measured, task: _Task, options: ModelEvaluationOptions) -> None:
    """Print the rows of a reference, sorted by PSNR."""
    print(
        f"{task.reference.path.name}: scored {len(task.volumes)} of {task.reference.shape[3]}"
        f" volume(s). Low-resolution image: {_coarse_text(task, options)}. Factor:"
        f" {' x '.join(f'{axis_factor:.4g}' for axis_factor in task.factor)}. Mask:"
        f" {measured.voxels} voxels. Data range: {measured.data_range:.6g} (maximum minus minimum"
        " of the reference inside the mask)."
    )
    columns = [name for name in data_of("columns.json")["models_apply"] if name != "reference"]
    if len(options.reference) == 1:
        columns.remove("participant")
    print(table_text([tuple(columns), *_cells(sort_by_psnr(measured.rows), columns, options)]))


def _cells(
    rows: Sequence[ScoreRow], columns: Sequence[str], options: ModelEvaluationOptions
) -> list[list[str]]:
    """Return cells as text."""
    return [
        [
            f"{row[column]:.5g}" if isinstance(row[column], float) else str(row[column])
            for column in columns
        ]
        for row in rows
    ]


def _report(
    results: Sequence[_Measured],
    tasks: Sequence[_Task],
    options: ModelEvaluationOptions,
    figures: Sequence[Path],
) -> None:
    """Print the comparison over participants, and write tables and page."""
    rows = [row for result in results for row in sort_by_psnr(result.rows)]
    if options.out is not None:
        columns = data_of("columns.json")["models_apply"]
        lines = [tuple(columns), *_cells(rows, list(columns), options)]
        write_text(options.out, "".join("\t".join(line) + "\n" for line in lines))
        description: Mapping[str, object] = {
            **columns,
            "DataRange": _one_or_all([result.data_range for result in results]),
            "Factor": _one_or_all([list(task.factor) for task in tasks]),
            "CoarseImage": _one_or_all([_coarse_text(task, options) for task in tasks]),
            "Reference": _one_or_all([str(file) for file in options.reference]),
            "Volumes": _one_or_all([list(task.volumes) for task in tasks]),
        }
        write_text(options.out.with_suffix(".json"), json.dumps(description, indent=2) + "\n")
    compared = [name for name, ready in tasks[0].methods.items() if ready.model is not None]
    compared += list(tasks[0].made)
    group_of = {task.participant: label for task, label in zip(tasks, options.group, strict=False)}
    tables = compare_rows(rows, compared, group_of, options.out) if len(tasks) > 1 else {}
    if reason := explain_missing_tests({task.participant for task in tasks}):
        print(f"Note: {reason}")
    if options.figures != "none" and options.out is not None:
        page = options.out.with_suffix(".html")
        tables_by_title = {"Scores": _page_rows(rows, "models_apply")}
        tables_by_title |= {
            title: _page_rows(table_rows, kind) for (kind, title), table_rows in tables.items()
        }
        write_comparison_page(
            page, "Super-resolved images and their references", tables_by_title, figures
        )
        print(f"Comparison page: {page}")


def _one_or_all(values: Sequence[object]) -> object:
    """Return the value of a single reference, or a list with one value per reference."""
    return values[0] if len(values) == 1 else list(values)


def _page_rows(rows: Sequence[ScoreRow], columns: str) -> list[list[str]]:
    """Return a heading and the rows as text."""
    names = list(data_of("columns.json")[columns])
    return [names, *([cell_text(row[name]) for name in names] for row in rows)]


def _draw(drawn_images: DrawnImages, options: ModelEvaluationOptions, number: int) -> list[Path]:
    """Write the figures of a reference next to the table, and return their files."""
    from bids_sr.figures.comparison import comparison_figure
    from bids_sr.figures.decorrelation import decorrelation_figure
    from bids_sr.figures.svg_files import save_figure

    assert options.out is not None
    zooms = np.linalg.norm(drawn_images.affine[:3, :3], axis=0)
    figures = {
        "images": comparison_figure(
            drawn_images.title,
            drawn_images.affine,
            drawn_images.reference,
            drawn_images.interpolated,
            drawn_images.mask,
            drawn_images.methods,
        )
    }
    if options.decorrelation:
        images = {"reference": drawn_images.reference, **drawn_images.methods}
        del images["nearest"]  # block edges would count as detail
        figures["decorrelation"] = decorrelation_figure(
            drawn_images.title, images, zooms, drawn_images.mask
        )
    paths = list[Path]()
    for kind, figure in figures.items():
        file = file_next_to(options.out, f"{number}_{kind}.{options.figures}")
        paths.append(save_figure(figure, file))
    return paths
