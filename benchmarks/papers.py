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
import pandas as pd
from _papers_curves import redraw
from _papers_data import EXAMPLE
from _papers_portions import Portion, PortionEnded
from _table import commit, keep

SRGAN_STEPS = 500
SRGAN_PEOPLE = 30
SRGAN_VOLUMES = 88  # three cycles of the task, so that it does not resemble the slow drift


def call(*words: str | Path) -> None:
    """Run a command of bids-sr; a failure ends the benchmark."""
    program, *rest = map(str, words)
    subprocess.run([str(Path(sys.executable).with_name(program)), *rest], check=True)


SRGAN_PAPER = {
    ("with", "size, thumb"): ("140.00 (64.75–184.00)", "83.37 (42.31–119.68)", "< .001"),
    ("with", "size, little"): ("128.50 (43.50–208.25)", "87.00 (28.93–129.00)", "< .001"),
    ("with", "Dice"): (".590 (.408–.735)", ".490 (.361–.589)", ".00466"),
    ("without", "Dice"): (".417 (.320–.575)", ".355 (.238–.457)", "2.76e-6"),
}


def srgan(work: Path, people: int) -> None:
    """Region sizes and Dice of the SRGAN paper, on simulated participants, by `bids-sr` itself.

    A stopped benchmark continues with the participants that have no report yet.
    """
    data, out, version = work / "simulated", work / "out", work / "commit.txt"
    if not data.exists():
        scene = ("--preset", "tiny", "--scene", "overlap", "--volumes", str(SRGAN_VOLUMES))
        call("bids-sr-phantom", data, *scene, "--subjects", str(people))
    if not version.exists():
        version.write_text(commit())
    options = ("--config-file", "ota2022", "--recipe", "fast", "--dummy-scans", "2")
    options += ("--nprocs", "1")
    options += ("--set", "preprocessing.input_smoothing=0", "--smoothing", "0", "paper")
    options += ("--set", f"srgan.iterations={SRGAN_STEPS}")
    options += ("--truth", "none", "--level", "minimal", "--skip-bids-validation")
    for number in range(1, people + 1):
        label = f"{number:02d}"
        if not (out / f"sub-{label}.html").exists():
            one = ("--participant-label", label)
            call("bids-sr", data, out, "participant", *one, *options, "-w", work / "work")
    call("bids-sr", data, out, "group")
    sizes = srgan_sizes(out)
    done = participants_of(sizes)
    common = (
        f"The table is based on {done} simulated participants (`bids-sr-phantom OUT --preset tiny"
        f" --scene overlap --volumes {SRGAN_VOLUMES}`), which were processed with"
        " `--config-file ota2022 --recipe fast --set preprocessing.input_smoothing=0"
        " --smoothing 0 paper` at"
        f" {version.read_text().strip()}. The `srgan` network of each participant was trained for"
        f" {SRGAN_STEPS} steps on the T2\\*w pair of the same participant. Each series was"
        " smoothed after super-resolution, with the same kernel size in mm. The p values are from"
        " exact Wilcoxon signed-rank tests, without correction for multiple comparisons."
    )
    keep(
        "papers_srgan",
        "STSS-SRfMRI: size of activation regions and their overlap",
        srgan_rows(sizes),
        remarks=[
            common + " Values are medians (IQR) across participants. The p values are from"
            " comparisons with the acquired series. Region sizes are in acquired voxels, which"
            " have a volume of 180 mm³ here and 56.25 mm³ in the paper: 140 voxels of the paper"
            " correspond to 43.75 voxels here. The values of the paper with smoothing are given"
            " with both kernel sizes, as the unit of the kernel size is not stated.",
        ],
    )
    keep(
        "papers_srgan_parts",
        "STSS-SRfMRI: contributions of grid, method and smoothing to region size and overlap",
        srgan_parts(sizes),
        remarks=[
            common + " Values are medians (IQR) of the paired differences, followed by p. Region"
            " sizes are in acquired voxels. `acquiredSpline` is the map of the acquired series,"
            " interpolated to high-resolution voxels. The last two columns are differences to the"
            " same series without smoothing.",
        ],
    )


def srgan_sizes(out: Path) -> pd.DataFrame:
    """Return region sizes and Dice of all participants of an output directory."""
    from bids_sr.group.input_tables import find_tables
    from bids_sr.group.paper_table import paper_sizes
    from bids_sr.group.values import join_tables

    (sizes, *_) = paper_sizes(join_tables(find_tables(out), io.StringIO()).values)
    return sizes


