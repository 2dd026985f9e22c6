"""Fusion of runs across displaced slices, compared with measured thin slices.

python benchmarks/across.py fusion DATA
    explained variance of the measured thin effect: pydecnef 1 with 2, 2 with 1, and halves of
    runs whose stack is shifted
python benchmarks/across.py gate DATA
    decisions of the gate for right and wrong displacements, and the gain of the fusion
python benchmarks/across.py acquisition DATA [--dephasing RAD]
    the same two runs with through-plane dephasing and with a Gaussian slice profile
python benchmarks/across.py order DATA
    super-resolution in plane first and then across slices, and the other order

DATA contains pydecnef, studyforrest-localizer and opennft. Thick slices are simulated as means of
pairs of measured slices.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from _across_runs import Profile, ThickRun, ThinRun, thin_run
from _table import keep
from nibabel.affines import voxel_sizes

from bids_sr.combination.fusion_gate import (
    LEAST_DISPLACEMENT,
    check_fusion,
    median_displacement,
    opposite_positions,
)
from bids_sr.combination.slice_fusion import (
    THIN_PER_THICK,
    SlicedEffects,
    compute_slice_positions,
    fuse_slices,
    interpolate_thin,
    reproduce_slices,
    sample_at_columns,
    slice_profiles,
    stack_first_run,
    thin_prior_sd,
)
from bids_sr.glm.smoothing import smooth
from bids_sr.io.arrays import Array, Float, MaskArray
from bids_sr.spatial.hmc import estimate_motion
from bids_sr.spatial.resampling import sample_volume
from bids_sr.sr.matrices import apply_along, bspline_matrix

FWHM_MM = (0.0, 4.0)
FLAT_NOISE = (0.1, 0.1)  # relative noise of both runs with a flat prior
UNEQUAL_NOISE = (0.1, 0.3)
SHIFTS = (1.0, 0.6)  # thin slices, shift of the stack of the second half


Parts = tuple[Array, Array]
"""Contributions of the blocks of each run to an estimate (B_r, X, Y, n), which is their sum."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two runs, with the second run at the columns of the first; blocks of both that are used."""

    name: str
    first: ThickRun
    second: ThickRun
    blocks: tuple[Array, Array]  # (B,) bool, blocks that are used in each run
    resampled: Array  # block effects of the second run at the columns of the first (B2, X, Y, m2)
    positions: Array  # (X, Y, m2), thin slices of the first run
    first_to_second: Array  # (4, 4)

    @property
    def effects(self) -> Array:
        """Block effects of the first run that are used (B1, X, Y, m)."""
        return self.first.effects[self.blocks[0]]

    @property
    def cubic(self) -> Array:
        """Interpolate used blocks of the second run to thin slices (B2, X, Y, n)."""
        first_affine = self.first.thin.affine
        shape = self.first.thin.series.shape[:3]
        affine = shifted(self.second.thin.thick_affine, self.second.shift / THIN_PER_THICK)
        return np.stack(
            [
                sample_volume(effect, affine, shape, first_affine, self.first_to_second)
                for effect in self.second.effects[self.blocks[1]]
            ]
        )

    @property
    def thin_effects(self) -> tuple[Array, Array]:
        """Measured thin effects of the used blocks of both runs, in the frame of the first."""
        first, second = self.first.thin, self.second.thin
        if first is second:
            return first.effects[self.blocks[0]], first.effects[self.blocks[1]]
        shape = first.series.shape[:3]
        moved = [
            sample_volume(effect, second.affine, shape, first.affine, self.first_to_second)
            for effect in second.effects[self.blocks[1]]
        ]
        return first.effects[self.blocks[0]], np.stack(moved)


def shifted(affine: Array, slices: float) -> Array:
    """Return the affine of a stack that is shifted by a number of its slices."""
    moved = np.array(affine)
    moved[:3, 3] += slices * moved[:3, 2]
    return moved


def pair_of(first: ThickRun, second: ThickRun) -> Pair:
    """Register two runs."""
    affine = first.thin.thick_affine
    motion = estimate_motion([second.mean], first.mean, first.brain, affine)
    resampled, positions = sample_at_columns(
        second.effects,
        second.thin.thick_affine,
        first.columns.shape,
        affine,
        motion.matrices[0],
    )
    all_blocks = tuple(np.ones(len(run.effects), dtype=bool) for run in (first, second))
    return Pair(
        name=f"{first.thin.name} with {second.thin.name[-1]}",
        first=first,
        second=second,
        blocks=(all_blocks[0], all_blocks[1]),
        resampled=resampled,
        positions=positions,
        first_to_second=motion.matrices[0],
    )


