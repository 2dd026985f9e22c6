"""``bids-sr-models correlate``: voxelwise correlation of two images, as of two contrasts."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from bids_sr.cli.models import output_files
from bids_sr.cli.models.options import CorrelateOptions
from bids_sr.cli.models.score_tables import write_table
from bids_sr.config import UsageError
from bids_sr.evaluation.voxel_correlation import VoxelCorrelation, correlate_voxels
from bids_sr.io.arrays import Array, Mask
from bids_sr.io.nifti import load_image


def correlate(options: CorrelateOptions) -> None:
    """Print the correlation of two images, and write table and figure if requested."""
    if options.figure is not None and options.figure.suffix not in (".png", ".svg"):
        why = "figures can only be written in the formats .png and .svg"
        raise UsageError(f"--figure {options.figure}", why, "use a file name that ends in .png")
    first, second, mask = _read(options)
    try:
        found = correlate_voxels(first, second, mask)
    except ValueError as error:
        what = f"{options.first} and {options.second}"
        raise UsageError(what, str(error), "use other images or another --mask") from None
    print(
        f"r = {found.r:.4f}, Spearman's rho = {found.rho:.4f}, {found.voxels} voxels;"
        f" {options.second.name} = {found.slope:.5g} x {options.first.name}"
        f" {'+' if found.intercept >= 0 else '-'} {abs(found.intercept):.5g}"
    )
    print(
        f"p = {found.p_independent:.2g}, assuming that voxels are independent. Neighboring"
        " voxels are correlated, so this p value is too small."
    )
    if options.out is not None:
        output_files.make_folder(options.out)
        row = dataclasses.asdict(found)
        names = {"first": str(options.first), "second": str(options.second)}
        write_table(options.out, "models_correlate", [{**names, **row}])
    if options.figure is not None:
        _draw(options, first[mask], second[mask], found, options.figure)


def _read(options: CorrelateOptions) -> tuple[Array, Array, Mask]:
    """Return both images (3D; the mean of a series) and the mask; refuse different grids."""
    images = list[Array]()
    grids = list[Array]()
    for path in (options.first, options.second, *([options.mask] if options.mask else [])):
        data, affine = load_image(path)
        images.append(data.mean(-1) if data.ndim == 4 else data)
        grids.append(affine)
        if images[-1].shape != images[0].shape or not np.allclose(affine, grids[0], atol=1e-2):
            why = (
                f"the image with shape {images[-1].shape} is not on the same grid as"
                f" {options.first}, which has shape {images[0].shape}"
            )
            raise UsageError(
                f"{path}", why, "register the image and resample it to that grid first"
            )
    first, second, *masks = images
    known = np.isfinite(first) & np.isfinite(second)
    mask = masks[0] > 0.5 if masks else (first != 0) & (second != 0)
    return first, second, np.asarray(known & mask)


def _draw(
    options: CorrelateOptions, x: Array, y: Array, found: VoxelCorrelation, file: Path
) -> None:
    from bids_sr.figures.comparison import correlation_histogram
    from bids_sr.figures.svg_files import save_figure

    names = (options.first.name, options.second.name)
    output_files.make_folder(file)
    save_figure(correlation_histogram(names, x, y, found), file)
    print(f"Figure: {file}")
