"""Files that the ``bids-sr-models`` subcommands write."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bids_sr.io.notices import UsageError


def prepare_image_path(out: Path, inputs: Sequence[Path]) -> Path:
    """Return the path of an output NIfTI file after creating its folder.

    Raises `UsageError` for other extensions, and for a file that is also an input.
    """
    if not out.name.endswith((".nii", ".nii.gz")):
        raise UsageError(
            f"{out}",
            "images can only be written in the formats .nii and .nii.gz",
            "use a file name that ends in .nii.gz",
        )
    if out.exists() and any(file.exists() and out.samefile(file) for file in inputs):
        raise UsageError(
            f"{out}",
            "the output file is the same as the input image",
            "choose another output file",
        )
    make_folder(out)
    return out


def make_folder(out: Path) -> None:
    """Create the folder of an output file."""
    try:
        out.absolute().parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"{out}",
            f"the directory could not be created ({error.strerror})",
            "choose another directory",
        ) from None


def get_image_stem(file: Path) -> str:
    """Return the name of a NIfTI file without its extensions."""
    return file.name.removesuffix(".gz").removesuffix(".nii")
