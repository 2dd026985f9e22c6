"""Outlier volumes of runs as acquired, and of runs with known alterations.

python benchmarks/outlier_volumes.py BOLD ... [--altered] [--figure FILE]

Without --altered, the outlier volumes of each run are listed. With --altered, volumes of each run
are spoiled, or the head is moved, and the outliers are compared with the altered volumes. The
figure shows the change between successive volumes of each run, the first outlier volume, its
difference from the volume before, and, for comparison, the difference between the two volumes
before. The table is stored as benchmarks/results/outlier_volumes[_altered].md.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import nibabel as nb
import numpy as np
from _table import keep
from matplotlib import pyplot as plt

from bids_sr.io.copies import copy_series
from bids_sr.io.nifti import SeriesReader, save_image
from bids_sr.preproc import outlier_volumes
from bids_sr.preproc.nonsteady import count_nonsteady_volumes
from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.transforms import rigid_matrix

Alter = Callable[[np.ndarray], np.ndarray]
LONGEST = 100  # volumes of an altered run


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bold", type=Path, nargs="+", help="BOLD series (NIfTI)")
    parser.add_argument("--altered", action="store_true", help="alter the runs in known ways")
    parser.add_argument("--figure", type=Path, help="figure of the runs as acquired")
    arguments = parser.parse_args()
    if arguments.altered:
        rows = [row for path in arguments.bold for row in altered_rows(path)]
        wrong = sum(row["as altered"] != "yes" for row in rows)
        keep(
            "outlier_volumes_altered",
            "Outlier volumes of runs with known alterations",
            rows,
            remarks=[f"{wrong} of {len(rows)} runs with other outliers than the altered volumes."],
        )
        return
    keep(
        "outlier_volumes",
        "Outlier volumes of runs as acquired",
        [acquired_row(path) for path in arguments.bold],
        remarks=[
            "`change`: largest and second largest change between successive volumes (root mean"
            " square), relative to the median of the run. Volumes are counted from 0."
        ],
    )
    if arguments.figure:
        draw(arguments.bold, arguments.figure)


def run_name(path: Path) -> str:
    """Return the data set and the run of a file."""
    return f"{path.parents[2].name} {path.name.removesuffix('.gz').removesuffix('_bold.nii')}"


def uncompressed(path: Path, folder: str) -> SeriesReader:
    """Return a reader of an uncompressed copy."""
    copy_series(path, Path(folder) / "bold.nii")
    return SeriesReader(Path(folder) / "bold.nii")


def relative_changes(reader: SeriesReader, n_dummy: int) -> np.ndarray:
    """Return the changes between successive volumes relative to their median (T,)."""
    changes = outlier_volumes._measure_changes(reader, n_dummy).change
    whole = np.sqrt((changes**2).mean(axis=1))
    return np.asarray(whole / np.median(whole[n_dummy + 1 :]))


def acquired_row(path: Path) -> dict[str, object]:
    """Return the outliers of a run."""
    with tempfile.TemporaryDirectory() as folder, uncompressed(path, folder) as reader:
        n_dummy = count_nonsteady_volumes(reader.path)
        outliers = outlier_volumes.find_outlier_volumes(reader, n_dummy=n_dummy)
        largest = np.sort(relative_changes(reader, n_dummy))[::-1]
        return {
            "run": run_name(path),
            "volumes": reader.shape[3],
            "change": f"{largest[0]:.1f}, {largest[1]:.1f}",
            "outliers": "; ".join(f"{found.volume}: {found.reason}" for found in outliers)
            or "none",
        }


def draw(paths: Sequence[Path], file: Path) -> None:
    """Plot the changes of each run, and three slices of its first outlier and of differences."""
    figure, axes = plt.subplots(
        len(paths), 4, figsize=(14, 1.4 * len(paths)), width_ratios=(1.2, 1, 1, 1), squeeze=False
    )
    for path, (trace, *panels) in zip(paths, axes, strict=True):
        with tempfile.TemporaryDirectory() as folder, uncompressed(path, folder) as reader:
            n_dummy = count_nonsteady_volumes(reader.path)
            outliers = outlier_volumes.find_outlier_volumes(reader, n_dummy=n_dummy)
            trace.plot(relative_changes(reader, n_dummy), lw=0.8, color="black")
            trace.set_title(run_name(path), fontsize=8, loc="left")
            trace.set_ylabel("change", fontsize=7)
            trace.tick_params(labelsize=6)
            for found in outliers:
                trace.axvspan(found.volume - 0.5, found.volume + 0.5, color="red", alpha=0.4)
            for panel in panels:
                panel.axis("off")
            for found in outliers[:1]:
                number = found.volume
                image, *before = (
                    _montage(reader.volume(max(0, number - lag))) for lag in range(3)
                )
                limit = np.percentile(image, 99.5)
                panels[0].imshow(image, cmap="gray", vmin=0, vmax=limit)
                panels[0].set_title(f"volume {number}", fontsize=7)
                for panel, lag, change in zip(
                    panels[1:], (0, 1), (image - before[0], before[0] - before[1]), strict=True
                ):
                    panel.imshow(change, cmap="RdBu_r", vmin=-limit / 3, vmax=limit / 3)
                    panel.set_title(f"{number - lag} minus {number - lag - 1}", fontsize=7)
    figure.tight_layout()
    figure.savefig(file, dpi=90)


def _montage(volume: np.ndarray) -> np.ndarray:
    """Return an axial, a coronal and a sagittal slice through the middle, side by side."""
    x, y, z = (size // 2 for size in volume.shape)
    slices = [volume[:, :, z], volume[:, y], volume[x]]
    height = max(part.shape[1] for part in slices)
    return np.hstack(
        [np.pad(np.flipud(part.T), ((height - part.shape[1], 0), (0, 2))) for part in slices]
    )


# --- known alterations


def altered_rows(path: Path) -> Iterator[dict[str, object]]:
    """Yield the outliers of a run after each alteration."""
    image = nb.load(path)
    series = np.asarray(image.dataobj[..., :LONGEST], dtype=np.float64)
    for name, alter, expected in alterations(series, image.affine):
        changed = alter(series.copy())
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "bold.nii"
            save_image(np.clip(changed, 0, 32000), image.affine, copy, dtype="i2", tr=2.0)
            with SeriesReader(copy) as reader:
                outliers = outlier_volumes.find_outlier_volumes(reader)
        found = [outlier.volume for outlier in outliers]
        yield {
            "run": run_name(path),
            "alteration": name,
            "altered": _ranges(expected),
            "outliers": _ranges(found),
            "as altered": "yes" if found == list(expected) else "no",
        }


def _ranges(volumes: Sequence[int]) -> str:
    return ", ".join(map(str, volumes)) if len(volumes) < 4 else f"{volumes[0]} to {volumes[-1]}"


def alterations(
    series: np.ndarray, affine: np.ndarray
) -> Iterator[tuple[str, Alter, Sequence[int]]]:
    """Yield name, function and altered volumes of each alteration."""
    rng = np.random.default_rng(0)
    mean = series.mean(-1)
    end, z = series.shape[-1], series.shape[2] // 2
    bright = float(np.percentile(mean, 98))

    def noise(volumes: Sequence[int], slices: slice = slice(None)) -> Alter:
        def alter(values: np.ndarray) -> np.ndarray:
            for t in volumes:
                part = values[:, :, slices, t]
                values[:, :, slices, t] = np.abs(rng.normal(0, 0.03 * bright, part.shape))
            return values

        return alter

    def put(volumes: Sequence[int], make: Callable[[np.ndarray], np.ndarray]) -> Alter:
        def alter(values: np.ndarray) -> np.ndarray:
            for t in volumes:
                values[..., t] = make(values[..., t])
            return values

        return alter

    def moved(volumes: Sequence[int], mm: float, degrees: float) -> Alter:
        center = affine[:3] @ [*(np.array(mean.shape) / 2), 1]
        turn = np.radians(degrees)
        pose = rigid_matrix(np.array([mm, 0.3 * mm, 0.3 * mm, turn, 0, turn / 2]), center)
        return put(volumes, lambda image: sample_volume(image, affine, image.shape, affine, pose))

    stripes = 0.15 * bright * np.cos(1.9 * np.arange(mean.shape[0]))[:, None, None]
    lower = np.arange(mean.shape[2]) < z
    last = range(end - 8, end)
    yield "none", lambda values: values, []
    yield "noise, last three", noise([end - 3, end - 2, end - 1]), [end - 3, end - 2, end - 1]
    yield "noise, first", noise([0]), [0]
    yield "noise, two", noise([40, 41]), [40, 41]
    yield "noise in a slice", noise([20], slice(z, z + 1)), [20]
    yield "half empty, last", put([end - 1], lambda image: image * lower), [end - 1]
    yield "empty", put([30], np.zeros_like), [30]
    for gain in (0.5, 0.9, 1.05, 1.1, 1.2, 1.5):
        yield f"gain {gain:g}", put([20], lambda image, gain=gain: gain * image), [20]
    yield "copies of the last", lambda v: np.concatenate([v[..., :-8], v[..., [-9] * 8]], -1), last
    yield "copies of volume 5", lambda v: np.concatenate([v[..., :-8], v[..., [5] * 8]], -1), last
    yield (
        "another contrast",
        put(
            [25], lambda image: np.where(mean > 0.2 * bright, np.abs(1.3 * bright - image), image)
        ),
        [25],
    )
    yield "stripes", put([45], lambda image: np.abs(image + stripes)), [45]
    yield "head moves 2 mm", moved(range(30, end), 2, 2), []
    yield "head moves 6 mm", moved(range(30, end), 6, 5), []
    yield "head moves before the last two", moved([end - 2, end - 1], 3, 1), []
    yield "head moves before the last", moved([end - 1], 2, 1), []
    yield "nod of 2 mm, one volume", moved([30], 2, 1), []
    yield "nod of 3 mm, three volumes", moved([30, 31, 32], 3, 1), []
    t = np.arange(end)
    yield "drift of 10 %", lambda values: values * (1 + 0.1 * t / end), []
    yield "blocks of 2 %", lambda values: values * (1 + 0.02 * (t // 8 % 2)), []
    yield "step of 5 %", lambda values: values * (1 + 0.05 * (t >= end // 2)), []


if __name__ == "__main__":
    main()
