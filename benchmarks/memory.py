"""Peak memory of the whole run against the number of volumes, 64 x 64 x 30 by 2.

python benchmarks/memory.py SCRATCH [--volumes 100 300 900] [-- options of bids-sr ...]

The phantom of the paper's size is made once and cut to fewer volumes; training is short
(--sloppy), all else is whole.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import pandas as pd
from _resources import watch
from _table import keep

BIN = Path(sys.executable).parent


def cut(phantom: Path, target: Path, volumes: int) -> None:
    """A copy of the phantom whose run ends after ``volumes``."""
    shutil.copytree(phantom, target, ignore=shutil.ignore_patterns("derivatives"))
    bold = next((target / "sub-01" / "func").glob("*_bold.nii.gz"))
    image = nib.load(bold)
    header = image.header.copy()
    part = nib.Nifti1Image(image.dataobj.get_unscaled()[..., :volumes], image.affine, header)
    part.header.set_slope_inter(image.dataobj.slope, image.dataobj.inter)
    part.to_filename(bold)
    end = volumes * float(header.get_zooms()[3])
    events = next((target / "sub-01" / "func").glob("*_events.tsv"))
    table = pd.read_csv(events, sep="\t", keep_default_na=False)
    table[table.onset + table.duration <= end].to_csv(events, sep="\t", index=False)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scratch", type=Path)
    parser.add_argument("--volumes", type=int, nargs="+", default=[100, 300, 900])
    args, options = parser.parse_known_args()
    args.scratch.mkdir(parents=True, exist_ok=True)
    phantom = args.scratch / "phantom"
    if not phantom.exists():
        subprocess.run([BIN / "bids-sr-phantom", phantom, "--preset", "paper"], check=True)
    rows, codes = [], []
    for volumes in args.volumes:
        data = args.scratch / f"data-{volumes}"
        if not data.exists():
            cut(phantom, data, volumes)
        out, work = args.scratch / f"out-{volumes}", args.scratch / f"work-{volumes}"
        command = [
            BIN / "bids-sr",
            data,
            out,
            "participant",
            "-w",
            work,
            "--sloppy",
            "--contrasts",
            "thumb",
            "little",
        ]
        usage = watch([*map(str, command), *options], log=args.scratch / f"log-{volumes}.txt")
        codes.append(usage.code)
        rows.append(
            {
                "volumes": volumes,
                "exit": usage.code,
                "peak PSS (GiB)": round(usage.peak_gib, 3),
                "minutes": round(usage.seconds / 60, 1),
                "processes": usage.processes,
            }
        )
        shutil.rmtree(work, ignore_errors=True)
        shutil.rmtree(out, ignore_errors=True)
    peak = {row["volumes"]: row["peak PSS (GiB)"] for row in rows}
    last, before = max(peak), sorted(peak)[-2] if len(peak) > 1 else max(peak)
    remark = f"Peak at {last} volumes over that at {before}: {peak[last] / peak[before]:.3f}."
    keep("memory", "Peak memory against the number of volumes", rows, remarks=[remark])
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
