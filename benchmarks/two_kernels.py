"""Whether a data set gives the same maps by two kernels of the linear algebra library.

python benchmarks/two_kernels.py NAME BIDS_DIR FOLDER [--kernels Nehalem Haswell] [--mkl]
    [--options "--sr-method sbl"]

The program runs twice, with one kernel of OpenBLAS each (`OPENBLAS_CORETYPE`), to FOLDER/KERNEL;
outputs that exist are compared as they are. `--mkl` also gives the runs two code paths of MKL,
which torch uses (`MKL_CBWR=COMPATIBLE` and `AVX2`). Networks are not trained, because training
amplifies rounding. First a small product shows that the kernels round differently.

The bar: every map has a correlation of at least .99999 with its counterpart, and no value differs
by more than .02 standard deviations of its map; brain masks are equal; regions differ only in
voxels whose values are within .02 standard deviations of the threshold. Standard deviations are
over the voxels of a map that are not 0. The threshold of a region is the least value in it.
"""

import argparse
import os
import re
import shlex
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
from _table import keep
from numpy.typing import NDArray

Array = NDArray[Any]
LEAST_R, MOST_SD = 0.99999, 0.02
PATHS = ("COMPATIBLE", "AVX2")
# maps that select the voxels of a region
CHOSEN_BY = {
    "SignReliable": ("t", "z", "zTotal"),
    "Fdr": ("z",),
    "Quarter": ("cc",),
}
_PRODUCT = """
import hashlib
import numpy as np
import scipy.linalg
import torch
a = np.random.default_rng(0).normal(size=(60, 60))
t = torch.tensor(np.round(a, 3))
found = (a @ a, scipy.linalg.cholesky(np.round(a @ a.T, 6) + 60 * np.eye(60)), (t @ t).numpy())
print(*(hashlib.sha256(np.ascontiguousarray(x).tobytes()).hexdigest()[:8] for x in found))
"""


def environment(kernel: str, path: str = "") -> dict[str, str]:
    """Return the environment of a process with one kernel, and one code path of MKL if
    requested.
    """
    kernel_variables = {"OPENBLAS_CORETYPE": kernel, **({"MKL_CBWR": path} if path else {})}
    return {**os.environ, **kernel_variables}


def products(settings: dict[str, str]) -> list[str]:
    """Return checksums of products by numpy, scipy and torch."""
    command = [sys.executable, "-c", _PRODUCT]
    done = subprocess.run(command, env=settings, capture_output=True, text=True, check=True)
    return done.stdout.split()


def entities_of(path: Path) -> dict[str, str]:
    """Return entities of a file name, and its suffix."""
    *parts, suffix = path.name.split(".")[0].split("_")
    return dict(part.partition("-")[::2] for part in parts) | {"suffix": suffix}


def values_of(path: Path) -> Array:
    """Load the voxels of an image."""
    return np.asarray(nib.load(path).dataobj, dtype=np.float64)


def compare_maps(first: Array, second: Array) -> tuple[float, float]:
    """Return the correlation of two maps, and their largest difference in SD of the first.

    Both are NaN if the maps are not finite in the same voxels.
    """
    return compare_blocks([(first, second)])


def compare_series(first: Path, second: Path) -> tuple[float, float]:
    """Compare two time series as `compare_maps` compares maps, one volume at a time."""
    images = [nib.load(path, keep_file_open=True) for path in (first, second)]
    return compare_blocks(
        tuple(np.asarray(image.dataobj[..., volume], np.float64) for image in images)
        for volume in range(images[0].shape[3])
    )


def compare_blocks(blocks: Iterable[tuple[Array, ...]]) -> tuple[float, float]:
    """Compare two images that are given in blocks; see `compare_maps`."""
    sums = np.zeros(5)  # a, b, a², b², ab
    n_values, largest, offset = 0, np.float64(0), None
    for first, second in blocks:
        used = ((first != 0) | (second != 0)) & (np.isfinite(first) | np.isfinite(second))
        a, b = first[used], second[used]
        if not len(a):
            continue
        if offset is None:  # of both, so that the sums of squares stay accurate
            offset = np.nanmean(a)
        largest = np.maximum(largest, np.abs(a - b).max())  # NaN if one of the values is NaN
        a, b = a - offset, b - offset
        sums += [a.sum(), b.sum(), a @ a, b @ b, a @ b]
        n_values += len(a)
    if largest == 0:
        return 1.0, 0.0
    mean_a, mean_b, aa, bb, ab = sums / n_values
    variances = np.array([aa - mean_a**2, bb - mean_b**2])
    if not (variances > 0).all():
        return float("nan"), float("nan")
    correlation = (ab - mean_a * mean_b) / np.sqrt(variances.prod())
    return float(correlation), float(largest / np.sqrt(variances[0]))


def distance_from_threshold(region: Array, second: Array, maps: Sequence[Array]) -> float:
    """Return the largest distance of differing voxels from the threshold, in SD of the map.

    Each voxel counts in the map where it is nearest to the smallest value of the region;
    infinity without maps.
    """
    differ = region != second
    nearest = np.full(int(differ.sum()), np.inf)
    for values in maps:
        chosen = values[region if region.any() else second]
        sd = float(values[values != 0].std())
        if len(chosen) and sd > 0:
            nearest = np.minimum(nearest, np.abs(values[differ] - chosen.min()) / sd)
    return float(nearest.max(initial=0.0))


