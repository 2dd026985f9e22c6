"""``bids-sr-models rate-make`` and ``rate-score``: a kit for blinded visual rating.

A kit contains one picture per participant, contrast and series under a random code, a rating
sheet, and a sealed key. Series are the stored results, and the acquired low-resolution scans. The
key is encoded to prevent accidental unblinding; it is not protected against intentional decoding.
"""

from __future__ import annotations

import base64
import json
import shutil
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pandas as pd
from nibabel.affines import apply_affine, voxel_sizes

from bids_sr.bids.entities import parse_entities
from bids_sr.config import UsageError
from bids_sr.frozen import frozen
from bids_sr.io.arrays import Array
from bids_sr.io.atomic_files import read_json, write_json, write_text
from bids_sr.io.nifti import load_image
from bids_sr.io.tables import TABLE_ERRORS, read_rows
from bids_sr.io.volume import Volume
from bids_sr.model_commands.blind_ratings import (
    HIGHEST,
    LOWEST,
    NATIVE,
    RatingError,
    check_sheet,
    compare_ratings,
    draw_codes,
    intraclass_correlation,
    mean_ratings,
)
from bids_sr.model_commands.cli.options import RateMakeOptions, RateScoreOptions

SHEET, KEY, IMAGES = "ratings.tsv", "key.sealed", "images"
"""Files and folder of a kit."""
_PLANES = ((2, 0.4), (2, 0.55), (2, 0.7), (1, 0.5), (0, 0.4))
"""Planes of a picture: normal axis (RAS order), and position relative to the extent of the brain.

Three planes are axial, one is coronal, and one is sagittal, next to the midline.
"""
_BACKGROUND = 0.1  # share of the gray scale; darker voxels of an acquired scan are background
_PIXELS = 256  # minimum height of a picture
_INSTRUCTIONS = """\
Blinded rating of structural scans

1. Copy {sheet} to a new file, such as ratings_rater-A.tsv.
2. Open each picture in {images}/ and enter a whole or half number from {low:g} (unusable) to
   {high:g} (excellent) in the column "rating". Leave the cell empty if you cannot rate a picture.
3. Do not open {key}, which lists the method that was used for each picture.
4. Return the completed sheet. The sheets of all raters are scored with
   bids-sr-models rate-score {kit} SHEET [SHEET ...]
"""


def make_kit(options: RateMakeOptions) -> None:
    """Write pictures, sheet, instructions and sealed key of a kit.

    Raises
    ------
    UsageError
        If the kit exists, or if there are no scans to rate.
    """
    target = options.out
    if target.exists() and any(target.iterdir() if target.is_dir() else [target]):
        fix = "choose a new directory"
        raise UsageError(
            f"{target} is not empty", "an existing rating kit is never overwritten", fix
        )
    scans = _list_scans(options.derivatives, options.series)
    # pictures are listed in the order of codes, which are independent of the scans
    codes = draw_codes(len(scans), options.seed)
    views: dict[tuple[str, str], _View] = {}
    entries: dict[str, dict[str, str]] = {}
    kit = target.with_name(f".{target.name}.partial")
    shutil.rmtree(kit, ignore_errors=True)
    (kit / IMAGES).mkdir(parents=True)
    for code, scan in zip(codes, scans, strict=True):
        entries[code] = {key: scan[key] for key in ("participant", "contrast", "series")}
        question = (scan["participant"], scan["contrast"])
        image = _canonical(Path(scan["path"]))
        is_native = scan["series"] == NATIVE
        if question not in views:
            first_scan = next(
                candidate
                for candidate in scans
                if (candidate["participant"], candidate["contrast"]) == question
            )
            views[question] = _choose_view(_canonical(Path(first_scan["path"])), first_scan)
        _write_picture(kit / IMAGES / f"{code}.png", image, views[question], is_native=is_native)
    rows = "".join(f"{code}\t{IMAGES}/{code}.png\t\t\n" for code in sorted(codes))
    write_text(kit / SHEET, "code\timage\trating\tcomment\n" + rows)
    text = _INSTRUCTIONS.format(
        sheet=SHEET, images=IMAGES, key=KEY, low=LOWEST, high=HIGHEST, kit=target.name
    )
    write_text(kit / "README.txt", text)
    compressed = zlib.compress(json.dumps(entries, sort_keys=True).encode())
    write_text(kit / KEY, base64.b64encode(compressed).decode("ascii") + "\n")
    if target.exists():
        target.rmdir()
    kit.rename(target)
    n_participants = len({scan["participant"] for scan in scans})
    print(f"{target}: created {len(scans)} pictures from {n_participants} participants")
    if not any(scan["series"] == NATIVE for scan in scans) and not options.series:
        print(
            "Note: the acquired low-resolution scans (series native) are not included because"
            " the BIDS dataset was not found"
        )


