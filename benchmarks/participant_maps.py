"""Maps of a participant from two runs: explained variance, weights and resampling of runs, and the
error that runs share.

python benchmarks/participant_maps.py runs DATA OUT
    both runs of pydecnef, whole
python benchmarks/participant_maps.py halves DATA OUT
    the four halves of these runs, each as a run
python benchmarks/participant_maps.py pairs DATA OUT
    errors and intervals of both runs of pydecnef, in the frame of the first run
python benchmarks/participant_maps.py differences DATA OUT
    coverage of the intervals of differences between these runs

DATA is the folder of `people.py`. Outputs of the program stay in OUT and are made once.

Each run is downsampled in plane by two and super-resolved without a calibration. The runs are
registered by their boldrefs. The reference is the mean measured effect of all runs, each measured
series resampled to the frame by one interpolation. Effects are least-squares effects of blocks;
products of different runs or halves of blocks make the reference free of noise.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from _combined_runs import (
    Array,
    SplitEffect,
    block_noise,
    coverage,
    error_correlation,
    explained,
    split_shares,
)
from _people_data import TESTED, Part, make_tested
from _people_measured import FACTOR
from _posterior_maps import Stored, call, rounded
from _table import keep

from bids_sr.glm.blocks import BlockDesign, block_design
from bids_sr.glm.halves import half_weights, select_split_conditions
from bids_sr.group.combination.run_combination import (
    RunEstimate,
    combine_estimates,
    correlate_error,
    correlate_opposite,
    widen_error,
)
from bids_sr.io.nifti import SeriesReader, SeriesWriter, load_image
from bids_sr.io.volume import Volume
from bids_sr.preproc.ants import AntsOptions
from bids_sr.preproc.rigid import register_rigid
from bids_sr.preproc.same_contrast import refine
from bids_sr.preproc.slice_timing import correct_slice_timing
from bids_sr.spatial.itk_files import read_itk
from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.smoothing import smooth
from bids_sr.spatial.transforms import rms_distance, voxel_centers
from bids_sr.sr.inference.apply_to_series import write_series
from bids_sr.sr.inference.upsampler_inputs import UpsamplerInputs
from bids_sr.sr.inference.upsamplers import make_upsampler

WIDTHS = (0.0, 5.0)  # mm
FRAMES = {"linear": 1, "cubic": 3}
"""Interpolations of maps; the third method resamples the series."""
SERIES = "series"
BEST = "cubic"  # loses the least accuracy, similar to resampled series, and costs less
ACTIVE = 4.0  # |t|
_WITH_SD = "inverse variance with SD², by voxel"
NAMES = ("acquired", "bspline", "sbl", "measured")
HERE = np.eye(4)
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Run:
    """One stored run, and effects of its blocks in any frame."""

    number: int
    title: str
    stored: Stored
    truth: Path  # data set of the measured run

    @cached_property
    def affine(self) -> Array:
        """Affine of the high-resolution grid."""
        return np.asarray(self.stored.image("space-boldref_res-hr_desc-brain_mask").affine)

    @cached_property
    def boldref(self) -> Volume:
        """Boldref on the acquired grid."""
        data, affine = load_image(self.stored.file("desc-hmc_boldref.nii.gz"))
        return Volume(data, affine)

    @cached_property
    def poses(self) -> Array:
        """Transforms of a boldref point to its point in each volume (T, 4, 4)."""
        (file,) = self.stored.place.glob("sub-01/func/*from-orig_to-boldref*_xfm.txt")
        return read_itk(file)

    @cached_property
    def design(self) -> BlockDesign:
        """Design with one regressor per block, as in the model of the run."""
        return block_design(self.stored.events, **self.stored.design_options)

    def halves(self, contrast: str) -> Array:
        """Return weights of the blocks in each half's effect (2, B).

        Conditions without blocks in both halves are excluded.
        """
        weights = select_split_conditions(self.design.blocks, self.stored.contrasts[contrast])
        halves_weights = half_weights(self.design.blocks, weights, self.design.leak)
        assert halves_weights is not None, f"{self.title}: {contrast} cannot be split"
        return halves_weights

    def block_maps(self, reader: SeriesReader) -> Array:
        """Estimate effects of all blocks in a series (B, X, Y, Z)."""
        weights = self.design.weights.astype(np.float32)
        first = reader.volume(self.design.n_dummy)
        out = np.zeros((weights.shape[1], first.size), np.float32)
        for start in range(0, len(weights), 32):
            part = weights[start : start + 32]
            begin = self.design.n_dummy + start
            volumes = reader.volumes(begin, begin + len(part))
            out += part.T @ np.stack([(volume - first).ravel() for volume in volumes])
        return out.reshape(-1, *first.shape)

    def grid(self, name: str) -> Array:
        """Return the affine of a series."""
        return np.asarray(self.boldref.affine) if name == "acquired" else self.affine

    def map(self, contrast: str, stat: str, name: str, width: float) -> Array:
        """Load a map of the program, by contrast, statistic, series and smoothing (mm)."""
        return self.stored.map(contrast, stat, name, width)

    @cached_property
    def points(self) -> Array:
        """Points of the brain (RAS mm)."""
        return voxel_centers(self.stored.mask("acquired"), self.boldref.affine)

    @cached_property
    def own_effects(self) -> dict[str, Array]:
        """Effects of blocks in the run's own frame, by series."""
        return {name: self.load_or_make(name, self._effects_of) for name in (*NAMES, "zerofill")}

    def _effects_of(self, name: str) -> Array:
        resolution = "" if name == "acquired" else "res-hr_"
        file = self.stored.file(f"space-boldref_{resolution}desc-{name}_bold.nii.gz")
        with tempfile.TemporaryDirectory() as place, uncompressed(file, Path(place)) as reader:
            return self.block_maps(reader)

    def load_or_make(self, name: str, make: Callable[[str], Array], frame: str = "") -> Array:
        """Load effects of blocks in a series, or compute and store them."""
        file = self.stored.place.parent / f"blocks-{name}{frame}.npy"
        if not file.exists():
            np.save(file, make(name))
        return np.asarray(np.load(file))

    def in_frame(self, name: str, onto: Array, frame: Run) -> Array:
        """Return `moved_series` from a file, computed once."""
        return self.load_or_make(
            name, lambda name: self.moved_series(name, onto, frame), f"-frame{frame.number}"
        )

    def moved_series(self, name: str, onto: Array, frame: Run) -> Array:
        """Estimate effects of blocks in a series whose volumes are resampled to the frame of
        another run.

        `onto`: takes a point of the frame to its point in the run's boldref.
        """
        place = self.truth if name == "measured" else self.stored.low
        file = next(place.glob("sub-*/func/*_bold.nii.gz"))
        about = json.loads(file.with_name(file.name.replace(".nii.gz", ".json")).read_text())
        factor = (1.0, 1.0, 1.0) if name == "measured" else FACTOR
        upsample = make_upsampler(
            "acquired" if name == "measured" else name, UpsamplerInputs(factor=factor)
        )
        tr, start_time = self.stored.tr, self.stored.design_options["settings"].start_time
        shape = frame.stored.mask().shape
        with tempfile.TemporaryDirectory() as folder:
            corrected, resampled = Path(folder) / "stc.nii", Path(folder) / "moved.nii"
            with (
                uncompressed(file, Path(folder)) as reader,
                SeriesWriter(
                    corrected, reader.shape, reader.affine, tr, header_like=reader.header
                ) as writer,
            ):
                correct_slice_timing(
                    reader,
                    writer,
                    about["SliceTiming"],
                    tr,
                    start_time,
                    n_dummy=self.stored.n_dummy,
                )
            with SeriesReader(corrected) as reader:
                write_series(
                    reader,
                    resampled,
                    upsample,
                    self.poses @ onto,
                    shape,
                    frame.affine,
                    factor=factor,
                )
            with SeriesReader(resampled) as reader:
                return self.block_maps(reader)


