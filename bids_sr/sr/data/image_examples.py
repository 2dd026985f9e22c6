"""Windows of a set of images as training examples, with held-out parts and fixed validation windows.

Held out are whole images where there are at least three, otherwise every n-th slice (2D) or the last n-th part of the
brain in each image (3D).
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bids_sr.sr.data.examples import Batch, Box, Examples, Region, ValidationPatch, split
from bids_sr.sr.data.images import ImageSet, ImageSetError
from bids_sr.sr.data.windows import PreparedImage, SamplingError, Symmetry, corners_inside, prepare, symmetries
from bids_sr.sr.models.compatibility import image_entries
from bids_sr.sr.recipe import Recipe
from bids_sr.sr.resolution.matrices import Factor, upsample
from bids_sr.sr.resolution.operators import get_operator

MOST = 8  # validation windows, spread evenly over what is held out
_SIDE = 48  # of a window in three dimensions
_CONTEXT = 6  # slices around what is held out that a volumetric network may see, and is not scored in


def _thinned(mask: NDArray[np.bool_], most: int = 1 << 16) -> NDArray[np.bool_]:
    """At most so many voxels of a mask, always the same ones, to save memory."""
    found = np.flatnonzero(mask)
    if len(found) <= most:
        return mask
    out = np.zeros(mask.size, dtype=bool)
    out[np.random.default_rng(0).choice(found, most, replace=False)] = True
    return out.reshape(mask.shape)


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """The order in which places are seen in an epoch."""
    return np.random.default_rng([seed, 0, epoch]).permutation(count)


class ImageExamples(Examples):
    """A set of images at the factor trained for and those drawn in its place, each prepared once and kept."""

    unit, scores_training = "parts", False

    def __init__(self, images: ImageSet, recipe: Recipe, factor: Factor, ndim: int, device: str) -> None:
        if recipe.objective != "self" and any(image.fine is None for image in images.images):
            raise ImageSetError("this method learns from fine images, and there are only coarse ones")
        if recipe.objective == "cycle" and recipe.upsampled_by is None:
            raise ValueError("a cycle needs both images on one grid: the recipe has to upsample the coarse one first")
        self.images, self.recipe, self.factor, self.ndim, self.device = images, recipe, factor, ndim, device
        self.channels = images.channels
        self._kept: dict[tuple[int, Factor], PreparedImage] = {}
        self._places: dict[tuple[object, ...], NDArray[np.int64]] = {}
        self._whole: dict[tuple[str, int], NDArray[np.float32]] = {}

    def at(self, index: int, factor: Factor | None = None) -> PreparedImage:
        """One image at a factor (default: that trained for)."""
        key = (index, factor or self.factor)
        if key not in self._kept:
            self._kept[key] = prepare(self.images.images[index], self.recipe, key[1], self.device)
        return self._kept[key]

    @property
    def aligned(self) -> bool:
        """Whether windows have to exist on the low-resolution grid too."""
        return self.recipe.upsampled_by is None or self.recipe.objective == "self"

    def factor_of(self, drawn: float) -> Factor:
        """A number drawn for all axes that the factor trained for changes."""
        fx, fy, fz = (drawn if f != 1 else 1.0 for f in self.factor)
        return fx, fy, fz

    def sides(self, rooms: Sequence[tuple[int, tuple[int, int]]], factor: Factor) -> tuple[int, ...]:
        """Sides of the windows of a batch, of which `rooms` are (image, (first slice, last + 1)).

        The patch, cut down to the smallest image and to whole low-resolution voxels.
        """
        shapes = [(*self.at(i, factor).shape[:2], high - low) for i, (low, high) in rooms]
        smallest = [min(shape[axis] for shape in shapes) for axis in range(3)]
        patch = self.recipe.patch
        wanted = smallest[: self.ndim]
        if patch is not None:
            asked = (patch,) * self.ndim if isinstance(patch, int) else patch
            wanted = [min(n, side) for n, side in zip(wanted, asked, strict=True)]
        if self.aligned:
            wanted = [n // p * p for n, (p, _) in zip(wanted, self.at(rooms[0][0], factor).steps, strict=False)]
        return tuple(wanted) if self.ndim == 3 else (*wanted, 1)

    def places(self, index: int, factor: Factor, slices: tuple[int, int], sides: tuple[int, ...]) -> NDArray[np.int64]:
        """Corners of windows of these sides in a range of slices (first, last + 1), counted from the first one."""
        key = (index, factor, slices, sides)
        if key not in self._places:
            inside = _thinned(self.at(index, factor).inside[0, ..., slice(*slices)].cpu().numpy())
            steps = [p if self.aligned else 1 for p, _ in self.at(index, factor).steps]
            try:
                self._places[key] = corners_inside(inside, sides, steps)
            except SamplingError as error:
                name = self.images.images[index].name
                raise ImageSetError(f"{name}, slices {slices[0]} to {slices[1] - 1}: {error}") from error
        return self._places[key]

    def turns(self, factor: Factor, sides: tuple[int, ...]) -> tuple[Symmetry, ...]:
        """Symmetries of windows of these sides at a factor."""
        zooms = self.images.images[0].zooms
        return symmetries(sides[: self.ndim], zooms[: self.ndim], factor[: self.ndim])

    def cut(
        self, chosen: Sequence[tuple[int, Box]], factor: Factor, background: float, turns: Sequence[Symmetry] = ()
    ) -> Batch:
        """Windows of some images (image and window, of equal sides) as one batch.

        `background`: weight outside the mask; `turns`: how each window is turned, as they are where there are none.
        """
        stacks: tuple[list[Tensor], list[Tensor], list[Tensor]] = ([], [], [])
        on_coarse = self.recipe.objective == "self"
        for k, (index, box) in enumerate(chosen):
            image = self.at(index, factor)
            fine = tuple(slice(a, b) for a, b in box)
            coarse = tuple(slice(a * q // p, b * q // p) for (a, b), (p, q) in zip(box, image.steps, strict=True))
            compared = coarse if on_coarse else fine
            mask = image.inside_coarse if on_coarse else image.inside
            weight = mask[(slice(None), *compared)].float()
            parts = (
                image.source[(slice(None), *(coarse if self.recipe.upsampled_by is None else fine))],
                image.target[(slice(None), *compared)],
                weight + background * (1 - weight),
            )
            for stack, part in zip(stacks, parts, strict=True):
                flat = part if self.ndim == 3 else part[..., 0]
                stack.append(turns[k].apply(flat) if turns else flat)
        operator = None
        if on_coarse:
            shape = tuple(b - a for a, b in chosen[0][1])[: self.ndim]
            operator = get_operator(
                self.recipe.degradation, shape, tuple(factor[: self.ndim]), tuple(stacks[1][0].shape[1:])
            )
        source, target, weight = (torch.stack(stack).contiguous() for stack in stacks)
        return Batch(input=source, target=target, weight=weight, operator=operator)

    def parts(self) -> tuple[tuple[Region, ...], tuple[Region, ...]]:
        hold_out = self.recipe.hold_out
        count = len(self.images.images)
        depth = [self.at(i).shape[2] for i in range(count)]
        whole = tuple(Region(image=i, slices=(0, n)) for i, n in enumerate(depth))
        if not hold_out or count >= 3:
            return split(whole, hold_out)
        if self.ndim == 2:
            usable = tuple(Region(image=i, slices=(z, z + 1)) for i in range(count) for z in self._usable(i))
            if len(usable) < 2:
                raise ImageSetError("only one slice of the images shows enough of the head: nothing could be held out")
            return split(usable, hold_out)
        cuts = []
        for i in range(count):
            p, brain = self.at(i).steps[2][0], self._usable(i) or [0, depth[i] - 1]
            part = max(1, (brain[-1] + 1 - brain[0]) // hold_out)
            kept = max(p, (brain[-1] + 1 - part) // p * p)
            if kept >= depth[i]:
                raise ImageSetError(f"{self.images.images[i].name}: {depth[i]} slices are too few to hold some out")
            cuts.append((Region(image=i, slices=(0, kept)), Region(image=i, slices=(kept, depth[i]))))
        return tuple(a for a, _ in cuts), tuple(b for _, b in cuts)

    def _usable(self, index: int) -> list[int]:
        """Slices of an image of which at least 2 % is mask."""
        part = self.at(index).inside[0].float().mean((0, 1))
        return [int(z) for z in torch.nonzero(part >= 0.02).flatten()]

    def validation(self, parts: Sequence[Region]) -> tuple[ValidationPatch, ...]:
        chosen: list[tuple[int, Box, tuple[int, int]]] = []
        for region in parts:
            if self.ndim == 2:
                chosen += [(region.image, box, box[2]) for box in _slices(self, region.image, *region.slices)]
            else:
                chosen.append((region.image, _block(self, region.image, *region.slices), region.slices))
        spread = np.unique(np.linspace(0, len(chosen) - 1, min(MOST, len(chosen))).round().astype(int))
        return tuple(_patch(self, *chosen[k]) for k in spread)

    def batch(
        self, rng: np.random.Generator, parts: Sequence[Region], *, iteration: int, seed: int, size: int
    ) -> Batch:
        vary, factor = self.recipe.augmentation, self.factor
        if self.recipe.factors:
            factor = self.factor_of(float(rng.choice(np.array(self.recipe.factors))))
        sides, chosen = self.chosen(rng, parts, factor, iteration=iteration, seed=seed, size=size)
        turns: list[Symmetry] = []
        if vary.dihedral:
            every = self.turns(factor, sides)
            turns = [every[int(k)] for k in rng.integers(len(every), size=len(chosen))]
        batch = self.cut(chosen, factor, self.recipe.background, turns)
        gain = float(np.exp(rng.normal(0, vary.gain)))
        return replace(batch, input=batch.input * gain, target=batch.target * gain)

    def chosen(
        self, rng: np.random.Generator, parts: Sequence[Region], factor: Factor, *, iteration: int, seed: int, size: int
    ) -> tuple[tuple[int, ...], list[tuple[int, Box]]]:
        """(sides, (image, window) of each member of a batch)."""
        sources = [rng] * size
        count = self.recipe.patches
        if count is not None:  # that many places, each seen once an epoch in an order of the epoch's own
            seen = range(iteration * size, (iteration + 1) * size)
            sources = [np.random.default_rng([seed, 1, int(_order(seed, k // count, count)[k % count])]) for k in seen]
        where = [parts[int(source.integers(len(parts)))] for source in sources]
        if self.recipe.patch is None and len({self.at(r.image, factor).shape for r in where}) > 1:
            where = [where[0]] * size  # whole images of different sizes do not fit into one batch
        rooms = [(r.image, self.room(r, factor)) for r in where]
        sides = self.sides(rooms, factor)
        out = []
        for (index, slices), source in zip(rooms, sources, strict=True):
            corners = self.places(index, factor, slices, sides)
            x, y, z = corners[source.integers(len(corners), size=1)[0]].tolist()
            corner = (x, y, z + slices[0])
            out.append((index, tuple((start, start + side) for start, side in zip(corner, sides, strict=True))))
        return sides, out

    def room(self, region: Region, factor: Factor) -> tuple[int, int]:
        """The slices of a region on the grid of another factor."""
        depth = self.at(region.image).shape[2]
        now = self.at(region.image, factor)
        low, high = (min(now.shape[2], z * now.shape[2] // depth) for z in region.slices)
        step = now.steps[2][0] if self.aligned else 1
        return low // step * step, high

    def interpolated(self, name: str, patch: ValidationPatch) -> Tensor:
        low = self.at(patch.image).coarse.cpu().numpy()
        key = (name, patch.image)
        if key not in self._whole:
            self._whole[key] = np.stack([upsample(name, channel, self.factor) for channel in low])
        part = self._whole[key][(slice(None), *(slice(a, b) for a, b in patch.box))]
        part = part if self.ndim == 3 else part[..., 0]
        return torch.from_numpy(np.ascontiguousarray(part, np.float32)).to(patch.batch.target.device)[None]

    def held_out(self, held: Sequence[Region], watched: Sequence[ValidationPatch]) -> dict[str, object]:
        names = [image.name for image in self.images.images]
        return {
            "parts": [{"image": names[r.image], "slices": list(r.slices)} for r in held],
            "windows": [{"image": names[x.image], "box": [list(side) for side in x.box]} for x in watched],
        }

    def checksums(self) -> dict[str, str]:
        return self.images.checksums()

    def described(self) -> dict[str, object]:
        # the first image stands for the set in resolution, orientation and intensity
        first, seen = self.images.images[0], self.at(0)
        zooms, step = np.asarray(first.zooms), np.array([p / q for p, q in seen.steps])
        high, low = (zooms, zooms * step) if first.fine is not None else (zooms / step, zooms)
        by_percentile = self.recipe.intensity == "percentile"
        image, mask = seen.coarse[0].cpu().numpy(), seen.inside_coarse[0].cpu().numpy()
        return image_entries(image, mask, first.affine, self.factor, mm=(low, high)) | {
            "contrast": self.images.contrast, "data_sha256": self.checksums(), "factors": list(self.recipe.factors),
            "channels": self.channels, "images": [image.name for image in self.images.images],
            "coarse_images": ("measured" if first.coarse is not None
                              else f"made by {self.recipe.degradation} from the fine ones"),
            "intensity": {
                "scale": [float(v) for v in seen.level], "headroom": [round(float(v), 6) for v in seen.headroom],
                "rule": ("99th percentile of each low-resolution image in the mask is 1" if by_percentile
                         else "the largest value of each low-resolution image is 1"),
            },
        }  # fmt: skip


def _slices(windows: ImageExamples, index: int, low: int, high: int) -> list[Box]:
    """Whole slices of a range with something of the mask."""
    image = windows.at(index)
    found = torch.nonzero(image.inside[0, ..., low:high].any(0).any(0)).flatten().tolist()
    x, y, _ = (n // p * p if windows.aligned else n for n, (p, _) in zip(image.shape, image.steps, strict=True))
    return [((0, x), (0, y), (low + z, low + z + 1)) for z in found]


def _block(windows: ImageExamples, index: int, low: int, high: int) -> Box:
    """A block around the middle of the mask in a range of slices, with some context."""
    image = windows.at(index)
    places = torch.nonzero(image.inside[0, ..., low:high]).double()
    middle = places.mean(0).tolist() if len(places) else [n / 2 for n in image.shape]
    box = []
    for axis, (n, (p, _)) in enumerate(zip(image.shape, image.steps, strict=True)):
        step = p if windows.aligned else 1
        if axis < 2:
            side = min(n, _SIDE) // step * step
            start = min(max(int(middle[axis]) - side // 2, 0), n - side) // step * step
            box.append((start, start + side))
        else:
            start = max(0, low - _CONTEXT, (low + high - _SIDE) // 2) // step * step
            stop = min(n, high + _CONTEXT, start + _SIDE) // step * step
            box.append((start, max(stop, start + step)))
    return tuple(box)


def _patch(windows: ImageExamples, index: int, box: Box, scored: tuple[int, int]) -> ValidationPatch:
    batch = windows.cut([(index, box)], windows.factor, 0.0)
    if windows.ndim == 3:
        p, q = windows.at(index).steps[2] if windows.recipe.objective == "self" else (1, 1)
        first, last = ((z - box[2][0]) * q // p for z in scored)
        weight = torch.zeros_like(batch.weight)
        weight[..., max(0, first) : last] = batch.weight[..., max(0, first) : last]
        # a part without any of the mask is scored whole: nothing else is there
        weight = weight if weight.any() else torch.ones_like(batch.weight)
        batch = replace(batch, weight=weight)
    return ValidationPatch(image=index, box=box, batch=batch)
