"""Series and maps of a finished run against the measured high-resolution run, brought through the
same steps.

python benchmarks/truth_maps.py OUT TRUTH_BIDS_DIR      (OUT: of --level full, which stores all
series and maps)

The measured run gets the slice-time correction, head motion transforms, single interpolation,
mask, model and smoothing of the run under test; nothing is estimated from it.  PSNR and SSIM are
means over steady volumes inside the brain mask, with the 99th percentile of the mean measured
volume in the mask as data range.
"""

import json
import sys
import tempfile
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
from _table import keep

from bids_sr.io.grids import AS_STORED
from bids_sr.io.nifti import SeriesReader, load_image
from bids_sr.io.volume import Volume
from bids_sr.metrics.image_similarity import psnr, ssim
from bids_sr.spatial.transforms import read_itk
from bids_sr.stats.glm.contrasts import resolve_contrasts
from bids_sr.stats.glm.design import default_confounds
from bids_sr.stats.glm.regressors import read_events
from bids_sr.stats.glm.statmaps import ActivationSettings, map_activation
from bids_sr.steps.motion import correct_slice_timing, import_series
from bids_sr.steps.super_resolution import place_measured


def brought_through(
    truth: Path, func: Path, stem: str, folder: Path, n_dummy: int, ref_fraction: float
) -> Path:
    """Measured series on the run's high-resolution grid: slice timing, then one interpolation."""
    sidecar = json.loads(Path(str(truth).replace(".nii.gz", ".json")).read_text())
    bold = import_series(truth, folder, tr=sidecar["RepetitionTime"], axis_order=AS_STORED)
    timed = correct_slice_timing(
        bold,
        folder,
        slice_times=sidecar["SliceTiming"],
        slice_time_ref=ref_fraction,
        n_dummy=n_dummy,
    )
    mask = Volume(*load_image(func / f"{stem}_res-hr_desc-brain_mask.nii.gz"))
    poses = read_itk(func / f"{stem}_from-orig_to-boldref_mode-image_desc-hmc_xfm.txt")
    return place_measured(timed, mask, poses, here=folder)[0].path


def image_rows(
    names: list[str], func: Path, stem: str, measured: Path, mask: np.ndarray, n_dummy: int
) -> list[dict]:
    """PSNR and SSIM of each series against the measured one, volume by volume."""
    with SeriesReader(measured) as reader:
        mean = np.mean(list(reader.volumes(n_dummy)), axis=0)
    top, rows = float(np.percentile(mean[mask], 99)), []
    for name in names:
        found = []
        with (
            SeriesReader(func / f"{stem}_res-hr_desc-{name}_bold.nii.gz") as one,
            SeriesReader(measured) as other,
        ):
            for volume, true in zip(one.volumes(n_dummy), other.volumes(n_dummy), strict=True):
                found.append(
                    (
                        psnr(volume, true, data_range=top, mask=mask),
                        ssim(volume, true, data_range=top, mask=mask),
                    )
                )
        values = np.array(found)
        rows.append(
            {"series": name, "PSNR (dB)": values[:, 0].mean(), "SSIM": values[:, 1].mean()}
        )
    reference = next(row["PSNR (dB)"] for row in rows if row["series"] == "bspline")
    return [
        {
            "series": row["series"],
            "PSNR (dB)": round(row["PSNR (dB)"], 2),
            "over bspline": round(row["PSNR (dB)"] - reference, 2),
            "SSIM": round(row["SSIM"], 4),
        }
        for row in rows
    ]


def main() -> int:
    out, truth_dir = Path(sys.argv[1]), Path(sys.argv[2])
    truth = next(truth_dir.glob("sub-*/func/*_bold.nii.gz"))
    stem, func = truth.name.removesuffix("_bold.nii.gz"), out / truth.name.split("_")[0] / "func"
    settings = tomllib.loads(sorted(out.glob("logs/*/settings.toml"))[-1].read_text())[
        "activation"
    ]
    confounds = pd.read_csv(
        func / f"{stem}_desc-confounds_timeseries.tsv", sep="\t", na_values="n/a"
    )
    n_dummy = sum("non_steady" in column for column in confounds)
    mask = load_image(func / f"{stem}_res-hr_desc-brain_mask.nii.gz")[0] > 0.5
    names = sorted(
        p.name.split("desc-")[1].split("_")[0]
        for p in func.glob(f"{stem}_res-hr_desc-*_bold.nii.gz")
    )
    events = read_events(truth.with_name(f"{stem}_events.tsv"))
    contrasts = resolve_contrasts(events.conditions, [])
    tr = json.loads(Path(str(truth).replace(".nii.gz", ".json")).read_text())["RepetitionTime"]
    maps = []
    with tempfile.TemporaryDirectory() as scratch:
        measured = brought_through(truth, func, stem, Path(scratch), n_dummy, 0.5)
        images = image_rows(names, func, stem, measured, mask, n_dummy)
        for fwhm in settings["smoothing"]:
            how = ActivationSettings(
                kinds=("glm",),
                confound_names=default_confounds(confounds),
                n_dummy=n_dummy,
                tr=tr,
                fwhm_mm=float(fwhm),
                high_pass=settings["high_pass"],
                has_stc=True,
            )
            with SeriesReader(measured) as reader:
                found = map_activation(
                    reader,
                    mask,
                    events,
                    contrasts,
                    how,
                    scratch=Path(scratch, "courses.raw"),
                    confounds=confounds,
                )
            for (contrast, stat), true in found.maps.items():
                if stat not in ("t", "effect"):
                    continue
                active = mask & (np.abs(true) > 4) if stat == "t" else mask
                for name in names:
                    desc = name + (f"Fwhm{round(10 * fwhm)}" if fwhm else "")
                    tail = f"contrast-{contrast}_stat-{stat}_desc-{desc}_statmap.nii.gz"
                    one = load_image(func / f"{stem}_res-hr_{tail}")[0]
                    maps.append(
                        {
                            "stat": stat,
                            "contrast": contrast,
                            "fwhm (mm)": fwhm,
                            "series": name,
                            "r": round(float(np.corrcoef(one[mask], true[mask])[0, 1]), 4),
                            "r, measured |t| > 4": (
                                round(float(np.corrcoef(one[active], true[active])[0, 1]), 4)
                                if stat == "t" and active.sum() > 10
                                else ""
                            ),
                        }
                    )
    keep(
        "truth_images",
        "Series against the measured run, through the same motion transforms",
        images,
    )
    table = pd.DataFrame(maps)
    wide = table.pivot_table(
        index=["stat", "fwhm (mm)", "contrast"], columns="series", values="r"
    ).reset_index()
    keep(
        "truth_maps",
        "Correlation of maps with those of the measured run, brain",
        wide.to_dict("records"),
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
