"""Write the inputs of documented commands: a small file or data set for each name on a page.

A new input on a page needs a line in `FILES`.
"""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from commands import VARIABLES, Call, calls_of, codes_of, ours_within, script_of, with_values
from data.dataset import BidsMaker, affine_for
from data.fmriprep import FmriprepMaker
from data.group_tables import cohort
from pages import ROOT, blocks

from bids_sr.io.dataset_description import write_dataset
from bids_sr.spatial.matrices import kspace_crop
from bids_sr.sr.method import get_method
from bids_sr.sr.models.model import save_model
from bids_sr.version import __version__


class Sandbox:
    """A folder with the inputs of the commands of a page.

    `make_data` writes a data set of one participant to a folder; None: `noise`.
    """

    def __init__(
        self,
        folder: Path,
        page: str,
        text: str,
        make_data: Callable[[Path], None] | None = None,
    ) -> None:
        self.folder = folder.resolve()
        self.page = page
        self.text = text
        self.make_data = make_data or noise

    def script(self, code: str) -> str:
        """Return code of the page with values instead of capitals, and absolute paths below the
        folder.
        """
        return with_values(self.page, code).replace("/path/to/", f"{self.folder}/path/to/")

    def fill(self, script: str) -> None:
        """Write the missing files of `FILES` that a script mentions."""
        relative = re.sub(r"/path/to/\S*", "", script)
        before = r"(?<![\w.-])"
        for name, make in FILES.items():
            place = self.folder / name.removeprefix("/")
            is_absolute = name.startswith("/")
            pattern = rf"{'' if is_absolute else before}{re.escape(name)}(?![\w.-])"
            if re.search(pattern, script if is_absolute else relative) and not place.exists():
                if "*" not in name:
                    place.parent.mkdir(parents=True, exist_ok=True)
                make(self, place)

    def calls(self) -> list[Call]:
        """Return the calls of our programs on the page, also calls within other programs."""
        program_calls = []
        for code in codes_of(self.text):
            script = self.script(script_of(code))
            self.fill(script)
            for call in calls_of(script, self.folder, VARIABLES):
                inner = call if call.is_ours else ours_within(call)
                program_calls += [] if inner is None else [inner]
        return program_calls

    def series(self) -> Path:
        """Return the acquired run of a data set."""
        return self.data() / "sub-01/func/sub-01_task-tap_bold.nii.gz"

    def data(self) -> Path:
        """Return a data set that no page mentions."""
        place = self.folder / ".data"
        if not place.exists():
            self.make_data(place)
        return place


def noise(folder: Path) -> None:
    """Write a data set of one participant on a grid of a few hundred voxels."""
    BidsMaker(folder).subject()
    _list_participants(folder)


def _list_participants(folder: Path) -> None:
    (folder / "participants.tsv").write_text(
        "participant_id\tage\nsub-01\t30\nsub-02\t31\nsub-03\t32\n"
    )


