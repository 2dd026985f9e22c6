"""Brain extraction of whole heads: python benchmarks/heads.py FOLDER [--references FOLDER].

FOLDER holds T1w images (.nii.gz) of any scanner; a file of the same name in the other folder is
the brain mask to compare with. Each image goes through the steps of the anatomical stage: N4 on
the head, then the brain mask with its figures. Dice against the reference, what is missed of the
reference shrunk by 4 mm (brain for sure), and what lies farther than 2 mm outside it; CPU seconds
of the mask alone, on one thread. Writes benchmarks/results/heads.{json,md}.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

for variable in (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
):
    os.environ[variable] = "1"

from _table import keep  # noqa: E402

from bids_sr.registration.ants import load, load_ants  # noqa: E402
from bids_sr.registration.brain import brain_from_head, unbiased, volume_ml  # noqa: E402
from bids_sr.registration.templates import Template, load_template  # noqa: E402
from bids_sr.spatial.masks import dice, grow  # noqa: E402


def row_of(path: Path, reference: Path, template: Template) -> dict[str, Any]:
    """Figures of one image."""
    image = load(path)
    flat = unbiased(image, None, seed=1, iterations=(20, 15))
    start = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        mask, _, check = brain_from_head(
            flat,
            template.t1,
            template.mask.data > 0.5,
            seed=1,
            prefix=f"{folder}/head_",
            sloppy=False,
        )
    seconds = time.process_time() - start
    row: dict[str, Any] = {
        "image": path.name.split(".")[0],
        "voxel mm": "x".join(f"{zoom:.2g}" for zoom in image.zooms),
        "mask ml": round(check["brain_volume_ml"]),
        "determinant": round(check["brain_determinant"], 3),
        "Dice, template": round(check["brain_template_dice"], 3),
        "doubts": len(check["brain_doubts"]),
        "CPU s": round(seconds, 1),
        "reference ml": "n/a",
        "Dice": "n/a",
        "missed ml": "n/a",
        "outside ml": "n/a",
    }
    if reference.is_file():
        true = load(reference).data > 0.5
        sure, near = grow(true, image.affine, -4.0), grow(true, image.affine, 2.0)
        row |= {
            "reference ml": round(volume_ml(true, image.affine)),
            "Dice": round(dice(mask, true), 3),
            "missed ml": round(volume_ml(sure & ~mask, image.affine), 1),
            "outside ml": round(volume_ml(mask & ~near, image.affine), 1),
        }
    return row


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--references", type=Path, default=Path("/nowhere"))
    args = parser.parse_args()
    load_ants(1)
    template = load_template()
    rows = [
        row_of(path, args.references / path.name, template)
        for path in sorted(args.folder.glob("*.nii.gz"))
    ]
    if not rows:
        raise SystemExit(f"{args.folder}: no .nii.gz")
    remark = (
        "References are masks of deepbet 1.0.2 (with the fluid around the brain), looked at on"
        " mosaics of every image: none was wrong."
    )
    keep("heads", "Brain extraction of whole heads", rows, remarks=[remark])


if __name__ == "__main__":
    main()