def uncompressed(file: Path, folder: Path) -> SeriesReader:
    """Open a compressed series as a plain file in a folder."""
    import gzip
    import shutil

    target = folder / file.name.removesuffix(".gz")
    with gzip.open(file) as source, target.open("wb") as copy:
        shutil.copyfileobj(source, copy)
    return SeriesReader(target)


def registered(frame: Run, run: Run) -> Array:
    """Return the transform of a point of the frame's boldref to its point in a run's boldref."""
    if frame.number == run.number:
        return HERE
    masks = [item.stored.mask("acquired") for item in (frame, run)]
    with tempfile.TemporaryDirectory() as folder:
        fit = register_rigid(
            frame.boldref,
            run.boldref,
            *masks,
            options=AntsOptions(seed=0, prefix=str(Path(folder) / "run")),
        )
    return refine(frame.boldref, run.boldref, masks[0], fit.xfm)


@dataclass(frozen=True)
class Framed:
    """All runs in the frame of the first, at one smoothing; N voxels of the brain.

    `blocks`: effects of blocks (B, N) of each run, by interpolation and series. `sds`: standard
    deviation of the reconstruction error (N,) of each run, by contrast. `variances`: variance of
    the effect by the linear model (N,), by series and contrast.
    """

    runs: Sequence[Run]
    width: float
    blocks: Mapping[tuple[str, str], Sequence[Array]]
    sds: Mapping[str, Sequence[Array]]
    variances: Mapping[tuple[str, str], Sequence[Array]]

    def effects(self, way: str, name: str, contrast: str) -> list[SplitEffect]:
        """Return effects of each run, in halves of its blocks."""
        split_effects = []
        for run, blocks in zip(self.runs, self.blocks[way, name], strict=True):
            halves = run.halves(contrast)
            split_effects.append(
                SplitEffect(
                    halves=halves @ blocks,
                    shares=split_shares(halves, run.design.covariance),
                    run=run.number,
                )
            )
        return split_effects

    def truth(self, contrast: str) -> list[SplitEffect]:
        """Return measured effects of each run, resampled once from its volumes."""
        return self.effects(SERIES, "measured", contrast)

    def error_noise(self, way: str, contrast: str) -> list[Array]:
        """Return the noise variance of `sbl` minus measured for each run, from the scatter of
        blocks (N,).
        """
        variances = []
        for run, estimate, true in zip(
            self.runs, self.blocks[way, "sbl"], self.blocks[SERIES, "measured"], strict=True
        ):
            names = [block.condition for block in run.design.blocks]
            weights = run.halves(contrast).mean(0)
            variances.append(block_noise(estimate - true, weights, run.design.covariance, names))
        return variances

    def active(self, name: str, contrast: str) -> Array:
        """Return voxels with |t| > 4 in all runs together, with equal weights (N,)."""
        way = SERIES if name == "measured" else BEST
        effect = mean(
            [split_effect.combined for split_effect in self.effects(way, name, contrast)]
        )
        variance = mean(self.variances[name, contrast]) / len(self.runs)
        return np.asarray(np.abs(effect) > ACTIVE * np.sqrt(np.maximum(variance, 1e-12)))

    def regions(self, way: str, contrast: str) -> dict[str, Array]:
        """Return brain, active voxels, and voxels where `sbl` adds most to zero filling."""
        effects = [self.effects(way, name, contrast) for name in ("sbl", "zerofill")]
        detail = np.abs(mean([a.combined - b.combined for a, b in zip(*effects, strict=True)]))
        return {
            "active": self.active("measured", contrast),
            "active in the B-spline maps": self.active("bspline", contrast),
            "strongest 5 % of detail": detail >= np.quantile(detail, 0.95),
            "brain": np.ones(len(detail), bool),
        }