def halves_of(run: ThinRun, shift: float, profile: Profile | None = None) -> Pair:
    """Pair the halves of a run, with the stack of the second half shifted by thin slices."""
    first, second = run.copy(profile=profile), run.copy(shift, profile)
    positions = compute_slice_positions(second.series.shape[2]) + shift
    return Pair(
        name=f"halves of {run.name}, shift {shift / THIN_PER_THICK:g}",
        first=first,
        second=second,
        blocks=(run.halves == 0, run.halves == 1),
        resampled=second.effects,
        positions=np.broadcast_to(positions, second.effects.shape[1:]),
        first_to_second=np.eye(4),
    )


def explained_variance(
    parts: Sequence[Array], targets: Sequence[Array], shares: Sequence[float], inside: MaskArray
) -> Float:
    """Return the variance of the noise-free thin effect that an estimate explains.

    Different blocks share no noise: their products give the energy of the noise-free effect, and
    its product with the estimate.

    Parameters
    ----------
    parts : Sequence[Array]
        Contributions of the blocks of each run to the estimate, (B_r, X, Y, n); the estimate is
        the sum over all blocks.
    targets : Sequence[Array]
        Measured effects of the blocks of each run (B_r, X, Y, n).
    shares : Sequence[float]
        Weight of each run in the effect that is compared; they sum to 1.
    inside : Mask
        Voxels (X, Y, n).

    Returns
    -------
    Float
        Value, and the values without each block in turn (1 + B,).
    """
    estimate, true = (
        np.concatenate([run[:, inside] for run in images]).astype(np.float64)
        for images in (parts, targets)
    )
    estimate, true = estimate - estimate.mean(1, keepdims=True), true - true.mean(1, keepdims=True)
    runs = np.repeat(np.arange(len(parts)), [len(run) for run in parts])
    grams = estimate @ estimate.T, estimate @ true.T, true @ true.T
    values = []
    for left_out in (None, *range(len(estimate))):
        used = np.array([block != left_out for block in range(len(estimate))])
        # the others of a run stand for the block that is left out
        counts = np.array([np.sum(used & (runs == run)) for run in range(len(parts))])
        full = np.array([np.sum(runs == run) for run in range(len(parts))])
        scale = used * (full / counts)[runs]
        weight = used * (np.array(shares) / counts)[runs]
        different = 1 - np.eye(len(estimate))
        energy = (np.outer(weight, weight) * different * grams[2]).sum()
        energy /= (np.outer(weight, weight) * different).sum()
        remaining = different @ weight
        product = (scale[:, None] * different * weight * grams[1] / remaining[:, None]).sum()
        values.append((2 * product - scale @ grams[0] @ scale) / energy)
    return np.array(values)


def interval(values: Array) -> float:
    """Return the half width of a 95 % interval from the values without each block (jackknife)."""
    left_out = values[1:]
    count = len(left_out)
    variance = (count - 1) / count * np.square(left_out - left_out.mean()).sum()
    return 1.96 * float(np.sqrt(variance))


def fused_parts(
    pair: Pair,
    prior: Array,
    *,
    resampled: Array | None = None,
    positions: Array | None = None,
    noise: Sequence[float] | None = None,
    last_step: bool = False,
) -> Parts:
    """Return the contributions of the blocks of each run to a fused effect.

    Parameters
    ----------
    pair : Pair
        The runs.
    prior : Array
        Prior SD (X, Y, n).
    resampled, positions : Array | None, optional
        Replacements for the values of the pair.
    noise : Sequence[float] | None, optional
        Relative noise of both runs; None: as in the program.
    last_step : bool, optional
        Whether the estimate is corrected to reproduce the slices of the first run.
    """
    second = pair.resampled if resampled is None else resampled
    return fuse_blocks(
        pair.effects,
        second[pair.blocks[1]],
        pair.positions if positions is None else positions,
        prior,
        pair.first.columns,
        noise,
        last_step=last_step,
    )


