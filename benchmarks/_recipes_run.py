"""What a recipe's step costs, what its training log says, and its series judged; for
benchmarks/recipes.py.
"""

import csv
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _methods_run import Judge, Scene, brain
from _pair import Pair
from numpy.typing import NDArray
from phantom_models import pair_of
from superres import FACTOR, one
from torch.utils.flop_counter import FlopCounterMode

from bids_sr.io.nifti import SeriesReader, SeriesWriter, load_image
from bids_sr.metrics.image_similarity import psnr, ssim
from bids_sr.spatial.nyquist import beyond_nyquist
from bids_sr.spatial.resampling import sample_volume
from bids_sr.spatial.transforms import read_itk
from bids_sr.sr.inference.acquired import UpsamplerInputs
from bids_sr.sr.inference.apply_to_series import Upsampler, make_upsampler
from bids_sr.sr.models.model import LoadedModel
from bids_sr.sr.recipe import Recipe
from bids_sr.sr.training.update_steps import Networks
from bids_sr.stats.glm.regressors import read_events
from bids_sr.stats.glm.statmaps import ActivationSettings, map_activation

Array = NDArray[Any]
CONTENT = "content loss of batches"
TRUE_SHARE = 0.25  # of the largest true change: the voxels that count as active


def is_phantom(root: Path) -> bool:
    """Whether the truth of a data set is known because it was simulated."""
    return (root / "derivatives" / "ground-truth").is_dir()


def training_pair(root: Path) -> Pair:
    """The pair of a data set; a phantom's fine image is brought into the coarse one's pose."""
    if is_phantom(root):
        return pair_of(root)
    lowres, affine = load_image(one(root, "sub-*/anat/*acq-lowres_T2starw.nii.gz"))
    highres, _ = load_image(one(root, "sub-*/anat/*acq-highres_T2starw.nii.gz"))
    return Pair(
        lowres=lowres, highres=highres, mask=brain(lowres), lowres_affine=affine, factor=FACTOR
    )


def work_of_a_step(recipe: Recipe, pair: Pair) -> dict[bool, float]:
    """Floating-point operations (1e12) of one step without and with the critic."""
    examples, nets = pair.examples(recipe), Networks(recipe, pair.factor)
    batch = examples.batch(
        np.random.default_rng(0), examples.train, iteration=0, seed=0, size=recipe.batch
    )
    found = {}
    for adversarial in (False, True):
        with FlopCounterMode(display=False) as counter:
            fake = nets.generator(batch.input)
            for _ in range(recipe.critic_steps if adversarial else 0):
                nets.critics_step(batch, fake)
            nets.generators_step(batch, fake, adversarial)
        found[adversarial] = counter.get_total_flops() / 1e12
    return found


def work_after(steps: int, recipe: Recipe, work: Mapping[bool, float]) -> float:
    """Operations (1e12) of the first steps of a training."""
    alone = min(steps, recipe.adversarial_from)
    return alone * work[False] + (steps - alone) * work[True]


def curve(
    log: Sequence[Mapping[str, Any]], recipe: Recipe, work: Mapping[bool, float], seed: int
) -> list[dict]:
    """Held-out PSNR against work; of many looks some 60, evenly in the logarithm of work, the best
    and the last.

    The content loss of the batch trained on at a look is told where the log has it, as mean over
    the looks since the row before: a single batch says little.
    """
    rows = [
        {
            "seed": seed,
            "iteration": int(row["iteration"]),
            "work (1e12)": round(work_after(int(row["iteration"]), recipe, work), 3),
            "held-out PSNR (dB)": round(float(row["psnr"]), 3),
        }
        for row in log
    ]
    best = int(np.argmax([row["held-out PSNR (dB)"] for row in rows]))
    told = range(len(rows))
    if len(rows) > 60:
        told = sorted({*(np.geomspace(1, len(rows), 90).round().astype(int) - 1).tolist(), best})
    if all("content" in row for row in log):
        for before, k in zip([-1, *told][:-1], told, strict=True):
            loss = np.mean([float(row["content"]) for row in log[before + 1 : k + 1]])
            rows[k][CONTENT] = float(f"{loss:.3g}")
    return [rows[k] for k in told]