def _list_scans(derivatives: Path, series: tuple[str, ...]) -> list[dict[str, str]]:
    """Return participant, contrast, series and path of all scans to rate."""
    scans = []
    for pattern in ("sub-*/anat", "sub-*/ses-*/anat"):
        for suffix in ("T1w", "T2w", "FLAIR"):
            for path in sorted(derivatives.glob(f"{pattern}/*_res-hr_desc-*_{suffix}.nii.gz")):
                entities = parse_entities(path)
                name = entities.get("desc", "")
                session = entities.get("session")
                participant = f"sub-{entities['subject']}" + (f"_ses-{session}" if session else "")
                scan = {"participant": participant, "contrast": suffix, "space": ""}
                scan |= {"space": entities["space"]} if "space" in entities else {}
                scans.append({**scan, "series": name, "path": str(path)})
                if name == "bspline" and (native := _find_native(path, suffix, derivatives)):
                    scans.append({**scan, "series": NATIVE, "path": str(native)})
    scans = [scan for scan in scans if not series or scan["series"] in series]
    # the planes of a head are chosen from its first scan
    scans.sort(key=lambda scan: scan["series"] == NATIVE)
    if missing := [name for name in series if name not in {scan["series"] for scan in scans}]:
        raise UsageError(
            f"--series {' '.join(missing)}: no such scans found in {derivatives}",
            "a rating kit contains scans that bids-sr has stored, and the acquired"
            " low-resolution scans of the BIDS dataset (native)",
            "use the series names in the files *_res-hr_desc-SERIES_T1w.nii.gz. To include"
            " native, keep the BIDS dataset at its original location.",
        )
    if not scans:
        raise UsageError(
            f"{derivatives} contains no super-resolved structural scans",
            "a rating kit is created from the files sub-*/anat/*_res-hr_desc-*_T1w.nii.gz",
            "run bids-sr DATA OUT participant --sr-target anat first",
        )
    return scans


def _find_native(path: Path, suffix: str, derivatives: Path) -> Path | None:
    """Return the acquired low-resolution scan of an interpolated scan, or None.

    The scan of this contrast with the largest voxels is chosen among the sources in the sidecar.
    Returns None if its file does not exist.
    """
    links = read_json(derivatives / "dataset_description.json").get("DatasetLinks")
    sources = read_json(path.with_name(path.name.removesuffix(".nii.gz") + ".json")).get("Sources")
    if not isinstance(links, dict) or not isinstance(sources, list):
        return None
    native_files = []
    for source in map(str, sources):
        _, dataset, file = [*source.split(":", 2), "", ""][:3]
        if not source.startswith("bids:") or f"_{suffix}.nii" not in file or dataset not in links:
            continue
        root = urlsplit(str(links[dataset]))
        native = derivatives / unquote(root.path) / file
        if root.scheme in ("", "file") and native.is_file():
            native_files.append(native)
    return max(native_files, key=lambda file: float(np.prod(_canonical(file).zooms)), default=None)


def _canonical(path: Path) -> Volume:
    """Return an image in RAS order as float32."""
    from bids_sr.figures.slices import reorient_to_ras

    image = reorient_to_ras(Volume(*load_image(path)[:2]))
    return Volume(np.asarray(image.data, dtype=np.float32), image.affine)


