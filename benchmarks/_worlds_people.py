"""Measured runs of three people without the response to their task, for simulated activity."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage, spatial

from bids_sr.glm.blocks import BlockDesign, block_design
from bids_sr.glm.design import DesignSettings, build_design
from bids_sr.glm.hemodynamic_response import HemodynamicResponse
from bids_sr.glm.regressors import Events
from bids_sr.glm.steps.linear_models import DesignInputs, LinearModel

Array = NDArray[Any]
CONTRAST = {"stimulus": 1.0}
# file of the run and number of volumes before its steady state, by name of the person
_RUNS = {
    "A": ("studyforrest-lowres-truth/sub-01/func/sub-01_task-localizer", 0),
    "B2": ("pydecnef/sub-01/func/sub-01_task-perception_run-02", 6),
    "C": ("opennft/sub-01/func/sub-01_task-nfpsc", 25),
}
PEOPLE = tuple(_RUNS)
"""Names of the people: studyforrest, run 2 of pydecnef, opennft."""
_FWHM_PER_SIGMA = 2.3548
# neighbors of a voxel in its slice
_IN_PLANE = ndimage.generate_binary_structure(3, 1) & [[[False, True, False]]]


@dataclass(frozen=True)
class Person:
    """Measured run without its task: fluctuations (X, Y, Z, T), brain, voxel size and events.

    The methods return random images on the grid of the run (X, Y, Z).
    """

    series: Array
    mean: Array
    mask: Array
    affine: Array
    tr: float
    events: Events

    @property
    def zooms(self) -> Array:
        """Voxel size (mm)."""
        return nib.affines.voxel_sizes(self.affine)

    @cached_property
    def sd(self) -> Array:
        """Standard deviation of the fluctuations over time, 0 outside of the brain."""
        return np.where(self.mask, self.series.std(-1), 0)

    @property
    def design(self) -> BlockDesign:
        """Model with one regressor per block."""
        return block_design(
            self.events, n_volumes=self.series.shape[3], tr=self.tr, confound_names=()
        )

    @property
    def linear_model(self) -> LinearModel:
        """Linear model without confounds, with the contrast ``stimulus``."""
        inputs = DesignInputs(regressors=self.events, n_dummy=0, design=DesignSettings())
        return LinearModel(inputs=inputs, contrasts={"stimulus": CONTRAST}, nuisance=[])

    def compute_response(self, events: Events) -> Array:
        """Return the response to events at the middle of each volume (T,)."""
        times = (np.arange(self.series.shape[3]) + 0.5) * self.tr
        return np.asarray(events.responses(times, HemodynamicResponse())["stimulus"][:, 0])

    def smooth(self, image: Array, fwhm_mm: float) -> Array:
        """Smooth an image with a Gaussian."""
        return np.asarray(
            ndimage.gaussian_filter(image, fwhm_mm / _FWHM_PER_SIGMA / self.zooms)
            if fwhm_mm
            else image
        )

    def field(self, rng: np.random.Generator, fwhm_mm: float) -> Array:
        """Return a random field of unit standard deviation with a given smoothness."""
        noise = self.smooth(rng.standard_normal(self.mask.shape), fwhm_mm)
        return np.asarray(noise / noise[self.mask].std())

    def area(self, rng: np.random.Generator) -> Array:
        """Return a smooth area that covers a part of the brain, 0 to 1."""
        return np.asarray(np.clip(self.field(rng, 40.0), 0, None) ** 1.5)

    def points(self, rng: np.random.Generator, count: int) -> Array:
        """Return 1 in voxels at random places of the brain, two voxels inside its edge in plane.

        The slices at the ends of the run are as likely as others.
        """
        places = np.argwhere(ndimage.binary_erosion(self.mask, _IN_PLANE, iterations=2))
        points = np.zeros(self.mask.shape)
        points[tuple(places[rng.choice(len(places), count, replace=False)].T)] = 1
        return points

    def blobs(self, rng: np.random.Generator, fwhm_mm: float, count: int = 40) -> Array:
        """Return Gaussian foci of a given width at random places of the brain, highest value 1."""
        out = self.smooth(self.points(rng, count), fwhm_mm)
        return np.asarray(out / out.max())

    def hats(self, rng: np.random.Generator, diameter_mm: float, count: int) -> Array:
        """Return balls of equal value at random places of the brain, 0 to 1."""
        return self._balls(self.points(rng, count), diameter_mm)

    def hats_on_maxima(self, rng: np.random.Generator, diameter_mm: float) -> Array:
        """Return balls of equal value on maxima of the SD of the fluctuations, 0 to 1.

        A third to all of the usual number of balls are on the strongest maxima, two voxels inside
        the edge of the brain in plane.
        """
        smoothed = self.smooth(self.sd, diameter_mm / 2)
        inside = ndimage.binary_erosion(self.mask, _IN_PLANE, iterations=2)
        widths = np.maximum(3, 2 * np.round(diameter_mm / self.zooms / 2).astype(int) + 1)
        is_maximum = (ndimage.maximum_filter(smoothed, size=widths) == smoothed) & inside
        count = max(4, round(count_foci(diameter_mm) * float(rng.uniform(1 / 3, 1))))
        lowest = np.sort(smoothed[is_maximum])[::-1][:count][-1]
        return self._balls(is_maximum & (smoothed >= lowest), diameter_mm)

    def _balls(self, points: Array, diameter_mm: float) -> Array:
        """Return balls of equal value around points, 0 to 1.

        Voxels at the edge have the fraction of the voxel that is inside, along the radius.
        """
        distances = ndimage.distance_transform_edt(points == 0, sampling=self.zooms)
        return np.asarray(np.clip((diameter_mm / 2 - distances) / self.zooms[0] + 0.5, 0, 1))

    def size(
        self, rng: np.random.Generator, smallest: float = 4.0, largest: float = 20.0
    ) -> float:
        """Return a random size (mm); its logarithm is uniformly distributed."""
        return float(np.exp(rng.uniform(np.log(smallest), np.log(largest))))

    def shells(self, rng: np.random.Generator) -> Array:
        """Return hollow balls of random diameter and thickness at random places, 0 to 1."""
        diameter, thickness = self.size(rng, 8.0), self.size(rng, 3.0, 6.0)
        distances = ndimage.distance_transform_edt(
            self.points(rng, count_foci(diameter)) == 0, sampling=self.zooms
        )
        depth = np.minimum(diameter / 2 - distances, distances - diameter / 2 + thickness)
        return np.asarray(np.clip(depth / self.zooms[0] + 0.5, 0, 1))

    def plateaus(self, rng: np.random.Generator) -> Array:
        """Return boxes of equal value with random sides at random places, 0 or 1."""
        sides = [self.size(rng) for _ in range(3)]
        widths = np.maximum(1, np.round(np.array(sides) / self.zooms)).astype(int)
        points = self.points(rng, count_foci(float(np.prod(sides)) ** (1 / 3)))
        return np.asarray(ndimage.maximum_filter(points, size=widths))

    def sheets(self, rng: np.random.Generator) -> Array:
        """Return folded sheets of random thickness, 0 or 1, times a smooth area."""
        field = self.field(rng, self.size(rng, 15.0, 40.0))
        surface = np.diff(np.sign(field), axis=0, append=0) != 0
        distances = ndimage.distance_transform_edt(~surface, sampling=self.zooms)
        return np.asarray((distances < self.size(rng) / 2) * self.area(rng))

    def rim(self, rng: np.random.Generator) -> Array:
        """Return the outer part of the brain, of a random width, 0 or 1."""
        depth = ndimage.distance_transform_edt(self.mask, sampling=(*self.zooms[:2], 1e3))
        return np.asarray(self.mask & (depth < self.size(rng, 3.0, 12.0)))

    def stripes(self, rng: np.random.Generator, period_mm: float) -> Array:
        """Return a cosine wave along a random direction in plane."""
        direction, phase = rng.uniform(0, 2 * np.pi, 2)
        x, y = np.ogrid[: self.mask.shape[0], : self.mask.shape[1]]
        distances = (
            x * self.zooms[0] * np.cos(direction) + y * self.zooms[1] * np.sin(direction)
        )[..., None]
        wave = np.cos(2 * np.pi * distances / period_mm + phase)
        return np.broadcast_to(wave, self.mask.shape)

    def parcels(self, rng: np.random.Generator, width_mm: float) -> Array:
        """Return a random value per cell of a random division of the brain (Voronoi cells).

        Cells are as large as cubes of a given width, on average.
        """
        places = np.argwhere(self.mask)
        count = max(2, round(len(places) * float(self.zooms.prod()) / width_mm**3))
        # centers have the density of the brain, also outside of the brain mask
        centers = places[rng.choice(len(places), count, replace=False)] * self.zooms
        voxels = np.argwhere(np.ones_like(self.mask)) * self.zooms
        nearest = spatial.KDTree(centers).query(voxels)[1]
        return np.asarray(rng.standard_normal(count)[nearest].reshape(self.mask.shape))

    def power_law(self, rng: np.random.Generator, exponent: float) -> Array:
        """Return a random field whose spectral density falls with a power of the frequency."""
        # twice as many slices, because the field of the transform is periodic
        shape = (*self.mask.shape[:2], 2 * self.mask.shape[2])
        squares = [
            np.fft.fftfreq(size, zoom) ** 2 for size, zoom in zip(shape, self.zooms, strict=True)
        ]
        square = squares[0][:, None, None] + squares[1][:, None] + squares[2]
        square[0, 0, 0] = np.inf
        spectrum = np.fft.fftn(rng.standard_normal(shape)) * square ** (-exponent / 4)
        field = np.fft.ifftn(spectrum).real[..., : self.mask.shape[2]]
        return np.asarray(field / field[self.mask].std())


def count_foci(size_mm: float) -> int:
    """Return the number of foci of a size: 120 of 6 mm, 40 of 12 mm."""
    return max(8, round(120 * (6 / size_mm) ** 1.6))


def read_person(data: Path, name: str, n_slices: int) -> Person:
    """Read slices from the middle of a measured run, and subtract the response to its task."""
    stem, first = _RUNS[name]
    image: Any = nib.load(data / f"{stem}_bold.nii.gz")
    series = np.asarray(image.dataobj, dtype=np.float32)[..., first:]
    x, y = (n // 4 * 4 for n in series.shape[:2])
    start = (series.shape[2] - n_slices) // 2
    series = series[:x, :y, start : start + n_slices]
    affine = image.affine @ nib.affines.from_matvec(np.eye(3), (0, 0, start))
    tr = float(image.header["pixdim"][4])
    table = pd.read_csv(data / f"{stem}_events.tsv", sep="\t")[["onset", "duration"]]
    table["onset"] -= first * tr
    events = Events(table[table["onset"] >= 0].assign(trial_type="stimulus"))
    mean = series.mean(-1)
    mask = mean > 0.25 * np.percentile(mean, 98)
    mask = ndimage.binary_fill_holes(ndimage.binary_opening(mask))
    design = build_design(events, n_volumes=series.shape[3], tr=tr)
    time_series = series[mask] - mean[mask][:, None]
    weights = np.linalg.pinv(design.matrix)
    condition = design.matrix[:, [design.conditions.index("stimulus")]]
    effect = time_series @ weights[[design.conditions.index("stimulus")]].T
    series = series - mean[..., None]
    series[mask] = time_series - (effect @ condition.T).astype(np.float32)
    return Person(series, mean, mask, affine, tr, events)