def srgan_values(sizes: pd.DataFrame) -> dict[tuple[float, str], pd.DataFrame]:
    """Return participants by series, by smoothing (mm) and measure."""
    from bids_sr.group.values import participants_by_series

    return {
        (float(width), str(measure)): participants_by_series(table)
        for (width, measure), table in sizes.groupby(["fwhm_mm", "contrast"], observed=True)
    }


def participants_of(sizes: pd.DataFrame) -> int:
    """Return the number of participants with values."""
    return max(len(values) for values in srgan_values(sizes).values())


def wilcoxon(values: pd.Series, reference: pd.Series) -> str:
    """Return p of the signed-rank test of paired values, or a dash for fewer than two pairs."""
    from bids_sr.statistics.comparisons import compare_pairs

    pairs = pd.concat([values, reference], axis=1).dropna()
    (comparison,) = compare_pairs(
        {"values": pairs.iloc[:, 0].to_numpy(), "reference": pairs.iloc[:, 1].to_numpy()},
        [("values", "reference")],
    )
    return f"{comparison.p_wilcoxon:.3g}" if comparison.n > 1 else "–"


def median_text(values: pd.Series, form: str) -> str:
    """Return median and quartiles."""
    from bids_sr.metrics.number_text import number
    from bids_sr.statistics.summaries import quartiles

    first, median, third = (number(value, form) for value in quartiles(values))
    between = " to " if "−" in first + third else "–"
    return f"{median} ({first}{between}{third})"


def srgan_rows(sizes: pd.DataFrame) -> list[dict[str, Any]]:
    """Return sizes and Dice of all series, with p against the acquired series, and the paper's."""
    rows = []
    for (width, measure), values in srgan_values(sizes).items():
        form = ".3f" if measure == "Dice" else ".1f"
        medians = {
            title: median_text(values[name], form)
            for title, name in (
                ("acquired", "acquired"),
                ("bspline", "bspline"),
                ("zerofill", "zerofill"),
                ("srgan", "srgan"),
            )
        }
        tests = {
            f"p, {name}": wilcoxon(values[name], values["acquired"])
            for name in ("bspline", "zerofill", "srgan")
        }
        published = SRGAN_PAPER.get(("with" if width else "without", measure), ("–", "–", "–"))
        rows.append(
            {
                "smoothing (mm)": f"{width:g}",
                "measure": measure,
                **medians,
                **tests,
                "paper: acquired": published[0],
                "paper: srgan": published[1],
                "paper: p": published[2],
            }
        )
    return rows


def srgan_parts(sizes: pd.DataFrame) -> list[dict[str, Any]]:
    """Return paired differences that separate the finer grid, the method and smoothing."""
    tables = srgan_values(sizes)
    rows = []
    for (width, measure), values in tables.items():
        form = ".3f" if measure == "Dice" else ".1f"

        def part(values: pd.Series, reference: pd.Series, form: str = form) -> str:
            p = wilcoxon(values, reference)
            return f"{median_text((values - reference).dropna(), form)}, p = {p}"

        unsmoothed = tables[0.0, measure]
        rows.append(
            {
                "smoothing (mm)": f"{width:g}",
                "measure": measure,
                "srgan − acquired": part(values["srgan"], values["acquired"]),
                "voxels: acquiredSpline − acquired": part(
                    values["acquiredSpline"], values["acquired"]
                ),
                "grid: bspline − acquired": part(values["bspline"], values["acquired"]),
                "method: srgan − bspline": part(values["srgan"], values["bspline"]),
                "smoothing: acquired": part(values["acquired"], unsmoothed["acquired"])
                if width
                else "–",
                "smoothing: srgan": part(values["srgan"], unsmoothed["srgan"]) if width else "–",
            }
        )
    return rows


PAPERS: dict[str, dict[str, Callable[[Path, Portion], None]]] = {
    "tv": _papers_tv.PARTS,
    "cpce": _papers_slices.PARTS,
    "mouse": _papers_mouse.PARTS,
    "attunet": _papers_attunet.PARTS | _papers_alignment.PARTS,
}


TABLES_OF_OTHERS = ("tv_others", "tv_weight")
"""Tables for which runs of other participants must be given."""


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
        choices=(*PAPERS, "srgan", "all", *tables, *TABLES_OF_OTHERS, "figures"),
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
        except PortionEnded as training:
            sys.stderr.write(f"{training}: time limit reached. Repeat the command to continue.\n")
            return
        if {"srgan", "all"} & {*arguments.papers}:
            srgan(work, arguments.people)


if __name__ == "__main__":
    main()
