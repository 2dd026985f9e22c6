"""What `sbl` makes of a run that another program masked: zeros outside the brain.

python benchmarks/masked.py make DATA OUT MASK             DATA of one run, with zeros where MASK
(its grid, or twice as
                                                           fine in plane) is 0
python benchmarks/masked.py table NAME=OUT ...             outputs of bids-sr with `--truth`, of
DATA and of OUT
"""

import shutil
import sys
from pathlib import Path

import numpy as np
from _compared_series import read, write
from _table import keep
from orders import text

from bids_sr.metrics.long_tables import read_table

FIGURES = {"tested_share": ("brain",), "split_ev_beyond": ("brain", "active40")}


def make(data: Path, out: Path, mask: Path) -> None:
    """A copy of a data set whose run is zero outside a mask."""
    shutil.copytree(data, out, ignore=shutil.ignore_patterns("*_bold.nii.gz"))
    (file,) = data.glob("sub-*/**/func/*_bold.nii.gz")
    series, image = read(file)
    inside, _ = read(mask)
    if inside.shape != series.shape[:3]:
        x, y, z = series.shape[:3]
        inside = inside.reshape(x, 2, y, 2, z).mean(axis=(1, 3))
    target = out / file.relative_to(data)
    sidecar = target.with_name(target.name.replace(".nii.gz", ".json"))
    kept = sidecar.read_bytes()
    sidecar.unlink()
    write(np.where(inside[..., None] > 0.5, series, 0), image, target)
    sidecar.write_bytes(kept)


def table(arguments: list[str]) -> None:
    """A line for each output."""
    lines = []
    for argument in arguments:
        name, _, out = argument.partition("=")
        rows = read_table(next(Path(out).glob("sub-*/**/func/*_desc-evaluation_metrics.tsv")))
        lines.append(
            {
                "run": name,
                **{
                    f"{measure}, {region}": text(rows, measure, "sbl", region)
                    for measure, regions in FIGURES.items()
                    for region in regions
                },
            }
        )
    keep(
        "masked",
        "A run that was masked before super-resolution: sbl against the measured series",
        lines,
    )


def main() -> int:
    """One subcommand."""
    command, given = (sys.argv[1] if len(sys.argv) > 1 else ""), sys.argv[2:]
    if command == "make" and len(given) == 3:
        make(*map(Path, given))
    elif command == "table" and given:
        table(given)
    else:
        sys.exit(__doc__)
    return 0


if __name__ == "__main__":
    sys.exit(main())
