"""Slices of a pair as training examples: `draw` draws a plan of plain numbers, `cut` applies it."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from bids_sr.frozen import frozen
from bids_sr.io.array_types import Array
from bids_sr.sr.data.examples import Batch, Examples, Region, ValidationPatch, split
from bids_sr.sr.data.training_pair import TrainingPair
from bids_sr.sr.recipe import Recipe
from bids_sr.sr.resolution.matrices import ResolutionError, highres_size, matrix_for
from bids_sr.sr.resolution.operators import level_of


@frozen
class PatchPlan:
    """What one step of training sees."""

    slices: tuple[int, ...]  # index of each image of the batch
    # corner of each patch on the high-resolution grid, or None for whole slices
    origins: tuple[tuple[int, int], ...] | None
    # for each image, bit 0 flips the second in-plane axis, bit 1 the first, bit 2 exchanges them
    dihedral: tuple[int, ...]
    shift: tuple[float, float]  # high-resolution voxels along both in-plane axes, the same for the batch
    # exponent and factor on intensity
    gamma: float
    gain: float
    # of the noise in the low-resolution image
    noise_sd: float
    noise_seed: int


@frozen
class SliceSet:
    """The pair's slices as tensors in scaled intensity."""

    lowres: Tensor  # (Z, 1, x, y)
    highres: Tensor  # (Z, 1, X, Y), as the mask
    mask: Tensor
    factor: tuple[float, float]  # in-plane


def slices_of(pair: TrainingPair, device: str | torch.device = "cpu") -> SliceSet:
    """All slices of a pair as tensors in the network's intensity."""
    if pair.factor[2] != 1:
        raise ResolutionError(f"slice-wise training needs the same slices in both images, not {pair.factor}")

    def stack(image: Array) -> Tensor:
        moved = np.ascontiguousarray(np.moveaxis(image, 2, 0)[:, None], dtype=np.float32)
        return torch.from_numpy(moved).to(device)

    return SliceSet(
        lowres=stack(pair.lowres / pair.scale),
        highres=stack(pair.highres * (pair.gain / pair.scale)),
        mask=stack(pair.highres_mask),
        factor=pair.factor[:2],
    )


def upsample_slices(lowres: Tensor, factor: tuple[float, float], upsampled_by: str | None) -> Tensor:
    """(N, C, x, y) brought to the high-resolution grid by the interpolation of that name; None leaves it as it is."""
    if upsampled_by is None:
        return lowres
    rows, columns = (
        torch.tensor(matrix_for(upsampled_by, m, highres_size(m, f), axis), dtype=lowres.dtype, device=lowres.device)
        for axis, (m, f) in enumerate(zip(lowres.shape[-2:], factor, strict=True))
    )
    return rows @ lowres @ columns.T


def draw(rng: np.random.Generator, slices: tuple[int, ...], shape: tuple[int, int], recipe: Recipe) -> PatchPlan:
    """Draw one step's plan from slices of (X, Y) high-resolution voxels, each at most once while they last."""
    vary, size = recipe.augmentation, recipe.batch
    chosen = rng.choice(len(slices), size, replace=size > len(slices))
    origins = None
    if isinstance(recipe.patch, int):
        room = [max(0, n - recipe.patch) + 1 for n in shape]
        origins = tuple((int(rng.integers(room[0])), int(rng.integers(room[1]))) for _ in range(size))
    turns = 8 if shape[0] == shape[1] else 4
    return PatchPlan(
        slices=tuple(int(slices[i]) for i in chosen),
        origins=origins,
        dihedral=tuple(int(k) for k in rng.integers(turns, size=size)) if vary.dihedral else (0,) * size,
        shift=(float(rng.uniform(-vary.shift, vary.shift)), float(rng.uniform(-vary.shift, vary.shift))),
        gamma=float(np.exp(rng.normal(0, vary.gamma))),
        gain=float(np.exp(rng.normal(0, vary.gain))),
        noise_sd=float(rng.uniform(0, 2 * vary.noise)),
        noise_seed=int(rng.integers(2**31)),
    )


def dihedral(image: Tensor, code: int) -> Tensor:
    """Flip and exchange the last two axes as a `PatchPlan` codes it."""
    if code & 1:
        image = image.flip(-1)
    if code & 2:
        image = image.flip(-2)
    return image.transpose(-1, -2) if code & 4 else image


