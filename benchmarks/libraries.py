"""Compare our own implementations with those of libraries, in accuracy and processor time.

python benchmarks/libraries.py head_motion|noise|resampling|tissues|sliding_window|figures

Processor times are of this process on one thread, and of one table they are from one call: their
ratios can be compared, not the seconds of different tables. `sliding_window` needs monai, and
`figures` needs nireports (`pip install -e '.[benchmarks]'`). Writes
benchmarks/results/libraries_NAME.{json,md}.
"""

from __future__ import annotations

import argparse
import os
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[variable] = "1"
os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = "1"

import nibabel as nib  # noqa: E402
import numpy as np  # noqa: E402
from _libraries_noise import RUN, Row, Table, noise, timed  # noqa: E402
from _table import keep  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from scipy import ndimage  # noqa: E402

from bids_sr.io.volume import Volume  # noqa: E402

Array = NDArray[Any]


def head_motion() -> Table:
    """Compare errors over 24 known poses, 3 seeds of 8 (`hmc.py`, condition "plain")."""
    from hmc import AFFINE, Scanner, by_ants, motion_rows, ours

    from bids_sr.preproc.ants import AntsOptions, RegistrationStage, read_linear, register

    def by_tuned_ants(series: Array, reference: Array, scanner: Scanner) -> list[Array]:
        """Register with all voxels of the head and global correlation, two levels."""
        stage = RegistrationStage(
            transform="Rigid[0.1]",
            metric="GC",
            iterations=(200, 100),
            shrink=(2, 1),
            mm=(4.0, 0.0),  # the most accurate of five settings
            sampling=1.0,
        )
        fixed = Volume(reference.astype(np.float32), AFFINE)
        with tempfile.TemporaryDirectory() as folder:
            return [
                read_linear(
                    register(
                        fixed,
                        fixed.like(volume),
                        [stage],
                        options=AntsOptions(seed=0, prefix=f"{folder}/"),
                        fixed_mask=scanner.mask,
                    )[0]
                )
                for volume in series
            ]

    tools = {
        "ours": ours,
        "ants.motion_correction, BOLDRigid": by_ants,
        "antsRegistration, tuned": by_tuned_ants,  # last, as it makes ants deterministic
    }
    scanner = Scanner(None)
    rows = [
        row
        for name, tool in tools.items()
        for row in motion_rows(scanner, "plain", {name: tool}, 3, 8, 8)
    ]
    return rows, []


def resampling() -> Table:
    """Compare cubic splines on a turned grid and on a finer parallel grid."""
    from bids_sr.spatial.resampling import sample_volume
    from bids_sr.spatial.transforms import rigid_matrix

    def by_scipy(matrix: Array, shape: tuple[int, ...]) -> Array:
        return ndimage.affine_transform(
            volume, matrix[:3, :3], matrix[:3, 3], shape, np.float32, order=3, mode="nearest"
        )

    rng = np.random.default_rng(0)
    volume = ndimage.gaussian_filter(rng.random((80, 80, 40)), 1.0).astype(np.float32)
    turned = rigid_matrix([1, -2, 0.5, 0.03, -0.02, 0.01], np.array([40, 40, 20]))
    rows = []
    for grid, matrix, shape in (
        ("turned by 2 degrees", turned, (80, 80, 40)),
        ("twice as fine, parallel", np.diag([0.5, 0.5, 1.0, 1.0]), (160, 160, 40)),
    ):
        arguments = (volume, np.eye(4), shape, matrix)
        sample_volume(*arguments)  # compiles the loops
        values, seconds = timed(sample_volume, *arguments, repeats=10)
        scipy_values, scipy_seconds = timed(by_scipy, matrix, shape, repeats=10)
        rows.append(
            {
                "grid": grid,
                "ours, CPU s": seconds,
                "scipy.ndimage, CPU s": scipy_seconds,
                "scipy / ours": scipy_seconds / seconds,
                "largest difference / SD": float(
                    np.abs(values - scipy_values).max() / volume.std()
                ),
            }
        )
    return rows, []


