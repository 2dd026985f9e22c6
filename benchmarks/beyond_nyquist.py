"""Split halves against the measured run: what beyond the acquired Nyquist limit is true, in three
bands.

Explained variance, recovered amplitude and right share (`bids_sr.stats.evaluation.agreement`) come
first, then correlations.

python benchmarks/beyond_nyquist.py BIDS_DIR TRUTH_DIR [--series NAME=FILE ...] [--min-share S]
python benchmarks/beyond_nyquist.py --run OUT [--name TABLE]

The first form upsamples the low-resolution run of BIDS_DIR by each baseline on its own grid (no
motion is undone, as the measured run's is not either), adds any series given on that grid, and
scores them against the run of TRUTH_DIR: without and with motion as confounds, all stimuli and
faces + bodies less scenes + houses. Every figure stands twice:

- `all blocks`: every block of the events file counts, as in the table that the project began with.
  Its first block ended 12 s before the first volume. The standard error of that block's effect is
  13 times the others', so most of the variation of half 0 is that block's noise; the intervals
  show it.
- `seen blocks`: blocks count of which the run saw at least half of the response (or --min-share),
  as in the software.

`active` is where all stimuli have |t| > 4 in the measured half that is not the target (4 mm FWHM).
The denoised B-spline stands once whole and once with its map set to 0 outside the brain: the edge
of a mask is fine detail, which both halves share. What zero filling has in the band is the
coefficient at the limit itself, which an even matrix acquires once instead of twice. The second
form prints the rows of a finished run's evaluation.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from _labels import label
from _table import keep

from bids_sr.io.nifti import SeriesReader, SeriesWriter, load_image
from bids_sr.metrics.long_tables import MetricRow, read_table
from bids_sr.series import PCA_RANKS
from bids_sr.spatial.boldref import estimate_run
from bids_sr.sr.inference.guided_baselines import inject, match_gain, ratio
from bids_sr.sr.resolution.matrices import upsample
from bids_sr.stats.evaluation.agreement import (
    ComparedVoxels,
    Key,
    Reference,
    controls_of,
    interval,
)
from bids_sr.stats.evaluation.effects_of_run import RunEffects
from bids_sr.stats.evaluation.references import measured_halves
from bids_sr.stats.glm.block_effects import Effects, block_effects, load_effects, save_effects
from bids_sr.stats.glm.blocks import MIN_SHARE, block_design
from bids_sr.stats.glm.confounds import motion_columns, motion_table
from bids_sr.stats.glm.contrasts import resolve_contrasts
from bids_sr.stats.glm.design import MOTION
from bids_sr.stats.glm.regressors import read_events

FACTOR = (2.0, 2.0, 1.0)
HIGH_PASS = 1 / 108  # five cosines beside the constant in 272 s
CATEGORY = "face+body-scene-house"
BANDS = ("signal", "beyond")
REGIONS = ("brain", "active40")
AMOUNTS = {
    "ev": "explained variance beyond",
    "amplitude": "recovered amplitude beyond",
    "correct_fraction": "right share beyond",
}
RANK = 10


def one(root: Path, pattern: str) -> Path:
    """The only file of a pattern."""
    found = sorted(root.glob(pattern))
    if len(found) != 1:
        sys.exit(f"{root}: {len(found)} files match {pattern}, not one")
    return found[0]


def baselines(low: Path, high: Path) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Each baseline as what it makes of one volume of the low-resolution run."""
    guide = load_image(high)[0]
    with SeriesReader(low) as reader:
        mean = np.mean(list(reader.volumes()), axis=0)
    brain = mean > 0.25 * np.percentile(mean, 98)
    guide = guide * match_gain(guide, mean, brain)
    scale = float(np.percentile(mean[brain], 99))
    return {
        "bspline": lambda v: upsample("bspline", v, FACTOR),
        "zerofill": lambda v: upsample("zerofill", v, FACTOR),
        "inject": lambda v: inject(v, guide, FACTOR),
        "ratio": lambda v: ratio(v, mean, guide, FACTOR, scale),
    }


def write_series(
    low: Path, make: Callable[[np.ndarray], np.ndarray], affine: np.ndarray, out: Path
) -> Path:
    """A baseline's series, volume by volume."""
    with SeriesReader(low) as reader:
        shape = (*make(reader.volume(0)).shape, reader.shape[3])
        with SeriesWriter(out, shape, affine, reader.tr) as writer:
            for volume in reader.volumes():
                writer.append(make(volume))
    return out


