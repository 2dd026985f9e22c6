"""A run ready for `guided`: series, motion, mask, what guides it, and the kernels learned from it; for benchmarks."""

import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bids_sr.spatial.boldref import estimate_run
from bids_sr.spatial.masks import brain_mask
from bids_sr.spatial.nifti import SeriesReader, SeriesWriter, load_image
from bids_sr.spatial.resample import sample_volume
from bids_sr.spatial.transforms import hr_grid, read_itk
from bids_sr.sr.guided_train import TrainingSeries, fit_series
from bids_sr.sr.guides import PosedImage, match_gain, smooth_for
from bids_sr.sr.infer import Upsampler, make_upsampler
from bids_sr.sr.method import SeriesRecipe, get_method
from bids_sr.sr.model import LoadedModel
from bids_sr.sr.networks.kernelnet import GUIDES, KernelNet
from bids_sr.sr.temporal import TemporalStatistics, motion_courses, temporal_statistics

FACTOR = (2.0, 2.0, 1.0)
DUMMIES = 4  # of the phantom, which begins before the steady state
Array = NDArray[Any]


def one(root: Path, pattern: str) -> Path:
    """The only file of a pattern."""
    found = sorted(root.glob(pattern))
    if len(found) != 1:
        sys.exit(f"{root}: {len(found)} files match {pattern}, not one")
    return found[0]


@dataclass(kw_only=True)
class Run:
    """One run: acquired series (uncompressed), the same with motion undone, poses, reference, brain, guides by kind."""

    folder: Path
    acquired: Path
    corrected: Path
    poses: Array
    boldref: Array
    mask: Array
    affine: Array
    guides: dict[str, PosedImage | None]
    statistics: TemporalStatistics

    def posed(self, kind: str) -> Array | None:
        """A guide on the fine grid in the pose of the reference."""
        guide = self.guides[kind]
        fine, grid = hr_grid(self.boldref.shape, self.affine, FACTOR)
        return None if guide is None else guide.seen(fine, grid, np.eye(4))

    def training(self, kind: str, factor: tuple[float, float, float] = FACTOR) -> TrainingSeries:
        """What is learned from."""
        return TrainingSeries(
            statistics=self.statistics, mask=self.mask, affine=self.affine, factor=factor, guide=self.posed(kind),
            guide_kind=kind,
        )  # fmt: skip

    def upsampler(self, model: LoadedModel, kind: str, threads: int = 1) -> Upsampler:
        """Kernels of a model on this run."""
        gain = match_gain(self.posed(kind), self.boldref, self.mask) if kind == "highres" else 1.0
        return make_upsampler(
            "guided", FACTOR, affine=self.affine, model=model, guide=self.guides[kind], gain=gain,
            statistics=self.statistics, mask=self.mask, threads=threads,
        )  # fmt: skip


def prepare(root: Path, folder: Path, *, still: bool = False, components: int = 40, noise: float = 1.5) -> Run:
    """Unpack a run, estimate motion, undo it once on the acquired grid.

    root: data set with one run and a pair. Where it has ground truth (a phantom), registrations come from there; else
    the fine image must be on the run's field of view. still: take the head for unmoving, undo nothing. noise: see
    `temporal_statistics`.
    """
    acquired, corrected = folder / "acquired.nii", folder / "corrected.nii"
    with SeriesReader(one(root, "sub-*/func/*_bold.nii.gz")) as reader:
        with SeriesWriter(acquired, reader.shape, reader.affine, reader.tr, header_like=reader.header) as writer:
            for volume in reader.volumes():
                writer.append(volume)
        affine, tr, shape = reader.affine, reader.tr, reader.shape
    truth = root / "derivatives" / "ground-truth"
    with SeriesReader(acquired) as reader:
        if truth.exists():
            boldref = load_image(
                next(p for p in truth.glob("sub-*/func/*noisefree_boldref.nii.gz") if "res-hr" not in p.name)
            )[0]
        else:
            boldref = np.mean([reader.volume(t) for t in range(0, shape[3], 4)], 0)
        mask = brain_mask(boldref, affine)
        poses = np.repeat(np.eye(4)[None], shape[3], 0)
        if not still:
            poses = estimate_run(reader, boldref, mask).matrices
        with SeriesWriter(corrected, shape, affine, tr, header_like=reader.header) as writer:
            for t, volume in enumerate(reader.volumes()):
                writer.append(sample_volume(volume, affine, shape[:3], affine, poses[t]))
    center = affine[:3, :3] @ np.argwhere(mask).mean(0) + affine[:3, 3]
    nuisance = None if still else motion_courses(poses, center)
    with SeriesReader(corrected) as reader:
        statistics = temporal_statistics(reader, mask, DUMMIES if truth.exists() else 0, components, noise, nuisance)
    guides = _guides(root, truth, boldref.shape, affine)
    return Run(
        folder=folder, acquired=acquired, corrected=corrected, poses=poses, boldref=boldref, mask=mask, affine=affine,
        guides=guides, statistics=statistics,
    )  # fmt: skip


def _guides(root: Path, truth: Path, shape: tuple[int, ...], affine: Array) -> dict[str, PosedImage | None]:
    data, own = load_image(one(root, "sub-*/anat/*acq-highres_T2starw.nii.gz"))
    to_highres = np.eye(4)
    out: dict[str, PosedImage | None] = {"none": None}
    if truth.exists():
        to_highres = np.linalg.inv(read_itk(one(truth, "sub-*/anat/*from-highres_to-boldref*.txt"))[0])
        t1w, t1w_affine = load_image(one(root, "sub-*/anat/*_T1w.nii.gz"))
        to_t1w = np.linalg.inv(read_itk(one(truth, "sub-*/func/*from-T1w_to-boldref*.txt"))[0])
        _, grid = hr_grid(shape, affine, FACTOR)
        smooth = smooth_for(t1w, t1w_affine, to_t1w, grid)
        out["t1w"] = PosedImage(data=smooth, affine=t1w_affine, from_boldref=to_t1w)
    return out | {"highres": PosedImage(data=data, affine=own, from_boldref=to_highres)}


def recipe_with(*, width: int = 32, depth: int = 5, **changes: Any) -> SeriesRecipe:
    """The recipe with other numbers."""
    recipe = get_method("guided").recipes["fast"]
    assert isinstance(recipe, SeriesRecipe)
    if (width, depth) != (32, 5):
        changes["build_generator"] = lambda _, factor: KernelNet(GUIDES, width=width, depth=depth)
    return replace(recipe, **changes)


def learn(data: TrainingSeries, recipe: SeriesRecipe, *, seed: int = 0, threads: int = 1) -> tuple[LoadedModel, Any]:
    """(model, what `fit_series` gave)."""
    with tempfile.TemporaryDirectory() as work:
        made = fit_series(
            get_method("guided"), recipe, data, recipe_name="fast", seed=seed, work_dir=work, threads=threads
        )  # fmt: skip
    net = recipe.build_generator(1, data.factor)
    net.load_state_dict(dict(made.state))
    return LoadedModel(generator=net.eval().requires_grad_(False), recipe=recipe, card=made.card), made
