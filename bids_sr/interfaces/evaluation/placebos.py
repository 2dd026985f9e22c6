"""Negative controls: a series without signal, a training pair of another contrast, models of other participants."""

from pathlib import Path
from typing import Any

from nipype.interfaces.base import BaseInterfaceInputSpec, File, TraitedSpec, traits

from bids_sr.interfaces.steps import FACTOR, ModelInputSpec, Step, timing, write_rows
from bids_sr.sr.models.compatibility import other_models as other_models


class NullShuffles(Step):
    """How often the run's own model finds activity in a series whose order in time is undone."""

    class input_spec(ModelInputSpec):
        fwhm_mm = traits.Float(0.0, usedefault=True, desc="Gaussian smoothing (mm); 0 is none")
        n_shuffles = traits.Range(low=1, value=100, usedefault=True, desc="draws of phases and onsets")
        seed = traits.Int(0, usedefault=True, desc="of the draws")

    class output_spec(TraitedSpec):
        out_file = File(exists=True, desc="rows of the evaluation, null_…: rate, nominal, fwe, threshold, peak, active")
        shuffles_file = File(exists=True, desc="TSV, one row a shuffle: rate, any_corrected")

    def results(self, inputs: Any, here: Path) -> dict[str, Any]:
        from threadpoolctl import threadpool_limits

        from bids_sr.interfaces.statmap_interfaces import confounds_of
        from bids_sr.io.nifti import SeriesReader, load_image
        from bids_sr.stats.controls.false_positive_rates import NullSettings, null_rates, null_rows
        from bids_sr.stats.glm.design import read_confounds
        from bids_sr.stats.glm.regressors import read_regressors

        confounds = read_confounds(inputs.confounds_tsv) if inputs.confounds_tsv else None
        settings = NullSettings(
            confound_names=confounds_of(inputs), n_shuffles=inputs.n_shuffles, seed=inputs.seed, fwhm_mm=inputs.fwhm_mm,
            **timing(inputs),
        )  # fmt: skip
        with SeriesReader(inputs.in_file) as reader, threadpool_limits(1):
            found = null_rates(
                reader, load_image(inputs.mask)[0] > 0.5, read_regressors(inputs.events_file), settings,
                scratch=here / "courses.raw", confounds=confounds,
            )  # fmt: skip
        shuffles = here / f"{inputs.series}_shuffles.tsv"
        rows = null_rows(found, inputs.series, fwhm_mm=inputs.fwhm_mm, seed=inputs.seed)
        lines = [f"{rate:.8g}\t{int(hit)}\n" for rate, hit in zip(found.rates, found.any_corrected, strict=True)]
        shuffles.write_text("rate\tany_corrected\n" + "".join(lines))
        return {"out_file": write_rows(here / f"{inputs.series}_null.tsv", rows), "shuffles_file": str(shuffles)}


class AnotherContrast(Step):
    """A training pair of another contrast, at the resolutions of the run and in its frame."""

    class input_spec(BaseInterfaceInputSpec):
        in_file = File(exists=True, mandatory=True, desc="image of another contrast (T1w) as acquired, without bias")
        reference = File(exists=True, mandatory=True, desc="boldref: the low-resolution member comes on its grid")
        reference2image_xfm = File(exists=True, desc="ITK text, takes a point of in_file to its reference point")
        factor = FACTOR

    class output_spec(TraitedSpec):
        highres = File(exists=True, desc="image on the reference's high-resolution grid")
        lowres = File(exists=True, desc="its k-space-truncated copy on the reference's grid")

    def results(self, inputs: Any, here: Path) -> dict[str, Any]:
        from bids_sr.interfaces.learning.method_steps import on_files
        from bids_sr.steps.super_resolution import another_contrast

        names = {"in_file": "t1w_preproc", "reference": "boldref", "reference2image_xfm": "boldref2t1w_xfm"}
        made = on_files(another_contrast, inputs, here, names)
        return {"highres": made["train_highres"], "lowres": made["train_lowres"]}
