"""Only interface to antspyx: deterministic, arrays in RAS mm, xfms with stated direction.

Every registration here runs on one ITK thread with a fixed seed, so that the same inputs give the
same bits in every process; parallelism comes from nodes that run side by side. Matrices are 4x4,
RAS mm, and take a point of the *fixed* image to where it lies in the *moving* image, as in
`bids_sr.spatial.transforms`.
"""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np

from bids_sr.frozen import frozen
from bids_sr.io.arrays import Array
from bids_sr.io.grids import AS_STORED, AxisOrder, nearest, reordered, reordered_affine
from bids_sr.io.nifti import load_image
from bids_sr.io.volume import Volume
from bids_sr.spatial.composites import carry
from bids_sr.spatial.itk_files import LPS, about_center, write_itk
from bids_sr.spatial.same_results import rounded
from bids_sr.spatial.transforms import TransformError

if TYPE_CHECKING:
    from ants.core.ants_image import ANTsImage


@frozen
class Stage:
    """One stage of `register`, named as in antsRegistration, with an entry for each level.

    It holds the transform and the metric.

    `metric` is "MI" (Mattes, 32 bins), "GC" (global correlation) or "CC" (local correlation,
    radius 2); `sampling` the fraction of voxels used by a linear stage; `mm` the smoothing (sigma,
    mm) and `shrink` the shrink factor of each level, coarsest first.
    """

    transform: str
    metric: str = "MI"
    iterations: tuple[int, ...] = (200, 100, 30)
    shrink: tuple[int, ...] = (4, 2, 1)
    mm: tuple[float, ...] = (4.0, 2.0, 0.0)
    sampling: float = 0.5
    masked: bool = True


def load(path: str | Path, order: AxisOrder = AS_STORED) -> Volume:
    """Load a 3D image, or the first volume of a series, with reordered axes.

    See `io.grids` for the order of the axes.

    `UsageError`: it cannot be read, or another version wrote it. Image in memory (3D, float32)
    with its axes in that order.
    """
    data, affine = load_image(Path(path))
    return _in_order(Volume(data=data[..., 0] if data.ndim == 4 else data, affine=affine), order)


def load_like(path: str | Path, reference: Volume) -> Volume:
    """Read an image as `load`, its axes in the order nearest to that of a reference.

    Image in memory (3D, float32); its axes may still point the other way.
    """
    image = load(path)
    return _in_order(image, nearest(image.affine, reference.affine))


def in_ras(image: Volume) -> Volume:
    """An image whose axes are nearest to right, anterior and superior; no value is interpolated.

    What ANTs finds depends on the order of axes, by rounding and by its random samples.

    `image`: image with axes in any order and direction (3D). Same image with axes exchanged and
    flipped.
    """
    canonical = nib.as_closest_canonical(nib.Nifti1Image(image.data, image.affine))
    return Volume(data=np.ascontiguousarray(canonical.dataobj), affine=canonical.affine)


def _in_order(image: Volume, order: AxisOrder) -> Volume:
    if order == AS_STORED:
        return image
    data = np.ascontiguousarray(reordered(image.data, order))
    return Volume(data=data, affine=reordered_affine(image.affine, order))


def _ants_seed(seed: int) -> int:
    """Seed for ANTs, within 1 to 2**31 - 1: 0 means the time of day to it."""
    return int(seed) % (2**31 - 1) + 1


def load_ants(seed: int) -> ModuleType:
    """Import antspyx and make it deterministic before anything else of it runs.

    One ITK thread always: sums over threads differ in their last bits with the order in which
    threads end.
    """
    os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = "1"
    import ants

    ants.config.set_ants_deterministic(True, _ants_seed(seed))
    return ants


def to_ants(image: Volume, seed: int) -> "ANTsImage":
    """Turn a `Volume` into an ANTsImage (float32, LPS).

    Same image for antspyx, in LPS+ mm.
    """
    ants = load_ants(seed)
    lps = LPS @ rounded(image.affine)
    zooms = np.sqrt(np.square(lps[:3, :3]).sum(axis=0))
    return ants.from_numpy(
        np.ascontiguousarray(image.data, dtype=np.float32),
        origin=[float(v) for v in lps[:3, 3]],
        spacing=[float(v) for v in zooms],
        direction=lps[:3, :3] / zooms,
    )


def run_program(name: str, arguments: Sequence[str]) -> None:
    """Run a program of ANTs in this process.

    This and `named` are all that is used of antspyx beyond its public functions, which write no
    composite transform and pass only some options of Atropos on. Both stay in this module, and
    ``tests/unit/registration/test_ants.py`` tells of a release that changes them.

    `arguments`: its command line, with images as `named` gives them.
    """
    import ants
    from ants.internal import get_lib_fn, process_arguments

    code = get_lib_fn(name)(process_arguments(list(arguments)))
    if code != 0:
        raise RuntimeError(
            f"ANTs program {name} failed with exit code {code} (antspyx {ants.__version__})"
        )


def named(image: "ANTsImage") -> str:
    """Return what stands for an image in memory on a command line of `run_program`.

    `image`: image of antspyx; it must live as long as the program runs.
    """
    from ants.internal import get_pointer_string

    return str(get_pointer_string(image))


def read_linear(path: Path) -> Array:
    """Read a linear transform (.mat, 4x4, RAS mm) written by antsRegistration.

    It maps a fixed point to its moving point.
    """
    from scipy.io import loadmat

    content = loadmat(str(path))
    name = next(key for key in content if key.endswith("_3_3"))
    return rounded(
        LPS
        @ about_center(content[name].ravel().astype(float), content["fixed"].ravel().astype(float))
        @ LPS
    )


