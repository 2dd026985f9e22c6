"""Heads, trainings of equal processor time and figures; for
benchmarks/{transfer,training_resolution}.py.
"""

import math
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from _kept import plain, read_note, refuse_others, write_arrays, write_note
from _methods_run import Pace, pace_of, shortened
from numpy.typing import NDArray

from bids_sr.metrics.image_similarity import rmse, ssim
from bids_sr.phantom.head import Head, make_head
from bids_sr.phantom.poses import draw_pose
from bids_sr.phantom.presets import PRESETS
from bids_sr.phantom.scanner import Scanner
from bids_sr.phantom.still_scans import LEVEL, PROTOCOLS
from bids_sr.spatial.resampling import sample_volume
from bids_sr.sr.data.images import TrainingImage, TrainingImages, checksums
from bids_sr.sr.inference.acquired import UpsamplerInputs
from bids_sr.sr.inference.apply_to_series import make_upsampler
from bids_sr.sr.inference.network_upsampler import NetworkUpsampler
from bids_sr.sr.method import get_method
from bids_sr.sr.models.card import plain_recipe
from bids_sr.sr.models.model import LoadedModel, TrainedModel, load_model, save_model
from bids_sr.sr.recipe import Recipe
from bids_sr.sr.resolution.matrices import block_matrix, degrade
from bids_sr.sr.training.job import TrainingRequest
from bids_sr.sr.training.trainer import fit
from bids_sr.stats.group.paired_tests import paired_t
from bids_sr.stats.image.image_resolution import effective_resolution

Array = NDArray[Any]
Row = dict[str, Any]
Grid = tuple[tuple[int, int, int], Array]
Factor = tuple[float, float, float]
SNR = 40.0  # mean of the brain over the noise of each component, in every contrast
MEASURES = ("rmse", "ssim", "resolution")


@dataclass(frozen=True, kw_only=True)
class Volume:
    """A fine image on its grid, and the voxels that count."""

    image: Array
    mask: NDArray[np.bool_]
    affine: Array

    @property
    def zooms(self) -> Array:
        """Voxel size (mm), (3,)."""
        return np.sqrt((self.affine[:3, :3] ** 2).sum(0))

    def cut(self, *window: slice) -> "Volume":
        """A box of it; axes that are not named stay whole."""
        window += (slice(None),) * (3 - len(window))
        affine = np.array(self.affine, dtype=float)
        affine[:3, 3] += affine[:3, :3] @ [part.start or 0 for part in window]
        image = np.ascontiguousarray(self.image[window], np.float32)
        return Volume(image=image, mask=np.ascontiguousarray(self.mask[window]), affine=affine)

    def brought_down(self, factor: Factor) -> "Volume":
        """Its block means."""
        if factor == (1, 1, 1):
            return self
        image, affine = degrade(self.image, self.affine, factor, block_matrix)
        share, _ = degrade(self.mask.astype(np.float32), self.affine, factor, block_matrix)
        return Volume(image=image.astype(np.float32), mask=share > 0.5, affine=affine)

    def to_train(self, contrast: str, name: str) -> TrainingImage:
        """As an image to train on, whose coarse copy the recipe makes."""
        return TrainingImage(
            fine=self.image, mask=self.mask, affine=self.affine, contrast=contrast, name=name
        )


@lru_cache(maxsize=1)
def _head(seed: int, voxel: float) -> Head:
    return make_head(np.random.default_rng([seed, 0]), voxel)


def _signal(head: Head, contrast: str) -> Array:
    """The head under the phantom's own protocol of that contrast, mean of the brain `LEVEL`."""
    protocols = PROTOCOLS | {"T2starw": PRESETS["demo"].pair_sequence}
    return protocols[contrast].scaled_scene(head, LEVEL)


