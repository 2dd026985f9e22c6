"""``bids-sr-models rate-make`` and ``rate-score``: a kit for blinded visual rating.

The kit has one picture per participant, contrast and series under a random code, a sheet to fill
in, and a sealed key. The key is encoded so that it cannot be read by accident; this is no
protection against intent.
"""

from __future__ import annotations

import base64
import json
import shutil
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bids_sr.bids.inputs import entities_of
from bids_sr.cli.models_options import RateMakeOptions, RateScoreOptions
from bids_sr.config import UsageError
from bids_sr.group.blind_ratings import (
    HIGHEST,
    LOWEST,
    RatingError,
    check_sheet,
    compare_ratings,
    draw_codes,
    intraclass_correlation,
    mean_ratings,
)
from bids_sr.io.atomic_files import write_json, write_whole
from bids_sr.io.grids import Array, Volume
from bids_sr.io.nifti import load_image
from bids_sr.io.tables import TABLE_ERRORS, read_rows

SHEET, KEY, IMAGES = "ratings.tsv", "key.sealed", "images"
"""Files and folder of a kit."""
_HEIGHTS = (0.4, 0.55, 0.7)  # of the brain, from below: axial planes that are shown
_PIXELS = 256  # least height of a picture
_INSTRUCTIONS = """\
Blinded rating of structural scans

1. Copy {sheet} to a new file, such as ratings_rater-A.tsv.
2. Open each picture in {images}/ and write a whole or half number from {low:g} (unusable) to
   {high:g} (excellent) in the column "rating". Leave the cell empty if you cannot rate a picture.
3. Do not open {key}: it lists the method of each picture.
4. Return the sheet. It is scored by
   bids-sr-models rate-score {kit} SHEET [SHEET ...]
"""


def make_kit(options: RateMakeOptions) -> None:
    """Write pictures, sheet, instructions and sealed key of a kit.

    Raises `UsageError` if the kit exists, or if there are no scans to rate.
    """
    target = options.out
    if target.exists() and any(target.iterdir() if target.is_dir() else [target]):
        fix = "choose a new directory"
        raise UsageError(f"{target} is not empty", "a kit is never overwritten", fix)
    scans = _scans_of(options.derivatives, options.series)
    # the random order is the order of the codes, which have nothing to do with the scans
    codes = draw_codes(len(scans), options.seed)
    pictures: dict[tuple[str, ...], tuple[Array, list[int], float]] = {}
    entries: dict[str, dict[str, str]] = {}
    kit = target.with_name(f".{target.name}.partial")
    shutil.rmtree(kit, ignore_errors=True)
    (kit / IMAGES).mkdir(parents=True)
    for code, scan in zip(codes, scans, strict=True):
        entries[code] = {key: scan[key] for key in ("participant", "contrast", "series")}
        place = (scan["participant"], scan["contrast"])
        image = _canonical(Path(scan["path"]))
        if place not in pictures:
            pictures[place] = (image, _planes(image), float(np.percentile(image[image > 0], 99.5)))
        _, planes, top = pictures[place]
        _write_picture(kit / IMAGES / f"{code}.png", image, planes, top)
    rows = "".join(f"{code}\t{IMAGES}/{code}.png\t\t\n" for code in sorted(codes))
    write_whole(kit / SHEET, "code\timage\trating\tcomment\n" + rows)
    text = _INSTRUCTIONS.format(
        sheet=SHEET, images=IMAGES, key=KEY, low=LOWEST, high=HIGHEST, kit=target.name
    )
    write_whole(kit / "README.txt", text)
    packed = zlib.compress(json.dumps(entries, sort_keys=True).encode())
    write_whole(kit / KEY, base64.b64encode(packed).decode("ascii") + "\n")
    if target.exists():
        target.rmdir()
    kit.rename(target)
    people = len({scan["participant"] for scan in scans})
    print(f"{len(scans)} pictures of {people} participants: {target}")


def _scans_of(derivatives: Path, series: tuple[str, ...]) -> list[dict[str, str]]:
    """Return participant, contrast, series and path of all stored scans."""
    scans = []
    for pattern in ("sub-*/anat", "sub-*/ses-*/anat"):
        for suffix in ("T1w", "T2w", "FLAIR"):
            for path in sorted(derivatives.glob(f"{pattern}/*_res-hr_desc-*_{suffix}.nii.gz")):
                entities = entities_of(path)
                name = entities.get("desc", "")
                if series and name not in series:
                    continue
                session = entities.get("session")
                participant = f"sub-{entities['subject']}" + (f"_ses-{session}" if session else "")
                scans.append(
                    {
                        "participant": participant,
                        "contrast": suffix,
                        "series": name,
                        "path": str(path),
                    }
                )
    if missing := [each for each in series if each not in {scan["series"] for scan in scans}]:
        raise UsageError(
            f"--series {' '.join(missing)}: {derivatives} has no such scans",
            "the kit contains stored scans only",
            "use names of series in files *_res-hr_desc-SERIES_T1w.nii.gz",
        )
    if not scans:
        raise UsageError(
            f"{derivatives} has no super-resolved structural scans",
            "the kit is created from the files sub-*/anat/*_res-hr_desc-*_T1w.nii.gz",
            "run bids-sr DATA OUT participant --sr-target anat first",
        )
    return scans