@frozen
class _View:
    """Planes and gray scale of the pictures of a participant and contrast.

    Attributes
    ----------
    planes : tuple of int
        Index of each plane of `_PLANES`.
    points : Array or None
        Point in each plane (RAS mm). If None, planes of acquired scans are chosen from their own
        extent.
    pixel_mm : float
        Size of a pixel.
    top : float
        Intensity that is shown as white.
    """

    planes: tuple[int, ...]
    points: Array | None
    pixel_mm: float
    top: float


def _choose_view(image: Volume, scan: dict[str, str]) -> _View:
    """Return the view of a head, determined from one of its scans.

    `scan` is the entry of the image. In template space, its planes cannot be located in acquired
    scans.
    """
    is_native = scan["series"] == NATIVE
    planes = _planes(image, is_native=is_native)
    center = [(size - 1) / 2 for size in image.data.shape]
    voxels = np.tile(center, (len(_PLANES), 1))
    for row, ((axis, _), plane) in enumerate(zip(_PLANES, planes, strict=True)):
        voxels[row, axis] = plane
    return _View(
        planes=tuple(planes),
        points=None if scan["space"] else apply_affine(image.affine, voxels),
        pixel_mm=float(voxel_sizes(image.affine).min()),
        top=_top(image.data),
    )


def _top(image: Array) -> float:
    """Return the 99.5th percentile of positive intensities, 1 if there are none."""
    inside = image[image > 0]
    return float(np.percentile(inside, 99.5)) if inside.size else 1.0


def _planes(image: Volume, *, is_native: bool) -> list[int]:
    """Return the index of each plane of `_PLANES` in an image in RAS order."""
    head = image.data > (_BACKGROUND * _top(image.data) if is_native else 0)
    planes = []
    for axis, share in _PLANES:
        other_axes = tuple(other_axis for other_axis in range(3) if other_axis != axis)
        occupied = np.flatnonzero(head.any(axis=other_axes))
        if not occupied.size:
            raise UsageError(
                "one of the scans is empty",
                "the scan has no voxels with positive intensity",
                "check the derivatives",
            )
        first, last = int(occupied[0]), int(occupied[-1])
        planes.append(round(first + share * (last - first)))
    return planes


