"""Sets of training images: each a high-resolution image, a measured low-resolution one, or both."""

import hashlib
from collections.abc import Iterable
from typing import Self

import numpy as np

from bids_sr.frozen import frozen
from bids_sr.io.array_types import Array
from bids_sr.io.nifti import SeriesReader
from bids_sr.spatial.masks import voxel_sizes
from bids_sr.spatial.transforms import resized_affine
from bids_sr.sr.data.training_pair import PairError, TrainingPair
from bids_sr.sr.resolution.matrices import Factor, block_mean, check_factor, highres_size, kspace_crop

_LEAST = 8  # voxels in-plane
# Neighbors in time are nearly one image: twenty, drawn over the run, show its poses and its noise, and fit in memory.
VOLUMES = 20


class ImageSetError(PairError):
    """Images that cannot be trained on."""


@frozen
class TrainingImage:
    """One image of a set.

    Raises ImageSetError: no image, grids that do not belong together, an empty mask, values that are constant or not
    finite.
    """

    # high resolution, (X, Y, Z), or (C, X, Y, Z) where several contrasts are channels; or None
    fine: Array | None = None
    # low resolution, (x, y, z) or (C, x, y, z), measured, in pose and unit of the other; None where it has to be made
    # by the recipe's degradation
    coarse: Array | None = None
    # (X, Y, Z) brain or head, and voxel -> RAS mm, on the grid of `fine`, of `coarse` where that is None
    mask: Array
    affine: Array
    contrast: str  # BIDS suffix; joined by + where there are channels, in their order
    name: str  # of the image, for cards and messages

    def __post_init__(self) -> None:
        if self.fine is None and self.coarse is None:
            raise ImageSetError(f"{self.name}: neither a fine nor a coarse image")
        for kind, image in (("fine", self.fine), ("coarse", self.coarse)):
            if image is None:
                continue
            if image.ndim not in (3, 4):
                raise ImageSetError(f"{self.name}: the {kind} image has {image.ndim} axes, not 3 (4 with channels)")
            if not np.isfinite(image).all() or np.ptp(image) == 0:
                raise ImageSetError(f"{self.name}: the {kind} image is constant or not finite")
            if image.shape[-3] < _LEAST or image.shape[-2] < _LEAST:
                raise ImageSetError(
                    f"{self.name}: the {kind} image {image.shape} has less than {_LEAST} voxels in-plane"
                )
        if self.mask.shape != self.shape:
            raise ImageSetError(f"{self.name}: the mask {self.mask.shape} is not on the grid of the image {self.shape}")
        if not (self.mask > 0).any():
            raise ImageSetError(f"{self.name}: the mask is empty")
        if self.fine is not None and self.coarse is not None and channels(self.fine) != channels(self.coarse):
            raise ImageSetError(
                f"{self.name}: {channels(self.fine)} channels in the fine image, {channels(self.coarse)} in the coarse"
            )

    @property
    def image(self) -> Array:
        """The image whose grid mask and affine describe."""
        image = self.coarse if self.fine is None else self.fine
        assert image is not None
        return image

    @property
    def shape(self) -> tuple[int, int, int]:
        """The grid of `image`."""
        x, y, z = self.image.shape[-3:]
        return x, y, z

    @property
    def zooms(self) -> tuple[float, float, float]:
        """Voxel size of the grid of `image` in mm."""
        x, y, z = voxel_sizes(self.affine).tolist()
        return x, y, z

    def as_pair(self, factor: Factor) -> TrainingPair:
        """The image as a pair; its low-resolution member is made by cropping k-space where none was measured."""
        assert self.fine is not None
        made, affine = kspace_crop(self.fine, self.affine, factor=factor)
        seen, _ = block_mean(self.mask.astype(np.float32), self.affine, factor=factor)
        lowres = made if self.coarse is None else self.coarse
        sizes = [(n, highres_size(m, f)) for n, m, f in zip(self.fine.shape, lowres.shape, factor, strict=True)]
        x, y, z = (slice((n - m) // 2, (n - m) // 2 + m) for n, m in sizes)
        return TrainingPair(
            lowres=lowres.astype(np.float32), highres=self.fine[x, y, z], mask=seen > 0.5, lowres_affine=affine,
            factor=factor, contrast=self.contrast,
        )  # fmt: skip

    def checksum(self) -> str:
        """SHA-256 of the arrays as float32."""
        total = hashlib.sha256()
        for image in (self.fine, self.coarse, self.mask > 0):
            total.update(b"none" if image is None else np.ascontiguousarray(image, dtype="<f4").tobytes())
        return total.hexdigest()


def channels(image: Array) -> int:
    """Channels of (X, Y, Z) or (C, X, Y, Z)."""
    return 1 if image.ndim == 3 else int(image.shape[0])


@frozen
class ImageSet:
    """Images of one kind.

    Raises ImageSetError: no image at all, contrasts or numbers of channels that differ, two images of one name.
    """

    images: tuple[TrainingImage, ...]

    def __post_init__(self) -> None:
        if not self.images:
            raise ImageSetError("no image to train on")
        for what, found in (
            ("contrasts", {image.contrast for image in self.images}),
            ("numbers of channels", {channels(image.image) for image in self.images}),
            ("kinds (with and without a fine image)", {image.fine is None for image in self.images}),
        ):
            if len(found) > 1:
                raise ImageSetError(f"the images to train on have different {what}: {sorted(map(str, found))}")
        names = [image.name for image in self.images]
        if len(set(names)) != len(names):
            raise ImageSetError(f"two images to train on have one name: {sorted(names)}")

    @classmethod
    def from_pair(cls, pair: TrainingPair) -> Self:
        """A pair as a set of one, on the intensity of its low-resolution image."""
        fine = np.asarray(pair.highres * pair.gain, dtype=np.float32)
        image = TrainingImage(
            fine=fine, coarse=np.asarray(pair.lowres, np.float32), mask=pair.highres_mask, contrast=pair.contrast,
            affine=resized_affine(pair.lowres_affine, pair.lowres.shape, pair.highres.shape), name="pair",
        )  # fmt: skip
        return cls(images=(image,))

    @classmethod
    def from_volumes(cls, volumes: Iterable[Array], mask: Array, affine: Array) -> Self:
        """Low-resolution volumes (x, y, z) of one run, for methods that are trained on them alone."""
        images = (
            TrainingImage(
                coarse=np.asarray(volume, np.float32), mask=mask, affine=affine, contrast="bold", name=f"volume-{t}"
            )
            for t, volume in enumerate(volumes)
        )
        return cls(images=tuple(images))

    @classmethod
    def of_run(cls, reader: SeriesReader, mask: Array, n_dummy: int, seed: int) -> Self:
        """Some volumes of a run as acquired (x, y, z, T), in their order in time, and the brain on its grid.

        The first `n_dummy` volumes, whose contrast is another, are left out; `seed` is that of the draw.
        """
        there = np.arange(min(n_dummy, reader.shape[3] - 1), reader.shape[3])
        picked = np.sort(np.random.default_rng(seed).choice(there, min(VOLUMES, len(there)), replace=False))
        return cls.from_volumes([reader.volume(int(t)) for t in picked], mask, reader.affine)

    @property
    def channels(self) -> int:
        """Channels of every image."""
        return channels(self.images[0].image)

    @property
    def contrast(self) -> str:
        """Contrast of every image."""
        return self.images[0].contrast

    def checksums(self) -> dict[str, str]:
        """SHA-256 of each image, by its name."""
        return {image.name: image.checksum() for image in self.images}

    def check(self, factor: Factor, ndim: int) -> None:
        """Refuse a factor or a number of dimensions that the images cannot serve.

        Raises
        ------
        ImageSetError : images whose sizes do not stand in this factor; a single slice
        ResolutionError : a factor below 1
        """
        check_factor(factor)
        for image in self.images:
            if image.shape[2] < 2 and (ndim == 3 or len(self.images) == 1):
                raise ImageSetError(f"{image.name}: a single slice, of which nothing could be held out")
            if image.fine is None or image.coarse is None:
                continue
            wanted = tuple(highres_size(n, f) for n, f in zip(image.coarse.shape[-3:], factor, strict=True))
            if image.shape != wanted:
                raise ImageSetError(
                    f"{image.name}: the coarse image {image.coarse.shape[-3:]} by {factor} is {wanted}, "
                    f"not the fine one's {image.shape}"
                )
