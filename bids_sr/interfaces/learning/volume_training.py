"""Training on the acquired volumes of a run alone: a shell around `bids_sr.sr.models.model_store`."""

from pathlib import Path
from typing import Any

from nipype.interfaces.base import File, traits
from numpy.typing import NDArray

from bids_sr.interfaces.learning.training_inputs import TrainingInputSpec, TrainingOutputSpec, obtain
from bids_sr.interfaces.steps import FACTOR, Step
from bids_sr.sr.data.images import VOLUMES as VOLUMES


class TrainOnVolumes(Step):
    """Train a network on volumes of the run it is for, or take a model that was given for it.

    A killed training goes on from its last checkpoint.
    """

    class input_spec(TrainingInputSpec):
        in_file = File(exists=True, mandatory=True, desc="series on the grid on which it was acquired")
        mask = File(exists=True, mandatory=True, desc="brain on that grid")
        n_dummy = traits.Range(low=0, value=0, usedefault=True, desc="first volumes to leave out")
        factor = FACTOR

    output_spec = TrainingOutputSpec
    _can_resume = True  # nipype keeps the directory of a node that was killed, and with it the checkpoint

    def results(self, inputs: Any, here: Path) -> dict[str, Any]:
        from bids_sr.sr.models.compatibility import describe

        factor = tuple(inputs.factor)
        images, affine = training_volumes(inputs.in_file, inputs.mask, inputs.n_dummy, inputs.seed)
        return obtain(inputs, images, here, describe(affine, "bold", factor), factor)


def training_volumes(series: str, mask_file: str, n_dummy: int, seed: int) -> tuple[Any, NDArray[Any]]:
    """(`ImageSet` of some volumes of a run, affine of its grid).

    Parameters
    ----------
    series, mask_file : (X, Y, Z, T) as acquired, and the brain on its grid
    n_dummy : first volumes, whose contrast is another
    seed : of the draw; volumes keep their order in time
    """
    from bids_sr.io.nifti import SeriesReader, load_image
    from bids_sr.sr.data.images import ImageSet

    mask = load_image(mask_file)[0] > 0.5
    with SeriesReader(series) as reader:
        return ImageSet.of_run(reader, mask, n_dummy, seed), reader.affine
