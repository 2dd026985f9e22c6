"""What networks are trained on: high-resolution images, measured low-resolution ones, or both.

A T2*-weighted pair is one image that has both; scans of a study have high-resolution members,
whose low-resolution ones are made by the recipe's degradation; volumes of a run have
low-resolution ones alone.
"""

import hashlib

import numpy as np
from nibabel.affines import voxel_sizes

from bids_sr.frozen import frozen
from bids_sr.io.arrays import Array
from bids_sr.io.grids import Factor, Shape
from bids_sr.io.nifti import SeriesReader
from bids_sr.spatial.transforms import resized_affine
from bids_sr.sr.matrices import check_factor, downsample, highres_size, upsample
from bids_sr.sr.recipe import Recipe

_LEAST = 8  # voxels in-plane
# Neighbors in time are nearly one image: twenty, drawn over the run, show its poses and its noise,
# and fit in memory.
VOLUMES = 20


class TrainingDataError(ValueError):
    """Images that cannot be trained on."""


@frozen
class TrainingImage:
    """One image to train on.

    `fine`: high resolution, (X, Y, Z), or (C, X, Y, Z) where several contrasts are channels; or
    None. `coarse`: low resolution, (x, y, z) or (C, x, y, z), measured, in the pose of the other;
    None where it has to be made by the recipe's degradation. `gain`: brings `fine` to the
    intensity of `coarse`; None where they have one unit. `mask, affine`: (X, Y, Z) brain or head,
    and voxel -> RAS mm, on the grid of `fine`, of `coarse` where that is None. `contrast`: BIDS
    suffix; joined by + where there are channels, in their order. `validation`: whether the image
    is held out, to decide when to stop; if any image is, the recipe's own choice has no effect.
    """

    fine: Array | None = None
    coarse: Array | None = None
    gain: float | None = None
    mask: Array
    affine: Array
    contrast: str
    name: str
    validation: bool = False

    def __post_init__(self) -> None:
        if self.fine is None and self.coarse is None:
            raise TrainingDataError(
                f"{self.name}: at least one image is required (a high-resolution image, a "
                "low-resolution image, or both)"
            )
        for kind, image in (("high-resolution", self.fine), ("low-resolution", self.coarse)):
            if image is None:
                continue
            if image.ndim not in (3, 4):
                raise TrainingDataError(
                    f"{self.name}: the {kind} image has {image.ndim} axes; expected 3 axes, or "
                    "4 axes with channels"
                )
            if not np.isfinite(image).all() or np.ptp(image) == 0:
                raise TrainingDataError(
                    f"{self.name}: the {kind} image is constant, or contains NaN or infinite "
                    "values"
                )
            if min(image.shape[-3:-1]) < _LEAST:
                raise TrainingDataError(
                    f"{self.name}: the {kind} image has the shape {image.shape}, but at least "
                    f"{_LEAST} voxels are required along both in-plane axes"
                )
        if self.mask.shape != self.shape:
            raise TrainingDataError(
                f"{self.name}: the mask has the shape {self.mask.shape}, but the image has the "
                f"shape {self.shape}"
            )
        if not (self.mask > 0).any():
            raise TrainingDataError(f"{self.name}: the mask is empty")
        if (
            self.fine is not None
            and self.coarse is not None
            and _channels(self.fine) != _channels(self.coarse)
        ):
            raise TrainingDataError(
                f"{self.name}: the high-resolution image has {_channels(self.fine)} "
                f"channels, but the low-resolution image has {_channels(self.coarse)}"
            )

    @property
    def _image(self) -> Array:
        """The image whose grid mask and affine describe."""
        image = self.coarse if self.fine is None else self.fine
        assert image is not None
        return image

    @property
    def shape(self) -> Shape:
        """The grid of mask and affine."""
        x, y, z = self._image.shape[-3:]
        return x, y, z

    @property
    def zooms(self) -> tuple[float, float, float]:
        """Voxel size of that grid in mm."""
        x, y, z = voxel_sizes(self.affine).tolist()
        return x, y, z

    @property
    def channels(self) -> int:
        """Return contrasts in the image."""
        return _channels(self._image)

    def checksum(self) -> str:
        """SHA-256 of the arrays as float32."""
        total = hashlib.sha256()
        for image in (self.fine, self.coarse, self.mask > 0):
            total.update(
                b"none" if image is None else np.ascontiguousarray(image, dtype="<f4").tobytes()
            )
        return total.hexdigest()


def _channels(image: Array) -> int:
    return 1 if image.ndim == 3 else int(image.shape[0])


TrainingImages = tuple[TrainingImage, ...]


def checksums(images: TrainingImages) -> dict[str, str]:
    """SHA-256 of each image, by its name."""
    return {image.name: image.checksum() for image in images}


