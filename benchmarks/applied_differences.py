"""Intervals of a difference between two sessions with known activity, if `sbl` is applied.

python benchmarks/applied_differences.py OUT [SEED ...]

The runs of `bids-sr-phantom` have few fluctuations besides thermal noise, so that `sbl` is not
applied to them. Here, activity and fluctuations are in the same folded sheets, thinner than the
acquired voxels. In the second session, one type is 30 % stronger in half of the head, and the head
is displaced by .4 mm in plane. The difference of the program is compared with the known
difference. Datasets and outputs stay in OUT.
"""

import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from _table import keep
from scipy.ndimage import fourier_shift, gaussian_filter

from bids_sr.glm.hemodynamic_response import HemodynamicResponse
from bids_sr.glm.regressors import read_events
from bids_sr.io.map_metadata import select_map_metadata
from bids_sr.io.nifti import save_image
from bids_sr.spatial.matrices import kspace_crop
from bids_sr.spatial.resampling import sample_volume

SHAPE, ZOOMS, FACTOR = (96, 96, 12), (2.0, 2.0, 4.0), (2.0, 2.0, 1.0)
COUNT, TR = 120, 2.0
TYPES = ("thumb", "little")
ACTIVITY, FLUCTUATIONS, THERMAL = 0.03, 0.01, 0.004  # relative to the mean
N_MODES = 40  # independent fluctuations
CHANGE, SHIFT_MM = 0.3, (0.4, -0.3, 0.0)
CONTRAST, LABEL = "thumb@ses-2 - thumb@ses-1", "thumbSes2MinusThumbSes1"
ACTIVE_T = 4.0


def make_affine():
    """Return the affine of the fine grid, centered."""
    affine = np.diag([*ZOOMS, 1.0])
    affine[:3, 3] = -(np.array(SHAPE) - 1) / 2 * ZOOMS
    return affine


def displace(images):
    """Shift images (K, X, Y, Z) in k-space."""
    shift = np.divide(SHIFT_MM, ZOOMS)
    return np.stack([np.fft.ifftn(fourier_shift(np.fft.fftn(i), shift)).real for i in images])


def make_head(rng):
    """Return the head, patterns of both types, and fluctuations (unit peak or SD)."""
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij"))
    brain = (grid[0] / 0.8) ** 2 + (grid[1] / 0.88) ** 2 < 1
    texture = gaussian_filter(rng.normal(size=SHAPE), (1.5, 1.5, 0.5))
    head = brain * (700 + 100 * texture / texture.std())
    folds = gaussian_filter(rng.normal(size=SHAPE), (3, 3, 1))
    sheets = brain * np.exp(-0.5 * np.square(folds / (0.3 * folds.std())))

    def draw(count, width):
        fields = gaussian_filter(rng.normal(size=(count, *SHAPE)), (0, width, width, width / 2))
        return sheets * fields / fields.std()

    patterns = np.clip(draw(len(TYPES), 6), 0, None)
    return head, patterns / patterns.max(), draw(N_MODES, 4) / np.sqrt(N_MODES)


def write_session(folder, name, head, patterns, modes, rng):
    """Write a run of a session."""
    func = folder / "sub-01" / f"ses-{name}" / "func"
    func.mkdir(parents=True)
    stem = func / f"sub-01_ses-{name}_task-tap"
    events = pd.DataFrame(
        [(6 + 14.0 * k, 8.0, TYPES[k % 2]) for k in range(int(COUNT * TR / 14) - 1)],
        columns=["onset", "duration", "trial_type"],
    )
    events_file = Path(f"{stem}_events.tsv")
    events.to_csv(events_file, sep="\t", index=False)
    times = (np.arange(COUNT) + 0.5) * TR
    responses = read_events(events_file).responses(times, HemodynamicResponse())
    courses = gaussian_filter(rng.normal(size=(N_MODES, COUNT)), (0, 1))
    courses /= courses.std()
    volumes = []
    for volume in range(COUNT):
        change = sum(
            ACTIVITY * responses[name][volume, 0] * pattern
            for name, pattern in zip(TYPES, patterns, strict=True)
        )
        change = change + FLUCTUATIONS * np.tensordot(courses[:, volume], modes, 1)
        fine = head + 700 * change
        coarse, affine = kspace_crop(fine.astype(np.float32), make_affine(), factor=FACTOR)
        real, imaginary = rng.normal(0, 700 * THERMAL, (2, *coarse.shape))
        volumes.append(np.hypot(coarse + real, imaginary))
    series = np.stack(volumes, axis=-1).astype(np.float32)
    save_image(series, affine, Path(f"{stem}_bold.nii.gz"), tr=TR)
    sidecar = {"TaskName": "tap", "RepetitionTime": TR, "EchoTime": 0.03}
    Path(f"{stem}_bold.json").write_text(json.dumps(sidecar))


