"""Tables of the five papers, made with the same methods on data that anyone has.

python benchmarks/papers.py {tv,cpce,mouse,attunet,claims,srgan,TABLE} … --work DIR

The trainings are short (minutes of one core, not the papers' days), on one measured head
(`examples/studyforrest`) or on simulated ones, so that values show what the methods do on these
data and cannot be compared with a paper's values in size. `--work` keeps finished trainings,
checkpoints and participants: an interrupted call continues with the same command. Seeds are fixed;
a rerun on the same kind of CPU gives the same tables.
"""

import argparse
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

PAPERS: dict[str, dict[str, Callable[[Path], None]]] = {
    "tv": _papers_tv.PARTS,
    "cpce": _papers_slices.PARTS,
    "mouse": _papers_mouse.PARTS,
    "attunet": _papers_attunet.PARTS | _papers_alignment.PARTS | _papers_lesions.PARTS,
    "claims": _papers_claims.PARTS,
    "srgan": {"srgan": _papers_ota.table},
}


def makers(name: str) -> list[Callable[[Path], None]]:
    """Return the functions that make the tables of a paper, or a single table."""
    if name in PAPERS:
        return list(PAPERS[name].values())
    return [parts[name] for parts in PAPERS.values() if name in parts]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    tables = [name for parts in PAPERS.values() for name in parts if name not in PAPERS]
    parser.add_argument("papers", nargs="+", choices=(*PAPERS, *tables))
    parser.add_argument("--work", type=Path, required=True, help="folder of trainings and runs")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    for paper in arguments.papers:
        for make in makers(paper):
            make(arguments.work)


if __name__ == "__main__":
    main()