def register(
    fixed: Volume,
    moving: Volume,
    stages: Sequence[Stage],
    *,
    seed: int,
    prefix: str,
    start: Array | None = None,
    fixed_mask: Array | None = None,
) -> tuple[Path, ...]:
    """Run antsRegistration and return its composite and inverse transform files.

    Where all stages are linear, a single `.mat` file is returned.

    Raises RuntimeError: antsRegistration failed.

    `start`: 4x4, takes a fixed point to its moving point (RAS mm); None: the headers are believed.
    `fixed_mask`: boolean array on the grid of the fixed image; the metric is computed inside.
    `RuntimeError`: antsRegistration ends with an error code.
    """
    deformable = any(stage.transform.startswith("SyN") for stage in stages)
    # antsRegistration reads the pixels as --float says, whatever they are
    pixel = "float" if deformable else "double"
    images = [to_ants(image, seed).clone(pixel) for image in (fixed, moving)]
    ends = [named(image) for image in images]
    mask = None if fixed_mask is None else to_ants(fixed.like(fixed_mask), seed)
    inside = None if mask is None else mask.clone("unsigned char")
    mask_end = "NA" if inside is None else named(inside)
    with tempfile.TemporaryDirectory(prefix="start") as folder:
        first = Path(folder) / "start.txt"
        write_itk(first, np.eye(4) if start is None else rounded(start))
        arguments = ["-d", "3", "-r", str(first), "-u", "0", "-z", str(int(not deformable))]
        arguments += ["--float", str(int(deformable))]
        for stage in stages:
            arguments += _stage_arguments(stage, ends, mask_end)
        arguments += [
            "-a",
            str(int(deformable)),
            "-o",
            f"[{prefix}]",
            "--random-seed",
            str(_ants_seed(seed)),
        ]
        run_program("antsRegistration", arguments)
    if deformable:
        return Path(f"{prefix}Composite.h5"), Path(f"{prefix}InverseComposite.h5")
    return (Path(f"{prefix}0GenericAffine.mat"),)


def _stage_arguments(stage: Stage, ends: Sequence[str], mask_end: str) -> list[str]:
    """Spell one stage for antsRegistration."""
    pair = ",".join(ends)
    if stage.transform.startswith("SyN"):
        metric = f"MI[{pair},1,32]" if stage.metric == "MI" else f"{stage.metric}[{pair},1,2]"
    else:
        bins_or_radius = 32 if stage.metric == "MI" else 2
        metric = f"{stage.metric}[{pair},1,{bins_or_radius},Regular,{stage.sampling}]"
    return [
        "--metric",
        metric,
        "--transform",
        stage.transform,
        "--convergence",
        f"[{'x'.join(map(str, stage.iterations))},1e-7,8]",
        "--smoothing-sigmas",
        "x".join(map(str, stage.mm)) + "mm",
        "--shrink-factors",
        "x".join(map(str, stage.shrink)),
        "--masks",
        f"[{mask_end if stage.masked else 'NA'},NA]",
    ]


def apply(
    image: Volume,
    reference: Volume,
    transforms: Sequence[Path],
    *,
    seed: int,
    interpolator: str = "linear",
) -> Array:
    """Resample `image` once onto the grid of `reference` through a chain of transform files.

    Of `transforms` the **last** is applied to the reference's points first, as in a product of
    matrices. antspyx takes its list the other way round, so it is turned here.

    Parameters
    ----------
    image : Volume
        Image to resample (3D).
    reference : Volume
        Image that sets the grid of the result (3D).
    transforms : Sequence[Path]
        Transform files; points of the reference go through the last one first.
    seed : int
        Seed of the random samples of ANTs.
    interpolator : str, optional
        Interpolation by its name in antspyx, such as ``linear``.

    Returns
    -------
    Array
        Resampled values (3D, float32), 0 outside the image.
    """
    ants = load_ants(seed)
    out = ants.apply_transforms(
        fixed=to_ants(reference, seed),
        moving=to_ants(image, seed),
        transformlist=[str(path) for path in reversed(transforms)],
        whichtoinvert=[False] * len(transforms),
        interpolator=interpolator,
        defaultvalue=0.0,
    )
    return np.asarray(out.numpy(), dtype=np.float32)


def carry_points(points: Array, transforms: Sequence[Path], *, seed: int) -> Array:
    """Apply transforms as `apply_to_points` does, ten times faster.

    The files have to be of the kinds that `bids_sr.spatial.transforms` reads itself.

    `transforms`: transform files; points of the reference go through the last one first.
    """
    try:
        return carry(points, transforms)
    except TransformError:
        return apply_to_points(points, transforms, seed=seed)


def apply_to_points(
    points: Sequence[Sequence[float]] | Array, transforms: Sequence[Path], *, seed: int
) -> Array:
    """Map reference points into the image that `apply` resamples; (n, 3), RAS mm.

    The chain of transforms is the one with which `apply` resamples the image onto the reference.
    """
    import pandas as pd

    ants = load_ants(seed)
    flip = np.diag(LPS)[:3]
    table = pd.DataFrame(np.asarray(points, dtype=float) * flip, columns=["x", "y", "z"])
    for path in reversed(transforms):
        table = ants.apply_transforms_to_points(3, table, [str(path)], whichtoinvert=[False])
    return table[["x", "y", "z"]].to_numpy(dtype=float) * flip