def make_dataset(folder, seed):
    """Write a dataset of two sessions, and return the known difference on the fine grid."""
    rng = np.random.default_rng(seed)
    head, patterns, modes = make_head(rng)
    larger = patterns.copy()
    larger[0, : SHAPE[0] // 2] *= 1 + CHANGE
    if not folder.exists():
        folder.mkdir(parents=True)
        description = {"Name": "two sessions", "BIDSVersion": "1.9.0"}
        (folder / "dataset_description.json").write_text(json.dumps(description))
        write_session(folder, "1", head, patterns, modes, rng)
        moved = displace(np.stack([head]))[0]
        write_session(folder, "2", moved, displace(larger), displace(modes), rng)
    return 700 * ACTIVITY * (larger[0] - patterns[0])


def measure(out, seed):
    """Yield the coverage of the intervals by region."""
    data, results = out / f"data-{seed}", out / f"out-{seed}"
    change = make_dataset(data, seed)
    if not (results / "done").exists():
        program = [str(Path(sys.executable).with_name("bids-sr")), str(data), str(results)]
        program += ["participant", "--contrasts", "defaults", CONTRAST, "--sr-method", "sbl"]
        program += ["--smoothing", "0", "--level", "full", "--skip-bids-validation"]
        subprocess.run([*program, "--nprocs", "1", "-w", str(out / f"work-{seed}")], check=True)
        (results / "done").touch()

    def load(contrast, stat):
        name = f"*res-hr_contrast-{contrast}_stat-{stat}_desc-sbl_statmap.nii.gz"
        (file,) = (results / "sub-01/func").glob(name)
        return nib.load(file)

    image = load(LABEL, "effect")
    (sidecar,) = (results / "sub-01/func").glob("*_res-hr_desc-sbl_statmap.json")
    facts = select_map_metadata(json.loads(sidecar.read_text()), LABEL, "effect")
    change *= 100 / facts["MeanSignal"]
    truth = sample_volume(change, make_affine(), image.shape, image.affine)
    effect, sd, total = (
        np.asarray(load(LABEL, stat).dataobj) for stat in ("effect", "sd", "sdTotal")
    )
    active = np.abs(np.asarray(load("thumb", "t").dataobj)) > ACTIVE_T
    brain = total > 0
    for region, where in (
        ("brain", brain),
        ("active in both sessions together", brain & active),
        ("with a change", brain & (truth > 0.1 * truth.max())),
    ):
        error = (effect - truth)[where]
        noise = np.sqrt(np.square(total) - np.square(sd))[where]
        yield {
            "seed": seed,
            "left out": len(facts["RunsLeftOut"]),
            "not applied": len(facts.get("NotAppliedIn", ())),
            "region": region,
            "voxels": int(where.sum()),
            "coverage": float(np.mean(np.abs(error) < 1.96 * total[where])),
            "coverage, noise alone": float(np.mean(np.abs(error) < 1.96 * noise)),
            "rms error, %": float(np.sqrt(np.square(error).mean())),
            "rms change, %": float(np.sqrt(np.square(truth[where]).mean())),
            "median SD, %": float(np.median(sd[where])),
            "median total SD, %": float(np.median(total[where])),
        }


def main(out, *seeds):
    """Measure the coverage of all seeds."""
    rows = [row for seed in seeds or ("1", "2", "3") for row in measure(Path(out), int(seed))]
    keep("applied_differences", "Difference of two sessions with `sbl` applied", rows)


if __name__ == "__main__":
    main(*sys.argv[1:])
