"""Methods trained for a stated time of the processor, and their series scored; for
benchmarks/{methods,tv}.py.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from _files import FACTOR, one
from _pair import Pair
from numpy.typing import NDArray
from scipy import ndimage

from bids_sr.io.nifti import SeriesReader, SeriesWriter, load_image
from bids_sr.metrics.image_similarity import psnr, rmse, ssim
from bids_sr.sr.data.images import TrainingImage
from bids_sr.sr.data.temporal_components import TemporalStatistics, halves_of, temporal_statistics
from bids_sr.sr.inference.acquired import UpsamplerInputs
from bids_sr.sr.inference.apply_to_series import Upsampler, make_upsampler
from bids_sr.sr.inference.guided_baselines import PosedImage, match_gain
from bids_sr.sr.method import Method, get_method, get_recipe
from bids_sr.sr.method import recipe_name as own_name
from bids_sr.sr.models.model import LoadedModel, TrainedModel, load_model, save_model
from bids_sr.sr.recipe import Recipe, RecipeName
from bids_sr.sr.training.job import TrainingRequest
from bids_sr.sr.training.trainer import fit
from bids_sr.sr.variance.fit_variance import fit_variance
from bids_sr.sr.variance.run_data import _LEAST_HALF, RunData
from bids_sr.stats.evaluation.agreement import Key, Reference
from bids_sr.stats.evaluation.effects_of_run import RunEffects
from bids_sr.stats.evaluation.references import measured_halves
from bids_sr.stats.glm.block_effects import Effects, block_effects, save_effects
from bids_sr.stats.glm.blocks import TooFewBlocks, block_design
from bids_sr.stats.glm.regressors import read_events
from bids_sr.stats.glm.statmaps import ActivationSettings, map_activation
from bids_sr.stats.image.image_resolution import effective_resolution

Array = NDArray[Any]
LOOKS = 10  # at the held-out part, evenly over the training
VOLUMES = 8  # of the run, for methods that are trained on the run's own volumes
COMPONENTS = 40
EXPLAINED = {
    "ev": "explained variance",
    "r": "r beyond",
    "amplitude": "recovered amplitude",
    "correct_fraction": "right share",
}


def brain(image: Array) -> NDArray[np.bool_]:
    """Bright voxels with their holes filled, slice by slice."""
    bright = image > 0.2 * np.percentile(image, 98)
    return np.stack([ndimage.binary_fill_holes(bright[..., z]) for z in range(image.shape[2])], -1)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A run at low resolution and the pair of its head; the truth is not among it."""

    run: Path
    pair: Pair
    highres: Array
    fine: Array
    affine: Array
    boldref: Array
    mask: NDArray[np.bool_]
    volumes: list[Array]

    @classmethod
    def read(cls, root: Path, work: Path) -> "Scene":
        """Load a data set with one run and one pair; what reads the run by slabs wants it
        unpacked, in `work`.
        """
        run = work / "acquired.nii"
        lowres, grid = load_image(one(root, "sub-*/anat/*acq-lowres_T2starw.nii.gz"))
        highres, fine = load_image(one(root, "sub-*/anat/*acq-highres_T2starw.nii.gz"))
        pair = Pair(
            lowres=lowres, highres=highres, mask=brain(lowres), lowres_affine=grid, factor=FACTOR
        )
        with SeriesReader(one(root, "sub-*/func/*_bold.nii.gz")) as reader:
            volumes, affine = list(reader.volumes()), reader.affine
            with SeriesWriter(
                run, reader.shape, affine, reader.tr, header_like=reader.header
            ) as writer:
                for volume in volumes:
                    writer.append(volume)
        boldref = np.mean(volumes, axis=0)
        return cls(
            run=run,
            pair=pair,
            highres=highres,
            fine=fine,
            affine=affine,
            boldref=boldref,
            mask=brain(boldref),
            volumes=volumes,
        )

    @property
    def scale(self) -> float:
        """The run's intensity that is 1 for a network."""
        return float(np.percentile(self.boldref[self.mask], 99))

    @property
    def gain(self) -> float:
        """Of the fine image to the run's intensity."""
        return match_gain(self.highres, self.boldref, self.mask)

    @cached_property
    def statistics(self) -> TemporalStatistics:
        """The run over time, motion left in: nothing is undone on either side compared."""
        with SeriesReader(self.run) as reader:
            return temporal_statistics(reader, self.mask, 0, COMPONENTS, 1.5, None)

    @cached_property
    def over_time(self) -> RunData:
        """The run as variance maps are found of it."""
        with SeriesReader(self.run) as reader:
            halves = halves_of(reader, self.mask, 0, COMPONENTS, None, _LEAST_HALF)
        return RunData(
            statistics=self.statistics,
            halves=halves,
            mask=self.mask,
            affine=self.affine,
            factor=FACTOR,
        )

    def upsampler(self, name: str, model: LoadedModel | None, threads: int) -> Upsampler:
        """A baseline, or a model."""
        return make_upsampler(
            name,
            UpsamplerInputs(
                factor=FACTOR,
                affine=self.affine,
                scale=self.scale,
                threads=threads,
                gain=self.gain,
                guide=PosedImage(data=self.highres, affine=self.fine),
                mask=self.mask,
                mean=PosedImage(data=self.boldref, affine=self.affine),
                statistics=(
                    self.statistics
                    if model is not None and model.card.trained_on == "series"
                    else None
                ),
            ),
            model,
        )


