"""What a series of another program (`--compare`) costs: wall clock and processor time of whole
runs.

python benchmarks/compared_cost.py DATASET SCRATCH

The program runs on the first run of a data set (64 x 64 x 34 voxels, 209 volumes) with no, one and
two series besides, each smoothed by 6 mm.
"""

import argparse
import shutil
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
from _resources import watch
from _table import keep

from bids_sr.stats.glm.time_series import smooth

BIN = Path(sys.executable).parent
FACTOR = (2.0, 2.0, 1.0)
WIDTH_MM = 6.0
SHARED = ["participant", "--skip-bids-validation", "--nprocs", "2", "--sr-factor", "2"]


def save(data: np.ndarray, like: nib.Nifti1Image, affine: np.ndarray, path: Path) -> Path:
    """Write a series with the repetition time of another one."""
    image = nib.Nifti1Image(data.astype(np.float32), affine)
    image.header.set_xyzt_units("mm", "sec")
    image.header["pixdim"][4] = like.header["pixdim"][4]
    image.set_qform(affine, 1)
    image.set_sform(affine, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)
    return path


def cost(dataset: Path, scratch: Path) -> None:
    """Wall clock and processor time with no, one and two series besides."""
    bold = sorted(dataset.rglob("func/*_bold.nii.gz"))[0]
    image = nib.load(bold)
    data = np.asarray(image.dataobj, np.float32)
    zooms = [float(mm) for mm in image.header.get_zooms()[:3]]
    smoothed = np.stack(
        [smooth(data[..., t], zooms, WIDTH_MM) for t in range(data.shape[3])], axis=-1
    )
    series = save(smoothed, image, image.affine, scratch / "smooth6.nii.gz")
    rows = []
    for count in range(3):
        out, work = scratch / f"out{count}", scratch / f"work{count}"
        for folder in (out, work):
            shutil.rmtree(folder, ignore_errors=True)
        options = [each for k in range(count) for each in ("--compare", f"smooth{k + 1}={series}")]
        command = [
            str(BIN / "bids-sr"),
            str(dataset),
            str(out),
            *SHARED,
            "-w",
            str(work),
            "--run-id",
            "1",
        ]
        done = watch(
            [*command, "--sr-method", "bspline", "zerofill", "--smoothing", "0", "5", *options]
        )
        (scratch / f"log{count}").write_text(done.output)
        assert done.code == 0, done.output[-2000:]
        row = {
            "series besides": count,
            "wall clock, min": done.seconds / 60,
            "processor, min": done.cpu_seconds / 60,
        }
        rows.append({**row, "memory, GiB": done.peak_gib})
        shutil.rmtree(work)
    size = "x".join(map(str, data.shape))
    more = rows[2]["processor, min"] - rows[1]["processor, min"]
    remarks = (
        (
            f"Series of {size} voxels and volumes, two processors (shared with other work). The"
            " first series brings in another run of the task as reference, once."
        ),
        f"One more series: {more:.2f} min of one processor, {more / 2:.2f} min on two.",
    )
    keep("compared_cost", "What a compared series costs", rows, remarks=remarks)


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("scratch", type=Path)
    options = parser.parse_args()
    options.scratch.mkdir(parents=True, exist_ok=True)
    cost(options.dataset, options.scratch)


if __name__ == "__main__":
    main()