def motion_of(low: Path) -> pd.DataFrame:
    """Six parameters and their derivatives, estimated on the low-resolution run alone."""
    with SeriesReader(low) as reader:
        reference = np.mean([reader.volume(t) for t in range(0, reader.shape[3], 8)], axis=0)
        found = estimate_run(reader, reference)
    return pd.DataFrame(motion_columns(motion_table(found.params, found.residual)))


def make_effects(
    series: Mapping[str, Path], mask: np.ndarray, events: Path, folder: Path, **model: Any
) -> dict[str, Effects]:
    """Effects of all series under one model."""
    out = {}
    for name, path in series.items():
        with SeriesReader(path) as reader:
            design = block_design(
                read_events(events),
                n_volumes=reader.shape[3],
                tr=reader.tr,
                high_pass=HIGH_PASS,
                **model,
            )
            found = block_effects(
                reader,
                mask,
                design,
                series=name,
                with_t=name == "measured",
                scratch=folder / "components.raw",
                pca_ranks=PCA_RANKS if name == "bspline" else (),
            )
        out[name] = load_effects(save_effects(found, folder / f"{name}.npz"))
    return out


def halves_of(
    folder: Path, measured: Effects, mask: np.ndarray, n_boot: int
) -> tuple[RunEffects, Reference]:
    """Measured halves of all stimuli and the categories; both contrasts use the voxels active for
    all stimuli.
    """
    types = sorted({block.condition for block in measured.blocks})
    contrasts = {
        name: resolve_contrasts(types, [name])[key] for name, key in names_of(types).items()
    }
    run = RunEffects(
        files={"measured": folder / "measured.npz"},
        contrasts=contrasts,
        mask=mask,
        affine=measured.affine,
        roi=mask,
        factor=FACTOR,
        n_boot=n_boot,
    )
    reference = measured_halves(run)
    assert reference is not None
    brain, *others = reference.regions
    active = [each for each in others if each.name in REGIONS and each.ways[0].contrast == "all"]
    both = [brain.ways[half::2] for half in (0, 1)]  # of all contrasts
    regions = [
        ComparedVoxels(name=each.name, voxels=each.voxels, ways=own)
        for each, own in zip(active, both, strict=True)
    ]
    return run, replace(reference, regions=[brain, *regions])


def names_of(types: Sequence[str]) -> dict[str, str]:
    """Requested contrast to the name it is given."""
    wanted = ["all", *([CATEGORY] if {"face", "body", "scene", "house"} <= set(types) else [])]
    return {text: next(iter(resolve_contrasts(types, [text]))) for text in wanted}


def table_rows(
    run: RunEffects, reference: Reference, effects: Mapping[str, Effects], model: str
) -> list[dict[str, Any]]:
    """Brain and active figures of every series, the controls among them."""
    kept = effects["bspline"].reduced(RANK)
    maps = {name: one.betas for name, one in effects.items()}
    maps[f"bspline, {RANK} components"] = kept
    maps[f"bspline, {RANK} components, 0 outside the brain"] = kept * run.mask[..., None]
    scored = {name: reference.scores(run.banded(betas, run.bands)) for name, betas in maps.items()}
    scored |= {
        name: own for name, (own, _) in controls_of(run, reference, effects["bspline"]).items()
    }
    order = sorted(scored, key=lambda name: name == "measured")
    rows = []
    for contrast in reference.units:
        for name in order:

            def told(
                statistic: str,
                band: str,
                text: Callable[[np.ndarray], str],
                *,
                name: str = name,
                contrast: str = contrast,
            ) -> str:
                both = (
                    scored[name].get(Key(statistic, band, contrast, region)) for region in REGIONS
                )
                return " / ".join("n/a" if own is None else text(own.mean(axis=0)) for own in both)

            row: dict[str, Any] = {"model": model, "contrast": contrast, "series": name}
            for figure, words in AMOUNTS.items():
                row[words] = told(figure, "beyond", _value)
                if figure == "ev":
                    row[f"{words}, 95 %"] = told(figure, "beyond", _ends)
            row |= {band: told("r", {"signal": "all"}.get(band, band), _value) for band in BANDS}
            row["beyond, 95 %"] = told("r", "beyond", _ends)
            rows.append(row)
    return rows


