"""``bids-sr-models rate``: a kit for blinded visual rating, and scores of its sheets.

A kit contains one picture per participant, contrast and series under a random code, a rating
sheet, and a sealed key. Series are the stored results, and the acquired low-resolution scans. The
key is encoded to prevent accidental unblinding; it is not protected against intentional decoding.
"""

from __future__ import annotations

import base64
import json
import shutil
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pandas as pd
from nibabel.affines import apply_affine, voxel_sizes

from bids_sr.cli.models.blind_ratings import (
    HIGHEST,
    LOWEST,
    NATIVE,
    average_ratings,
    check_sheet,
    compare_ratings,
    draw_codes,
    intraclass_correlation,
)
from bids_sr.cli.models.commands.options import RateOptions
from bids_sr.cli.models.commands.score_tables import make_sibling_path
from bids_sr.evaluation.statistics.comparison_table import write_comparisons
from bids_sr.io.arrays import Array
from bids_sr.io.atomic_files import read_json, write_json, write_text
from bids_sr.io.frozen import frozen
from bids_sr.io.nifti import load_image
from bids_sr.io.notices import InvalidInput, UsageError
from bids_sr.io.tables import TABLE_ERRORS, read_rows
from bids_sr.io.volume import Volume
from bids_sr.survey.bids.entities import parse_entities

SHEET, KEY, IMAGES = "ratings.tsv", "key.sealed", "images"
"""Files and folder of a kit."""
# columns of the comparisons that are printed; the written table has more
_PRINTED_COLUMNS = [
    "contrast",
    "series",
    "minus",
    "n",
    "difference",
    "lower",
    "upper",
    "p_wilcoxon",
    "p_holm",
]
_BACKGROUND = 0.1  # share of the gray scale; darker voxels of an acquired scan are background
_PIXELS = 256  # minimum height of a picture
# normal axis (RAS order) of each plane of a picture, and its position relative to the extent of
# the brain: three axial, a coronal, and a sagittal plane next to the midline
_PLANES = ((2, 0.4), (2, 0.55), (2, 0.7), (1, 0.5), (0, 0.4))
_INSTRUCTIONS = """\
Blinded rating of structural scans

1. Copy {sheet} to a new file, such as ratings_rater-A.tsv.
2. Open each picture in {images}/ and enter a whole or half number from {low:g} (unusable) to
   {high:g} (excellent) in the column "rating". Leave the cell empty if you cannot rate a picture.
3. Do not open {key}, which lists the method that was used for each picture.
4. Return the completed sheet. The sheets of all raters are scored with
   bids-sr-models rate {kit} SHEET [SHEET ...]
"""


def rate(options: RateOptions) -> None:
    """Create a kit, or score the completed sheets of a kit."""
    if options.derivatives is None:
        _score_sheets(options)
    else:
        _make_kit(options, options.derivatives)


def _score_sheets(options: RateOptions) -> None:
    """Print (and with ``-o`` write) mean ratings, comparisons and agreement of rating sheets.

    Raises `UsageError` if a sheet cannot be read, has unknown codes or invalid ratings, or has no
    ratings.
    """
    key = read_key(options.kit)
    ratings_by_rater = _read_sheets(options.sheets, list(key))
    table = pd.DataFrame(
        [
            {**key[code], "code": code, "rater": rater, "rating": rating}
            for rater, ratings in ratings_by_rater.items()
            for code, rating in ratings.items()
        ]
    )
    means, tests = average_ratings(table), compare_ratings(table)
    icc = intraclass_correlation(table.pivot(index="code", columns="rater", values="rating"))
    print(f"Mean rating across participants ({LOWEST:g} to {HIGHEST:g}), averaged across raters")
    print(means.to_string(index=False, float_format=lambda value: f"{value:.2f}", na_rep="n/a"))
    print(
        "\nPaired comparisons (Wilcoxon signed-rank test, Holm-corrected across the pairs of"
        " each contrast)"
    )
    printed = tests[_PRINTED_COLUMNS]
    print(printed.to_string(index=False, float_format=lambda value: f"{value:.3f}", na_rep="n/a"))
    n_missing = int(table["rating"].isna().sum())
    agreement = f"{icc:.2f}" if np.isfinite(icc) else "n/a"
    print(
        f"\nRaters: {len(ratings_by_rater)}. Agreement ICC(2,1): {agreement}. Pictures without a"
        f" rating: {n_missing}."
    )
    if options.out is not None:
        text = means.to_csv(sep="\t", index=False, na_rep="n/a", float_format="%.6g")
        write_text(options.out, text)
        agreement_json = {
            "raters": len(ratings_by_rater),
            "icc_2_1": icc if np.isfinite(icc) else None,
        }
        write_json(options.out.with_suffix(".json"), agreement_json)
        tests_file = make_sibling_path(options.out, "tests.tsv")
        write_comparisons(
            tests_file, tests_file.with_suffix(".json"), "ratings_tests", tests.to_dict("records")
        )