def fuse_blocks(
    first: Array,
    second: Array,
    positions: Array,
    prior: Array,
    columns: MaskArray,
    noise: Sequence[float] | None = None,
    *,
    last_step: bool = False,
) -> Parts:
    """Fuse block effects of two runs (B_r, X, Y, m_r); see `fused_parts`."""
    counts = len(first), len(second)
    # estimates are linear: the blocks of one run, and zeros in the other run
    ours = np.concatenate([first / counts[0], np.zeros((counts[1], *first.shape[1:]))])
    theirs = np.concatenate([np.zeros((counts[0], *second.shape[1:])), second / counts[1]])
    runs = [stack_first_run(ours), SlicedEffects(effects=theirs, positions=positions)]
    if noise is not None:
        runs = [replace(run, relative_noise=n) for run, n in zip(runs, noise, strict=True)]
    fused = fuse_slices(runs, prior, columns)
    if last_step:
        fused = reproduce_slices(fused, ours)
    return fused[: counts[0]], fused[counts[0] :]


def interpolations(pair: Pair) -> dict[str, Parts]:
    """Return interpolations, for comparison with the fusion."""
    effects, n_thick = pair.effects, pair.effects.shape[3]
    counts = len(effects), int(pair.blocks[1].sum())
    cubic = apply_along(bspline_matrix(n_thick, THIN_PER_THICK * n_thick), effects, axis=3)
    nothing = np.zeros((counts[1], *cubic.shape[1:]))
    return {
        "cubic spline": (cubic / counts[0], nothing),
        "spline that reproduces slices": (interpolate_thin(effects) / counts[0], nothing),
        "mean of both cubic splines": (0.5 * cubic / counts[0], 0.5 * pair.cubic / counts[1]),
    }


def main_fusions(pair: Pair) -> Iterator[tuple[str, Parts]]:
    """Yield the linear fusion, and the fusion as in the program."""
    slow = thin_prior_sd(pair.first.slow_sd)
    linear = fused_parts(pair, np.ones(slow.shape), noise=FLAT_NOISE)
    yield "linear fusion (flat prior SD)", linear
    yield "fusion", fused_parts(pair, slow)


def fusions(pair: Pair) -> Iterator[tuple[str, Parts]]:
    """Yield variants of the fusion."""
    first = pair.first
    slow = thin_prior_sd(first.slow_sd)
    yield from main_fusions(pair)
    yield "fusion that reproduces slices", fused_parts(pair, slow, last_step=True)
    yield "fusion, less noise in the first run", fused_parts(pair, slow, noise=UNEQUAL_NOISE)
    everywhere = np.ones(first.brain.shape, dtype=bool)
    for text, mask in (("", everywhere), (" in the brain", first.brain)):
        yield f"fusion, SD over time{text}", fused_parts(pair, thin_prior_sd(first.sd(mask)))
    yield "prior SD mirrored", fused_parts(pair, slow[::-1])
    wrong = opposite_positions(pair.positions)
    yield "wrong sign of the displacement", fused_parts(pair, slow, positions=wrong)
    yield "first run only, with the SD", fused_parts(pair, slow, noise=(0.1, 1e6))


def smoothed(images: Sequence[Array], affine: Array, fwhm: float) -> list[Array]:
    """Return images of the blocks of each run after smoothing (FWHM, mm)."""
    zooms = voxel_sizes(affine).tolist()
    return [np.stack([smooth(block, zooms, fwhm) for block in run]) for run in images]


def scores(
    pair: Pair, variants: Callable[[Pair], Iterator[tuple[str, Parts]]] = fusions
) -> Iterator[dict[str, Any]]:
    """Yield a row per method: interpolations, and variants of the fusion."""
    affine, inside = pair.first.thin.affine, pair.first.active
    same_run = pair.first.thin is pair.second.thin
    # smoothing, and weights of both runs in the measured effect
    compared = {
        "first run, 0 mm": (0.0, (1.0, 0.0)),
        "both, 0 mm": (0.0, (0.5, 0.5)),
        "both, 4 mm": (4.0, (0.5, 0.5)),
    }
    blank: dict[str, Any] = {}
    if same_run:  # halves of a run have no effects of their own
        del compared["first run, 0 mm"]
        blank = {"first run, 0 mm": "", "gain, first run, 0 mm": ""}
    targets = {fwhm: smoothed(pair.thin_effects, affine, fwhm) for fwhm in FWHM_MM}
    plain = interpolations(pair)
    best: dict[str, Float] = {}
    for method, parts in (*plain.items(), *variants(pair)):
        row: dict[str, Any] = {"runs": pair.name, "method": method, **blank}
        images = {fwhm: smoothed(parts, affine, fwhm) for fwhm in FWHM_MM}
        for name, (fwhm, shares) in compared.items():
            values = explained_variance(images[fwhm], targets[fwhm], shares, inside)
            row[name] = round(float(values[0]), 3)
            if method in plain:
                row[f"gain, {name}"] = ""
                if name not in best or values[0] > best[name][0]:
                    best[name] = values
            else:
                gain = values - best[name]
                row[f"gain, {name}"] = f"{gain[0]:+.3f} ± {interval(gain):.3f}"
        yield row