def median(values: Sequence[float]) -> float:
    """Return the median of the finite values; NaN if there are none."""
    clear = [value for value in values if np.isfinite(value)]
    return float(np.median(clear)) if clear else float("nan")


def mean(arrays: Sequence[Array]) -> Array:
    """Return the mean of arrays of one shape."""
    return np.asarray(np.mean(arrays, axis=0))


def framed(runs: Sequence[Run], ways: Sequence[str]) -> Iterator[Framed]:
    """Bring runs into the frame of the first, at each smoothing."""
    first = runs[0]
    shape, affine = first.stored.mask().shape, first.affine
    onto = [registered(first, run) for run in runs]
    each_run = list(zip(runs, onto, strict=True))

    def moved(xfm: Array, maps: Array, grid: Array, order: int) -> Array:
        return at(maps, grid, shape, affine, xfm, order)

    masks = [
        moved(xfm, run.stored.mask()[None].astype(np.float32), run.affine, 1)[0]
        for run, xfm in each_run
    ]
    mask = np.min(masks, axis=0) > 0.5
    resampled = {
        name: [
            run.own_effects[name] if run is first else run.in_frame(name, xfm, first)
            for run, xfm in each_run
        ]
        for name in (("bspline", "zerofill", "measured") if SERIES in ways else ("measured",))
    }
    if SERIES in ways:
        # the detail of sbl is computed in the frame of its run, and interpolated from there
        detail = [run.own_effects["sbl"] - run.own_effects["zerofill"] for run in runs]
        resampled["sbl"] = [
            filled + moved(xfm, more, run.affine, 3)
            for (run, xfm), filled, more in zip(
                each_run, resampled["zerofill"], detail, strict=True
            )
        ]
    for width in WIDTHS:
        blocks = {
            (SERIES, name): [smoothed(block_map, affine, width)[:, mask] for block_map in maps]
            for name, maps in resampled.items()
        }
        for way, order in FRAMES.items():
            for name in (*NAMES, "zerofill") if way in ways else ():
                blocks[way, name] = []
                for run, xfm in each_run:
                    maps = smoothed(run.own_effects[name], run.grid(name), width)
                    blocks[way, name].append(moved(xfm, maps, run.grid(name), order)[:, mask])

        def stored(contrast: str, stat: str, name: str, fwhm: float = width) -> list[Array]:
            return [
                moved(xfm, run.map(contrast, stat, name, fwhm)[None], run.grid(name), 1)[0][mask]
                for run, xfm in each_run
            ]

        yield Framed(
            runs=runs,
            width=width,
            blocks=blocks,
            sds={name: stored(name, "sd", "sbl") for name in first.stored.contrasts},
            variances={
                (name, contrast): stored(contrast, "variance", name)
                for contrast in first.stored.contrasts
                for name in NAMES
            },
        )


