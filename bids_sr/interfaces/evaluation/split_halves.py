"""Evaluation of a finer series: effects of its blocks, split halves, truth, and one table of them all."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nipype.interfaces.base import BaseInterfaceInputSpec, File, InputMultiObject, TraitedSpec, traits

from bids_sr.interfaces.statmap_interfaces import by_smoothing
from bids_sr.interfaces.steps import FACTOR, MapsInputSpec, ModelInputSpec, RowsOutputSpec, Step, timing, write_rows
from bids_sr.series import MEASURED


class BlockEffects(Step):
    """Effect of every block of a run in one series."""

    class input_spec(ModelInputSpec):
        pca_ranks = traits.List(traits.Int, desc="temporal components that the denoising control chooses from")
        with_t = traits.Bool(False, usedefault=True, desc="also the variance of the series smoothed by 4 mm FWHM")
        min_share = traits.Range(low=0.0, high=1.0, desc="of a block's response in the run, below which it is left out")

    class output_spec(TraitedSpec):
        effects_file = File(exists=True, desc="effects of all blocks, whole slices (.npz)")

    def results(self, inputs: Any, here: Path) -> dict[str, Any]:
        from threadpoolctl import threadpool_limits

        from bids_sr.io.nifti import SeriesReader, load_image
        from bids_sr.stats.glm.block_effects import block_effects, save_effects
        from bids_sr.stats.glm.blocks import block_design
        from bids_sr.stats.glm.design import read_confounds
        from bids_sr.stats.glm.regressors import read_regressors

        given = timing(inputs)
        if inputs.min_share is not None:
            given["min_share"] = inputs.min_share
        if inputs.confounds_tsv:
            given["confounds"] = read_confounds(inputs.confounds_tsv)
            if inputs.confound_names is not None:
                given["confound_names"] = inputs.confound_names
        with SeriesReader(inputs.in_file) as reader, threadpool_limits(1):
            design = block_design(read_regressors(inputs.events_file), n_volumes=reader.shape[3], **given)
            found = block_effects(
                reader, load_image(inputs.mask)[0] > 0.5, design, series=inputs.series, with_t=inputs.with_t,
                pca_ranks=inputs.pca_ranks or (), scratch=here / "components.raw",
            )  # fmt: skip
        return {"effects_file": str(save_effects(found, here / f"{inputs.series}_effects.npz"))}


def by_series(files: Sequence[str]) -> dict[str, str]:
    """Effects files by the series that their names tell."""
    return {Path(file).name.removesuffix("_effects.npz"): file for file in files}


class SplitHalf(Step):
    """Effects of one half of the blocks against the measured effects of the other half, or the series' own."""

    class input_spec(BaseInterfaceInputSpec):
        effects_files = InputMultiObject(File(exists=True), mandatory=True, desc="of all series, as BlockEffects gives")
        mask = File(exists=True, mandatory=True, desc="brain mask on the high-resolution grid")
        roi = File(exists=True, mandatory=True, desc="region of interest on the high-resolution grid")
        factor = FACTOR
        contrasts = traits.Dict(mandatory=True, desc="name to weights of trial types")
        n_boot = traits.Range(low=0, value=1000, usedefault=True, desc="resamples of blocks")
        seed = traits.Int(0, usedefault=True, desc="of the resamples")

    class output_spec(RowsOutputSpec):
        figures_npz = File(exists=True, desc="effect maps for the figures")

    def results(self, inputs: Any, here: Path) -> dict[str, Any]:
        from threadpoolctl import threadpool_limits

        from bids_sr.io.nifti import load_image
        from bids_sr.stats.evaluation.split_half_table import save_effect_maps, split_half_rows

        (mask, affine), (roi, _) = (load_image(path) for path in (inputs.mask, inputs.roi))
        with threadpool_limits(1):
            rows = split_half_rows(
                by_series(inputs.effects_files), mask > 0.5, affine, roi > 0.5, inputs.contrasts, factor=inputs.factor,
                n_boot=inputs.n_boot, seed=inputs.seed,
            )  # fmt: skip
            figures = save_effect_maps(
                by_series(inputs.effects_files), mask > 0.5, affine, inputs.contrasts, factor=inputs.factor,
                path=here / "split_half.npz",
            )  # fmt: skip
        return {"out_file": write_rows(here / "split_half.tsv", rows), "figures_npz": str(figures)}