def read_key(kit: Path) -> dict[str, dict[str, str]]:
    """Return participant, contrast and series by code from the sealed key of a kit."""
    try:
        compressed_entries = base64.b64decode(
            (kit / KEY).read_text(encoding="ascii"), validate=False
        )
        entries: Any = json.loads(zlib.decompress(compressed_entries))
        return {str(code): dict(entry) for code, entry in entries.items()}
    except (OSError, ValueError, zlib.error, AttributeError) as error:
        raise UsageError(
            f"{kit / KEY} could not be read",
            str(error),
            "specify the directory that was written by bids-sr-models rate KIT --make OUT",
        ) from error


def _read_sheets(sheets: Sequence[Path], codes: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return the ratings of all sheets by rater and code.

    Invalid and empty sheets, and sheets of the same name, are rejected.
    """
    ratings_by_rater: dict[str, dict[str, float]] = {}
    for sheet in sheets:
        try:
            columns, rows = read_rows(sheet)
            if missing_columns := {"code", "rating"} - set(columns):
                column_names = " and ".join(sorted(missing_columns))
                raise InvalidInput(f"the column {column_names} is missing")
            ratings = check_sheet(rows, codes)
        except (*TABLE_ERRORS, InvalidInput) as error:
            raise UsageError(
                str(sheet),
                str(error),
                "correct the rating sheet; it must have the columns code and rating, with the"
                " codes of this kit",
            ) from error
        if all(np.isnan(rating) for rating in ratings.values()):
            raise UsageError(
                str(sheet),
                "the rating sheet does not contain any ratings",
                "fill in the rating column",
            )
        if sheet.stem in ratings_by_rater:
            raise UsageError(
                str(sheet), "two rating sheets have the same file name", "rename one of the sheets"
            )
        ratings_by_rater[sheet.stem] = ratings
    return ratings_by_rater


def _make_kit(options: RateOptions, derivatives: Path) -> None:
    """Write pictures, sheet, instructions and sealed key of a kit.

    Raises `UsageError` if the kit exists, or if there are no scans to rate.
    """
    target = options.kit
    if target.exists() and any(target.iterdir() if target.is_dir() else [target]):
        raise UsageError(
            f"{target} is not empty",
            "an existing rating kit is never overwritten",
            "choose a new directory",
        )
    scans = _list_scans(derivatives, options.series)
    # pictures are listed in the order of codes, which are independent of the scans
    scan_of_code = dict(zip(draw_codes(len(scans), options.seed), scans, strict=True))
    kit = target.with_name(f".{target.name}.partial")
    shutil.rmtree(kit, ignore_errors=True)
    (kit / IMAGES).mkdir(parents=True)
    _write_pictures(kit, scan_of_code)
    rows = [f"{code}\t{IMAGES}/{code}.png\t\t\n" for code in sorted(scan_of_code)]
    write_text(kit / SHEET, "".join(["code\timage\trating\tcomment\n", *rows]))
    instructions = _INSTRUCTIONS.format(
        sheet=SHEET, images=IMAGES, key=KEY, low=LOWEST, high=HIGHEST, kit=target.name
    )
    write_text(kit / "README.txt", instructions)
    entries = {
        code: {
            "participant": scan.participant,
            "contrast": scan.contrast,
            "series": scan.series,
        }
        for code, scan in scan_of_code.items()
    }
    compressed_entries = zlib.compress(json.dumps(entries, sort_keys=True).encode())
    write_text(kit / KEY, base64.b64encode(compressed_entries).decode("ascii") + "\n")
    if target.exists():
        target.rmdir()
    kit.rename(target)
    n_participants = len({scan.participant for scan in scans})
    print(f"{target}: created {len(scans)} pictures from {n_participants} participants")
    if not options.series and not any(scan.is_native for scan in scans):
        print(
            "Note: the acquired low-resolution scans (series native) are not included because"
            " the BIDS dataset was not found"
        )


@frozen
class _Scan:
    """Scan to rate.

    `participant` includes the session, and `contrast` is the BIDS suffix. `in_template` is whether
    the super-resolved scans are in a template space.
    """

    participant: str
    contrast: str
    series: str
    path: Path
    in_template: bool

    @property
    def is_native(self) -> bool:
        """Whether the scan is an acquired low-resolution scan."""
        return self.series == NATIVE


def _list_scans(derivatives: Path, series: tuple[str, ...]) -> list[_Scan]:
    """Return all scans to rate; super-resolved scans precede acquired scans."""
    scans = [
        scan
        for folder in ("sub-*/anat", "sub-*/ses-*/anat")
        for suffix in ("T1w", "T2w", "FLAIR")
        for path in sorted(derivatives.glob(f"{folder}/*_res-hr_desc-*_{suffix}.nii.gz"))
        for scan in _identify_scans(path, suffix, derivatives)
        if not series or scan.series in series
    ]
    # the planes of a head are chosen from its first scan (`_write_pictures`)
    scans.sort(key=lambda scan: scan.is_native)
    found_series = {scan.series for scan in scans}
    if missing_series := [name for name in series if name not in found_series]:
        raise UsageError(
            f"--series {' '.join(missing_series)}: no such scans found in {derivatives}",
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


def _identify_scans(path: Path, suffix: str, derivatives: Path) -> list[_Scan]:
    """Return a stored scan, and the acquired scan if the stored scan is an interpolation of it."""
    entities = parse_entities(path)
    session = entities.get("session")
    scan = _Scan(
        participant=f"sub-{entities['subject']}" + (f"_ses-{session}" if session else ""),
        contrast=suffix,
        series=entities.get("desc", ""),
        path=path,
        in_template="space" in entities,
    )
    if scan.series == "bspline" and (native := _find_native(path, suffix, derivatives)):
        return [scan, replace(scan, series=NATIVE, path=native)]
    return [scan]


def _find_native(path: Path, suffix: str, derivatives: Path) -> Path | None:
    """Return the acquired low-resolution scan of an interpolated scan, or None.

    The scan of this contrast with the largest voxels is chosen among the sources in the sidecar.
    Returns None if its file does not exist.
    """
    links = read_json(derivatives / "dataset_description.json").get("DatasetLinks")
    sources = read_json(path.with_name(path.name.removesuffix(".nii.gz") + ".json")).get("Sources")
    if not isinstance(links, dict) or not isinstance(sources, list):
        return None
    contrast_sources = [
        source for source in map(str, sources) if f"_{suffix}.nii" in source.split(":", 2)[-1]
    ]
    files = [_resolve_source(source, links, derivatives) for source in contrast_sources]
    native_files = [file for file in files if file is not None]
    return max(native_files, key=lambda file: np.prod(_read_canonical(file).zooms), default=None)


def _resolve_source(source: str, links: Mapping[str, object], derivatives: Path) -> Path | None:
    """Return the local file of a BIDS URI (``bids:DATASET:FILE``), or None if it does not exist.

    `links` contains the address of each data set, relative to `derivatives` or absolute.
    """
    scheme, _, location = source.partition(":")
    dataset, _, relative_path = location.partition(":")
    if scheme != "bids" or not relative_path or dataset not in links:
        return None
    root = urlsplit(str(links[dataset]))
    file = derivatives / unquote(root.path) / relative_path
    return file if root.scheme in ("", "file") and file.is_file() else None


@frozen
class _View:
    """Planes and gray scale of the pictures of a participant and contrast.

    `planes` has the index of each of `_PLANES`, and `points` a point in each plane
    (RAS mm). If None, planes of acquired scans are chosen from their own extent. `pixel_mm` is the
    size of a pixel, and `white_level` the intensity that is shown as white.
    """

    planes: tuple[int, ...]
    points: Array | None
    pixel_mm: float
    white_level: float


def _write_pictures(kit: Path, scan_of_code: Mapping[str, _Scan]) -> None:
    """Write a picture per scan; the view of a head and contrast is chosen from its first scan."""
    views: dict[tuple[str, str], _View] = {}
    for code, scan in scan_of_code.items():
        head = (scan.participant, scan.contrast)
        image = _read_canonical(scan.path)
        if head not in views:
            views[head] = _choose_view(image, scan)
        picture = kit / IMAGES / f"{code}.png"
        _write_picture(picture, image, views[head], is_native=scan.is_native)


def _read_canonical(path: Path) -> Volume:
    """Return an image in RAS order as float32."""
    from bids_sr.report.figures.slices import reorient_to_ras

    image = reorient_to_ras(Volume(*load_image(path)[:2]))
    return Volume(np.asarray(image.data, dtype=np.float32), image.affine)


def _choose_view(image: Volume, scan: _Scan) -> _View:
    """Return the view of a head, determined from the image of one of its scans.

    In template space, the planes cannot be located in acquired scans.
    """
    planes = _find_planes(image, is_native=scan.is_native)
    center = [(size - 1) / 2 for size in image.data.shape]
    voxels = np.tile(center, (len(_PLANES), 1))
    for voxel, (axis, _), plane in zip(voxels, _PLANES, planes, strict=True):
        voxel[axis] = plane
    return _View(
        planes=tuple(planes),
        points=None if scan.in_template else apply_affine(image.affine, voxels),
        pixel_mm=float(voxel_sizes(image.affine).min()),
        white_level=_compute_white_level(image.data),
    )


def _write_picture(path: Path, image: Volume, view: _View, *, is_native: bool) -> None:
    """Write the planes side by side as a PNG.

    Voxels are repeated, not interpolated, so that no detail is added or removed, and pixels are
    square. An acquired scan has its own gray scale, and its planes pass through the same points.
    """
    from PIL import Image

    planes = _locate_planes(image, view) if is_native else view.planes
    panels = [
        _cut_plane(image, axis, plane, view.pixel_mm)
        for (axis, _), plane in zip(_PLANES, planes, strict=True)
    ]
    height = max(panel.shape[0] for panel in panels)
    padded_panels = [np.pad(panel, ((0, height - panel.shape[0]), (0, 0))) for panel in panels]
    white_level = _compute_white_level(image.data) if is_native else view.white_level
    intensities = 255 * np.concatenate(padded_panels, axis=1) / (white_level or 1.0)
    gray_levels = np.clip(intensities, 0, 255).astype(np.uint8)
    zoom = max(1, -(-_PIXELS // gray_levels.shape[0]))
    enlarged_picture = gray_levels.repeat(zoom, axis=0).repeat(zoom, axis=1)
    partial_file = path.with_name(f".{path.name}")
    Image.fromarray(enlarged_picture).save(partial_file, format="PNG")
    partial_file.replace(path)


def _locate_planes(image: Volume, view: _View) -> Sequence[int]:
    """Return the indices of the planes of a view in an acquired scan."""
    if view.points is None:
        return _find_planes(image, is_native=True)
    voxels = np.round(apply_affine(np.linalg.inv(image.affine), view.points)).astype(int)
    voxels = np.clip(voxels, 0, np.array(image.data.shape) - 1)
    return [int(voxel[axis]) for voxel, (axis, _) in zip(voxels, _PLANES, strict=True)]


def _find_planes(image: Volume, *, is_native: bool) -> list[int]:
    """Return the index of each of `_PLANES` in an image in RAS order."""
    head = image.data > (_BACKGROUND * _compute_white_level(image.data) if is_native else 0)
    planes = []
    for axis, position in _PLANES:
        other_axes = tuple(other_axis for other_axis in range(3) if other_axis != axis)
        occupied_indices = np.flatnonzero(head.any(axis=other_axes))
        if not occupied_indices.size:
            raise UsageError(
                "one of the scans is empty",
                "the scan has no voxels with positive intensity",
                "check the derivatives",
            )
        first, last = int(occupied_indices[0]), int(occupied_indices[-1])
        planes.append(round(first + position * (last - first)))
    return planes


def _compute_white_level(image: Array) -> float:
    """Return the 99.5th percentile of positive intensities, 1 if there are none."""
    positive_intensities = image[image > 0]
    if not positive_intensities.size:
        return 1.0
    return float(np.percentile(positive_intensities, 99.5))


def _cut_plane(image: Volume, axis: int, plane: int, pixel_mm: float) -> Array:
    """Return a plane with square pixels, rows from top to bottom."""
    zooms = voxel_sizes(image.affine)
    horizontal_axis, vertical_axis = (other_axis for other_axis in range(3) if other_axis != axis)
    panel = np.take(image.data, plane, axis=axis)
    panel = panel[_repeat_voxels(panel.shape[0], zooms[horizontal_axis] / pixel_mm)]
    panel = panel[:, _repeat_voxels(panel.shape[1], zooms[vertical_axis] / pixel_mm)]
    return panel[:, ::-1].T


def _repeat_voxels(count: int, ratio: float) -> Array:
    """Return the voxel index of each pixel along an axis; `ratio` is voxel size / pixel size."""
    pixels = max(1, round(count * ratio))
    return np.minimum(((np.arange(pixels) + 0.5) / ratio).astype(int), count - 1)
