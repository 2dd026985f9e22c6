"""Negative controls: a series without signal, a training pair of another contrast, models of other participants."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    SimpleInterface,
    TraitedSpec,
    isdefined,
    traits,
)
from nipype.interfaces.base.support import Bunch

_SAMPLE_MM = 1.0  # of a finer image, before it is averaged over the voxels of the pair's grid


class NullShuffles(SimpleInterface):
    """How often the run's own model finds activity in a series whose order in time is undone."""

    class input_spec(BaseInterfaceInputSpec):
        in_file = File(exists=True, mandatory=True, desc="series in BOLD signal units, dummies included")
        mask = File(exists=True, mandatory=True, desc="brain mask on the grid of the series")
        events_file = File(exists=True, mandatory=True, desc="BIDS events")
        confounds_tsv = File(exists=True, desc="one row a volume; without it no confound enters the model")
        confound_names = traits.List(traits.Str, desc="columns of the model; default: motion, derivatives, aCompCor")
        n_dummy = traits.Range(low=0, value=0, usedefault=True, desc="volumes at the start that are left out")
        tr = traits.Float(mandatory=True, desc="repetition time (s)")
        series = traits.Str(mandatory=True, desc="name of the series")
        fwhm_mm = traits.Float(0.0, usedefault=True, desc="Gaussian smoothing (mm); 0 is none")
        n_shuffles = traits.Range(low=1, value=100, usedefault=True, desc="draws of phases and onsets")
        max_voxels = traits.Range(low=0, value=20_000, usedefault=True, desc="voxels tested at most, at random; 0: all")
        seed = traits.Int(0, usedefault=True, desc="of the draws")
        high_pass = traits.Float(mandatory=True, desc="Hz, drift of the linear model; 0 is a straight line")
        slice_time_ref = traits.Float(
            0.5, usedefault=True, desc="moment within a TR to which slice timing was corrected"
        )
        has_stc = traits.Bool(False, usedefault=True, desc="slice timing was corrected")

    class output_spec(TraitedSpec):
        out_file = File(
            exists=True, desc="rows of the evaluation (TSV), null_…: rate, nominal, fwe, threshold, peak, active"
        )
        shuffles_file = File(exists=True, desc="TSV, one row a shuffle: rate, any_corrected")

    def _run_interface(self, runtime: Bunch) -> Bunch:
        from threadpoolctl import threadpool_limits

        from bids_sr.io.nifti import SeriesReader, load_image
        from bids_sr.metrics.long_tables import table_text
        from bids_sr.stats.controls.false_positive_rates import null_rates, null_rows
        from bids_sr.stats.glm.design import read_confounds, read_events

        inputs, cwd = self.inputs, Path(runtime.cwd)
        confounds = read_confounds(inputs.confounds_tsv) if isdefined(inputs.confounds_tsv) else None
        with SeriesReader(inputs.in_file) as reader, threadpool_limits(1):
            found = null_rates(
                reader, load_image(inputs.mask)[0] > 0.5, read_events(inputs.events_file), _null_settings(inputs),
                scratch=cwd / "courses.raw", confounds=confounds,
            )  # fmt: skip
        out, shuffles = cwd / f"{inputs.series}_null.tsv", cwd / f"{inputs.series}_shuffles.tsv"
        out.write_text(table_text(null_rows(found, inputs.series, fwhm_mm=inputs.fwhm_mm, seed=inputs.seed)))
        lines = [f"{rate:.8g}\t{int(hit)}\n" for rate, hit in zip(found.rates, found.any_corrected, strict=True)]
        shuffles.write_text("rate\tany_corrected\n" + "".join(lines))
        self._results |= {"out_file": str(out), "shuffles_file": str(shuffles)}
        return runtime


def _null_settings(inputs: Any) -> Any:
    """Traits to `NullSettings`; confounds as `ActivationMaps` takes them."""
    from bids_sr.interfaces.statmap_interfaces import default_confounds
    from bids_sr.stats.controls.false_positive_rates import NullSettings

    names: tuple[str, ...] = ()
    if isdefined(inputs.confounds_tsv):
        given = isdefined(inputs.confound_names)
        names = tuple(inputs.confound_names) if given else default_confounds(inputs.confounds_tsv)
    traited = (
        "n_shuffles", "seed", "max_voxels", "tr", "n_dummy", "fwhm_mm", "high_pass", "slice_time_ref", "has_stc",
    )  # fmt: skip
    return NullSettings(confound_names=names, **{name: getattr(inputs, name) for name in traited})