def smoothed(maps: Array, affine: Array, width: float) -> Array:
    """Smooth maps (K, X, Y, Z)."""
    zooms = np.linalg.norm(affine[:3, :3], axis=0)
    return np.stack([smooth(image, zooms.tolist(), width) for image in maps])


def at(
    maps: Array, affine: Array, shape: Sequence[int], target: Array, xfm: Array, order: int
) -> Array:
    """Interpolate maps (K, x, y, z) onto a grid once."""
    return np.stack(
        [sample_volume(image, affine, shape, target, xfm, order=order) for image in maps]
    )


def weighted(
    effects: Sequence[SplitEffect], weights: Sequence[Array | float]
) -> list[SplitEffect]:
    """Weight the effect of each run."""
    return [effect.times(weight) for effect, weight in zip(effects, weights, strict=True)]


def inside(effects: Sequence[SplitEffect], region: Array) -> list[SplitEffect]:
    """Take effects in a region, less their means."""
    return [effect.within(region, centered=True) for effect in effects]


def equal(count: int) -> list[float]:
    """Return equal weights."""
    return [1 / count] * count


def precise(variances: Sequence[Array]) -> list[Array]:
    """Return weights by inverse variance in each voxel, which sum to 1."""
    inverse = [1 / np.maximum(variance, 1e-12) for variance in variances]
    return [variance / np.sum(inverse, axis=0) for variance in inverse]


def explained_rows(frame: Framed, way: str) -> Iterator[dict[str, Any]]:
    """Yield explained variance of the mean measured effect, by contrast and series."""
    for contrast in frame.runs[0].stored.contrasts:
        region = frame.active("measured", contrast)
        true_effects = inside(frame.truth(contrast), region)
        truth = weighted(true_effects, equal(len(frame.runs)))
        for name in NAMES:
            if (way, name) not in frame.blocks:
                continue
            estimates = inside(frame.effects(way, name, contrast), region)
            row: dict[str, Any] = {
                "contrast": contrast,
                "mm": frame.width,
                "moved": way,
                "series": name,
            }
            for run, alone in zip(frame.runs, estimates, strict=True):
                row[run.title] = explained([alone], truth)
            for count in range(2, len(estimates) + 1):
                row[f"{count} runs"] = float(
                    np.mean(
                        [
                            explained(weighted(subset, equal(count)), truth)
                            for subset in combinations(estimates, count)
                        ]
                    )
                )
            yield row | {
                "first run's effect by the moved": float(
                    np.mean(
                        [explained([estimate], true_effects[:1]) for estimate in estimates[1:]]
                    )
                ),
                "voxels": int(region.sum()),
            }