def maps_of(region: Path, among: dict[Path, dict[str, str]]) -> list[Path]:
    """Return files of the maps that define a region."""
    region_entities = entities_of(region)
    match = re.fullmatch(r"(.*?)(SignReliable|Fdr|Quarter|Z\d+)", region_entities.get("desc", ""))
    if match is None:
        return []
    stats = CHOSEN_BY.get(match[2], ("z",))
    return [
        path
        for path, entities in among.items()
        if entities.get("contrast") == region_entities.get("label")
        and entities.get("desc") == match[1]
        and entities.get("stat") in stats
        and all(
            entities.get(key) == region_entities.get(key)
            for key in ("res", "space", "task", "run")
        )
    ]


def compare(first: Path, second: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Compare all images and the confounds of two outputs.

    Returns rows of the table and a line per image that does not meet the bar.
    """
    files = sorted(
        path
        for path in first.rglob("*.nii.gz")
        if not {"logs", "work"} & set(path.relative_to(first).parts)
    )
    images = {path: entities_of(path) for path in files}
    maps = {path: labels for path, labels in images.items() if labels["suffix"] == "statmap"}
    differences = defaultdict[str, list[tuple[float, float, int, float]]](list)
    beyond = []
    for path, entities in images.items():
        place = path.relative_to(first)
        if not (second / place).exists():
            beyond.append(f"{place}: only in one output")
            continue
        if entities["suffix"] == "mask":
            near, changed = (values_of(file) > 0 for file in (path, second / place))
            differ = int((near != changed).sum())
            of_maps = maps_of(path, maps) if differ else []
            far = (
                distance_from_threshold(
                    near, changed, [values_of(map_path) for map_path in of_maps]
                )
                if differ
                else 0.0
            )
            kind = "regions" if "label" in entities else "brain masks and regions of interest"
            differences[kind].append((float("nan"), float("nan"), differ, far))
            met = far <= MOST_SD
            text = f"{differ} voxels, up to {far:.2g} SD from the threshold"
        else:
            if len(nib.load(path).shape) == 4:
                r, largest = compare_series(path, second / place)
            else:
                r, largest = compare_maps(values_of(path), values_of(second / place))
            kind = f"maps, {entities['stat']}" if path in maps else f"images, {entities['suffix']}"
            differences[kind].append((r, largest, 0, float("nan")))
            met = r >= LEAST_R and largest <= MOST_SD
            text = f"r {r:.7f}, up to {largest:.2g} SD"
        if not met:
            beyond.append(f"{place}: {text}")
    rows = []
    for kind, values in sorted(differences.items()):
        r, largest, differ, far = (np.array(column) for column in zip(*values, strict=True))
        is_mask = np.isnan(r).all() and bool(np.isfinite(far).any() or differ.any())
        rows.append(
            {
                "files": kind,
                "number": len(values),
                "least r": "–" if is_mask else f"{r.min():.8f}",
                "largest difference (SD)": "–" if is_mask else float(largest.max()),
                "voxels that differ": int(differ.max()) if is_mask else "–",
                "farthest from the threshold (SD)": float(far.max()) if is_mask else "–",
            }
        )
    for path in sorted(first.rglob("*_desc-confounds_timeseries.tsv")):
        rows.append(compare_confounds(path, second / path.relative_to(first)))
    return rows, beyond


def compare_confounds(first: Path, second: Path) -> dict[str, Any]:
    """Compare the columns of two tables of confounds, as a row of the table."""
    a, b = (pd.read_csv(path, sep="\t", na_values="n/a") for path in (first, second))
    row = {"files": "confounds, columns", "number": len(a.columns)}
    if list(a.columns) != list(b.columns):
        return row | {"largest difference (SD)": "other columns"}
    sd = a.std().replace(0, np.nan)
    correlations = [a[name].corr(b[name]) for name in a if sd[name] > 0]
    return row | {
        "least r": f"{min(correlations):.8f}",
        "largest difference (SD)": float(((a - b).abs() / sd).max().max()),
        "voxels that differ": "–",
        "farthest from the threshold (SD)": "–",
    }


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", help="of the table, below results: two_kernels_NAME")
    parser.add_argument("data", type=Path, metavar="BIDS_DIR")
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--kernels", nargs=2, default=["Nehalem", "Haswell"])
    parser.add_argument("--mkl", action="store_true", help="two code paths of MKL, too")
    parser.add_argument("--options", default="--sr-method sbl", help="of bids-sr")
    arguments = parser.parse_args()
    settings = [
        environment(kernel, path if arguments.mkl else "")
        for kernel, path in zip(arguments.kernels, PATHS, strict=True)
    ]
    names = ("numpy", "scipy", "torch")
    bits = zip(names, *map(products, settings), strict=True)
    differ = [name for name, first, second in bits if first != second]
    if "numpy" not in differ:
        sys.exit(
            f"{' and '.join(arguments.kernels)}: numpy gives the same bits with both kernels;"
            " expected different ones. Choose other kernels with --kernels."
        )
    outputs = [arguments.folder / kernel for kernel in arguments.kernels]
    for out, variables in zip(outputs, settings, strict=True):
        if list(out.glob("sub-*.html")):
            continue
        command = ["bids-sr", arguments.data, out, "participant", "-w", f"{out}_work"]
        subprocess.run([*command, *shlex.split(arguments.options)], env=variables, check=True)
    rows, beyond = compare(*outputs)
    verdict = f"{len(beyond)} images do not meet the bar:" if beyond else "All meet the bar."
    keep(
        f"two_kernels_{arguments.name}",
        f"The same data set by two kernels of OpenBLAS: {arguments.name}",
        rows,
        remarks=[
            f"Products of {', '.join(differ)} have other bits with {arguments.kernels[0]} than"
            f" with {arguments.kernels[1]}"
            f"{' and the code paths of MKL' if arguments.mkl else ''}.",
            verdict,
            *(f"- {line}" for line in beyond),
        ],
    )
    return int(bool(beyond))


if __name__ == "__main__":
    sys.exit(main())
