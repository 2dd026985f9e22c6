"""Test if `sbl` gains from having seen the task, or from one half of its volumes more than from
the other; and locate the detail in participants.

python benchmarks/double_dipping.py DATA OUT [RUN ...]

The variance maps W of a run come from all of its volumes, including the task, and effects of the
same run are then scored. Here, W is learned from the motion-corrected series of `people.py runs`
without the task (the response to each condition, or to every single block: least squares of the
evaluation's own model), or from the first or the second half of the volumes, and applied to the
effects of the run as acquired. Effects of blocks are linear in the series, so `sbl` is applied to
effects instead of volumes; "as the program" shows that this gives the program's values.

The last table shows the concentration of the energy of the measured detail. Voxels are ranked by
the effect above the acquired Nyquist limit in one half of the blocks; their energy is their part
of the product of both halves, which is free of noise.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import torch
from _people_data import TESTED, Tested, make_tested
from _people_measured import FACTOR, Array
from _people_runs import Kept, call, code, value
from _people_tables import ACTIVE
from _table import keep
from nipype.utils.filemanip import loadpkl

from bids_sr.evaluation.agreement import agreement_rows
from bids_sr.evaluation.effects_of_run import RunEffects
from bids_sr.evaluation.evidence import ACQUIRED_ACTIVE
from bids_sr.evaluation.references import make_half_reference
from bids_sr.glm.block_effects import Effects, load_effects, save_effects
from bids_sr.glm.blocks import BlockDesign, block_design
from bids_sr.glm.contrasts import resolve_contrasts
from bids_sr.glm.design import DesignSettings
from bids_sr.glm.halves import select_split_conditions
from bids_sr.glm.regressors import read_events
from bids_sr.io.nifti import SeriesReader, save_image
from bids_sr.metrics.rows import MISSING, MetricRow
from bids_sr.spatial.itk_files import read_itk
from bids_sr.spatial.nyquist import beyond_nyquist
from bids_sr.sr.method import get_method
from bids_sr.sr.operators import level_above, to_slices
from bids_sr.sr.prior_maps.estimation import estimate_prior
from bids_sr.sr.prior_maps.prior import Prior, Tile
from bids_sr.sr.prior_maps.run_data import run_data

TOP = 0.05
"""Fraction of the voxels of the brain."""


def inputs_of(steps: Path, step: str) -> dict[str, Any]:
    """Return the inputs of a step of the program."""
    return dict(loadpkl(steps / step / "_inputs.pklz"))


def design_of(inputs: dict[str, Any], n_volumes: int) -> BlockDesign:
    """Return the evaluation's model of a run."""
    with SeriesReader(Path(inputs["series"])) as series:
        tr = series.tr
    return block_design(
        read_events(Path(inputs["regressors"])),
        DesignSettings(high_pass=inputs["high_pass"], start_time=inputs["start_time"]),
        n_volumes=n_volumes,
        tr=tr,
        n_dummy=inputs["n_dummy"],
        confounds=pd.read_csv(inputs["confounds"], sep="\t"),
    )


def learned_from(
    series: Array, poses: Array, design: BlockDesign
) -> Iterator[tuple[str, Array, Array]]:
    """Yield series (X, Y, Z, T) for learning W, and their head positions."""
    yield "as the program", series, poses
    start, inside = design.n_dummy, [block for block in design.blocks if block.share > 0]
    blocks = design.matrix[:, : len(inside)]
    conditions = np.array([block.condition for block in inside])
    types = np.stack(
        [blocks[:, conditions == condition].sum(1) for condition in dict.fromkeys(conditions)], 1
    )
    for label, task in (("conditions", types), ("every block", blocks)):
        model = np.column_stack([task, design.matrix[:, len(inside) :]])
        fit = np.linalg.pinv(model)[: task.shape[1]]
        without = series.copy()
        without[..., start:] -= (series[..., start:] @ fit.T) @ task.T
        yield f"less the response to {label}", without.astype(np.float32), poses
    middle = start + (series.shape[3] - start) // 2
    for which, part in (("first", slice(0, middle)), ("second", slice(middle - start, None))):
        yield f"{which} half of the volumes", series[..., part], poses[part]


def prior_of(series: Array, poses: Array, inputs: dict[str, Any]) -> Prior:
    """Estimate the prior of a run by the program's recipe, from a series on its acquired grid."""
    image: Any = nib.load(inputs["bold_mask"])  # type: ignore[attr-defined]
    mask, recipe = np.asarray(image.dataobj) > 0, get_method("sbl").variance
    assert recipe is not None
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "series.nii"
        save_image(series, image.affine, file, header_like=image.header)
        with SeriesReader(file) as reader:
            data = run_data(reader, mask, recipe, FACTOR, n_dummy=inputs["n_dummy"], poses=poses)
    level = level_above(mask.shape, FACTOR)
    components = torch.stack([to_slices(component) for component in data.statistics.components])
    tile = Tile.from_mask(level.restrict_to_plane(), mask)
    return estimate_prior(level.upsample_slices(components), tile, recipe, seed=0)


