"""Deterministic interface to antspyx, with arrays in RAS mm.

All other modules use antspyx only through this module. Every registration runs on one ITK thread
with a fixed seed, so that the same inputs give identical results in every process; nodes run in
parallel instead. Matrices are 4x4 (RAS mm) and map a point of the *fixed* image to its position in
the *moving* image, as in `bids_sr.spatial.transforms`.
"""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Self

import nibabel as nib
import numpy as np

from bids_sr.io.arrays import Array
from bids_sr.io.frozen import frozen
from bids_sr.io.grids import AS_STORED, AxisOrder, nearest_axis_order, reorder, reorder_affine
from bids_sr.io.nifti import load_image
from bids_sr.io.notices import InvalidInput
from bids_sr.io.volume import Volume
from bids_sr.spatial.itk_files import LPS, make_matrix, write_itk
from bids_sr.spatial.reproducible_numbers import round_values

if TYPE_CHECKING:
    from ants.core.ants_image import ANTsImage


@frozen
class RegistrationStage:
    """Transform and metric of one stage of `register`, named as in antsRegistration.

    `transform` includes its parameters, such as ``Rigid[0.1]``. `metric` is "MI" (Mattes, 32
    bins), "GC" (global correlation) or "CC" (local correlation, radius 2). `iterations` are the
    largest numbers of iterations at each level, lowest resolution first, `shrink` the shrink
    factors and `mm` the smoothing (sigma) of each level. `sampling` is the fraction of voxels used
    by a linear stage. If `masked`, the metric is restricted to the mask of the fixed image. A
    level ends if the slope of the metric over 8 iterations is below `threshold`.
    """

    transform: str
    metric: str = "MI"
    iterations: tuple[int, ...] = (200, 100, 30)
    shrink: tuple[int, ...] = (4, 2, 1)
    mm: tuple[float, ...] = (4.0, 2.0, 0.0)
    sampling: float = 0.5
    masked: bool = True
    threshold: float = 1e-7


@frozen
class AntsOptions:
    """Seed of the random samples of ANTs, and names of the files that ANTs writes.

    `prefix` is the path and the first letters of the files. `sloppy` selects faster, less accurate
    registrations.
    """

    seed: int
    prefix: str
    sloppy: bool = False

    def extend(self, name: str) -> Self:
        """Return the options with a name appended to the prefix."""
        return replace(self, prefix=f"{self.prefix}{name}")


def load_like(path: str | Path, reference: Volume) -> Volume:
    """Load an image with its axes in the order closest to the axes of a reference image.

    Axes are only permuted, not flipped, so that they may point in opposite directions. The image
    is 3D, float32.
    """
    image = load(path)
    return _reorder(image, nearest_axis_order(image.affine, reference.affine))


def load(path: str | Path, order: AxisOrder = AS_STORED) -> Volume:
    """Load a 3D image, or the first volume of a series, with reordered axes.

    `order` is the order of the axes, see `bids_sr.io.grids`; by default as in the file. The image
    is 3D, float32.
    """
    data, affine = load_image(Path(path))
    return _reorder(Volume(data=data[..., 0] if data.ndim == 4 else data, affine=affine), order)


def _reorder(image: Volume, order: AxisOrder) -> Volume:
    """Return an image with its axes in another order."""
    if order == AS_STORED:
        return image
    data = np.ascontiguousarray(reorder(image.data, order))
    return Volume(data=data, affine=reorder_affine(image.affine, order))


def reorder_to_ras(image: Volume) -> Volume:
    """Permute and flip the axes of an image to the order closest to RAS, without interpolation.

    The results of ANTs depend slightly on the order of the axes, by rounding and by its random
    samples.
    """
    canonical = nib.as_closest_canonical(nib.Nifti1Image(image.data, image.affine))
    return Volume(data=np.ascontiguousarray(canonical.dataobj), affine=canonical.affine)


