"""Console script `bids-sr-evaluate`: test another program's series against the acquired run.

It tells whether the series is more accurate than the run as acquired.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bids_sr.config.values import split_named

if TYPE_CHECKING:
    from bids_sr.api.evaluator import Evaluator

_WRONG = 2


def named(text: str) -> tuple[str, Path]:
    """Read ``NAME=FILE``.

    >>> named("NORDIC=denoised.nii.gz")
    ('NORDIC', PosixPath('denoised.nii.gz'))
    """
    name, path = split_named(text)
    if not name or not path.strip():
        raise argparse.ArgumentTypeError(f"{text!r} names no file; write it as NORDIC=FILE")
    return name, Path(path)


def truth(text: str) -> tuple[str, Path]:
    """Read ``FILE``, or ``CONTRAST=FILE``; a file of that name comes first.

    >>> truth("thumb=effect.nii.gz")
    ('thumb', PosixPath('effect.nii.gz'))
    """
    name, path = ("", text) if Path(text).exists() else split_named(text)
    return name, Path(path)


def build_parser() -> argparse.ArgumentParser:
    """The parser; needs nothing but the standard library."""
    parser = argparse.ArgumentParser(
        prog="bids-sr-evaluate",
        description=(
            "Judge series that other programs made of a run (NORDIC, tedana, an upsampling): is"
            " each more accurate than the series as acquired, in which band of spatial"
            " frequencies, and by how much?"
        ),
        epilog=(
            "References: --truth, --other-run; without one the verdict is 'not assessed'. Exit"
            " codes: 0 done, 2 wrong usage or input."
        ),
    )
    add = parser.add_argument
    add("acquired", type=Path, metavar="ACQUIRED", help="series as acquired, 4D NIfTI")
    add(
        "compared",
        type=named,
        nargs="+",
        metavar="NAME=FILE",
        help="series made of it, acquired grid or finer",
    )
    add(
        "--events",
        type=Path,
        required=True,
        metavar="TSV",
        help="BIDS events: onset, duration (s), trial_type",
    )
    known = (
        "series measured at the high resolution in the same run, or known activation as"
        " CONTRAST=FILE"
    )
    add("--truth", type=truth, nargs="+", default=[], metavar="FILE", help=known)
    add("--other-run", type=Path, metavar="FILE", help="another acquired run of the same task")
    add("--other-events", type=Path, metavar="TSV", help="its events")
    add(
        "--factor",
        type=float,
        default=2.0,
        metavar="N",
        help="acquired over high-resolution voxel in plane (2)",
    )
    add("--tr", type=float, metavar="S", help="repetition time (default: of the header)")
    add("--mask", type=Path, metavar="FILE", help="brain on the acquired grid (default: found)")
    add("--contrasts", nargs="+", metavar="EXPR", help="as of bids-sr (its defaults without)")
    add(
        "--n-dummy",
        type=int,
        metavar="N",
        help="volumes at the start that are left out (default: detected)",
    )
    add(
        "--slice-timing-corrected",
        action="store_true",
        help="slice timing was corrected in all series",
    )
    add("--random-seed", type=int, default=0, metavar="N", help="seed of the resampled blocks (0)")
    add("--dry-run", action="store_true", help="check all inputs, and stop")
    add(
        "--out",
        type=Path,
        metavar="DIR",
        help="write verdict.json, evaluation.tsv and report.html there",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Judge the series, print a line on each, write what was asked for; returns the exit code."""
    parser = build_parser()
    options = parser.parse_args(argv)
    names = [name for name, _ in options.compared]
    if len(set(names)) < len(names):
        parser.error(f"a name is given twice: {' '.join(names)}")
    if (options.other_run is None) != (options.other_events is None):
        parser.error("--other-run and --other-events go together")
    by_contrast = {name: str(path) for name, path in options.truth}
    if "" in by_contrast and len(options.truth) > 1:
        parser.error("--truth: give one measured series, or known activation as CONTRAST=FILE")
    from bids_sr.api.image_inputs import ImageInputError
    from bids_sr.io.nifti import ImageError
    from bids_sr.stats.glm.blocks import TooFewBlocks
    from bids_sr.stats.glm.contrasts import ContrastError
    from bids_sr.stats.glm.regressors import DesignError

    try:
        found = evaluated(options, by_contrast)
    except (
        ImageInputError,
        TooFewBlocks,
        ContrastError,
        DesignError,
        ImageError,
        OSError,
    ) as error:
        for line in str(error).splitlines():
            print(f"bids-sr-evaluate: {line}", file=sys.stderr)
        return _WRONG
    if found is None:
        print("all inputs can be used")
        return 0
    for each in found.compared_:
        print(each.text)
    if options.out is not None:
        written(found, options.out)
        print(f"written: {options.out}")
    return 0


def evaluated(options: argparse.Namespace, by_contrast: dict[str, str]) -> "Evaluator | None":
    """The fitted evaluator of what was asked for; None where inputs were to be checked alone."""
    from bids_sr.api.evaluated_series import check_inputs
    from bids_sr.api.evaluation_inputs import Inputs, checked_names
    from bids_sr.api.evaluator import Evaluator
    from bids_sr.api.image_inputs import opened, working_folder
    from bids_sr.stats.evaluation.verdict_text import COMMAND

    evaluator = Evaluator(
        factor=options.factor,
        tr=options.tr,
        contrasts=options.contrasts,
        random_state=options.random_seed,
        n_dummy="auto" if options.n_dummy is None else options.n_dummy,
        slice_timing_corrected=options.slice_timing_corrected,
        verbose=1,
    )
    evaluator._advice, evaluator._name = COMMAND, "bids-sr-evaluate"
    given = {
        "events": options.events,
        "mask": options.mask,
        "truth": by_contrast.get("", by_contrast or None),
        "other_run": options.other_run,
        "other_events": options.other_events,
    }
    compared = dict(options.compared)
    if not options.dry_run:
        return evaluator.fit(options.acquired, compared=compared, **given)
    checked_names({}, (), compared)
    with (
        working_folder() as folder,
        opened(options.acquired, folder, "acquired", any_order=True) as reader,
    ):
        check_inputs(reader, compared, Inputs(**given), evaluator._model(reader), folder)
    return None


def written(found: "Evaluator", out: Path) -> None:
    """Write verdict, table and page."""
    from bids_sr.io.atomic_files import write_json, write_whole

    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "verdict.json", {"compared": [each.to_json() for each in found.compared_]})
    write_whole(out / "evaluation.tsv", found.table_.to_csv(sep="\t", index=False, na_rep="n/a"))
    found.generate_report().save_as_html(out / "report.html")
