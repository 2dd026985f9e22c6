"""A T2*-weighted pair: its registration, and the networks that are trained on it."""

from bids_sr.bids import Pair
from bids_sr.frozen import frozen
from bids_sr.pipeline.artifacts import Facts, File, Image, Mask, Rows, Table, Transforms


@frozen
class RegisteredPair:
    """The members of a pair in one frame.

    `highres2lowres_xfm`: of a point of the high-resolution image to the low-resolution one.
    """

    pair: Pair
    train_highres: Image
    train_lowres: Image
    pair_mask: Mask
    highres2lowres_xfm: Transforms
    pair_facts: Facts


@frozen
class TrainedModel:
    """Weights of a network with their card and the log of their training.

    `holdout`: metrics on a pair that was held out; None without such a pair.
    """

    model_file: File
    card_file: Facts
    log_file: Table
    holdout: Rows | None = None
