"""The tissue mixture model on images with known tissues."""

import numpy as np
import pytest

from bids_sr.preproc.mixture_segmentation import compute_tissue_probabilities, label_tissues


def layers(noise: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return T1w of nested boxes, labels (1 GM, 2 WM, 3 CSF) and mask.

    WM is the core, CSF the rim.
    """
    labels = np.zeros((30, 32, 28), dtype=int)
    labels[2:-2, 2:-2, 2:-2], labels[5:-5, 5:-5, 5:-5], labels[10:-10, 10:-10, 10:-10] = 3, 1, 2
    level = np.array([0, 600, 1000, 200])[labels]
    image = level + np.random.default_rng(0).normal(0, noise, labels.shape) * (labels > 0)
    return image, labels, labels > 0


@pytest.mark.parametrize("with_priors", [True, False])
def test_known_tissues_are_recovered_and_probabilities_sum_to_1(with_priors: bool) -> None:
    image, labels, mask = layers(90.0)
    priors = np.stack([labels == 1, labels == 2, labels == 3]) * 0.6 + 0.2 if with_priors else None
    probabilities = compute_tissue_probabilities(image, mask, priors)
    assert np.allclose(probabilities.sum(axis=0)[mask], 1, atol=1e-5)
    assert not probabilities[:, ~mask].any()
    assert (label_tissues(probabilities)[mask] == labels[mask]).mean() > 0.95
    assert not label_tissues(probabilities)[~mask].any()


def test_neighbors_improve_accuracy_in_strong_noise() -> None:
    """Compare with the most probable tissue of each voxel by itself, with its true density."""
    image, labels, mask = layers(180.0)
    priors = np.stack([labels == 1, labels == 2, labels == 3]) * 0.6 + 0.2
    levels = np.array([600, 1000, 200])[:, None, None, None]
    density = priors * np.exp(-((image - levels) ** 2) / (2 * 180.0**2))
    alone = 1 + density.argmax(axis=0)
    found = label_tissues(compute_tissue_probabilities(image, mask, priors))
    accuracies = [(tissue[mask] == labels[mask]).mean() for tissue in (alone, found)]
    assert accuracies[1] > accuracies[0] + 0.03


def test_tissues_do_not_depend_on_scale_and_empty_images_are_rejected() -> None:
    image, _, mask = layers(60.0)
    assert np.allclose(
        compute_tissue_probabilities(image, mask),
        compute_tissue_probabilities(7 * image, mask),
        atol=1e-3,
    )
    with pytest.raises(ValueError, match="zero"):
        compute_tissue_probabilities(np.zeros(mask.shape), mask)
    with pytest.raises(ValueError, match="empty"):
        compute_tissue_probabilities(image, np.zeros_like(mask))
