"""Held-out scores, and what training began with, from a model card."""

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
    own = scores.pop(NETWORK, None)
    if own is None:
        return ""
    method = card.get("method", NETWORK)
    parts = [
        f"{method} {number(own['psnr'], '.2f')} dB"
        + (f", SSIM {number(own['ssim'], '.3f')}" if "ssim" in own else "")
    ]
    for name, each in scores.items():
        change = f"{method} − {name} {number(own['psnr'] - each['psnr'], '+.2f')} dB"
        if "ssim" in own and "ssim" in each:
            change += f", SSIM {number(own['ssim'] - each['ssim'], '+.3f')}"
        parts.append(change)
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
    """With which weights training began, where it began with any; empty otherwise.

    Sentence with name and checksum, or an empty text.
    """
    start = card.get("started_from")
    if not isinstance(start, Mapping):
        return ""
    learned = f", learned from {start['trained_with']}" if start.get("trained_with") else ""
    checksum = str(start.get("weights_sha256", ""))[:12]
    return (
        f"Training started from the weights {start.get('name', start.get('method', ''))}"
        f" ({checksum}…{learned})."
    )
