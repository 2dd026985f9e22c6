"""Measured runs downsampled by two in memory, and the variance of their effects that a map
explains.

A run is treated as acquired: its k-space is cropped about the center of the field of view, thermal
noise is added if requested, and the program gets the magnitude. Head motion is estimated from the
copy and enters both linear models, for the low-resolution copy and for the measured run; no volume
is resampled, so that both have the same acquisition.

The explained variance is defined as in the program's evaluation: the effect of all conditions in
one half of the blocks, above the acquired Nyquist frequency, is compared with the measured effect
in the other half. The energy of the reference is the product of both halves, so that it is free of
noise. Because the detail is linear in the data, it is computed only from the effect maps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import torch
from _people_measured import FACTOR, FIRST, Array
from torch import Tensor

from bids_sr.evaluation.agreement import (
    BlockComparison,
    _compute_inner_products,
    _compute_statistics,
    interval,
    resample_weights,
)
from bids_sr.glm.blocks import BlockDesign, TooFewBlocks, block_design
from bids_sr.glm.confounds import motion_columns, motion_table
from bids_sr.glm.halves import half_weights, select_split_conditions
from bids_sr.glm.linear_model import ContrastModel
from bids_sr.glm.noise import estimate_noise
from bids_sr.glm.regressors import Events, read_events
from bids_sr.retrospective.downsampling import noise_to_add, thermal_noise
from bids_sr.spatial.hmc import estimate_motion
from bids_sr.sr.matrices import kspace_crop
from bids_sr.sr.operators import ResolutionLevel, interpolate, level_above, to_slices, to_volume
from bids_sr.sr.prior_maps.prior import Prior

_P = "pydecnef/sub-01/func/sub-01_task-perception_run-0{}_bold.nii.gz"
FILES = {
    "studyforrest": "studyforrest-lowres-truth/sub-01/func/sub-01_task-localizer_bold.nii.gz",
    "pydecnef 1": _P.format(1),
    "pydecnef 2": _P.format(2),
    "opennft": "opennft/sub-01/func/sub-01_task-nfpsc_bold.nii.gz",
}
_ACTIVE = 4.0  # |t|


@dataclass
class Array4D:
    """Reader of a series (x, y, z, T) in memory, with the methods that the program needs."""

    data: Array
    tr: float
    affine: Array

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the series."""
        return tuple(self.data.shape)

    def slab(self, start: int, stop: int) -> Array:
        """Return some slices of all volumes."""
        return np.asarray(self.data[:, :, start:stop])

    def volume(self, t: int) -> Array:
        """Return one volume."""
        return np.asarray(self.data[..., t])


@dataclass(frozen=True, kw_only=True)
class Acquired:
    """A measured run in the steady state, (X, Y, Z, T), and its low-resolution copy."""

    name: str
    measured: Array
    low: Array
    affine: Array  # of the copy
    tr: float
    events: Events  # times from the first of these volumes
    poses: Array  # (T, 4, 4), of the copy

    @cached_property
    def mask(self) -> Array:
        """Brain of the copy."""
        return brain(self.low)

    @cached_property
    def fine_mask(self) -> Array:
        """Brain of the measured run."""
        return brain(self.measured)

    @cached_property
    def level(self) -> ResolutionLevel:
        """From the copy to the measured grid."""
        return level_above(self.low.shape[:3], FACTOR)

    @property
    def reader(self) -> Any:
        """Reader of the copy."""
        return Array4D(self.low, self.tr, self.affine)

    def part(self, first: int, end: int) -> Acquired:
        """Return some of its volumes."""
        table = self.events.table
        moved = table.assign(onset=table["onset"] - first * self.tr)
        volumes = slice(first, end)
        return replace(
            self,
            measured=self.measured[..., volumes],
            low=self.low[..., volumes],
            poses=self.poses[volumes],
            events=replace(self.events, table=moved),
        )

    @cached_property
    def design(self) -> BlockDesign:
        """Design with one regressor per block, head motion and its derivatives, and drift."""
        return block_design(
            self.events,
            n_volumes=self.low.shape[3],
            tr=self.tr,
            confounds=_confounds(self.poses, self.low, self.affine),
        )

    @cached_property
    def halves(self) -> Array:
        """Weights of the blocks in the effect of all conditions that can be split, by half."""
        blocks = self.design.blocks
        names = select_split_conditions(blocks, {block.condition: 1.0 for block in blocks})
        weights = half_weights(blocks, names, self.design.leak) if names else None
        if weights is None:
            raise TooFewBlocks(f"{self.name}: its blocks cannot be split")
        return weights

    def blocks(self, series: Array) -> Tensor:
        """Estimate least-squares effects of all blocks (B, Z, X, Y)."""
        columns = self.design.weights.astype(np.float32)
        return torch.from_numpy(np.tensordot(series, columns, 1).transpose(3, 2, 0, 1).copy())

    @cached_property
    def active(self) -> Array:
        """High-resolution voxels of the brain where the copy is active.

        |t| > 4 for all conditions in all blocks, unsmoothed, after B-spline interpolation to the
        high-resolution grid.
        """
        mask, design = self.fine_mask, self.design
        raised = np.stack(
            [
                to_volume(interpolate("bspline", to_slices(volume), self.level.highres_shape))[
                    mask
                ]
                for volume in np.moveaxis(self.low, 3, 0)
            ]
        ).astype(np.float32)
        zooms = nib.affines.voxel_sizes(self.affine) / FACTOR  # type: ignore[attr-defined]
        modeled = np.flatnonzero(design.weights.any(0))  # the first columns, in this order
        contrast = np.zeros((1, design.matrix.shape[1]))
        contrast[0, : len(modeled)] = self.halves.mean(0)[modeled]
        noise = estimate_noise([(slice(0, raised.shape[1]), raised)], design.matrix, mask, zooms)
        out = np.zeros(mask.shape, bool)
        out[mask] = np.abs(ContrastModel(design.matrix, contrast, noise).fit(raised)["t"][0]) > (
            _ACTIVE
        )
        return out

    @cached_property
    def truth(self) -> Tensor:
        """Measured effects of all blocks above the acquired Nyquist frequency (B, Z, X, Y)."""
        return self.level.select_above_nyquist(self.blocks(self.measured))

    def explained(
        self, prior: Prior, regions: Mapping[str, Array], n_boot: int = 200
    ) -> dict[str, tuple[float, float, float]]:
        """Compute the explained variance of the effect above the acquired Nyquist frequency.

        Returns the mean of both directions and its 95 % interval over blocks, in regions (X, Y, Z)
        of high-resolution voxels.
        """
        estimate, explained_by_region = detail(prior, self.level, self.blocks(self.low)), {}
        a, b = resample_weights(self.design.blocks, self.halves, n_boot, 0, "all")
        for name, region in regions.items():
            inside = torch.from_numpy(np.moveaxis(region, 2, 0).copy())
            ours, true = estimate[:, inside].numpy(), self.truth[:, inside].numpy()
            grams = [
                _compute_inner_products(*effects)
                for effects in ((ours, ours), (ours, true), (true, true))
            ]
            ways = [
                _compute_statistics(
                    BlockComparison(contrast="all", source=x, target=y, twin=x), *grams
                )["ev"]
                for x, y in ((a, b), (b, a))
            ]
            values = np.mean(ways, 0)
            explained_by_region[name] = (float(values[0]), *interval(values))
        return explained_by_region

    def explained_volumes(self, prior: Prior, step: int = 8) -> float:
        """Compute the explained fraction of the change of single volumes above the acquired
        Nyquist frequency.
        """
        low, true = (
            torch.from_numpy((s - s.mean(3, keepdims=True))[..., ::step].transpose(3, 2, 0, 1))
            for s in (self.low, self.measured)
        )
        inside = torch.from_numpy(np.moveaxis(self.fine_mask, 2, 0).copy())
        missed = self.level.select_above_nyquist(true.contiguous())[:, inside]
        left = missed - detail(prior, self.level, low.contiguous())[:, inside]
        return 1 - float(left.square().sum() / missed.square().sum())


