"""Training examples: windows of images, split into training and held-out slabs."""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bids_sr.io.arrays import Array
from bids_sr.io.frozen import frozen
from bids_sr.io.grids import Factor
from bids_sr.io.notices import InvalidInput
from bids_sr.sr.models.compatibility import describe_grids
from bids_sr.sr.networks.data.images import (
    TrainingImages,
    check_images,
    checksums,
)
from bids_sr.sr.networks.data.symmetries import Symmetry, apply_symmetry, list_symmetries
from bids_sr.sr.networks.data.windows import (
    PreparedImage,
    Window,
    find_corners,
    index_window,
    prepare,
    round_down,
    shift_image,
)
from bids_sr.sr.operators import Degradation, get_operator, make_plane_conversion, upsample_slices
from bids_sr.sr.recipe import Augmentation, Recipe

_MIN_MASK_FRACTION = 0.02  # smallest fraction of mask voxels in a slice used for training
_MAX_POSITIONS = 1 << 16  # window positions stored per slice range; a fixed sample, to save memory
# description of the intensity scale in the model card, by the recipe's rule (`Recipe.intensity`)
_INTENSITY_RULES = {
    "percentile": (
        "the 99th percentile of each low-resolution image within the mask is scaled to 1"
    ),
    "unit": "the maximum of each low-resolution image is scaled to 1",
    "range": "the minimum of each low-resolution image is scaled to 0 and the maximum to 1",
}

_Slice = tuple[int, int]  # image index, and slice index along the third axis
_ImageWindow = tuple[int, Window]  # image index, and window in this image


@frozen
class Batch:
    """Input, target and weights of one training step.

    The network output for `input` is compared with `target` (N, C, *grid); `weight` is the weight
    of each voxel in the losses (N, C or 1, *grid). `operator` downsamples the output before the
    loss; None if the output is compared directly.
    """

    input: Tensor
    target: Tensor
    weight: Tensor
    operator: Degradation | None = None

    def to_target_grid(self, output: Tensor) -> Tensor:
        """Return a network output (N, C, *grid) on the grid of the target."""
        return output if self.operator is None else self.operator.forward(output)


@frozen
class Slab:
    """Adjacent slices of one image.

    `image` is an index, and `slices` are the first slice along the third axis, and the slice after
    the last.
    """

    image: int = 0
    slices: tuple[int, int]


_Slabs = tuple[Slab, ...]


class _Member(NamedTuple):
    """Network input, target and voxel weights of one member of a batch (C, *grid)."""

    source: Tensor
    target: Tensor
    weight: Tensor


