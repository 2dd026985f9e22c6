"""Sentences on held-out scores and initial weights, from a model card."""

from __future__ import annotations

from collections.abc import Mapping

from bids_sr.io.json_values import as_list, as_mapping, as_number
from bids_sr.metrics.number_text import number

NETWORK = "network"


def read_scores(held_out: Mapping[str, object]) -> dict[str, Mapping[str, float]]:
    """Return the scores of network and interpolations by name, from ``held_out`` of a card."""
    return {
        name: entry
        for name, entry in held_out.items()
        if isinstance(entry, Mapping) and "psnr" in entry
    }


def describe_held_out(card: Mapping[str, object]) -> str:
    """Return a sentence with held-out PSNR (dB) and SSIM; "" if the card has no scores.

    If no slices were held out, the sentence reports the scores of training slices and states this.
    """
    training_scores = as_mapping(card.get("on_trained_slices"))
    held_out = training_scores or as_mapping(card.get("held_out"))
    scores = read_scores(held_out)
    network_score = scores.pop(NETWORK, None)
    if network_score is None:
        return ""
    method = card.get("method", NETWORK)
    sentences = [
        f"{method} {number(network_score['psnr'], '.2f')} dB"
        + (f", SSIM {number(network_score['ssim'], '.3f')}" if "ssim" in network_score else "")
    ]
    for name, score in scores.items():
        change = f"{method} − {name} {number(network_score['psnr'] - score['psnr'], '+.2f')} dB"
        if "ssim" in network_score and "ssim" in score:
            change += f", SSIM {number(network_score['ssim'] - score['ssim'], '+.3f')}"
        sentences.append(change)
    spans = (as_list(as_mapping(part).get("slices")) for part in as_list(held_out.get("parts")))
    # Models of version 0.2 and earlier list the slices of a pair directly.
    slices = len(as_list(held_out.get("slices"))) or sum(
        int(as_number(last) - as_number(first)) for first, last in spans
    )
    if training_scores:
        return (
            f"No slices were held out: the final weights were trained on all {slices} slices of"
            " the pair. The following values for these slices show how closely the slices were"
            " fitted, but not the accuracy on other slices: " + "; ".join(sentences) + "."
        )
    return f"On {slices or 'the'} held-out slices of the pair: " + "; ".join(sentences) + "."


def describe_initial_weights(card: Mapping[str, object]) -> str:
    """Return a sentence on the initial weights of a training; "" if they were random."""
    start = card.get("started_from")
    if not isinstance(start, Mapping):
        return ""
    recipe_text = f", trained with {start['trained_with']}" if start.get("trained_with") else ""
    checksum = str(start.get("weights_sha256", ""))[:12]
    return (
        "Training was initialized with the weights of"
        f" {start.get('name', start.get('method', ''))} ({checksum}…{recipe_text})."
    )
