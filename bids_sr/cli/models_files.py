"""Shared code of the ``bids-sr-models`` subcommands: images, brains, models and refusals.

What does not fit is refused.

``bids-sr-models list`` and ``card``: methods, baselines and models, and the card of one.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from bids_sr.cli.console import table_text
from bids_sr.cli.models_options import CardOptions, ListOptions, MachineOptions
from bids_sr.cli.recipe_settings import settings_text
from bids_sr.config import UsageError, machine, nearest_name
from bids_sr.io.grids import Array, Factor, Mask, evenly_spaced
from bids_sr.io.nifti import ImageError, SeriesReader, load_image
from bids_sr.series import BASELINES, INTERPOLATIONS
from bids_sr.spatial.masks import MaskError, brain_mask
from bids_sr.spatial.transforms import TransformError, hr_grid
from bids_sr.sr.data.images import TrainingDataError
from bids_sr.sr.former_names import renaming
from bids_sr.sr.inference.acquired import InferenceError
from bids_sr.sr.matrices import MATRICES, ResolutionError
from bids_sr.sr.method import UnknownMethod, get_method, method_names, offered_methods
from bids_sr.sr.models.card import ModelError, check_model
from bids_sr.sr.models.model import LoadedModel, load_model

REFUSALS = (
    ImageError,
    FileNotFoundError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
    InferenceError,
    MaskError,
    ModelError,
    ResolutionError,
    TrainingDataError,
    TransformError,
    UnknownMethod,
)
IN_PLANE: Factor = (2.0, 2.0, 1.0)
# volumes whose mean stands for a run: enough to even out noise, few enough to be read at once from
# a long run
_MEAN_OF = 20
_SAME_AS = {"boldref": "bold", "sbref": "bold"}
_SUFFIXES = (
    "T1w",
    "T2w",
    "T2starw",
    "T2starmap",
    "FLAIR",
    "FLASH",
    "PDw",
    "PDT2",
    "inplaneT1",
    "inplaneT2",
    "angio",
    "UNIT1",
    "bold",
    "dwi",
    "epi",
    "magnitude",
)


def contrast_of(file: Path, contrast: str | None) -> str:
    """BIDS suffix of an image, by the option or its name; raises UsageError.

    `contrast`: suffix that the option names; None takes that of the file's name.
    """
    if contrast is not None:
        return _SAME_AS.get(contrast, contrast)
    match = re.search(r"(?:^|_)([A-Za-z0-9]+)\.nii(?:\.gz)?$", file.name)
    found = _SAME_AS.get(match[1], match[1]) if match else ""
    if found in _SUFFIXES:
        return found
    why = (
        "the contrast cannot be determined because the file name does not end in a BIDS suffix"
        " such as _bold or _T1w; networks are only valid for the contrast they were trained on"
    )
    raise UsageError(f"{file}", why, "specify the contrast, for example --contrast T2starw")


def factor_from(numbers: Sequence[float], default: Factor) -> Factor:
    """Three numbers from one (in plane) or three; `default` where none was given.

    `numbers`: those of the option; empty where it was not given. Returns low- over high-resolution
    voxel size along each axis, as `default` is.
    """
    if not numbers:
        return default
    if len(numbers) == 1:
        return float(numbers[0]), float(numbers[0]), 1.0
    return float(numbers[0]), float(numbers[1]), float(numbers[2])


def factor_between(coarse: SeriesReader, fine: SeriesReader, asked: Sequence[float]) -> Factor:
    """Return the factor between two grids.

    Raises UsageError if they cover different fields of view or another factor was asked for.

    `asked`: numbers that the option gives; empty where it was not given. Returns low- over
    high-resolution voxel size along each axis.
    """
    x, y, z = (n / m for n, m in zip(fine.shape[:3], coarse.shape[:3], strict=True))
    factor = (x, y, z)
    shape, affine = hr_grid(coarse.shape[:3], coarse.affine, factor)
    # of a voxel: half a voxel costs 5 dB, a twentieth hardly any
    tolerance = 0.05 * min(fine.zooms)
    corners = np.array(
        [[i, j, k, 1] for i in (0, shape[0]) for j in (0, shape[1]) for k in (0, shape[2])]
    ).T
    apart = float(np.abs((affine - fine.affine) @ corners).max())
    if min(factor) < 1 or apart > tolerance:
        why = (
            f"the image does not have the same field of view as {coarse.path.name}: the corners"
            f" of the two images are up to {apart:.2f} mm apart"
        )
        fix = (
            "resample the image to the same field of view, or use --degradation instead of --image"
        )
        raise UsageError(f"{fine.path}", why, fix)
    asked_factor = factor_from(asked, factor)
    if any(abs(a - b) > 0.02 * b for a, b in zip(asked_factor, factor, strict=True)):
        shown = " x ".join(f"{f:.3g}" for f in factor)
        raise UsageError(
            f"--factor {asked_factor}",
            f"the voxel sizes of the two images have a ratio of {shown}",
            "omit --factor",
        )
    return factor


def device_of(options: MachineOptions) -> str:
    """The device of torch; refuses what this machine has not.

    ``cuda`` where it is not ruled out and a GPU is usable, else ``cpu``.
    """
    found = options.device != "cpu" and machine.has_gpu()
    if options.device == "cuda" and not found:
        raise UsageError(
            "--device cuda", "torch did not find a usable CUDA device", "use --device cpu"
        )
    return "cuda" if found else "cpu"


def to_write(out: Path, inputs: Sequence[Path]) -> Path:
    """A NIfTI file that may be written, with its folder; another than what is read."""
    if not out.name.endswith((".nii", ".nii.gz")):
        raise UsageError(
            f"{out}",
            "images can only be written in the formats .nii and .nii.gz",
            "use a file name that ends in .nii.gz",
        )
    if any(out.exists() and each.exists() and out.samefile(each) for each in inputs):
        raise UsageError(
            f"{out}",
            "the output file is the same as the input image",
            "choose another output file",
        )
    make_folder(out)
    return out


def stem_of(file: Path) -> str:
    """Name of a NIfTI file without its suffixes."""
    return file.name.removesuffix(".gz").removesuffix(".nii")


def make_folder(out: Path) -> None:
    """The folder of a file that will be written."""
    try:
        out.absolute().parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"{out}",
            f"the directory could not be created ({error.strerror})",
            "choose another directory",
        ) from None


def open_model(name: str | Path) -> LoadedModel:
    """A trained model by its file; a name of a method, or a misspelt one, gets its own refusal."""
    file = Path(name)
    if not file.exists() and file.suffix == "":
        known = offered_methods()
        if str(name) in known:
            fix = (
                f"train a model with bids-sr-models train {name} ..., or run bids-sr-models"
                " list to see the included models"
            )
            raise UsageError(
                f"{name}",
                "this is the name of a method; expected the file of a trained model",
                fix,
            )
        fix = (
            nearest_name(str(name), (*MATRICES, *known))
            or "run bids-sr-models list to see the available models"
        )
        raise UsageError(
            f"{name}", "the name is neither an existing file nor an interpolation method", fix
        )
    if file.exists() and file.suffix != ".safetensors":
        raise ModelError(
            f"{file}: expected a .safetensors file; files written by torch.save are not"
            " opened because they may contain executable code"
        )
    model = load_model(file)
    if renamed := renaming(model.card.json):
        # the standard output may be a card in JSON
        print(f"Note: {file}: {renamed}", file=sys.stderr)
    return model


def fit_for(
    model: LoadedModel,
    reader: SeriesReader,
    contrast: str,
    factor: Factor,
    *,
    force: bool,
    allow: Collection[str] = (),
) -> list[str]:
    """Refuse a misfit model (UsageError); return the differences that are allowed.

    `force` allows all differences, `allow` those that it names (resolution, contrast, ...).

    Misfits in words; empty for none.
    """
    card = model.card
    what, option = f"a {card.method} model", f"--sr-method {card.method} --pretrained MODEL"
    if card.trained_on == "series":
        why = (
            "the model describes the temporal variance of one run and is applied to signal"
            " changes relative to the mean of that run"
        )
        raise UsageError(what, why, f"use bids-sr ... {option}")
    if card.channels > 1:
        why = (
            f"the model requires {card.channels} contrasts of the same participant, scaled"
            " together and on the same grid"
        )
        fix = f"use bids-sr ... --sr-target anat {option}, which prepares these contrasts"
        raise UsageError(
            f"{what} for {card.contrast}", f"{why}; only one contrast was specified", fix
        )
    method = get_method(card.method)
    if method.ndim == 3 and reader.shape[2] < 2:
        why = f"{method.name} is a three-dimensional method, but the image has only one slice"
        raise UsageError(
            f"{reader.path}",
            why,
            "use a slice-wise method; bids-sr-models list shows which methods are 2D",
        )
    if method.ndim == 2 and factor[2] != 1:
        what = f"--factor {factor[0]:g} {factor[1]:g} {factor[2]:g}"
        why = (
            f"{method.name} processes images slice by slice and cannot reduce the slice thickness"
        )
        raise UsageError(what, why, "set the third number to 1")
    return check_model(card, reader.affine, contrast, factor, force=force, allow=allow)


def brain_and_scale(reader: SeriesReader, mask_file: Path | None) -> tuple[Mask, float, str]:
    """Find the brain and the scale of the intensities of an image.

    Returns the mask; the intensity that is 1 for a network, the 99th percentile of the mean in the
    mask; and a note of what the user may not expect, empty for none.
    """
    picked = evenly_spaced(reader.shape[3], _MEAN_OF)
    total = np.zeros(reader.shape[:3])
    for t in picked:
        total += reader.volume(t)
    mean: Array = (total / len(picked)).astype(np.float32)
    if np.ptp(mean) == 0:
        raise ImageError(f"{reader.path}: the image is constant (all voxels have the same value)")
    note = ""
    mask = np.zeros(mean.shape, bool)
    if mask_file is not None:
        mask = load_image(mask_file)[0] > 0.5
        if mask.shape != mean.shape or not mask.any():
            raise ImageError(
                f"{mask_file}: the mask has shape {mask.shape} and contains {mask.sum()}"
                " voxels; expected a non-empty mask with the shape of the image,"
                f" {mean.shape}"
            )
    else:
        with suppress(MaskError):
            mask = np.asarray(brain_mask(mean, reader.affine), bool)
        if not mask.any():
            mask = np.asarray(mean > 0) if (mean > 0).any() else np.ones(mean.shape, bool)
            note = (
                f"{reader.path.name}: no brain was found, so the intensities are scaled by"
                " all nonzero voxels. Use --mask to specify a brain mask."
            )
    scale = float(np.percentile(mean[mask], 99))
    if not scale > 0:
        raise ImageError(f"{reader.path}: the image has no positive intensities inside the mask")
    return mask, scale, note


_LEARNS_FROM = {
    "pair": "pairs of high- and low-resolution images",
    "images": "high-resolution images, with measured or simulated low-resolution images",
    "series": "the processed run itself",
    "self": "low-resolution images only",
}


def list_models(options: ListOptions) -> None:
    """Print methods, baselines and trained models.

    For methods that are named, print the settings of their recipes instead.

    `options`: parsed options of the command line, with methods and folders of further models.
    """
    methods, folders = _named(options.names)
    if methods:
        print("\n\n".join(map(settings_text, methods)))
        if not folders:
            return
        print()
    print(
        "Methods (train a model with bids-sr-models train METHOD OUT ..., or with bids-sr"
        " ... --sr-method METHOD)"
    )
    rows = [("name", "dims", "parameters fast / paper", "reference", "learns from", "description")]
    for name in offered_methods():
        facts = get_method(name)
        learns = _LEARNS_FROM.get(facts.trained_on, facts.trained_on)
        rows.append((name, f"{facts.ndim}D", _sizes(name), facts.reference, learns, facts.summary))
    print(table_text(rows))
    print("\nBaseline methods (no training required)")
    of_the_run = " (only available in bids-sr)"
    nothing_learned = [
        (n, f"{t}{of_the_run * (n not in INTERPOLATIONS)}") for n, t in BASELINES.items()
    ]
    print(table_text(nothing_learned))
    from bids_sr.boilerplate import HERE

    for title, folder in [
        ("included in the package", HERE / "models"),
        *((str(folder), folder) for folder in folders),
    ]:
        print(f"\nTrained models: {title}")
        _models(folder)


def _named(names: Sequence[str]) -> tuple[list[str], list[Path]]:
    """Split words into methods and folders; refuse a word that is neither."""
    methods = [name for name in names if name in method_names()]
    folders = [Path(name) for name in names if name not in methods]
    for folder in folders:
        if not folder.is_dir():
            known = ", ".join(offered_methods())
            why = f"neither a directory nor one of the methods {known}"
            fix = nearest_name(str(folder), offered_methods()) or "check the name"
            raise UsageError(f"{folder}", why, fix)
    return methods, folders


def _sizes(name: str) -> str:
    """Return the number of generator parameters per recipe, or "-" without a generator.

    The factor is 2, and nothing is allocated.
    """
    import torch

    method = get_method(name)
    sizes = []
    for recipe in (method.recipes.get("fast"), method.recipes.get("paper")):
        if recipe is None:
            sizes.append("-")
            continue
        with torch.device("meta"):
            network = recipe.build_generator(1, (2.0, 2.0, 1.0))
        sizes.append(f"{sum(p.numel() for p in network.parameters()):,}")
    return " / ".join(sizes)


def _models(folder: Path) -> None:
    """One line for each model below a folder; damaged ones are named."""
    from bids_sr.sr.models.card import ModelError, read_card

    rows: list[tuple[str, ...]] = []
    for weights in sorted(folder.rglob("*.safetensors")):
        try:
            card = read_card(weights)
        except ModelError as error:
            rows.append((weights.name, _printable(f"cannot be used: {error}")))
            continue
        mm = " x ".join(f"{v:.3g}" for v in card.lowres_mm)
        factor = " x ".join(f"{v:g}" for v in card.factor)
        reached = f"held-out PSNR {card.psnr['network']:.1f} dB" if "network" in card.psnr else ""
        rows.append(
            (
                str(weights.relative_to(folder)),
                f"{card.method} ({card.recipe})"
                + (
                    f", called {card.json['method']} in the model card"
                    if renaming(card.json)
                    else ""
                ),
                f"{mm} mm, factor {factor}",
                card.contrast,
                reached,
            )
        )
    shown = [tuple(_printable(cell) for cell in row) for row in rows]
    print(table_text(shown or [("none",)]))


def show_card(options: CardOptions) -> None:
    """Print a card; the weights are checked against it first."""

    model = open_model(options.model)
    card = {**model.card.json, "method": model.card.method, "recipe": model.card.recipe}
    if options.json:
        print(json.dumps(card, indent=2, sort_keys=True))
        return
    print(f"{options.model}: the weights match the model card")
    _lines(card, 0)


def _lines(values: Mapping[str, object], depth: int) -> None:
    """Nested values as indented lines; lists of numbers on one."""
    for key, value in sorted(values.items()):
        head = "  " * depth + _printable(str(key))
        if isinstance(value, Mapping):
            print(f"{head}:")
            _lines(value, depth + 1)
        elif isinstance(value, list):
            print(f"{head}: {_printable(' '.join(map(str, value)))}")
        else:
            print(
                f"{head}: {_printable(f'{value:.6g}' if isinstance(value, float) else str(value))}"
            )


def _printable(text: str) -> str:
    """Text without characters that could steer a terminal: a card may come from anyone."""
    return "".join(each if each.isprintable() else "?" for each in text)