def weights_rows(frame: Framed, way: str) -> Iterator[dict[str, Any]]:
    """Yield explained variance of all runs together by weights."""
    for contrast in frame.runs[0].stored.contrasts:
        count = len(frame.runs)
        truth = weighted(frame.truth(contrast), equal(count))
        region = frame.active("measured", contrast)
        for name in NAMES:
            noise = frame.variances[name, contrast]
            tried: dict[str, Sequence[Array | float]] = {
                "equal": equal(count),
                "inverse variance, by voxel": precise(noise),
                "inverse variance, mean of the region": [
                    float(w[0]) for w in precise([np.atleast_1d(v[region].mean()) for v in noise])
                ],
            }
            if name == "sbl":
                sds = frame.sds[contrast]
                tried[_WITH_SD] = precise([v + sd**2 for v, sd in zip(noise, sds, strict=True)])
            effects = frame.effects(way, name, contrast)
            row: dict[str, Any] = {"contrast": contrast, "mm": frame.width, "series": name}
            for label, weights in tried.items():
                row[label] = explained(
                    inside(weighted(effects, weights), region), inside(truth, region)
                )
            yield row | {_WITH_SD: row.get(_WITH_SD, "")}


def error_rows(frame: Framed, way: str) -> Iterator[dict[str, Any]]:
    """Yield the correlation of errors between runs, and coverage of the combined error."""
    for contrast in frame.runs[0].stored.contrasts:
        errors = [
            estimate.less(true)
            for estimate, true in zip(
                frame.effects(way, "sbl", contrast), frame.truth(contrast), strict=True
            )
        ]
        sds = frame.sds[contrast]
        per_run = frame.error_noise(way, contrast)
        units = [
            e.times(1 / np.sqrt(np.maximum(sd**2 + v, 1e-12)))
            for e, sd, v in zip(errors, sds, per_run, strict=True)
        ]
        # the error takes the place of the effect, and is 0 without noise and without SD
        estimates = [
            RunEstimate(effect=e.combined, variance=v, dof=run.design.dof, sd=sd)
            for run, e, v, sd in zip(frame.runs, errors, per_run, sds, strict=True)
        ]
        n_runs = len(frame.runs)
        shared = correlate_error(frame.width, calibrated=False, n_runs=n_runs)
        widening = widen_error(frame.width, n_runs=n_runs)
        for region, where in frame.regions(way, contrast).items():
            pairs = [
                [
                    error_correlation(a.within(where), b.within(where))
                    for a, b in combinations(of, 2)
                ]
                for of in (errors, units)
            ]
            row = {
                "contrast": contrast,
                "mm": frame.width,
                "moved": way,
                "region": region,
                "voxels": int(where.sum()),
                "r of errors": median(pairs[0]),
                "r of errors over their total SD": median(pairs[1]),
                "assumed": shared,
                "widening": widening,
                "single runs": float(
                    np.mean(
                        [
                            coverage(e.combined, v + sd**2, where)
                            for e, v, sd in zip(errors, per_run, sds, strict=True)
                        ]
                    )
                ),
            }
            for label, rho, factor in (
                ("assumed", shared, widening),
                ("1", 1.0, 1.0),
                ("0 (SD²/n)", 0.0, 1.0),
            ):
                combined = combine_estimates(estimates, shared=rho, widening=factor)
                row[f"coverage, {label}"] = coverage(
                    combined.effect, combined.total_variance, where
                )
            if len(pairs[0]) > 1:
                clear = [r for r in pairs[0] if np.isfinite(r)]
                row["r of errors, pairs"] = (
                    f"{min(clear):.2f} to {max(clear):.2f} ({len(clear)} of {len(pairs[0])})"
                    if clear
                    else "n/a"
                )
            row["coverage, noise alone"] = coverage(combined.effect, combined.variance, where)
            yield row


