"""Contrasts of one head as channels of one network, on the high-resolution grid (factor 1).

Source: attention_unet, sections 3.1 and 3.2.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from bids_sr.frozen import frozen
from bids_sr.io.arrays import Array
from bids_sr.io.grids import Factor
from bids_sr.sr.data.images import TrainingImage
from bids_sr.sr.data.windows import Prepared, prepare
from bids_sr.sr.models.card import ModelCard, ModelError
from bids_sr.sr.models.model import LoadedModel
from bids_sr.sr.recipe import Recipe

SAME_GRID: Factor = (1.0, 1.0, 1.0)
# percentile of the brain that becomes 1: a single bright vessel is no measure of a scan
_TOP = 99.9
_SLICES = 4  # a batch


def unit_range(image: Array, mask: Array) -> tuple[Array, float]:
    """Scale an image to [0, 1], 0 outside the mask; return it and the intensity that became 1.

    That intensity is the 99.9th percentile (ours).

    Source: attention_unet, section 3.1.
    """
    inside = np.asarray(mask) > 0
    top = float(np.percentile(image[inside], _TOP)) if inside.any() else 0.0
    if not np.isfinite(top) or top <= 0:
        raise ValueError("the image has no positive intensities within the brain mask")
    return np.where(inside, np.clip(image / np.float32(top), 0, 1), 0).astype(np.float32), top


def joined(contrasts: Sequence[str]) -> str:
    """Return names of contrasts as one, in the order of the channels."""
    return "+".join(contrasts)


def contrast_image(
    fine: Array, coarse: Array, mask: Array, affine: Array, contrasts: Sequence[str], name: str
) -> TrainingImage:
    """One head to train on.

    `fine, coarse`: high and low resolution, (C, X, Y, Z) on one grid, [0, 1]. `mask, affine`: (X,
    Y, Z) brain, voxel -> RAS mm. `contrasts, name`: BIDS suffix of each channel, name of the head
    for the card. Image on the high-resolution grid, with contrasts as channels.
    """
    return TrainingImage(
        fine=np.asarray(fine, np.float32),
        coarse=np.asarray(coarse, np.float32),
        mask=mask,
        affine=affine,
        contrast=joined(contrasts),
        name=name,
    )


def _prepared(
    model: LoadedModel, coarse: Array, mask: Array, affine: Array, device: str
) -> Prepared:
    wanted = model.card.channels
    if coarse.shape[0] != wanted:
        raise ModelError(
            f"the model {model.card.method} was trained on {wanted} contrasts "
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


def super_resolve_contrasts(
    model: LoadedModel,
    coarse: Array,
    mask: Array,
    affine: Array,
    *,
    device: str = "cpu",
    threads: int = 1,
) -> Array:
    """Apply the network to all contrasts (C, X, Y, Z) of one head, in [0, 1], slice by slice.

    Shape and unit stay the same. Slices are whole, unless the recipe of the model says that it is
    applied in patches of the size that it was trained on.

    Parameters
    ----------
    model : LoadedModel
        Network with its recipe and card.
    coarse : Array
        Low-resolution images on the fine grid (C, X, Y, Z), from 0 to 1.
    mask : Array
        Voxels of the brain in the images (3D, above 0 inside).
    affine : Array
        Voxel-to-world matrix of the images (4 x 4, RAS+ mm).
    device : str, optional
        Where torch computes: ``cpu`` or ``cuda``.
    threads : int, optional
        Number of threads of torch.

    Returns
    -------
    Array
        Super-resolved images (C, X, Y, Z; float32), 0 outside the mask.

    Raises
    ------
    ModelError : the model was trained on another number of contrasts
    """
    import torch

    from bids_sr.sr.inference.sliding_window import apply_in_patches
    from bids_sr.sr.threads import torch_threads

    ready = _prepared(model, coarse, mask, affine, device)
    assert isinstance(model.recipe, Recipe)
    patch = model.recipe.patch_applied
    generator = model.generator.to(device)
    out = np.zeros(coarse.shape, np.float32)
    shown = np.flatnonzero((np.asarray(mask) > 0).any((0, 1)))
    with torch_threads(threads), torch.inference_mode():
        for first in range(0, len(shown), _SLICES):
            which = shown[first : first + _SLICES]
            batch = torch.movedim(ready.source[..., which], -1, 0).contiguous()
            if patch is None:
                made = generator(batch)
            else:
                made = torch.stack(
                    [apply_in_patches(generator, one, patch=patch, overlap=0) for one in batch]
                )
            out[..., which] = np.moveaxis(made.float().cpu().numpy(), 0, -1)
    level = np.asarray(ready.level, np.float32)[:, None, None, None]
    return np.where(np.asarray(mask) > 0, np.maximum(out * level, 0), 0).astype(np.float32)


@frozen
class _Explanation:
    """What one slice was made from."""

    index: int  # of the slice
    # (G, X, Y) attention of the gates, low to high resolution; G is 0 for a network without gates
    masks: Array
    # (X, Y) Grad-CAM of the critic on the super-resolved and on the measured slice, if any
    critic_made: Array | None
    critic_fine: Array | None
    scores: dict[str, float]  # the critic's score of either, 0 to 1, by "made" and "fine"


def explain_slice(
    model: LoadedModel, coarse: Array, fine: Array | None, mask: Array, affine: Array, index: int
) -> _Explanation:
    """Explain one slice; parameters as in `super_resolve_contrasts`.

    Parameters
    ----------
    model : LoadedModel
        Network with its recipe and card.
    coarse : Array
        Low-resolution images on the fine grid (C, X, Y, Z), from 0 to 1.
    fine : Array | None
        Measured images (C, X, Y, Z), from 0 to 1; None where there are none.
    mask : Array
        Voxels of the brain in the images (3D, above 0 inside).
    affine : Array
        Voxel-to-world matrix of the images (4 x 4, RAS+ mm).
    index : int
        Number of the slice along the third axis, counted from 0.

    Returns
    -------
    _Explanation
        Attention of the gates, and what the critic saw, if there are any.
    """
    import torch

    from bids_sr.sr.inference.explain import attention_masks, grad_cam

    ready = _prepared(model, coarse, mask, affine, "cpu")
    generator = model.generator.to("cpu")
    source = ready.source[..., index][None]
    gates = [found[0, 0].numpy() for found in attention_masks(generator, source)]
    with torch.no_grad():
        made = generator(source)
    seen: dict[str, Array] = {}
    scores: dict[str, float] = {}
    if model.critic is not None:
        level = torch.tensor(ready.level, dtype=torch.float32)[:, None, None]
        pictures = {"made": made}
        if fine is not None:
            pictures["fine"] = (
                torch.from_numpy(np.ascontiguousarray(fine[..., index], np.float32)) / level
            )[None]
        for name, picture in pictures.items():
            seen[name] = grad_cam(model.critic, picture)[0, 0].numpy()
            with torch.no_grad():
                scores[name] = float(torch.sigmoid(model.critic(picture)).mean())
    return _Explanation(
        index=index,
        masks=np.stack(gates) if gates else np.zeros((0, *made.shape[2:]), np.float32),
        critic_made=seen.get("made"),
        critic_fine=seen.get("fine"),
        scores=scores,
    )


def held_out_slices(cards: Sequence[Mapping[str, object]], depth: int, checksum: str) -> list[int]:
    """Return the slices of a head that no model was trained on.

    Numbers from 0, ascending; all of them where no model saw this head. `checksum`: of the head's
    images, as cards have it: names of heads may be those of another study.
    """
    kept = set(range(depth))
    for card in map(ModelCard.from_json, cards):
        names = {name for name, found in card.data_sha256.items() if found == checksum}
        if names:
            parts = card.held_out.get("parts")
            held = parts if isinstance(parts, list) else []
            kept &= {z for part in held if part["image"] in names for z in range(*part["slices"])}
    return sorted(kept)
