"""Update steps of generators and critics in adversarial, cycle and plain training.

A critic is trained on generated images that are detached from their generator, and gets no gradient when the generator
is updated.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from bids_sr.sr.data.examples import Batch
from bids_sr.sr.losses.adversarial import GradientPenalty, clip_weights
from bids_sr.sr.recipe import Recipe
from bids_sr.sr.resolution.matrices import Factor


@dataclass(kw_only=True)
class Networks:
    """What a phase trains."""

    # to high resolution, and the critic of high-resolution images
    generator: nn.Module
    critic: nn.Module | None
    # to low resolution, and the critic of low-resolution images; for cycles
    backward: nn.Module | None
    backward_critic: nn.Module | None
    optimizers: Mapping[str, torch.optim.Optimizer]  # by those names
    terms: Sequence[tuple[str, nn.Module, float]]  # (kind, module, weight) of the generator's loss, those that are on
    penalty: nn.Module | None  # of the critics' slope, or None

    @property
    def trained(self) -> Mapping[str, tuple[nn.Module, torch.optim.Optimizer]]:
        """Network and optimizer of each that is there, by name."""
        return {name: (getattr(self, name), optimizer) for name, optimizer in self.optimizers.items()}


def channels_last(ndim: int) -> torch.memory_format:
    """The order of memory in which convolutions are fastest: by a fifth in three dimensions, more in two."""
    return torch.channels_last if ndim == 2 else torch.channels_last_3d


def build_networks(
    recipe: Recipe, factor: Factor, seed: int, device: str, vgg_weights: Path | None, *, channels: int = 1,
    ndim: int = 2, start: Mapping[str, Tensor] | None = None,
) -> Networks:  # fmt: skip
    """Networks with weights that depend on the seed (and the start) alone, their optimizers and the terms that are on.

    Parameters
    ----------
    recipe, factor : of the training
    seed : of the initial weights
    device : of the networks
    vgg_weights : for the perceptual term, which is off without them
    channels, ndim : of the images
    start : weights of the generator to begin with; layers are frozen as the recipe says only where they are given
    """
    torch.manual_seed(seed)
    losses = recipe.terms_on(vgg_weights is not None)
    cycle, contested = recipe.objective == "cycle", any(term.kind == "adversarial" for term in losses)
    nets: dict[str, nn.Module] = {"generator": recipe.build_generator(channels, factor)}
    if cycle:
        nets["backward"] = recipe.build_generator(channels, factor)
    if recipe.build_critic is not None and contested:
        nets |= {name: recipe.build_critic(channels) for name in ("critic", "backward_critic")[: 1 + cycle]}
    for net in nets.values():
        net.to(device, memory_format=channels_last(ndim))  # type: ignore[call-overload]
    if start is not None:
        nets["generator"].load_state_dict(start)
        freeze_but_last(nets["generator"], recipe.freeze_but_last)
    terms = [(t.kind, t.build(*[vgg_weights] * (t.kind == "perceptual")).to(device), t.weight) for t in losses]
    optimizers = {name: _adam(net, name, recipe) for name, net in nets.items()}
    penalized = contested and recipe.critic_game == "wasserstein-gp"
    return Networks(
        generator=nets["generator"], critic=nets.get("critic"), backward=nets.get("backward"),
        backward_critic=nets.get("backward_critic"), optimizers=optimizers, terms=terms,
        penalty=GradientPenalty().to(device) if penalized else None,
    )  # fmt: skip


def _adam(net: nn.Module, name: str, recipe: Recipe) -> torch.optim.Optimizer:
    rate = (recipe.critic_learning_rate if "critic" in name else None) or recipe.learning_rate
    return torch.optim.Adam([p for p in net.parameters() if p.requires_grad], lr=rate, betas=recipe.betas)


def weighted_layers(net: nn.Module) -> list[nn.Module]:
    """Layers with a matrix or a kernel of weights, in the order in which the network defines them."""
    return [m for m in net.modules() if any(p.dim() > 1 for p in m.parameters(recurse=False))]


def freeze_but_last(net: nn.Module, count: int | None) -> int:
    """Stop training all but the last layers with weights; what stands between those goes on too.

    Returns the number of parameters that are still trained. Source: mouse-sr, "all but the last three layers".

    Raises
    ------
    ValueError : the network has no such number of layers
    """
    layers = weighted_layers(net)
    if count is not None:
        if not 1 <= count <= len(layers):
            raise ValueError(f"the network has {len(layers)} layers with weights: {count} of them cannot be trained")
        first, before = layers[-count], True
        for module in net.modules():
            before = before and module is not first
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad_(not before)
    return sum(p.numel() for p in net.parameters() if p.requires_grad)


def _train_critic(nets: Networks, name: str, real: Tensor, fake: Tensor, recipe: Recipe) -> float:
    """One step of a critic; the generated images are detached, so that their generator gets no gradient from it."""
    critic, optimizer = nets.trained[name]
    term = next(module for kind, module, _ in nets.terms if kind == "adversarial")
    optimizer.zero_grad(set_to_none=True)
    loss = term.critic(critic(real), critic(fake.detach()))  # type: ignore[operator]
    if nets.penalty is not None:
        loss = loss + recipe.penalty_weight * nets.penalty(critic, real, fake)
    loss.backward()
    optimizer.step()
    if recipe.critic_game == "wasserstein":
        clip_weights(critic, recipe.weight_clip)
    return float(loss.detach())


def critics_step(nets: Networks, batch: Batch, recipe: Recipe, fake: Tensor | None = None) -> dict[str, float]:
    """One step of every critic there is; `fake`: the generator's images of the batch, where they are at hand."""
    parts: dict[str, float] = {}
    if nets.critic is not None:
        if fake is None:
            with torch.no_grad():
                fake = nets.generator(batch.input)
        parts["critic"] = _train_critic(nets, "critic", batch.target, fake, recipe)
    if nets.backward_critic is not None and nets.backward is not None:
        with torch.no_grad():
            low = nets.backward(batch.target)
        parts["backward_critic"] = _train_critic(nets, "backward_critic", batch.input, low, recipe)
    return parts


