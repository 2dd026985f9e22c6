"""Tables and learning curves of the five papers, made with the same methods on data that anyone
has.

python benchmarks/papers.py {tv,cpce,mouse,attunet,srgan,all,TABLE} … [--data DIR] [--work DIR]
                            [--max-minutes MINUTES]

The trainings are short (minutes of one core, not the papers' days), on one measured head
(`examples/studyforrest`) or on simulated ones, so that values show what the methods do on these
data and cannot be compared with a paper's values in size. `--data` takes the measured images from
a data set of `papers_data.py` instead. `--work` keeps finished trainings, checkpoints and
participants, so that a call with `--max-minutes` can be continued by the same command; tables are
written as soon as their trainings are finished. The figures of the curves are drawn with their
tables; `figures` draws them again from the stored values. Seeds are fixed; a rerun on the same
kind of CPU gives the same tables. Numbers of steps and sizes of patches were chosen for their
cost; the scores of trial runs of 6 to 400 steps had been seen by then.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import _papers_alignment
import _papers_attunet
import _papers_claims
import _papers_lesions
import _papers_mouse
import _papers_ota
import _papers_slices
import _papers_tv
from _papers_curves import redraw
from _papers_data import EXAMPLE
from _papers_portions import Portion, PortionEnded

PAPERS: dict[str, dict[str, Callable[[Path, Portion], None]]] = {
    "tv": _papers_tv.PARTS,
    "cpce": _papers_slices.PARTS,
    "mouse": _papers_mouse.PARTS,
    "attunet": _papers_attunet.PARTS | _papers_alignment.PARTS | _papers_lesions.PARTS,
}


TABLES_OF_OTHERS = ("tv_others", "tv_weight")
"""Tables for which runs of other participants must be given."""


def makers(name: str) -> list[Callable[[Path, Portion], None]]:
    """Return the functions that make the tables of a paper, of all papers, or a single table."""
    if name == "figures":
        return [lambda _data_set, _portion: redraw()]
    if name == "all":
        return [make for parts in PAPERS.values() for make in parts.values()]
    if name == "claims" or name in _papers_claims.PARTS:
        parts = [name] if name in _papers_claims.PARTS else [*_papers_claims.PARTS]
        return [
            lambda _, portion, make=_papers_claims.PARTS[part]: make(portion.work)  # type: ignore
            for part in parts
        ]
    if name in PAPERS:
        return list(PAPERS[name].values())
    return [parts[name] for parts in PAPERS.values() if name in parts]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    tables = [name for parts in PAPERS.values() for name in parts if name not in PAPERS]
    parser.add_argument(
        "papers",
        nargs="+",
        choices=(
            *PAPERS,
            *_papers_claims.PARTS,
            "claims",
            "srgan",
            "all",
            *tables,
            *TABLES_OF_OTHERS,
            "figures",
        ),
        help="papers or single tables, made in this order; figures: drawn from stored curves",
    )
    parser.add_argument("--data", type=Path, default=EXAMPLE, help="data set of papers_data.py")
    parser.add_argument(
        "--others",
        type=Path,
        nargs="+",
        default=[],
        help="high-resolution runs of other participants (*_bold.nii.gz), for the tables tv_others"
        " and tv_weight (the first for training and the second for testing)",
    )
    parser.add_argument(
        "--people", type=int, default=_papers_ota.PEOPLE, help="simulated participants of srgan"
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
    if {*TABLES_OF_OTHERS} & {*arguments.papers} and len(arguments.others) < 2:
        parser.error(f"{' and '.join(TABLES_OF_OTHERS)} require --others with two runs")
    with tempfile.TemporaryDirectory() as folder:
        work = arguments.work or Path(folder)
        portion = Portion(work, arguments.max_minutes)
        try:
            for paper in arguments.papers:
                for make in makers(paper):
                    make(arguments.data, portion)
            if "tv_others" in arguments.papers:
                _papers_tv.tested_by_others(arguments.data, portion, arguments.others)
            if "tv_weight" in arguments.papers:
                _papers_tv.searched_weights(arguments.data, work, arguments.others)
            if {"srgan", "all"} & {*arguments.papers}:
                _papers_ota.table(portion, arguments.people)
        except PortionEnded as piece:
            sys.stderr.write(f"{piece}: time limit reached. Repeat the command to continue.\n")


if __name__ == "__main__":
    main()