def register(
    fixed: Volume,
    moving: Volume,
    stages: Sequence[RegistrationStage],
    options: AntsOptions,
    *,
    start: Array | None = None,
    fixed_mask: Array | None = None,
) -> tuple[Path, ...]:
    """Run antsRegistration and return its transform files.

    Images are 3D. `start` is the initial transform of a fixed point to its moving point (4 x 4,
    RAS+ mm); None starts from the headers. `fixed_mask` contains the voxels of the fixed image in
    which the metric is computed (3D, boolean); None uses all voxels.

    Returns composite and inverse composite transform (.h5), or a single ``.mat`` file if all
    stages are linear. Raises `RuntimeError` if antsRegistration ends with an error code.
    """
    seed, prefix = options.seed, options.prefix
    deformable = any(stage.transform.startswith("SyN") for stage in stages)
    # antsRegistration interprets pixels as the type set by --float, whatever their actual type.
    pixel_type = "float" if deformable else "double"
    images = [to_ants(image, seed).clone(pixel_type) for image in (fixed, moving)]
    image_names = [image_name(image) for image in images]
    ants_mask = None if fixed_mask is None else to_ants(fixed.like(fixed_mask), seed)
    mask_image = None if ants_mask is None else ants_mask.clone("unsigned char")
    mask_name = "NA" if mask_image is None else image_name(mask_image)
    with tempfile.TemporaryDirectory(prefix="start") as folder:
        # ANTs reads commas and brackets in paths as syntax
        output = Path(folder) / "output"
        output.symlink_to(Path(prefix).absolute().parent)
        start_file = Path(folder) / "start.txt"
        write_itk(start_file, np.eye(4) if start is None else round_values(start))
        arguments = ["-d", "3", "-r", str(start_file), "-u", "0", "-z", str(int(not deformable))]
        arguments += ["--float", str(int(deformable))]
        for stage in stages:
            arguments += _stage_arguments(stage, image_names, mask_name)
        arguments += [
            "-a",
            str(int(deformable)),
            "-o",
            f"[{output}/{Path(prefix).name}]",
            "--random-seed",
            str(_make_ants_seed(seed)),
        ]
        run_program("antsRegistration", arguments)
    if deformable:
        return Path(f"{prefix}Composite.h5"), Path(f"{prefix}InverseComposite.h5")
    return (Path(f"{prefix}0GenericAffine.mat"),)


def image_name(image: "ANTsImage") -> str:
    """Return the name of an image in memory for the command line of `run_program`.

    The image must not be deleted before the program ends.
    """
    from ants.internal import get_pointer_string

    return str(get_pointer_string(image))


def _stage_arguments(
    stage: RegistrationStage, image_names: Sequence[str], mask_name: str
) -> list[str]:
    """Return the command-line arguments of one stage for antsRegistration."""
    image_pair = ",".join(image_names)
    if stage.transform.startswith("SyN"):
        metric = (
            f"MI[{image_pair},1,32]"
            if stage.metric == "MI"
            else f"{stage.metric}[{image_pair},1,2]"
        )
    else:
        bins_or_radius = 32 if stage.metric == "MI" else 2
        metric = f"{stage.metric}[{image_pair},1,{bins_or_radius},Regular,{stage.sampling}]"
    return [
        "--metric",
        metric,
        "--transform",
        stage.transform,
        "--convergence",
        f"[{'x'.join(map(str, stage.iterations))},{stage.threshold:g},8]",
        "--smoothing-sigmas",
        "x".join(map(str, stage.mm)) + "mm",
        "--shrink-factors",
        "x".join(map(str, stage.shrink)),
        "--masks",
        f"[{mask_name if stage.masked else 'NA'},NA]",
    ]


def run_program(name: str, arguments: Sequence[str]) -> None:
    """Run a program of ANTs in this process.

    This function and `image_name` are the only users of antspyx internals. Its public functions
    cannot write composite transforms and do not support all options of Atropos.
    ``tests/unit/preproc/test_ants.py`` fails if a release changes the internals.

    `arguments` are as on the command line; images in memory are passed as returned by
    `image_name`. Raises `RuntimeError` if the program ends with an error code.
    """
    import ants
    from ants.internal import get_lib_fn, process_arguments

    code = get_lib_fn(name)(process_arguments(list(arguments)))
    if code != 0:
        raise RuntimeError(
            f"ANTs program {name} failed with exit code {code} (antspyx {ants.__version__})"
        )