def tissues() -> Table:
    """Compare gray and white matter of simulated heads, given the same priors and bias field.

    Priors are the true fractions smoothed by 6 mm, as in a mean of many heads.
    """
    from bids_sr.phantom.presets import PRESETS
    from bids_sr.phantom.simulated_subject import SimulatedSubject
    from bids_sr.phantom.still_scans import simulate_t1w
    from bids_sr.preproc.ants import load_ants, to_ants
    from bids_sr.preproc.bias_field import correct_bias_field
    from bids_sr.preproc.mixture_segmentation import compute_tissue_probabilities
    from bids_sr.spatial.resampling import sample_volume
    from bids_sr.spatial.transforms import invert

    ants = load_ants(0)

    def by_atropos(
        data: Array, mask: Array, priors: Array, weight: float, iterations: int
    ) -> Array:
        image, mask_image, *prior_images = (
            to_ants(Volume(part.astype(np.float32), scan.affine), 0)
            for part in (data, mask, *priors)
        )
        segmentation = ants.atropos(
            image,
            mask_image,
            prior_images,
            m="[0.1,1x1x1]",
            c=f"[{iterations},0]",
            priorweight=weight,
        )
        return np.stack([part.numpy() for part in segmentation["probabilityimages"]])

    rows = []
    for number in range(2):
        subject = SimulatedSubject(PRESETS["demo"], "ribbon", seed=1, number=number)
        head, scan = subject.head, simulate_t1w(subject)
        grid = (scan.image.shape, scan.affine, subject.bold_pose @ invert(scan.pose))
        *fractions, brain = (
            sample_volume(part.astype(np.float32), head.affine, *grid, order=1)
            for part in (*(head.fractions[name] for name in ("gm", "wm", "csf")), head.brain)
        )
        mask, truth = brain > 0.5, np.argmax(fractions, axis=0)
        priors = np.stack([ndimage.gaussian_filter(part, 6 / 2.355) for part in fractions])
        image = Volume(scan.image, scan.affine)
        data = correct_bias_field(image, mask, seed=0, iterations=(50, 50, 50)).data
        for name, segment, *settings in (
            ("ours", compute_tissue_probabilities),
            ("Atropos, weight of priors .25, 5 iterations", by_atropos, 0.25, 5),
            ("Atropos, weight of priors .5, 10 iterations", by_atropos, 0.5, 10),
        ):
            probabilities, seconds = timed(segment, data, mask, priors, *settings)
            row: Row = {"head": number, "method": name}
            for tissue, label in enumerate(("GM", "WM")):
                labeled = np.argmax(probabilities, axis=0)[mask] == tissue
                true = truth[mask] == tissue
                row[f"Dice, {label}"] = 2 * (labeled & true).sum() / (labeled.sum() + true.sum())
            rows.append({**row, "CPU s": seconds})
    return rows, []


def sliding_window() -> Table:
    """Compare patches with the whole image, for a network of three convolutions (radius 3)."""
    import torch

    started = time.process_time()
    import monai
    from monai.inferers import sliding_window_inference

    import_seconds = time.process_time() - started

    from bids_sr.sr.networks.inference.sliding_window import apply_in_patches

    torch.manual_seed(0)
    torch.set_num_threads(1)
    layers: list[Any] = []
    for channels in ((1, 8), (8, 8), (8, 1)):
        layers += [torch.nn.Conv3d(*channels, 3, padding=1), torch.nn.ReLU()]
    network = torch.nn.Sequential(*layers[:-1])
    volume = torch.randn(1, 80, 80, 80)
    patch, overlap, margin = 48, 16, 3

    weights = torch.full((patch,), 1e-6)
    weights[margin:-margin] = 1
    margins = torch.einsum("x,y,z->xyz", weights, weights, weights)[None, None]

    def by_monai(mode: str, weight_map: Any = None) -> Any:
        with torch.no_grad():
            return sliding_window_inference(
                volume[None],
                patch,
                1,
                network,
                overlap=overlap / patch,
                mode=mode,
                roi_weight_map=weight_map,
            )[0]

    with torch.no_grad():
        whole = network(volume[None])[0]
    tools: dict[str, Callable[[], Any]] = {
        "ours": lambda: apply_in_patches(
            network, volume, patch=patch, overlap=overlap, margin=margin
        ),
        f"monai {monai.__version__}, constant": lambda: by_monai("constant"),
        f"monai {monai.__version__}, gaussian": lambda: by_monai("gaussian"),
        f"monai {monai.__version__}, our margins as weights": lambda: by_monai(
            "constant", margins
        ),
    }
    rows = []
    for name, tool in tools.items():
        output, seconds = timed(tool)
        error = (output - whole).abs() / whole.std()
        rows.append(
            {
                "patches": name,
                "largest error / SD": float(error.max()),
                "voxels with error above .01 SD, %": 100 * float((error > 0.01).float().mean()),
                "CPU s": seconds,
            }
        )
    return rows, [f"Importing monai.inferers after torch takes {import_seconds:.1f} s."]