def read_log(path: Path) -> list[dict[str, str]]:
    """Rows of a training's log, also of one that still goes on."""
    with path.open() as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A run at low resolution and the same run as it was measured at high resolution."""

    scene: Scene
    judge: Judge
    maps: bool

    @classmethod
    def read(cls, root: Path, truth: Path, work: Path, *, every: int, maps: bool) -> "Measured":
        """Open both."""
        scene = Scene.read(root, work)
        return cls(scene=scene, judge=Judge.read(scene, truth, every, maps=maps), maps=maps)

    def scores(self, name: str, model: LoadedModel | None, threads: int) -> dict[str, float]:
        """PSNR and SSIM, means over every n-th volume; correlation of the t map with that of the
        measured run.
        """
        found = self.judge.scores(
            self.scene.upsampler(name, model, threads), self.scene.volumes, maps=self.maps
        )
        return {
            "PSNR (dB)": found["psnr"],
            "SSIM": found["ssim"],
            **(
                {"t map r": found["t r"], "t map r, active": found["t r active"]}
                if self.maps
                else {}
            ),
        }


@dataclass(frozen=True, kw_only=True)
class Known:
    """A phantom's run and what was put into it; its head motion is undone with the known
    transforms.
    """

    volumes: list[Array]
    affine: Array
    fine: Array
    poses: Array
    dummies: int
    rest: Array
    change: Array
    inside: NDArray[np.bool_]
    scale: float
    events: Path
    tr: float
    every: int
    maps: bool

    @classmethod
    def read(cls, root: Path, *, every: int, maps: bool) -> "Known":
        """Open run and truth."""
        folder = root / "derivatives" / "ground-truth"
        run = one(root, "sub-*/func/*_bold.nii.gz")
        with SeriesReader(run) as reader:
            volumes, affine, tr = list(reader.volumes()), reader.affine, reader.tr
        rest, fine = load_image(one(folder, "sub-*/func/*res-hr_desc-noisefree_boldref.nii.gz"))
        changes = sorted(
            folder.glob("sub-*/func/*res-hr_contrast-*_stat-effect_desc-truth_statmap.nii.gz")
        )
        motion = one(folder, "sub-*/func/*from-orig_to-boldref_mode-image_desc-truth_xfm.txt")
        dummies = int(
            json.loads(motion.with_suffix(".json").read_text())["NumberOfNonSteadyVolumes"]
        )
        boldref = np.mean(volumes[dummies:], axis=0)
        mask = brain(boldref)
        return cls(
            volumes=volumes,
            affine=affine,
            fine=fine,
            poses=read_itk(motion),
            dummies=dummies,
            rest=rest,
            change=np.mean([load_image(path)[0] for path in changes], axis=0),
            inside=np.kron(mask, np.ones((2, 2, 1))) > 0,
            scale=float(np.percentile(boldref[mask], 99)),
            events=Path(str(run).replace("_bold.nii.gz", "_events.tsv")),
            tr=tr,
            every=every,
            maps=maps,
        )

    def scores(self, name: str, model: LoadedModel | None, threads: int) -> dict[str, float]:
        """PSNR and SSIM of the mean volume against the noise-free image at rest; maps against the
        known change.

        r of t over the brain and where the change is large; r of the effect beyond the acquired
        Nyquist limit.
        """
        given = {"affine": self.affine} if model is None else {"model": model, "threads": threads}
        up = make_upsampler(name, UpsamplerInputs(factor=FACTOR, scale=self.scale, **given))
        chosen = (
            range(len(self.volumes))
            if self.maps
            else range(self.dummies, len(self.volumes), self.every)
        )
        steady = [t for t in chosen if t >= self.dummies]
        mean = np.zeros(self.rest.shape)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "series.nii")
            with SeriesWriter(path, (*self.rest.shape, len(chosen)), self.fine, self.tr) as writer:
                for t in chosen:
                    image = self._still(up, t)
                    mean += (t in steady) * image / len(steady)
                    writer.append(image)
            span = float(np.percentile(self.rest[self.inside], 99))
            out = {
                "PSNR (dB)": psnr(self.rest, mean, data_range=span, mask=self.inside),
                "SSIM": ssim(self.rest, mean, data_range=span, mask=self.inside),
            }
            return out | (self._maps(path, Path(folder)) if self.maps else {})

    def _still(self, up: Upsampler, t: int) -> Array:
        """A volume made as it was acquired, then brought to where the head lay in the first steady
        one.
        """
        image = up(self.volumes[t], np.eye(4))
        return np.asarray(
            sample_volume(image, self.fine, self.rest.shape, self.fine, self.poses[t])
        )

    def _maps(self, path: Path, scratch: Path) -> dict[str, float]:
        events = read_events(self.events)
        types = events.conditions
        settings = ActivationSettings(
            tr=self.tr, n_dummy=self.dummies, kinds=("glm",), confound_names=()
        )
        with SeriesReader(path) as reader:
            found = map_activation(
                reader,
                self.inside,
                events,
                {"all": dict.fromkeys(types, 1 / len(types))},
                settings,
                scratch=scratch / "courses",
            )
        true, t = self.change, found.maps["all", "t"]
        active = self.inside & (true > TRUE_SHARE * true.max())
        fine = [
            beyond_nyquist(image, FACTOR)[self.inside]
            for image in (found.maps["all", "effect"], true)
        ]
        return {
            "t map r": float(np.corrcoef(t[self.inside], true[self.inside])[0, 1]),
            "t map r, active": float(np.corrcoef(t[active], true[active])[0, 1]),
            "effect r beyond Nyquist": float(np.corrcoef(*fine)[0, 1]),
        }
