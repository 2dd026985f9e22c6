"""Windows of images as training examples, with held-out parts."""

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
from bids_sr.sr.data.images import TrainingDataError, TrainingImages, check_images, checksums
from bids_sr.sr.data.windows import (
    Box,
    Prepared,
    Turn,
    corners_inside,
    prepare,
    shifted,
    symmetries,
    turned,
)
from bids_sr.sr.models.domain import image_entries
from bids_sr.sr.operators import Degradation, get_operator, level_of, upsample_slices
from bids_sr.sr.recipe import Recipe

_USABLE = 0.02  # of a slice that is mask
_PLACES = 1 << 16  # at most, of windows in a range of slices: always the same ones, to save memory


@frozen
class Batch:
    """Arrays of one step: input (N, C, *), target, weight (N, C or 1, *).

    `operator` downsamples the output before the loss.

    `input`: what the network is given (N, C, *grid). `target`: what the output is compared with
    (N, C, *grid). `weight`: weight of each voxel in the losses (N, C or 1, *grid).
    """

    input: Tensor
    target: Tensor
    weight: Tensor
    operator: Degradation | None = None


@frozen
class Region:
    """Slices (first, last + 1) of one image that training draws from or that are held out.

    `slices`: first slice along the third axis, and the one after the last.
    """

    image: int = 0
    slices: tuple[int, int]


