"""Trainings of `papers.py` in portions that continue, with a learning curve for each network.

A work folder holds one folder per unfinished training, and the model and curve of each finished
training. A call with a time limit ends with `PortionEnded`; the next call with the same folder
skips finished trainings and resumes the unfinished training from its checkpoint.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

from _papers_training import SEED

from bids_sr.io.grids import Factor
from bids_sr.sr.models.card import steps_at_stop
from bids_sr.sr.models.model import LoadedModel, load_model, save_model
from bids_sr.sr.models.request import ModelRequest
from bids_sr.sr.models.training_log import log_tsv
from bids_sr.sr.networks.data.images import TrainingImage
from bids_sr.sr.networks.training.phase import read_checkpoint
from bids_sr.sr.networks.training.trainer import train_network
from bids_sr.sr.recipe import Recipe
from bids_sr.sr.recipe_changes import change_of_method

Curve = dict[int, float]
"""Score by number of training steps."""
Score = Callable[[LoadedModel], float]
"""Function that returns the score of a network on images that were not used for training (dB)."""


class PortionEnded(Exception):
    """The time limit of a call was reached before the last training ended."""


class Portion:
    """Work folder and time limit of one call.

    Parameters
    ----------
    work : Path
        Folder of finished and unfinished trainings.
    minutes : float | None
        Time limit of the call; None if there is no limit.
    """

    def __init__(self, work: Path, minutes: float | None = None) -> None:
        self.work = work
        self.end = None if minutes is None else time.monotonic() + 60 * minutes
        work.mkdir(parents=True, exist_ok=True)

    @property
    def minutes_left(self) -> float | None:
        """Remaining time of the call (min); None if there is no limit."""
        return None if self.end is None else (self.end - time.monotonic()) / 60

    def train(
        self,
        name: str,
        method: str,
        recipe: Recipe,
        images: Sequence[TrainingImage],
        factor: Factor,
        score: Score | None = None,
        start: LoadedModel | None = None,
        changes: Sequence[str] = (),
    ) -> tuple[LoadedModel, Curve]:
        """Return a trained network and its curve, from the work folder if it is finished.

        Parameters
        ----------
        name : str
            Name of the training, unique in the work folder.
        method, recipe, images, factor
            As in `ModelRequest` and `train_network`; seed `SEED`, one thread.
        score : Score | None
            Function that scores the current weights at each validation step. With None, the curve
            is empty.
        start : LoadedModel | None
            Model whose weights initialize the training.
        changes : Sequence[str]
            Changed settings as in ``--set``, for settings that change the network.

        Raises
        ------
        PortionEnded
            If the time limit was reached before the training ended.
        """
        stem, curve_file = self.work / name, self.work / f"{name}.curve.json"
        weights = self.work / f"{name}.safetensors"
        if weights.exists() and curve_file.exists():
            return replace(load_model(weights), recipe=recipe), read_curve(curve_file)
        if (left := self.minutes_left) is not None and left <= 0:
            raise PortionEnded(name)
        request = ModelRequest(
            method=method,
            replacement_recipe=recipe,
            factor=factor,
            random_seed=SEED,
            omp_nthreads=1,
            start_model=start,
            recipe_changes=tuple(change_of_method(text, method) for text in changes),
        )
        folder = self.work / f"{name}.training"
        current = None if score is None else self._first_model(request, images, folder)
        curve = {
            step: value
            for step, value in read_curve(folder / "curve.json").items()
            if step <= count_completed_steps(folder)
        }

        def look(_: str, step: int, steps: int) -> None:
            if score is not None and (step % recipe.look_every == 0 or step == steps):
                assert current is not None
                curve[step] = score(_with_weights(current, folder))
                write_curve(folder / "curve.json", curve)

        trained = train_network(
            replace(request, max_train_minutes=left),
            tuple(images),
            folder,
            look,
        )
        if steps_at_stop(trained.card):
            raise PortionEnded(name)
        stem.with_name(f"{name}.tsv").write_text(log_tsv(trained.log))
        write_curve(curve_file, curve)
        save_model(stem, trained.state, trained.card)
        sys.stderr.write(f"{name}: {recipe.steps} steps, curve {curve}\n")
        return replace(load_model(weights), recipe=recipe), curve

    @staticmethod
    def _first_model(
        request: ModelRequest, images: Sequence[TrainingImage], folder: Path
    ) -> LoadedModel:
        """Return a model after one step, with the card that scoring a network requires."""
        assert isinstance(request.replacement_recipe, Recipe)
        recipe = replace(request.replacement_recipe, iterations=1, epochs=None, adversarial_from=0)
        trained = train_network(
            replace(request, replacement_recipe=recipe), tuple(images), folder / "first"
        )
        save_model(folder / "first" / "model", trained.state, trained.card)
        weights = folder / "first" / "model.safetensors"
        return replace(load_model(weights), recipe=request.replacement_recipe)


def read_curve(file: Path) -> Curve:
    """Return a stored curve, or an empty curve if the file does not exist."""
    if not file.exists():
        return {}
    return {int(step): float(value) for step, value in json.loads(file.read_text()).items()}


def write_curve(file: Path, curve: Curve) -> None:
    """Store a curve as JSON."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(curve))


def checkpoint_file(folder: Path) -> Path:
    """Return the checkpoint in the folder of a training."""
    return folder / "search.checkpoint.safetensors"


def count_completed_steps(folder: Path) -> int:
    """Return the number of steps in the checkpoint of a training; 0 without a checkpoint."""
    checkpoint = read_checkpoint(checkpoint_file(folder))
    if checkpoint is None:
        return 0
    progress = checkpoint[1]["progress"]
    assert isinstance(progress, dict)
    return int(progress["iteration"])


def _with_weights(model: LoadedModel, folder: Path) -> LoadedModel:
    """Return a model with the weights of the last checkpoint of its training."""
    checkpoint = read_checkpoint(checkpoint_file(folder))
    assert checkpoint is not None
    prefix = "generator."
    state = {
        key.removeprefix(prefix): value
        for key, value in checkpoint[0].items()
        if key.startswith(prefix)
    }
    generator = deepcopy(model.generator)
    generator.load_state_dict(state)
    return replace(model, generator=generator.eval())
