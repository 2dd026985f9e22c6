"""Try other weights of the two scales of `sbl`, at half the resolution of measured runs.

python benchmarks/detail_weights.py STORED WORK

STORED is the output of `people.py effects`: RUN/effects/events has the block effects at half the
resolution, and RUN/work-* the inputs of the test. WORK keeps the priors.

The reconstruction is linear, so that it is applied to the block effects of the downsampled run
instead of its volumes. Each scale of the prior contributes its own detail. The explained variance
is the value of `bids_sr.evaluation.tested_detail`, over all balanced splits of the blocks.

- *Variants* change the weights of the scales, add a scale, or change the noise. Maps are scaled to
  the variance of the run, as in `estimate_prior`.
- *Best weights* multiply the detail of each scale. They maximize the explained variance of the
  tested effects themselves, for a run or for each contrast: no rule can choose better ones.
- *Chosen weights* are the best weights in the blocks of one half of the run, in every second
  slice, or in the other region, and are tested in the rest. Halves need two blocks of a condition
  each.
- *Final resolution*: weights chosen at half the resolution are applied to the super-resolved run,
  and its detail is compared with the measured run.
"""

import gzip
import math
import pickle
import sys
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from _table import keep
from nibabel.affines import apply_affine

from bids_sr.engine.artifacts import Facts, File, Mask, Series
from bids_sr.engine.step import HERE, step
from bids_sr.evaluation.evidence import ACQUIRED_ACTIVE
from bids_sr.evaluation.reference_maps import TRUE_T
from bids_sr.evaluation.tested_detail import iterate_tested_detail
from bids_sr.glm.block_effects import Effects
from bids_sr.glm.contrasts import Contrasts
from bids_sr.glm.halves import SplitProducts, average_splits, split_contrasts
from bids_sr.io.arrays import Array, Float, Float32, MaskArray
from bids_sr.io.nifti import SeriesReader, SeriesWriter, load_image
from bids_sr.preproc.steps.outlier_volumes import reasons_by_volume
from bids_sr.spatial.itk_files import Transforms
from bids_sr.spatial.lapack import solve_in_place
from bids_sr.spatial.nyquist import beyond_nyquist
from bids_sr.spatial.transforms import resize_affine
from bids_sr.sr.models.model import load_model
from bids_sr.sr.operators import level_above, level_below, to_slices
from bids_sr.sr.prior_maps.estimation import estimate_prior
from bids_sr.sr.prior_maps.prior import Prior, Tile
from bids_sr.sr.prior_maps.temporal_components import (
    motion_regressors,
    open_uncompressed,
    temporal_statistics,
)
from bids_sr.sr.recipe import VarianceRecipe

RUNS = ("A", "B1-types", "B2-types", "C")
WIDER_SCALES = (6.0, 3.0, 1.5)  # high-resolution voxels, FWHM of correlations of three scales
FACTOR = (2.0, 2.0, 1.0)
MAX_DIFFERENCE = 1e-3  # of explained variance, between block effects and volumes
REMARKS = (
    "Explained: explained variance. Other columns: its gain, median over contrasts with a tested"
    " value at half the resolution. Variants and weights are the same for all contrasts of a run,"
    " or chosen per contrast. Best: chosen in the tested effects themselves. Other half: chosen in"
    " the blocks of the other half of the run. Other slices: in slices with odd or even number."
    " Other region: in the brain for active voxels, and in active voxels for the brain.",
    "Final: at the final resolution, against the measured run; weights are chosen at half the"
    " resolution.",
)
MAX_FINAL_DIFFERENCE = 0.1  # of the SD of effects; volumes are interpolated after head motion
LABELS = {ACQUIRED_ACTIVE: "active", "brain": "brain"}
REGIONS = tuple(LABELS)
Row = dict[str, Any]