def split(
    parts: tuple[Region, ...], hold_out: int
) -> tuple[tuple[Region, ...], tuple[Region, ...]]:
    """Split into (training, held-out) parts; every n-th is held out, none for n = 0.

    The first held-out one is in the middle of the first n.
    """
    held = parts[min(hold_out // 2, len(parts) - 1) :: hold_out] if hold_out else ()
    return tuple(part for part in parts if part not in held), held


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """The order in which places are seen in an epoch."""
    return np.random.default_rng([seed, 0, epoch]).permutation(count)


_Slice = tuple[int, int]  # image, and place of the slice along the third axis


@lru_cache(maxsize=4)
def _slice_batches(
    groups: tuple[tuple[_Slice, ...], ...], size: int, seed: int, epoch: int
) -> tuple[tuple[_Slice, ...], ...]:
    """Divide all slices into the batches of one epoch, in random order.

    `groups`: slices of equal sides; a batch contains slices of one group. The last batch of a
    group may be smaller than `size`.
    """
    rng = np.random.default_rng([seed, 2, epoch])
    batches = []
    for group in groups:
        order = [group[k] for k in rng.permutation(len(group))]
        batches += [tuple(order[k : k + size]) for k in range(0, len(order), size)]
    return tuple(batches[k] for k in rng.permutation(len(batches)))


class Examples:
    """Images as the trainer sees them, at the factor trained for and those drawn in its place.

    `train` and `held` are the parts that are trained on and those that are held out: whole images
    where there are at least three, else every n-th slice (2D), or the last n-th part of the brain
    in each image (3D). Images that are marked (`TrainingImage.validation`) are held out instead.

    `ValueError`: a recipe that cannot be carried out.
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
        # windows have to exist on the low-resolution grid too
        self.aligned = recipe.upsampled_by is None or recipe.objective == "self"
        self._prepared: dict[tuple[int, Factor], Prepared] = {}
        self._places: dict[tuple[object, ...], NDArray[np.int64]] = {}
        self._usable = [self._usable_slices(k) for k in range(len(images))]
        self.train, self.held = self._parts()
        if recipe.epochs_of_slices:
            groups = self._slice_groups(self.train)
            count = sum(-(-len(group) // recipe.batch) for group in groups)
            self.recipe = replace(recipe, slice_batches=count)

    @property
    def slice_count(self) -> int:
        """Number of whole slices to train on."""
        return sum(len(group) for group in self._slice_groups(self.train))

    def at(self, index: int, factor: Factor | None = None) -> Prepared:
        """One image at a factor (default: that trained for); prepared once and kept."""
        key = (index, factor or self.factor)
        if key not in self._prepared:
            self._prepared[key] = prepare(self.images[index], self.recipe, key[1], self.device)
        return self._prepared[key]

    def _usable_slices(self, index: int) -> list[int]:
        """Slices of an image that show enough of the head, or all if the recipe says so.

        For epochs of whole slices, those that show any part of the head.
        """
        if self.recipe.every_slice:
            return list(range(self.at(index).shape[2]))
        part = self.at(index).inside[0].float().mean((0, 1))
        if self.recipe.epochs_of_slices:
            return [int(z) for z in torch.nonzero(part).flatten()]
        return [int(z) for z in torch.nonzero(part >= _USABLE).flatten()]

    def _parts(self) -> tuple[tuple[Region, ...], tuple[Region, ...]]:
        hold_out = self.recipe.hold_out
        count = len(self.images)
        if any(image.validation for image in self.images):
            whole = [
                Region(image=k, slices=(0, self.at(k).shape[2])) for k in range(len(self.images))
            ]
            return tuple(p for p in whole if not self.images[p.image].validation), tuple(
                p for p in whole if self.images[p.image].validation
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
            return split(slices, hold_out)
        depth = [self.at(k).shape[2] for k in range(count)]
        if not hold_out or count >= 3:
            return split(
                tuple(Region(image=k, slices=(0, n)) for k, n in enumerate(depth)), hold_out
            )
        train, held = [], []
        for k, n in enumerate(depth):
            p = self.at(k).steps[2][0]
            brain = self._usable[k] or [0, n - 1]
            part = max(1, (brain[-1] + 1 - brain[0]) // hold_out)
            kept = max(p, (brain[-1] + 1 - part) // p * p)
            if kept >= n:
                raise TrainingDataError(
                    f"{self.images[k].name}: {n} slices are too few to hold out some of the "
                    "slices for validation"
                )
            train.append(Region(image=k, slices=(0, kept)))
            held.append(Region(image=k, slices=(kept, n)))
        return tuple(train), tuple(held)

    def batch(
        self,
        rng: np.random.Generator,
        parts: Sequence[Region],
        *,
        iteration: int,
        seed: int,
        size: int,
    ) -> Batch:
        """What a step sees; `rng` is the only source of chance."""
        vary, factor = self.recipe.augmentation, self.factor
        if self.recipe.factors:
            factor = self.factor_of(float(rng.choice(np.array(self.recipe.factors))))
        if vary.of_whole_slices:
            chosen = self._slices(rng, parts, size)
        else:
            chosen = self.windows(rng, parts, factor, iteration=iteration, seed=seed, size=size)
        turns: list[Turn] = []
        if vary.dihedral:
            every = self.turns(factor, [b - a for a, b in chosen[0][1]])
            turns = [every[int(k)] for k in rng.integers(len(every), size=len(chosen))]
        if vary.of_whole_slices:
            return self._varied(rng, chosen, turns)
        batch = self.cut(chosen, factor, self.recipe.background, turns)
        gain = float(np.exp(rng.normal(0, vary.gain)))
        return replace(batch, input=batch.input * gain, target=batch.target * gain)

    def factor_of(self, drawn: float) -> Factor:
        """A number drawn for all axes that the factor trained for changes.

        `drawn`: low- over high-resolution voxel size along the axes that get finer.
        """
        fx, fy, fz = (drawn if f != 1 else 1.0 for f in self.factor)
        return fx, fy, fz

    def turns(self, factor: Factor, sides: Sequence[int]) -> tuple[Turn, ...]:
        """Return symmetries of windows of these sides at a factor."""
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
        parts: Sequence[Region],
        factor: Factor,
        *,
        iteration: int,
        seed: int,
        size: int,
    ) -> list[tuple[int, Box]]:
        """Return (image, window) of each member of a batch.

        `iteration`: number of the training step, counted from 0.
        """
        sources = [rng] * size
        if self.recipe.epochs_of_slices and not self.recipe.factors:
            return self._slices_of_epoch(parts, iteration=iteration, seed=seed, size=size)
        count = self.recipe.patches
        # that many places, each seen once an epoch in an order of the epoch's own
        if count is not None:
            seen = range(iteration * size, (iteration + 1) * size)
            sources = [
                np.random.default_rng([seed, 1, int(_order(seed, k // count, count)[k % count])])
                for k in seen
            ]
        where = [parts[int(source.integers(len(parts)))] for source in sources]
        if self.recipe.patch is None and len({self.at(r.image, factor).shape for r in where}) > 1:
            where = [where[0]] * size  # whole images of different sizes do not fit into one batch
        rooms = [(r.image, self.room(r, factor)) for r in where]
        sides = self._sides(rooms, factor)
        out = []
        for (index, slices), source in zip(rooms, sources, strict=True):
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

    def _slice_groups(self, parts: Sequence[Region]) -> tuple[tuple[_Slice, ...], ...]:
        """Return all slices of some parts that show the head, grouped by their sides."""
        groups: dict[tuple[int, ...], list[_Slice]] = {}
        for region in parts:
            first, end = region.slices
            groups.setdefault(self.at(region.image).shape[:2], []).extend(
                (region.image, z) for z in self._usable[region.image] if first <= z < end
            )
        return tuple(tuple(group) for group in groups.values() if group)

    def _slices_of_epoch(
        self, parts: Sequence[Region], *, iteration: int, seed: int, size: int
    ) -> list[tuple[int, Box]]:
        """Return whole slices of a step; each slice of the parts is seen once per epoch.

        `iteration`: number of the training step, counted from 0.
        """
        groups = self._slice_groups(parts)
        count = sum(-(-len(group) // size) for group in groups)
        epoch, step = divmod(iteration, count)
        batch = _slice_batches(groups, size, seed, epoch)[step]
        return [(image, self.at(image).slice_box(z)) for image, z in batch]

    def room(self, region: Region, factor: Factor) -> tuple[int, int]:
        """The slices of a region on the grid of another factor."""
        depth = self.at(region.image).shape[2]
        now = self.at(region.image, factor)
        low, high = (min(now.shape[2], z * now.shape[2] // depth) for z in region.slices)
        step = now.steps[2][0] if self.aligned else 1
        return low // step * step, high

    def _sides(
        self, rooms: Sequence[tuple[int, tuple[int, int]]], factor: Factor
    ) -> tuple[int, ...]:
        """Sides of the windows of a batch, of which `rooms` are (image, (first slice, last + 1)).

        The patch, cut down to the smallest image and to whole low-resolution voxels.
        """
        shapes = [(*self.at(i, factor).shape[:2], high - low) for i, (low, high) in rooms]
        smallest = [min(shape[axis] for shape in shapes) for axis in range(self.ndim)]
        patch = self.recipe.patch
        if patch is not None:
            asked = (patch,) * self.ndim if isinstance(patch, int) else patch
            smallest = [min(n, side) for n, side in zip(smallest, asked, strict=True)]
        if self.aligned:  # a whole plane is one, whatever the factor divides
            whole = [
                axis < 2 and {n} == {shape[axis] for shape in shapes}
                for axis, n in enumerate(smallest)
            ]
            steps = self.at(rooms[0][0], factor).steps
            smallest = [
                n if w else n // p * p
                for n, w, (p, _) in zip(smallest, whole, steps, strict=False)
            ]
        return tuple(smallest) if self.ndim == 3 else (*smallest, 1)

    def _corners(
        self, index: int, factor: Factor, slices: tuple[int, int], sides: tuple[int, ...]
    ) -> Array:
        """Return window corners in a range of slices (first, last + 1), counted from the first.

        The windows have the given sides.
        """
        key = (index, factor, slices, sides)
        if key not in self._places:
            inside = self.at(index, factor).inside[0, ..., slice(*slices)].cpu().numpy()
            if self.recipe.every_slice and not inside.any():
                inside = np.ones_like(inside)  # a slice beyond the head, of which any part serves
            found = np.flatnonzero(inside)
            if len(found) > _PLACES:
                inside = np.zeros(inside.shape, dtype=bool)
                inside.flat[np.random.default_rng(0).choice(found, _PLACES, replace=False)] = True
            steps = [p if self.aligned else 1 for p, _ in self.at(index, factor).steps]
            try:
                self._places[key] = corners_inside(inside, sides, steps)
            except TrainingDataError as error:
                name = self.images[index].name
                raise TrainingDataError(
                    f"{name}, slices {slices[0]} to {slices[1] - 1}: {error}"
                ) from error
        return self._places[key]

    def cut(
        self,
        chosen: Sequence[tuple[int, Box]],
        factor: Factor,
        background: float,
        turns: Sequence[Turn] = (),
    ) -> Batch:
        """Return windows of some images (image and window, of equal sides) as one batch.

        `background`: weight outside the mask; `turns`: how each window is turned, as they are
        where there are none.
        """
        stacks: tuple[list[Tensor], list[Tensor], list[Tensor]] = ([], [], [])
        on_coarse = self.recipe.objective == "self"
        for k, (index, box) in enumerate(chosen):
            image = self.at(index, factor)
            fine = tuple(slice(a, b) for a, b in box)
            coarse = image.on_coarse(box)
            compared = coarse if on_coarse else fine
            mask = image.inside_coarse if on_coarse else image.inside
            weight = mask[(slice(None), *compared)].float()
            parts = (
                image.source[
                    (slice(None), *(coarse if self.recipe.upsampled_by is None else fine))
                ],
                image.target[(slice(None), *compared)],
                weight + background * (1 - weight),
            )
            for stack, part in zip(stacks, parts, strict=True):
                flat = part if self.ndim == 3 else part[..., 0]
                stack.append(turned(flat, turns[k]) if turns else flat)
        operator = None
        if on_coarse:
            shape = tuple(b - a for a, b in chosen[0][1])[: self.ndim]
            operator = get_operator(
                self.recipe.degradation,
                shape,
                tuple(factor[: self.ndim]),
                tuple(stacks[1][0].shape[1:]),
            )
        source, target, weight = (torch.stack(stack).contiguous() for stack in stacks)
        return Batch(input=source, target=target, weight=weight, operator=operator)

    def _slices(
        self, rng: np.random.Generator, parts: Sequence[Region], size: int
    ) -> list[tuple[int, Box]]:
        """Whole slices with enough of the head, each at most once in a batch while they last."""
        every = [
            (r.image, z)
            for r in parts
            for z in self._usable[r.image]
            if r.slices[0] <= z < r.slices[1]
        ]
        # different sizes do not fit into one batch
        if len({self.at(r.image).shape[:2] for r in parts}) > 1:
            image = parts[int(rng.integers(len(parts)))].image
            every = [each for each in every if each[0] == image]
        drawn = [every[int(k)] for k in rng.choice(len(every), size, replace=size > len(every))]
        return [(index, self.at(index).slice_box(z)) for index, z in drawn]

    def _varied(
        self, rng: np.random.Generator, chosen: Sequence[tuple[int, Box]], turns: Sequence[Turn]
    ) -> Batch:
        """Whole slices with their intensities and places varied, see `Augmentation`."""
        vary = self.recipe.augmentation
        images = [(self.at(index), box[2][0]) for index, box in chosen]
        lowres, target, weight = (
            torch.stack([each[..., z] for each, z in stack])
            for stack in zip(
                *(((i.coarse, z), (i.target, z), (i.inside.float(), z)) for i, z in images),
                strict=True,
            )
        )
        level = level_of(lowres, self.factor[:2])
        residue = lowres - level.down(target)
        # back, as models were trained before there were windows: a seed still gives the same
        # weights
        if turns:
            target, residue, weight = (
                torch.stack(
                    [
                        turned(image, turn, back=True)
                        for image, turn in zip(stack, turns, strict=True)
                    ]
                )
                for stack in (target, residue, weight)
            )
        shift = (
            float(rng.uniform(-vary.shift, vary.shift)),
            float(rng.uniform(-vary.shift, vary.shift)),
        )
        gamma, gain = (float(np.exp(rng.normal(0, sd))) for sd in (vary.gamma, vary.gain))
        noise_sd = float(rng.uniform(0, 2 * vary.noise))
        noise_seed = int(rng.integers(2**31))
        if shift != (0.0, 0.0):
            target = shifted(target, shift)
        # the low-resolution image's own noise scales with the gain, and hardly with the exponent
        target = target.sign() * target.abs() ** gamma * gain
        lowres = level.down(target) + residue * gain
        if noise_sd:
            own = torch.Generator().manual_seed(noise_seed)
            noise = noise_sd * torch.randn(lowres.shape, generator=own).to(lowres.device)
            lowres, target = lowres + noise, target + level.up(noise)
        source = upsample_slices(lowres, self.factor[:2], self.recipe.upsampled_by)
        return Batch(
            input=source, target=target, weight=weight + self.recipe.background * (1 - weight)
        )

    def named(
        self, parts: Sequence[Region], boxes: Sequence[tuple[int, Box]] = ()
    ) -> dict[str, object]:
        """Parts, and windows (image and box) that were scored, for the card."""
        names = [image.name for image in self.images]
        return {
            "parts": [{"image": names[r.image], "slices": list(r.slices)} for r in parts],
            "windows": [
                {"image": names[image], "box": [list(side) for side in box]}
                for image, box in boxes
            ],
        }

    def described(self) -> dict[str, object]:
        """Describe the data for the card.

        The first image stands for all in resolution, orientation and intensity.
        """
        first = self.images[0]
        seen = self.at(0)
        zooms = np.asarray(first.zooms)
        step = np.array([p / q for p, q in seen.steps])
        high, low = (zooms, zooms * step) if first.fine is not None else (zooms / step, zooms)
        unit = "the 99th percentile of each low-resolution image within the mask is scaled to 1"
        if self.recipe.intensity == "unit":
            unit = "the maximum of each low-resolution image is scaled to 1"
        elif self.recipe.intensity == "range":
            unit = "the minimum of each low-resolution image is scaled to 0 and the maximum to 1"
        made = (
            f"computed from the high-resolution images by downsampling ({self.recipe.degradation})"
        )
        image = seen.coarse[0].cpu().numpy()
        mask = seen.inside_coarse[0].cpu().numpy()
        return image_entries(image, mask, first.affine, self.factor, mm=(low, high)) | {
            "contrast": first.contrast,
            "data_sha256": checksums(self.images),
            "factors": list(self.recipe.factors),
            "channels": self.channels,
            "images": [each.name for each in self.images],
            "coarse_images": made if first.coarse is None else "measured",
            "intensity": {
                "scale": [float(v) for v in seen.level],
                "headroom": [round(float(v), 6) for v in seen.headroom],
                "rule": unit,
                **({"lowest": [float(v) for v in seen.lowest]} if seen.lowest.any() else {}),
                **({} if first.gain is None else {"highres_gain": first.gain}),
            },
        }
