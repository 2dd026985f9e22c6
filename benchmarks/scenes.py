"""Whether a variance map does harm: phantoms whose activation is known, and the gate that decides.

python benchmarks/scenes.py PHANTOM ...          (made by bids-sr-phantom --preset P --scene S)

The map comes from the noisy run, with its motion undone. It is applied to the known activation
itself, brought down and without noise: the method is linear in the change, so this is what it does
to it. `error` is the root mean square error where activation exceeds a tenth of its maximum, over
that of zero filling: below 1 is a gain, above 1 is harm. `gate` is the share that a map of one
half of the run explains in the other half, one level of resolution down.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from _table import keep
from numpy.typing import NDArray

from bids_sr.io.nifti import SeriesReader, SeriesWriter, load_image
from bids_sr.spatial.boldref import estimate_run
from bids_sr.spatial.masks import brain_mask
from bids_sr.spatial.resampling import sample_volume
from bids_sr.sr.data.temporal_components import halves_of, motion_courses, temporal_statistics
from bids_sr.sr.method import Method, get_method
from bids_sr.sr.resolution.operators import to_slices, to_volume
from bids_sr.sr.training.job import TrainingRequest
from bids_sr.sr.variance.fit_variance import fit_variance
from bids_sr.sr.variance.run_data import _LEAST_HALF, RunData
from bids_sr.sr.variance.upsampler import VarianceUpsampler

FACTOR = (2.0, 2.0, 1.0)
DUMMIES = 4
METHODS = ("sbl",)
Array = NDArray[Any]


def one(root: Path, pattern: str) -> Path:
    """The only file of a pattern."""
    found = sorted(root.glob(pattern))
    if len(found) != 1:
        sys.exit(f"{root}: {len(found)} files match {pattern}, not one")
    return found[0]


def prepared(root: Path, folder: Path) -> tuple[RunData, Array]:
    """The run of a phantom with motion undone once, as the program prepares it, and its poses (T,
    4, 4).

    The run as it was acquired stays in the folder as ``acquired.nii``.
    """
    truth = root / "derivatives" / "ground-truth"
    boldref = load_image(
        next(
            p for p in truth.glob("sub-*/func/*noisefree_boldref.nii.gz") if "res-hr" not in p.name
        )
    )[0]
    acquired, corrected = folder / "acquired.nii", folder / "corrected.nii"
    with SeriesReader(one(root, "sub-*/func/*_bold.nii.gz")) as reader:
        with SeriesWriter(
            acquired, reader.shape, reader.affine, reader.tr, header_like=reader.header
        ) as writer:
            for volume in reader.volumes():
                writer.append(volume)
        affine, tr, shape = reader.affine, reader.tr, reader.shape
    mask = brain_mask(boldref, affine)
    with SeriesReader(acquired) as reader:
        poses = estimate_run(reader, boldref, mask).matrices
        with SeriesWriter(corrected, shape, affine, tr, header_like=reader.header) as writer:
            for t, volume in enumerate(reader.volumes()):
                writer.append(sample_volume(volume, affine, shape[:3], affine, poses[t]))
    nuisance = motion_courses(poses, affine[:3, :3] @ np.argwhere(mask).mean(0) + affine[:3, 3])
    with SeriesReader(corrected) as reader:
        statistics = temporal_statistics(reader, mask, DUMMIES, nuisance=nuisance)
        halves = halves_of(reader, mask, DUMMIES, 40, nuisance, _LEAST_HALF)
    return RunData(
        statistics=statistics, halves=halves, mask=mask, affine=affine, factor=FACTOR
    ), poses


def error_over_zerofill(upsampler: VarianceUpsampler, wanted: Array) -> float:
    """Root mean square error of a known map, brought down and reconstructed, over that of zero
    filling.
    """
    level = upsampler.level
    coarse = np.ascontiguousarray(to_volume(level.down(to_slices(wanted))))
    plain = to_volume(level.up(to_slices(coarse)))
    made = plain + to_volume(upsampler.detail(coarse, np.eye(4)))
    where = np.abs(wanted) > 0.1 * np.abs(wanted).max()
    return float(
        np.sqrt(np.square(made - wanted)[where].mean() / np.square(plain - wanted)[where].mean())
    )


def rows_of(root: Path) -> list[dict[str, Any]]:
    """One row a method."""
    with tempfile.TemporaryDirectory() as folder:
        data, _ = prepared(root, Path(folder))
        maps = "derivatives/ground-truth/sub-*/func/*contrast-{}_stat-effect*.nii.gz"
        known = [load_image(one(root, maps.format(name)))[0] for name in ("thumb", "little")]
        rows = []
        for name in METHODS:
            method = get_method(name)
            recipe = method.variance
            assert recipe is not None
            made = fit_variance(TrainingRequest(method=method), data)
            errors = {}
            for applied in (made.card["applied"], True):
                state = made.state
                if applied != made.card["applied"]:
                    state = fit_variance(TrainingRequest(method=ungated(method)), data).state
                upsampler = VarianceUpsampler(
                    weight=state["weight"],
                    noise=float(state["noise"]),
                    fwhm=recipe.fwhm,
                    mean=data.statistics.mean,
                    mask=data.mask,
                    affine=data.affine,
                    factor=FACTOR,
                )
                errors[applied] = float(
                    np.mean([error_over_zerofill(upsampler, each) for each in known])
                )
            rows.append(
                {
                    "scene": root.resolve().name,
                    "method": name,
                    "components": made.card["components"],
                    "gate": made.card["held_out"].get("explained_over_zerofill", "too short"),
                    "applied": made.card["applied"],
                    "error": round(errors[made.card["applied"]], 4),
                    "error without the gate": round(errors[True], 4),
                }
            )
            print(rows[-1], flush=True)
    return rows


def ungated(method: Method) -> Method:
    """A method without the gate."""
    assert method.variance is not None
    return replace(method, variance=replace(method.variance, least_explained=None))


def main() -> int:
    """All phantoms that are named."""
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    rows = [row for root in sys.argv[1:] for row in rows_of(Path(root))]
    worst = max(row["error"] for row in rows)
    keep(
        "scenes",
        "Variance maps on phantoms: error of the known activation over zero filling's",
        rows,
        remarks=[f"Worst with the gate: {worst:.4f}; 1 is zero filling."],
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
