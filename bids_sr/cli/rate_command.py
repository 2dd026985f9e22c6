"""``bids-sr rate OUTPUT_DIR``: blinded rating sheets of the maps of finished outputs; ratings joined and counted.

Needs the output directory alone. Sheets lie in ``rating/``, the key, which raters must not see, in ``rating_key.tsv``.
"""

import csv
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bids_sr.cli.console import item
from bids_sr.cli.parser import Parser
from bids_sr.config import UsageError
from bids_sr.io.atomic_files import write_whole
from bids_sr.io.dataset_description import write_ignored
from bids_sr.metrics.long_tables import tsv_text
from bids_sr.series import MEASURED, kind_of

if TYPE_CHECKING:
    from bids_sr.reports.rating_sheet import RatedPair

SHEETS, KEY, JOINED = "rating", "rating_key.tsv", "rating_joined.tsv"
SPLINE, EVALUATED = "bspline", "desc-evaluation_metrics.tsv"


def build_parser() -> Parser:
    """The parser; needs nothing but the standard library."""
    parser = Parser(prog="bids-sr rate", description="Blinded rating of B-spline maps against super-resolved maps.")
    add = parser.add_argument
    add("output_dir", type=Path, help="output directory of bids-sr")
    add("--raters", type=int, default=1, metavar="N", help="sheets, one per rater (default: 1)")
    seed = "seed for sides and order; it reveals the series (default: random)"
    add("--seed", type=int, default=secrets.randbits(63), metavar="S", help=seed)
    add("--force", action="store_true", help="overwrite existing sheets")
    add("--ratings", nargs="+", type=Path, default=[], metavar="TSV", help="join these files with the key and count")
    return parser


def main(argv: Sequence[str]) -> int:
    """Write rating sheets and their key, or join ratings with the key and print counts; return 0.

    Raises `UsageError` where there are no maps to compare, a key is there already, or ratings do not match it.
    """
    options = build_parser().parse_args(list(argv))
    root = options.output_dir.absolute()
    if options.ratings:
        for line in count_ratings(root, options.ratings):
            print(line)
        print(item("ratings", str(root / JOINED)))
        return 0
    if options.raters < 1 or options.seed < 0:
        raise UsageError("--raters, --seed", "raters are counted from 1, seeds from 0", "give other numbers")
    for page in write_sheets(root, raters=options.raters, seed=options.seed, force=options.force):
        print(item("sheet", str(page)))
    print(item("key", f"{root / KEY} (keep it from the raters)"))
    return 0


def write_sheets(root: Path, *, raters: int, seed: int, force: bool = False) -> list[Path]:
    """Write a sheet a rater and the key to all; returns the sheets."""
    from bids_sr.reports.participants_page import write_index
    from bids_sr.reports.rating_sheet import KEY_COLUMNS, make_sheet, pictures

    if (root / KEY).exists() and not force:
        why = "new sheets would invalidate ratings on the earlier ones"
        raise UsageError(str(root / KEY), f"there already is a key; {why}", "move it away, or add --force")
    pairs = list(find_pairs(root))
    if not pairs:
        why = "there is no t map of a method beside that of bspline on the same grid"
        fix = "give the output directory of a run with --sr-method, the baseline bspline and --level standard or full"
        raise UsageError(str(root), why, fix)
    images = [pictures(pair) for pair in pairs]
    made = [make_sheet(pairs, images, rater=rater, seed=seed) for rater in range(1, raters + 1)]
    rows = [[row[name] for name in KEY_COLUMNS] for _, key in made for row in key]
    write_whole(root / KEY, tsv_text(KEY_COLUMNS, rows))
    (root / SHEETS).mkdir(exist_ok=True)
    write_ignored(root)
    sheets = [write_whole(root / SHEETS / f"sheet-{n:02d}.html", page) for n, (page, _) in enumerate(made, start=1)]
    write_index(root)
    return sheets


