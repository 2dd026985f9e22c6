"""Training examples: windows of images, split into training and held-out regions."""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bids_sr.frozen import frozen
from bids_sr.io.arrays import Array
from bids_sr.io.grids import Factor
from bids_sr.networks.data.images import TrainingDataError, TrainingImages, check_images, checksums
from bids_sr.networks.data.symmetries import Symmetry, apply_symmetry, symmetries
from bids_sr.networks.data.windows import (
    PreparedImage,
    Window,
    corners_inside,
    prepare,
    shift_image,
)
from bids_sr.sr.models.domain import image_entries
from bids_sr.sr.operators import Degradation, get_operator, make_plane_conversion, upsample_slices
from bids_sr.sr.recipe import Recipe

_MIN_MASK_FRACTION = 0.02  # smallest fraction of mask voxels in a slice used for training
_MAX_POSITIONS = 1 << 16  # window positions stored per slice range; a fixed sample, to save memory


@frozen
class Batch:
    """Input, target and weights of one training step.

    Parameters
    ----------
    input : Tensor
        Network input (N, C, *grid).
    target : Tensor
        Images to compare the output with (N, C, *grid).
    weight : Tensor
        Weight of each voxel in the losses (N, C or 1, *grid).
    operator : Degradation | None
        Degradation that downsamples the output before the loss; None if the output is compared
        directly.
    """

    input: Tensor
    target: Tensor
    weight: Tensor
    operator: Degradation | None = None


@frozen
class Region:
    """Range of slices in one image.

    Parameters
    ----------
    image : int
        Index of the image.
    slices : tuple[int, int]
        First slice along the third axis, and the slice after the last.
    """

    image: int = 0
    slices: tuple[int, int]