def _value(values: np.ndarray) -> str:
    return f"{values[0]:.3f}"


def _ends(values: np.ndarray) -> str:
    low, high = interval(values)
    return f"[{low:.2f}, {high:.2f}]"


def of_run(out: Path, title: str) -> None:
    """Tables from the evaluation of a finished run."""
    for path in sorted(out.glob("sub-*/**/*_desc-evaluation_metrics.tsv")):
        rows = [r for r in read_table(path) if r.region in ("brain", "active40")]
        split = {
            (r.series, r.contrast, r.region, label(r)): r
            for r in rows
            if r.reference == "measured"
        }
        table = []
        for series, contrast in dict.fromkeys(
            key[:2] for key in split if key[3].startswith("split_r_")
        ):
            row = {"series": series, "contrast": contrast}
            for figure, words in AMOUNTS.items():
                stem = {"correct_fraction": "right"}.get(figure, figure)
                pair = [
                    split.get((series, contrast, region, f"split_{stem}_beyond"))
                    for region in REGIONS
                ]
                row[words] = " / ".join(_shown(r) for r in pair)
            for band in BANDS:
                pair = [
                    split.get((series, contrast, region, f"split_r_{band}"))
                    for region in ("brain", "active40")
                ]
                row[band] = " / ".join(_shown(r) for r in pair)
            table.append(row)
        gains = [
            {
                "series": r.series,
                "less": r.minus,
                "contrast": r.contrast,
                "region": r.region,
                "gain of explained variance": _shown(r),
            }
            for r in rows
            if label(r) == "gain_split_ev_beyond"
        ]
        stem = path.name.split("_desc-")[0]
        if table:
            keep(title, f"Split halves against the measured run, brain / active: {stem}", table)
        if gains:
            keep(f"{title}_gains", f"Differences beyond the Nyquist limit: {stem}", gains)


def _shown(row: MetricRow | None) -> str:
    if row is None or not np.isfinite(row.value):
        return "n/a"
    ends = f" [{row.lower:.2f}, {row.upper:.2f}]" if np.isfinite(row.lower) else ""
    return f"{row.value:.3f}{ends}"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bids_dir", nargs="?", type=Path)
    parser.add_argument("truth_dir", nargs="?", type=Path)
    parser.add_argument("--series", nargs="*", default=[], metavar="NAME=FILE")
    parser.add_argument("--min-share", type=float, default=MIN_SHARE)
    parser.add_argument("--n-boot", type=int, default=1000)
    parser.add_argument("--run", type=Path, metavar="OUT")
    parser.add_argument("--name", default="beyond_nyquist")
    given = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    if given.run:
        of_run(given.run, f"{given.name}_run")
        return 0
    low, truth = (
        one(given.bids_dir, "sub-*/func/*_bold.nii.gz"),
        one(given.truth_dir, "sub-*/func/*_bold.nii.gz"),
    )
    events = one(given.truth_dir, "sub-*/func/*_events.tsv")
    high = one(given.bids_dir, "sub-*/anat/*highres_T2starw.nii.gz")
    with SeriesReader(truth) as reader:
        mean, affine = np.mean(list(reader.volumes()), axis=0), reader.affine
    mask = mean > 0.25 * np.percentile(mean, 98)
    motion, rows = motion_of(low), []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        made = {
            name: write_series(low, make, affine, folder / f"{name}.nii")
            for name, make in baselines(low, high).items()
        }
        made |= {
            name: Path(path) for name, _, path in (text.partition("=") for text in given.series)
        }
        made["measured"] = truth
        for label, share in (("all blocks", 0.0), ("seen blocks", given.min_share)):
            for extra, confounds in (("", None), (", motion", motion)):
                names = MOTION if confounds is not None else ()
                effects = make_effects(
                    made,
                    mask,
                    events,
                    folder,
                    min_share=share,
                    confounds=confounds,
                    confound_names=names,
                )
                run, reference = halves_of(folder, effects["measured"], mask, given.n_boot)
                rows += table_rows(run, reference, effects, label + extra)
    keep(given.name, "Split halves against the measured run, brain / active", rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
