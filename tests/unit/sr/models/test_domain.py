"""Test the comparison of an image with the training data of a model."""

import heads
import numpy as np
import pytest
from scipy import ndimage

from bids_sr.networks.data.examples import Examples
from bids_sr.networks.data.images import TrainingImage
from bids_sr.networks.training import card_entries
from bids_sr.sr.method import get_method
from bids_sr.sr.models import domain
from bids_sr.sr.models.card import ModelCard
from bids_sr.sr.models.request import TrainingRequest


@pytest.fixture(scope="module")
def scene() -> tuple[np.ndarray, np.ndarray]:
    """Return a T2*-weighted brain with 3 mm voxels and its mask."""
    image = heads.t2star(3.0).data
    return image, ndimage.binary_fill_holes(image > 100)


def card_of_model(image: np.ndarray, mask: np.ndarray) -> ModelCard:
    """Return the card of a model trained on this image."""
    quantiles, edges = domain._measure_domain(image, mask)
    return ModelCard.from_json({"domain": {"quantiles": quantiles.tolist(), "edges": edges}})


def test_the_same_head_in_another_unit_is_no_mismatch(
    scene: tuple[np.ndarray, np.ndarray],
) -> None:
    image, mask = scene
    noisy = 7.3 * (image + np.random.default_rng(0).normal(0, 15, image.shape))
    difference = domain.domain_difference(card_of_model(image, mask), noisy, mask)
    assert difference is not None
    distance, edges, warnings = difference
    assert distance < 0.02
    assert edges == pytest.approx(1, abs=0.1)
    assert warnings == []


@pytest.mark.parametrize(
    ("change", "warning"),
    [
        (
            lambda image: np.maximum(image - 500, 0),
            "intensities: the intensity distribution of the image differs",
        ),
        (
            lambda image: ndimage.gaussian_filter(image, 2.5),
            "edges: the edge content of the image is 0",
        ),
        (
            lambda image: image + np.random.default_rng(0).normal(0, 400, image.shape),
            "edges: the edge content of the image is",
        ),
    ],
)
def test_intensity_and_edge_mismatches_are_reported(
    scene: tuple[np.ndarray, np.ndarray], change, warning: str
) -> None:
    image, mask = scene
    inside = ndimage.binary_erosion(mask, iterations=2)  # The rim of the head does not change.
    difference = domain.domain_difference(card_of_model(image, inside), change(image), inside)
    assert difference is not None
    assert any(text.startswith(warning) for text in difference[2])


def test_quantiles_and_edges_equal_numpy() -> None:
    rng = np.random.default_rng(1)
    image, mask = rng.random((6, 5, 4)), np.zeros((6, 5, 4), bool)
    mask[1:5, 1:4] = True
    quantiles, edges = domain._measure_domain(image, mask)
    level = np.percentile(image[mask], 99)
    np.testing.assert_allclose(quantiles, np.quantile(image[mask], domain._QUANTILES) / level)
    part = image[1:5, 1:4] / level
    steps = np.concatenate([np.diff(part, axis=0).ravel(), np.diff(part, axis=1).ravel()])
    assert edges == pytest.approx(np.sqrt(np.mean(steps**2)))


def test_an_old_card_has_no_domain_and_every_new_card_has(
    small_pair: TrainingImage,
) -> None:
    image, mask = small_pair.coarse, small_pair.mask[::2, ::2]
    assert image is not None
    assert domain.domain_difference(ModelCard(), image, mask) is None
    method = get_method("dcnet")
    examples = Examples((small_pair,), method.recipes["fast"], (2.0, 2.0, 1.0), 2)
    entries = card_entries.card_entries(TrainingRequest(method=method.name), examples.describe())
    difference = domain.domain_difference(ModelCard.from_json(entries), image, mask)
    assert difference is not None
    assert difference[0] < 1e-4
    assert difference[1] == pytest.approx(1, abs=1e-4)


def test_images_without_voxels_or_signal_are_rejected() -> None:
    with pytest.raises(ValueError, match="0 voxels"):
        domain._measure_domain(np.ones((3, 3, 3)), np.zeros((3, 3, 3)))
    with pytest.raises(ValueError, match="no positive intensities"):
        domain._measure_domain(np.zeros((3, 3, 3)), np.ones((3, 3, 3)))
