"""Training images: what is drawn is drawn first, as plain numbers, and applied afterwards without chance.

`draw` uses the random generator and gives a `PatchPlan`; `cut` turns a plan into tensors and may be replayed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bids_sr.sr.networks.network_blocks import Planes
from bids_sr.sr.recipe import Recipe
from bids_sr.sr.resolution.degradation import fine_size
from bids_sr.sr.resolution.interpolation import matrix_for
from bids_sr.sr.resolution.operators import Degradation


@dataclass(frozen=True, kw_only=True, slots=True)
class PatchPlan:
    """What one step of training sees.

    Parameters
    ----------
    slices : index of each image of the batch
    origins : corner of each patch on the high-resolution grid, or None for whole slices
    dihedral : for each image, bit 0 flips the second in-plane axis, bit 1 the first, bit 2 exchanges them
    shift : fine voxels along both in-plane axes, the same for the batch
    gamma, gain : exponent and factor on intensity
    noise_sd, noise_seed : of the noise in the coarse image
    """

    slices: tuple[int, ...]
    origins: tuple[tuple[int, int], ...] | None
    dihedral: tuple[int, ...]
    shift: tuple[float, float]
    gamma: float
    gain: float
    noise_sd: float
    noise_seed: int


@dataclass(frozen=True, kw_only=True, slots=True)
class SliceSet:
    """The pair's slices as tensors in scaled intensity.

    Parameters
    ----------
    lowres : (Z, 1, x, y); highres, mask : (Z, 1, X, Y)
    factor : in-plane
    """

    lowres: Tensor
    highres: Tensor
    mask: Tensor
    factor: tuple[float, float]

    def to_input(self, lowres: Tensor, upsampled_by: str | None) -> Tensor:
        """What the generator is given for coarse slices."""
        return upsample_slices(lowres, self.factor, upsampled_by)


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """input (N, C, *), target and weight (N, C or 1, *) of one step.

    With an operator the target is a coarse image, and the output is brought down by it before they are compared.
    """

    input: Tensor
    target: Tensor
    weight: Tensor
    operator: Degradation | None = None


def upsample_slices(lowres: Tensor, factor: tuple[float, float], upsampled_by: str | None) -> Tensor:
    """(N, C, x, y) brought to the high-resolution grid by the interpolation of that name; None leaves it as it is."""
    if upsampled_by is None:
        return lowres
    rows, columns = (
        torch.tensor(matrix_for(upsampled_by, m, fine_size(m, f), axis), dtype=lowres.dtype, device=lowres.device)
        for axis, (m, f) in enumerate(zip(lowres.shape[-2:], factor, strict=True))
    )
    return rows @ lowres @ columns.T


def draw(rng: np.random.Generator, slices: tuple[int, ...], shape: tuple[int, int], recipe: Recipe) -> PatchPlan:
    """Draw one step's plan.

    Parameters
    ----------
    rng : the only source of chance
    slices : indices to draw from, each at most once a step while they last
    shape : (X, Y) of the high-resolution slices
    recipe : batch, patch and augmentation
    """
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
    """Move the content by fractions of a voxel (towards higher indices) with a phase ramp; it wraps at the edges."""
    rows, columns = (torch.fft.fftfreq(n, dtype=torch.float64) for n in image.shape[-2:])
    angle = -2 * torch.pi * (rows[:, None] * shift[0] + columns[None] * shift[1])
    ramp = torch.polar(torch.ones_like(angle), angle).to(image.device, torch.complex64)
    return torch.fft.ifft2(torch.fft.fft2(image) * ramp).real


def cut(images: SliceSet, plan: PatchPlan, recipe: Recipe, planes: Planes) -> Batch:
    """The tensors of a plan; the same plan gives the same tensors."""
    index = list(plan.slices)
    lowres, target, weight = images.lowres[index], images.highres[index], images.mask[index]
    size = (lowres.shape[-2], lowres.shape[-1])
    if recipe.augmentation != type(recipe.augmentation)():
        residue = lowres - planes.crop(target, size)
        turned = [
            torch.stack([dihedral(image, code) for image, code in zip(stack, plan.dihedral, strict=True)])
            for stack in (target, residue, weight)
        ]
        target, residue, weight = turned
        if plan.shift != (0.0, 0.0):
            target = shifted(target, plan.shift)
        # the coarse image's own noise scales with the gain, and hardly with the exponent
        target = target.sign() * target.abs() ** plan.gamma * plan.gain
        lowres = planes.crop(target, size) + residue * plan.gain
        if plan.noise_sd:
            draw_noise = torch.Generator().manual_seed(plan.noise_seed)
            noise = plan.noise_sd * torch.randn(lowres.shape, generator=draw_noise).to(lowres.device)
            lowres, target = lowres + noise, target + planes.fill(noise)
    weight = weight + recipe.background * (1 - weight)
    network_input = images.to_input(lowres, recipe.upsampled_by)
    if plan.origins is not None and isinstance(recipe.patch, int):
        network_input, target, weight = (
            _windows(stack, plan.origins, recipe.patch) for stack in (network_input, target, weight)
        )
    return Batch(input=network_input, target=target, weight=weight)


def _windows(stack: Tensor, origins: tuple[tuple[int, int], ...], side: int) -> Tensor:
    return torch.stack(
        [image[..., x : x + side, y : y + side] for image, (x, y) in zip(stack, origins, strict=True)]
    ).contiguous()
