"""Series of a small head with noise in the background, as magnitudes."""

import numpy as np
from scipy import ndimage

SHAPE = (32, 34, 12)


def make_run(
    n_volumes: int = 60,
    *,
    noise: float = 8.0,
    offsets: np.ndarray | None = None,
    shape: tuple[int, int, int] = SHAPE,
) -> np.ndarray:
    """Return a run of a head of brightness 400 to 900 (X, Y, Z, T).

    `noise` is the standard deviation of both channels. `offsets` is the displacement of the head
    in each volume (T, 3; voxels).
    """
    rng = np.random.default_rng(0)
    folds = ndimage.gaussian_filter(rng.normal(size=shape), 1.5)
    axes = (np.linspace(-1.25, 1.25, size) for size in shape)
    radius = np.sqrt(sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij")))
    head = (650 + 250 * np.tanh(folds / folds.std())) / (1 + np.exp(20 * (radius - 1)))
    moved = (
        np.repeat(head[..., None], n_volumes, -1)
        if offsets is None
        else np.stack([ndimage.shift(head, offset, order=3) for offset in offsets], -1)
    )
    real, imaginary = rng.normal(0, noise, (2, *moved.shape))
    return np.asarray(np.hypot(moved + real, imaginary))