def split_regions(
    regions: tuple[Region, ...], hold_out: int
) -> tuple[tuple[Region, ...], tuple[Region, ...]]:
    """Split regions into training and held-out regions.

    Every `hold_out`-th region is held out, beginning in the middle of the first `hold_out`
    regions. If `hold_out` is 0, all regions are used for training.
    """
    held_out = regions[min(hold_out // 2, len(regions) - 1) :: hold_out] if hold_out else ()
    return tuple(region for region in regions if region not in held_out), held_out


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """Return the order of patches in an epoch, a permutation of `count` numbers."""
    return np.random.default_rng([seed, 0, epoch]).permutation(count)


_Slice = tuple[int, int]  # image index, and slice index along the third axis


@lru_cache(maxsize=4)
def _slice_batches(
    groups: tuple[tuple[_Slice, ...], ...], size: int, seed: int, epoch: int
) -> tuple[tuple[_Slice, ...], ...]:
    """Divide all slices into the batches of one epoch, in random order.

    A batch contains slices from one group only. The last batch of a group may be smaller than
    `size`.

    Parameters
    ----------
    groups : tuple[tuple[_Slice, ...], ...]
        Slices grouped by in-plane size.
    size : int
        Number of slices per batch.
    seed, epoch : int
        Seed of the training and number of the epoch. Both determine the order.

    Returns
    -------
    tuple[tuple[_Slice, ...], ...]
        Slices of each batch.
    """
    rng = np.random.default_rng([seed, 2, epoch])
    batches = []
    for group in groups:
        order = [group[k] for k in rng.permutation(len(group))]
        batches += [tuple(order[k : k + size]) for k in range(0, len(order), size)]
    return tuple(batches[k] for k in rng.permutation(len(batches)))


class Examples:
    """Training examples cut from images, at the trained factor or at randomly drawn factors.

    Attribute `train` contains the regions used for training, and `held` the held-out regions. If
    any image is marked for validation (`TrainingImage.validation`), the marked images are held
    out. Otherwise, whole images are held out if there are at least three images. With fewer
    images, every n-th slice (2D) or the last n-th of the brain (3D) of each image is held out,
    with n from the recipe (`Recipe.hold_out`).

    Raises
    ------
    ValueError
        If the images or the recipe cannot be used for training (see `check_images`).
    """

    def __init__(
        self,
        images: TrainingImages,
        recipe: Recipe,
        factor: Factor,
        ndim: int,
        device: str = "cpu",
    ) -> None:
        check_images(images, recipe, factor, ndim)
        self.images, self.recipe, self.factor, self.ndim, self.device = (
            images,
            recipe,
            factor,
            ndim,
            device,
        )
        self.channels = images[0].channels
        # window borders must coincide with voxel borders of the low-resolution grid
        self.aligned = recipe.upsampled_by is None or recipe.objective == "self"
        self._prepared: dict[tuple[int, Factor], PreparedImage] = {}
        self._places: dict[tuple[object, ...], NDArray[np.int64]] = {}
        self._usable = [self._usable_slices(k) for k in range(len(images))]
        self.train, self.held = self._parts()
        if recipe.epochs_of_slices:
            groups = self._slice_groups(self.train)
            count = sum(-(-len(group) // recipe.batch) for group in groups)
            self.recipe = replace(recipe, slice_batches=count)

    @property
    def slice_count(self) -> int:
        """Number of whole slices available for training."""
        return sum(len(group) for group in self._slice_groups(self.train))

    def prepare(self, index: int, factor: Factor | None = None) -> PreparedImage:
        """Return an image prepared at a factor (default: the trained factor).

        Each image is prepared once per factor and cached.
        """
        key = (index, factor or self.factor)
        if key not in self._prepared:
            self._prepared[key] = prepare(self.images[index], self.recipe, key[1], self.device)
        return self._prepared[key]

    def _usable_slices(self, index: int) -> list[int]:
        """Return the indices of the slices that show enough of the head.

        A slice is usable if at least 2 % of its voxels are in the mask. For epochs of whole
        slices, one mask voxel is sufficient. If the recipe uses every slice, all indices are
        returned.
        """
        if self.recipe.every_slice:
            return list(range(self.prepare(index).shape[2]))
        part = self.prepare(index).inside[0].float().mean((0, 1))
        if self.recipe.epochs_of_slices:
            return [int(z) for z in torch.nonzero(part).flatten()]
        return [int(z) for z in torch.nonzero(part >= _MIN_MASK_FRACTION).flatten()]

    def _parts(self) -> tuple[tuple[Region, ...], tuple[Region, ...]]:
        """Divide the images into training and held-out regions."""
        hold_out = self.recipe.hold_out
        count = len(self.images)
        if any(image.validation for image in self.images):
            regions = [
                Region(image=k, slices=(0, self.prepare(k).shape[2]))
                for k in range(len(self.images))
            ]
            return tuple(p for p in regions if not self.images[p.image].validation), tuple(
                p for p in regions if self.images[p.image].validation
            )
        if self.ndim == 2 and count < 3:
            slices = tuple(
                Region(image=k, slices=(z, z + 1)) for k in range(count) for z in self._usable[k]
            )
            if len(slices) < 2:
                raise TrainingDataError(
                    f"only {len(slices)} slices contain enough of the mask, but at least 2 "
                    "are required, because some slices are held out"
                )
            return split_regions(slices, hold_out)
        depth = [self.prepare(k).shape[2] for k in range(count)]
        if not hold_out or count >= 3:
            return split_regions(
                tuple(Region(image=k, slices=(0, n)) for k, n in enumerate(depth)), hold_out
            )
        train, held_out = [], []
        for k, n in enumerate(depth):
            p = self.prepare(k).steps[2][0]
            brain = self._usable[k] or [0, n - 1]
            part = max(1, (brain[-1] + 1 - brain[0]) // hold_out)
            train_end = max(p, (brain[-1] + 1 - part) // p * p)
            if train_end >= n:
                raise TrainingDataError(
                    f"{self.images[k].name}: {n} slices are too few to hold out some of the "
                    "slices for validation"
                )
            train.append(Region(image=k, slices=(0, train_end)))
            held_out.append(Region(image=k, slices=(train_end, n)))
        return tuple(train), tuple(held_out)

    def batch(
        self,
        rng: np.random.Generator,
        regions: Sequence[Region],
        *,
        iteration: int,
        seed: int,
        size: int,
    ) -> Batch:
        """Draw the batch of one training step.

        Random choices depend on `rng`. The windows are an exception if the recipe specifies a
        number of patches or epochs of whole slices: they then depend on `seed` and `iteration`,
        unless the augmentation requires whole slices.

        Parameters
        ----------
        rng : numpy.random.Generator
            Random generator of the training step.
        regions : Sequence[Region]
            Regions to draw windows from.
        iteration : int
            Number of the training step, counted from 0.
        seed : int
            Seed of the training.
        size : int
            Number of windows in the batch.
        """
        augmentation, factor = self.recipe.augmentation, self.factor
        if self.recipe.factors:
            factor = self.draw_factor(float(rng.choice(np.array(self.recipe.factors))))
        if augmentation.of_whole_slices:
            selection = self._slices(rng, regions, size)
        else:
            selection = self.windows(
                rng, regions, factor, iteration=iteration, seed=seed, size=size
            )
        chosen_symmetries: list[Symmetry] = []
        if augmentation.dihedral:
            all_symmetries = self.symmetries(factor, [b - a for a, b in selection[0][1]])
            chosen_symmetries = [
                all_symmetries[int(k)]
                for k in rng.integers(len(all_symmetries), size=len(selection))
            ]
        if augmentation.of_whole_slices:
            return self._vary(rng, selection, chosen_symmetries)
        batch = self.cut_windows(selection, factor, self.recipe.background, chosen_symmetries)
        gain = float(np.exp(rng.normal(0, augmentation.gain)))
        return replace(batch, input=batch.input * gain, target=batch.target * gain)

    def draw_factor(self, zoom_ratio: float) -> Factor:
        """Return a factor with the drawn value along every axis that is downsampled in training.

        `zoom_ratio` is the ratio of low-resolution to high-resolution voxel size.
        """
        fx, fy, fz = (zoom_ratio if f != 1 else 1.0 for f in self.factor)
        return fx, fy, fz

    def symmetries(self, factor: Factor, sides: Sequence[int]) -> tuple[Symmetry, ...]:
        """Return the flips and axis exchanges that are possible for windows at a factor.

        `sides` are the side lengths of the windows in voxels.
        """
        zooms = self.images[0].zooms
        return symmetries(
            sides[: self.ndim],
            zooms[: self.ndim],
            factor[: self.ndim],
            self.recipe.degradation,
        )

    def windows(
        self,
        rng: np.random.Generator,
        window_regions: Sequence[Region],
        factor: Factor,
        *,
        iteration: int,
        seed: int,
        size: int,
    ) -> list[tuple[int, Window]]:
        """Return the image index and the window for each member of a batch.

        Parameters
        ----------
        rng : numpy.random.Generator
            Random generator of the training step.
        window_regions : Sequence[Region]
            Regions to draw windows from.
        factor : Factor
            Ratio of low-resolution to high-resolution voxel size.
        iteration : int
            Number of the training step, counted from 0.
        seed : int
            Seed of the training.
        size : int
            Number of windows in the batch.
        """
        sources = [rng] * size
        if self.recipe.epochs_of_slices and not self.recipe.factors:
            return self._slices_of_epoch(window_regions, iteration=iteration, seed=seed, size=size)
        count = self.recipe.patches
        # `count` fixed patches, each used once per epoch, in an order that differs between epochs.
        # Whole volumes are drawn anew in each epoch.
        if count is not None:
            window_numbers = range(iteration * size, (iteration + 1) * size)
            draws_windows = self.recipe.patch is None and self.ndim == 3
            sources = [
                np.random.default_rng(
                    [
                        seed,
                        1,
                        k if draws_windows else int(_order(seed, k // count, count)[k % count]),
                    ]
                )
                for k in window_numbers
            ]
        regions = [window_regions[int(source.integers(len(window_regions)))] for source in sources]
        if (
            self.recipe.patch is None
            and len({self.prepare(r.image, factor).shape for r in regions}) > 1
        ):
            # whole images of different sizes cannot be combined in a batch
            regions = [regions[0]] * size
        slice_ranges = [(r.image, self.slice_range(r, factor)) for r in regions]
        sides = self._sides(slice_ranges, factor)
        out = []
        for (index, slices), source in zip(slice_ranges, sources, strict=True):
            corners = self._corners(index, factor, slices, sides)
            x, y, z = corners[source.integers(len(corners), size=1)[0]].tolist()
            corner = (x, y, z + slices[0])
            out.append(
                (
                    index,
                    tuple(
                        (start, start + side) for start, side in zip(corner, sides, strict=True)
                    ),
                )
            )
        return out

    def _slice_groups(self, regions: Sequence[Region]) -> tuple[tuple[_Slice, ...], ...]:
        """Return all slices in the regions that show the head, grouped by in-plane size."""
        groups: dict[tuple[int, ...], list[_Slice]] = {}
        for region in regions:
            first, end = region.slices
            groups.setdefault(self.prepare(region.image).shape[:2], []).extend(
                (region.image, z) for z in self._usable[region.image] if first <= z < end
            )
        return tuple(tuple(group) for group in groups.values() if group)

    def _slices_of_epoch(
        self, regions: Sequence[Region], *, iteration: int, seed: int, size: int
    ) -> list[tuple[int, Window]]:
        """Return the whole slices of one training step.

        Each slice of the regions is used once per epoch. `iteration` is the number of the training
        step, counted from 0, and `size` the number of slices per batch.
        """
        groups = self._slice_groups(regions)
        count = sum(-(-len(group) // size) for group in groups)
        epoch, step = divmod(iteration, count)
        batch = _slice_batches(groups, size, seed, epoch)[step]
        return [(image, self.prepare(image).slice_box(z)) for image, z in batch]

    def slice_range(self, region: Region, factor: Factor) -> tuple[int, int]:
        """Return the slice range of a region on the grid of another factor, (first, last + 1)."""
        depth = self.prepare(region.image).shape[2]
        image = self.prepare(region.image, factor)
        low, high = (min(image.shape[2], z * image.shape[2] // depth) for z in region.slices)
        step = image.steps[2][0] if self.aligned else 1
        return low // step * step, high

    def _sides(
        self, slice_ranges: Sequence[tuple[int, tuple[int, int]]], factor: Factor
    ) -> tuple[int, ...]:
        """Return the side lengths of the windows of a batch (voxels along x, y and z).

        The side lengths are the recipe's patch size, reduced to the smallest image and to whole
        low-resolution voxels. `slice_ranges` contains the image index and the slice range (first,
        last + 1) of each window.
        """
        shapes = [
            (*self.prepare(i, factor).shape[:2], high - low) for i, (low, high) in slice_ranges
        ]
        smallest = [min(shape[axis] for shape in shapes) for axis in range(self.ndim)]
        patch = self.recipe.patch
        if patch is not None:
            patch_sides = (patch,) * self.ndim if isinstance(patch, int) else patch
            smallest = [min(n, side) for n, side in zip(smallest, patch_sides, strict=True)]
        if self.aligned:  # a window that spans a whole in-plane axis needs no rounding
            spans_axis = [
                axis < 2 and {n} == {shape[axis] for shape in shapes}
                for axis, n in enumerate(smallest)
            ]
            steps = self.prepare(slice_ranges[0][0], factor).steps
            smallest = [
                n if spans else n // p * p
                for n, spans, (p, _) in zip(smallest, spans_axis, steps, strict=False)
            ]
        return tuple(smallest) if self.ndim == 3 else (*smallest, 1)

    def _corners(
        self, index: int, factor: Factor, slices: tuple[int, int], sides: tuple[int, ...]
    ) -> Array:
        """Return window corners in a range of slices (N, 3).

        The third coordinate is counted from the first slice of the range.

        Parameters
        ----------
        index : int
            Index of the image.
        factor : Factor
            Ratio of low-resolution to high-resolution voxel size.
        slices : tuple[int, int]
            First slice of the range, and the slice after the last.
        sides : tuple[int, ...]
            Side lengths of the windows (voxels).
        """
        key = (index, factor, slices, sides)
        if key not in self._places:
            inside = self.prepare(index, factor).inside[0, ..., slice(*slices)].cpu().numpy()
            if self.recipe.every_slice and not inside.any():
                # in slices outside the head, windows may be at any position
                inside = np.ones_like(inside)
            positions = np.flatnonzero(inside)
            if len(positions) > _MAX_POSITIONS:
                inside = np.zeros(inside.shape, dtype=bool)
                inside.flat[
                    np.random.default_rng(0).choice(positions, _MAX_POSITIONS, replace=False)
                ] = True
            steps = [p if self.aligned else 1 for p, _ in self.prepare(index, factor).steps]
            try:
                self._places[key] = corners_inside(inside, sides, steps)
            except TrainingDataError as error:
                name = self.images[index].name
                raise TrainingDataError(
                    f"{name}, slices {slices[0]} to {slices[1] - 1}: {error}"
                ) from error
        return self._places[key]

    def cut_windows(
        self,
        image_windows: Sequence[tuple[int, Window]],
        factor: Factor,
        background: float,
        window_symmetries: Sequence[Symmetry] = (),
    ) -> Batch:
        """Cut windows from the images, and combine them in a batch.

        Parameters
        ----------
        image_windows : Sequence[tuple[int, Window]]
            Image index and window of each member. All windows have equal side lengths.
        factor : Factor
            Ratio of low-resolution to high-resolution voxel size.
        background : float
            Weight of voxels outside the mask.
        window_symmetries : Sequence[Symmetry], optional
            Symmetry applied to each window. By default, windows are not transformed.
        """
        stacks: tuple[list[Tensor], list[Tensor], list[Tensor]] = ([], [], [])
        on_coarse = self.recipe.objective == "self"
        for k, (index, box) in enumerate(image_windows):
            image = self.prepare(index, factor)
            highres_slices = tuple(slice(a, b) for a, b in box)
            coarse = image.lowres_voxels(box)
            target_box = coarse if on_coarse else highres_slices
            mask = image.inside_coarse if on_coarse else image.inside
            weight = mask[(slice(None), *target_box)].float()
            slices = (
                image.source[
                    (
                        slice(None),
                        *(coarse if self.recipe.upsampled_by is None else highres_slices),
                    )
                ],
                image.target[(slice(None), *target_box)],
                weight + background * (1 - weight),
            )
            for stack, part in zip(stacks, slices, strict=True):
                flat = part if self.ndim == 3 else part[..., 0]
                stack.append(
                    apply_symmetry(flat, window_symmetries[k]) if window_symmetries else flat
                )
        operator = None
        if on_coarse:
            shape = tuple(b - a for a, b in image_windows[0][1])[: self.ndim]
            operator = get_operator(
                self.recipe.degradation,
                shape,
                tuple(factor[: self.ndim]),
                tuple(stacks[1][0].shape[1:]),
            )
        source, target, weight = (torch.stack(stack).contiguous() for stack in stacks)
        return Batch(input=source, target=target, weight=weight, operator=operator)

    def _slices(
        self, rng: np.random.Generator, regions: Sequence[Region], size: int
    ) -> list[tuple[int, Window]]:
        """Draw whole slices that show enough of the head, if possible without replacement."""
        slices = [
            (r.image, z)
            for r in regions
            for z in self._usable[r.image]
            if r.slices[0] <= z < r.slices[1]
        ]
        # slices of different sizes cannot be combined in a batch
        if len({self.prepare(r.image).shape[:2] for r in regions}) > 1:
            image = regions[int(rng.integers(len(regions)))].image
            slices = [candidate for candidate in slices if candidate[0] == image]
        selection = [
            slices[int(k)] for k in rng.choice(len(slices), size, replace=size > len(slices))
        ]
        return [(index, self.prepare(index).slice_box(z)) for index, z in selection]

    def _vary(
        self,
        rng: np.random.Generator,
        image_windows: Sequence[tuple[int, Window]],
        window_symmetries: Sequence[Symmetry],
    ) -> Batch:
        """Return a batch of slices with varied intensity and position (see `Augmentation`)."""
        augmentation = self.recipe.augmentation
        images = [(self.prepare(index), box[2][0]) for index, box in image_windows]
        lowres, target, weight = (
            torch.stack([volume[..., z] for volume, z in stack])
            for stack in zip(
                *(((i.coarse, z), (i.target, z), (i.inside.float(), z)) for i, z in images),
                strict=True,
            )
        )
        level = make_plane_conversion(lowres, self.factor[:2])
        residue = lowres - level.downsample(target)
        # The inverse symmetries are used, so that a seed gives the same weights as in earlier
        # versions, which trained only on whole slices.
        if window_symmetries:
            target, residue, weight = (
                torch.stack(
                    [
                        apply_symmetry(image, symmetry, inverse=True)
                        for image, symmetry in zip(stack, window_symmetries, strict=True)
                    ]
                )
                for stack in (target, residue, weight)
            )
        shift = (
            float(rng.uniform(-augmentation.shift, augmentation.shift)),
            float(rng.uniform(-augmentation.shift, augmentation.shift)),
        )
        gamma, gain = (
            float(np.exp(rng.normal(0, sd))) for sd in (augmentation.gamma, augmentation.gain)
        )
        noise_sd = float(rng.uniform(0, 2 * augmentation.noise))
        noise_seed = int(rng.integers(2**31))
        if shift != (0.0, 0.0):
            target = shift_image(target, shift)
        # The residue is mainly noise of the low-resolution image. The gain scales it, whereas the
        # exponent hardly affects it.
        target = target.sign() * target.abs() ** gamma * gain
        lowres = level.downsample(target) + residue * gain
        if noise_sd:
            generator = torch.Generator().manual_seed(noise_seed)
            noise = noise_sd * torch.randn(lowres.shape, generator=generator).to(lowres.device)
            lowres, target = lowres + noise, target + level.upsample(noise)
        source = upsample_slices(lowres, self.factor[:2], self.recipe.upsampled_by)
        return Batch(
            input=source, target=target, weight=weight + self.recipe.background * (1 - weight)
        )

    def describe_regions(
        self, regions: Sequence[Region], boxes: Sequence[tuple[int, Window]] = ()
    ) -> dict[str, object]:
        """Describe regions and scored windows for the model card.

        Parameters
        ----------
        regions : Sequence[Region]
            Regions of the images.
        boxes : Sequence[tuple[int, Window]], optional
            Image index and window for each scored window.
        """
        names = [image.name for image in self.images]
        return {
            "parts": [{"image": names[r.image], "slices": list(r.slices)} for r in regions],
            "windows": [
                {"image": names[image], "box": [list(side) for side in box]}
                for image, box in boxes
            ],
        }

    def describe(self) -> dict[str, object]:
        """Describe the data for the model card.

        Resolution, orientation and intensity are taken from the first image.
        """
        first = self.images[0]
        prepared = self.prepare(0)
        zooms = np.asarray(first.zooms)
        step = np.array([p / q for p, q in prepared.steps])
        high_mm, low_mm = (
            (zooms, zooms * step) if first.fine is not None else (zooms / step, zooms)
        )
        unit = "the 99th percentile of each low-resolution image within the mask is scaled to 1"
        if self.recipe.intensity == "unit":
            unit = "the maximum of each low-resolution image is scaled to 1"
        elif self.recipe.intensity == "range":
            unit = "the minimum of each low-resolution image is scaled to 0 and the maximum to 1"
        origin = (
            f"computed from the high-resolution images by downsampling ({self.recipe.degradation})"
        )
        image = prepared.coarse[0].cpu().numpy()
        mask = prepared.inside_coarse[0].cpu().numpy()
        return image_entries(
            image, mask, first.affine, self.factor, sizes_mm=(low_mm, high_mm)
        ) | {
            "contrast": first.contrast,
            "data_sha256": checksums(self.images),
            "factors": list(self.recipe.factors),
            "channels": self.channels,
            "images": [member.name for member in self.images],
            "coarse_images": origin if first.coarse is None else "measured",
            "intensity": {
                "scale": [float(v) for v in prepared.level],
                "headroom": [round(float(v), 6) for v in prepared.headroom],
                "rule": unit,
                **(
                    {"lowest": [float(v) for v in prepared.lowest]}
                    if prepared.lowest.any()
                    else {}
                ),
                **({} if first.gain is None else {"highres_gain": first.gain}),
            },
        }
