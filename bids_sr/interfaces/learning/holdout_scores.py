"""Score a model on a pair that it was not trained on."""

from pathlib import Path
from typing import Any

from nipype.interfaces.base import File, traits

from bids_sr.interfaces.learning.device import DeviceInputSpec, choose_device
from bids_sr.interfaces.steps import FACTOR, RowsOutputSpec, Step, write_rows
from bids_sr.series import VALIDATION_BASELINES


class ScorePair(Step):
    """Super-resolve the coarse image of a held-out pair and compare it with the fine one, beside the baselines."""

    class input_spec(DeviceInputSpec):
        model_file = File(
            exists=True, mandatory=True, desc="weights of a method trained on another pair, with their card"
        )
        highres = File(exists=True, mandatory=True, desc="fine image in the pose of lowres, on its fine grid")
        lowres = File(exists=True, mandatory=True, desc="coarse image of the pair that was held out")
        mask = File(exists=True, mandatory=True, desc="brain on the grid of lowres")
        factor = FACTOR
        series = traits.Str(mandatory=True, desc="name of the method")
        precision = traits.Enum("auto", "fp32", "bf16", usedefault=True, desc="arithmetic of the network")
        seed = traits.Range(low=0, value=0, usedefault=True, desc="of the slices that are resampled")

    output_spec = RowsOutputSpec

    def results(self, inputs: Any, here: Path) -> dict[str, Any]:
        import numpy as np
        from threadpoolctl import threadpool_limits

        from bids_sr.io.nifti import load_image
        from bids_sr.sr.data.training_pair import TrainingPair
        from bids_sr.sr.inference.apply_to_series import make_upsampler
        from bids_sr.sr.models.model import load_model
        from bids_sr.stats.image.pair_scores import holdout_rows, slice_scores

        lowres, affine = load_image(inputs.lowres)
        pair = TrainingPair(
            lowres=lowres, highres=load_image(inputs.highres)[0], mask=load_image(inputs.mask)[0],
            lowres_affine=affine, factor=inputs.factor,
        )  # fmt: skip
        model = load_model(inputs.model_file)
        truth = pair.gain * pair.highres
        scores = {}
        with threadpool_limits(inputs.threads):
            for name in (*VALIDATION_BASELINES, inputs.series):
                given = {}
                if name == inputs.series:
                    device = choose_device(inputs.device)
                    given = {"model": model, "precision": inputs.precision, "device": device, "threads": inputs.threads}
                upsampler = make_upsampler(name, inputs.factor, affine=affine, scale=pair.scale, **given)
                image = upsampler(lowres, np.eye(4))
                scores[name] = slice_scores(image, truth, pair.highres_mask, data_range=pair.scale)
        rows = holdout_rows(scores, inputs.series, seed=inputs.seed)
        return {"out_file": write_rows(here / "holdout.tsv", rows)}
