"""Effective resolution of images with a known cutoff, and the decorrelation curve."""

import numpy as np
import pytest

from bids_sr.spatial import effective_resolution


def band_limited(n, limit, *, decay, noise, seed=0):
    """Return a random image with signal up to a radius (1: Nyquist) and white noise."""
    rng = np.random.default_rng(seed)
    radius = np.hypot(*np.meshgrid(*(2 * np.fft.fftfreq(m) for m in (n, n + 4)), indexing="ij"))
    spectrum = (
        np.fft.fft2(rng.normal(size=radius.shape))
        / (1 + radius / 0.1) ** decay
        * (radius <= limit)
    )
    image = np.fft.ifft2(spectrum).real
    return image / image.std() + noise * rng.normal(size=image.shape)


@pytest.mark.parametrize("limit", [0.2, 0.5, 0.85])
@pytest.mark.parametrize(("decay", "noise"), [(0, 0.01), (1, 0.1), (2, 0.01)])
def test_a_known_cutoff_is_recovered(limit, decay, noise):
    assert effective_resolution.cutoff(
        band_limited(160, limit, decay=decay, noise=noise)
    ) == pytest.approx(limit, abs=0.025)


def test_the_decorrelation_curve_equals_its_definition():
    image = np.random.default_rng(1).normal(size=(12, 12))
    spectrum = np.fft.fft2(image)
    radius = np.hypot(*np.meshgrid(*(2 * np.fft.fftfreq(12),) * 2, indexing="ij"))
    inside = radius <= 1
    order = np.argsort(radius[inside])
    curve = effective_resolution.decorrelation(
        radius[inside][order], np.abs(spectrum)[inside][order], np.array([0.0, 0.4, 0.9])
    )
    for value, r in zip(curve, (0.0, 0.4, 0.9), strict=True):
        phase = np.where(radius <= r, spectrum / np.abs(spectrum), 0)
        cross = (spectrum * phase.conj())[inside].sum().real
        expected = cross / np.sqrt(
            (np.abs(spectrum[inside]) ** 2).sum() * (np.abs(phase) ** 2).sum()
        )
        assert value == pytest.approx(expected)


def test_effective_resolution_is_voxel_size_over_the_median_cutoff():
    stack = np.stack(
        [band_limited(128, 0.5, decay=1, noise=0.02, seed=s) for s in range(3)], axis=-1
    )
    resolution = effective_resolution.effective_resolution(stack, (1.5, 1.5, 4.0))
    cutoffs = [effective_resolution.cutoff(stack[..., z]) for z in range(3)]
    assert resolution == pytest.approx(1.5 / np.median(cutoffs))
    assert resolution == pytest.approx(3.0, rel=0.05)
    mask = np.zeros(stack.shape, bool)
    mask[:60, :60, 1] = mask[:5, :5, 2] = True
    assert effective_resolution.effective_resolution(
        stack, (1.5, 1.5, 4.0), mask
    ) == pytest.approx(1.5 / cutoffs[1])


def test_constant_images_have_no_resolution_and_anisotropic_voxels_are_rejected():
    assert effective_resolution.cutoff(np.full((32, 32), 7.0)) is None
    assert effective_resolution.effective_resolution(np.zeros((32, 32, 2)), (1, 1, 1)) is None
    with pytest.raises(ValueError, match="isotropic"):
        effective_resolution.effective_resolution(np.zeros((32, 32)), (1, 1.5))
