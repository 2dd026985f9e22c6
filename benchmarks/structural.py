"""Attention U-Net on three structural contrasts of phantom heads, against other networks and
interpolation.

benchmarks/structural.py --work DIR [--seconds S] [--train N] [--test N] [--cells NAME …]
[--segment some|all]

Heads are those of `bids-sr-phantom --anat` (preset tiny: fine scans of 2 mm, coarse ones of 4 mm;
the coarse scans are of another day, in another position) with seeds of their own. The phantom's
scanners have true gradients; so that an affine has something to find, the coarse scanner's are off
here by up to `--gradient` along each axis, which is synthetic. Each head is prepared by the
program's own steps, rigidly, by an affine and by a deformation, registered on coarser voxels than
the program takes (`--mm`). Networks learn from the training heads, every fourth of which chooses
the stopping point, and are judged on heads that none of them saw.

Grid: alignment (3) x contrasts fused or a network each (2) x slices or patches (2) x critic in the
loss or beside it (2) for attunet, then unet at attunet's width, unet of the usual widths ("unet
wide") and vit as attunet is by default. Every network gets the same processor time and runs
through its whole schedule (fast recipe); "single" thus has three times the time of "fused" in all.
Networks of patches are applied in patches.

Figures are of the brain in all slices, means over test heads: PSNR (data range 1), SSIM, MAE,
NMSE, against the fine scans in the same alignment (that of the T1w is the same in all three but
for its scale). Tissues are found by Atropos in all three contrasts; volumes are compared with
those of the fine scans (Bland-Altman, percent of the mean), beside a second session of the same
heads at the fine resolution (position, receive field and noise are others) and beside what the
phantom is made of.

What is prepared, trained and scored is kept in `--work`, with what a step and a look cost, so that
a run that was stopped goes on where it was; options that would give other heads or models want
another folder. Writes benchmarks/results/structural{,_effects,_volumes}.{json,md} and
structural{,_volumes}.svg.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import _table
import numpy as np
from _kept import kept, write_arrays
from _structural_data import (
    ALIGNMENTS,
    TISSUES,
    Align,
    Heads,
    PreparedHead,
    facts_of,
    prepare_head,
    read_head,
)
from _structural_run import Cell, How, grid, made_of, notes_of, trained, training_facts
from _structural_tables import keep_all
from numpy.typing import NDArray

from bids_sr.metrics.image_similarity import mae, nmse, psnr, ssim
from bids_sr.phantom.still_scans import CONTRASTS
from bids_sr.registration.tissues import segment_tissues, tissue_masks
from bids_sr.stats.image.image_quality import overlap, tissue_volumes

Array = NDArray[Any]
INTERPOLATIONS = ("nearest", "linear", "bspline")
Series = tuple[str, Align]  # name of a cell or an interpolation, and the alignment it is judged in
Figures = dict[str, Any]
FIRST_TEST = 500  # seeds of test heads begin here, those of training heads at 1


def segmented(cells: Sequence[Cell], which: str) -> list[Series]:
    """The series whose tissues are looked for: attunet by default, in other alignments and single,
    others, splines.
    """
    plain: list[Series] = [("linear", "rigid"), *(("bspline", align) for align in ALIGNMENTS)]
    base = [*(Cell(align=align) for align in ALIGNMENTS), Cell(fused=False)]
    chosen = [cell for cell in cells if which == "all" or cell in base or cell.method != "attunet"]
    return plain + [(cell.name, cell.align) for cell in chosen]


def likeness(head: PreparedHead, made: Array) -> dict[str, dict[str, float]]:
    """Figures of each contrast of a head."""
    measures = {
        "psnr": lambda a, b: psnr(a, b, data_range=1.0, mask=head.mask),
        "ssim": lambda a, b: ssim(a, b, data_range=1.0, mask=head.mask),
        "mae": lambda a, b: mae(a, b, mask=head.mask),
        "nmse": lambda a, b: nmse(a, b, mask=head.mask),
    }
    return {
        contrast: {name: measure(head.fine[k], made[k]) for name, measure in measures.items()}
        for k, contrast in enumerate(CONTRASTS)
    }


def tissues(head: PreparedHead, scans: Array) -> dict[str, Array]:
    """Masks of gray matter, white matter and fluid."""
    return tissue_masks(
        segment_tissues(dict(zip(CONTRASTS, scans, strict=True)), head.mask, head.affine, seed=0)
    )


def measured_tissues(work: Path, seed: int, align: Align) -> dict[str, Array]:
    """Those of the fine scans."""
    path = work / f"tissues-{seed}_{align}.npz"
    if not path.exists():
        head = read_head(work, seed, align)
        write_arrays(path, **tissues(head, head.fine))
    with np.load(path) as found:
        return {name: found[name] for name in TISSUES}


def volumes(
    work: Path, seed: int, align: Align, head: PreparedHead, made: Array
) -> dict[str, dict[str, float | None]]:
    """Volume (ml) of each tissue, that in the fine scans, and how both overlap."""
    known, found = measured_tissues(work, seed, align), tissues(head, made)
    ml, own = (tissue_volumes(masks, head.zooms) for masks in (known, found))
    out: dict[str, dict[str, float | None]] = {}
    for name in TISSUES:
        shared = overlap(known[name], found[name], head.mask)
        out[name] = {"measured": ml[name], "found": own[name]} | {
            what: shared[what] for what in ("dice", "tpf", "tnf", "ppv")
        }
    return out


def judge(
    given: argparse.Namespace,
    cells: Sequence[Cell],
    models: Mapping[str, list[Path]],
    how: How,
    seeds: Sequence[int],
) -> dict[Series, list[Figures]]:
    """Figures of each series, one entry a test head: likeness by contrast, and volumes by tissue
    where they are due.
    """
    by_name = {cell.name: cell for cell in cells}
    every: list[Series] = [(name, align) for align in ALIGNMENTS for name in INTERPOLATIONS]
    every += [(cell.name, cell.align) for cell in cells]
    cut = segmented(cells, given.segment)
    out: dict[Series, list[Figures]] = {}
    for name, align in every:
        cell, due = by_name.get(name), (name, align) in cut
        stem = models[name][0].stem if cell else f"{name}_{align}"
        for seed in seeds:
            path = given.work / f"figures-{seed}_{stem}{'_tissues' * due}.json"
            make = partial(
                _figures, given.work, seed, align, cell or name, models.get(name, []), how, due
            )
            out.setdefault((name, align), []).append(kept(path, make))
        sys.stderr.write(f"judged {name}, {align}\n")
    return out


def _figures(
    work: Path,
    seed: int,
    align: Align,
    what: Cell | str,
    models: Sequence[Path],
    how: How,
    due: bool,
) -> Figures:
    """Figures of one series of one head."""
    head = read_head(work, seed, align)
    made = head.coarse[what] if isinstance(what, str) else made_of(what, how, models, head)
    found: Figures = {"likeness": likeness(head, made), "volumes": None}
    try:
        found["volumes"] = volumes(work, seed, align, head, made) if due else None
    # a network that learned nothing makes images that have no tissues
    except RuntimeError as error:
        found["no tissues"] = str(error)
    return found


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--work",
        type=Path,
        required=True,
        help="what is prepared, trained and scored is kept here",
    )
    parser.add_argument("--results", type=Path, default=_table.RESULTS)
    parser.add_argument("--seconds", type=float, default=16, help="of processor time a network")
    parser.add_argument("--train", type=int, default=5, help="heads to train on")
    parser.add_argument("--test", type=int, default=6, help="heads to judge by")
    parser.add_argument("--preset", default="tiny", help="of the phantom")
    parser.add_argument(
        "--gradient",
        type=float,
        default=0.015,
        help="largest relative error of the coarse gradients",
    )
    parser.add_argument(
        "--mm",
        type=float,
        default=6.0,
        help="voxels on which scans are registered (the program: 2)",
    )
    parser.add_argument("--patch", type=int, default=48, help="side of patches, in voxels")
    parser.add_argument(
        "--critic-weight", type=float, default=0.1, help="in the loss, where the critic is in it"
    )
    parser.add_argument("--seed", type=int, default=0, help="of weights and draws")
    parser.add_argument("--cells", nargs="+", help="names of some cells only")
    parser.add_argument(
        "--segment",
        choices=("some", "all"),
        default="some",
        help="cells whose tissues are looked for",
    )
    return parser.parse_args()


def main() -> None:
    given = options()
    _table.RESULTS = given.results
    heads = Heads(
        preset=given.preset,
        gradient=given.gradient,
        mm=given.mm,
        train=tuple(range(1, given.train + 1)),
        test=tuple(range(FIRST_TEST, FIRST_TEST + given.test)),
    )
    how = How(
        seconds=given.seconds, patch=given.patch, weight=given.critic_weight, seed=given.seed
    )
    heads.check(given.work, training_facts(how))
    for seed in heads.train + heads.test:
        prepare_head(given.work, heads, seed)
        sys.stderr.write(f"prepared head {seed}\n")
    cells = [cell for cell in grid() if not given.cells or cell.name in given.cells]
    models = {cell.name: trained(cell, how, given.work, heads.train) for cell in cells}
    found = judge(given, cells, models, how, heads.test)
    notes = {name: [notes_of(path) for path in paths] for name, paths in models.items()}
    facts = {seed: facts_of(given.work, seed) for seed in heads.train + heads.test}
    keep_all(given, heads, cells, found, notes, facts)


if __name__ == "__main__":
    main()