class Variant(NamedTuple):
    """Changes of a prior: factors of its maps, and of its noise.

    `has_wider_scale`: whether the maps are estimated with `WIDER_SCALES`.
    """

    name: str
    factors: tuple[float, ...] = (1.0, 1.0)
    noise: float = 1.0
    has_wider_scale: bool = False


VARIANTS = (
    Variant("weights as estimated"),
    Variant("fine scale x 0", (1.0, 0.0)),
    Variant("fine scale x .5", (1.0, 0.5)),
    Variant("fine scale x 2", (1.0, 2.0)),
    Variant("coarse scale x 0", (0.0, 1.0)),
    Variant("noise x 10", noise=10.0),
    Variant("noise x 100", noise=100.0),
    Variant("third scale of 6 voxels", (1.0, 1.0, 1.0), has_wider_scale=True),
)


@step(makes="priors")
def estimate_half_priors(
    preproc: Series,
    bold_mask: Mask,
    hmc_xfms: Transforms,
    model_file: File,
    outliers: Facts | None = None,
    here: Path = HERE,
    *,
    n_dummy: int,
    random_seed: int,
) -> File:
    """Estimate the prior of a downsampled run with two and with three scales, as the test does.

    Returns a file with the maps, the noise and the FWHM of each prior, by number of scales.
    """
    recipe = load_model(model_file).recipe
    assert isinstance(recipe, VarianceRecipe)
    level, window = level_below(bold_mask.data.shape, FACTOR)
    plane = level.restrict_to_plane()
    low_mask = _downsample_mask(bold_mask.data)
    center = apply_affine(preproc.affine, np.argwhere(bold_mask.data).mean(0))
    low_file, priors = here / "low.nii", here / "priors.npz"
    with open_uncompressed(preproc.path, here) as reader, torch.inference_mode():
        affine = resize_affine(reader.affine, level.highres_shape, level.acquired_shape)
        shape = (*level.acquired_shape, reader.shape[3])
        with SeriesWriter(low_file, shape, affine, reader.tr) as writer:
            for k in range(shape[2]):
                slab = reader.slab(window[2].start + k, window[2].start + k + 1)
                slab = slab[window[0], window[1], 0]
                series = torch.from_numpy(np.ascontiguousarray(np.moveaxis(slab, -1, 0)))
                low_slab = np.moveaxis(plane.downsample(series).numpy(), 0, -1)
                writer.put_slab(k, low_slab[:, :, None])
    with SeriesReader(low_file) as reader:
        statistics = temporal_statistics(
            reader,
            low_mask,
            n_dummy,
            recipe.components,
            nuisance=motion_regressors(hmc_xfms, center),
            outliers=list(reasons_by_volume(outliers)),
        )
    low_file.unlink()
    components = torch.stack([to_slices(image) for image in statistics.components])
    arrays: dict[str, Any] = {}
    for scales in (recipe.fwhm, WIDER_SCALES):
        tile = Tile.from_mask(plane, low_mask)
        prior = estimate_prior(components, tile, replace(recipe, fwhm=scales), seed=random_seed)
        arrays[f"weight{len(scales)}"] = prior.weight.numpy()
        arrays[f"noise{len(scales)}"] = prior.noise
        arrays[f"fwhm{len(scales)}"] = scales
    np.savez(priors, **arrays)
    return priors


def _downsample_mask(mask: Array) -> MaskArray:
    """Return the brain mask (x, y, z) of the downsampled run."""
    level, window = level_below(mask.shape, FACTOR)
    in_window = to_slices(np.asarray(mask)[window] > 0)
    return np.asarray(np.moveaxis(level.downsample(in_window).numpy(), 0, 2) > 0.5)


def make_prior(priors: Path, mask: MaskArray, variant: Variant) -> Prior:
    """Return a variant of a stored prior; `mask` is the brain on the acquired grid (x, y, z)."""
    level, _ = level_below(mask.shape, FACTOR)
    count = len(variant.factors)
    with np.load(priors) as arrays:
        maps = torch.from_numpy(arrays[f"weight{count}"])
        prior = Prior(
            region=Tile.from_mask(level.restrict_to_plane(), _downsample_mask(mask)),
            weight=maps,
            fwhm=tuple(arrays[f"fwhm{count}"].tolist()),
            noise=float(arrays[f"noise{count}"]) * variant.noise,
        )
    factors = torch.tensor(variant.factors)[:, None, None, None]
    return replace(prior, weight=maps * factors).scale(prior.mean_variance)