def thick_runs(data: Path, profile: Profile | None = None) -> list[ThickRun]:
    """Return copies of the two runs of pydecnef."""
    return [thin_run(data, name).copy(profile=profile) for name in ("pydecnef 1", "pydecnef 2")]


def fusion(data: Path) -> None:
    """Tabulate the explained variance of the measured thin effect."""
    runs = thick_runs(data)
    pairs = [pair_of(*runs), pair_of(*runs[::-1])]
    pairs += [halves_of(thin_run(data, name), 1.0) for name in ("studyforrest", "opennft")]
    rows = [row for pair in pairs for row in scores(pair)]
    about = "; ".join(
        f"{pair.name}: {int(pair.first.active.sum())} active voxels, median displacement"
        f" {median_displacement(pair.positions, pair.first.active):.2f} of a slice"
        for pair in pairs
    )
    keep(
        "across",
        "Effects in thin slices from runs with displaced thick slices",
        rows,
        remarks=[
            "Thick slices are means of pairs of measured slices (7 mm from 3.5 mm, studyforrest"
            " 6.6 from 3.3, opennft 7.5 from 3.75). Explained variance of the noise-free measured"
            " thin effect of the first run, and of the mean over both runs (or halves of a run):"
            " all frequencies, mean of all blocks, in voxels with |t| > 4 in the splined thick"
            " series of the first run. `gain`: over the best of the first three methods, 95 % by a"
            " jackknife over blocks. `fusion`: prior SD from the slow components of the first run."
            " `SD over time`: from all frequencies, after a quadratic trend.",
            about + ".",
        ],
    )


@dataclass(frozen=True, kw_only=True)
class Case:
    """An assumption about the slices of a second run, right or wrong."""

    pair: Pair
    name: str
    resampled: Array  # (B2, X, Y, m2), as in the program
    positions: Array
    prior: Array
    right: bool


def cases(pair: Pair) -> Iterator[Case]:
    """Yield right and wrong assumptions about a pair."""
    slow = thin_prior_sd(pair.first.slow_sd)
    case = Case(
        pair=pair,
        name="as registered",
        resampled=pair.resampled,
        positions=pair.positions,
        prior=slow,
        right=median_displacement(pair.positions, pair.first.active) >= LEAST_DISPLACEMENT,
    )
    yield case
    yield replace(
        case, name="wrong sign", positions=opposite_positions(pair.positions), right=False
    )
    yield replace(case, name="prior SD mirrored", prior=slow[::-1], right=False)
    still, first_positions = undone(pair), stack_first_run(pair.effects).positions
    case = replace(case, resampled=still, positions=first_positions, right=False)
    yield replace(case, name="displacement undone")
    yield replace(case, name="displacement undone, assumed as before", positions=pair.positions)
    yield replace(
        case, name="displacement undone, a quarter assumed", positions=first_positions + 0.5
    )


def undone(pair: Pair) -> Array:
    """Return block effects of the second run in exactly the slices of the first run."""
    first, second = pair.first.thin, pair.second.thin
    shape = first.series.shape[:3]
    moved = np.stack(
        [
            sample_volume(effect, second.affine, shape, first.affine, pair.first_to_second)
            for effect in second.effects
        ]
    )
    positions = compute_slice_positions(pair.first.effects.shape[3])
    return moved @ slice_profiles(positions, shape[2]).T


def verdict(case: Case) -> dict[str, Any]:
    """Return whether a case is applied, and the gain of the fusion."""
    pair, first = case.pair, case.pair.first
    effect = pair.effects.mean(axis=0)
    used = np.flatnonzero(pair.blocks[1])
    second = pair.second.thin.halves
    # halves of a run: every second of its blocks
    by_half = [used[second[used] == half] for half in (0, 1)]
    if not all(len(half) for half in by_half):
        by_half = [used[0::2], used[1::2]]
    halves = case.resampled[by_half[0]].mean(axis=0), case.resampled[by_half[1]].mean(axis=0)
    active = first.active_map
    result = check_fusion(effect, halves, case.positions, case.prior, first.columns, active)
    moved = median_displacement(case.positions, active)
    applied = moved >= LEAST_DISPLACEMENT and result.passed
    return {
        "runs": pair.name,
        "case": case.name,
        "displacement": round(moved, 2),
        **{name: round(float(getattr(result, name)), 2) for name in result.__slots__},
        "gate": "passed" if result.passed else "refused",
        "applied": "yes" if applied else "no",
        "gain": round(gain_of(case), 3),
    }


