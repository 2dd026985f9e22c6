"""The calibration of a run: where it lies to the run, and its standard deviation map.

Nothing that is wrong with a calibration ends the program: what cannot be used is written down (``usable``,
``reason``), and the run is super-resolved without it.
"""

import json
import logging
from pathlib import Path
from typing import Any

from nipype.interfaces.base import BaseInterfaceInputSpec, File, TraitedSpec, traits

from bids_sr.interfaces.steps import FACTOR, AntsInputSpec, Step, saved, saved_json, saved_xfm

LOGGER = logging.getLogger(__name__)
WITHOUT = "the run's own variance is used instead"


class RegisterCalibration(Step):
    """Rigid registration of the run's reference and the calibration's."""

    class input_spec(AntsInputSpec):
        boldref = File(exists=True, mandatory=True, desc="reference of the run")
        bold_mask = File(exists=True, mandatory=True, desc="brain on its grid")
        calibration_ref = File(exists=True, mandatory=True, desc="reference of the calibration")
        calibration_mask = File(exists=True, mandatory=True, desc="brain on its grid")
        factor = FACTOR

    class output_spec(TraitedSpec):
        boldref2calibration_xfm = File(exists=True, desc="ITK text, takes a boldref point to its calibration point")
        out_json = File(exists=True, desc="size and quality of the registration; reason, where there is none")

    def results(self, inputs: Any, here: Path) -> dict[str, Any]:
        import numpy as np

        from bids_sr.registration.ants import load
        from bids_sr.registration.calibration_alignment import register_to_calibration

        boldref, fine = load(inputs.boldref), load(inputs.calibration_ref)
        mask, fine_mask = (load(path).data > 0.5 for path in (inputs.bold_mask, inputs.calibration_mask))
        facts: dict[str, Any]
        try:
            xfm, facts = register_to_calibration(
                boldref, mask, fine, fine_mask, inputs.factor, seed=inputs.seed, prefix=str(here / "calibration_")
            )
        except (ValueError, RuntimeError, FileNotFoundError) as error:
            LOGGER.warning("The calibration could not be registered: %s", error)
            xfm, facts = np.eye(4), {"reason": f"it could not be registered to the run ({error})"}
        return {
            "boldref2calibration_xfm": saved_xfm(here / "boldref2calibration.txt", xfm),
            "out_json": saved_json(here / "registration.json", facts),
        }


class CalibrationSD(Step):
    """Standard deviation map of a calibration, or the reason why it has none that can be used."""

    class input_spec(BaseInterfaceInputSpec):
        in_file = File(exists=True, mandatory=True, desc="calibration as acquired, uncompressed")
        mask = File(exists=True, mandatory=True, desc="brain in its reference")
        hmc_xfms = File(exists=True, mandatory=True, desc="ITK text, takes a point of its reference into each volume")
        motion_tsv = File(exists=True, mandatory=True, desc="six motion parameters (mm, rad) a volume")
        n_dummy = traits.Range(low=0, value=0, usedefault=True, desc="volumes at the start that are not steady")
        tr = traits.Float(mandatory=True, desc="repetition time (s)")
        events_file = File(exists=True, desc="BIDS events of the calibration; without them no task is taken out")
        registration_json = File(exists=True, mandatory=True, desc="of RegisterCalibration")
        factor = FACTOR

    class output_spec(TraitedSpec):
        sd_file = File(exists=True, desc="SD of the fluctuations on its own grid, signal units; 0 if unusable")
        sd_low_file = File(exists=True, desc="the same of the calibration downsampled to the resolution of the run")
        calibration_json = File(exists=True, desc="usable, reason, and everything that was measured")

    def results(self, inputs: Any, here: Path) -> dict[str, Any]:
        import numpy as np

        from bids_sr.io.nifti import SeriesReader, load_image
        from bids_sr.sr.resolution.matrices import kspace_crop
        from bids_sr.sr.variance.calibration_sd import CalibrationError

        facts = json.loads(Path(inputs.registration_json).read_text(encoding="utf-8"))
        mask = load_image(inputs.mask)[0] > 0.5
        with SeriesReader(inputs.in_file) as reader:
            sd = np.zeros(reader.shape[:3], dtype=np.float32)
            sd_low, low_affine = kspace_crop(sd, reader.affine, factor=inputs.factor)
            facts |= {
                "voxel_mm": [round(float(z), 4) for z in np.linalg.norm(reader.affine[:3, :3], axis=0)],
                "tr_s": inputs.tr, "n_volumes": reader.shape[3], "n_dummy": inputs.n_dummy,
            }  # fmt: skip
            try:
                if "reason" not in facts:
                    sd, sd_low, told = _measured(reader, mask, inputs, facts)
                    facts |= told
            except CalibrationError as error:
                facts["reason"] = str(error)
            if facts.get("reason"):
                sd, sd_low = np.zeros_like(sd), np.zeros_like(sd_low)
                LOGGER.warning("The calibration is left out, %s: %s", WITHOUT, facts["reason"])
            facts = {"usable": not facts.get("reason"), "reason": "", **facts}
            return {
                "sd_file": saved(here / "sd.nii", sd, reader.affine, header_like=reader.header),
                "sd_low_file": saved(here / "sd_low.nii", sd_low, low_affine, header_like=reader.header),
                "calibration_json": saved_json(here / "calibration.json", facts),
            }


def _measured(reader: Any, mask: Any, inputs: Any, facts: dict[str, Any]) -> tuple[Any, Any, dict[str, Any]]:
    """The map, the same at the resolution of the run, and what is to be told of it."""
    import pandas as pd

    from bids_sr.registration.calibration_alignment import calibration_maps
    from bids_sr.spatial.transforms import read_itk
    from bids_sr.stats.glm.confounds import MOTION

    params = pd.read_csv(inputs.motion_tsv, sep="\t", na_values="n/a")[list(MOTION)].to_numpy()
    return calibration_maps(
        reader, mask, read_itk(inputs.hmc_xfms), params, facts, n_dummy=inputs.n_dummy, tr=inputs.tr,
        factor=inputs.factor, events=inputs.events_file,
    )  # fmt: skip
