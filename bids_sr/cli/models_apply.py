"""``bids-sr-models apply`` and ``evaluate``: models and interpolations on any NIfTI image.

One volume is held in memory at a time.

Evaluated against a measured high-resolution image they are compared in one table.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from bids_sr import metrics
from bids_sr.boilerplate import data_of
from bids_sr.cli import models_files as files
from bids_sr.cli.console import progress_line, table_text
from bids_sr.cli.models_options import ApplyOptions, EvaluateOptions, ImageOptions
from bids_sr.config import UsageError
from bids_sr.frozen import frozen
from bids_sr.io.atomic_files import write_whole
from bids_sr.io.grids import Array, Factor, evenly_spaced
from bids_sr.io.nifti import ImageError, SeriesReader, SeriesWriter, save_image
from bids_sr.quality.image_quality import effective_resolution
from bids_sr.series import BASELINES, INTERPOLATIONS, PAIR_BASELINES
from bids_sr.spatial.transforms import hr_grid
from bids_sr.sr.inference.acquired import InferenceError, Upsampler, UpsamplerInputs
from bids_sr.sr.inference.apply_to_series import make_upsampler
from bids_sr.sr.matrices import MATRICES, upsample
from bids_sr.sr.models.model import LoadedModel
from bids_sr.version import __version__


@frozen
class _Ready:
    """Method or interpolation for one image.

    `make` builds the upsampler, and `overruled` tells what ``--force`` overrode.
    """

    name: str
    factor: Factor
    make: Callable[[float], Upsampler]  # from the intensity that is 1 for a network
    model: LoadedModel | None = None
    overruled: tuple[str, ...] = ()

    @property
    def parameters(self) -> int:
        """Of the network; 0 without one."""
        return (
            0 if self.model is None else sum(p.numel() for p in self.model.generator.parameters())
        )


def _ready(
    name: str, reader: SeriesReader, options: ImageOptions, default: Factor | None = None
) -> _Ready:
    """Check from the header alone that a model file, or an interpolation, fits an image.

    `default` is the factor where the command line names none and there is no model.
    """
    if name in PAIR_BASELINES:
        why = (
            "it takes its detail from a fine image of the same participant, in register with"
            " the run"
        )
        raise UsageError(name, why, "use bids-sr, which registers them: --sr-method inject ratio")
    if name in BASELINES and name not in INTERPOLATIONS:
        why = (
            "it weighs changes over time by where a run fluctuates, which needs its brain and head"
            " motion"
        )
        raise UsageError(name, why, f"use bids-sr, which finds them: --sr-method {name}")
    if name in MATRICES:
        factor = files.factor_from(options.factor, default or files.IN_PLANE)
        return _Ready(
            name=name,
            factor=factor,
            make=lambda scale: make_upsampler(name, UpsamplerInputs(factor=factor)),
        )
    model = files.open_model(name)
    trained_factor = model.card.factor
    shape = reader.shape[:3]
    if (
        default is None
        or hr_grid(shape, reader.affine, trained_factor)[0]
        == hr_grid(shape, reader.affine, default)[0]
    ):
        default = trained_factor  # the same grid: 43.75 voxels become 44 by 1.25 and by 44/35
    factor = files.factor_from(options.factor, default)
    contrast = files.contrast_of(reader.path, options.contrast)
    overruled = files.fit_for(model, reader, contrast, factor, force=options.force)
    device = files.device_of(options)

    def make(scale: float) -> Upsampler:
        image = UpsamplerInputs(
            factor=factor,
            scale=scale,
            precision=options.precision,
            device=device,
            threads=options.threads,
        )
        return make_upsampler(model.card.method, image, model)

    return _Ready(
        name=model.card.method, factor=factor, make=make, model=model, overruled=tuple(overruled)
    )


def apply(options: ApplyOptions) -> None:
    """Super-resolve an image."""
    out = files.to_write(options.out, [options.image])
    with SeriesReader(options.image) as reader:
        prepared = _ready(options.model, reader, options)
        notes = [f"--force overruled: {each}" for each in prepared.overruled]
        _, scale, note = files.brain_and_scale(reader, options.mask)
        notes += [note] * bool(note)
        for note in notes:
            print(f"note: {note}")
        began = time.monotonic()
        # threads of numpy's library wait busily, and would take the cores from those of torch
        with threadpool_limits(1, user_api="blas"):
            _write(reader, prepared.make(scale), prepared.factor, out)
        seconds = time.monotonic() - began
    content: dict[str, object] = {
        "Description": f"super-resolved by {prepared.name}; for research, not for clinical use",
        "Sources": [str(options.image)],
        "Method": prepared.name,
        "Factor": list(prepared.factor),
        "GeneratedByVersion": __version__,
    }
    if prepared.model is not None:
        content |= {"Model": str(options.model), "ModelSHA256": prepared.model.card.weights_sha256}
    content |= {"Notes": notes} if notes else {}
    write_whole(out.with_name(f"{files.stem_of(out)}.json"), json.dumps(content, indent=2) + "\n")
    print(f"{out}: {reader.shape[3]} volume(s) by {prepared.name}, {seconds:.1f} s")


def _write(reader: SeriesReader, upsampler: Upsampler, factor: Factor, out: Path) -> None:
    """Write the super-resolved image."""
    shape, affine = hr_grid(reader.shape[:3], reader.affine, factor)
    if reader.ndim == 3:
        volume = reader.volume(0)
        fine = _checked(upsampler(volume, np.eye(4)), 0)
        save_image(fine.astype(np.float32), affine, out, header_like=reader.header)
        return
    count = reader.shape[3]
    tell = progress_line()
    with SeriesWriter(
        out, (*shape, count), affine, reader.tr, header_like=reader.header
    ) as writer:
        for t, volume in enumerate(reader.volumes()):
            writer.append(_checked(upsampler(volume, np.eye(4)), t))
            tell("volume", t + 1, count)


def _checked(fine: Array, volume: int) -> Array:
    """A super-resolved volume, refused where it is not finite."""
    if not np.isfinite(fine).all():
        raise InferenceError(f"volume {volume}: super-resolution gave values that are not finite")
    return fine


@frozen
class _Task:
    """What every row is measured on."""

    coarse: SeriesReader
    reference: SeriesReader
    window: tuple[slice, slice, slice]  # of the reference that the low-resolution image covers
    factor: Factor  # low- over high-resolution voxel size
    mask: Array  # in the window
    data_range: float  # maximum minus minimum of the mean reference in the mask
    volumes: Sequence[int]  # numbers of those evaluated


def evaluate(options: EvaluateOptions) -> None:
    """Measure models against a reference."""
    with SeriesReader(options.reference) as reference:
        if options.image is not None:
            with SeriesReader(options.image) as coarse:
                x, y, z = (slice(0, n) for n in reference.shape[:3])
                _evaluate(
                    options,
                    coarse,
                    reference,
                    (x, y, z),
                    files.factor_between(coarse, reference, options.factor),
                )
            return
        from tempfile import TemporaryDirectory

        first = next((name for name in options.model if name not in MATRICES), None)
        factor = files.factor_from(
            options.factor,
            files.IN_PLANE if first is None else files.open_model(first).card.factor,
        )
        with TemporaryDirectory() as folder:
            file, window = _degraded(reference, options, factor, Path(folder))
            with SeriesReader(file) as coarse:
                _evaluate(options, coarse, reference, window, factor)


def _degraded(
    reference: SeriesReader, options: EvaluateOptions, factor: Factor, folder: Path
) -> tuple[Path, tuple[slice, slice, slice]]:
    """Write the downsampled reference to a file and return it with the window that it covers.

    The file bears the contrast of the reference.
    """
    import torch

    from bids_sr.sr.operators import get_operator

    operator = get_operator(options.degradation, tuple(reference.shape[:3]), tuple(factor))
    picked = evenly_spaced(reference.shape[3], options.volumes)
    made = [
        operator.forward(torch.from_numpy(reference.volume(t).astype(np.float64))).numpy()
        for t in picked
    ]
    data = np.stack(made, -1).astype(np.float32)
    file = folder / reference.path.name
    save_image(
        data if reference.ndim == 4 else data[..., 0],
        operator.lowres_affine(reference.affine),
        file,
        tr=1.0,
    )
    x, y, z = (slice(a, b) for a, b in operator.window)
    return file, (x, y, z)


def _evaluate(
    options: EvaluateOptions,
    coarse: SeriesReader,
    reference: SeriesReader,
    window: tuple[slice, slice, slice],
    factor: Factor,
) -> None:
    """Make and measure every row, print the table and keep it."""
    volumes = evenly_spaced(reference.shape[3], options.volumes)
    made_here = options.image is None
    if not made_here and coarse.shape[3] != reference.shape[3]:
        raise ImageError(
            f"{coarse.path}: {coarse.shape[3]} volumes, its reference has {reference.shape[3]}"
        )
    names = dict.fromkeys((*options.model, *MATRICES))
    # all refusals come first
    prepared = {name: _ready(name, coarse, options, factor) for name in names}
    made = {str(file): _made(file, reference, window) for file in options.made}
    brain, scale, untold = files.brain_and_scale(coarse, options.mask)
    for note in [
        untold,
        *(f"{n}: --force overruled: {w}" for n, p in prepared.items() for w in p.overruled),
    ]:
        if note:
            print(f"note: {note}")
    mask = upsample("nearest", brain.astype(np.float32), factor) > 0.5
    level = np.mean([reference.volume(t)[window] for t in volumes], axis=0)
    task = _Task(
        coarse=coarse,
        reference=reference,
        window=window,
        factor=factor,
        mask=mask,
        volumes=volumes,
        data_range=metrics.reference_range(level, mask),
    )
    rows = [_row(name, one, scale, task, made_here) for name, one in prepared.items()]
    rows += [_measured(name, lambda t, r=r: r.volume(t)[window], task) for name, r in made.items()]  # type: ignore[misc]
    _report(rows, task, options)


def _made(file: Path, reference: SeriesReader, window: tuple[slice, slice, slice]) -> SeriesReader:
    """An image made elsewhere; it has to lie on the grid of the reference."""
    reader = SeriesReader(file)
    tolerance = 0.05 * min(reference.zooms)
    if reader.shape != reference.shape or not np.allclose(
        reader.affine, reference.affine, atol=tolerance
    ):
        raise ImageError(
            f"{file}: {reader.shape}, not on the grid of {reference.path.name} {reference.shape}"
        )
    return reader


def _row(
    name: str, ready: _Ready, scale: float, task: _Task, made_here: bool
) -> dict[str, str | float]:
    """One model or interpolation."""
    upsampler = ready.make(scale)
    spent = []

    def fine(t: int) -> Array:
        volume = task.coarse.volume(
            task.volumes.index(t) if made_here and task.coarse.ndim == 4 else t
        )
        began = time.perf_counter()
        out = _checked(upsampler(volume, np.eye(4)), t)
        spent.append(time.perf_counter() - began)
        return out

    label = name if ready.model is None else f"{ready.name} ({Path(name).name})"
    row = _measured(label, fine, task)
    return row | {"seconds": float(np.mean(spent)), "parameters": ready.parameters or "n/a"}


def _measured(name: str, fine: Callable[[int], Array], task: _Task) -> dict[str, str | float]:
    """Metrics of one row, means over the volumes."""
    by_image: list[dict[str, float]] = []
    resolution = None
    ranged, plain = (metrics.psnr, metrics.ssim), ("rmse", "mae", "nmse")
    for t in task.volumes:
        truth = task.reference.volume(t)[task.window]
        image = np.asarray(fine(t))
        if not by_image and name != "nearest":  # the edges of its blocks would pass for detail
            resolution = effective_resolution(image, task.reference.zooms, task.mask)
        scores = {
            f.__name__: f(truth, image, data_range=task.data_range, mask=task.mask) for f in ranged
        }
        by_image.append(
            scores | {n: getattr(metrics, n)(truth, image, mask=task.mask) for n in plain}
        )
    means = {key: float(np.mean([each[key] for each in by_image])) for key in by_image[0]}
    told = {"resolution_mm": "n/a" if resolution is None else resolution}
    return {"name": name, **means, **told, "seconds": "n/a", "parameters": "n/a"}


def _report(rows: list[dict[str, str | float]], task: _Task, options: EvaluateOptions) -> None:
    """Print the table, best PSNR first, and write it where that was asked for."""
    rows = sorted(rows, key=lambda row: -float(row["psnr"]))
    made = (
        f"made by {options.degradation}"
        if options.image is None
        else f"measured ({options.image.name})"
    )
    print(
        f"{task.reference.path.name}: {len(task.volumes)} of {task.reference.shape[3]} volume(s);"
        f" coarse image {made}, factor {' x '.join(f'{f:.4g}' for f in task.factor)};"
        f" {int(task.mask.sum())} voxels in the mask; data range {task.data_range:.6g} (maximum"
        " minus minimum of the reference in the mask)"
    )
    columns = data_of("columns.json")["models_apply"]
    cells = [
        [f"{row[c]:.5g}" if isinstance(row[c], float) else str(row[c]) for c in columns]
        for row in rows
    ]
    lines = [tuple(columns), *map(tuple, cells)]
    print(table_text(lines))
    if options.out is None:
        return
    files.make_folder(options.out)
    write_whole(options.out, "".join("\t".join(line) + "\n" for line in lines))
    described: Mapping[str, object] = {
        **columns,
        "DataRange": task.data_range,
        "Factor": list(task.factor),
        "CoarseImage": made,
        "Reference": str(options.reference),
        "Volumes": list(task.volumes),
    }
    write_whole(options.out.with_suffix(".json"), json.dumps(described, indent=2) + "\n")