def reconstruct_scales(prior: Prior, effects: Float32) -> Float32:
    """Downsample block effects (x, y, z, B), and return the detail of each scale (Q, x, y, z, B).

    The first scale includes the zero-filled effects.
    """
    plane = prior.region.level
    details = np.zeros((len(prior.weight), *effects.shape), np.float32)
    for z in range(effects.shape[2]):
        slices = torch.from_numpy(np.ascontiguousarray(np.moveaxis(effects[:, :, z], -1, 0)))
        change = plane.downsample(slices)
        scales = torch.zeros(len(prior.weight), len(change), *plane.highres_shape[:2])
        # tiles as in Prior.make_slice_function
        for tile in prior.make_tiles(4096, 18):
            if not tile.has_mask_voxels(z):
                continue
            solutions = change[:, *tile.data_range].flatten(1).numpy().copy()
            cholesky_factor = prior.factor_covariance(z, tile)
            solve_in_place(cholesky_factor, solutions, transposed=False)
            solve_in_place(cholesky_factor, solutions, transposed=True)
            _, responses = prior.compute_responses(z, tile, solutions)
            for q, response in enumerate(responses):
                scales[q, :, *tile.output_range] = (
                    torch.from_numpy(response) * prior.weight[q, z, *tile.output_range]
                )
        scales = plane.select_above_nyquist(scales)
        scales[0] += plane.upsample(change)
        details[:, :, :, z] = scales.permute(0, 2, 3, 1).numpy()
    return details


class Form(NamedTuple):
    """Explained energy of the acquired detail of a contrast, as a function of weights.

    It is 2 w'linear - w'square w with weights w of the scales (Q,). `energy` is the energy of the
    acquired detail.
    """

    linear: Float
    square: Float
    energy: float

    def explain(self, weights: Float) -> float:
        """Return the explained energy with some weights."""
        return float(2 * weights @ self.linear - weights @ self.square @ weights)


Forms = dict[str, Form]
"""Forms by contrast."""


def find_best_weights(forms: Sequence[Form]) -> Float:
    """Return the weights with the largest explained energy, summed over forms."""
    linear, square = (sum((form[part] for form in forms), 0.0) for part in (0, 1))
    return np.asarray(np.linalg.solve(square, linear))


@dataclass(frozen=True)
class Products:
    """Products of the detail of block effects, summed over voxels.

    `with_targets` are products of the detail of each scale and the acquired detail (Q, B, B),
    `between_scales` of the detail of two scales (Q, Q, B, B), and `of_targets` of the acquired
    detail (B, B).
    """

    with_targets: Float
    between_scales: Float
    of_targets: Float

    @classmethod
    def from_details(cls, details: Float32, targets: Float32, voxels: MaskArray) -> "Products":
        """Return the products of details of scales (Q, x, y, z, B) and acquired (x, y, z, B)."""
        scales = details[:, voxels].astype(np.float64)
        scales -= scales.mean(axis=1, keepdims=True)
        acquired = targets[voxels].astype(np.float64)
        acquired -= acquired.mean(axis=0)
        return cls(
            with_targets=np.einsum("qna,nb->qab", scales, acquired, optimize=True),
            between_scales=np.einsum("qna,rnb->qrab", scales, scales, optimize=True),
            of_targets=acquired.T @ acquired,
        )

    def form(self, splits: SplitProducts) -> Form:
        """Return the explained energy averaged over splits, as a function of the weights."""
        square = np.einsum("qrab,ab->qr", self.between_scales, splits.within)
        return Form(
            linear=np.einsum("qab,ab->q", self.with_targets, splits.between),
            square=(square + square.T) / 2,
            energy=float(np.vdot(splits.between, self.of_targets)),
        )


