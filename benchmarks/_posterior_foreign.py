"""Effects that follow the prior of a run, and effects that do not, as the prior reconstructs them.

The prior is from a stored model. Without noise: coverage of the interval effect +- 1.96 SD. With
the thermal noise and the effect strength of the run: the sign reliable region, and its voxels of
the wrong sign.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from _posterior_maps import Array, Stored
from scipy import ndimage

from bids_sr.glm.activation_regions import fdr_region, sign_reliable_region
from bids_sr.spatial.nyquist import FWHM_PER_SIGMA
from bids_sr.sr.prior_maps.posterior import (
    _compute_square_root,
    effect_scale,
    wrong_sign_probability,
)
from bids_sr.sr.prior_maps.prior import Prior
from bids_sr.sr.steps.error_samples import interpolate_to_shape

REPEATS, NOISES = 4, 32
ENVELOPE_MM = 12.0


class _EffectMaker:
    """Simulated effects (X, Y, Z) on the high-resolution grid of a run."""

    def __init__(self, stored: Stored, seed: int) -> None:
        self.rng, self.stored, self.mask = np.random.default_rng(seed), stored, stored.mask()
        self.random = torch.Generator().manual_seed(seed)

    def smooth(self, values: Array, fwhm_mm: float) -> Array:
        sigma = [fwhm_mm / FWHM_PER_SIGMA / float(zoom) for zoom in self.stored.zooms[1]]
        return np.asarray(ndimage.gaussian_filter(values, sigma))

    def field(self, fwhm_mm: float) -> Array:
        """Return smooth noise of unit variance."""
        smoothed = self.smooth(self.rng.standard_normal(self.mask.shape), fwhm_mm * FWHM_PER_SIGMA)
        return np.asarray(smoothed / smoothed.std())

    def from_prior(self) -> Array:
        """Return a draw from the prior."""
        prior, out = self.stored.prior, np.zeros(self.mask.shape, np.float32)
        for z in range(self.mask.shape[2]):
            for width, weight in zip(prior.fwhm, prior.weight[:, z], strict=True):
                along_x, along_y = (_compute_square_root(size, width) for size in weight.shape)
                white = torch.randn(weight.shape, generator=self.random)
                out[..., z] += (weight * (along_x @ white @ along_y)).numpy()
        return out

    def foci(self, fwhm_mm: float) -> Array:
        out = np.zeros(self.mask.shape, np.float32)
        places = np.argwhere(self.mask)
        out[tuple(places[self.rng.choice(len(places), 40, replace=False)].T)] = 1
        return self.smooth(out, fwhm_mm)

    def texture(self, fwhm_mm: float) -> Array:
        fine = self.field(fwhm_mm / FWHM_PER_SIGMA)
        return np.asarray(fine * np.maximum(self.field(ENVELOPE_MM) - 1, 0))

    def effects_by_kind(self) -> dict[str, Array]:
        all_effects = {"prior, one scale": self.from_prior()}
        all_effects["prior, local scale varies"] = self.from_prior() * np.maximum(
            self.field(ENVELOPE_MM) - 1, 0.1
        )
        all_effects |= {f"foci of {mm:g} mm": self.foci(mm) for mm in (4, 6, 8, 12)}
        all_effects |= {f"texture of {mm:g} mm": self.texture(mm) for mm in (3, 4.5, 9)}
        return {name: values * self.mask for name, values in all_effects.items()}


def _reconstructed(prior: Prior, data: Array) -> Array:
    """Reconstruct acquired volumes (N, x, y, Z) by zero filling and the prior."""
    level = prior.region.level
    slices = []
    with torch.inference_mode():
        for z in range(data.shape[3]):
            data_slice = torch.from_numpy(np.ascontiguousarray(data[..., z], dtype=np.float32))
            slices.append(
                (
                    level.upsample(data_slice)
                    + level.select_above_nyquist(prior.make_slice_function(z)(data_slice))
                ).numpy()
            )
    return np.stack(slices, axis=-1)


def foreign(stored: Stored) -> list[dict[str, Any]]:
    """Return a row for each kind of effect, mean over `REPEATS`."""
    rows: dict[str, list[dict[str, float]]] = {}
    for seed in range(REPEATS):
        for name, row in _once(stored, seed):
            rows.setdefault(name, []).append(row)
    return [
        {"effect": name}
        | {k: float(np.nanmean([row[k] for row in row_list])) for k in row_list[0]}
        for name, row_list in rows.items()
    ]


def _once(stored: Stored, seed: int) -> Iterator[tuple[str, dict[str, float]]]:
    maker, prior, mask, low_mask = (
        _EffectMaker(stored, seed),
        stored.prior,
        stored.mask(),
        stored.mask("acquired"),
    )
    effects, level = maker.effects_by_kind(), prior.region.level
    down = [
        np.moveaxis(
            level.downsample(torch.from_numpy(np.moveaxis(x, 2, 0).astype(np.float32))).numpy(),
            0,
            2,
        )
        for x in effects.values()
    ]
    spread = stored.map("all", "variance", "acquired")
    # as strong as the effect of the run: the highest percent of |t|
    t = np.abs(stored.map("all", "t", "acquired")[low_mask])
    se = np.sqrt(np.where(low_mask, spread, 0))
    strong = [
        np.quantile(t, 0.99) / np.quantile(np.abs(y[low_mask] / se[low_mask]), 0.99) for y in down
    ]
    noises = maker.rng.standard_normal((NOISES, *se.shape)) * se
    data = list(down) + [y * a + noises[0] for y, a in zip(down, strong, strict=True)]
    estimates = _reconstructed(prior, np.stack([*data, *noises[1:]]))
    count = len(effects)
    variance = np.square(estimates[2 * count :]).mean(0)
    errors, power = stored.draws
    unit = np.square(errors).mean(0)
    for k, ((name, truth), a) in enumerate(zip(effects.items(), strong, strict=True)):
        scale = interpolate_to_shape(
            effect_scale(down[k], 0 * spread, power, low_mask, stored.zooms[0]), mask.shape
        )
        ratio = np.mean(down[k][low_mask] ** 2) / np.mean(power[low_mask])
        error = (estimates[k] - truth)[mask]
        sd = np.sqrt(scale * unit)[mask]
        zero = stored_detail(prior, truth, down[k])[mask]
        b = data[count + k]
        local_scale = effect_scale(b, spread * low_mask, power, low_mask, stored.zooms[0])
        effect, total = (
            estimates[count + k],
            variance + interpolate_to_shape(local_scale, mask.shape) * unit,
        )
        t_map = np.where(mask, effect / np.sqrt(np.maximum(variance, 1e-12)), 0)
        wrong = wrong_sign_probability(effect, total)
        active = fdr_region(t_map, mask)[0]
        reliable = sign_reliable_region(t_map, wrong, active)
        where = {"active": active, "sign reliable": reliable}
        yield (
            name,
            {
                "coverage": float(np.mean(np.abs(error) < 1.96 * sd)),
                "coverage, one scale for all": float(
                    np.mean(error**2 < 1.96**2 * (ratio * unit)[mask])
                ),
                "coverage with noise": float(
                    np.mean((estimates[count + k] - a * truth)[mask] ** 2 < 1.96**2 * total[mask])
                ),
                "coverage, tenth of largest SD": float(
                    np.mean((np.abs(error) < 1.96 * sd)[sd >= np.quantile(sd, 0.9)])
                ),
                "rms error / SD": float(np.sqrt(np.mean(error**2) / np.mean(sd**2))),
                "explained": float(1 - np.mean(error**2) / np.mean(zero**2)),
            }
            | {f"{at}, voxels": float(region.sum()) for at, region in where.items()}
            | {
                f"{at}, {label}": float(values[region].mean()) if region.any() else float("nan")
                for at, region in where.items()
                for label, values in (("expected wrong", wrong), ("wrong", truth < 0))
            },
        )


def stored_detail(prior: Prior, truth: Array, acquired: Array) -> Array:
    """Return the detail that zero filling misses."""
    slices = torch.from_numpy(np.moveaxis(acquired, 2, 0).astype(np.float32))
    return np.asarray(truth - np.moveaxis(prior.region.level.upsample(slices).numpy(), 0, 2))