def shifted(image: Tensor, shift: tuple[float, float]) -> Tensor:
    """Move the content by fractions of a voxel (towards higher indices) with a phase ramp."""
    rows, columns = (torch.fft.fftfreq(n, dtype=torch.float64) for n in image.shape[-2:])
    angle = -2 * torch.pi * (rows[:, None] * shift[0] + columns[None] * shift[1])
    ramp = torch.polar(torch.ones_like(angle), angle).to(image.device, torch.complex64)
    return torch.fft.ifft2(torch.fft.fft2(image) * ramp).real


def cut(images: SliceSet, plan: PatchPlan, recipe: Recipe) -> Batch:
    """The tensors of a plan; the same plan gives the same tensors."""
    index = list(plan.slices)
    lowres, target, weight = images.lowres[index], images.highres[index], images.mask[index]
    level = level_of(lowres, images.factor)
    if recipe.augmentation != type(recipe.augmentation)():
        residue = lowres - level.down(target)
        turned = [
            torch.stack([dihedral(image, code) for image, code in zip(stack, plan.dihedral, strict=True)])
            for stack in (target, residue, weight)
        ]
        target, residue, weight = turned
        if plan.shift != (0.0, 0.0):
            target = shifted(target, plan.shift)
        # the low-resolution image's own noise scales with the gain, and hardly with the exponent
        target = target.sign() * target.abs() ** plan.gamma * plan.gain
        lowres = level.down(target) + residue * plan.gain
        if plan.noise_sd:
            draw_noise = torch.Generator().manual_seed(plan.noise_seed)
            noise = plan.noise_sd * torch.randn(lowres.shape, generator=draw_noise).to(lowres.device)
            lowres, target = lowres + noise, target + level.up(noise)
    weight = weight + recipe.background * (1 - weight)
    network_input = upsample_slices(lowres, images.factor, recipe.upsampled_by)
    side = recipe.patch
    if plan.origins is not None and isinstance(side, int):
        network_input, target, weight = (
            torch.stack(
                [image[..., x : x + side, y : y + side] for image, (x, y) in zip(stack, plan.origins, strict=True)]
            )
            for stack in (network_input, target, weight)
        )
    return Batch(input=network_input, target=target, weight=weight)


def _numbers(parts: Sequence[Region]) -> tuple[int, ...]:
    """Numbers of slices."""
    return tuple(part.slices[0] for part in parts)


class PairExamples(Examples):
    """The slices of one pair as training examples."""

    ndim, channels, unit, scores_training = 2, 1, "slices", True

    def __init__(self, pair: TrainingPair, recipe: Recipe, device: str) -> None:
        self.pair, self.recipe, self.factor, self.images = pair, recipe, pair.factor, slices_of(pair, device)

    def parts(self) -> tuple[tuple[Region, ...], tuple[Region, ...]]:
        return split(tuple(Region(slices=(z, z + 1)) for z in self.pair.usable_slices()), self.recipe.hold_out)

    def validation(self, parts: Sequence[Region]) -> tuple[ValidationPatch, ...]:
        images = self.images
        rows, columns = images.highres.shape[-2:]
        return tuple(
            ValidationPatch(
                image=0, box=((0, rows), (0, columns), (z, z + 1)),
                batch=Batch(
                    input=upsample_slices(images.lowres[z : z + 1], images.factor, self.recipe.upsampled_by),
                    target=images.highres[z : z + 1], weight=images.mask[z : z + 1],
                ),
            )
            for z in _numbers(parts)
        )  # fmt: skip

    def batch(
        self, rng: np.random.Generator, parts: Sequence[Region], *, iteration: int, seed: int, size: int
    ) -> Batch:
        rows, columns = self.images.highres.shape[-2:]
        plan = draw(rng, _numbers(parts), (rows, columns), replace(self.recipe, batch=size))
        return cut(self.images, plan, self.recipe)

    def interpolated(self, name: str, patch: ValidationPatch) -> Tensor:
        z = patch.box[2][0]
        return upsample_slices(self.images.lowres[z : z + 1], self.images.factor, name)

    def held_out(self, held: Sequence[Region], watched: Sequence[ValidationPatch]) -> dict[str, object]:
        return {"slices": list(_numbers(held))}

    def described(self) -> dict[str, object]:
        return self.pair.described()

    def checksums(self) -> dict[str, str]:
        return self.pair.checksums()
