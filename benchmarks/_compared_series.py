"""Series of other programs, and controls: denoised, smoothed, with invented detail, shifted, truly
higher-resolution.

All are made from the acquired run, on its grid or on a grid twice as fine in plane over the same
field of view, and move like the run.
"""

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from bids_sr.io.atomic_files import write_json
from bids_sr.io.nifti import save_image
from bids_sr.phantom.bold_run import SimulatedRun, calibration_preset, simulate_bold_run
from bids_sr.phantom.physiology import simulate_transient
from bids_sr.phantom.presets import PRESETS
from bids_sr.phantom.simulated_dataset import make_dataset
from bids_sr.phantom.simulated_subject import SimulatedSubject
from bids_sr.phantom.study import Study
from bids_sr.preproc.multi_echo import combine_echoes
from bids_sr.spatial.masks import brain_mask
from bids_sr.spatial.matrices import upsample
from bids_sr.spatial.nyquist import FWHM_PER_SIGMA, beyond_nyquist
from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.transforms import resize_affine

Array = NDArray[Any]
FACTOR = (2.0, 2.0, 1.0)
RADIUS = 3  # voxels, radius of MP-PCA patches; 7 x 7 x 7 exceeds the number of volumes
SNR, VOLUMES, SEED, TES_MS = 120.0, 128, 4, (13.0, 29.0, 45.0)


def read(path: Path) -> tuple[Array, nib.Nifti1Image]:
    """Read a series as float32, and its image."""
    image = nib.Nifti1Image.from_filename(path)
    return np.asarray(image.dataobj, dtype=np.float32), image


def write(data: Array, like: nib.Nifti1Image, path: Path) -> None:
    """Write a series on the grid of another image, or on a finer grid over its field of view, with
    its repetition time.
    """
    affine = np.asarray(like.affine)
    if data.shape[:3] != like.shape[:3]:
        affine = resize_affine(affine, like.shape[:3], data.shape[:3])
    header = like.header.copy()
    header.set_data_dtype(np.float32)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_image(data.astype(np.float32), affine, path, header_like=header)
    write_json(
        path.with_name(path.name.replace(".nii.gz", ".json")),
        {"RepetitionTime": float(header["pixdim"][4])},
    )


def smoothed(data: Array, zooms: tuple[float, ...], fwhm_mm: float) -> Array:
    """Smooth every volume by a Gaussian (FWHM, mm)."""
    sigma = [fwhm_mm / FWHM_PER_SIGMA / zoom for zoom in zooms[:3]]
    return np.stack(
        [ndimage.gaussian_filter(data[..., t], sigma) for t in range(data.shape[-1])], axis=-1
    )


def mppca(series: Array) -> Array:
    """Denoise magnitudes by MP-PCA (Veraart et al. 2016) in the whole field of view.

    Needs dipy (`pip install -e '.[benchmarks]'`).
    """
    from dipy.denoise.localpca import mppca as denoise

    denoised = denoise(series.astype(np.float32), patch_radius=RADIUS, suppress_warning=True)
    return np.asarray(denoised, dtype=np.float32)


def zero_filled(data: Array) -> Array:
    """Zero-fill the series to the finer grid."""
    return np.stack(
        [upsample("zerofill", data[..., t], FACTOR) for t in range(data.shape[-1])], axis=-1
    )


def with_invented_noise(data: Array) -> Array:
    """Zero-fill, and add a fixed random pattern times the signal change above the acquired Nyquist
    frequency.

    The pattern is the same in every volume. Its amplitude is half of the change, and it repeats in
    both halves of the run, as true detail would.
    """
    fine = zero_filled(data)
    mean = fine.mean(-1, keepdims=True)
    pattern = np.random.default_rng(0).standard_normal(fine.shape[:3]).astype(np.float32)
    added = beyond_nyquist((fine - mean) * pattern[..., None], FACTOR)
    size = np.sqrt(np.mean((fine - mean) ** 2) / np.mean(added**2))
    return fine + np.float32(0.5 * size) * added.astype(np.float32)


def with_static_detail(data: Array, sharp: Array) -> Array:
    """Zero-fill, and multiply by the detail of a high-resolution image above the acquired Nyquist
    frequency.
    """
    fine = zero_filled(data)
    detail = beyond_nyquist(sharp.astype(np.float32), FACTOR)
    level = fine.mean(-1)
    floor = 0.25 * float(np.percentile(level, 98))
    factor = 1 + np.where(level > floor, detail / np.maximum(level, floor), 0)
    return fine * np.clip(factor, 0.25, 4.0)[..., None].astype(np.float32)


def damped(data: Array) -> Array:
    """Shrink every change from the mean: nothing is learned, but noise is closer to zero."""
    mean = data.mean(-1, keepdims=True)
    return mean + np.float32(0.8) * (data - mean)


def shifted(data: Array) -> Array:
    """Shift the values by one acquired voxel along the first axis, but keep the header."""
    return np.roll(data, 1, axis=0)


