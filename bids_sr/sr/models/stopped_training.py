"""Networks whose training was stopped by its time limit, and that are worse than zero filling."""

from bids_sr.sr.models.card import ModelCard, mapping_entry
from bids_sr.sr.models.training_record import read_training

MAX_LOSS_DB = 1.0
"""Largest loss of PSNR (dB) relative to zero filling with which a stopped training is used."""
# entries of a model card with scores, in the order of preference
_SCORED_IMAGES = {
    "on_second_pair": "a second pair",
    "held_out": "held-out slices",
    "on_trained_slices": "the slices of the training",
}


def explain_stopped(card: ModelCard) -> str:
    """Return why a network is too inaccurate to be applied, as a clause; "" if it may be applied.

    This is the case if the time limit stopped the training, and if the PSNR on a second pair, on
    held-out slices or else on the slices of the training is more than `MAX_LOSS_DB` below zero
    filling. Trainings that were shortened for a test (`sloppy`), and trainings without
    high-resolution images, which have no such scores, may always be applied.
    """
    phase = read_training(card).phase
    if phase is None or phase.ended_by != "time" or card.json.get("sloppy") is True:
        return ""
    for entry, images in _SCORED_IMAGES.items():
        scores = mapping_entry(card.json, entry)
        network, zerofill = (
            mapping_entry(scores, name).get("psnr") for name in ("network", "zerofill")
        )
        if isinstance(network, int | float) and isinstance(zerofill, int | float):
            loss_db = zerofill - network
            planned_text = "" if phase.planned is None else f" of {phase.planned:,}"
            return (
                f"its training was stopped after {phase.steps:,}{planned_text} steps, and its"
                f" PSNR on {images} is {loss_db:.1f} dB lower than with zero filling"
                if loss_db > MAX_LOSS_DB
                else ""
            )
    return ""