def figures() -> Table:
    """Count drawn values that are values of the image, and pixels of another size (example).

    Each figure shows axial planes of the mean volume, whose slices are oblique.
    """
    import nireports
    from matplotlib import pyplot
    from nilearn.plotting import plot_epi
    from nireports.reportlets.mosaic import plot_mosaic

    from bids_sr.report.figures.slices import image_figure, make_gray_layer, make_row, spread_cuts

    series = nib.load(RUN)
    mean = np.asarray(series.dataobj, dtype=np.float32).mean(axis=3)
    image = nib.Nifti1Image(mean, series.affine)
    volume = Volume(mean, series.affine)
    brain = Volume(mean > 0.4 * mean.max(), series.affine)

    row = make_row("", spread_cuts(brain, 5.0, (2, 7)), make_gray_layer(volume))
    display = plot_epi(image, display_mode="z", cut_coords=7, colorbar=False)
    mosaic = pyplot.figure()
    with tempfile.TemporaryDirectory() as folder:
        nib.save(image, f"{folder}/mean.nii.gz")
        plot_mosaic(f"{folder}/mean.nii.gz", f"{folder}/mean.svg", fig=mosaic)
    page = Path(nireports.__file__).parent / "assembler" / "data" / "report.tpl"
    remote_files = re.findall(r'(?:src|href)="https?://[^"]+\.(?:js|css)"', page.read_text())
    drawn = {
        "ours": image_figure([row]),
        "nilearn plot_epi": display.frame_axes.figure,
        "nireports plot_mosaic": mosaic,
    }
    rows = []
    for name, figure in drawn.items():
        values = [
            np.ma.compressed(np.ma.masked_invalid(shown.get_array()))
            for axes in figure.axes
            for shown in axes.images
            if np.ptp(shown.get_array())
        ]
        pixels = np.concatenate(values).astype(np.float32)
        rows.append(
            {
                "figure": name,
                "planes": len(values),
                "pixels": len(pixels),
                "pixels with a value of the image, %": 100 * float(np.isin(pixels, mean).mean()),
            }
        )
    remark = (
        f"The page template of nireports {nireports.__version__} loads {len(remote_files)} files"
        " from other hosts. Its mosaic shows all slices of one image, and takes overlays by voxel"
        " index."
    )
    return rows, [remark]


COMPARISONS = {
    "head_motion": (head_motion, "Head motion: 24 known poses, ours and ANTs"),
    "noise": (
        noise,
        "Noise models: variance of a contrast and false positives, ours and nilearn's",
    ),
    "resampling": (resampling, "Cubic spline interpolation, ours and scipy's"),
    "tissues": (tissues, "Gray and white matter of simulated heads, ours and Atropos"),
    "sliding_window": (
        sliding_window,
        "Networks in patches, ours and MONAI's: difference from the whole image",
    ),
    "figures": (
        figures,
        "Figures of slices, ours, nilearn's and nireports': values that are drawn",
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=COMPARISONS)
    name = parser.parse_args().name
    compare, title = COMPARISONS[name]
    rows, remarks = compare()
    keep(f"libraries_{name}", title, rows, remarks=remarks)


if __name__ == "__main__":
    main()