def make_series(
    acquired: Path, out: Path, *, sharp: Array, more: dict[str, Callable[[], Array]]
) -> None:
    """Make all series of a run; `sharp` is an image on the finer grid. Series in `more` are made
    unless they exist.
    """
    data, image = read(acquired)
    zooms = tuple(map(float, image.header.get_zooms()[:3]))
    makers: dict[str, Callable[[], Array]] = {
        "mppca": lambda: mppca(data),
        "smooth6": lambda: smoothed(data, zooms, 6.0),
        "inventedNoise": lambda: with_invented_noise(data),
        "inventedStatic": lambda: with_static_detail(data, sharp),
        "damped": lambda: damped(data),
        "shifted": lambda: shifted(data),
        **more,
    }
    for name, make in makers.items():
        path = out / f"{name}_bold.nii.gz"
        if not path.exists():
            write(make(), image, path)
            print(path, flush=True)


def make_controls(acquired: Path, out: Path) -> dict[str, Path]:
    """Write the acquired series itself: masked in four ways, zeroed at random, NaN outside, in
    other units.
    """
    data, image = read(acquired)
    mean = data.mean(-1)
    brain = brain_mask(mean, image.affine)
    level = float(np.median(mean[brain]))
    half = np.arange(data.shape[0])[:, None, None] < data.shape[0] // 2
    masks = {
        "tight": brain,
        "loose": ndimage.binary_dilation(brain, iterations=2),
        "eroded": ndimage.binary_erosion(brain, iterations=2),
        "half": np.broadcast_to(half, brain.shape),
        "zeroed": np.random.default_rng(1).random(brain.shape) > 0.15,
    }
    controls = {name: np.where(mask[..., None], data, 0) for name, mask in masks.items()}
    controls |= {"nan": np.where(brain[..., None], data, np.nan), "scaled": 30000 * data}
    controls |= {"brighter": data + 0.3 * level, "darker": data - 0.3 * level}
    for name, values in controls.items():
        write(values, image, out / f"{name}_bold.nii.gz")
    return {name: out / f"{name}_bold.nii.gz" for name in controls}


def fine_run(run: SimulatedRun) -> Iterator[Array]:
    """Simulate the phantom's run at twice the resolution, with the same head, motion and
    fluctuations, but independent noise.

    Its thermal noise equals the noise of the acquired voxels, which no scanner achieves in one
    volume.
    """
    preset = replace(
        calibration_preset(run.preset, run.preset.volumes),
        tr=run.preset.tr,
        multiband=run.preset.multiband,
    )
    plain = replace(run.scanner, grid=(preset.bold_shape, preset.bold_affine), shift=None)
    assert run.scanner.shift is not None
    shift = sample_volume(run.scanner.shift, run.scanner.dense_grid[1], *plain.dense_grid)
    scanner = replace(plain, shift=shift)
    transient = simulate_transient(run.subject.head, run.preset, scanner)
    fine = replace(
        run, preset=preset, scanner=scanner, transient=transient, stream=("calibration", 9)
    )
    return fine.volumes()


def make_phantom(out: Path) -> None:
    """Make a phantom with three echoes and the thermal noise of a fast run, and its series."""
    PRESETS["tiny"] = replace(PRESETS["tiny"], snr=SNR)
    study = Study(preset="tiny", seed=SEED, volumes=VOLUMES, echoes=TES_MS)
    data = out / "data"
    if not data.exists():
        make_dataset(data, study, threads=1, progress=print)
    func = data / "sub-01" / "func"
    echoes = [func / f"sub-01_task-tap_echo-{k}_bold.nii.gz" for k in (1, 2, 3)]
    combined = out / "combined_bold.nii"
    if not combined.exists():
        combine_echoes(echoes, TES_MS, combined)
    run = simulate_bold_run(SimulatedSubject(study.protocol, study.scene, seed=study.seed))
    finer = list[Array]()

    def measured() -> Array:
        finer.extend(fine_run(run))
        return np.stack(finer, axis=-1)

    sharp, _ = read(next((data / "derivatives").rglob("*res-hr_desc-noisefree_boldref.nii.gz")))
    make_series(combined, out / "series", sharp=sharp, more={"finer": measured})
    tedana(echoes, out / "tedana")
    denoised, image = read(out / "tedana" / "desc-denoised_bold.nii.gz")
    write(denoised, image, out / "series" / "tedana_bold.nii.gz")


def tedana(echoes: list[Path], out: Path) -> None:
    """Run tedana and return its denoised series."""
    if (out / "desc-denoised_bold.nii.gz").exists():
        return
    call = [sys.executable, "-c", "from tedana.workflows.tedana import _main; _main()"]
    call += [
        "-d",
        *map(str, echoes),
        "-e",
        *(f"{te / 1000:g}" for te in TES_MS),
        "--out-dir",
        str(out),
        "--seed",
        "42",
        "--no-reports",
    ]
    subprocess.run(call, check=True)


def make_real(low: Path, truth: Path, out: Path) -> None:
    """Downsample a measured run (`people.py data`), and make its series; `sharp` is the mean of
    the measured run.
    """
    (acquired,) = low.glob("sub-*/**/func/*_bold.nii.gz")
    (file,) = truth.glob("sub-*/**/func/*_bold.nii.gz")
    measured, _ = read(file)
    make_series(
        acquired,
        out / "series",
        sharp=measured[..., 5:].mean(-1),
        more={"finer": lambda: measured},
    )