def gain_of(case: Case) -> float:
    """Return the gain of a fusion in explained variance, over the best interpolation."""
    pair, inside = case.pair, case.pair.first.active
    fused = fused_parts(pair, case.prior, resampled=case.resampled, positions=case.positions)
    value, *interpolation_values = (
        explained_variance(parts, pair.thin_effects, (0.5, 0.5), inside)[0]
        for parts in (fused, *interpolations(pair).values())
    )
    return float(value - max(interpolation_values))


def gate(data: Path) -> None:
    """Tabulate the decisions of the gate."""
    runs = thick_runs(data)
    pairs = [pair_of(*runs), pair_of(*runs[::-1]), halves_of(runs[0].thin, 0.0)]
    for name in ("studyforrest", "opennft"):
        run = thin_run(data, name)
        pairs += [halves_of(run, shift) for shift in (*SHIFTS, 0.0)]
    rows = []
    for pair in pairs:
        for case in cases(pair):
            # halves with equal slices have no displacement
            if pair.second.shift == 0 and pair.first.thin is pair.second.thin:
                if "undone" in case.name and "quarter" not in case.name:
                    continue
                if case.name == "wrong sign":
                    continue
            rows.append({**verdict(case), "right": "yes" if case.right else "no"})
            print(rows[-1], flush=True)
    keep(
        "across_gate",
        "Whether runs are fused across slices, for right and wrong assumptions",
        rows,
        remarks=[
            "`displacement`: median over active voxels, modulo the slice, of the assumed"
            " positions. `fused` to `mirrored`: share of the detail in held-out slices that is"
            " predicted by the fusion, by one run, with the wrong sign, and with a mirrored prior"
            " SD. `applied`: the gate passed, and the displacement is .25 or more. `gain`: in"
            " explained variance of the mean measured thin effect, over the best of spline and"
            " mean of both runs. `right`: whether the assumption is right and the displacement is"
            " .25 or more.",
        ],
    )


def acquisition(data: Path, dephasing: float) -> None:
    """Tabulate acquisitions that differ from the box-shaped profile that the fusion assumes."""
    rows = []
    kinds = {
        "box": Profile(),
        f"dephasing {dephasing:g} rad": Profile(dephasing=dephasing),
        "Gaussian": Profile(gaussian=True),
    }
    thin = [thin_run(data, name) for name in ("pydecnef 1", "pydecnef 2")]
    # the same voxels for all acquisitions
    active = [run.copy().active for run in thin]
    for kind, profile in kinds.items():
        runs = [run.copy(profile=profile) for run in thin]
        for run, mask in zip(runs, active, strict=True):
            run.__dict__["active"] = mask
        for pair in (pair_of(*runs), pair_of(*runs[::-1])):
            (registered, *_) = cases(pair)
            decision = verdict(registered)
            for row in scores(pair):
                if row["method"] in (
                    *interpolations(pair),
                    "linear fusion (flat prior SD)",
                    "fusion",
                ):
                    rows.append({"acquisition": kind, **row, "applied": decision["applied"]})
                    print(rows[-1], flush=True)
    keep(
        "across_acquisition",
        "Fusion across slices with dephasing and with a Gaussian slice profile",
        rows,
        remarks=[
            "As `across.md`, in the same voxels for all acquisitions. Dephasing: the phase of the"
            " halves of a slice differs by so much (SD over voxels, smooth in plane). Gaussian:"
            " FWHM of one thick slice. The fusion assumes a box in all cases. `applied`: whether"
            " the gate fuses the runs."
        ],
    )


def main() -> None:
    """Run one subcommand."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", choices=("fusion", "gate", "acquisition", "order"))
    parser.add_argument("data", type=Path, help="folder of the data sets")
    parser.add_argument("--dephasing", type=float, default=1.0, help="rad (default: 1)")
    arguments = parser.parse_args()
    if arguments.table == "acquisition":
        acquisition(arguments.data, arguments.dephasing)
    elif arguments.table == "order":
        from _across_order import order

        order(arguments.data)
    else:
        {"fusion": fusion, "gate": gate}[arguments.table](arguments.data)


if __name__ == "__main__":
    main()
