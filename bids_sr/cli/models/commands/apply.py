"""``bids-sr-models apply``: models and interpolations on any NIfTI image.

One volume is held in memory at a time.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from bids_sr.cli.console import progress_line
from bids_sr.cli.models.commands import image_files as files, model_files, output_files
from bids_sr.cli.models.commands.options import ApplyOptions, ImageOptions
from bids_sr.io.arrays import Array
from bids_sr.io.atomic_files import write_text
from bids_sr.io.frozen import frozen
from bids_sr.io.grids import Factor
from bids_sr.io.nifti import SeriesReader, SeriesWriter, save_image
from bids_sr.io.notices import InvalidInput, UsageError
from bids_sr.io.series import get_need
from bids_sr.spatial.matrices import MATRICES
from bids_sr.spatial.transforms import hr_grid
from bids_sr.sr.inference.upsampler_inputs import Upsampler, UpsamplerInputs
from bids_sr.sr.inference.upsamplers import make_upsampler
from bids_sr.sr.models.model import LoadedModel
from bids_sr.sr.recipe import SMALLEST_SIDE, Recipe
from bids_sr.version import __version__


@frozen
class PreparedMethod:
    """Method or interpolation prepared for an image.

    `factor` is the ratio of low-resolution to high-resolution voxel size. `build_upsampler`
    returns the upsampler for the intensity that corresponds to 1 in the network. `model` is None
    for an interpolation. `notes` are about differences between model and image accepted by
    ``--allow``.
    """

    name: str
    factor: Factor
    build_upsampler: Callable[[float], Upsampler]
    model: LoadedModel | None = None
    notes: tuple[str, ...] = ()

    @property
    def parameters(self) -> int:
        """Number of parameters of the network; 0 for interpolations."""
        if self.model is None:
            return 0
        return sum(parameter.numel() for parameter in self.model.generator.parameters())


def apply(options: ApplyOptions) -> None:
    """Super-resolve an image."""
    out = output_files.prepare_image_path(options.out, [options.image])
    with SeriesReader(options.image) as reader:
        method = prepare_method(options.model, reader, options)
        notes = [*method.notes]
        _, scale, mask_note = files.find_brain_and_scale(reader, options.mask)
        if mask_note:
            notes.append(mask_note)
        for note in notes:
            print(f"Note: {note}")
        start_time = time.monotonic()
        # BLAS threads of numpy use busy waiting, which would slow down the threads of torch
        with threadpool_limits(1, user_api="blas"):
            _write_image(reader, method.build_upsampler(scale), method.factor, out)
        seconds = time.monotonic() - start_time
    sidecar = out.with_name(f"{output_files.get_image_stem(out)}.json")
    write_text(sidecar, json.dumps(_describe_image(method, notes, options), indent=2) + "\n")
    print(
        f"{out}: {reader.shape[3]} volume(s) super-resolved with {method.name} in {seconds:.1f} s"
    )


def prepare_method(
    name: str, reader: SeriesReader, options: ImageOptions, default_factor: Factor | None = None
) -> PreparedMethod:
    """Prepare a model file or an interpolation for an image, after checks of the header.

    `default_factor` is the factor if neither the command line nor a model states it.
    """
    _reject_run_methods(name)
    if name in MATRICES:
        return _prepare_interpolation(name, options, default_factor)
    return _prepare_model(name, reader, options, default_factor)


def _reject_run_methods(name: str) -> None:
    """Reject methods that require data of a run besides the image."""
    if get_need(name) == "pair":
        reason = (
            "the method adds detail from a high-resolution image of the same participant,"
            " which must be registered to the run"
        )
        raise UsageError(
            name, reason, "use bids-sr ... --sr-method inject ratio, which registers the images"
        )
    if get_need(name) == "run":
        reason = (
            "the method weights signal changes by the temporal variance of the run, which"
            " requires a brain mask and head-motion estimates"
        )
        raise UsageError(
            name,
            reason,
            f"use bids-sr ... --sr-method {name}, which computes the mask and the head motion",
        )


def _prepare_interpolation(
    name: str, options: ImageOptions, default_factor: Factor | None
) -> PreparedMethod:
    """Prepare an interpolation; reject options for patches."""
    if options.patch or options.overlap:
        option = "--patch" if options.patch else "--overlap"
        raise UsageError(
            option,
            f"{name} interpolates whole images and does not use patches",
            "omit this option",
        )
    factor = files.parse_factor(options.factor, default_factor or files.IN_PLANE)
    return PreparedMethod(
        name=name,
        factor=factor,
        build_upsampler=lambda _scale: make_upsampler(name, UpsamplerInputs(factor=factor)),
    )


def _prepare_model(
    name: str, reader: SeriesReader, options: ImageOptions, default_factor: Factor | None
) -> PreparedMethod:
    """Prepare a model file for an image."""
    model = model_files.open_model(name)
    factor = files.parse_factor(
        options.factor, _choose_default_factor(model, reader, default_factor)
    )
    contrast = files.parse_contrast(reader.path, options.contrast)
    differences = model_files.check_applicable(
        model, reader, contrast, factor, allow=options.allow
    )
    _check_patches(model, options)
    device = model_files.resolve_device_option(options)

    def build_upsampler(scale: float) -> Upsampler:
        inputs = UpsamplerInputs(
            factor=factor,
            scale=scale,
            device=device,
            threads=options.threads,
            patch=options.patch,
            overlap=options.overlap,
        )
        return make_upsampler(model.card.method, inputs, model)

    return PreparedMethod(
        name=model.card.method,
        factor=factor,
        build_upsampler=build_upsampler,
        model=model,
        notes=tuple(f"mismatch allowed by --allow: {difference}" for difference in differences),
    )


def _choose_default_factor(
    model: LoadedModel, reader: SeriesReader, default_factor: Factor | None
) -> Factor:
    """Return the default factor, or the factor of the model if both lead to the same grid.

    For example, 43.75 voxels become 44 with the factors 1.25 and 44/35.
    """
    trained_factor = model.card.factor
    if default_factor is None:
        return trained_factor
    trained_shape, default_shape = (
        hr_grid(reader.shape[:3], reader.affine, factor)[0]
        for factor in (trained_factor, default_factor)
    )
    return trained_factor if trained_shape == default_shape else default_factor


def _check_patches(model: LoadedModel, options: ImageOptions) -> None:
    """Reject patches that the network does not support, and overlap without patches."""
    if not options.patch and not options.overlap:
        return
    recipe = model.recipe
    option = f"--patch {options.patch}" if options.patch else f"--overlap {options.overlap}"
    if not isinstance(recipe, Recipe) or recipe.upsampled_by is None:
        reason = f"{model.card.method} processes whole images on the acquired grid"
        raise UsageError(option, reason, "omit this option")
    side = options.patch or recipe.patch_applied
    if side is None:
        reason = (
            "--overlap applies only to patch-based inference, but this model is applied to"
            " whole images"
        )
        raise UsageError(option, reason, "set the patch size with --patch, or omit --overlap")
    smallest_side = min(side) if isinstance(side, tuple) else side
    min_side = max(SMALLEST_SIDE, getattr(recipe.build_generator, "smallest", 1))
    if smallest_side < min_side:
        reason = f"{model.card.method} requires patches of at least {min_side} voxels"
        raise UsageError(option, reason, f"use --patch {min_side} or a larger value")
    if options.overlap >= smallest_side:
        reason = f"the overlap must be smaller than the patch size of {smallest_side} voxels"
        raise UsageError(option, reason, "use a smaller --overlap or a larger --patch")


def _write_image(reader: SeriesReader, upsampler: Upsampler, factor: Factor, out: Path) -> None:
    """Write the super-resolved image."""
    shape, affine = hr_grid(reader.shape[:3], reader.affine, factor)
    if reader.ndim == 3:
        image = require_finite(upsampler(reader.volume(0), np.eye(4)), 0)
        save_image(image.astype(np.float32), affine, out, header_like=reader.header)
        return
    n_volumes = reader.shape[3]
    show_progress = progress_line()
    with SeriesWriter(
        out, (*shape, n_volumes), affine, reader.tr, header_like=reader.header
    ) as writer:
        for index, volume in enumerate(reader.volumes()):
            writer.append(require_finite(upsampler(volume, np.eye(4)), index))
            show_progress("volume", index + 1, n_volumes)


def require_finite(upsampled: Array, volume: int) -> Array:
    """Return a super-resolved volume; raise `InvalidInput` if it is not finite."""
    if not np.isfinite(upsampled).all():
        raise InvalidInput(f"volume {volume}: the super-resolved image contains non-finite values")
    return upsampled


def _describe_image(
    method: PreparedMethod, notes: Sequence[str], options: ApplyOptions
) -> dict[str, object]:
    """Return the content of the sidecar."""
    content: dict[str, object] = {
        "Description": f"image super-resolved with {method.name}; for research use only, not"
        " for clinical use",
        "Sources": [str(options.image)],
        "Method": method.name,
        "Factor": list(method.factor),
        "GeneratedByVersion": __version__,
    }
    if method.model is not None:
        content |= {"Model": str(options.model), "ModelSHA256": method.model.card.weights_sha256}
        content |= _list_patch_entries(method.model, options)
    if notes:
        content["Notes"] = list(notes)
    return content


def _list_patch_entries(model: LoadedModel, options: ImageOptions) -> dict[str, object]:
    """Return the sidecar entries for patches; empty for whole images."""
    recipe_side = model.recipe.patch_applied if isinstance(model.recipe, Recipe) else None
    side = recipe_side if options.patch is None else options.patch
    return {"Patch": side, "PatchOverlap": options.overlap} if side else {}
