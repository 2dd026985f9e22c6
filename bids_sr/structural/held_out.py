"""Slices of a head that models were not trained on, from their cards."""

from collections.abc import Mapping, Sequence

from bids_sr.sr.models.card import ModelCard


def list_held_out_slices(
    cards: Sequence[Mapping[str, object]], depth: int, checksum: str
) -> list[int]:
    """Return the slices of a head that no model was trained on, in ascending order.

    Slices are counted from 0, and `depth` is their number. All slices are returned if no model was
    trained on this head. `checksum` is the checksum of the head's images, as in the models' cards.
    Names of heads are not used, because they are not unique across studies.
    """
    slices = set(range(depth))
    for card in map(ModelCard.from_json, cards):
        image_names = {name for name, sha256 in card.data_sha256.items() if sha256 == checksum}
        if not image_names:
            continue
        parts = card.held_out.get("parts")
        slices &= {
            index
            for part in (parts if isinstance(parts, list) else [])
            if part["image"] in image_names
            for index in range(*part["slices"])
        }
    return sorted(slices)
