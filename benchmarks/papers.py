"""Tables and learning curves of the five papers, made with the same methods on data that anyone
has.

python benchmarks/papers.py {tv,cpce,mouse,attunet,srgan,all,TABLE} … [--data DIR] [--work DIR]
                            [--max-minutes MINUTES]

The trainings are short (minutes of one core, not the papers' days), on one measured head
(`examples/studyforrest`) or on simulated ones, so that values show what the methods do on these
data and cannot be compared with a paper's values in size. `--data` takes the measured images from
a data set of `papers_data.py` instead. `--work` keeps finished trainings and checkpoints, so that
a call with `--max-minutes` can be continued by the same command; tables are written as soon as
their trainings are finished. The figures of the curves are drawn with their tables; `figures`
draws them again from the stored values. Seeds are fixed; a rerun on the same kind of CPU gives the
same tables. Numbers of steps and sizes of patches were chosen for their cost; the scores of trial
runs of 6 to 400 steps had been seen by then.
"""

import argparse
import io
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _papers_alignment
import _papers_attunet
import _papers_mouse
import _papers_slices
import _papers_tv
from _papers_curves import redraw
from _papers_data import EXAMPLE
from _papers_portions import Portion, PortionEnded
from _table import keep

SRGAN_STEPS = 500
SRGAN_PEOPLE = 2


def call(*words: str | Path) -> None:
    """Run a command of bids-sr; a failure ends the benchmark."""
    program, *rest = map(str, words)
    subprocess.run([str(Path(sys.executable).with_name(program)), *rest], check=True)


def srgan(work: Path, people: int) -> None:
    """Region sizes and Dice of the SRGAN paper, on simulated participants, by `bids-sr` itself."""
    data, out = work / "simulated", work / "out"
    if not data.exists():
        call("bids-sr-phantom", data, "--preset", "tiny", "--subjects", str(people))
    options = ("--preset", "ota2022", "--recipe", "fast", "--dummy-scans", "2", "--nprocs", "1")
    options += ("--set", f"srgan.iterations={SRGAN_STEPS}")
    call("bids-sr", data, out, "participant", *options, "-w", work / "work")
    call("bids-sr", data, out, "group")
    lowest_p = 2 / 2**people
    keep(
        "papers_srgan",
        "STSS-SRfMRI: size of activation regions and their overlap",
        srgan_rows(out),
        remarks=[
            f"The table is based on {people} simulated participants (`bids-sr-phantom OUT"
            " --preset tiny`), which were processed with `--preset ota2022 --recipe fast`. The"
            f" `srgan` network of each participant was trained for {SRGAN_STEPS} steps on the"
            " T2\\*w pair of the same participant. Values are medians (IQR) across participants,"
            " and region sizes are in acquired voxels. The p values are from exact Wilcoxon"
            f" signed-rank tests and cannot be lower than {lowest_p:.3g} with {people}"
            " participants.",
        ],
    )


def srgan_rows(out: Path) -> list[dict[str, Any]]:
    """Return medians (quartiles) of sizes and Dice, and p against two series, by smoothing."""
    from bids_sr.group.comparison_tables import paper_sizes
    from bids_sr.group.input_tables import find_tables
    from bids_sr.group.paired_tests import differences as differences_of
    from bids_sr.group.values import join_tables, participants_by_series, quartiles
    from bids_sr.group.wilcoxon import signed_rank

    (sizes, *_) = paper_sizes(join_tables(find_tables(out), io.StringIO()).values)
    rows = []
    for width, of_width in sizes.groupby("fwhm_mm"):
        for contrast, table in of_width.groupby("contrast", observed=True):
            values = participants_by_series(table)
            for name in ("raw", "bspline", "zerofill", "srgan"):
                first, median, third = quartiles(values[name])
                row = {
                    "smoothing (mm)": float(width),
                    "measure": str(contrast),
                    "series": name,
                    "median (IQR)": f"{median:.3g} ({first:.3g}–{third:.3g})",
                }
                for reference in ("raw", "bspline"):
                    pairs = values[[name, reference]].dropna() if name != reference else values[:0]
                    tested = (
                        signed_rank(differences_of(pairs[name], pairs[reference]))
                        if len(pairs) > 1
                        else None
                    )
                    row[f"p, {reference}"] = (
                        f"{float(tested['p_wilcoxon']):.3f}" if tested is not None else "–"
                    )
                rows.append(row)
    return rows


PAPERS: dict[str, dict[str, Callable[[Path, Portion], None]]] = {
    "tv": _papers_tv.PARTS,
    "cpce": _papers_slices.PARTS,
    "mouse": _papers_mouse.PARTS,
    "attunet": _papers_attunet.PARTS | _papers_alignment.PARTS,
}


def makers(name: str) -> list[Callable[[Path, Portion], None]]:
    """Return the functions that make the tables of a paper, of all papers, or a single table."""
    if name == "figures":
        return [lambda _data_set, _portion: redraw()]
    if name == "all":
        return [make for parts in PAPERS.values() for make in parts.values()]
    if name in PAPERS:
        return list(PAPERS[name].values())
    return [parts[name] for parts in PAPERS.values() if name in parts]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    tables = [name for parts in PAPERS.values() for name in parts if name not in PAPERS]
    parser.add_argument(
        "papers",
        nargs="+",
        choices=(*PAPERS, "srgan", "all", *tables, "figures"),
        help="papers or single tables, made in this order; figures: drawn from stored curves",
    )
    parser.add_argument("--data", type=Path, default=EXAMPLE, help="data set of papers_data.py")
    parser.add_argument(
        "--people", type=int, default=SRGAN_PEOPLE, help="simulated participants of srgan"
    )
    parser.add_argument(
        "--work", type=Path, help="folder of trainings and of runs of srgan (kept)"
    )
    parser.add_argument(
        "--max-minutes", type=float, help="time limit of the call; requires --work"
    )
    arguments = parser.parse_args()
    if arguments.max_minutes is not None and arguments.work is None:
        parser.error("--max-minutes requires --work, where the next call continues")
    with tempfile.TemporaryDirectory() as folder:
        work = arguments.work or Path(folder)
        portion = Portion(work, arguments.max_minutes)
        try:
            for paper in arguments.papers:
                for make in makers(paper):
                    make(arguments.data, portion)
        except PortionEnded as training:
            sys.stderr.write(f"{training}: time limit reached. Repeat the command to continue.\n")
            return
        if {"srgan", "all"} & {*arguments.papers}:
            srgan(work, arguments.people)


if __name__ == "__main__":
    main()