def _canonical(path: Path) -> Array:
    from bids_sr.figures.slices import canonical

    return np.asarray(canonical(Volume(*load_image(path)[:2])).data, dtype=np.float32)


def _planes(image: Array) -> list[int]:
    filled = np.flatnonzero((image > 0).any(axis=(0, 1)))
    if not filled.size:
        raise UsageError("a scan is empty", "no voxel is above 0", "check the derivatives")
    low, high = int(filled[0]), int(filled[-1])
    return [round(low + share * (high - low)) for share in _HEIGHTS]


def _write_picture(path: Path, image: Array, planes: list[int], top: float) -> None:
    """Write axial planes side by side as a PNG, in the gray scale from 0 to `top`.

    Pixels are repeated, not interpolated, so that no detail is added or removed.
    """
    from PIL import Image

    strip = np.concatenate([image[:, ::-1, z].T for z in planes], axis=1)
    gray = np.clip(255 * strip / (top or 1.0), 0, 255).astype(np.uint8)
    times = max(1, -(-_PIXELS // gray.shape[0]))
    beside = path.with_name(f".{path.name}")
    Image.fromarray(gray.repeat(times, axis=0).repeat(times, axis=1)).save(beside, format="PNG")
    beside.replace(path)


def read_key(kit: Path) -> dict[str, dict[str, str]]:
    """Return participant, contrast and series by code from the sealed key of a kit."""
    try:
        packed = base64.b64decode((kit / KEY).read_text(encoding="ascii"), validate=False)
        entries: Any = json.loads(zlib.decompress(packed))
        return {str(code): dict(entry) for code, entry in entries.items()}
    except (OSError, ValueError, zlib.error, AttributeError) as error:
        raise UsageError(
            f"{kit / KEY} cannot be read",
            str(error),
            "specify the directory written by bids-sr-models rate-make",
        ) from error


def score_sheets(options: RateScoreOptions) -> None:
    """Print mean ratings, comparisons and agreement of filled sheets, and write them with ``-o``.

    Raises `UsageError` for a sheet that cannot be read, has unknown codes or wrong ratings, or has
    no rating at all.
    """
    key = read_key(options.kit)
    by_rater: dict[str, dict[str, float]] = {}
    for sheet in options.sheets:
        fix = "correct the sheet; it must have the columns code and rating of this kit"
        try:
            columns, rows = read_rows(sheet)
            if missing := {"code", "rating"} - set(columns):
                raise RatingError(f"missing column {' and '.join(sorted(missing))}")
            ratings = check_sheet(rows, list(key))
        except (*TABLE_ERRORS, RatingError) as error:
            raise UsageError(str(sheet), str(error), fix) from error
        if all(np.isnan(value) for value in ratings.values()):
            raise UsageError(
                str(sheet), "the sheet contains no rating", "fill in the column rating"
            )
        if sheet.stem in by_rater:
            raise UsageError(str(sheet), "two sheets have the same name", "rename one of them")
        by_rater[sheet.stem] = ratings
    table = pd.DataFrame(
        [
            {**key[code], "code": code, "rater": rater, "rating": value}
            for rater, ratings in by_rater.items()
            for code, value in ratings.items()
        ]
    )
    means, tests = mean_ratings(table), compare_ratings(table)
    wide = table.pivot(index="code", columns="rater", values="rating")
    icc = intraclass_correlation(wide)
    print(f"Mean rating ({LOWEST:g} to {HIGHEST:g}) over participants, raters averaged")
    print(means.to_string(index=False, float_format=lambda value: f"{value:.2f}", na_rep="n/a"))
    print("\nPaired comparisons (Wilcoxon signed-rank test; Holm over the pairs of a contrast)")
    print(tests.to_string(index=False, float_format=lambda value: f"{value:.3f}", na_rep="n/a"))
    unrated = int(table["rating"].isna().sum())
    agreement = f"{icc:.2f}" if np.isfinite(icc) else "n/a"
    print(f"\nRaters: {len(by_rater)}; agreement ICC(2,1): {agreement}; not rated: {unrated}")
    if options.out is not None:
        _write_scores(options.out, means, tests, {"raters": len(by_rater), "icc_2_1": icc})


def _write_scores(
    out: Path, means: pd.DataFrame, tests: pd.DataFrame, agreement: dict[str, float]
) -> None:
    """Write means to a TSV and comparisons and agreement to the JSON of the same name."""
    text = means.to_csv(sep="\t", index=False, na_rep="n/a", float_format="%.6g")
    write_whole(out, text)
    content = {
        **{name: value if np.isfinite(value) else None for name, value in agreement.items()},
        "comparisons": json.loads(tests.to_json(orient="records")),
    }
    write_json(out.with_suffix(".json"), content)
