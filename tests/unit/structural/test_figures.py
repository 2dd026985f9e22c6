"""Test figures and tables of structural scans, and the sections of their report."""

import numpy as np

from bids_sr.io.volume import Volume
from bids_sr.structural.figures import classes_figure, scans_figure

AFFINE = np.array([[-2.0, 0, 0, 10], [0, 2, 0, -10], [0, 0, 2, -5], [0, 0, 0, 1]])
SHAPE = (10, 12, 5)


def scan(seed):
    return Volume(np.random.default_rng(seed).random(SHAPE), AFFINE)


def test_panels_show_the_requested_slice_with_left_on_the_left():
    mask = Volume(np.ones(SHAPE, bool), AFFINE)
    measured, resolved = {"T1w": scan(0), "FLAIR": scan(1)}, {"T1w": scan(2), "FLAIR": scan(3)}
    fig = scans_figure({"bspline": measured, "attunet": resolved}, measured, mask, 3)
    images = [artist.get_array() for artist in fig.axes[0].images]
    assert len(images) == 2 * 4
    # the first axis is stored from right to left and is flipped
    np.testing.assert_allclose(images[1], resolved["T1w"].data[::-1, :, 3].T, rtol=1e-6)
    np.testing.assert_allclose(
        images[3], (resolved["T1w"].data - measured["T1w"].data)[::-1, :, 3].T, rtol=1e-5
    )
    titles = ["bspline", "attunet", "measured", "attunet − measured"]
    assert [
        artist.get_text() for artist in fig.axes[0].texts if artist.get_text() in titles
    ] == titles


def test_the_coronal_plane_is_in_the_middle_of_the_brain():
    brain = np.zeros(SHAPE, bool)
    brain[:, 3:8] = True
    measured, resolved = {"T1w": scan(0)}, {"T1w": scan(2)}
    fig = scans_figure({"attunet": resolved}, measured, Volume(brain, AFFINE), None)
    images = [each.get_array() for each in fig.axes[0].images]
    np.testing.assert_allclose(images[0], resolved["T1w"].data[::-1, 5, :].T, rtol=1e-6)
    np.testing.assert_allclose(images[1], measured["T1w"].data[::-1, 5, :].T, rtol=1e-6)


def test_lesions_and_tissue_classes_have_the_colors_of_the_paper():
    mask = Volume(np.ones(SHAPE, bool), AFFINE)
    names = ["linear", "attunet", "measured"]
    flairs = {name: scan(k) for k, name in enumerate(names)}
    random = np.random.default_rng(9)
    lesions = {name: mask.like(random.random(SHAPE) > 0.6) for name in names}
    classes = {name: mask.like(random.integers(0, 5, SHAPE)) for name in names}
    fig = classes_figure(flairs, lesions, classes, mask, 3)
    drawn = fig.axes[0].images
    flair_panels, lesion_panels, coronal, layers = drawn[:3], drawn[3:9], drawn[9:12], drawn[12:]
    assert len(layers) == 3 * 4
    for k, name in enumerate(names):
        image = flairs[name].data
        for axial in (flair_panels[k], lesion_panels[2 * k]):
            np.testing.assert_allclose(axial.get_array(), image[::-1, :, 3].T, rtol=1e-6)
        np.testing.assert_array_equal(
            np.ma.filled(lesion_panels[2 * k + 1].get_array(), 0) == 1,
            lesions[name].data[::-1, :, 3].T,
        )
        red, green, blue, _ = lesion_panels[2 * k + 1].to_rgba([1.0])[0]
        assert red > 0.8
        assert blue < 0.4
        assert (green > 0.6) == (name == "measured"), "yellow for the measured scan"
        np.testing.assert_allclose(coronal[k].get_array(), image[::-1, 6, :].T, rtol=1e-6)
        shown = layers[4 * k + 1 : 4 * k + 4]
        # CSF red, veins and sinuses green, pial layer blue
        for label, channel, layer in ((1, 0, shown[0]), (2, 1, shown[1]), (3, 2, shown[2])):
            np.testing.assert_array_equal(
                np.ma.filled(layer.get_array(), 0) == 1, label == classes[name].data[::-1, 6, :].T
            )
            assert np.argmax(layer.to_rgba([1.0])[0][:3]) == channel
    assert len(classes_figure(flairs, lesions, {}, mask, 3).axes[0].images) == 9
    edited = mask.like(random.random(SHAPE) > 0.7)
    with_edited = classes_figure(flairs, lesions, {}, mask, 3, edited=edited).axes[0].images
    assert len(with_edited) == 10
    np.testing.assert_array_equal(
        np.ma.filled(with_edited[-1].get_array(), 0) == 1, edited.data[::-1, :, 3].T
    )