def find_pairs(root: Path) -> Iterator["RatedPair"]:
    """Pairs of each run and contrast at the least smoothing: bspline and each method that was applied."""
    import numpy as np

    from bids_sr.group.group_inputs import find_runs
    from bids_sr.io.nifti import load_image
    from bids_sr.reports.rating_sheet import RatedPair

    for run in find_runs(root):
        own = {key[:3]: file for key, file in run.native.items() if key[3] == "t"}
        idle_methods = _not_applied(next(iter(own.values())).with_name(f"{run.name}_{EVALUATED}")) if own else set()
        for contrast in dict.fromkeys(key[0] for key in own):
            fwhm = min(key[2] for key in own if key[0] == contrast)
            files = {key[1]: file for key, file in own.items() if (key[0], key[2]) == (contrast, fwhm)}
            if SPLINE not in files:
                continue
            spline, affine = load_image(files[SPLINE], allow_nan=True)
            zero, measured = (
                load_image(files[name], allow_nan=True)[0] if name in files else None for name in ("zerofill", MEASURED)
            )
            if measured is not None and measured.shape != spline.shape:
                measured = None
            for name in (each for each in sorted(files) if kind_of(each) == "method"):
                other, _ = load_image(files[name], allow_nan=True)
                like_zero = zero is not None and np.array_equal(other, zero, equal_nan=True)
                idle = like_zero or name in idle_methods
                if other.shape != spline.shape or idle:
                    continue  # on another grid, or not applied: the series is that of zero filling
                yield RatedPair(
                    run=run.name, contrast=contrast, fwhm_mm=fwhm, maps={SPLINE: spline, name: other}, affine=affine,
                    measured=measured,
                )  # fmt: skip


def _not_applied(table: Path) -> set[str]:
    """Methods that fell back to zero filling, as the table of the evaluation of a run tells, where there is one."""
    if not table.is_file():
        return set()
    with table.open(encoding="utf-8", newline="") as stream:
        rows = csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)
        return {row["series"] for row in rows if (row["measure"], row["value"]) == ("verdict_applied", "0")}


def count_ratings(root: Path, files: Sequence[Path]) -> list[str]:
    """Join ratings with the key, write them beside it, and return the counts in words."""
    from bids_sr.reports.rating_sheet import KEY_COLUMNS, QUESTIONS, counts, joined_ratings

    questions = [name for name, _ in QUESTIONS]
    key = _rows(root / KEY, KEY_COLUMNS, "write sheets first: bids-sr rate OUTPUT_DIR")
    ratings = [row for file in files for row in _rows(file, ("sheet", "item", *questions), "give a downloaded file")]
    try:
        joined = joined_ratings(ratings, key, questions)
    except ValueError as error:
        raise UsageError(str(error), "ratings and key do not belong together", "give the files of this key") from error
    columns = list(joined[0]) if joined else []
    write_whole(root / JOINED, tsv_text(columns, [list(row.values()) for row in joined]))
    found = counts(joined)
    lines = [
        f"{each.series} {each.question} than {each.rival}: {each.preferred} of {each.of} "
        f"[{each.lower:.2f}, {each.upper:.2f}], p = {each.p_value:.3g} (exact binomial); equal {each.equal}, "
        f"no answer {each.unanswered}; {each.raters} rater(s)"
        for each in found
    ]
    if any(each.raters > 1 for each in found):
        lines.append("judgments of several raters on the same maps are not independent: the intervals are too narrow")
    return lines


def _rows(file: Path, columns: Sequence[str], fix: str) -> list[dict[str, str]]:
    if not file.is_file():
        raise UsageError(str(file), "there is no such file", fix)
    with file.open(encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))
    if not rows or any(row.get(name) is None for row in rows for name in columns):
        raise UsageError(str(file), f"it lacks one of the columns {', '.join(columns)}, or is empty", fix)
    return rows
