"""Sentences on held-out scores and initial weights, from a model card."""

from __future__ import annotations

from collections.abc import Mapping

from bids_sr.engine.number_text import number
from bids_sr.io.json_values import as_list, as_mapping, as_number

NETWORK = "network"


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
    clauses = [_score_text(str(method), network_score)]
    for name, score in scores.items():
        differences = {
            metric: network_score[metric] - score[metric]
            for metric in ("psnr", "ssim")
            if metric in network_score and metric in score
        }
        clauses.append(_score_text(f"{method} − {name}", differences, sign="+"))
    spans = (as_list(as_mapping(part).get("slices")) for part in as_list(held_out.get("parts")))
    # models of version 0.2 and earlier list the slices of a pair directly
    n_slices = len(as_list(held_out.get("slices"))) or sum(
        int(as_number(last) - as_number(first)) for first, last in spans
    )
    values_text = "; ".join(clauses)
    if training_scores:
        return (
            f"No slices were held out: the final weights were trained on all {n_slices} slices of"
            " the pair. The following values for these slices show how closely the slices were"
            f" fitted, but not the accuracy on other slices: {values_text}."
        )
    return f"On {n_slices or 'the'} held-out slices of the pair: {values_text}."


def read_scores(held_out: Mapping[str, object]) -> dict[str, Mapping[str, float]]:
    """Return the scores of network and interpolations by name, from ``held_out`` of a card."""
    return {
        name: entry
        for name, entry in held_out.items()
        if isinstance(entry, Mapping) and "psnr" in entry
    }


def _score_text(label: str, scores: Mapping[str, float], sign: str = "") -> str:
    """Return PSNR and, if known, SSIM after a label; with the `sign` "+", signs are shown."""
    ssim_text = f", SSIM {number(scores['ssim'], f'{sign}.3f')}" if "ssim" in scores else ""
    return f"{label} {number(scores['psnr'], f'{sign}.2f')} dB{ssim_text}"


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