class AnotherContrast(SimpleInterface):
    """A training pair of another contrast, at the resolutions of the run and in its frame."""

    class input_spec(BaseInterfaceInputSpec):
        in_file = File(exists=True, mandatory=True, desc="image of another contrast (T1w) as acquired, without bias")
        reference = File(exists=True, mandatory=True, desc="boldref: the low-resolution member comes on its grid")
        reference2image_xfm = File(exists=True, desc="ITK text, takes a point of in_file to its reference point")
        factor = traits.Tuple(
            traits.Float, traits.Float, traits.Float, mandatory=True, desc="acquired voxel / wanted voxel"
        )

    class output_spec(TraitedSpec):
        highres = File(exists=True, desc="image on the reference's high-resolution grid")
        lowres = File(exists=True, desc="its k-space-truncated copy on the reference's grid")

    def _run_interface(self, runtime: Bunch) -> Bunch:
        import numpy as np

        from bids_sr.io.nifti import load_image, save_image
        from bids_sr.spatial import masks
        from bids_sr.spatial.transforms import hr_grid, invert, read_itk
        from bids_sr.sr.resolution.degradation import kspace_crop

        inputs, here = self.inputs, Path(runtime.cwd)
        reference, affine = load_image(inputs.reference)
        image, own = load_image(inputs.in_file)
        xfm = invert(read_itk(inputs.reference2image_xfm)[0]) if isdefined(inputs.reference2image_xfm) else None
        shape, grid = hr_grid(reference.shape[:3], affine, inputs.factor)
        fine = np.maximum(masks.coverage(image, own, shape, grid, xfm, mm=_SAMPLE_MM), 0)
        low, low_affine = kspace_crop(fine, grid, factor=inputs.factor)
        if low.shape != reference.shape[:3]:
            raise ValueError(
                f"{inputs.reference}: {shape} by {inputs.factor} is {low.shape}, not {reference.shape[:3]}"
            )
        for name, data, where in (("highres", fine, grid), ("lowres", np.maximum(low, 0), low_affine)):
            save_image(np.asarray(data, dtype=np.float32), where, here / f"contrast_{name}.nii")
            self._results[name] = str(here / f"contrast_{name}.nii")
        return runtime


def other_models(
    models_dir: str | Path,
    method: str,
    subject: str,
    *,
    factor: Sequence[float] | None = None,
    zooms: Sequence[float] | None = None,
) -> list[Path]:
    """Weights of a method that other subjects left, in the order of subjects from this one's label on, round the end.

    So the first differs from subject to subject as far as it can, and is the same in every run of the same data.

    Parameters
    ----------
    models_dir : ``OUT/sourcedata/models``; it may be missing
    method : as in the file's ``desc``
    subject : label of this one, left out
    factor, zooms : acquired over wanted voxel, and acquired voxel (mm); models made for others are left out (10 %)
    """
    root = Path(models_dir)
    found = sorted(
        (path.relative_to(root).parts[0].removeprefix("sub-"), path)
        for path in root.glob(f"sub-*/**/*_desc-{method}_model.safetensors")
    )
    others = [(label, path) for label, path in found if label != subject.removeprefix("sub-")]
    later = [path for label, path in others if label > subject.removeprefix("sub-")]
    earlier = [path for label, path in others if label < subject.removeprefix("sub-")]
    return [path for path in (*later, *earlier) if _serves(path, factor, zooms)]


def _serves(weights: Path, factor: Sequence[float] | None, zooms: Sequence[float] | None) -> bool:
    """Whether a model's card can be read and names this factor and resolution."""
    import json

    from bids_sr.sr.models.compatibility import TOLERANCE

    try:
        card = json.loads(weights.with_suffix(".json").read_text(encoding="utf-8"))
        trained, made_for = card["resolution"]["lowres_mm"], card["factor"]
    except (OSError, ValueError, KeyError):
        return False
    same = factor is None or all(abs(a - b) < 1e-6 for a, b in zip(factor, made_for, strict=True))
    return same and (zooms is None or all(abs(a - b) <= TOLERANCE * b for a, b in zip(zooms, trained, strict=True)))
