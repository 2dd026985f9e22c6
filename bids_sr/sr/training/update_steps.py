"""The players of a training and their moves: a generator, perhaps one back from fine to coarse, perhaps their critics.

What is compared, and with what, is said by the kind of each loss term (`method.LossTerm`). A critic is taught on
generated images that are cut off from their generator, and read, not taught, when the generator moves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from bids_sr.sr.data.examples import Batch
from bids_sr.sr.losses.adversarial import clip_weights
from bids_sr.sr.recipe import Recipe
from bids_sr.sr.resolution.degradation import Factor


@dataclass(kw_only=True)
class Networks:
    """What a phase trains; mutable, private to the trainings.

    Parameters
    ----------
    generator, critic : from coarse to fine, and the judge of fine images
    backward, backward_critic : from fine to coarse, and the judge of coarse ones; for cycles
    optimizer, critic_optimizer, … : of each
    terms : (kind, module, weight) of the generator's loss, those that are on
    penalty : of the critics' slope, or None
    """

    generator: nn.Module
    critic: nn.Module | None
    optimizer: torch.optim.Optimizer
    critic_optimizer: torch.optim.Optimizer | None
    terms: list[tuple[str, nn.Module, float]]
    backward: nn.Module | None = None
    backward_optimizer: torch.optim.Optimizer | None = None
    backward_critic: nn.Module | None = None
    backward_critic_optimizer: torch.optim.Optimizer | None = None
    penalty: nn.Module | None = None

    @property
    def trained(self) -> Mapping[str, tuple[nn.Module, torch.optim.Optimizer]]:
        """Network and optimizer of each that is there, by name."""
        every = {
            "generator": (self.generator, self.optimizer),
            "critic": (self.critic, self.critic_optimizer),
            "backward": (self.backward, self.backward_optimizer),
            "backward_critic": (self.backward_critic, self.backward_critic_optimizer),
        }
        return {name: (net, steps) for name, (net, steps) in every.items() if net is not None and steps is not None}


def channels_last(ndim: int) -> torch.memory_format:
    """The order of memory in which convolutions are fastest: by a fifth in three dimensions, more in two."""
    return torch.channels_last if ndim == 2 else torch.channels_last_3d


def _placed(net: nn.Module, device: str, ndim: int) -> nn.Module:
    return net.to(device, memory_format=channels_last(ndim))  # type: ignore[call-overload]


def build_networks(
    recipe: Recipe,
    factor: Factor,
    seed: int,
    device: str,
    vgg_weights: Path | None,
    *,
    channels: int = 1,
    ndim: int = 2,
    start: Mapping[str, Tensor] | None = None,
) -> Networks:
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
    generator = _placed(recipe.build_generator(channels, factor), device, ndim)
    losses = recipe.terms_on(vgg_weights is not None)
    cycle, contested = recipe.objective == "cycle", any(term.kind == "adversarial" for term in losses)
    back = recipe.build_backward or recipe.build_generator
    backward = _placed(back(channels, factor), device, ndim) if cycle else None
    critics: list[nn.Module | None] = [None, None]
    if recipe.build_critic is not None and contested:
        critics = [_placed(recipe.build_critic(channels), device, ndim) for _ in range(2 if cycle else 1)] + [None]
    if start is not None:
        generator.load_state_dict(start)
        freeze_but_last(generator, recipe.freeze_but_last)
    terms: list[tuple[str, nn.Module, float]] = []
    for term in losses:
        module = term.build(vgg_weights) if term.kind == "perceptual" else term.build()
        terms.append((term.kind, module.to(device), term.weight))
    rate, critic_rate = recipe.learning_rate, recipe.critic_learning_rate or recipe.learning_rate
    return Networks(
        generator=generator, critic=critics[0], backward=backward, backward_critic=critics[1], terms=terms,
        optimizer=_adam(generator, rate, recipe),
        critic_optimizer=None if critics[0] is None else _adam(critics[0], critic_rate, recipe),
        backward_optimizer=None if backward is None else _adam(backward, rate, recipe),
        backward_critic_optimizer=None if critics[1] is None else _adam(critics[1], critic_rate, recipe),
        penalty=_penalty(recipe, device) if contested else None,
    )  # fmt: skip


def _adam(net: nn.Module, rate: float, recipe: Recipe) -> torch.optim.Optimizer:
    return torch.optim.Adam([p for p in net.parameters() if p.requires_grad], lr=rate, betas=recipe.betas)


def _penalty(recipe: Recipe, device: str) -> nn.Module | None:
    """What bounds the critic's slope, where the game wants a penalty for it."""
    if recipe.critic_game != "wasserstein-gp":
        return None
    from bids_sr.sr.losses.adversarial import GradientPenalty

    return (recipe.build_penalty or GradientPenalty)().to(device)


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