@dataclass(frozen=True)
class RegionForms:
    """Forms of a region with one variant of the prior.

    `run` are forms of all blocks and voxels. `halves` are forms of the blocks of each half of the
    run, and `slices` of all blocks in slices with even and with odd number. Contrasts with a
    single block of a condition in each half have no forms in `halves`.
    """

    run: Forms = field(default_factory=dict)
    halves: tuple[Forms, Forms] = field(default_factory=lambda: ({}, {}))
    slices: tuple[Forms, Forms] = field(default_factory=lambda: ({}, {}))

    def explain(self) -> dict[str, float]:
        """Return explained variances by contrast, with weights of 1."""
        return {
            contrast: form.explain(np.ones(len(form.linear))) / form.energy
            for contrast, form in self.run.items()
        }


@dataclass(frozen=True)
class ComparedDetail:
    """Detail of block effects at one resolution.

    `scales` is the detail of each scale of the prior (Q, x, y, z, B). `reference` are the block
    effects that it is compared with, with the brain, on the same grid. `active_t` are t maps of
    the data that were super-resolved, on this grid, by contrast.
    """

    scales: Float32
    reference: Effects
    active_t: Mapping[str, Float32]

    def make_forms(
        self, contrasts: Contrasts, keys: Collection[tuple[str, str]]
    ) -> dict[str, RegionForms]:
        """Return the forms by region; `keys` are regions and contrasts."""
        scales = np.stack([beyond_nyquist(scale, FACTOR) for scale in self.scales])
        targets = beyond_nyquist(self.reference.betas, FACTOR)
        mask, blocks = self.reference.mask, self.reference.blocks
        is_even = np.arange(mask.shape[2]) % 2 == 0
        forms = {region: RegionForms() for region in REGIONS}
        for name, contrast in split_contrasts(blocks, contrasts).items():
            splits = average_splits(blocks, contrast.weights, self.reference.leak)
            active = mask & (np.abs(self.active_t[contrast.origin]) > TRUE_T)
            for region, voxels in zip(REGIONS, (active, mask), strict=True):
                if splits is None or (region, name) not in keys:
                    continue
                products = Products.from_details(scales, targets, voxels)
                forms[region].run[name] = products.form(splits)
                for half in (0, 1):
                    half_splits = self._split_half(contrast.weights, half)
                    if half_splits is not None:
                        forms[region].halves[half][name] = products.form(half_splits)
                for part, is_in_part in enumerate((is_even, ~is_even)):
                    part_products = Products.from_details(scales, targets, voxels & is_in_part)
                    forms[region].slices[part][name] = part_products.form(splits)
        return forms

    def _split_half(self, weights: Mapping[str, float], half: int) -> SplitProducts | None:
        """Return the splits of the blocks of one half, with as much noise as a half has.

        Quarters of the blocks have twice the noise of halves, and products of different blocks
        have none. Smaller weights would gain too much with the noise of quarters.
        """
        blocks = [
            replace(block, used=block.used and block.half == half)
            for block in self.reference.blocks
        ]
        splits = average_splits(blocks, weights, self.reference.leak)
        return splits and replace(splits, within=(splits.within + splits.between) / 2)