def difference_rows(frame: Framed) -> Iterator[dict[str, Any]]:
    """Yield the coverage of intervals of the second run's effect minus the first run's effect."""
    for pair in DIFFERENCES:
        errors, effects, sds, noise = [], [], [], []
        for index, contrast in enumerate(pair):
            estimate = frame.effects(BEST, "sbl", contrast)[index]
            errors.append(estimate.less(frame.truth(contrast)[index]))
            effects.append(estimate)
            sds.append(frame.sds[contrast][index])
            noise.append(frame.error_noise(BEST, contrast)[index])
        mapped = [
            RunEstimate(
                effect=effect.combined,
                variance=frame.variances["sbl", contrast][index],
                dof=frame.runs[index].design.dof,
                sd=sds[index],
            )
            for index, (contrast, effect) in enumerate(zip(pair, effects, strict=True))
        ]
        # the error takes the place of the effect, and is 0 without noise and without SD
        estimates = [
            replace(estimate, effect=error.combined, variance=variance)
            for estimate, error, variance in zip(mapped, errors, noise, strict=True)
        ]
        same = pair[0] == pair[1]
        opposite = correlate_opposite(frame.width, mapped, calibrated=False, same_condition=same)
        widening = widen_error(frame.width, n_runs=2)
        variants = {
            f"coverage, {label}": combine_estimates(
                estimates, [-1, 1], shared=1, opposite=rho, widening=widening
            )
            for label, rho in (
                ("program", opposite),
                (".72", 0.72 * same),
                (".75", 0.75 * same),
                ("0", 0.0),
            )
        }
        regions = frame.regions(BEST, pair[0])
        for region in ("active", "brain"):
            where = regions[region]
            row = {
                "contrast": " - ".join(pair[::-1]),
                "mm": frame.width,
                "region": region,
                "voxels": int(where.sum()),
                "r of errors": error_correlation(*(e.within(where) for e in errors)),
            }
            for label, combined in variants.items():
                row[label] = coverage(combined.effect, combined.total_variance, where)
            program = variants["coverage, program"]
            row["coverage, noise alone"] = coverage(program.effect, program.variance, where)
            yield row | {
                "reconstruction, % of the variance": 100
                * float(np.median((np.square(program.sd) / program.total_variance)[where])),
                "coverage, noise of sbl": coverage(
                    program.effect, sum(run.variance for run in mapped) + program.sd**2, where
                ),
            }


def noise_rows(frame: Framed, way: str) -> Iterator[dict[str, Any]]:
    """Yield noise by scatter of blocks over the variance of the linear model, over the brain."""
    for contrast in frame.runs[0].stored.contrasts:
        for name in NAMES:
            ratios = []
            for run, blocks, variance in zip(
                frame.runs,
                frame.blocks[way, name],
                frame.variances[name, contrast],
                strict=True,
            ):
                names = [block.condition for block in run.design.blocks]
                weights = run.halves(contrast).mean(0)
                noise = block_noise(blocks, weights, run.design.covariance, names)
                ratios.append(float(noise.mean() / variance.mean()))
            yield {
                "contrast": contrast,
                "mm": frame.width,
                "moved": way,
                "series": name,
                "in the frame of the run": ratios[0],
                "moved to the other frame": float(np.mean(ratios[1:])),
            }


def whole_runs(
    data: Path, out: Path, contrasts: Sequence[str] | None = None, results: str = "blind"
) -> list[Run]:
    """Make and read the outputs of both runs."""
    runs = []
    for number, name in enumerate(("B1", "B2"), 1):
        tested = replace(TESTED[name], one_type=False)
        low, truth = make_tested(tested, data, out)
        place = out / tested.name / results
        runs.append(finished(number, f"run {number}", place, low, truth, contrasts or CONTRASTS))
    return runs


def half_runs(data: Path, out: Path) -> list[Run]:
    """Make and read the outputs of the halves of both runs, each processed as a run."""
    runs = []
    for number, (name, (first, end)) in enumerate(
        ((name, part) for name in ("B1", "B2") for part in ((0, MIDDLE), (MIDDLE, None))), 1
    ):
        part = Part(file=TESTED[name].run.file, first=first, end=end)
        tested = replace(
            TESTED[name], name=f"{name}-{'second' if first else 'first'}", run=part, one_type=True
        )
        low, truth = make_tested(tested, data, out)
        for place in (low, truth):
            only_inside(place)
        title = f"run {name[1]}, {'second' if first else 'first'} half"
        runs.append(finished(number, title, out / tested.name / "blind", low, truth, ("all",)))
    return runs


def pair_table(data: Path, out: Path) -> None:
    """Store errors and intervals of both runs of pydecnef in the frame of the first run."""
    rows = [
        row for frame in framed(whole_runs(data, out), (BEST,)) for row in error_rows(frame, BEST)
    ]
    keep_pairs([{"runs": "pydecnef 1 and 2", **row} for row in rows])


