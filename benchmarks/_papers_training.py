"""Short trainings and scores of `papers.py`: one place for seed, threads, scale and mask."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from bids_sr.io.arrays import Array
from bids_sr.io.grids import Factor
from bids_sr.spatial import image_similarity
from bids_sr.spatial.matrices import MATRICES
from bids_sr.sr.inference.upsampler_inputs import UpsamplerInputs
from bids_sr.sr.inference.upsamplers import make_upsampler
from bids_sr.sr.method import get_method
from bids_sr.sr.models.model import LoadedModel, load_model, save_model
from bids_sr.sr.models.request import ModelRequest
from bids_sr.sr.networks.data.images import TrainingImage
from bids_sr.sr.networks.training.trainer import train_network
from bids_sr.sr.operators import get_operator
from bids_sr.sr.recipe import Recipe

SEED = 0


def short_recipe(method: str, steps: int, **settings: Any) -> Recipe:
    """Return recipe `fast` of a method with fewer steps.

    The adversarial term, if the recipe has one, begins after a third of the steps.
    """
    recipe = get_method(method).recipes["fast"]
    if recipe.adversarial_from:
        settings = {"adversarial_from": steps // 3, **settings}
    return replace(recipe, iterations=steps, **settings)


def train(
    work: Path,
    method: str,
    name: str,
    recipe: Recipe,
    images: Sequence[TrainingImage],
    factor: Factor,
    start: LoadedModel | None = None,
) -> LoadedModel:
    """Train a network with seed `SEED` on one thread, or load it if it was trained before.

    `name` is unique in the folder `work`. An interrupted training resumes. `start` is a model
    whose weights initialize the training.
    """
    file = work / f"{name}.safetensors"
    # models are loaded with the network of the recipe that their card names
    with mock.patch.dict(get_method(method).recipes, {"fast": recipe}):  # type: ignore[arg-type]
        if not file.exists():
            request = ModelRequest(
                method=method, factor=factor, random_seed=SEED, omp_nthreads=1, start_model=start
            )
            trained = train_network(request, tuple(images), work / f"{name}.training")
            save_model(work / name, trained.state, trained.card)
        return load_model(file)


def downsample(image: Array, degradation: str, factor: Factor) -> tuple[Array, Array]:
    """Return the low-resolution image, and the part of the image that it covers."""
    operator = get_operator(degradation, image.shape, factor)
    low = operator.forward(torch.from_numpy(image.astype(np.float64))).numpy()
    x, y, z = (slice(first, last) for first, last in operator.window)
    return low.astype(np.float32), image[x, y, z]


def upsample(method: str | LoadedModel, low: Array, factor: Factor) -> Array:
    """Super-resolve one image by an interpolation, given by name, or by a model."""
    scale = float(np.percentile(low[low > 0.1 * low.max()], 99))
    inputs = UpsamplerInputs(factor=factor, scale=scale)
    if isinstance(method, str):
        assert method in MATRICES, method
        upsampler = make_upsampler(method, inputs)
    else:
        upsampler = make_upsampler(method.card.method, inputs, method)
    return np.asarray(upsampler(low, np.eye(4)))


def head_mask(image: Array) -> Array:
    """Return voxels above a tenth of the 99th percentile, the same for all methods."""
    return np.asarray(image > 0.1 * np.percentile(image, 99))


def scores(reference: Array, image: Array) -> dict[str, float]:
    """Return PSNR (dB; the peak is the range of the reference), SSIM and RMSE in the head."""
    mask = head_mask(reference)
    data_range = image_similarity.reference_range(reference, mask)
    return {
        "psnr": image_similarity.psnr(reference, image, data_range=data_range, mask=mask),
        "ssim": image_similarity.ssim(reference, image, data_range=data_range, mask=mask),
        "rmse": image_similarity.rmse(reference, image, mask=mask),
    }


def image_of(image: Array, zooms: Sequence[float], contrast: str, name: str) -> TrainingImage:
    """Return a high-resolution image for training."""
    affine = np.diag([*zooms, 1.0])
    return TrainingImage(
        fine=image, mask=head_mask(image), affine=affine, contrast=contrast, name=name
    )


def coarse_image_of(
    image: Array, zooms: Sequence[float], contrast: str, name: str
) -> TrainingImage:
    """Return a low-resolution image for training, for methods that only need this image."""
    affine = np.diag([*zooms, 1.0])
    return TrainingImage(
        coarse=image, mask=head_mask(image), affine=affine, contrast=contrast, name=name
    )