@dataclass(frozen=True)
class StoredRun:
    """Run with its block effects of `people.py effects`.

    `effects` is the folder of the block effects. `inputs` are inputs of the test at half the
    resolution. `priors` are the priors at half the resolution, see `estimate_half_priors`.
    """

    effects: Path
    inputs: Mapping[str, Any]
    priors: Path

    @classmethod
    def read(cls, folder: Path, work: Path) -> "StoredRun":
        """Return a run, and estimate its priors unless they are stored in `work`."""
        inputs_file = next(folder.glob("work-*/bids_sr_wf/*/*/sbl/check_intervals/_inputs.pklz"))
        with gzip.open(inputs_file) as stream:
            inputs = pickle.load(stream)
        priors = work / folder.name / "priors.npz"
        if not priors.exists():
            priors.parent.mkdir(parents=True, exist_ok=True)
            names = {*estimate_half_priors.inputs, *estimate_half_priors.settings}
            with tempfile.TemporaryDirectory(dir=work) as scratch:
                values = {name: inputs[name] for name in names}
                estimate_half_priors.run_on_files(values, Path(scratch))
                (Path(scratch) / "priors.npz").rename(priors)
        return cls(effects=folder / "effects/events", inputs=inputs, priors=priors)

    @cached_property
    def acquired(self) -> Effects:
        """Acquired block effects, the reference at half the resolution."""
        return Effects.load(self.effects / "half_acquired.npz")

    @cached_property
    def tested_values(self) -> dict[tuple[str, str], float]:
        """Explained variances that the program reports, by region and contrast."""
        rows = iterate_tested_detail(
            Effects.load(self.effects / "half_reconstructed.npz"),
            self.acquired,
            {0.0: self._read_t_maps("half/0/")},
            self.inputs["contrasts"],
            FACTOR,
        )
        return {
            (row.region, row.contrast): row.value
            for row in rows
            if row.statistic == "ev" and math.isfinite(row.value)
        }

    def make_half_forms(self, variant: Variant) -> dict[str, RegionForms]:
        """Return the forms of contrasts with a tested value at half the resolution, by region."""
        prior = make_prior(self.priors, self.acquired.mask, variant)
        compared = ComparedDetail(
            scales=reconstruct_scales(prior, self.acquired.betas),
            reference=self.acquired,
            active_t=self._read_t_maps("half/0/"),
        )
        return compared.make_forms(self.inputs["contrasts"], self.tested_values)

    def make_final_forms(self) -> dict[str, RegionForms]:
        """Return the forms of the same contrasts at the final resolution, by region."""
        state = load_model(Path(self.inputs["model_file"])).generator.state_dict()
        mask, _ = load_image(Path(self.inputs["bold_mask"]))
        level = level_above(mask.shape, FACTOR)
        prior = Prior(
            region=Tile.from_mask(level.restrict_to_plane(), mask > 0),
            weight=state["weight"].float(),
            fwhm=VarianceRecipe().fwhm,
            noise=float(state["noise"]),
        )
        sbl = Effects.load(self.effects / "sbl.npz")
        compared = ComparedDetail(
            scales=reconstruct_scales(prior, sbl.betas),
            reference=Effects.load(self.effects / "measured.npz"),
            active_t=self._read_t_maps("acquired/"),
        )
        check_sum(compared.scales, sbl)
        return compared.make_forms(self.inputs["contrasts"], self.tested_values)

    def _read_t_maps(self, start: str) -> dict[str, Float32]:
        """Return the t maps whose name begins with a text, by contrast."""
        with np.load(self.effects / "t_maps.npz") as maps:
            return {
                name.removeprefix(start): maps[name]
                for name in maps.files
                if name.startswith(start)
            }

    def check(self, forms: Mapping[str, RegionForms]) -> None:
        """Raise `ValueError` if the explained variances are not those of the program."""
        for (region, contrast), value in self.tested_values.items():
            difference = abs(forms[region].explain()[contrast] - value)
            if difference > MAX_DIFFERENCE:
                raise ValueError(f"{region}, {contrast}: {difference} from the program's value")


def check_sum(scales: Float32, expected: Effects) -> None:
    """Raise `ValueError` if the scales do not add up to the super-resolved effects."""
    effects = expected.betas[expected.mask]
    difference = float(np.std(scales.sum(axis=0)[expected.mask] - effects) / np.std(effects))
    if difference > MAX_FINAL_DIFFERENCE:
        raise ValueError(f"the scales differ from the super-resolved effects by {difference} SD")