def difference_table(data: Path, out: Path) -> None:
    """Store the coverage of differences between both runs, in the frames of both."""
    runs = whole_runs(data, out, TYPES_OF_DIFFERENCES, "types")
    keep(
        "participant_maps_differences",
        "Coverage of intervals of differences between two runs of `sbl`",
        [
            shown(row)
            for row in over_frames(
                [
                    row
                    for order in (runs, runs[::-1])
                    for frame in framed(order, (BEST,))
                    for row in difference_rows(frame)
                ]
            )
        ],
        remarks=[
            "Error: difference of `sbl` less the difference of the measured effects, which were"
            " resampled once. Its noise is that of `sbl` less measured, by the scatter of blocks,"
            " because both have the noise of the same volumes in common; `noise of sbl` has the"
            " variance of the program instead, which counts this noise although it cancels."
            " `program`: correlation of `group.combination.run_combination`; .72, .75 and"
            " 0: other correlations (0 for different conditions). The error of the place was not"
            " included. Means over the frames of both runs.",
            f"{_ACTIVE_TEXT.split(', and')[0]} in the first contrast.",
        ],
    )


def keep_pairs(rows: Rows) -> None:
    """Store the table of pairs of runs."""
    keep(
        "participant_maps_pairs",
        "Reconstruction error of `sbl` in two runs: correlation, and coverage of intervals",
        [shown(row) for row in rows],
        remarks=[
            *REMARKS["_error"],
            "In the frame of the first run. `widening`: factor of SD in `coverage, assumed`.",
        ],
    )


def only_inside(place: Path) -> None:
    """Delete the events that the volumes of a data set do not cover."""
    (file,) = place.glob("sub-*/func/*_events.tsv")
    with SeriesReader(next(place.glob("sub-*/func/*_bold.nii.gz"))) as reader:
        seconds = reader.shape[3] * reader.tr
    header, *rows = file.read_text().splitlines()
    column = header.split("\t").index("onset")
    inside_rows = [row for row in rows if 0 <= float(row.split("\t")[column]) < seconds]
    file.write_text("\n".join([header, *inside_rows]) + "\n")


def finished(
    number: int, title: str, place: Path, low: Path, truth: Path, contrasts: Sequence[str]
) -> Run:
    """Run the program on a run, unless it has finished already."""
    more = ("--truth", str(truth), "--calibration", "none")
    stored = call(low, place, contrasts, *more)
    assert stored.applied, f"{title}: sbl was not applied"
    return Run(number, title, stored, truth)


def tables(runs: Sequence[Run], ways: Sequence[str], best: str, suffix: str = "") -> None:
    """Store tables of runs in the frame of the first; two runs are also evaluated in the frame of
    the second.
    """
    rows_by_table: dict[str, Rows] = {suffix_of_table: [] for suffix_of_table in TITLES}
    orders = [list(runs), list(runs)[::-1]] if len(runs) == 2 else [list(runs)]
    for order in orders:
        for frame in framed(order, ways):
            for way in ways:
                rows_by_table[""] += explained_rows(frame, way)
                rows_by_table["_error"] += error_rows(frame, way)
                rows_by_table["_noise"] += noise_rows(frame, way) if way in FRAMES else ()
            rows_by_table["_weights"] += weights_rows(frame, best)
    remark_on_halves = (
        " Half runs have few blocks: noise of the products within a run is large, so that single"
        " values may exceed 1, and differences between series and between numbers of runs say more"
        " than their level."
        if suffix
        else ""
    )
    displaced = [rms_distance(HERE, registered(runs[0], run), run.points) for run in runs[1:]]
    remark = "Displacement of the head from the frame of the first run: " + ", ".join(
        f"{distance:.2f} mm" for distance in displaced
    )
    averaged = " Each row is the mean over the frames of both runs." if len(orders) > 1 else ""
    for suffix_of_table, rows in rows_by_table.items():
        if suffix_of_table == "_noise" and suffix:
            continue
        keep(
            f"participant_maps{suffix}{suffix_of_table}",
            TITLES[suffix_of_table],
            [shown(row) for row in over_frames(rows)],
            remarks=[*REMARKS[suffix_of_table], f"{remark}.{averaged}{remark_on_halves}"],
        )


def shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """Format a row for a table; n/a for values without an estimate because of noise."""
    missing = {k for k, v in row.items() if isinstance(v, float) and not np.isfinite(v)}
    return {k: "n/a" if k in missing else rounded({k: v})[k] for k, v in row.items()}