def _write_picture(path: Path, image: Volume, view: _View, *, is_native: bool) -> None:
    """Write the planes side by side as a PNG.

    Voxels are repeated, not interpolated, so that no detail is added or removed, and pixels are
    square. An acquired scan has its own gray scale, and its planes pass through the same points.
    """
    from PIL import Image

    planes: Sequence[int] = view.planes
    if is_native:
        planes = _planes(image, is_native=True)
        if view.points is not None:
            voxels = np.round(apply_affine(np.linalg.inv(image.affine), view.points)).astype(int)
            voxels = np.clip(voxels, 0, np.array(image.data.shape) - 1)
            planes = [int(voxel[axis]) for voxel, (axis, _) in zip(voxels, _PLANES, strict=True)]
    zooms = voxel_sizes(image.affine)
    panels = []
    for (axis, _), plane in zip(_PLANES, planes, strict=True):
        horizontal_axis, vertical_axis = (
            other_axis for other_axis in range(3) if other_axis != axis
        )
        panel = np.take(image.data, plane, axis=axis)
        panel = panel[_repeat_voxels(panel.shape[0], zooms[horizontal_axis] / view.pixel_mm)]
        panel = panel[:, _repeat_voxels(panel.shape[1], zooms[vertical_axis] / view.pixel_mm)]
        panels.append(panel[:, ::-1].T)
    height = max(panel.shape[0] for panel in panels)
    padded = [np.pad(panel, ((0, height - panel.shape[0]), (0, 0))) for panel in panels]
    top = _top(image.data) if is_native else view.top
    gray = np.clip(255 * np.concatenate(padded, axis=1) / (top or 1.0), 0, 255).astype(np.uint8)
    zoom = max(1, -(-_PIXELS // gray.shape[0]))
    partial = path.with_name(f".{path.name}")
    Image.fromarray(gray.repeat(zoom, axis=0).repeat(zoom, axis=1)).save(partial, format="PNG")
    partial.replace(path)


def _repeat_voxels(count: int, ratio: float) -> Array:
    """Return the voxel index of each pixel along an axis; `ratio` is voxel size / pixel size."""
    pixels = max(1, round(count * ratio))
    return np.minimum(((np.arange(pixels) + 0.5) / ratio).astype(int), count - 1)


def read_key(kit: Path) -> dict[str, dict[str, str]]:
    """Return participant, contrast and series by code from the sealed key of a kit."""
    try:
        compressed = base64.b64decode((kit / KEY).read_text(encoding="ascii"), validate=False)
        entries: Any = json.loads(zlib.decompress(compressed))
        return {str(code): dict(entry) for code, entry in entries.items()}
    except (OSError, ValueError, zlib.error, AttributeError) as error:
        raise UsageError(
            f"{kit / KEY} could not be read",
            str(error),
            "specify the directory that was written by bids-sr-models rate-make",
        ) from error


def score_sheets(options: RateScoreOptions) -> None:
    """Print (and with ``-o`` write) mean ratings, comparisons and agreement of rating sheets.

    Raises
    ------
    UsageError
        If a sheet cannot be read, has unknown codes or invalid ratings, or has no ratings.
    """
    key = read_key(options.kit)
    by_rater: dict[str, dict[str, float]] = {}
    for sheet in options.sheets:
        fix = (
            "correct the rating sheet; it must have the columns code and rating, with the"
            " codes of this kit"
        )
        try:
            columns, rows = read_rows(sheet)
            if missing := {"code", "rating"} - set(columns):
                raise RatingError(f"the column {' and '.join(sorted(missing))} is missing")
            ratings = check_sheet(rows, list(key))
        except (*TABLE_ERRORS, RatingError) as error:
            raise UsageError(str(sheet), str(error), fix) from error
        if all(np.isnan(value) for value in ratings.values()):
            raise UsageError(
                str(sheet),
                "the rating sheet does not contain any ratings",
                "fill in the rating column",
            )
        if sheet.stem in by_rater:
            raise UsageError(
                str(sheet), "two rating sheets have the same file name", "rename one of the sheets"
            )
        by_rater[sheet.stem] = ratings
    table = pd.DataFrame(
        [
            {**key[code], "code": code, "rater": rater, "rating": value}
            for rater, ratings in by_rater.items()
            for code, value in ratings.items()
        ]
    )
    means, tests = mean_ratings(table), compare_ratings(table)
    ratings_by_rater = table.pivot(index="code", columns="rater", values="rating")
    icc = intraclass_correlation(ratings_by_rater)
    print(f"Mean rating across participants ({LOWEST:g} to {HIGHEST:g}), averaged across raters")
    print(means.to_string(index=False, float_format=lambda value: f"{value:.2f}", na_rep="n/a"))
    print(
        "\nPaired comparisons (Wilcoxon signed-rank test, Holm-corrected across the pairs of"
        " each contrast)"
    )
    print(tests.to_string(index=False, float_format=lambda value: f"{value:.3f}", na_rep="n/a"))
    unrated = int(table["rating"].isna().sum())
    agreement = f"{icc:.2f}" if np.isfinite(icc) else "n/a"
    print(
        f"\nRaters: {len(by_rater)}. Agreement ICC(2,1): {agreement}. Pictures without a"
        f" rating: {unrated}."
    )
    if options.out is not None:
        _write_scores(options.out, means, tests, {"raters": len(by_rater), "icc_2_1": icc})


def _write_scores(
    out: Path, means: pd.DataFrame, tests: pd.DataFrame, agreement: dict[str, float]
) -> None:
    """Write means to a TSV file, and comparisons and agreement to a JSON file of the same name."""
    text = means.to_csv(sep="\t", index=False, na_rep="n/a", float_format="%.6g")
    write_text(out, text)
    content = {
        **{name: value if np.isfinite(value) else None for name, value in agreement.items()},
        "comparisons": json.loads(tests.to_json(orient="records")),
    }
    write_json(out.with_suffix(".json"), content)
