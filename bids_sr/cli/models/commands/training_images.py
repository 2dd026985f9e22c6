"""Training images of the ``bids-sr-models`` subcommands, read with brain masks and factor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from bids_sr.cli.models.commands import image_files as files, output_files
from bids_sr.cli.models.commands.options import TrainOptions
from bids_sr.io.arrays import Float32
from bids_sr.io.grids import Factor
from bids_sr.io.nifti import SeriesReader
from bids_sr.io.notices import UsageError
from bids_sr.sr.models.request import ModelRequest
from bids_sr.sr.networks.data.images import TrainingImage, TrainingImages, check_images


def read_images(options: TrainOptions, training: ModelRequest) -> tuple[TrainingImages, Factor]:
    """Read images (random volumes, by the seed) with brain masks, and determine the factor."""
    fine, coarse = (list(map(SeriesReader, paths)) for paths in (options.fine, options.coarse))
    factor = _determine_factor(options, training, fine, coarse)
    readers = fine or coarse
    contrast = _determine_contrast(options, readers)
    rng = np.random.default_rng(training.random_seed)
    file_names = [reader.path.name for reader in readers]
    images = list[TrainingImage]()
    for index, reader in enumerate(readers):
        mask_file = options.mask[index] if options.mask else None
        mask, _, note = files.find_brain_and_scale(reader, mask_file)
        if note:
            print(f"Note: {note}")
        name = output_files.get_image_stem(reader.path)
        if file_names.count(reader.path.name) > 1:
            name = f"{index + 1}-{name}"
        lowres_reader = coarse[index] if fine and coarse else None
        for number, volume, lowres in _draw_volumes(reader, lowres_reader, options.volumes, rng):
            image = TrainingImage(
                fine=volume if fine else None,
                coarse=lowres if fine else volume,
                mask=mask,
                affine=reader.affine,
                contrast=contrast,
                name=name if reader.shape[3] == 1 else f"{name}-{number}",
            )
            images.append(image)
    training_images = tuple(images)
    check_images(training_images, training.effective_recipe, factor, training.definition.ndim)
    return training_images, factor


def _determine_factor(
    options: TrainOptions,
    training: ModelRequest,
    fine: Sequence[SeriesReader],
    coarse: Sequence[SeriesReader],
) -> Factor:
    """Return the factor of measured pairs, or else of the options, or else of the initial model.

    The default is 2, in-plane for 2D methods.
    """
    method, start = training.definition, training.start_model
    default_factor: Factor = files.IN_PLANE if method.ndim == 2 else (2.0, 2.0, 2.0)
    if start is not None:
        default_factor = start.card.factor
    factors = {
        files.measure_factor(low, high, options.factor)
        for low, high in zip(coarse, fine, strict=False)
    }
    if len(factors) > 1:
        reason = f"the image pairs have different super-resolution factors: {sorted(factors)}"
        raise UsageError("--fine and --coarse", reason, "train a separate model for each factor")
    factor = factors.pop() if factors else files.parse_factor(options.factor, default_factor)
    if method.ndim == 2 and factor[2] != 1:
        reason = (
            f"{method.name} processes images slice by slice and cannot reduce the slice thickness"
        )
        raise UsageError(
            f"factor {factor}",
            reason,
            "use images with the same slice thickness, or choose a 3D method",
        )
    is_different = any(
        abs(ratio - default_ratio) > 1e-6
        for ratio, default_ratio in zip(factor, default_factor, strict=True)
    )
    if start is not None and not start.card.factors and is_different:
        reason = f"the model specified with --from was trained for a factor of {default_factor}"
        raise UsageError(
            f"factor {factor}",
            reason,
            "omit --from, or resample the images to match the factor of the model",
        )
    return factor


def _determine_contrast(options: TrainOptions, readers: Sequence[SeriesReader]) -> str:
    """Return the contrast that all images share; reject several contrasts."""
    contrasts = sorted({files.parse_contrast(reader.path, options.contrast) for reader in readers})
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
    return contrasts[0]


def _draw_volumes(
    reader: SeriesReader,
    lowres_reader: SeriesReader | None,
    max_volumes: int,
    rng: np.random.Generator,
) -> Iterator[tuple[int, Float32, Float32 | None]]:
    """Yield random volumes of a series in temporal order, and close the images at the end.

    Each has its number, and the measured low-resolution volume, if any.
    """
    count = reader.shape[3]
    if lowres_reader is not None and lowres_reader.shape[3] != count:
        raise UsageError(
            f"{lowres_reader.path}",
            f"found {lowres_reader.shape[3]} volumes, but the high-resolution image has {count}"
            " volumes",
            "use images of the same run",
        )
    indices = rng.choice(count, min(count, max_volumes), replace=False)
    for index in sorted(map(int, indices)):
        lowres_volume = None if lowres_reader is None else lowres_reader.volume(index)
        yield index, reader.volume(index), lowres_volume
    for open_reader in (reader, lowres_reader):
        if open_reader is not None:
            open_reader.close()