def detail(prior: Prior, level: ResolutionLevel, images: Tensor) -> Tensor:
    """Return the detail that a prior adds to images (N, z, x, y) above the acquired Nyquist
    frequency, (N, Z, X, Y).
    """
    with torch.inference_mode():
        slices_detail = [
            prior.make_slice_function(z)(images[:, z]) for z in range(images.shape[1])
        ]
        return level.select_above_nyquist(torch.stack(slices_detail, 1))


def brain(series: Array) -> Array:
    """Return voxels whose mean exceeds a quarter of its upper end."""
    mean = series.mean(3)
    return np.asarray(mean > 0.25 * np.percentile(mean, 98))


def _confounds(poses: Array, low: Array, affine: Array) -> pd.DataFrame:
    from bids_sr.spatial.transforms import rigid_params

    middle = nib.affines.apply_affine(affine, np.argwhere(brain(low)).mean(0))  # type: ignore[attr-defined]
    params = np.stack([rigid_params(pose, middle) for pose in poses])
    return pd.DataFrame(motion_columns(motion_table(params, np.zeros(len(params)))))


def acquired(data: Path, name: str, scratch: Path, *, noise: float = 0.0) -> Acquired:
    """Read a run of `FILES` below a folder and make its copy, without the first volumes.

    noise : standard deviation of the thermal noise added to a voxel of the copy, 1 for the noise
        of a measured voxel; head motion is estimated once and stored in `scratch`
    """
    file = data / FILES[name]
    image: Any = nib.load(file)  # type: ignore[attr-defined]
    stored = np.asarray(image.dataobj[..., FIRST:], dtype=np.float32)
    x, y = (n // 4 * 4 for n in stored.shape[:2])
    measured = stored[:x, :y]
    tr = float(image.header.get_zooms()[3])
    sd = noise * noise_to_add(thermal_noise(file, FIRST), FACTOR)
    rng = np.random.default_rng(0)
    volumes = []
    for volume in np.moveaxis(measured, 3, 0):
        low, affine = kspace_crop(volume.astype(np.complex64), image.affine, factor=FACTOR)
        white = rng.standard_normal((2, *low.shape))
        volumes.append(np.abs(low + sd * (white[0] + 1j * white[1])).astype(np.float32))
    copy = np.stack(volumes, 3)
    motion_file = scratch / f"motion-{name.replace(' ', '-')}-{noise:g}.npy"
    if not motion_file.exists():
        scratch.mkdir(parents=True, exist_ok=True)
        motion = estimate_motion(volumes, copy.mean(3), brain(copy), affine)
        np.save(motion_file, motion.matrices)
    events = read_events(file.with_name(file.name.replace("_bold.nii.gz", "_events.tsv")))
    run = Acquired(
        name=name,
        measured=measured,
        low=copy,
        affine=affine,
        tr=tr,
        events=events,
        poses=np.load(motion_file),
    )
    moved = events.table.assign(onset=events.table["onset"] - FIRST * tr)
    return replace(run, events=replace(events, table=moved))
