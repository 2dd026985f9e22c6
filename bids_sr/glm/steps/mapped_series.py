"""Records of a series and its brain, for steps that measure effects in any series of a run."""

from collections.abc import Sequence

from bids_sr.engine.artifacts import Mask, Series
from bids_sr.glm.regressors import Regressors
from bids_sr.io.frozen import frozen


@frozen
class MaskedSeries:
    """Series of a run (motion-corrected, signal units, with dummies) and the brain on its grid.

    `own_regressors` are seed time series in this series, one per smoothing width of the maps;
    empty if the regressors of the run are used.
    """

    series_name: str
    series: Series
    mask: Mask
    own_regressors: Sequence[Regressors] = ()


@frozen
class ErrorDraws:
    """Samples of the reconstruction error of a series, and the brain on its grid.

    `error_draws` are samples of the error, (X, Y, Z, samples), and `acquired_draws` the acquired
    (low-resolution) part of the same samples; None if the method has no prior.
    """

    series_name: str
    mask: Mask
    error_draws: Series | None = None
    acquired_draws: Series | None = None


@frozen
class SampledSeries(MaskedSeries, ErrorDraws):
    """Series with samples of its reconstruction error."""
