"""Training curves and held-out scores from a training log and a model card."""

import math
from collections.abc import Mapping

import numpy as np

from bids_sr.frozen import frozen
from bids_sr.io.array_types import Array
from bids_sr.io.json_values import listed, mapped, real

_NETWORK = "network"
_LOSSES = ("loss", "content", "adversarial", "perceptual", "critic")


@frozen
class TrainingRecord:
    """Training curves: held-out PSNR (dB) and losses by name, (N,) each, NaN if not taken.

    `levels` are the held-out PSNR of plain interpolation; `chosen_step` is the iteration of the
    weights that were kept.
    """

    steps: Array
    curves: Mapping[str, Array]
    levels: Mapping[str, float]
    losses: Mapping[str, Array]
    chosen_step: float | None


def read_training(columns: Mapping[str, Array], card: Mapping[str, object]) -> TrainingRecord:
    """Read the curves from the columns of a training log.

    Levels and the chosen iteration come from the model card's ``held_out``.

    Columns are ``iteration``, ``psnr`` and the losses, NaN where a row has no such value. A second
    phase, training again on all slices without held-out ones, counts from the start; the first one
    is shown.
    """
    steps = np.asarray(columns.get("iteration", ()), dtype=float)
    again = np.flatnonzero(np.diff(steps) < 0)
    end = int(again[0]) + 1 if again.size else len(steps)
    held_out = mapped(card.get("held_out"))
    scores = {
        name: each["psnr"]
        for name, each in held_out.items()
        if isinstance(each, Mapping) and "psnr" in each
    }
    method = str(card.get("method", _NETWORK))
    return TrainingRecord(
        steps=steps[:end],
        curves=(
            {method: np.asarray(columns["psnr"], dtype=float)[:end]} if "psnr" in columns else {}
        ),
        levels={name: float(value) for name, value in scores.items() if name != _NETWORK},
        losses={
            name: np.asarray(columns[name], dtype=float)[:end]
            for name in _LOSSES
            if name in columns
        },
        chosen_step=None if math.isnan(step := real(held_out.get("iteration"))) else step,
    )


def held_out_text(card: Mapping[str, object]) -> str:
    """What the held-out slices say in numbers, without a verdict; empty if the card has none.

    Of a training that held nothing out the slices trained on are told, for what they are.
    """
    seen = mapped(card.get("on_trained_slices"))
    held_out = seen or mapped(card.get("held_out"))
    scores = {
        name: each
        for name, each in held_out.items()
        if isinstance(each, Mapping) and "psnr" in each
    }
    own = scores.pop(_NETWORK, None)
    if own is None:
        return ""
    method = card.get("method", _NETWORK)
    parts = [
        f"{method} {own['psnr']:.2f} dB" + (f", SSIM {own['ssim']:.3f}" if "ssim" in own else "")
    ]
    for name, each in scores.items():
        change = f"{own['psnr'] - each['psnr']:+.2f} dB"
        if "ssim" in own and "ssim" in each:
            change += f", SSIM {own['ssim'] - each['ssim']:+.3f}"
        parts.append(f"{method} − {name} {change.replace('-', '−')}")
    spans = (listed(mapped(part).get("slices")) for part in listed(held_out.get("parts")))
    # models of version 0.2 and before tell the slices of a pair themselves
    slices = len(listed(held_out.get("slices"))) or sum(
        int(real(last) - real(first)) for first, last in spans
    )
    if seen:
        return (
            f"No slice was held out: final weights after training on all {slices} slices of the"
            " pair. On these, which shows how closely they were fitted and nothing about other"
            " slices: " + "; ".join(parts) + "."
        )
    return f"On {slices or 'the'} held-out slices of the pair: " + "; ".join(parts) + "."


def started_text(card: Mapping[str, object]) -> str:
    """With which weights training began, where it began with any; empty otherwise."""
    start = card.get("started_from")
    if not isinstance(start, Mapping):
        return ""
    learned = f", learned from {start['trained_with']}" if start.get("trained_with") else ""
    checksum = str(start.get("weights_sha256", ""))[:12]
    return (
        f"Training started from the weights {start.get('name', start.get('method', ''))}"
        f" ({checksum}…{learned})."
    )
