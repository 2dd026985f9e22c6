"""Update steps of generators and critics in adversarial, cycle and plain training.

A critic is trained on generated images that are detached from their generator, and gets no
gradient when the generator is updated.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from bids_sr.io.grids import Factor
from bids_sr.sr.data.examples import Batch
from bids_sr.sr.losses.adversarial import clip_weights, gradient_penalty
from bids_sr.sr.recipe import Recipe


def channels_last(ndim: int) -> torch.memory_format:
    """Return the memory order in which convolutions are fastest.

    It is faster by a fifth in three dimensions, and by more in two.
    """
    return torch.channels_last if ndim == 2 else torch.channels_last_3d


class Networks:
    """What a phase trains; weights depend on the seed (and the start) alone.

    `nets` and `optimizers` go by the names "generator" (to high resolution), "critic" (of
    high-resolution images) and, for cycles, "backward" (to low resolution) and "backward_critic";
    `terms` are (kind, module, weight) of the generators' loss, those that are on.

    `start`: weights of the generator to begin with; layers are frozen as the recipe says only
    where they are given. `companions`: weights of other networks to begin with, by their names;
    those that are missing, or that the recipe does not train, have no effect.
    """

    def __init__(
        self,
        recipe: Recipe,
        factor: Factor,
        *,
        seed: int = 0,
        device: str = "cpu",
        channels: int = 1,
        ndim: int = 2,
        vgg_weights: Path | None = None,
        start: Mapping[str, Tensor] | None = None,
        companions: Mapping[str, Mapping[str, Tensor]] | None = None,
    ) -> None:
        torch.manual_seed(seed)
        losses = recipe.terms_on(vgg_weights is not None)
        cycle = recipe.objective == "cycle"
        nets: dict[str, nn.Module] = {"generator": recipe.build_generator(channels, factor)}
        if cycle:
            nets["backward"] = recipe.build_generator(channels, factor)
        if recipe.build_critic is not None and any(term.kind == "adversarial" for term in losses):
            nets |= {
                name: recipe.build_critic(channels)
                for name in ("critic", "backward_critic")[: 1 + cycle]
            }
        for net in nets.values():
            net.to(device, memory_format=channels_last(ndim))  # type: ignore[call-overload]
        if start is not None:
            nets["generator"].load_state_dict(start)
            _freeze_but_last(nets["generator"], recipe.freeze_but_last)
        for name, state in (companions or {}).items():
            if name in nets:
                nets[name].load_state_dict(state)
        self.recipe, self.nets = recipe, nets
        self.terms = [
            (t.kind, t.build(*[vgg_weights] * (t.kind == "perceptual")).to(device), t.weight)
            for t in losses
        ]
        self.optimizers = {
            name: torch.optim.Adam(
                [p for p in net.parameters() if p.requires_grad],
                betas=recipe.betas,
                lr=("critic" in name and recipe.critic_learning_rate) or recipe.learning_rate,
            )
            for name, net in nets.items()
        }

    @property
    def generator(self) -> nn.Module:
        """The network to high resolution."""
        return self.nets["generator"]

    def set_rate(self, iteration: int, dropped: float) -> float:
        """Set the step's learning rate, of the critics only where theirs follows a schedule.

        It is that of the generators in any case.

        `dropped` is the factor of plateaus so far. Returns the generators' rate.
        """
        recipe = self.recipe
        rate = recipe.rate(iteration, recipe.learning_rate) * dropped
        for name, optimizer in self.optimizers.items():
            base = rate
            if "critic" in name:
                if recipe.schedule not in ("plateau", "linear-decay"):
                    continue
                base = (
                    (recipe.critic_learning_rate or recipe.learning_rate)
                    * rate
                    / recipe.learning_rate
                )
            for group in optimizer.param_groups:
                group["lr"] = base
        return rate

    def critics_step(
        self, batch: Batch, fake: Tensor | None = None, *, lower: bool = False
    ) -> dict[str, float]:
        """Run one step of every critic.

        `fake` holds the generator's images of the batch, where they are at hand. `lower`: compute
        missing images in bf16; the critics themselves stay in single precision.

        Loss of each critic by its name; empty without critics.
        """
        parts: dict[str, float] = {}
        for name, generator, source, real in (
            ("critic", "generator", batch.input, batch.target),
            ("backward_critic", "backward", batch.target, batch.input),
        ):
            if name in self.nets:
                if fake is None or name != "critic":
                    with (
                        torch.no_grad(),
                        torch.autocast(source.device.type, torch.bfloat16, enabled=lower),
                    ):
                        fake = self.nets[generator](source)
                    fake = fake.float()
                parts[name] = self._train_critic(name, real, fake.detach())
        return parts

    def _train_critic(self, name: str, real: Tensor, fake: Tensor) -> float:
        critic = self.nets[name]
        optimizer = self.optimizers[name]
        recipe = self.recipe
        term = next(module for kind, module, _ in self.terms if kind == "adversarial")
        optimizer.zero_grad(set_to_none=True)
        loss = term.critic(critic(real), critic(fake))  # type: ignore[operator]
        if recipe.critic_game == "wasserstein-gp":
            loss = loss + recipe.penalty_weight * gradient_penalty(critic, real, fake)
        loss.backward()
        optimizer.step()
        if recipe.critic_game == "wasserstein":
            clip_weights(critic, recipe.weight_clip)
        return float(loss.detach())

    def generators_step(self, batch: Batch, fake: Tensor, adversarial: bool) -> dict[str, float]:
        """One step of the generators on images that they have just made.

        Returns the terms, unweighted, and their sum.

        `fake`: what the generator made of the input (N, C, *grid), with its gradient.
        """
        total: Tensor = torch.zeros((), device=fake.device)
        parts: dict[str, float] = {}
        made = self._made(batch, fake)
        for kind, module, weight in self.terms:
            if not (adversarial or self.pretrains(kind)):
                continue
            with torch.set_grad_enabled(weight != 0):  # a term without weight is only logged
                value = self._term(kind, module, batch, made)
            total = total + weight * value
            parts[kind] = parts.get(kind, 0.0) + float(value.detach())
        parts["loss"] = float(total.detach())
        if total.isfinite():
            generators = [
                (self.nets[n], optimizer)
                for n, optimizer in self.optimizers.items()
                if "critic" not in n
            ]
            for _, optimizer in generators:
                optimizer.zero_grad(set_to_none=True)
            total.backward()
            for net, optimizer in generators:
                if self.recipe.gradient_limit is not None:
                    torch.nn.utils.clip_grad_norm_(net.parameters(), self.recipe.gradient_limit)
                optimizer.step()
        return parts

    def pretrains(self, kind: str) -> bool:
        """Whether a term is on in the steps without an adversarial term."""
        chosen = self.recipe.pretrained_by
        return kind != "adversarial" and (not chosen or kind in chosen)

    def _made(self, batch: Batch, fake: Tensor) -> dict[str, Tensor]:
        """Return what the generators make of the batch, as far as a loss term asks for it.

        These are the images that G (to high resolution) and F (back) make of the input x, the
        target y and each other's images.
        """
        made = {"G(x)": fake}
        kinds = {kind for kind, _, _ in self.terms}
        if "backward" in self.nets:
            to_high = self.generator
            to_low = self.nets["backward"]
            made["F(y)"] = to_low(batch.target)
            if "cycle" in kinds:
                made |= {"F(G(x))": to_low(fake), "G(F(y))": to_high(made["F(y)"])}
            if "identity" in kinds:
                made |= {"G(y)": to_high(batch.target), "F(x)": to_low(batch.input)}
        return made

    def _term(
        self, kind: str, module: nn.Module, batch: Batch, made: Mapping[str, Tensor]
    ) -> Tensor:
        """Value of one loss term."""
        fake = made["G(x)"]
        x = batch.input
        y = batch.target
        weight = batch.weight
        match kind:
            case "cycle":
                return module(made["F(G(x))"], x, weight) + module(made["G(F(y))"], y, weight)
            case "identity":
                return module(made["G(y)"], y, weight) + module(made["F(x)"], x, weight)
            case "adversarial":
                value = _adversarial(module, self.nets["critic"], fake)
                if "backward_critic" in self.nets:
                    value = value + _adversarial(
                        module, self.nets["backward_critic"], made["F(y)"]
                    )
                return value
            case "tv":
                return module(fake, y)
            case "sparsify":
                return module(fake, y, weight)
        seen = fake if batch.operator is None else batch.operator.forward(fake)
        return module(seen, y) if kind == "perceptual" else module(seen, y, weight)


def _adversarial(module: nn.Module, critic: nn.Module, image: Tensor) -> Tensor:
    """The adversarial loss of an image; the critic gets no gradient."""
    critic.requires_grad_(False)
    try:
        return module(critic(image))
    finally:
        critic.requires_grad_(True)


def weighted_layers(net: nn.Module) -> list[nn.Module]:
    """Return the layers with a weight matrix or kernel, in the order of their definition."""
    return [m for m in net.modules() if any(p.dim() > 1 for p in m.parameters(recurse=False))]


def _freeze_but_last(net: nn.Module, count: int | None) -> None:
    """Stop training all but the last layers with weights; what stands between those goes on too.

    Source: mouse-sr, "all but the last three layers".

    `net`: network whose parameters are frozen in place. `count`: number of layers, from the end,
    that stay trainable; None for all.
    """
    layers = weighted_layers(net)
    if count is None:
        return
    if not 1 <= count <= len(layers):
        raise ValueError(
            f"the network has {len(layers)} layers with weights, so the number of layers to "
            f"train must be from 1 to {len(layers)} (got {count})"
        )
    net.requires_grad_(False)
    modules = list(net.modules())
    for module in modules[modules.index(layers[-count]) :]:
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(True)
