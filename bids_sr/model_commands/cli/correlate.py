"""``bids-sr-models correlate``: voxelwise correlation of two images, such as two contrasts."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bids_sr.config import UsageError
from bids_sr.evaluation.voxel_correlation import VoxelCorrelation, correlate_voxels
from bids_sr.io.arrays import Array, MaskArray
from bids_sr.io.nifti import load_image
from bids_sr.model_commands.cli import output_files
from bids_sr.model_commands.cli.options import CorrelateOptions
from bids_sr.model_commands.cli.score_tables import write_table

_MAX_AFFINE_DIFFERENCE = 1e-2  # mm


def correlate(options: CorrelateOptions) -> None:
    """Print the correlation of two images, and write table and figure if requested."""
    if options.figure is not None and options.figure.suffix not in (".png", ".svg"):
        reason = "figures can only be written in the formats .png and .svg"
        raise UsageError(f"--figure {options.figure}", reason, "use a file name that ends in .png")
    images = _read_images(options)
    try:
        correlation = correlate_voxels(images.first, images.second, images.mask)
    except ValueError as error:
        file_names = f"{options.first} and {options.second}"
        raise UsageError(file_names, str(error), "use other images or another --mask") from None
    print(
        f"r = {correlation.r:.4f}, Spearman's rho = {correlation.rho:.4f}, {correlation.voxels}"
        f" voxels; {options.second.name} = {correlation.slope:.5g} x {options.first.name}"
        f" {'+' if correlation.intercept >= 0 else '-'} {abs(correlation.intercept):.5g}"
    )
    print(
        f"p = {correlation.p_independent:.2g}, assuming that voxels are independent. Neighboring"
        " voxels are correlated, so this p value is too small."
    )
    if options.out is not None:
        output_files.make_folder(options.out)
        row = dataclasses.asdict(correlation)
        files = {"first": str(options.first), "second": str(options.second)}
        write_table(options.out, "models_correlate", [{**files, **row}])
    if options.figure is not None:
        x, y = images.first[images.mask], images.second[images.mask]
        _draw_histogram(options, x, y, correlation, options.figure)


class _ImagePair(NamedTuple):
    """Images on the same grid (3D; the mean of a series), and mask of the compared voxels."""

    first: Array
    second: Array
    mask: MaskArray


def _read_images(options: CorrelateOptions) -> _ImagePair:
    """Return both images and the mask; reject different grids."""
    first, grid = _read_image(options.first)
    second = _read_on_grid(options.second, options.first, first.shape, grid)
    if options.mask is None:
        mask = (first != 0) & (second != 0)
    else:
        mask = _read_on_grid(options.mask, options.first, first.shape, grid) > 0.5
    is_finite = np.isfinite(first) & np.isfinite(second)
    return _ImagePair(first, second, np.asarray(is_finite & mask))


def _read_image(path: Path) -> tuple[Array, Array]:
    """Return an image (3D; the mean of a series) and its affine."""
    image, affine = load_image(path)
    return (image.mean(-1) if image.ndim == 4 else image), affine


def _read_on_grid(path: Path, first_path: Path, shape: tuple[int, ...], grid: Array) -> Array:
    """Return an image (3D) if it is on the grid of the first image, given by shape and affine."""
    image, affine = _read_image(path)
    if image.shape != shape or not np.allclose(affine, grid, atol=_MAX_AFFINE_DIFFERENCE):
        reason = (
            f"the image with shape {image.shape} is not on the same grid as"
            f" {first_path}, which has shape {shape}"
        )
        raise UsageError(
            f"{path}", reason, "register the image and resample it to that grid first"
        )
    return image


def _draw_histogram(
    options: CorrelateOptions, x: Array, y: Array, correlation: VoxelCorrelation, file: Path
) -> None:
    """Write the joint histogram of two images."""
    from bids_sr.figures.comparison import correlation_histogram
    from bids_sr.figures.svg_files import save_figure

    image_names = (options.first.name, options.second.name)
    output_files.make_folder(file)
    save_figure(correlation_histogram(image_names, x, y, correlation), file)
    print(f"Figure: {file}")
