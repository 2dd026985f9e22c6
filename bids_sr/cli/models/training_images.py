"""Images that the ``bids-sr-models`` subcommands train on, read with brains and factor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from bids_sr.cli.models import image_files as files
from bids_sr.cli.models import output_files
from bids_sr.cli.models.options import TrainOptions
from bids_sr.config import UsageError
from bids_sr.io.arrays import Float32
from bids_sr.io.grids import Factor
from bids_sr.io.nifti import SeriesReader
from bids_sr.sr.data.images import TrainingImage, TrainingImages, check_images
from bids_sr.sr.models.request import TrainingRequest


def read_images(options: TrainOptions, training: TrainingRequest) -> tuple[TrainingImages, Factor]:
    """Read all images with brains (random volumes, by the seed), and the factor to train for."""
    images, factor = read_images_of_files(options, training)
    return tuple(image for _, image in images), factor


def read_images_of_files(
    options: TrainOptions, training: TrainingRequest
) -> tuple[list[tuple[Path, TrainingImage]], Factor]:
    """Read all images as `read_images` does, each with the file that contains it.

    If there are high-resolution files, these are listed.
    """
    fine, coarse = (list(map(SeriesReader, each)) for each in (options.fine, options.coarse))
    factor = _factor(options, training, fine, coarse)
    readers = fine or coarse
    contrasts = sorted({files.contrast_of(reader.path, options.contrast) for reader in readers})
    if len(contrasts) > 1:
        fix = (
            "train one model per contrast, or use bids-sr ... --sr-target anat --sr-method"
            " attunet for a model of several contrasts"
        )
        raise UsageError(
            f"{' and '.join(contrasts)} images were specified together",
            "this command trains models of a single contrast",
            fix,
        )
    rng = np.random.default_rng(training.seed)
    images = list[tuple[Path, TrainingImage]]()
    for number, reader in enumerate(readers):
        given = options.mask[number] if options.mask else None
        mask, _, note = files.brain_and_scale(reader, given)
        if note:
            print(f"Note: {note}")
        alike = [each.path.name for each in readers].count(reader.path.name) > 1
        name = (
            f"{number + 1}-{output_files.stem_of(reader.path)}"
            if alike
            else output_files.stem_of(reader.path)
        )
        low = coarse[number] if fine and coarse else None
        for t, volume, other in _volumes(reader, low, options.volumes, rng):
            image = TrainingImage(
                fine=volume if fine else None,
                coarse=other if fine else volume,
                mask=mask,
                affine=reader.affine,
                contrast=contrasts[0],
                name=name if reader.shape[3] == 1 else f"{name}-{t}",
            )
            images.append((reader.path, image))
    everything = tuple(image for _, image in images)
    check_images(everything, training.effective_recipe, factor, training.method.ndim)
    return images, factor


def _factor(
    options: TrainOptions,
    training: TrainingRequest,
    fine: Sequence[SeriesReader],
    coarse: Sequence[SeriesReader],
) -> Factor:
    """Return the factor: of measured pairs, else as requested, else the model's, else 2.

    The default of 2 is in plane for a 2D method.
    """
    method, start = training.method, training.start
    default: Factor = files.IN_PLANE if method.ndim == 2 else (2.0, 2.0, 2.0)
    default = default if start is None else start.card.factor
    factors = {
        files.factor_between(low, high, options.factor)
        for low, high in zip(coarse, fine, strict=False)
    }
    if len(factors) > 1:
        why = f"the image pairs have different super-resolution factors: {sorted(factors)}"
        raise UsageError("--fine and --coarse", why, "train a separate model for each factor")
    factor = factors.pop() if factors else files.factor_from(options.factor, default)
    if method.ndim == 2 and factor[2] != 1:
        why = (
            f"{method.name} processes images slice by slice and cannot reduce the slice thickness"
        )
        raise UsageError(
            f"factor {factor}",
            why,
            "use images with the same slice thickness, or choose a 3D method",
        )
    differs = any(abs(a - b) > 1e-6 for a, b in zip(factor, default, strict=True))
    if start is not None and not start.card.factors and differs:
        why = f"the model specified with --from was trained for a factor of {default}"
        raise UsageError(
            f"factor {factor}",
            why,
            "omit --from, or resample the images to match the factor of the model",
        )
    return factor


def _volumes(
    reader: SeriesReader, low: SeriesReader | None, most: int, rng: np.random.Generator
) -> Iterator[tuple[int, Float32, Float32 | None]]:
    """Yield random volumes with their numbers and measured low-resolution ones, if any."""
    count = reader.shape[3]
    if low is not None and low.shape[3] != count:
        raise UsageError(
            f"{low.path}",
            f"found {low.shape[3]} volumes, but the high-resolution image has {count} volumes",
            "use images of the same run",
        )
    for t in sorted(int(t) for t in rng.choice(count, min(count, most), replace=False)):
        yield t, reader.volume(t), None if low is None else low.volume(t)
    for each in (reader, low):
        if each is not None:
            each.close()
