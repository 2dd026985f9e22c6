"""Images that ``bids-sr-models train`` is given, as they are trained on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from bids_sr.cli.models import models_files as files
from bids_sr.cli.models.models_options import TrainOptions
from bids_sr.config import UsageError
from bids_sr.io.array_types import Float32
from bids_sr.io.nifti import SeriesReader
from bids_sr.sr.data.images import TrainingImage, TrainingImages, check_images
from bids_sr.sr.matrices import Factor
from bids_sr.sr.models.model import TrainingRequest


def read_images(options: TrainOptions, training: TrainingRequest) -> tuple[TrainingImages, Factor]:
    """Read all images with brains (random volumes, by the seed), and the factor to train for.

    Volumes with their masks, and low- over high-resolution voxel size.
    """
    fine, coarse = (list(map(SeriesReader, each)) for each in (options.fine, options.coarse))
    factor, readers = _factor(options, training, fine, coarse), fine or coarse
    contrasts = sorted({files.contrast_of(reader.path, options.contrast) for reader in readers})
    if len(contrasts) > 1:
        fix = (
            "train one model for each; several contrasts at once: bids-sr ... --sr-target anat"
            " --sr-method attunet"
        )
        raise UsageError(
            f"images of {' and '.join(contrasts)}", "a model trained here takes one contrast", fix
        )
    rng, found = np.random.default_rng(training.seed), list[TrainingImage]()
    for number, reader in enumerate(readers):
        given = options.mask[number] if options.mask else None
        mask, _, note = files.brain_and_scale(reader, given)
        if note:
            print(f"note: {note}")
        alike = [each.path.name for each in readers].count(reader.path.name) > 1
        name = (
            f"{number + 1}-{files.stem_of(reader.path)}" if alike else files.stem_of(reader.path)
        )
        low = coarse[number] if fine and coarse else None
        for t, volume, other in _volumes(reader, low, options.volumes, rng):
            found.append(
                TrainingImage(
                    fine=volume if fine else None,
                    coarse=other if fine else volume,
                    mask=mask,
                    affine=reader.affine,
                    contrast=contrasts[0],
                    name=name if reader.shape[3] == 1 else f"{name}-{t}",
                )
            )
    check_images(tuple(found), training.effective_recipe, factor, training.method.ndim)
    return tuple(found), factor


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
    found = {
        files.factor_between(low, high, options.factor)
        for low, high in zip(coarse, fine, strict=False)
    }
    if len(found) > 1:
        why = f"the pairs stand in different ratios: {sorted(found)}"
        raise UsageError("--fine and --coarse", why, "train one model for each ratio")
    factor = found.pop() if found else files.factor_from(options.factor, default)
    if method.ndim == 2 and factor[2] != 1:
        why = f"{method.name} works slice by slice and cannot make slices thinner"
        raise UsageError(
            f"factor {factor}", why, "give images with slices of one thickness, or a 3D method"
        )
    differs = any(abs(a - b) > 1e-6 for a, b in zip(factor, default, strict=True))
    if start is not None and not start.card.factors and differs:
        why = f"the model to begin with was trained for {default}"
        raise UsageError(
            f"factor {factor}", why, "leave --from out, or bring the images to its factor"
        )
    return factor


def _volumes(
    reader: SeriesReader, low: SeriesReader | None, wanted: int, rng: np.random.Generator
) -> Iterator[tuple[int, Float32, Float32 | None]]:
    """Yield random volumes with their numbers and measured low-resolution ones, if any."""
    count = reader.shape[3]
    if low is not None and low.shape[3] != count:
        raise UsageError(
            f"{low.path}",
            f"{low.shape[3]} volumes, its fine image has {count}",
            "give the same run",
        )
    for t in sorted(int(t) for t in rng.choice(count, min(count, wanted), replace=False)):
        yield t, reader.volume(t), None if low is None else low.volume(t)
    for each in (reader, low):
        if each is not None:
            each.close()
