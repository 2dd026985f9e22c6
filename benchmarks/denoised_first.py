"""Whether MP-PCA of the acquired series helps the detail that `sbl` adds beyond the acquired band.

python benchmarks/denoised_first.py make DATA OUT          DATA with its BOLD denoised (needs dipy)
python benchmarks/denoised_first.py apart DATA WORK OUT    the same, the volumes of either half of
the blocks denoised
                                                           without the others (WORK: of the call on
                                                           DATA)
python benchmarks/denoised_first.py table NAME=WORK,WORK_DENOISED ...

Both data sets go through the whole program, `bids-sr DATA OUT participant -w WORK --sr-method sbl
--calibration none --guide none --contrasts all --activation glm --smoothing 0 --level minimal
--truth TRUTH`. `table` reads the effects of single blocks that both calls left in their work
folders, so that every difference has an interval over the same draws of blocks. Detail is held
against the measured series of the same run, each half of the blocks against the other half, as the
first call prepared it; with the second call's, whose head motion was estimated on the denoised
series, the figures are in the column `own frame`.

`apart` is the control of `make`: MP-PCA makes each volume of a patch from all others, and with it
a half gets noise of the half that it is held against. That noise is in the measured series, too,
as the low resolution was made of it.
"""

import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
from _denoised import mppca, mppca_dataset
from _labels import label
from _table import keep
from numpy.typing import NDArray

from bids_sr.io.nifti import save_image
from bids_sr.metrics.long_tables import MISSING, MetricRow
from bids_sr.stats.evaluation.agreement import agreement_rows
from bids_sr.stats.evaluation.effects_of_run import RunEffects
from bids_sr.stats.evaluation.references import measured_halves
from bids_sr.stats.glm.block_effects import load_effects, save_effects

SERIES = ("zerofill", "sdmod", "sbl")
DENOISED = "Mppca"
REGIONS = ("brain", "active40")
FACTOR = (2.0, 2.0, 1.0)
FIGURES = ("ev", "r")
DELAY_S = 5.0  # of the response to a block


def effects_of(work: Path) -> dict[str, Path]:
    """Files of the effects of single blocks in a work folder, by series."""
    return {file.parent.parent.name: file for file in work.rglob("measure_effects/effects.npz")}


def rows_of(acquired: Path, denoised: Path, *, frame: Path) -> list[MetricRow]:
    """Scores of both calls together, against the measured series of one of them."""
    with tempfile.TemporaryDirectory() as folder:
        files = {"measured": effects_of(frame)["measured"]}
        for work, suffix in ((acquired, ""), (denoised, DENOISED)):
            for name in SERIES:
                effects = load_effects(effects_of(work)[name])
                files[name + suffix] = Path(folder) / f"{name}{suffix}.npz"
                save_effects(replace(effects, series=name + suffix), files[name + suffix])
        measured = load_effects(files["measured"])
        roi = np.zeros_like(measured.mask)
        contrasts = {"all": dict.fromkeys(conditions(measured.blocks), 1.0)}
        weights = {name: 1 / len(contrasts["all"]) for name in contrasts["all"]}
        run = RunEffects(
            files=files,
            contrasts={"all": weights},
            mask=measured.mask,
            affine=measured.affine,
            roi=roi,
            factor=FACTOR,
        )
        return agreement_rows(run, measured_halves)


def conditions(blocks: object) -> list[str]:
    """Types of trial of a run."""
    return sorted({block.condition for block in blocks})  # type: ignore[attr-defined]


def text(
    rows: list[MetricRow], measure: str, series: str, region: str, minus: str = MISSING
) -> str:
    """A figure with its interval."""
    for row in rows:
        if (label(row), row.series, row.region, row.minus) == (measure, series, region, minus):
            return f"{row.value:.3f} [{row.lower:.3f}, {row.upper:.3f}]"
    return ""


def table(arguments: list[str]) -> None:
    """A line for each person, figure and region."""
    lines, gains = [], []
    for argument in arguments:
        name, _, folders = argument.partition("=")
        acquired, denoised = map(Path, folders.split(","))
        rows = rows_of(acquired, denoised, frame=acquired)
        own = rows_of(acquired, denoised, frame=denoised)
        for band in ("beyond", "signal"):
            for figure in FIGURES:
                measure = f"split_{figure}_{band}"
                for region in REGIONS:
                    lines.append(
                        {
                            "run": name,
                            "figure": measure,
                            "region": region,
                            **{
                                series: text(rows, measure, series, region)
                                for series in (
                                    "zerofill",
                                    f"zerofill{DENOISED}",
                                    "sbl",
                                    f"sbl{DENOISED}",
                                    "measured",
                                )
                            },
                            "own frame": text(own, measure, f"sbl{DENOISED}", region),
                        }
                    )
                    gains.append(
                        {
                            "run": name,
                            "figure": measure,
                            "region": region,
                            **{
                                f"{series}: denoised less acquired": text(
                                    rows, f"gain_{measure}", f"{series}{DENOISED}", region, series
                                )
                                for series in SERIES
                            },
                        }
                    )
    keep(
        "denoised_first",
        "MP-PCA before super-resolution, each half of the blocks against the measured other half",
        lines,
    )
    keep(
        "denoised_first_gains",
        "MP-PCA before super-resolution: differences, intervals over blocks",
        gains,
    )


def half_of_volumes(work: Path, count: int, tr: float) -> NDArray[np.intp]:
    """Half (0 or 1) of the block that each volume belongs to: the one nearest in time, the
    response's delay counted.
    """
    blocks = load_effects(effects_of(work)["zerofill"]).blocks
    spans = [
        (block.half, onset, onset + lasts) for block in blocks for onset, lasts in block.events
    ]
    times = (np.arange(count) + 0.5) * tr - DELAY_S
    far = [np.maximum(np.maximum(onset - times, times - end), 0) for _, onset, end in spans]
    return np.array([half for half, _, _ in spans])[np.argmin(far, axis=0)]


def apart(source: Path, work: Path, out: Path) -> None:
    """A copy of a data set of one run whose halves are denoised without one another; scans but the
    BOLD are left.
    """
    shutil.copytree(source, out, ignore=shutil.ignore_patterns("*_bold.nii.gz", "anat"))
    (file,) = source.glob("sub-*/**/func/*_bold.nii.gz")
    image = nib.Nifti1Image.from_filename(file)
    data = np.asarray(image.dataobj, dtype=np.float32)
    halves = half_of_volumes(work, data.shape[3], float(image.header.get_zooms()[3]))
    for half in (0, 1):
        data[..., halves == half] = mppca(data[..., halves == half])
    header = image.header.copy()
    header.set_data_dtype(np.float32)
    save_image(data, np.asarray(image.affine), out / file.relative_to(source), header_like=header)
    print(f"{out}: halves of {np.bincount(halves).tolist()} volumes were denoised apart")


def main() -> int:
    """One subcommand."""
    command, given = (sys.argv[1] if len(sys.argv) > 1 else ""), sys.argv[2:]
    if command == "make" and len(given) == 2:
        mppca_dataset(*map(Path, given))
    elif command == "apart" and len(given) == 3:
        apart(*map(Path, given))
    elif command == "table" and given:
        table(given)
    else:
        sys.exit(__doc__)
    return 0


if __name__ == "__main__":
    sys.exit(main())