def apply(
    image: Volume,
    reference: Volume,
    transforms: Sequence[Path],
    *,
    seed: int,
    interpolator: str = "linear",
) -> Array:
    """Resample an image to the grid of a reference through a chain of transform files.

    Points of the reference go through the **last** file of `transforms` first, as in a product of
    matrices. antspyx expects the reverse order, so the list is reversed here.

    Parameters
    ----------
    image : Volume
        Image to resample (3D).
    reference : Volume
        Image that defines the grid of the result (3D).
    transforms : Sequence[Path]
        Transform files; points of the reference go through the last file first.
    seed : int
        Seed of the random samples of ANTs.
    interpolator : str, optional
        Name of the interpolation in antspyx, such as ``linear``.

    Returns
    -------
    Array
        Resampled values (3D, float32), 0 outside the image.
    """
    ants = load_ants(seed)
    with _link_files(transforms) as links:
        resampled = ants.apply_transforms(
            fixed=to_ants(reference, seed),
            moving=to_ants(image, seed),
            transformlist=links[::-1],
            whichtoinvert=[False] * len(transforms),
            interpolator=interpolator,
            defaultvalue=0.0,
        )
    return np.asarray(resampled.numpy(), dtype=np.float32)


@contextmanager
def _link_files(paths: Sequence[Path]) -> Iterator[list[str]]:
    """Link files from a temporary folder, because ANTs reads commas and brackets as syntax."""
    with tempfile.TemporaryDirectory(prefix="transforms") as folder:
        links = [Path(folder) / f"{number}{path.suffix}" for number, path in enumerate(paths)]
        for link, path in zip(links, paths, strict=True):
            link.symlink_to(path.absolute())
        yield list(map(str, links))


def to_ants(image: Volume, seed: int) -> "ANTsImage":
    """Convert a volume to an antspyx image (float32, LPS+ mm)."""
    ants = load_ants(seed)
    lps = LPS @ round_values(image.affine)
    zooms = np.sqrt(np.square(lps[:3, :3]).sum(axis=0))
    return ants.from_numpy(
        np.ascontiguousarray(image.data, dtype=np.float32),
        origin=[float(value) for value in lps[:3, 3]],
        spacing=[float(value) for value in zooms],
        direction=lps[:3, :3] / zooms,
    )


def apply_to_points(
    points: Sequence[Sequence[float]] | Array, transforms: Sequence[Path]
) -> Array:
    """Map reference points to the image through a chain of transform files.

    The chain is the same as in `apply`, which resamples the image to the reference.

    Parameters
    ----------
    points : Sequence[Sequence[float]] | Array
        Points of the reference (N, 3; RAS+ mm).
    transforms : Sequence[Path]
        ITK transform files; the last file is applied first.

    Returns
    -------
    Array
        Points of the image (N, 3; RAS+ mm).

    Raises
    ------
    InvalidInput
        A file is not a readable transform in 3D. ANTs itself would end the process.
    """
    import pandas as pd

    ants = load_ants(0)  # no random numbers are used
    for path in transforms:  # read once more below, where ANTs would end the process
        try:
            dimension = ants.read_transform(str(path)).dimension
        except (IndexError, RuntimeError, ValueError) as error:
            raise InvalidInput(
                "the file cannot be read as an ITK transform",
                "Replace it with an intact file.",
                file=path,
            ) from error
        if dimension != 3:
            raise InvalidInput(f"expected a transform in 3D, found one in {dimension}D", file=path)
    ras_lps_signs = np.diag(LPS)[:3]
    table = pd.DataFrame(np.asarray(points, dtype=float) * ras_lps_signs, columns=["x", "y", "z"])
    with _link_files(transforms) as links:
        mapped_table = ants.apply_transforms_to_points(
            3, table, links[::-1], whichtoinvert=[False] * len(transforms)
        )
    return mapped_table[["x", "y", "z"]].to_numpy(dtype=float) * ras_lps_signs


def load_ants(seed: int) -> ModuleType:
    """Import antspyx and make it deterministic before any other call to it.

    ITK always uses one thread, because sums over threads differ in their last bits with the order
    in which threads end.
    """
    os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = "1"
    import ants

    ants.config.set_ants_deterministic(True, _make_ants_seed(seed))
    return ants


def _make_ants_seed(seed: int) -> int:
    """Return a seed for ANTs from 1 to 2**31 - 1; ANTs replaces 0 by the time of day."""
    return int(seed) % (2**31 - 1) + 1


def read_linear(path: Path) -> Array:
    """Read a linear transform written by antsRegistration (.mat).

    Returns the transform of a fixed point to its moving point (4 x 4, RAS+ mm).
    """
    from scipy.io import loadmat

    content = loadmat(str(path))
    name = next(key for key in content if key.endswith("_3_3"))
    return round_values(
        LPS
        @ make_matrix(content[name].ravel().astype(float), content["fixed"].ravel().astype(float))
        @ LPS
    )
