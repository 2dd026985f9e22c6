"""Application of a network to several contrasts of one head, and explanation of its slices.

The contrasts are channels on the high-resolution grid (factor 1). Source: attention_unet, sections
3.1 and 3.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bids_sr.io.arrays import Array
from bids_sr.io.frozen import frozen
from bids_sr.io.grids import Factor
from bids_sr.sr.models.card import ModelError
from bids_sr.sr.models.model import LoadedModel
from bids_sr.sr.networks.data.images import TrainingImage
from bids_sr.sr.networks.data.windows import PreparedImage, prepare
from bids_sr.sr.recipe import Recipe

if TYPE_CHECKING:
    from torch import Tensor, nn

SAME_GRID: Factor = (1.0, 1.0, 1.0)
"""Factor between images on the same grid."""
_SLICES_PER_BATCH = 4


def super_resolve_contrasts(
    model: LoadedModel,
    coarse: Array,
    mask: Array,
    affine: Array,
    *,
    device: str = "cpu",
    threads: int = 1,
) -> Array:
    """Apply a network to all contrasts of one head, slice by slice.

    Shape and unit are preserved. Slices are processed whole, unless the model's recipe specifies
    application in patches.

    Parameters
    ----------
    model : LoadedModel
        Network with its recipe and card.
    coarse : Array
        Low-resolution images on the high-resolution grid (C, X, Y, Z), from 0 to 1.
    mask : Array
        Brain mask of the images (3D, above 0 inside).
    affine : Array
        Voxel-to-world matrix of the images (4 x 4, RAS+ mm).
    device : str, optional
        Torch device: ``cpu`` or ``cuda``.
    threads : int, optional
        Number of torch threads.

    Returns
    -------
    Array
        Super-resolved images (C, X, Y, Z; float32), 0 outside the mask.

    Raises
    ------
    ModelError
        If the model was trained on another number of contrasts.
    """
    import torch

    from bids_sr.sr.networks.inference.sliding_window import apply_in_patches
    from bids_sr.sr.threads import torch_threads

    prepared = _prepare_head(model, coarse, mask, affine, device)
    assert isinstance(model.recipe, Recipe)
    patch = model.recipe.patch_applied
    generator = model.generator.to(device)
    scaled_images = np.zeros(coarse.shape, np.float32)
    slices_in_mask = np.flatnonzero((np.asarray(mask) > 0).any((0, 1)))
    with torch_threads(threads), torch.inference_mode():
        for first in range(0, len(slices_in_mask), _SLICES_PER_BATCH):
            indices = slices_in_mask[first : first + _SLICES_PER_BATCH]
            batch = torch.movedim(prepared.source[..., indices], -1, 0).contiguous()
            if patch is None:
                output = generator(batch)
            else:
                images = (apply_in_patches(generator, x, patch=patch, overlap=0) for x in batch)
                output = torch.stack(list(images))
            scaled_images[..., indices] = np.moveaxis(output.float().cpu().numpy(), 0, -1)
    level = np.asarray(prepared.level, np.float32)[:, None, None, None]
    images = np.maximum(scaled_images * level, 0)
    return np.where(np.asarray(mask) > 0, images, 0).astype(np.float32)


@frozen
class _Explanation:
    """Explanation of one super-resolved slice.

    `index` is the index of the slice. `masks` are the attention masks of the gates, from low to
    high resolution (G, X, Y); G is 0 for a network without gates. `critic_made` and `critic_fine`
    are Grad-CAM of the critic for the super-resolved and the measured slice (X, Y), None if not
    available. `scores` are the critic's scores (0 to 1) of the super-resolved ("made") and the
    measured slice ("fine").
    """

    index: int
    masks: Array
    critic_made: Array | None
    critic_fine: Array | None
    scores: dict[str, float]


class _Judgment(NamedTuple):
    """Judgment of a slice by a critic: Grad-CAM map (X, Y), and score (0 to 1)."""

    grad_cam: Array
    score: float


def explain_slice(
    model: LoadedModel, coarse: Array, fine: Array | None, mask: Array, affine: Array, index: int
) -> _Explanation:
    """Explain one slice by attention masks and by the critic's Grad-CAM.

    Parameters
    ----------
    model : LoadedModel
        Network with its recipe and card.
    coarse : Array
        Low-resolution images on the high-resolution grid (C, X, Y, Z), from 0 to 1.
    fine : Array | None
        Measured high-resolution images (C, X, Y, Z), from 0 to 1; None if they do not exist.
    mask : Array
        Brain mask of the images (3D, above 0 inside).
    affine : Array
        Voxel-to-world matrix of the images (4 x 4, RAS+ mm).
    index : int
        Index of the slice along the third axis, counted from 0.

    Returns
    -------
    _Explanation
        Attention masks and Grad-CAM maps, as far as the model has gates and a critic.
    """
    import torch

    from bids_sr.sr.networks.inference.explain import compute_attention_masks

    prepared = _prepare_head(model, coarse, mask, affine, "cpu")
    generator = model.generator.to("cpu")
    source = prepared.source[..., index][None]
    gate_masks = [
        gate_mask[0, 0].numpy() for gate_mask in compute_attention_masks(generator, source)
    ]
    with torch.no_grad():
        output = generator(source)
    judgments: dict[str, _Judgment] = {}
    if model.critic is not None:
        judgments["made"] = _judge_slice(model.critic, output)
        if fine is not None:
            level = torch.tensor(prepared.level, dtype=torch.float32)[:, None, None]
            fine_slice = torch.from_numpy(np.ascontiguousarray(fine[..., index], np.float32))
            judgments["fine"] = _judge_slice(model.critic, (fine_slice / level)[None])
    return _Explanation(
        index=index,
        masks=np.stack(gate_masks) if gate_masks else np.zeros((0, *output.shape[2:]), np.float32),
        critic_made=judgments["made"].grad_cam if "made" in judgments else None,
        critic_fine=judgments["fine"].grad_cam if "fine" in judgments else None,
        scores={name: judgment.score for name, judgment in judgments.items()},
    )


def _prepare_head(
    model: LoadedModel, coarse: Array, mask: Array, affine: Array, device: str
) -> PreparedImage:
    """Prepare the images of a head for a network; see `super_resolve_contrasts` for parameters.

    ModelError is raised if the number of contrasts does not match the network.
    """
    n_contrasts = model.card.channels
    if coarse.shape[0] != n_contrasts:
        raise ModelError(
            f"the model {model.card.method} was trained on {n_contrasts} contrasts "
            f"({model.card.contrast}), but the data contain {coarse.shape[0]}. Train a model "
            "on these contrasts, or provide the contrasts that the model requires."
        )
    image = TrainingImage(
        coarse=np.asarray(coarse, np.float32),
        mask=mask,
        affine=affine,
        contrast=model.card.contrast,
        name="images",
    )
    assert isinstance(model.recipe, Recipe)
    return prepare(image, model.recipe, SAME_GRID, device)


def _judge_slice(critic: nn.Module, image: Tensor) -> _Judgment:
    """Return the critic's judgment of a slice (1, C, X, Y)."""
    import torch

    from bids_sr.sr.networks.inference.explain import compute_grad_cam

    grad_cam = compute_grad_cam(critic, image)[0, 0].numpy()
    with torch.no_grad():
        return _Judgment(grad_cam, float(torch.sigmoid(critic(image)).mean()))