def over_frames(rows: Rows) -> Rows:
    """Average rows over the runs that define the frame."""
    groups: dict[tuple[Any, ...], Rows] = {}
    for row in rows:
        key = tuple(row.get(k) for k in ("contrast", "mm", "moved", "series", "region"))
        groups.setdefault(key, []).append(row)
    return [
        {
            k: float(np.mean([row[k] for row in group])) if isinstance(v, float) else v
            for k, v in group[0].items()
        }
        for group in groups.values()
    ]


CONTRASTS = ("all", "living-gaussian")
TYPES_OF_DIFFERENCES = ("all", "living", "non_living", "gaussian")
DIFFERENCES = (
    *((name, name) for name in ("all", "living", "nonLiving", "gaussian")),
    ("living", "nonLiving"),
    ("living", "gaussian"),
)
"""Contrasts of the first and of the second run."""
MIDDLE = 107  # first volume of the second half
TITLES = {
    "": "Variance of the mean measured effect that runs explain, alone and together",
    "_weights": "Explained variance of runs together, by their weights",
    "_error": "Reconstruction error of `sbl`: correlation between runs, and coverage together",
    "_noise": "Noise of interpolated effects over their interpolated variance",
}
_ACTIVE_TEXT = (
    "Active voxels: |t| > 4 in the measured maps of all runs together, and, as another choice, in"
    " their B-spline maps, which do not contain the measured detail."
)
_FRAME_TEXT = (
    "`moved`: how a run comes into the frame of the first run. linear, cubic: maps of the run are"
    " interpolated once (linear, or cubic spline). series: each volume is resampled to the frame"
    " by one cubic interpolation and mapped there (for `sbl`: the zero-filled volumes; the detail"
    " is interpolated from the frame of its run)."
)
REMARKS: dict[str, list[str]] = {
    "": [
        "The reference is the mean measured effect of all runs, with each measured series"
        " resampled to the frame by one interpolation. The noise of the reference does not count"
        " (products of different runs and of different blocks), the noise of each series does."
        f" {_ACTIVE_TEXT.split(', and')[0]}. `acquired`: interpolated from the acquired grid"
        " to the high-resolution grid in the same interpolation. `first run's effect by the"
        " moved`: variance of the first run's measured effect, which was not moved, that the"
        " moved runs explain.",
        _FRAME_TEXT,
    ],
    "_weights": [
        f"Maps are interpolated by a {BEST} spline, variances linearly. By voxel: each voxel has"
        " its own weights; mean of the region: one weight per run, by the mean variance in active"
        " voxels. SD is the standard deviation of the reconstruction error (`stat-sd`).",
    ],
    "_error": [
        "Error: effect of `sbl` less the measured effect of the same run. `r of errors`:"
        " correlation over voxels, not centered and corrected for noise by products of different"
        " blocks; `over their total SD`: each error is divided by the root of SD² and noise."
        " With several pairs of runs, medians over the pairs in which both errors exceed their"
        " noise."
        " `coverage`: of 95 % intervals of the combined error with equal weights, by"
        " `group.combination.run_combination`, with the assumed correlation, 1 (one error in all"
        " runs) and 0 (independent errors). The noise is that of `sbl` less measured, by the"
        " scatter of blocks. `single runs`: coverage of each run's interval, mean over runs.",
        f"{_ACTIVE_TEXT} Strongest 5 % of detail: largest difference between `sbl` and zero"
        " filling.",
        _FRAME_TEXT,
    ],
    "_noise": [
        "Scatter of blocks over the variance of the linear model (means over the brain; the"
        " scatter also contains differences of the effect between blocks). A variance that is"
        " interpolated linearly says nothing of the noise that the interpolation of the effect"
        " averages out: the ratio falls from the frame of the run to the other frame by as much."
        " `acquired` is interpolated to the high-resolution grid in both frames.",
    ],
}


def main() -> int:
    """Run one subcommand."""
    if len(sys.argv) != 4 or sys.argv[1] not in ("runs", "halves", "pairs", "differences"):
        sys.exit(__doc__)
    data, out = Path(sys.argv[2]), Path(sys.argv[3])
    if sys.argv[1] == "pairs":
        pair_table(data, out)
    elif sys.argv[1] == "differences":
        difference_table(data, out)
    elif sys.argv[1] == "runs":
        tables(whole_runs(data, out), (*FRAMES, SERIES), BEST)
    else:
        tables(half_runs(data, out), (BEST,), BEST, "_halves")
    return 0


if __name__ == "__main__":
    sys.exit(main())