class TruthMaps(Step):
    """Maps of the whole run against those of the measured series and against known activation."""

    class input_spec(MapsInputSpec):
        factor = FACTOR
        truth_files = traits.Dict(desc="known activation: contrast to image, any grid in the frame of the mask")
        connectivity = traits.Bool(False, usedefault=True, desc="maps are of seeds, whose correlation is compared too")
        effects_files = InputMultiObject(
            File(exists=True), desc="of all series, for figures beyond Nyquist and intervals"
        )
        n_boot = traits.Range(low=0, value=1000, usedefault=True, desc="resamples of blocks")
        seed = traits.Int(0, usedefault=True, desc="of the resamples")

    output_spec = RowsOutputSpec

    def results(self, inputs: Any, here: Path) -> dict[str, Any]:
        from threadpoolctl import threadpool_limits

        from bids_sr.io.nifti import load_image
        from bids_sr.stats.evaluation.reference_effects import effect_rows, replaced
        from bids_sr.stats.evaluation.reference_maps import truth_rows
        from bids_sr.stats.regions.map_summary import Grid

        (mask, affine), (roi, _) = (load_image(path) for path in (inputs.mask, inputs.roi))
        known = {}
        if inputs.truth_files:
            known = {name: load_image(path) for name, path in inputs.truth_files.items()}
        grid, region = Grid(mask=mask > 0.5, affine=affine), roi > 0.5
        stats = ("t", "effect", "cc") if inputs.connectivity else ("t", "effect")
        found = by_smoothing(inputs.in_files, inputs.in_entities, stats)
        files = {width: {name: own[name] for name in own if name != "raw"} for width, own in found.items()}
        rows = truth_rows(files, lambda path: load_image(path)[0], inputs.contrasts, grid=grid, roi=region, known=known)
        if inputs.effects_files:
            with threadpool_limits(1):
                told = effect_rows(
                    by_series(inputs.effects_files), inputs.contrasts, grid=grid, roi=region, factor=inputs.factor,
                    known=known, n_boot=inputs.n_boot, seed=inputs.seed,
                )  # fmt: skip
            rows = replaced(rows, told)
        return {"out_file": write_rows(here / "truth.tsv", rows)}


class TruthImages(Step):
    """Single volumes of every series against the measured ones: PSNR and SSIM inside the brain."""

    class input_spec(BaseInterfaceInputSpec):
        series_files = InputMultiObject(File(exists=True), mandatory=True, desc="series on the high-resolution grid")
        series_names = traits.List(traits.Str, mandatory=True, desc="name of each, same order; measured is left out")
        measured_file = File(exists=True, mandatory=True, desc="measured high-resolution series on the same grid")
        mask = File(exists=True, mandatory=True, desc="brain mask on the high-resolution grid")
        n_dummy = traits.Range(low=0, value=0, usedefault=True, desc="volumes at the start that are left out")
        seed = traits.Int(0, usedefault=True, desc="of the resamples")
        n_boot = traits.Range(low=0, value=1000, usedefault=True, desc="resamples of stretches of volumes")
        max_volumes = traits.Range(low=1, value=60, usedefault=True, desc="evenly spaced ones that are scored, at most")

    output_spec = RowsOutputSpec

    def results(self, inputs: Any, here: Path) -> dict[str, Any]:
        from contextlib import ExitStack

        from bids_sr.io.nifti import SeriesReader, load_image
        from bids_sr.stats.evaluation.reference_images import image_rows, volume_scores

        files = dict(zip(inputs.series_names, inputs.series_files, strict=True))
        files.pop(MEASURED, None)
        if len(set(inputs.series_names)) < len(inputs.series_names):
            raise ValueError(f"series are named twice: {', '.join(inputs.series_names)}")
        with ExitStack() as stack:
            readers = {name: stack.enter_context(SeriesReader(path)) for name, path in files.items()}
            scores = volume_scores(
                readers, stack.enter_context(SeriesReader(inputs.measured_file)), load_image(inputs.mask)[0] > 0.5,
                n_dummy=inputs.n_dummy, max_volumes=inputs.max_volumes,
            )  # fmt: skip
        rows = image_rows(scores, seed=inputs.seed, n_boot=inputs.n_boot)
        return {"out_file": write_rows(here / "truth_images.tsv", rows)}
