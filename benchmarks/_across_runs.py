"""Measured runs with thin slices, and copies of them with slices of twice the thickness.

A copy has slices as a scanner with thick slices would have acquired them: means of thin slices
over a slice profile, at positions that can be shifted. Head motion and the noise of the copy are
estimated from thick slices; only `ThinRun.effects` comes from thin slices.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
from _people_effects import Array4D
from nibabel.affines import apply_affine, voxel_sizes
from scipy.ndimage import binary_dilation, gaussian_filter

from bids_sr.combination.slice_fusion import (
    THIN_PER_THICK,
    compute_slice_positions,
    interpolate_thin,
    slice_profiles,
)
from bids_sr.glm.blocks import BlockDesign, block_design
from bids_sr.glm.confounds import MOTION
from bids_sr.glm.design import DesignSettings
from bids_sr.glm.linear_model import ContrastModel
from bids_sr.glm.noise import estimate_noise
from bids_sr.glm.regressors import Events, read_events
from bids_sr.io.arrays import Array, Float, MaskArray, evenly_spaced
from bids_sr.io.nifti import SeriesReader, SeriesWriter
from bids_sr.io.volume_times import reference_time
from bids_sr.quality.series_quality import series_quality
from bids_sr.spatial.hmc import estimate_motion
from bids_sr.spatial.masks import brain_mask
from bids_sr.spatial.slice_timing import correct_slice_timing
from bids_sr.spatial.transforms import resize_affine
from bids_sr.sr.prior_maps.temporal_components import motion_regressors, temporal_statistics

N_DUMMY = 5  # volumes before the steady state
ACTIVE_T = 4.0  # voxels with a larger |t| are active
_FIELD_FWHM = 4.0  # voxels in plane, smoothness of the simulated field
FILES = {
    "pydecnef 1": "pydecnef/sub-01/func/sub-01_task-perception_run-01",
    "pydecnef 2": "pydecnef/sub-01/func/sub-01_task-perception_run-02",
    "studyforrest": "studyforrest-localizer/sub-01/func/sub-01_task-localizer",
    "opennft": "opennft/sub-01/func/sub-01_task-nfpsc",
}


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Slice profile of thick slices as averages of thin slices."""

    gaussian: bool = False  # FWHM of a thick slice, instead of a box
    dephasing: float = 0.0  # rad, SD of the phase difference between the halves of a slice

    def matrix(self, positions: Array, n_thin: int) -> Float:
        """Return the weights of thin slices (m, n) in thick slices at positions (m,)."""
        if not self.gaussian:
            return slice_profiles(positions, n_thin)
        distance = (np.arange(n_thin) - positions[:, None]) / THIN_PER_THICK
        weights = np.exp(-4 * np.log(2) * distance**2)
        return np.asarray(weights / weights.sum(axis=1, keepdims=True))

    def acquire(self, thin: Array, positions: Array) -> Array:
        """Return thick slices (X, Y, m, T) at positions (m,) of thin slices (X, Y, n, T)."""
        matrix = self.matrix(positions, thin.shape[2]).astype(np.float32)
        if not self.dephasing:
            return np.einsum("mn,xynt->xymt", matrix, thin, optimize=True)
        phase = dephasing_field(thin.shape[:3], self.dephasing)
        real, imaginary = (
            np.einsum("mn,xyn,xynt->xymt", matrix, part, thin, optimize=True)
            for part in (np.cos(phase), np.sin(phase))
        )
        return np.hypot(real, imaginary)


