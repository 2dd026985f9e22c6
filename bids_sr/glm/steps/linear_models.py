"""Linear model of a run, as parameters of steps.

A step takes the record with the fields that it uses, so that no other option makes it run again.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace

from bids_sr.engine.artifacts import Confounds
from bids_sr.glm.blocks import BlockDesign, block_design
from bids_sr.glm.contrasts import Contrasts
from bids_sr.glm.design import Design, DesignSettings, build_design
from bids_sr.glm.regressors import Regressors
from bids_sr.io.frozen import frozen
from bids_sr.io.nifti import SeriesReader
from bids_sr.preproc.model_confounds import model_confounds

_LOGGER = logging.getLogger(__name__)


@frozen
class DesignInputs:
    """Parts of a run's design matrices that all of its series share.

    The number of volumes and the repetition time are in the header of each series.

    `regressors` are events, or time series of seeds or components. `confounds` have one row per
    volume; None for a model without confounds. `n_dummy` volumes at the start are not in the
    steady state and have no row.
    """

    regressors: Regressors
    confounds: Confounds | None = None
    n_dummy: int
    design: DesignSettings

    def build_design(self, series: SeriesReader, confound_names: Sequence[str]) -> Design:
        """Return the design of a series with the named confounds."""
        return build_design(
            self.regressors,
            self.design,
            n_volumes=series.shape[3],
            tr=series.tr,
            n_dummy=self.n_dummy,
            confounds=self.confounds,
            confound_names=confound_names,
        )

    def build_block_design(
        self, series: SeriesReader, confound_names: Sequence[str]
    ) -> BlockDesign:
        """Return the design of a series with one regressor per block, and the named confounds."""
        return block_design(
            self.regressors,
            self.design,
            n_volumes=series.shape[3],
            tr=series.tr,
            n_dummy=self.n_dummy,
            confounds=self.confounds,
            confound_names=confound_names,
        )


@frozen
class LinearModel:
    """Linear model that is fitted to all series of a run.

    `nuisance` are the columns of the confounds in the model; None for motion and aCompCor.
    """

    inputs: DesignInputs
    contrasts: Contrasts
    nuisance: list[str] | None = None

    @property
    def confound_names(self) -> tuple[str, ...]:
        """Columns of the confounds in the model, as far as the run has them."""
        return model_confounds(self.inputs.confounds, self.nuisance)

    @property
    def mapped_contrasts(self) -> Contrasts:
        """Contrasts whose conditions or seeds are in the model."""
        return self.inputs.regressors.filter_contrasts(self.contrasts)

    def build_design(self, series: SeriesReader) -> Design:
        """Return the design of a series; warn if columns are collinear."""
        design = self.inputs.build_design(series, self.confound_names)
        if design.rank < len(design.columns):
            _LOGGER.warning(
                "The model of the maps has %d columns but rank %d, because some columns are "
                "collinear.",
                len(design.columns),
                design.rank,
            )
        return design

    def build_designs(
        self,
        series: SeriesReader,
        smoothing: Sequence[float],
        own_regressors: Sequence[Regressors] = (),
    ) -> tuple[dict[float, Design], Contrasts]:
        """Return the design of a series by smoothing width (FWHM, mm), and the mapped contrasts.

        `own_regressors` are seed time series of the series, one per smoothing width; if empty, the
        regressors of the model are used at all widths.
        """
        models = [
            replace(self, inputs=replace(self.inputs, regressors=own)) for own in own_regressors
        ] or [self]
        designs = [model.build_design(series) for model in models]
        if not own_regressors:
            designs *= len(smoothing)
        # The contrasts are the same at all widths, because seeds are the same voxels.
        contrasts = models[0].mapped_contrasts
        return dict(zip(map(float, smoothing), designs, strict=True)), contrasts
