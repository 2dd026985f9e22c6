"""Small images, networks and methods that are trained in a few steps."""

import numpy as np
import torch
from torch import nn

from bids_sr.sr import method
from bids_sr.sr.models.request import ModelRequest
from bids_sr.sr.networks.data.images import TrainingImage
from bids_sr.sr.networks.losses.image import MSE
from bids_sr.sr.networks.training.trainer import train_network as fit_images
from bids_sr.sr.recipe import LossTerm, Recipe

AFFINE = np.diag([1.0, 1, 1, 1])
CONTENT = LossTerm(kind="content", build=MSE, weight=1.0)


class Tiny(nn.Module):
    """x + last(relu(first(x))), in 2D or 3D; dropout makes training depend on torch's random
    state.
    """

    def __init__(self, channels=1, *, ndim=3, width=4, dropout=0.0):
        super().__init__()
        kind = {2: nn.Conv2d, 3: nn.Conv3d}[ndim]
        self.first, self.last = (
            kind(channels, width, 3, padding=1),
            kind(width, channels, 3, padding=1),
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x):
        return x + self.last(self.dropout(torch.relu(self.first(x))))


class TinyCritic(nn.Module):
    """One score per image, from its mean and its roughness."""

    def __init__(self, channels=1, *, ndim=3, width=3):
        super().__init__()
        kind = {2: nn.Conv2d, 3: nn.Conv3d}[ndim]
        self.look, self.score = kind(channels, width, 3), nn.Linear(width, 1)

    def forward(self, image):
        return self.score(nn.functional.leaky_relu(self.look(image), 0.2).flatten(2).mean(2))


def ball(seed=0, shape=(16, 16, 12), name=None):
    """Return a high-resolution image of a textured ball with a sharp border."""
    rng = np.random.default_rng(seed)
    x, y, z = (2 * (g + 0.5) / n - 1 for g, n in zip(np.indices(shape), shape, strict=True))
    inside = x**2 + y**2 + 0.3 * z**2 < 0.8
    texture = rng.random(shape)
    high_res = (inside * (600 + 200 * texture + 200 * (x > 0.1 * seed))).astype(np.float32)
    return TrainingImage(
        fine=high_res, mask=inside, affine=AFFINE, contrast="T1w", name=name or f"ball-{seed}"
    )


def balls(count=1, **options):
    """Return `count` different balls."""
    return tuple(ball(seed, **options) for seed in range(count))


def recipe(ndim=3, **fields):
    """Return a supervised recipe of a few steps."""
    defaults = {
        "build_generator": lambda channels, factor: Tiny(channels, ndim=ndim),
        "build_critic": None,
        "losses": (CONTENT,),
        "upsampled_by": "linear",
        "patch": 8,
        "batch": 2,
        "iterations": 12,
        "evaluate_every": 4,
        "learning_rate": 1e-2,
        "hold_out": 4,
        "degradation": "block",
    }
    return Recipe(**defaults | fields)


def a_method(ndim=3, **fields):
    """Return a method that is not registered."""
    defaults = {
        "name": "tiny",
        "ndim": ndim,
        "recipes": {},
        "reference": "x",
        "summary": "x",
        "trained_on": "images",
    }
    return method.Method(**defaults | fields)


def fit(images, changed_recipe, work_dir, ndim=3, progress=None, **fields):
    """Train the tiny method with factor 2, in plane (2D) or along all axes (3D)."""
    factor = (2.0, 2.0, 2.0) if ndim == 3 else (2.0, 2.0, 1.0)
    request = ModelRequest(
        method="tiny",
        unregistered_method=a_method(ndim),
        replacement_recipe=changed_recipe,
        **{"factor": factor, "random_seed": 3} | fields,
    )
    return fit_images(request, images, work_dir, progress)


def equal_states(a, b):
    """Return whether two sets of tensors are bitwise equal."""
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