def dephasing_field(shape: tuple[int, ...], sd: float) -> Array:
    """Return a phase (X, Y, n) whose differences between neighboring slices have an SD (rad).

    The phase does not change over time. It is smooth in plane, and the same in both runs of a
    participant, in the frame of the scanner.
    """
    steps = np.random.default_rng(0).normal(size=shape)
    steps = gaussian_filter(steps, (_FIELD_FWHM / 2.355, _FIELD_FWHM / 2.355, 0), mode="wrap")
    return (np.cumsum(steps * (sd / steps.std()), axis=2)).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class ThinRun:
    """A measured run, corrected for slice timing."""

    name: str
    series: Array  # (X, Y, n, T), steady volumes
    affine: Array
    tr: float
    design: BlockDesign
    nuisance: Array  # (T, 12), head motion
    poses: Array  # (T, 4, 4), from the mean of the thick slices to each volume
    events: Events
    thick_affine: Array

    @cached_property
    def effects(self) -> Array:
        """Effects by block in thin slices (B, X, Y, n)."""
        return np.moveaxis(self.series @ self.design.weights.astype(np.float32), 3, 0)

    @property
    def halves(self) -> Array:
        """Half of each block (B,), 0 or 1."""
        return np.array([block.half for block in self.design.blocks])

    def copy(self, shift: float = 0.0, profile: Profile | None = None) -> ThickRun:
        """Return a copy with thick slices, whose stack is shifted by a number of thin slices."""
        positions = compute_slice_positions(self.series.shape[2] // THIN_PER_THICK) + shift
        series = (profile or Profile()).acquire(self.series, positions)
        return ThickRun(thin=self, series=series, shift=shift)


@dataclass(frozen=True, kw_only=True)
class ThickRun:
    """A copy of a run with thick slices."""

    thin: ThinRun
    series: Array  # (X, Y, m, T)
    shift: float  # thin slices

    @cached_property
    def effects(self) -> Array:
        """Effects by block (B, X, Y, m)."""
        return np.moveaxis(self.series @ self.thin.design.weights.astype(np.float32), 3, 0)

    @cached_property
    def mean(self) -> Array:
        """Mean over time (X, Y, m)."""
        return self.series.mean(axis=3)

    @cached_property
    def brain(self) -> MaskArray:
        """Brain (X, Y, m)."""
        return brain_mask(self.mean, self.thin.thick_affine)

    @cached_property
    def columns(self) -> MaskArray:
        """Columns near the brain (X, Y)."""
        return np.asarray(binary_dilation(self.brain.any(axis=2), iterations=2))

    @cached_property
    def slow_sd(self) -> Array:
        """SD over time of the slow components (X, Y, m), without head motion."""
        reader: Any = Array4D(self.series, self.thin.tr, self.thin.thick_affine)
        statistics = temporal_statistics(reader, self.brain, nuisance=self.thin.nuisance)
        return np.sqrt(np.square(statistics.components).sum(axis=0))

    def sd(self, mask: MaskArray) -> Array:
        """SD over time after a quadratic trend (X, Y, m), 0 outside a mask."""
        zooms = voxel_sizes(self.thin.thick_affine).tolist()
        volumes = (np.ascontiguousarray(v) for v in np.moveaxis(self.series, 3, 0))
        return series_quality(volumes, mask, zooms, n_volumes=self.series.shape[3]).noise

    @cached_property
    def t(self) -> Array:
        """Return t of the mean over blocks (X, Y, m) in the brain."""
        return mean_t(self.series, self.thin.design, self.brain, self.thin.thick_affine)

    @cached_property
    def active(self) -> MaskArray:
        """Active voxels in thin slices (X, Y, n): splined thick series with |t| > 4."""
        inside = np.repeat(self.brain, THIN_PER_THICK, axis=2)
        splined = interpolate_thin(np.moveaxis(self.series, 2, 3))
        t = mean_t(np.moveaxis(splined, 3, 2), self.thin.design, inside, self.thin.affine)
        return np.abs(t) > ACTIVE_T

    @cached_property
    def active_map(self) -> MaskArray:
        """Active voxels in thin slices, from the splined t map of thick slices."""
        inside = np.repeat(self.brain, THIN_PER_THICK, axis=2)
        return inside & (np.abs(interpolate_thin(self.t)) > ACTIVE_T)


def mean_t(series: Array, design: BlockDesign, mask: MaskArray, affine: Array) -> Array:
    """Return t of the mean over blocks in a series (X, Y, Z, T), 0 outside a mask."""
    signals = np.ascontiguousarray(series[mask].T, dtype=np.float32)
    contrast = np.zeros((1, design.matrix.shape[1]))
    contrast[0, : len(design.blocks)] = 1 / len(design.blocks)
    everything = slice(0, signals.shape[1])
    noise = estimate_noise([(everything, signals)], design.matrix, mask, voxel_sizes(affine))
    t = np.zeros(mask.shape)
    t[mask] = ContrastModel(design.matrix, contrast, noise).fit(signals)["t"][0]
    return t


def thin_run(data: Path, name: str) -> ThinRun:
    """Read a run of `FILES` in a folder of data sets."""
    stem = str(data / FILES[name])
    image: Any = nib.load(f"{stem}_bold.nii.gz")  # type: ignore[attr-defined]
    raw = np.asarray(image.dataobj, dtype=np.float32)
    raw = raw[:, :, : raw.shape[2] // THIN_PER_THICK * THIN_PER_THICK]
    sidecar = json.loads(Path(f"{stem}_bold.json").read_text())
    tr, slice_times = float(sidecar["RepetitionTime"]), sidecar["SliceTiming"][: raw.shape[2]]
    n_thick = raw.shape[2] // THIN_PER_THICK
    thick_affine = resize_affine(image.affine, raw.shape[:3], (*raw.shape[:2], n_thick))
    poses, center = motion_of(raw, thick_affine)
    nuisance = motion_regressors(poses, center)
    padded = np.pad(nuisance, [(N_DUMMY, 0), (0, 0)])
    events = read_events(Path(f"{stem}_events.tsv"))
    reference = reference_time(slice_times, 0.5)
    design = block_design(
        events,
        DesignSettings(start_time=reference),
        n_volumes=raw.shape[3],
        tr=tr,
        n_dummy=N_DUMMY,
        confounds=pd.DataFrame(padded[:, : len(MOTION)], columns=list(MOTION)),
        confound_names=MOTION,
    )
    return ThinRun(
        name=name,
        series=timed(raw, image.affine, tr, slice_times, reference)[..., N_DUMMY:],
        affine=image.affine,
        tr=tr,
        design=design,
        nuisance=nuisance,
        poses=poses,
        events=events,
        thick_affine=thick_affine,
    )


def motion_of(raw: Array, thick_affine: Array) -> tuple[Array, Array]:
    """Return poses (T, 4, 4) of steady volumes of thick slices, and the center of the brain."""
    thick = (0.5 * (raw[:, :, 0::2] + raw[:, :, 1::2]))[..., N_DUMMY:]
    mean = thick.mean(axis=3)
    brain = brain_mask(mean, thick_affine)
    volumes = [np.ascontiguousarray(volume) for volume in np.moveaxis(thick, 3, 0)]
    calibration = [volumes[t] for t in evenly_spaced(len(volumes), 40)]
    motion = estimate_motion(volumes, mean, brain, thick_affine, calibration=calibration)
    return motion.matrices, apply_affine(thick_affine, np.argwhere(brain).mean(axis=0))


def timed(
    raw: Array, affine: Array, tr: float, slice_times: list[float], reference: float
) -> Array:
    """Return a series (X, Y, n, T) with all slices at one time of acquisition."""
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder) / "raw.nii", Path(folder) / "timed.nii"
        with SeriesWriter(before, raw.shape, affine, tr) as writer:
            for volume in np.moveaxis(raw, 3, 0):
                writer.append(volume)
        with (
            SeriesReader(before) as reader,
            SeriesWriter(after, raw.shape, affine, tr) as writer,
        ):
            correct_slice_timing(reader, writer, slice_times, tr, reference, n_dummy=N_DUMMY)
        image: Any = nib.load(after)  # type: ignore[attr-defined]
        return np.array(image.dataobj, dtype=np.float32)