def game_of(nets: Networks) -> nn.Module | None:
    """The adversarial term, or None."""
    return next((module for kind, module, _ in nets.terms if kind == "adversarial"), None)


def teach(
    nets: Networks, critic: nn.Module, optimizer: torch.optim.Optimizer, real: Tensor, fake: Tensor, recipe: Recipe
) -> float:
    """One step of a critic. The generated images are detached here: their generator gets no gradient from it."""
    game = game_of(nets)
    assert game is not None
    optimizer.zero_grad(set_to_none=True)
    loss = game.critic(critic(real), critic(fake.detach()))  # type: ignore[operator]
    if nets.penalty is not None:
        loss = loss + recipe.penalty_weight * nets.penalty(critic, real, fake)
    loss.backward()
    optimizer.step()
    if recipe.critic_game == "wasserstein":
        clip_weights(critic, recipe.weight_clip)
    return float(loss.detach())


def critics_step(nets: Networks, batch: Batch, recipe: Recipe, fake: Tensor | None = None) -> dict[str, float]:
    """One step of every critic there is.

    Parameters
    ----------
    nets, recipe : players and rules
    batch : what they see
    fake : the generator's images of that batch, where they are at hand
    """
    parts: dict[str, float] = {}
    if nets.critic is not None and nets.critic_optimizer is not None:
        if fake is None:
            with torch.no_grad():
                fake = nets.generator(batch.input)
        parts["critic"] = teach(nets, nets.critic, nets.critic_optimizer, batch.target, fake, recipe)
    if nets.backward_critic is not None and nets.backward_critic_optimizer is not None and nets.backward is not None:
        with torch.no_grad():
            coarse = nets.backward(batch.target)
        parts["backward_critic"] = teach(
            nets, nets.backward_critic, nets.backward_critic_optimizer, batch.input, coarse, recipe
        )
    return parts


def judged(module: nn.Module, critic: nn.Module, image: Tensor) -> Tensor:
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
    nets, batch : players and what they see
    kind, module : of the term
    fake : the generator's images
    other : with cycles: "coarse" F(y), "there" G(F(y)), "back" F(G(x)), "same" G(y), "coarse_same" F(x)
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
            return module(other["back"], batch.input, batch.weight) + module(other["there"], batch.target, batch.weight)
        case "identity":
            return module(other["same"], batch.target, batch.weight) + module(
                other["coarse_same"], batch.input, batch.weight
            )
        case "adversarial" if nets.critic is not None:
            value = judged(module, nets.critic, fake)
            if nets.backward_critic is not None:
                value = value + judged(module, nets.backward_critic, other["coarse"])
            return value
    return None


def around(nets: Networks, batch: Batch, fake: Tensor) -> dict[str, Tensor]:
    """What the two generators make of each other's images; nothing without a generator back."""
    if nets.backward is None:
        return {}
    kinds = {kind for kind, _, _ in nets.terms}
    out = {"coarse": nets.backward(batch.target)}
    if "cycle" in kinds:
        out |= {"back": nets.backward(fake), "there": nets.generator(out["coarse"])}
    if "identity" in kinds:
        out |= {"same": nets.generator(batch.target), "coarse_same": nets.backward(batch.input)}
    return out


def _update(optimizers: Iterable[tuple[nn.Module, torch.optim.Optimizer]], total: Tensor, recipe: Recipe) -> None:
    pairs = list(optimizers)
    for _, optimizer in pairs:
        optimizer.zero_grad(set_to_none=True)
    total.backward()
    for net, optimizer in pairs:
        if recipe.gradient_limit is not None:
            torch.nn.utils.clip_grad_norm_(net.parameters(), recipe.gradient_limit)
        optimizer.step()


def generators_step(nets: Networks, batch: Batch, fake: Tensor, recipe: Recipe, adversarial: bool) -> dict[str, float]:
    """One step of the generators on images that they have just made; returns the terms, unweighted, and their sum."""
    total: Tensor = torch.zeros((), device=fake.device)
    parts: dict[str, float] = {}
    other = around(nets, batch, fake)
    for kind, module, weight in nets.terms:
        if kind == "adversarial" and not adversarial:
            continue
        with torch.set_grad_enabled(weight != 0):  # a term without weight is looked at only
            value = term_value(nets, kind, module, batch, fake, other)
        if value is None:
            continue
        total = total + weight * value
        parts[kind] = parts.get(kind, 0.0) + float(value.detach())
    parts["loss"] = float(total.detach())
    if total.isfinite():
        players = [pair for name, pair in nets.trained.items() if name in ("generator", "backward")]
        _update(players, total, recipe)
    return parts
