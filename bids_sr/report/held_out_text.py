"""Held-out scores and initial weights of a training, from a model card."""

from __future__ import annotations

from collections.abc import Mapping

from bids_sr.io.json_values import listed, mapped, real
from bids_sr.metrics.number_text import number

NETWORK = "network"


def scores_of(held_out: Mapping[str, object]) -> dict[str, Mapping[str, float]]:
    """Return scores of the network and of interpolations by name, from a card's ``held_out``."""
    return {
        name: each
        for name, each in held_out.items()
        if isinstance(each, Mapping) and "psnr" in each
    }


def held_out_text(card: Mapping[str, object]) -> str:
    """What the held-out slices say in numbers, without a verdict; empty if the card has none.

    Of a training that held nothing out the slices trained on are told, for what they are.

    Sentence with PSNR (dB) and SSIM, or an empty text.
    """
    seen = mapped(card.get("on_trained_slices"))
    held_out = seen or mapped(card.get("held_out"))
    scores = scores_of(held_out)
    network_score = scores.pop(NETWORK, None)
    if network_score is None:
        return ""
    method = card.get("method", NETWORK)
    parts = [
        f"{method} {number(network_score['psnr'], '.2f')} dB"
        + (f", SSIM {number(network_score['ssim'], '.3f')}" if "ssim" in network_score else "")
    ]
    for name, each in scores.items():
        change = f"{method} − {name} {number(network_score['psnr'] - each['psnr'], '+.2f')} dB"
        if "ssim" in network_score and "ssim" in each:
            change += f", SSIM {number(network_score['ssim'] - each['ssim'], '+.3f')}"
        parts.append(change)
    spans = (listed(mapped(part).get("slices")) for part in listed(held_out.get("parts")))
    # models of version 0.2 and before tell the slices of a pair themselves
    slices = len(listed(held_out.get("slices"))) or sum(
        int(real(last) - real(first)) for first, last in spans
    )
    if seen:
        return (
            f"No slices were held out: the final weights were trained on all {slices} slices of"
            " the pair. The following values for these slices show how closely the slices were"
            " fitted, but not the accuracy on other slices: " + "; ".join(parts) + "."
        )
    return f"On {slices or 'the'} held-out slices of the pair: " + "; ".join(parts) + "."


def started_text(card: Mapping[str, object]) -> str:
    """With which weights training began, where it began with any; empty otherwise.

    Sentence with name and checksum, or an empty text.
    """
    start = card.get("started_from")
    if not isinstance(start, Mapping):
        return ""
    learned = f", trained with {start['trained_with']}" if start.get("trained_with") else ""
    checksum = str(start.get("weights_sha256", ""))[:12]
    return (
        "Training was initialized with the weights of"
        f" {start.get('name', start.get('method', ''))} ({checksum}…{learned})."
    )