def measure_gains(parts: Sequence[tuple[Forms, Forms]], *, is_common: bool) -> list[float]:
    """Return the gain of explained variance of each contrast with chosen weights.

    `parts` are pairs of forms by contrast: tested forms, and the forms that choose the weights.
    Energies are summed over the parts. Contrasts that are missing in a part, or without
    reproducible detail in the sum, are omitted. `is_common`: whether all contrasts have the same
    weights.
    """
    gains = []
    for contrast in set.intersection(*(set(forms) for pair in parts for forms in pair)):
        gain = energy = 0.0
        for tested, choosing in parts:
            forms = [*choosing.values()] if is_common else [choosing[contrast]]
            weights = find_best_weights(forms)
            form = tested[contrast]
            gain += form.explain(weights) - form.explain(np.ones(len(weights)))
            energy += form.energy
        if energy > 0:
            gains.append(gain / energy)
    return gains


def summarize(values: Sequence[float]) -> float | str:
    """Return the median, rounded; "" without values."""
    return round(float(np.median(values)), 3) if values else ""


def compare_weights(
    name: str,
    forms: Mapping[Variant, Mapping[str, RegionForms]],
    final: Mapping[str, RegionForms],
) -> list[Row]:
    """Return the rows of a run: gains with other variants of the prior and with other weights.

    `forms` are at half the resolution, and `final` at the final resolution.
    """
    rows: list[Row] = []
    for region, other in zip(REGIONS, REGIONS[::-1], strict=True):
        present, other_region = (forms[VARIANTS[0]][place] for place in (region, other))
        final_run = final[region].run
        values = present.explain()
        if not values:
            continue
        gains = {
            variant: [
                by_region[region].explain()[contrast] - value for contrast, value in values.items()
            ]
            for variant, by_region in forms.items()
        }
        for scope in ("run", "contrast"):

            def measure(parts: Sequence[tuple[Forms, Forms]], scope: str = scope) -> float | str:
                return summarize(measure_gains(parts, is_common=scope == "run"))

            best = (
                [np.max([np.median(of_variant) for of_variant in gains.values()])]
                if scope == "run"
                else [max(of_contrast) for of_contrast in zip(*gains.values(), strict=True)]
            )
            rows.append(
                {
                    "run": name,
                    "region": LABELS[region],
                    "chosen per": scope,
                    "contrasts": len(values),
                    "explained": summarize([*values.values()]),
                    "best variant": summarize(best),
                    "best weights": measure([(present.run, present.run)]),
                    "other half": measure([present.halves, present.halves[::-1]]),
                    "other slices": measure([present.slices, present.slices[::-1]]),
                    "other region": measure([(present.run, other_region.run)]),
                    "explained, final": summarize([*final[region].explain().values()]),
                    "best weights, final": measure([(final_run, final_run)]),
                    "weights of half resolution, final": measure([(final_run, present.run)]),
                    "other region, final": measure([(final_run, other_region.run)]),
                }
            )
    return rows


def main(stored: Path, work: Path) -> None:
    """Print and store gains, and the explained variances of all variants."""
    torch.set_num_threads(1)
    gains: list[Row] = []
    explained: dict[str, Row] = {variant.name: {"prior": variant.name} for variant in VARIANTS}
    for name in RUNS:
        run = StoredRun.read(stored / name, work)
        forms = {variant: run.make_half_forms(variant) for variant in VARIANTS}
        run.check(forms[VARIANTS[0]])
        gains += compare_weights(name, forms, run.make_final_forms())
        for variant, by_region in forms.items():
            for region, region_forms in by_region.items():
                median = summarize([*region_forms.explain().values()])
                explained[variant.name][f"{name}, {LABELS[region]}"] = median
    keep(
        "detail_weights",
        "Gain of explained variance with other weights of the two scales, at half the resolution",
        gains,
        remarks=REMARKS,
    )
    keep(
        "detail_weights_variants",
        "Explained variance with variants of the prior, at half the resolution (median contrast)",
        [*explained.values()],
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