def check_images(images: TrainingImages, recipe: Recipe, factor: Factor, ndim: int) -> None:
    """Refuse images that do not belong together or cannot serve."""
    if not images:
        raise TrainingDataError("the list of training images is empty")
    for what, values in (
        ("contrast", {image.contrast for image in images}),
        ("number of channels", {image.channels for image in images}),
        (
            "type (with or without a high-resolution image)",
            {image.fine is None for image in images},
        ),
    ):
        if len(values) > 1:
            raise TrainingDataError(
                f"all training images must have the same {what}, but these values were found: "
                f"{', '.join(sorted(map(str, values)))}"
            )
    names = [image.name for image in images]
    if len(set(names)) != len(names):
        raise TrainingDataError(
            "the names of training images must be unique, but the names are "
            f"{', '.join(sorted(names))}"
        )
    if recipe.objective != "self" and images[0].fine is None:
        raise TrainingDataError(
            "this method is trained on high-resolution images, but only low-resolution images "
            "were specified"
        )
    if ndim == 2 and factor[2] != 1:
        raise TrainingDataError(
            "a two-dimensional method processes images slice by slice, so the factor across "
            f"slices must be 1 (got {factor})"
        )
    for image in images:
        if image.shape[2] < 2 and (ndim == 3 or len(images) == 1):
            raise TrainingDataError(
                f"{image.name}: the image has only one slice, but at least two are required, "
                "because some slices are held out"
            )
        if image.fine is None or image.coarse is None:
            continue
        shape = tuple(map(highres_size, image.coarse.shape[-3:], factor))
        if image.shape != shape:
            raise TrainingDataError(
                f"{image.name}: the high-resolution image has the shape {image.shape}; "
                f"expected {shape} (shape of the low-resolution image, "
                f"{image.coarse.shape[-3:]}, times the factor {factor})"
            )
    if recipe.objective == "cycle" and recipe.upsampled_by is None:
        raise ValueError(
            "cycle consistency requires both images on the same grid, so the recipe must "
            "upsample the low-resolution image first"
        )
    if recipe.augmentation.of_whole_slices and (
        ndim,
        recipe.patch,
        recipe.factors,
        recipe.objective == "self",
    ) != (
        2,
        None,
        (),
        False,
    ):
        raise ValueError(
            "augmentation by shift, gamma or noise requires a supervised two-dimensional "
            "recipe that is trained on whole slices with a single factor"
        )


def pair_image(
    lowres: Array,
    highres: Array,
    mask: Array,
    lowres_affine: Array,
    factor: Factor,
) -> TrainingImage:
    """A low- and a high-resolution image of one head in one position.

    The gain is that of least squares in the mask, after the high-resolution image was seen at the
    low resolution.

    Parameters
    ----------
    lowres : Array
        (x, y, z); brain, or head.
    highres : Array
        (X, Y, z) on the grid of `bids_sr.spatial.transforms.hr_grid`.
    mask : Array
        (x, y, z); brain, or head.
    lowres_affine : Array
        Voxel -> RAS mm.
    factor : Factor
        Low- over high-resolution voxel size.

    Returns
    -------
    TrainingImage
        Both images with gain and mask, the latter on the fine grid.

    Raises
    ------
    TrainingDataError : sizes that do not belong together, and as of `TrainingImage`
    """
    shape = tuple(
        highres_size(n, f) for n, f in zip(lowres.shape, check_factor(factor), strict=True)
    )
    if highres.shape != shape:
        raise TrainingDataError(
            f"the high-resolution image has the shape {highres.shape}; expected {shape} (shape "
            f"of the low-resolution image, {lowres.shape}, times the factor {factor})"
        )
    if mask.shape != lowres.shape:
        raise TrainingDataError(
            f"the mask has the shape {mask.shape}, but the low-resolution image has the shape "
            f"{lowres.shape}"
        )
    inside = mask > 0
    a = downsample(highres, lowres.shape)[inside].astype(np.float64)
    b = lowres[inside].astype(np.float64)
    return TrainingImage(
        fine=highres,
        coarse=lowres,
        gain=float(a @ b) / max(float(a @ a), np.finfo(float).tiny),
        contrast="T2starw",
        mask=upsample("nearest", inside.astype(np.float32), factor) > 0.5,
        name="pair",
        affine=resized_affine(lowres_affine, lowres.shape, highres.shape),
    )


def volumes_of_run(reader: SeriesReader, mask: Array, n_dummy: int, seed: int) -> TrainingImages:
    """Return some volumes of a run as acquired, in temporal order.

    They are for methods that are trained on them alone.

    The first `n_dummy` volumes, whose contrast is another, are left out; `mask` is the brain on
    their grid, `seed` that of the draw.

    Parameters
    ----------
    reader : SeriesReader
        BOLD run as acquired (4D).
    mask : Array
        Voxels of the brain in boldref (3D, boolean).
    n_dummy : int
        Number of volumes at the start that are not in the steady state.
    seed : int
        Seed of the choice of volumes.

    Returns
    -------
    TrainingImages
        At most 20 coarse images without fine ones.
    """
    there = np.arange(min(n_dummy, reader.shape[3] - 1), reader.shape[3])
    drawn = np.sort(
        np.random.default_rng(seed).choice(there, min(VOLUMES, len(there)), replace=False)
    )
    return tuple(
        TrainingImage(
            coarse=np.asarray(reader.volume(int(t)), np.float32),
            mask=mask,
            affine=reader.affine,
            contrast="bold",
            name=f"volume-{k}",
        )
        for k, t in enumerate(drawn)
    )