class Examples:
    """Training examples cut from images, at the trained factor or at randomly drawn factors.

    Attribute `training_slabs` contains the slabs used for training, and `held_out_slabs` the
    slabs that are only scored. If any image is marked for validation
    (`TrainingImage.validation`), the marked images are held out. Otherwise, whole images are held
    out if there are at least three images. With fewer images, every n-th slice (2D) or the last
    n-th of the brain (3D) of each image is held out, with n from the recipe (`Recipe.hold_out`).

    `factor` is the trained ratio of low-resolution to high-resolution voxel size, `ndim` the
    number of dimensions of the windows, 2 or 3, and `device` the torch device of the windows.
    Raises `InvalidInput` if the images cannot be used for training (see `check_images`).
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
        self.images = images
        self.recipe = recipe
        self.factor = factor
        self.ndim = ndim
        self.device = device
        self.channels = images[0].channels
        # window borders must coincide with voxel borders of the low-resolution grid
        self.is_aligned = recipe.upsampled_by is None or recipe.objective == "self"
        self._prepared_images: dict[tuple[int, Factor], PreparedImage] = {}
        self._window_corners: dict[tuple[object, ...], NDArray[np.int64]] = {}
        self._usable_slices = [self._find_usable_slices(k) for k in range(len(images))]
        self.training_slabs, self.held_out_slabs = self._split_images()
        if recipe.epochs_of_slices:
            groups = self._group_slices()
            self.recipe = replace(recipe, slice_batches=_count_batches(groups, recipe.batch))

    def _find_usable_slices(self, index: int) -> list[int]:
        """Return the indices of the slices that show enough of the head.

        A slice is usable if at least 2 % of its voxels are in the mask. For epochs of whole
        slices, one mask voxel is sufficient. If the recipe uses every slice, all indices are
        returned.
        """
        image = self.prepare(index)
        if self.recipe.every_slice:
            return list(range(image.shape[2]))
        mask_fractions = image.mask[0].float().mean((0, 1))
        is_usable = (
            mask_fractions > 0
            if self.recipe.epochs_of_slices
            else mask_fractions >= _MIN_MASK_FRACTION
        )
        return [int(z) for z in torch.nonzero(is_usable).flatten()]

    def _split_images(self) -> tuple[_Slabs, _Slabs]:
        """Return the training and held-out slabs by the rules of the class."""
        if any(image.validation for image in self.images):
            return self._split_by_marks()
        has_few_images = len(self.images) < 3
        if self.ndim == 2 and has_few_images:
            return self._split_slices()
        if self.recipe.hold_out and has_few_images:
            return self._split_volumes()
        return split_slabs(self._list_whole_images(), self.recipe.hold_out)

    def _split_by_marks(self) -> tuple[_Slabs, _Slabs]:
        """Hold out the images that are marked for validation."""
        slabs = self._list_whole_images()
        return (
            tuple(slab for slab in slabs if not self.images[slab.image].validation),
            tuple(slab for slab in slabs if self.images[slab.image].validation),
        )

    def _list_whole_images(self) -> _Slabs:
        """Return one slab per image, with all of its slices."""
        return tuple(
            Slab(image=k, slices=(0, self.prepare(k).shape[2])) for k in range(len(self.images))
        )

    def _split_slices(self) -> tuple[_Slabs, _Slabs]:
        """Hold out every n-th usable slice."""
        slabs = tuple(
            Slab(image=k, slices=(z, z + 1))
            for k, usable_slices in enumerate(self._usable_slices)
            for z in usable_slices
        )
        if len(slabs) < 2:
            raise InvalidInput(
                f"only {len(slabs)} slices contain enough of the mask, but at least 2 "
                "are required, because some slices are held out"
            )
        return split_slabs(slabs, self.recipe.hold_out)

    def _split_volumes(self) -> tuple[_Slabs, _Slabs]:
        """Hold out the last n-th of the brain of each image."""
        training_slabs, held_out_slabs = [], []
        for k, usable_slices in enumerate(self._usable_slices):
            image = self.prepare(k)
            depth = image.shape[2]
            step = image.ratios[2][0]
            first, last = (
                (usable_slices[0], usable_slices[-1]) if usable_slices else (0, depth - 1)
            )
            n_held_out = max(1, (last + 1 - first) // self.recipe.hold_out)
            boundary = max(step, round_down(last + 1 - n_held_out, step))
            if boundary >= depth:
                raise InvalidInput(
                    f"{depth} slices are too few to hold out some of the slices for validation",
                    file=self.images[k].name,
                )
            training_slabs.append(Slab(image=k, slices=(0, boundary)))
            held_out_slabs.append(Slab(image=k, slices=(boundary, depth)))
        return tuple(training_slabs), tuple(held_out_slabs)

    @property
    def slice_count(self) -> int:
        """Number of whole slices available for training."""
        return sum(len(group) for group in self._group_slices())

    def prepare(self, index: int, factor: Factor | None = None) -> PreparedImage:
        """Return an image prepared at a factor (default: the trained factor).

        Each image is prepared once per factor and cached.
        """
        prepared_factor = factor or self.factor
        key = (index, prepared_factor)
        if key not in self._prepared_images:
            self._prepared_images[key] = prepare(
                self.images[index], self.recipe, prepared_factor, self.device
            )
        return self._prepared_images[key]

    def draw_batch(
        self,
        rng: np.random.Generator,
        *,
        iteration: int,
        seed: int,
        size: int,
    ) -> Batch:
        """Draw the batch of one training step.

        Random choices depend on `rng`. The windows are an exception if the recipe specifies a
        number of patches or epochs of whole slices: they then depend on `seed` and `iteration`,
        unless the augmentation requires whole slices.

        `iteration` is the number of the training step, counted from 0, `seed` the seed of the
        training, and `size` the number of windows in the batch.
        """
        augmentation, factor = self.recipe.augmentation, self.factor
        if self.recipe.factors:
            factor = self.make_factor(float(rng.choice(np.array(self.recipe.factors))))
        if augmentation.of_whole_slices:
            image_windows = self._draw_whole_slices(rng, size)
            window_symmetries = self._draw_symmetries(rng, image_windows, factor)
            return self._vary_slices(rng, image_windows, window_symmetries)
        image_windows = self.draw_windows(rng, factor, iteration=iteration, seed=seed, size=size)
        window_symmetries = self._draw_symmetries(rng, image_windows, factor)
        batch = self.cut_windows(image_windows, factor, self.recipe.background, window_symmetries)
        gain = float(np.exp(rng.normal(0, augmentation.gain)))
        return replace(batch, input=batch.input * gain, target=batch.target * gain)

    def _draw_whole_slices(self, rng: np.random.Generator, size: int) -> list[_ImageWindow]:
        """Draw whole slices that show enough of the head, if possible without replacement."""
        slabs = self.training_slabs
        candidates = [candidate for slab in slabs for candidate in self._list_slices(slab)]
        # slices of different sizes cannot be combined in a batch
        if len({self.prepare(slab.image).shape[:2] for slab in slabs}) > 1:
            drawn_image = slabs[int(rng.integers(len(slabs)))].image
            candidates = [(image, z) for image, z in candidates if image == drawn_image]
        has_too_few = size > len(candidates)
        slices = [
            candidates[int(k)] for k in rng.choice(len(candidates), size, replace=has_too_few)
        ]
        return [(index, self.prepare(index).get_slice_window(z)) for index, z in slices]

    def _draw_symmetries(
        self, rng: np.random.Generator, image_windows: Sequence[_ImageWindow], factor: Factor
    ) -> list[Symmetry]:
        """Draw a symmetry for each window; empty if the recipe does not use symmetries."""
        if not self.recipe.augmentation.dihedral:
            return []
        _, first_window = image_windows[0]
        possible_symmetries = self.list_symmetries(factor, _get_sides(first_window))
        return [
            possible_symmetries[int(k)]
            for k in rng.integers(len(possible_symmetries), size=len(image_windows))
        ]

    def _vary_slices(
        self,
        rng: np.random.Generator,
        image_windows: Sequence[_ImageWindow],
        window_symmetries: Sequence[Symmetry],
    ) -> Batch:
        """Return a batch of whole slices with varied intensity and position."""
        slices = [(self.prepare(index), window[2][0]) for index, window in image_windows]
        lowres = torch.stack([image.lowres[..., z] for image, z in slices])
        target = torch.stack([image.target[..., z] for image, z in slices])
        weight = torch.stack([image.mask.float()[..., z] for image, z in slices])
        conversion = make_plane_conversion(lowres, self.factor[:2])
        # mainly noise of the low-resolution image
        residue = lowres - conversion.downsample(target)
        # The inverse symmetries are used, so that a seed gives the same weights as in earlier
        # versions, which trained only on whole slices.
        if window_symmetries:
            target, residue, weight = (
                _apply_inverses(images, window_symmetries) for images in (target, residue, weight)
            )
        variation = _draw_variation(rng, self.recipe.augmentation)
        if variation.shift != (0.0, 0.0):
            target = shift_image(target, variation.shift)
        # the gain scales the residue, whereas the exponent hardly affects it
        varied_target = target.sign() * target.abs() ** variation.gamma * variation.gain
        varied_lowres = conversion.downsample(varied_target) + residue * variation.gain
        if variation.noise_sd:
            noise = variation.make_noise(varied_lowres)
            varied_lowres = varied_lowres + noise
            varied_target = varied_target + conversion.upsample(noise)
        return Batch(
            input=upsample_slices(varied_lowres, self.factor[:2], self.recipe.upsampled_by),
            target=varied_target,
            weight=weight + self.recipe.background * (1 - weight),
        )

    def make_factor(self, zoom_ratio: float) -> Factor:
        """Return a factor of `zoom_ratio` along every axis that is downsampled in training.

        `zoom_ratio` is the ratio of low-resolution to high-resolution voxel size.
        """
        fx, fy, fz = (zoom_ratio if f != 1 else 1.0 for f in self.factor)
        return fx, fy, fz

    def list_symmetries(self, factor: Factor, sides: Sequence[int]) -> tuple[Symmetry, ...]:
        """Return the flips and axis exchanges that are possible for windows at a factor.

        `sides` are the side lengths of the windows in voxels.
        """
        zooms = self.images[0].zooms
        return list_symmetries(
            sides[: self.ndim],
            zooms[: self.ndim],
            factor[: self.ndim],
            self.recipe.degradation,
        )

    def draw_windows(
        self,
        rng: np.random.Generator,
        factor: Factor,
        *,
        iteration: int,
        seed: int,
        size: int,
    ) -> list[_ImageWindow]:
        """Return the image index and the window for each member of a batch.

        `factor` is the ratio of low-resolution to high-resolution voxel size. `iteration` is the
        number of the training step, counted from 0, `seed` the seed of the training, and `size`
        the number of windows in the batch.
        """
        if self.recipe.epochs_of_slices and not self.recipe.factors:
            return self._select_epoch_slices(iteration=iteration, seed=seed, size=size)
        if self.recipe.patches is None:
            generators = [rng] * size
        else:
            generators = self._make_patch_generators(
                self.recipe.patches, iteration=iteration, seed=seed, size=size
            )
        window_slabs = self._draw_slabs(generators, factor)
        slice_ranges = [
            (slab.image, self.compute_slice_range(slab, factor)) for slab in window_slabs
        ]
        sides = self._compute_sides(slice_ranges, factor)
        return [
            (index, self._draw_window(generator, index, factor, slices, sides))
            for (index, slices), generator in zip(slice_ranges, generators, strict=True)
        ]

    def _select_epoch_slices(self, *, iteration: int, seed: int, size: int) -> list[_ImageWindow]:
        """Return the whole slices of one training step.

        Each slice is used once per epoch. `iteration` is the number of the training
        step, counted from 0, and `size` the number of slices per batch.
        """
        groups = self._group_slices()
        epoch, step = divmod(iteration, _count_batches(groups, size))
        batch = _shuffle_slices(groups, size, seed, epoch)[step]
        return [(image, self.prepare(image).get_slice_window(z)) for image, z in batch]

    def _group_slices(self) -> tuple[tuple[_Slice, ...], ...]:
        """Return all training slices that show the head, grouped by in-plane size."""
        groups: dict[tuple[int, ...], list[_Slice]] = {}
        for slab in self.training_slabs:
            in_plane_shape = self.prepare(slab.image).shape[:2]
            groups.setdefault(in_plane_shape, []).extend(self._list_slices(slab))
        return tuple(tuple(group) for group in groups.values() if group)

    def _list_slices(self, slab: Slab) -> list[_Slice]:
        """Return the slices of a slab that show enough of the head."""
        first, end = slab.slices
        return [(slab.image, z) for z in self._usable_slices[slab.image] if first <= z < end]

    def _make_patch_generators(
        self, count: int, *, iteration: int, seed: int, size: int
    ) -> list[np.random.Generator]:
        """Return a random generator for each window of a batch, from `count` fixed patches.

        Each patch is used once per epoch, in an order that differs between epochs. Whole volumes
        are drawn anew in each epoch.
        """
        draws_whole_volumes = self.recipe.patch is None and self.ndim == 3
        window_numbers = range(iteration * size, (iteration + 1) * size)
        if draws_whole_volumes:
            patch_numbers = list(window_numbers)
        else:
            patch_numbers = [
                int(_shuffle_patches(seed, k // count, count)[k % count]) for k in window_numbers
            ]
        return [np.random.default_rng([seed, 1, number]) for number in patch_numbers]

    def _draw_slabs(self, generators: Sequence[np.random.Generator], factor: Factor) -> list[Slab]:
        """Draw a slab for each window of a batch."""
        slabs = self.training_slabs
        window_slabs = [slabs[int(generator.integers(len(slabs)))] for generator in generators]
        if self.recipe.patch is not None:
            return window_slabs
        shapes = {self.prepare(slab.image, factor).shape for slab in window_slabs}
        # whole images of different sizes cannot be combined in a batch
        return window_slabs if len(shapes) == 1 else window_slabs[:1] * len(generators)

    def _compute_sides(
        self, slice_ranges: Sequence[tuple[int, tuple[int, int]]], factor: Factor
    ) -> tuple[int, ...]:
        """Return the side lengths of the windows of a batch (voxels along x, y and z).

        The side lengths are the recipe's patch size, reduced to the smallest image and to whole
        low-resolution voxels. `slice_ranges` contains the image index and the slice range (first,
        last + 1) of each window.
        """
        shapes = [
            (*self.prepare(index, factor).shape[:2], end - first)
            for index, (first, end) in slice_ranges
        ]
        sides = [min(shape[axis] for shape in shapes) for axis in range(self.ndim)]
        patch = self.recipe.patch
        if patch is not None:
            patch_sides = (patch,) * self.ndim if isinstance(patch, int) else patch
            sides = [min(n, side) for n, side in zip(sides, patch_sides, strict=True)]
        if self.is_aligned:
            first_index, _ = slice_ranges[0]
            sides = _align_sides(sides, shapes, self.prepare(first_index, factor).ratios)
        return tuple(sides) if self.ndim == 3 else (*sides, 1)

    def count_positions(self) -> int | None:
        """Return the smallest number of positions of a patch in the slices of a training slab.

        None if the network is not trained on patches, or without high-resolution images.
        """
        if self.recipe.patch is None or self.recipe.objective == "self":
            return None
        counts = []
        for slab in self.training_slabs:
            slices = self.compute_slice_range(slab, self.factor)
            sides = self._compute_sides([(slab.image, slices)], self.factor)
            corners = self._find_corners(slab.image, self.factor, slices, sides)
            counts.append(len(np.unique(corners[:, : self.ndim], axis=0)))
        return min(counts)

    def _draw_window(
        self,
        generator: np.random.Generator,
        index: int,
        factor: Factor,
        slices: tuple[int, int],
        sides: tuple[int, ...],
    ) -> Window:
        """Draw a window in a range of slices; see `_find_corners` for the parameters."""
        corners = self._find_corners(index, factor, slices, sides)
        x, y, z = corners[generator.integers(len(corners), size=1)[0]].tolist()
        corner = (x, y, z + slices[0])
        return tuple((start, start + side) for start, side in zip(corner, sides, strict=True))

    def _find_corners(
        self, index: int, factor: Factor, slices: tuple[int, int], sides: tuple[int, ...]
    ) -> Array:
        """Return window corners in a range of slices (N, 3).

        The third coordinate is counted from the first slice of the range. `index` is the index of
        the image, and `factor` the ratio of low-resolution to high-resolution voxel size. `slices`
        are the first slice of the range, and the slice after the last. `sides` are the side
        lengths of the windows (voxels).
        """
        key = (index, factor, slices, sides)
        if key in self._window_corners:
            return self._window_corners[key]
        mask = self.prepare(index, factor).mask[0, ..., slice(*slices)].cpu().numpy()
        if self.recipe.every_slice and not mask.any():
            # in slices outside the head, windows may be at any position
            mask = np.ones_like(mask)
        positions = np.flatnonzero(mask)
        if len(positions) > _MAX_POSITIONS:
            mask = np.zeros(mask.shape, dtype=bool)
            mask.flat[
                np.random.default_rng(0).choice(positions, _MAX_POSITIONS, replace=False)
            ] = True
        steps = [step if self.is_aligned else 1 for step, _ in self.prepare(index, factor).ratios]
        try:
            self._window_corners[key] = find_corners(mask, sides, steps)
        except InvalidInput as error:
            name = self.images[index].name
            raise InvalidInput(
                f"{name}, slices {slices[0]} to {slices[1] - 1}: {error}"
            ) from error
        return self._window_corners[key]

    def compute_slice_range(self, slab: Slab, factor: Factor) -> tuple[int, int]:
        """Return the slice range of a slab on the grid of another factor, (first, last + 1)."""
        depth = self.prepare(slab.image).shape[2]
        image = self.prepare(slab.image, factor)
        first, end = (min(image.shape[2], z * image.shape[2] // depth) for z in slab.slices)
        step = image.ratios[2][0] if self.is_aligned else 1
        return round_down(first, step), end

    def cut_windows(
        self,
        image_windows: Sequence[_ImageWindow],
        factor: Factor,
        background: float,
        window_symmetries: Sequence[Symmetry] = (),
    ) -> Batch:
        """Cut windows from the images, and combine them in a batch.

        `image_windows` are image index and window of each member; all windows have equal side
        lengths. `factor` is the ratio of low-resolution to high-resolution voxel size, and
        `background` the weight of voxels outside the mask. `window_symmetries` has the symmetry
        applied to each window; if it is empty, windows are not transformed.
        """
        members = [
            self._cut_window(self.prepare(index, factor), window, background)
            for index, window in image_windows
        ]
        if window_symmetries:
            members = [
                _Member(*(apply_symmetry(image, symmetry) for image in member))
                for member, symmetry in zip(members, window_symmetries, strict=True)
            ]
        source, target, weight = (
            torch.stack(images).contiguous() for images in zip(*members, strict=True)
        )
        operator = None
        if self.recipe.objective == "self":
            _, first_window = image_windows[0]
            operator = get_operator(
                self.recipe.degradation,
                _get_sides(first_window)[: self.ndim],
                tuple(factor[: self.ndim]),
                tuple(target.shape[2:]),
            )
        return Batch(input=source, target=target, weight=weight, operator=operator)

    def _cut_window(self, image: PreparedImage, window: Window, background: float) -> _Member:
        """Return input, target and weight of a window."""
        highres_box = index_window(window)
        lowres_box = (slice(None), *image.get_lowres_box(window))
        is_compared_at_lowres = self.recipe.objective == "self"
        mask = image.lowres_mask if is_compared_at_lowres else image.mask
        target_box = lowres_box if is_compared_at_lowres else highres_box
        source_box = lowres_box if self.recipe.upsampled_by is None else highres_box
        mask_weight = mask[target_box].float()
        weight = mask_weight + background * (1 - mask_weight)
        member = _Member(image.source[source_box], image.target[target_box], weight)
        return member if self.ndim == 3 else _Member(*(volume[..., 0] for volume in member))

    def describe_slabs(
        self, slabs: Sequence[Slab], image_windows: Sequence[_ImageWindow] = ()
    ) -> dict[str, object]:
        """Describe slabs and scored windows for the model card.

        `image_windows` are image index and window for each scored window.
        """
        image_names = [image.name for image in self.images]
        return {
            "parts": [
                {"image": image_names[slab.image], "slices": list(slab.slices)} for slab in slabs
            ],
            "windows": [
                {"image": image_names[index], "box": [list(bounds) for bounds in window]}
                for index, window in image_windows
            ],
        }

    def describe(self) -> dict[str, object]:
        """Describe the data for the model card.

        Resolution, orientation and intensity are taken from the first image.
        """
        first = self.images[0]
        prepared = self.prepare(0)
        zooms = np.asarray(first.zooms)
        zoom_ratio = np.array([p / q for p, q in prepared.ratios])
        lowres_mm, highres_mm = (
            (zooms, zooms / zoom_ratio) if first.fine is None else (zooms * zoom_ratio, zooms)
        )
        lowres_origin = (
            f"computed from the high-resolution images by downsampling ({self.recipe.degradation})"
            if first.coarse is None
            else "measured"
        )
        entries = describe_grids(
            tuple(prepared.lowres[0].shape),
            first.affine,
            self.factor,
            sizes_mm=(lowres_mm, highres_mm),
        )
        return entries | {
            "contrast": first.contrast,
            "data_sha256": checksums(self.images),
            "factors": list(self.recipe.factors),
            "channels": self.channels,
            "images": [image.name for image in self.images],
            "coarse_images": lowres_origin,
            "intensity": self._describe_intensity(),
        }

    def _describe_intensity(self) -> dict[str, object]:
        """Describe the intensity scale of the first image for the model card."""
        prepared = self.prepare(0)
        entries: dict[str, object] = {
            "scale": [float(value) for value in prepared.level],
            "headroom": [round(float(value), 6) for value in prepared.headroom],
            "rule": _INTENSITY_RULES[self.recipe.intensity],
        }
        if prepared.lowest.any():
            entries["lowest"] = [float(value) for value in prepared.lowest]
        if self.images[0].gain is not None:
            entries["highres_gain"] = self.images[0].gain
        return entries


def _count_batches(groups: Sequence[Sequence[_Slice]], size: int) -> int:
    """Return the number of batches per epoch, with at most `size` slices of one group each."""
    return sum(-(-len(group) // size) for group in groups)


def split_slabs(slabs: _Slabs, hold_out: int) -> tuple[_Slabs, _Slabs]:
    """Split slabs into training and held-out slabs.

    Every `hold_out`-th slab is held out, beginning in the middle of the first `hold_out`
    slabs. If `hold_out` is 0, all slabs are used for training.
    """
    held_out = slabs[min(hold_out // 2, len(slabs) - 1) :: hold_out] if hold_out else ()
    return tuple(slab for slab in slabs if slab not in held_out), held_out


def _get_sides(window: Window) -> tuple[int, ...]:
    """Return the side lengths of a window (voxels)."""
    return tuple(stop - start for start, stop in window)


def _apply_inverses(images: Tensor, image_symmetries: Sequence[Symmetry]) -> Tensor:
    """Apply the inverse of a symmetry to each image (N, C, X, Y)."""
    return torch.stack(
        [
            apply_symmetry(image, symmetry, inverse=True)
            for image, symmetry in zip(images, image_symmetries, strict=True)
        ]
    )


class _SliceVariation(NamedTuple):
    """Variation of a batch of whole slices (see `Augmentation`).

    `shift` is along both in-plane axes (voxels). `gamma` and `gain` are exponent and factor of the
    intensities. `noise_sd` is the standard deviation of the noise, in the intensity unit of the
    network.
    """

    shift: tuple[float, float]
    gamma: float
    gain: float
    noise_sd: float
    noise_seed: int

    def make_noise(self, image: Tensor) -> Tensor:
        """Return the noise to add to an image, of the same shape."""
        generator = torch.Generator().manual_seed(self.noise_seed)
        unit_noise = torch.randn(image.shape, generator=generator)
        return self.noise_sd * unit_noise.to(image.device)


def _draw_variation(rng: np.random.Generator, augmentation: Augmentation) -> _SliceVariation:
    """Draw the variation of a batch of whole slices."""
    shift = (
        float(rng.uniform(-augmentation.shift, augmentation.shift)),
        float(rng.uniform(-augmentation.shift, augmentation.shift)),
    )
    gamma = float(np.exp(rng.normal(0, augmentation.gamma)))
    gain = float(np.exp(rng.normal(0, augmentation.gain)))
    noise_sd = float(rng.uniform(0, 2 * augmentation.noise))
    noise_seed = int(rng.integers(2**31))
    return _SliceVariation(shift, gamma, gain, noise_sd, noise_seed)


@lru_cache(maxsize=4)
def _shuffle_slices(
    groups: tuple[tuple[_Slice, ...], ...], size: int, seed: int, epoch: int
) -> tuple[tuple[_Slice, ...], ...]:
    """Divide all slices into the batches of one epoch, in random order.

    A batch contains slices from one group only. The last batch of a group may be smaller than
    `size`.

    `groups` are slices grouped by in-plane size, and `size` is the number of slices per batch. The
    order is determined by the seed of the training and the number of the epoch.
    """
    rng = np.random.default_rng([seed, 2, epoch])
    batches = []
    for group in groups:
        order = [group[k] for k in rng.permutation(len(group))]
        batches += [tuple(order[k : k + size]) for k in range(0, len(order), size)]
    return tuple(batches[k] for k in rng.permutation(len(batches)))


@lru_cache(maxsize=4)
def _shuffle_patches(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """Return the order of patches in an epoch, a permutation of `count` numbers."""
    return np.random.default_rng([seed, 0, epoch]).permutation(count)


def _align_sides(
    sides: Sequence[int], shapes: Sequence[tuple[int, ...]], ratios: Sequence[tuple[int, int]]
) -> list[int]:
    """Return window sides (voxels) rounded down to whole low-resolution voxels.

    A side that spans the in-plane axis of all images is not rounded.

    `shapes` are the shapes of the parts of the images that windows are cut from, and `ratios` are
    numerator and denominator (p, q) of the factor p/q along each axis.
    """
    aligned_sides = []
    for axis, (side, (step, _)) in enumerate(zip(sides, ratios, strict=False)):
        spans_axis = axis < 2 and all(shape[axis] == side for shape in shapes)
        aligned_sides.append(side if spans_axis else round_down(side, step))
    return aligned_sides
