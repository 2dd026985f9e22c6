"""Names of the terms of a loss, as in model cards, in words."""

from __future__ import annotations

from bids_sr.sr.recipe import LossTerm

_WORDS = {
    "content:MSE": "squared error",
    "content:MAE": "absolute error",
    "ssim:SSIMLoss": "structural dissimilarity",
    "psnr:PSNRLoss": "a PSNR term",
    "adversarial:AdversarialBCE": "the adversarial loss of a discriminator",
    "adversarial:AdversarialWasserstein": "the adversarial loss of a Wasserstein critic",
    "adversarial:CriticScore": "the score of a critic",
    "perceptual:VGGPerceptual": "the squared error between VGG-19 features",
    "tv:TotalVariation": "total variation",
    "tv:SummedVariation": "total variation per acquired voxel",
    "cycle:MAE": "absolute cycle-consistency error",
    "identity:MAE": "an identity term",
    "sparsify:JointSparsify": "a joint sparsifying term",
}


def loss_name(term: LossTerm) -> str:
    """Return the name of a term of the loss in a card, ``KIND:CLASS``."""
    return f"{term.kind}:{getattr(term.build, '__name__', term.build)}"


def loss_in_words(name: str) -> str:
    """Return a term of the loss as a noun phrase.

    `name`: ``KIND:CLASS``, as in a card.

    >>> loss_in_words("content:MSE"), loss_in_words("content:Other")
    ('squared error', 'the term content:Other')
    """
    return _WORDS.get(name, f"the term {name}")
