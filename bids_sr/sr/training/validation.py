"""Scores of held-out patches, at every validation step and at the end of a training."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from bids_sr.metrics.image_similarity import ssim
from bids_sr.series import VALIDATION_BASELINES
from bids_sr.sr.data.examples import Examples, ValidationPatch
from bids_sr.sr.recipe import Recipe
from bids_sr.sr.training import update_steps
from bids_sr.sr.training.update_steps import Networks

_SMALLEST_SSIM = 11  # side of the structural similarity's own window


def outputs(generator: nn.Module, watched: Sequence[ValidationPatch], lower: bool = False) -> list[Tensor]:
    """What the generator makes of each window, in bf16 where `lower`."""
    generator.eval()
    with torch.no_grad(), torch.autocast(watched[0].batch.input.device.type, torch.bfloat16, enabled=lower):
        out = [generator(look.batch.input).float() for look in watched]
    generator.train()
    return out


def _error(made: Sequence[Tensor], watched: Sequence[ValidationPatch]) -> float:
    """Mean squared error over all windows."""
    total = weight = 0.0
    for image, look in zip(made, watched, strict=True):
        seen = image if look.batch.operator is None else look.batch.operator.forward(image)
        shared = look.batch.weight.expand_as(seen)
        total += float((shared * (seen - look.batch.target).square()).sum())
        weight += float(shared.sum())
    return total / max(weight, 1e-12)


def score(nets: Networks, watched: Sequence[ValidationPatch], recipe: Recipe, lower: bool = False) -> float:
    """In dB, higher is better: PSNR, or for the objective "self" the loss, total variation included."""
    made = outputs(nets.generator, watched, lower)
    error = _error(made, watched)
    if recipe.objective == "self":
        for kind, module, weight in nets.terms:
            if kind == "tv":
                found = [
                    update_steps.term_value(nets, kind, module, look.batch, image, {})
                    for image, look in zip(made, watched, strict=True)
                ]
                error += weight * float(np.mean([float(v) for v in found if v is not None]))
    return float(-10 * np.log10(max(error, 1e-12)))


def compare(
    generator: nn.Module, examples: Examples, watched: Sequence[ValidationPatch], recipe: Recipe
) -> dict[str, dict[str, float]]:
    """Held-out metrics of the network and of plain interpolations, for the card; for "self" of consistency alone."""
    made = outputs(generator, watched)
    if recipe.objective == "self":
        return {"network": {"consistency_psnr": round(-10 * float(np.log10(max(_error(made, watched), 1e-12))), 4)}}
    # at factor 1 every interpolation is the input itself
    same_grid = all(f == 1 for f in examples.factor)
    plain = {"input": "bspline"} if same_grid else {name: name for name in VALIDATION_BASELINES}
    rows = {"network": made}
    rows |= {name: [examples.interpolated(how, patch) for patch in watched] for name, how in plain.items()}
    return {name: _metrics(images, watched) for name, images in rows.items()}


def _metrics(images: Sequence[Tensor], watched: Sequence[ValidationPatch]) -> dict[str, float]:
    out = {"psnr": round(-10 * float(np.log10(max(_error(images, watched), 1e-12))), 4)}
    found, counts = [], []
    for image, look in zip(images, watched, strict=True):
        if min(image.shape[2:4]) < _SMALLEST_SSIM:
            continue
        for made, truth in zip(image[0], look.batch.target[0], strict=True):
            inside = look.batch.weight[0, 0].cpu().numpy() > 0
            if inside.any():
                found.append(ssim(truth.cpu().numpy(), made.cpu().numpy(), data_range=1.0, mask=inside))
                counts.append(float(inside.sum()))
    return out | ({"ssim": round(float(np.average(found, weights=counts)), 5)} if found else {})
