"""Effects of contrasts for complete slices, from the linear model of a whole run."""

import numpy as np

from bids_sr.glm.contrasts import Contrasts
from bids_sr.glm.design import Design, contrast_vector
from bids_sr.io.arrays import Float32
from bids_sr.io.nifti import SeriesReader
from bids_sr.spatial.streamed_fit import StreamedFit, divide_into_batches


def compute_contrast_effects(
    reader: SeriesReader, design: Design, contrasts: Contrasts
) -> Float32:
    """Return the effects of contrasts by ordinary least squares, (contrasts, X, Y, Z).

    Unlike activation maps, effects are computed in all voxels, so that slices can be filtered. The
    series (X, Y, Z, T) is in BOLD signal units and includes dummies. All contrasts must be
    estimable.
    """
    vectors = [contrast_vector(design, name, weights) for name, weights in contrasts.items()]
    weights = np.linalg.pinv(design.matrix).T @ np.reshape(vectors, (-1, len(design.columns))).T
    fit = StreamedFit(weights.astype(np.float32), reader.volume(design.n_dummy).ravel(order="F"))
    for batch in divide_into_batches(reader.volumes(design.n_dummy)):
        fit.add([volume.ravel(order="F") for volume in batch])
    shape = reader.shape[:3]
    effects = fit.products.T.reshape(len(contrasts), *shape[::-1])
    return np.ascontiguousarray(effects.transpose(0, 3, 2, 1), dtype=np.float32)
