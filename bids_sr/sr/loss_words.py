"""Descriptions of the loss terms named in model cards."""

from __future__ import annotations

from bids_sr.sr.recipe import LossTerm

_PHRASES = {
    "content:MSE": "squared error",
    "content:MAE": "absolute error",
    "content:BCE": "the cross-entropy of intensities",
    "ssim:SSIMLoss": "structural dissimilarity",
    "psnr:PSNRLoss": "a PSNR term",
    "adversarial:AdversarialBCE": "the adversarial loss of a discriminator",
    "adversarial:AdversarialWasserstein": "the adversarial loss of a Wasserstein critic",
    "adversarial:CriticScore": "the score of a critic",
    "perceptual:VGGPerceptual": "the squared error between VGG-19 features",
    "tv:TotalVariation": "total variation",
    "tv:SummedVariation": "total variation per acquired voxel",
    "tv:SquaredVariation": "mean squared differences of neighboring voxels",
    "cycle:MAE": "absolute cycle-consistency error",
    "identity:MAE": "an identity term",
    "sparsify:JointSparsify": "a joint sparsifying term",
}


def loss_name(term: LossTerm) -> str:
    """Return the name of a loss term in a model card, ``KIND:CLASS``."""
    return f"{term.kind}:{getattr(term.build, '__name__', term.build)}"


def loss_in_words(name: str) -> str:
    """Return a noun phrase for a loss term, given its name in a model card (``KIND:CLASS``).

    >>> loss_in_words("content:MSE"), loss_in_words("content:Other")
    ('squared error', 'the term content:Other')
    """
    return _PHRASES.get(name, f"the term {name}")