def phantom(seed: int, contrast: str, grid: Grid, folder: Path, voxel: float = 1.0) -> Volume:
    """A scan of a simulated head; all contrasts of a head are in one pose. Kept in `folder`.

    voxel : of the scene (mm)
    """
    shape, affine = grid
    refuse_others(
        folder / "phantoms.json", {"grid": [shape, affine.tolist()], "scene mm": voxel, "SNR": SNR}
    )
    path = folder / f"head{seed}_{contrast}_{'x'.join(map(str, shape))}.npz"
    if not path.exists():
        head, pose = (
            _head(seed, voxel),
            draw_pose(np.random.default_rng([seed, 1]), (1.0, 4.0), (1.0, 4.0)),
        )
        low_shape = (shape[0] // 2, shape[1] // 2, shape[2])
        scanner = Scanner(
            grid=grid,
            pose=pose,
            head_affine=head.affine,
            coil=seed,
            unevenness=0.15,
            low_shape=low_shape,
        )
        rng = np.random.default_rng([seed, 2, *contrast.encode()])
        image = scanner.still(_signal(head, contrast), LEVEL / SNR, rng)
        mask = sample_volume(head.brain.astype(np.float32), head.affine, shape, affine, pose) > 0.5
        write_arrays(path, image=image, mask=mask)
    with np.load(path) as kept:
        return Volume(image=kept["image"], mask=kept["mask"], affine=affine)


@dataclass(frozen=True, kw_only=True)
class School:
    """Where models are trained and kept: one that is there is not trained again.

    folder : of the models; `patch`, `batch` : exchanged in the fast recipe
    """

    folder: Path
    factor: Factor
    patch: tuple[int, int, int]
    batch: int
    threads: int

    def recipe(self, method: str, last: int | None) -> Recipe:
        """The fast recipe on the patches of this benchmark."""
        return replace(
            get_method(method).recipes["fast"],
            patch=self.patch,
            batch=self.batch,
            freeze_but_last=last,
        )

    def learn(
        self,
        label: str,
        method: str,
        images: Sequence[TrainingImage],
        seconds: float,
        seed: int,
        *,
        start: LoadedModel | None = None,
        last: int | None = None,
    ) -> tuple[LoadedModel, Row]:
        """(model, what it took): the whole schedule in as many steps as fit into that processor
        time.

        label : of the model's file; start, last : warm start, and how many layers it goes on
            training
        """
        refuse_others(
            self.folder / "school.json",
            {"factor": self.factor, "patch": self.patch, "batch": self.batch},
        )
        stem = self.folder / f"{label}_{method}_{seconds:g}s_seed{seed}"
        notes = stem.with_name(f"{stem.name}.run.json")
        recipe, data = self.recipe(method, last), tuple(images)
        if not notes.exists():
            steps = self._pace(method, recipe, data, start).steps(seconds)
            made, busy = self._fit(method, shortened(recipe, steps), data, seed, start)
            save_model(stem, made.state, made.card)
            write_note(notes, {"steps": steps, "processor seconds": round(busy, 1)})
            sys.stderr.write(f"{stem.name}: {steps} steps, {busy:.0f} s\n")
        model, took = load_model(stem.with_name(f"{stem.name}.safetensors")), read_note(notes)
        others = self._others(model, shortened(recipe, took["steps"]), data, start)
        if others:
            sys.exit(
                f"{stem.name} has another {', '.join(others)} than is asked for; give another"
                " --work"
            )
        return model, took

    def _others(
        self, model: LoadedModel, recipe: Recipe, data: TrainingImages, start: LoadedModel | None
    ) -> list[str]:
        """In what a kept model differs from the one that is wanted, by its card."""
        wanted = plain(
            {
                "data_sha256": checksums(data),
                "factor": self.factor,
                "settings": plain_recipe(recipe),
                "started_from": None if start is None else start.card.weights_sha256,
            }
        )
        card = {key: model.card.json.get(key) for key in wanted}
        card["started_from"] = model.card.start_sha256
        card["settings"] = {key: card["settings"].get(key) for key in wanted["settings"]}
        return [key for key in wanted if card[key] != wanted[key]]

    def _pace(
        self, method: str, recipe: Recipe, data: TrainingImages, start: LoadedModel | None
    ) -> Pace:
        """What a training costs; measured once for a method, its frozen layers and the number of
        images.
        """
        path = self.folder / f"pace_{method}_{recipe.freeze_but_last}_{len(data)}.json"
        if not path.exists():
            pace = pace_of(recipe, lambda some: self._fit(method, some, data, 0, start)[1])
            write_note(path, vars(pace))
        return Pace(**read_note(path))

    def _fit(
        self,
        method: str,
        recipe: Recipe,
        data: TrainingImages,
        seed: int,
        start: LoadedModel | None,
    ) -> tuple[TrainedModel, float]:
        begun = time.process_time()
        with tempfile.TemporaryDirectory() as work:
            made = fit(
                TrainingRequest(
                    method=get_method(method),
                    recipe="fast",
                    changed=recipe,
                    factor=self.factor,
                    seed=seed,
                    threads=self.threads,
                    start=start,
                ),
                data,
                Path(work),
            )
        return made, time.process_time() - begun

    def raised(self, name: str, model: LoadedModel | None, fine: Volume) -> Array:
        """The block means of a volume on its own grid again, by an interpolation or a model."""
        coarse = fine.brought_down(self.factor)
        up = make_upsampler(
            name,
            UpsamplerInputs(
                factor=self.factor,
                affine=coarse.affine,
                threads=self.threads,
                scale=float(np.percentile(coarse.image[coarse.mask], 99)),
            ),
            model,
        )
        if isinstance(up, NetworkUpsampler) and up.volumetric:
            up.at_once = 1 << 23  # in one piece: patches that overlap cost several times as much
        return up(coarse.image, np.eye(4))


def figures(fine: Volume, image: Array) -> Row:
    """RMSE (% of the 99th percentile), SSIM (that percentile as range) and voxel / K (mm) inside
    the mask.
    """
    span = float(np.percentile(fine.image[fine.mask], 99))
    sharp = effective_resolution(image, fine.zooms, fine.mask)
    return {
        "rmse": 100 * rmse(fine.image, image, mask=fine.mask) / span,
        "ssim": ssim(fine.image, image, data_range=span, mask=fine.mask),
        "resolution": math.nan if sharp is None else sharp,
    }


def gains(own: Array, cubic: Array) -> Array:
    """By how many per cent errors are smaller than those of the cubic interpolation; negative
    where larger.
    """
    return 100 * (1 - own / cubic)


def spread(values: Array) -> str:
    """Mean and standard deviation, signed."""
    return (
        f"{values.mean():+.2f} ± {values.std(ddof=1):.2f}"
        if len(values) > 1
        else f"{values.mean():+.2f}"
    )


def paired_p(differences: Array) -> float:
    """p of a paired t test; NaN where it cannot be computed."""
    return paired_t(differences)["p_t"]


def mean_over_seeds(
    rows: Sequence[Row], keys: Sequence[str], case: str
) -> dict[tuple[Any, ...], dict[str, Array]]:
    """Figures of each setting as arrays over cases (heads, slabs), each the mean over seeds.

    keys : columns that make up a setting; case : the column that tells cases apart, in whose order
        the arrays are
    """
    out: dict[tuple[Any, ...], dict[str, Array]] = {}
    for setting in dict.fromkeys(tuple(row[key] for key in keys) for row in rows):
        own = [row for row in rows if tuple(row[key] for key in keys) == setting]
        cases = sorted({row[case] for row in own})
        out[setting] = {
            measure: np.array(
                [np.mean([row[measure] for row in own if row[case] == one]) for one in cases]
            )
            for measure in MEASURES
        }
    return out
