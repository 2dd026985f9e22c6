"""Series and maps of a finished run against the measured high-resolution run, brought through the same steps.

python benchmarks/truth_maps.py OUT TRUTH_BIDS_DIR

The measured run gets the slice-time correction, head motion transforms, single interpolation, mask, model and smoothing
of the run under test; nothing is estimated from it.  PSNR and SSIM are means over steady volumes inside the brain mask,
with the 99th percentile of the mean measured volume in the mask as data range.
"""

import json
import sys
import tempfile
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
from _table import keep

from bids_sr.interfaces.head_motion import ImportSeries, SliceTiming
from bids_sr.interfaces.learning.method_steps import SuperResolve
from bids_sr.interfaces.statmap_interfaces import ActivationMaps
from bids_sr.io.nifti import SeriesReader, load_image
from bids_sr.metrics.image_similarity import psnr, ssim
from bids_sr.stats.glm.contrasts import resolve_contrasts


def brought_through(truth: Path, func: Path, stem: str, folder: Path, n_dummy: int, ref_fraction: float) -> Path:
    """The measured series on the run's high-resolution grid: slice timing, then one interpolation."""
    sidecar = json.loads(Path(str(truth).replace(".nii.gz", ".json")).read_text())
    series = ImportSeries(in_file=str(truth)).run(cwd=str(folder)).outputs.out_file
    timed = SliceTiming(
        in_file=series, slice_times=sidecar["SliceTiming"], ref_fraction=ref_fraction, n_dummy=n_dummy
    ).run(cwd=str(folder))
    mask = str(func / f"{stem}_res-hr_desc-brain_mask.nii.gz")
    resampled = SuperResolve(
        in_file=timed.outputs.out_file, series="raw", factor=(1.0, 1.0, 1.0), data_consistency="off", boldref=mask,
        mask=mask, hmc_xfms=str(func / f"{stem}_from-orig_to-boldref_mode-image_desc-hmc_xfm.txt"),
    ).run(cwd=str(folder))  # fmt: skip
    return Path(resampled.outputs.out_file)


def image_rows(names: list[str], func: Path, stem: str, measured: Path, mask: np.ndarray, n_dummy: int) -> list[dict]:
    """PSNR and SSIM of each series against the measured one, volume by volume."""
    with SeriesReader(measured) as reader:
        mean = np.mean(list(reader.volumes(n_dummy)), axis=0)
    top, rows = float(np.percentile(mean[mask], 99)), []
    for name in names:
        found = []
        with SeriesReader(func / f"{stem}_res-hr_desc-{name}_bold.nii.gz") as one, SeriesReader(measured) as other:
            for volume, true in zip(one.volumes(n_dummy), other.volumes(n_dummy), strict=True):
                found.append((
                    psnr(volume, true, data_range=top, mask=mask), ssim(volume, true, data_range=top, mask=mask),
                ))  # fmt: skip
        values = np.array(found)
        rows.append({"series": name, "PSNR (dB)": values[:, 0].mean(), "SSIM": values[:, 1].mean()})
    reference = next(row["PSNR (dB)"] for row in rows if row["series"] == "bspline")
    return [
        {"series": row["series"], "PSNR (dB)": round(row["PSNR (dB)"], 2),
         "over bspline": round(row["PSNR (dB)"] - reference, 2), "SSIM": round(row["SSIM"], 4)}
        for row in rows
    ]  # fmt: skip


def main() -> int:
    out, truth_dir = Path(sys.argv[1]), Path(sys.argv[2])
    truth = next(truth_dir.glob("sub-*/func/*_bold.nii.gz"))
    stem, func = truth.name.removesuffix("_bold.nii.gz"), out / truth.name.split("_")[0] / "func"
    settings = tomllib.loads(sorted(out.glob("logs/*/settings.toml"))[-1].read_text())["activation"]
    confounds = func / f"{stem}_desc-confounds_timeseries.tsv"
    n_dummy = sum("non_steady" in column for column in pd.read_csv(confounds, sep="\t", nrows=1).columns)
    mask_file = func / f"{stem}_res-hr_desc-brain_mask.nii.gz"
    mask = load_image(mask_file)[0] > 0.5
    names = sorted(p.name.split("desc-")[1].split("_")[0] for p in func.glob(f"{stem}_res-hr_desc-*_bold.nii.gz"))
    events = str(truth).replace("_bold.nii.gz", "_events.tsv")
    types = list(pd.read_csv(events, sep="\t").trial_type.dropna().unique())
    contrasts = {name: dict(weights) for name, weights in resolve_contrasts(types, []).items()}
    tr = json.loads(Path(str(truth).replace(".nii.gz", ".json")).read_text())["RepetitionTime"]
    maps = []
    with tempfile.TemporaryDirectory() as scratch:
        measured = brought_through(truth, func, stem, Path(scratch), n_dummy, 0.5)
        images = image_rows(names, func, stem, measured, mask, n_dummy)
        for fwhm in settings["smoothing"]:
            folder = Path(scratch, f"fwhm{fwhm}")
            folder.mkdir()
            done = ActivationMaps(
                in_file=str(measured), mask=str(mask_file), roi=str(mask_file), events_file=events,
                confounds_tsv=str(confounds), n_dummy=n_dummy, tr=tr, series="measured", fwhm_mm=float(fwhm),
                contrasts=contrasts, kinds=["glm"], high_pass=settings["high_pass"], slice_time_ref=0.5, has_stc=True,
                thresholds=["fdr"], factor=(2.0, 2.0, 1.0),
            ).run(cwd=str(folder))  # fmt: skip
            for path, entities in zip(done.outputs.out_files, done.outputs.out_entities, strict=True):
                if entities.get("stat") not in ("t", "effect"):
                    continue
                true = load_image(path)[0]
                active = mask & (np.abs(true) > 4) if entities["stat"] == "t" else mask
                for name in names:
                    desc = name + (f"Fwhm{round(10 * fwhm)}" if fwhm else "")
                    tail = f"contrast-{entities['contrast']}_stat-{entities['stat']}_desc-{desc}_statmap.nii.gz"
                    one = load_image(func / f"{stem}_res-hr_{tail}")[0]
                    maps.append({
                        "stat": entities["stat"], "contrast": entities["contrast"], "fwhm (mm)": fwhm, "series": name,
                        "r": round(float(np.corrcoef(one[mask], true[mask])[0, 1]), 4),
                        "r, measured |t| > 4": round(float(np.corrcoef(one[active], true[active])[0, 1]), 4)
                        if entities["stat"] == "t" and active.sum() > 10 else "",
                    })  # fmt: skip
    keep("truth_images", "Series against the measured run, through the same motion transforms", images)
    table = pd.DataFrame(maps)
    wide = table.pivot_table(index=["stat", "fwhm (mm)", "contrast"], columns="series", values="r").reset_index()
    keep("truth_maps", "Correlation of maps with those of the measured run, brain", wide.to_dict("records"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
