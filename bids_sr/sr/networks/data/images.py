"""Images for training networks: high-resolution images, measured low-resolution images, or both.

A T2*-weighted pair is a single training image with both resolutions. Structural scans of a study
are high-resolution images; the recipe's degradation simulates their low-resolution versions.
Volumes of a run are low-resolution images without a high-resolution version.
"""

import hashlib

import numpy as np
from nibabel.affines import voxel_sizes

from bids_sr.io.arrays import Array
from bids_sr.io.frozen import frozen
from bids_sr.io.grids import Factor, Shape, highres_size
from bids_sr.io.nifti import SeriesReader
from bids_sr.io.notices import InvalidInput
from bids_sr.spatial.matrices import downsample, upsample
from bids_sr.spatial.transforms import resize_affine
from bids_sr.sr.recipe import Recipe

_MIN_SIDE = 8  # voxels, smallest in-plane side of an image
N_VOLUMES = 20
"""Number of volumes of a run in a training. Successive volumes are almost identical. Twenty
volumes, drawn from the whole run, sample its head poses and noise, and fit in memory.
"""


@frozen
class TrainingImage:
    """Image for training, at high resolution, low resolution or both.

    `fine` is the high-resolution image (X, Y, Z), or (C, X, Y, Z) if several contrasts are
    channels; None if only a low-resolution image exists. `coarse` is the measured low-resolution
    image (x, y, z) or (C, x, y, z), in the same head pose as `fine`; None if the recipe's
    degradation simulates it. `gain` is the scale that matches the intensity of `fine` to `coarse`;
    None if both have the same unit.

    `mask` is the mask of the brain or head (X, Y, Z), on the grid of `fine`, or of `coarse` if
    `fine` is None, and `affine` the voxel-to-world matrix of the same grid (4 x 4, RAS+ mm).
    `contrast` is a BIDS suffix; suffixes of several channels are joined by "+" in channel order.
    `name` is unique. If `validation`, the image is held out to decide when training stops. If any
    image is marked, the recipe's own hold-out rule has no effect.
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
            raise InvalidInput(
                "at least one image is required (a high-resolution image, a "
                "low-resolution image, or both)",
                file=self.name,
            )
        for kind, image in (("high-resolution", self.fine), ("low-resolution", self.coarse)):
            if image is not None:
                _check_voxels(image, f"{self.name}: the {kind} image")
        if self.mask.shape != self.shape:
            raise InvalidInput(
                f"the mask has the shape {self.mask.shape}, but the image has the "
                f"shape {self.shape}",
                file=self.name,
            )
        if not (self.mask > 0).any():
            raise InvalidInput("the mask is empty", file=self.name)
        if self.fine is None or self.coarse is None:
            return
        highres_channels, lowres_channels = map(_count_channels, (self.fine, self.coarse))
        if highres_channels != lowres_channels:
            raise InvalidInput(
                f"the high-resolution image has {highres_channels} "
                f"channels, but the low-resolution image has {lowres_channels}",
                file=self.name,
            )

    @property
    def shape(self) -> Shape:
        """Grid of the mask and affine."""
        x, y, z = self._image.shape[-3:]
        return x, y, z

    @property
    def zooms(self) -> tuple[float, float, float]:
        """Voxel size of the mask in mm."""
        x, y, z = voxel_sizes(self.affine).tolist()
        return x, y, z

    @property
    def channels(self) -> int:
        """Number of contrasts in the image."""
        return _count_channels(self._image)

    @property
    def _image(self) -> Array:
        """Image whose grid the mask and affine describe."""
        image = self.coarse if self.fine is None else self.fine
        assert image is not None
        return image

    def checksum(self) -> str:
        """Return the SHA-256 checksum of the arrays, as float32."""
        digest = hashlib.sha256()
        for image in (self.fine, self.coarse, self.mask > 0):
            digest.update(
                b"none" if image is None else np.ascontiguousarray(image, dtype="<f4").tobytes()
            )
        return digest.hexdigest()


TrainingImages = tuple[TrainingImage, ...]


def _check_voxels(image: Array, subject: str) -> None:
    """Raise InvalidInput if shape or intensities of an image are not suited to training.

    `subject` is the beginning of the message.
    """
    if image.ndim not in (3, 4):
        raise InvalidInput(
            f"{subject} has {image.ndim} axes; expected 3 axes, or 4 axes with channels"
        )
    if not np.isfinite(image).all() or np.ptp(image) == 0:
        raise InvalidInput(f"{subject} is constant, or contains NaN or infinite values")
    if min(image.shape[-3:-1]) < _MIN_SIDE:
        raise InvalidInput(
            f"{subject} has the shape {image.shape}, but at least "
            f"{_MIN_SIDE} voxels are required along both in-plane axes"
        )


def _count_channels(image: Array) -> int:
    """Return the number of channels of an image (X, Y, Z) or (C, X, Y, Z)."""
    return 1 if image.ndim == 3 else int(image.shape[0])


def checksums(images: TrainingImages) -> dict[str, str]:
    """Return the SHA-256 checksum of each image, by image name."""
    return {image.name: image.checksum() for image in images}


def check_images(images: TrainingImages, recipe: Recipe, factor: Factor, ndim: int) -> None:
    """Raise an error if images do not belong together or do not suit the recipe.

    Raises `InvalidInput` if the images are inconsistent or too small, or if a required
    resolution is missing.
    """
    if not images:
        raise InvalidInput("the list of training images is empty")
    _check_consistency(images)
    if recipe.objective != "self" and images[0].fine is None:
        raise InvalidInput(
            "this method is trained on high-resolution images, but only low-resolution images "
            "were specified"
        )
    if ndim == 2 and factor[2] != 1:
        raise InvalidInput(
            "a two-dimensional method processes images slice by slice, so the factor across "
            f"slices must be 1 (got {factor})"
        )
    for image in images:
        if image.shape[2] < 2 and (ndim == 3 or len(images) == 1):
            raise InvalidInput(
                "the image has only one slice, but at least two are required, "
                "because some slices are held out",
                file=image.name,
            )
        _check_pair_shapes(image, factor)


def _check_consistency(images: TrainingImages) -> None:
    """Raise InvalidInput if images differ in contrast or type, or have the same name."""
    for quantity, distinct_values in (
        ("contrast", {image.contrast for image in images}),
        ("number of channels", {image.channels for image in images}),
        (
            "type (with or without a high-resolution image)",
            {image.fine is None for image in images},
        ),
    ):
        if len(distinct_values) > 1:
            raise InvalidInput(
                f"all training images must have the same {quantity}, but these values were found: "
                f"{', '.join(sorted(map(str, distinct_values)))}"
            )
    image_names = [image.name for image in images]
    if len(set(image_names)) != len(image_names):
        raise InvalidInput(
            "the names of training images must be unique, but the names are "
            f"{', '.join(sorted(image_names))}"
        )


def _check_pair_shapes(image: TrainingImage, factor: Factor) -> None:
    """Raise InvalidInput if the sizes of a measured pair do not match the factor."""
    if image.fine is None or image.coarse is None:
        return
    shape = tuple(map(highres_size, image.coarse.shape[-3:], factor))
    if image.shape != shape:
        raise InvalidInput(
            f"the high-resolution image has the shape {image.shape}; "
            f"expected {shape} (shape of the low-resolution image, "
            f"{image.coarse.shape[-3:]}, times the factor {factor})",
            file=image.name,
        )


def pair_image(
    lowres: Array,
    highres: Array,
    mask: Array,
    lowres_affine: Array,
    factor: Factor,
) -> TrainingImage:
    """Combine a low- and a high-resolution image of one head in the same pose.

    The gain is a least-squares fit in the mask, after the high-resolution image was downsampled to
    the low-resolution grid.

    Parameters
    ----------
    lowres : Array
        Low-resolution image (x, y, z).
    highres : Array
        High-resolution image (X, Y, Z) on the grid of `bids_sr.spatial.transforms.hr_grid`.
    mask : Array
        Mask of the brain or head (x, y, z), on the low-resolution grid.
    lowres_affine : Array
        Voxel-to-world matrix of the low-resolution grid (4 x 4, RAS+ mm).
    factor : Factor
        Ratio of low-resolution to high-resolution voxel size.

    Returns
    -------
    TrainingImage
        Both images with their gain, and the mask on the high-resolution grid.

    Raises
    ------
    InvalidInput
        If the images are not suited to training (see `TrainingImage`).
    """
    is_inside = mask > 0
    lowres_values = lowres[is_inside].astype(np.float64)
    downsampled_values = downsample(highres, lowres.shape)[is_inside].astype(np.float64)
    squared_norm = float(downsampled_values @ downsampled_values)
    gain = float(downsampled_values @ lowres_values) / max(squared_norm, np.finfo(float).tiny)
    return TrainingImage(
        fine=highres,
        coarse=lowres,
        gain=gain,
        contrast="T2starw",
        mask=upsample("nearest", is_inside.astype(np.float32), factor) > 0.5,
        name="pair",
        affine=resize_affine(lowres_affine, lowres.shape, highres.shape),
    )


def volumes_of_run(reader: SeriesReader, mask: Array, n_dummy: int, seed: int) -> TrainingImages:
    """Draw volumes from a run as acquired, in temporal order.

    They are used to train methods that require no high-resolution images. The first `n_dummy`
    volumes are not drawn, because their contrast differs.

    Parameters
    ----------
    reader : SeriesReader
        BOLD run as acquired (4D).
    mask : Array
        Brain mask in boldref (3D, boolean).
    n_dummy : int
        Number of volumes at the start of the run that precede the steady state.
    seed : int
        Seed of the random choice of volumes.

    Returns
    -------
    TrainingImages
        At most 20 training images without a high-resolution version.
    """
    steady_volumes = np.arange(min(n_dummy, reader.shape[3] - 1), reader.shape[3])
    volume_indices = np.sort(
        np.random.default_rng(seed).choice(
            steady_volumes, min(N_VOLUMES, len(steady_volumes)), replace=False
        )
    )
    return tuple(
        TrainingImage(
            coarse=np.asarray(reader.volume(int(index)), np.float32),
            mask=mask,
            affine=reader.affine,
            contrast="bold",
            name=f"volume-{number}",
        )
        for number, index in enumerate(volume_indices)
    )
