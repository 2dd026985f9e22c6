"""Networks trained on prepared heads for a stated time of the processor, and applied to others,
for structural.py.
"""

import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _kept import kept
from _methods_run import Pace, pace_of, shortened
from _structural_data import ALIGNMENTS, BOX_MM, Align, PreparedHead, read_head, with_channel
from numpy.typing import NDArray
from torch import nn

from bids_sr.io.atomic_files import write_json
from bids_sr.phantom.still_scans import CONTRASTS
from bids_sr.sr.data.images import TrainingImages
from bids_sr.sr.inference.sliding_window import apply_in_patches
from bids_sr.sr.method import Method, get_method
from bids_sr.sr.models.card import ModelCard, plain_recipe
from bids_sr.sr.models.model import LoadedModel, TrainedModel, save_model
from bids_sr.sr.recipe import Recipe
from bids_sr.sr.training.fused import SAME_GRID, contrast_image, super_resolve_contrasts
from bids_sr.sr.training.job import TrainingRequest
from bids_sr.sr.training.trainer import fit

Array = NDArray[Any]
HOLD_OUT = 4  # every fourth training head chooses the stopping point, as 11 of 51 did in the paper


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One way to train; a cell with `fused` False is a network a contrast.

    Attributes
    ----------
    method : attunet, unet, "unet wide" (the usual widths) or vit
    align, fused, patches, critic : what the paper varies
    """

    method: str = "attunet"
    align: Align = "rigid"
    fused: bool = True
    patches: bool = False
    critic: bool = False

    @property
    def name(self) -> str:
        """Name of files and rows."""
        ways = [
            self.align,
            "fused" if self.fused else "single",
            "patches" if self.patches else "slices",
        ]
        return "_".join(
            [self.method.replace(" ", "-"), *ways, "critic" if self.critic else "plain"]
        )

    @property
    def kind(self) -> str:
        """What its pace depends on: all but the alignment. A critic in the loss sends its gradient
        back as well.
        """
        return self.name.replace(f"_{self.align}_", "_")


def grid() -> list[Cell]:
    """The 24 cells of attunet, then the other networks as attunet is by default."""
    both = (False, True)
    cells = [
        Cell(align=align, fused=not single, patches=patches, critic=critic)
        for align in ALIGNMENTS
        for single in both
        for patches in both
        for critic in both
    ]
    return cells + [Cell(method=name) for name in ("unet", "unet wide", "vit")]


@dataclass(frozen=True, kw_only=True)
class How:
    """What all trainings share.

    Attributes
    ----------
    seconds : of processor time a training
    patch : side of the patches (voxels)
    weight : of the critic in the loss, where it is in it
    seed : of weights and draws
    """

    seconds: float
    patch: int
    weight: float
    seed: int


def method_of(cell: Cell) -> Method:
    """The method of a cell."""
    return get_method("unet" if cell.method == "unet wide" else cell.method)


def recipe_of(cell: Cell, how: How, shape: Sequence[int]) -> Recipe:
    """The fast recipe with what the cell varies; a batch of patches holds as many voxels as one of
    slices.
    """
    method = method_of(cell)
    recipe = replace(method.recipes["fast"], hold_out=HOLD_OUT)
    if cell.method == "unet wide":
        recipe = replace(recipe, build_generator=method.recipes["paper"].build_generator)
    if cell.patches:
        batch = max(1, round(recipe.batch * shape[0] * shape[1] / how.patch**2))
        recipe = replace(recipe, patch=how.patch, batch=batch)
    if cell.critic:
        losses = tuple(
            replace(t, weight=how.weight) if t.kind == "adversarial" else t for t in recipe.losses
        )
        recipe = replace(recipe, losses=losses)
    return recipe


class Patchwise(nn.Module):
    """A network that sees patches alone, put together as the paper puts them."""

    def __init__(self, network: nn.Module, patch: int) -> None:
        super().__init__()
        self.network, self.patch = network, patch

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, C, X, Y) of any size."""
        made = [
            apply_in_patches(self.network, i, patch=self.patch, overlap=self.patch // 3)
            for i in images
        ]
        return torch.stack(made)


def images_of(heads: Sequence[PreparedHead], contrasts: Sequence[str]) -> TrainingImages:
    """Heads to train on, fed by the cubic spline."""
    return tuple(
        contrast_image(h.fine, h.coarse["bspline"], h.mask, h.affine, contrasts, h.name)
        for h in heads
    )


def training_facts(how: How) -> dict[str, Any]:
    """What models depend on beside the heads and what their names tell: options, and recipes as
    they are now.
    """
    cells = [cell for cell in grid() if cell.align == "rigid" and cell.fused]
    recipes = {cell.name: plain_recipe(recipe_of(cell, how, (1, 1))) for cell in cells}
    return {
        "patch": how.patch,
        "critic weight": how.weight,
        "held out": HOLD_OUT,
        "box": BOX_MM,
        "recipes": recipes,
    }


def trained(cell: Cell, how: How, work: Path, seeds: Sequence[int]) -> list[Path]:
    """The networks of a cell, one or one a contrast: trained, or found in `work`."""
    stem = f"{cell.name}_{how.seconds:g}s_seed{how.seed}"
    channels: list[int | None] = [None] if cell.fused else list(range(len(CONTRASTS)))
    paths = [
        work / f"{stem}{'' if k is None else f'_{CONTRASTS[k]}'}.safetensors" for k in channels
    ]
    heads: list[PreparedHead] = []
    for path, channel in zip(paths, channels, strict=True):
        if path.with_suffix(".run.json").exists():
            continue
        heads = heads or [read_head(work, seed, cell.align) for seed in seeds]
        some = heads if channel is None else [with_channel(head, channel) for head in heads]
        _train(
            cell,
            how,
            path,
            images_of(some, CONTRASTS if channel is None else [CONTRASTS[channel]]),
        )
    return paths


def _train(cell: Cell, how: How, path: Path, images: TrainingImages) -> None:
    """Train one network for its time; beside it lies NAME.run.json with what it took."""
    method, recipe = method_of(cell), recipe_of(cell, how, images[0].shape)

    def fitted(one: Recipe) -> tuple[TrainedModel, float]:
        begun = time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            made = fit(
                TrainingRequest(
                    method=method, recipe="fast", changed=one, factor=SAME_GRID, seed=how.seed
                ),
                images,
                Path(folder),
            )
        return made, time.process_time() - begun

    costs = kept(
        path.with_name(f"pace_{cell.kind}.json"),
        lambda: vars(pace_of(recipe, lambda one: fitted(one)[1])),
    )
    steps = Pace(**costs).steps(how.seconds)
    sys.stderr.write(f"{path.stem}: {steps} steps\n")
    made, busy = fitted(shortened(recipe, steps))
    save_model(path.with_suffix(""), made.state, made.card)
    held = made.card["held_out"]
    write_json(
        path.with_suffix(".run.json"),
        {
            "steps": steps,
            "steps of the recipe": recipe.steps,
            "processor seconds": round(busy, 1),
            "parameters": int(made.card["parameters"]),
            "best step": held["iteration"],
        },
    )


def notes_of(path: Path) -> dict[str, Any]:
    """What a training took."""
    found: dict[str, Any] = json.loads(path.with_suffix(".run.json").read_text())
    return found


def load(cell: Cell, how: How, path: Path, shape: Sequence[int]) -> LoadedModel:
    """A network of a cell; the recipes here are not those that a card names, so this reads the
    weights itself.
    """
    from safetensors.torch import load_file

    recipe, card = recipe_of(cell, how, shape), json.loads(path.with_suffix(".json").read_text())
    generator = recipe.build_generator(int(card["channels"]), SAME_GRID)
    generator.load_state_dict(
        {k: v for k, v in load_file(path).items() if not k.startswith("critic.")}
    )
    generator.eval()
    network: nn.Module = Patchwise(generator, how.patch) if cell.patches else generator
    return LoadedModel(generator=network.eval(), recipe=recipe, card=ModelCard.from_json(card))


def made_of(cell: Cell, how: How, paths: Sequence[Path], head: PreparedHead) -> Array:
    """(C, X, Y, Z) of a head through the networks of a cell."""
    parts = [head] if cell.fused else [with_channel(head, k) for k in range(len(CONTRASTS))]
    return np.concatenate(
        [
            super_resolve_contrasts(
                load(cell, how, path, part.mask.shape),
                part.coarse["bspline"],
                part.mask,
                part.affine,
            )
            for path, part in zip(paths, parts, strict=True)
        ]
    )