def applied(prior: Prior, filled: Effects) -> Effects:
    """Return effects of `sbl` from zero-filled effects."""
    betas, level = filled.betas.copy(), prior.region.level
    with torch.inference_mode():
        for z in range(betas.shape[2]):
            part = torch.from_numpy(np.ascontiguousarray(np.moveaxis(betas[:, :, z], -1, 0)))
            detail = level.select_above_nyquist(
                prior.make_slice_function(z)(level.downsample(part))
            )
            betas[:, :, z] += np.moveaxis(detail.numpy(), 0, -1)
    return replace(filled, series="sbl", betas=betas)


def scored(outputs: Kept, effects: Effects) -> list[MetricRow]:
    """Return the explained variance of effects of `sbl` in a run."""
    measured = load_effects(outputs.folder / "measured.npz")
    types = list(dict.fromkeys(block.condition for block in measured.blocks))
    with tempfile.TemporaryDirectory() as folder:
        run = RunEffects(
            files={
                "measured": outputs.folder / "measured.npz",
                "sbl": save_effects(effects, Path(folder) / "sbl.npz"),
            },
            contrasts=resolve_contrasts(types, ["all"]),
            mask=measured.mask,
            affine=measured.affine,
            roi=measured.mask,
            factor=FACTOR,
            n_boot=0,
            acquired_t={"all": outputs.acquired_t(measured)},
        )
        return [row for row in agreement_rows(run, make_half_reference) if row.minus == MISSING]


def dipped(tested: Tested, data: Path, out: Path) -> list[dict[str, Any]]:
    """Return the explained variance of a run for different sources of W."""
    folder = out / tested.name
    outputs = call(*make_tested(tested, data, out), folder, "blind", "none", tested.contrasts)
    (steps,) = (folder / f"work-{code()}").glob("bids_sr_wf/sub_*_wf/sub_*_wf")
    inputs = inputs_of(steps, "sbl/estimate_variance")
    image: Any = nib.load(inputs["preproc"])  # type: ignore[attr-defined]
    series = np.asarray(image.dataobj, dtype=np.float32)
    design = design_of(inputs_of(steps, "sbl/measure_effects"), series.shape[3])
    filled = load_effects(outputs.folder / "zerofill.npz")
    rows = []
    poses = read_itk(Path(inputs["hmc_xfms"]))
    for source, learned, moved in learned_from(series, poses, design):
        rows_of_method = scored(outputs, applied(prior_of(learned, moved, inputs), filled))
        active, brain = (
            round(value(rows_of_method, "sbl", "split_ev_beyond", region).value, 3)
            for region in (ACQUIRED_ACTIVE, "brain")
        )
        rows.append({"run": tested.title, "W from": source, "active": active, "brain": brain})
        print(rows[-1], flush=True)
    return rows


def concentration(tested: Tested, out: Path) -> dict[str, Any]:
    """Return the fraction of the energy of the measured detail in the voxels where it is
    largest.
    """
    measured = load_effects(out / tested.name / "kept" / "blind" / "measured.npz")
    types = list(dict.fromkeys(block.condition for block in measured.blocks))
    (weights,) = resolve_contrasts(types, ["all"]).values()
    halves = measured.halves(select_split_conditions(measured.blocks, weights))
    assert halves is not None
    maps = beyond_nyquist(measured.betas @ halves.T.astype(np.float32), FACTOR)[measured.mask]
    energy, count = maps.prod(1), round(TOP * len(maps))
    shares = [energy[np.argsort(-np.abs(half))[:count]].sum() / energy.sum() for half in maps.T]
    return {"run": tested.title, "share of energy": round(float(np.mean(shares)), 2)}


def main() -> int:
    """Make both tables."""
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    torch.set_num_threads(1)
    data, out, only = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
    chosen = [tested for name, tested in TESTED.items() if not only or name in only]
    keep(
        "double_dipping",
        "Explained variance of `sbl` beyond the acquired Nyquist limit by what W was learned from",
        [row for tested in chosen for row in dipped(tested, data, out)],
        remarks=[f"Blind, split halves of all events against rest. Active: {ACTIVE}."],
    )
    keep(
        "detail_places",
        f"Share of the energy of the measured detail in {TOP:.0%} of the brain's voxels",
        [concentration(tested, out) for tested in chosen],
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