def _adversarial(module: nn.Module, critic: nn.Module, image: Tensor) -> Tensor:
    """The adversarial loss of an image; the critic gets no gradient."""
    critic.requires_grad_(False)
    try:
        return module(critic(image))
    finally:
        critic.requires_grad_(True)


def term_value(
    nets: Networks, kind: str, module: nn.Module, batch: Batch, fake: Tensor, other: Mapping[str, Tensor]
) -> Tensor | None:
    """Value of one loss term, or None where this step has none.

    Parameters
    ----------
    nets, batch : networks and what they see
    kind, module : of the term
    fake : the generator's images
    other : of `_cycled`
    """
    seen = fake if batch.operator is None else batch.operator.forward(fake)
    match kind:
        case "content" | "psnr" | "ssim":
            return module(seen, batch.target, batch.weight)
        case "perceptual":
            return module(seen, batch.target)
        case "tv":
            return module(fake)
        case "sparsify":
            return module(fake, batch.target, batch.weight)
        case "cycle":
            return module(other["F(G(x))"], batch.input, batch.weight) + module(
                other["G(F(y))"], batch.target, batch.weight
            )
        case "identity":
            return module(other["G(y)"], batch.target, batch.weight) + module(other["F(x)"], batch.input, batch.weight)
        case "adversarial" if nets.critic is not None:
            value = _adversarial(module, nets.critic, fake)
            if nets.backward_critic is not None:
                value = value + _adversarial(module, nets.backward_critic, other["F(y)"])
            return value
    return None


def _cycled(nets: Networks, batch: Batch, fake: Tensor) -> dict[str, Tensor]:
    """What the generators G (to high resolution) and F (back) make of the input x, the target y and each other's
    images; nothing without a generator back."""
    if nets.backward is None:
        return {}
    kinds = {kind for kind, _, _ in nets.terms}
    out = {"F(y)": nets.backward(batch.target)}
    if "cycle" in kinds:
        out |= {"F(G(x))": nets.backward(fake), "G(F(y))": nets.generator(out["F(y)"])}
    if "identity" in kinds:
        out |= {"G(y)": nets.generator(batch.target), "F(x)": nets.backward(batch.input)}
    return out


def generators_step(nets: Networks, batch: Batch, fake: Tensor, recipe: Recipe, adversarial: bool) -> dict[str, float]:
    """One step of the generators on images that they have just made; returns the terms, unweighted, and their sum."""
    total: Tensor = torch.zeros((), device=fake.device)
    parts: dict[str, float] = {}
    other = _cycled(nets, batch, fake)
    for kind, module, weight in nets.terms:
        if kind == "adversarial" and not adversarial:
            continue
        with torch.set_grad_enabled(weight != 0):  # a term without weight is only logged
            value = term_value(nets, kind, module, batch, fake, other)
        if value is None:
            continue
        total = total + weight * value
        parts[kind] = parts.get(kind, 0.0) + float(value.detach())
    parts["loss"] = float(total.detach())
    if total.isfinite():
        pairs = [pair for name, pair in nets.trained.items() if "critic" not in name]
        for _, optimizer in pairs:
            optimizer.zero_grad(set_to_none=True)
        total.backward()
        for net, optimizer in pairs:
            if recipe.gradient_limit is not None:
                torch.nn.utils.clip_grad_norm_(net.parameters(), recipe.gradient_limit)
            optimizer.step()
    return parts