def shortened(recipe: Recipe, steps: int, looks: int = LOOKS) -> Recipe:
    """A recipe that runs through its whole schedule in that many steps: no early end, no second
    training.
    """
    share = steps / max(1, recipe.steps)
    return replace(
        recipe,
        iterations=steps,
        epochs=None,
        patches=None,
        patience=None,
        refit=False,
        evaluate_every=max(1, steps // looks),
        adversarial_from=round(recipe.adversarial_from * share),
        decay_from=round(recipe.decay_from * recipe.steps_an_epoch * share),
    )


def train(
    scene: Scene,
    method: Method,
    recipe: Recipe,
    name: RecipeName,
    seed: int,
    threads: int,
    vgg: Path | None,
) -> tuple[TrainedModel, float]:
    """(what training gave, seconds of processor)."""
    asked = TrainingRequest(
        method=method,
        recipe=name,
        changed=recipe,
        factor=FACTOR,
        seed=seed,
        threads=threads,
        vgg_weights=vgg,
    )
    begun = time.process_time()
    with tempfile.TemporaryDirectory() as work:
        if method.trained_on == "series":
            made = fit_variance(asked, scene.over_time)
        else:
            images = (scene.pair.image(),)
            if method.trained_on == "self":
                some = np.linspace(0, len(scene.volumes) - 1, VOLUMES).round().astype(int)
                images = tuple(
                    TrainingImage(
                        coarse=scene.volumes[t],
                        mask=scene.mask,
                        affine=scene.affine,
                        contrast="bold",
                        name=f"{t}",
                    )
                    for t in some
                )
            made = fit(asked, images, Path(work))
    return made, time.process_time() - begun


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Seconds of processor that a training takes once, for a step, and for a look at what is held
    out.
    """

    once: float
    step: float
    look: float

    def steps(self, seconds: float) -> int:
        """Steps that fit into that time, beside the looks."""
        return max(2, int((seconds - self.once - LOOKS * self.look) / self.step))


def pace_of(recipe: Recipe, seconds_of: Callable[[Recipe], float]) -> Pace:
    """What a training costs, from three short ones; `seconds_of` trains with a recipe.

    `shortened` keeps the share of the steps that have no adversarial term, so these cost what
    those of a long one do.
    """
    few, more = 5, 15
    seconds_of(shortened(recipe, 2, 1))  # caches and lazy imports
    short, long_, watched = (
        seconds_of(shortened(recipe, n, looks)) for n, looks in ((few, 1), (more, 1), (more, 15))
    )
    step = max(1e-4, (long_ - short) / (more - few))
    look = max(0.0, (watched - long_) / (more - 1))
    return Pace(once=max(0.0, short - few * step - look), step=step, look=look)


def trained(
    scene: Scene,
    label: str,
    recipe_name: RecipeName,
    minutes: float,
    seed: int,
    folder: Path,
    threads: int,
    vgg: Path | None,
    pace: dict[str, Pace],
) -> Path:
    """Train a method for its minutes, or find it trained; beside the model lies NAME.run.json with
    what it took.
    """
    stem = folder / f"{label}_{recipe_name}_{round(60 * minutes)}s_seed{seed}"
    weights, notes = stem.with_suffix(".safetensors"), stem.with_suffix(".run.json")
    if weights.exists() and notes.exists():
        return weights
    method = get_method(label)
    recipe = get_recipe(method, own_name(method, recipe_name))
    of_run = method.trained_on == "series"  # nothing is trained, whatever the budget
    if label not in pace and not of_run:
        pace[label] = pace_of(
            recipe, lambda one: train(scene, method, one, recipe_name, 0, threads, vgg)[1]
        )
    steps = 0 if of_run else pace[label].steps(60 * minutes)
    sys.stderr.write(f"{label}, {minutes:g} min, seed {seed}: {steps} steps\n")
    short = recipe if of_run else shortened(recipe, steps)
    made, busy = train(scene, method, short, recipe_name, seed, threads, vgg)
    save_model(stem, made.state, made.card)
    curve = [
        {"step": r["iteration"], "psnr": r["psnr"]}
        for r in made.log
        if isinstance(r.get("psnr"), float)
    ]
    notes.write_text(
        json.dumps(
            {
                "method": label,
                "recipe": recipe_name,
                "minutes": minutes,
                "seed": seed,
                "steps": steps,
                "steps of the recipe": 0 if of_run else recipe.steps,
                "processor seconds": round(busy, 1),
                "held-out curve": curve,
                "parameters": int(made.card["parameters"]),
                "vgg": vgg is not None,
            }
        )
        + "\n"
    )
    return weights


@dataclass(frozen=True, kw_only=True)
class Judge:
    """The measured run; made after all models are trained."""

    truth: list[Array]
    inside: NDArray[np.bool_]
    span: float
    events: Path
    fine: Array
    tr: float
    header: Any
    every: int
    t_map: Array | None
    halves: tuple[RunEffects, Reference] | None = None

    @classmethod
    def read(cls, scene: Scene, root: Path, every: int, *, maps: bool) -> "Judge":
        """Open the truth."""
        run = one(root, "sub-*/func/*_bold.nii.gz")
        with SeriesReader(run) as reader:
            truth, fine, tr, header = (
                list(reader.volumes()),
                reader.affine,
                reader.tr,
                reader.header,
            )
        inside = np.kron(scene.mask, np.ones((2, 2, 1))) > 0
        span = float(np.percentile(np.mean(truth, axis=0)[inside], 99))
        events = Path(str(run).replace("_bold.nii.gz", "_events.tsv"))
        out = cls(
            truth=truth,
            inside=inside,
            span=span,
            events=events,
            fine=fine,
            tr=tr,
            header=header,
            every=every,
            t_map=None,
        )
        return replace(out, t_map=out.mapped(run), halves=out.halved(run)) if maps else out

    def effects(self, path: Path, series: str) -> Effects:
        """Effects of the blocks of a series, whole slices, without confounds as for all series."""
        with SeriesReader(path) as reader:
            design = block_design(
                read_events(self.events),
                n_volumes=reader.shape[3],
                tr=self.tr,
                confound_names=(),
            )
            return block_effects(
                reader, self.inside, design, series=series, with_t=series == "measured"
            )

    def halved(self, run: Path) -> tuple[RunEffects, Reference] | None:
        """What series are held against, one half of the blocks against the measured other; None
        for too few blocks.
        """
        try:
            measured = self.effects(run, "measured")
        except TooFewBlocks as error:
            sys.stderr.write(f"no explained variance: {error}\n")
            return None
        types = sorted({block.condition for block in measured.blocks})
        contrasts = {"all": dict.fromkeys(types, 1 / len(types))}
        with tempfile.TemporaryDirectory() as folder:
            effects = RunEffects(
                files={"measured": save_effects(measured, Path(folder, "measured.npz"))},
                contrasts=contrasts,
                mask=self.inside,
                affine=self.fine,
                roi=self.inside,
                factor=FACTOR,
                n_boot=0,
            )
            reference = measured_halves(effects)
        assert reference is not None
        return effects, reference

    def explained(self, path: Path) -> dict[str, float]:
        """Explained variance, r, recovered amplitude and right share beyond the acquired Nyquist
        limit.
        """
        if self.halves is None:
            return {}
        run, reference = self.halves
        found = reference.scores(run.banded(self.effects(path, "series").betas, run.bands))
        return {
            name + words: float(found[key].mean())
            for region, words in (("brain", ""), ("active40", " active"))
            for statistic, name in EXPLAINED.items()
            if (key := Key(statistic, "beyond", "all", region)) in found
        }

    def mapped(self, path: Path) -> Array:
        """t of all stimuli together: linear model without smoothing and without confounds, as for
        every series.
        """
        events = read_events(self.events)
        types = events.conditions
        settings = ActivationSettings(tr=self.tr, kinds=("glm",), confound_names=())
        with SeriesReader(path) as reader, tempfile.TemporaryDirectory() as scratch:
            found = map_activation(
                reader,
                self.inside,
                events,
                {"all": dict.fromkeys(types, 1 / len(types))},
                settings,
                scratch=Path(scratch, "courses"),
            )
        return found.maps["all", "t"]

    def scores(
        self, upsampler: Upsampler, volumes: list[Array], *, maps: bool
    ) -> dict[str, float]:
        """Figures of a series: means over every n-th volume; effective resolution of their mean
        image; t map of all.
        """
        chosen = range(0, len(volumes), self.every)
        found, busy, total, still = [], [], np.zeros(self.inside.shape), np.eye(4)
        constant = getattr(upsampler, "constant", None)
        shape = (*self.inside.shape, len(volumes))
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            path = Path(folder, "series.nii")
            writer = None
            if maps:
                made = SeriesWriter(path, shape, self.fine, self.tr, header_like=self.header)
                writer = stack.enter_context(made)
            for t in range(len(volumes)) if maps else chosen:
                begun = time.process_time()
                image = upsampler(volumes[t], still)
                busy.append(time.process_time() - begun)
                image = image if constant is None else image + constant
                if writer is not None:
                    writer.append(image)
                if t in chosen:
                    total += image
                    found.append(self._image(image, t))
            stack.close()
            out = dict(zip(("psnr", "ssim", "rmse"), np.mean(found, axis=0).tolist(), strict=True))
            zooms = np.sqrt((self.fine[:3, :3] ** 2).sum(0))
            sharp = effective_resolution(total / len(chosen), zooms, self.inside)
            out["resolution"] = float("nan") if sharp is None else sharp
            out["seconds a volume"] = float(np.mean(busy))
            return out | (self._map(self.mapped(path)) | self.explained(path) if maps else {})

    def _image(self, image: Array, t: int) -> tuple[float, float, float]:
        known = {"data_range": self.span, "mask": self.inside}
        true = self.truth[t]
        return (
            psnr(true, image, **known),
            ssim(true, image, **known),
            rmse(true, image, mask=self.inside),
        )

    def _map(self, found: Array) -> dict[str, float]:
        assert self.t_map is not None
        active = self.inside & (np.abs(self.t_map) > 4)
        return {
            "t r": float(np.corrcoef(found[self.inside], self.t_map[self.inside])[0, 1]),
            "t r active": float(np.corrcoef(found[active], self.t_map[active])[0, 1]),
        }


def loaded(path: Path) -> tuple[LoadedModel, dict[str, Any]]:
    """A model and what its training took."""
    return load_model(path), json.loads(path.with_suffix(".run.json").read_text())