def head(shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    """Return a textured ball on a dark background."""
    grid = np.indices(shape, float)
    middle = [(n - 1) / 2 for n in shape]
    radius = sum(((g - m) / (0.45 * n)) ** 2 for g, m, n in zip(grid, middle, shape, strict=True))
    texture = 1 + 0.3 * np.sin(grid[0] * 1.7) * np.cos(grid[1] * 1.3) + 0.1 * np.cos(grid[2])
    noise_ = np.random.default_rng(seed).normal(0, 2, shape)
    return np.asarray(np.where(radius < 1, 500 * texture, 5) + noise_, np.float32)


SHAPE = (64, 64, 32)
AFFINE = affine_for((3.0, 3.0, 3.0), fov=(192, 192, 96))


def _image(box: Sandbox, place: Path) -> None:
    nib.save(nib.Nifti1Image(head(SHAPE), AFFINE), place)


def _coarse(box: Sandbox, place: Path) -> None:
    low, affine = kspace_crop(head(SHAPE), AFFINE, factor=(2.0, 2.0, 1.0))
    nib.save(nib.Nifti1Image(low.astype(np.float32), affine), place)


def _scans(box: Sandbox, place: Path) -> None:
    """Write T1w images of two participants with names that match the pattern."""
    for label in ("01", "02"):
        path = box.folder / f"sub-{label}/anat/sub-{label}_T1w.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(head(SHAPE, int(label)), AFFINE), path)


def _people(box: Sandbox, place: Path) -> None:
    """Write T2*-weighted images of twelve participants into one folder."""
    (box.folder / "heads").mkdir(exist_ok=True)
    for number in range(1, 13):
        image = nib.Nifti1Image(head((96, 96, 8), number), AFFINE)
        nib.save(image, box.folder / f"heads/sub-{number:02}_T2starw.nii.gz")


def _t2w(box: Sandbox, place: Path) -> None:
    """Write a T2w image with a name that matches the pattern."""
    path = box.folder / "sub-01/anat/sub-01_T2w.nii.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(head((48, 48, 24)), AFFINE), path)


def _runs(box: Sandbox, place: Path) -> None:
    path = box.folder / "sub-01/func/sub-01_task-tap_bold.nii.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(box.series(), path)


def _data(box: Sandbox, place: Path) -> None:
    box.make_data(place)


def _data_of_cubes(box: Sandbox, place: Path) -> None:
    """Write a data set whose BOLD has isotropic voxels of 6 mm, with T2w images of two
    resolutions.

    The head of `Sandbox.make_data` is stretched along the slice axis.
    """
    box.make_data(place)
    shutil.rmtree(place / "derivatives", ignore_errors=True)  # known activation on another grid
    for path in sorted(place.glob("sub-01/*/*.nii.gz")):
        image = nib.load(path)
        stretched = image.affine.copy()
        stretched[2] *= 6 / nib.load(box.series()).header.get_zooms()[2]
        copy = nib.Nifti1Image(np.asarray(image.dataobj), stretched, image.header)
        nib.save(copy, path)
    anat = place / "sub-01" / "anat"
    _image(box, anat / "sub-01_acq-highres_T2w.nii.gz")
    _coarse(box, anat / "sub-01_acq-lowres_T2w.nii.gz")


def _data_of_tapping(box: Sandbox, place: Path) -> None:
    """Write a data set like Ota et al.: two conditions, and slices large enough for patches
    of 64.
    """
    maker = BidsMaker(place)
    maker.subject()
    maker.bold(zooms=(1.5, 1.5, 4.0), n_volumes=140, tr=0.5)
    maker.events(rows=[(35, 5, "thumb"), (45, 5, "little"), (55, 5, "thumb"), (62, 5, "little")])
    maker.star("sub-01_acq-highres", (0.75, 0.75, 4.0))
    maker.star("sub-01_acq-lowres", (1.5, 1.5, 4.0))
    _list_participants(place)


def _from_the_data(name: str) -> Callable[[Sandbox, Path], None]:
    def make(box: Sandbox, place: Path) -> None:
        shutil.copy(box.data() / name, place)

    return make


def _derivatives(box: Sandbox, place: Path) -> None:
    """Write a folder with the run as a derivative of another program."""
    BidsMaker.json(
        place / "dataset_description.json",
        {"Name": "denoised", "BIDSVersion": "1.9.0", "DatasetType": "derivative"},
    )
    func = place / "sub-01" / "func"
    func.mkdir(parents=True)
    shutil.copy(box.series(), func / "sub-01_task-tap_desc-denoised_bold.nii.gz")


def _fmriprep(box: Sandbox, place: Path) -> None:
    if (box.data() / "derivatives" / "ground-truth").exists():
        from data.fmriprep import of_phantom

        of_phantom(box.data(), place)
        return
    maker = FmriprepMaker(place)
    maker.anat(box.data() / "sub-01" / "anat" / "sub-01_T1w.nii.gz")
    maker.run(box.series())


def _model(box: Sandbox, place: Path) -> None:
    """Write an untrained network for images of 6 x 6 x 3 mm."""
    recipe = get_method("srgan").recipes["fast"]
    card = {
        "method": "srgan",
        "recipe": "fast",
        "settings": {"edition": recipe.edition},
        "factor": [2.0, 2.0, 1.0],
        "contrast": "T1w" if "T1w" in place.name else "T2starw",
        "orientation": "I-S",
        "resolution": {"lowres_mm": [6.0, 6.0, 3.0]},
    }
    torch.manual_seed(0)
    network = recipe.build_generator(1, (2.0, 2.0, 1.0))
    save_model(place.with_suffix(""), network.state_dict(), card)


def _block(language: str) -> Callable[[Sandbox, Path], None]:
    """Return a function that writes the only block of the page in a language."""

    def make(box: Sandbox, place: Path) -> None:
        [code] = [code for name, code in blocks(box.text) if name == language]
        place.write_text(code, encoding="utf-8")

    return make


def _example(box: Sandbox, place: Path) -> None:
    """Link the example of the repository, or write a data set if runs are computed."""
    if box.make_data is not noise:
        box.make_data(place)
        return
    place.symlink_to(ROOT / place.relative_to(box.folder))


FILES: dict[str, Callable[[Sandbox, Path], None]] = {
    **dict.fromkeys(("/path/to/bids", "COPY", "DATA", "RAW"), _data),
    "bids": _data_of_cubes,
    "tapping": _data_of_tapping,
    "DIR": _data,
    "FOLDER": _derivatives,
    "PREP": _fmriprep,
    "examples/studyforrest": _example,
    "denoised_bold.nii.gz": _from_the_data("sub-01/func/sub-01_task-tap_bold.nii.gz"),
    "model.json": _block("json"),
    "slurm.toml": _block("toml"),
    "sub-*/anat/*_T1w.nii.gz": _scans,
    "sub-*/anat/*_T2w.nii.gz": _t2w,
    "heads/sub-*_T2starw.nii.gz": _people,
    "sub-*/func/*_bold.nii.gz": _runs,
    "sub-01_acq-highres_T2starw.nii.gz": _image,
    "sub-01_acq-lowres_T2starw.nii.gz": _coarse,
    "few_T2starw.nii.gz": _image,
    "fine_T1w.nii.gz": _image,
    "fine_T2starw.nii.gz": _image,
    "coarse_T2starw.nii.gz": _coarse,
    "a.safetensors": _model,
    "b.safetensors": _model,
}
"""Function that writes each file, folder or pattern on a page."""


def finish(output_dir: Path) -> None:
    """Write tables and figures of participants, for the group level and the pages.

    The description names no data set, because the commands of a page have several.
    """
    write_dataset(output_dir, bids_dir=output_dir, version=__version__)
    file = output_dir / "dataset_description.json"
    description = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**description, "DatasetLinks": {}}), encoding="utf-8")
    for label in cohort(output_dir, 3):
        figures = output_dir / label / "figures"
        figures.mkdir(parents=True)
        (figures / f"{label}_desc-summary_T1w.html").write_text("<p>found</p>")
