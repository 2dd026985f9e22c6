"""Import, head motion, slice timing, non-steady volumes, boldref and confounds of one BOLD run."""

import json
from pathlib import Path
from typing import Any

from nipype.interfaces.base import BaseInterfaceInputSpec, File, InputMultiObject, TraitedSpec, traits

from bids_sr.interfaces.steps import AXIS_ORDER, Step, saved, saved_json, saved_xfm


class ImportSeries(Step):
    """Copy a series to uncompressed float32 with slices on the third axis, one volume in memory."""

    class input_spec(BaseInterfaceInputSpec):
        in_file = File(exists=True, mandatory=True, desc="3D or 4D image, any type, .nii or .nii.gz")
        axis_order = AXIS_ORDER
        tr = traits.Float(desc="repetition time (s) for the header; that of the input by default")

    class output_spec(TraitedSpec):
        out_file = File(exists=True, desc="the same values as uncompressed float32 .nii, to be read in any order")

    def results(self, inputs: Any, here: Path) -> dict[str, Any]:
        from bids_sr.io.copies import copy_series

        stem = Path(inputs.in_file).name.removesuffix(".gz").removesuffix(".nii")
        out_file = here / f"{stem}_imported.nii"
        copy_series(inputs.in_file, out_file, order=inputs.axis_order, tr=inputs.tr)
        return {"out_file": str(out_file)}


class CombineEchoes(Step):
    """Optimal combination of the echoes of a run, by tedana."""

    class input_spec(BaseInterfaceInputSpec):
        in_files = InputMultiObject(File(exists=True), mandatory=True, desc="series of the echoes")
        echo_times = traits.List(traits.Float, mandatory=True, desc="their echo times (ms)")

    class output_spec(TraitedSpec):
        out_file = File(exists=True, desc="the combined series")

    def results(self, inputs: Any, here: Path) -> dict[str, Any]:
        from bids_sr.spatial.multi_echo import combine_echoes

        out_file = here / "combined.nii"
        combine_echoes(inputs.in_files, inputs.echo_times, out_file)
        return {"out_file": str(out_file)}


class EstimateDummies(Step):
    """Count the volumes at the start that are not in steady state, unless their number is given."""

    class input_spec(BaseInterfaceInputSpec):
        in_file = File(exists=True, mandatory=True, desc="series as acquired")
        n_dummy = traits.Range(low=0, desc="number of dummy volumes where the user gave it; else it is detected")

    class output_spec(TraitedSpec):
        n_dummy = traits.Int(desc="volumes at the start that are not in steady state")

    def results(self, inputs: Any, here: Path) -> dict[str, Any]:
        from bids_sr.io.nifti import SeriesReader
        from bids_sr.stats.glm.confounds import nonsteady_at_start

        with SeriesReader(inputs.in_file) as reader:
            if inputs.n_dummy is not None:
                count = int(inputs.n_dummy)
            else:
                count = nonsteady_at_start(reader.path)
            if count > reader.shape[3] - 2:
                raise ValueError(f"{reader.path}: {count} dummy volumes of {reader.shape[3]} leave less than two")
        return {"n_dummy": count}


class MakeBoldRef(Step):
    """Average steady volumes after bringing them into register."""

    class input_spec(BaseInterfaceInputSpec):
        in_file = File(exists=True, mandatory=True, desc="series as acquired")
        n_dummy = traits.Range(low=0, value=0, usedefault=True, desc="volumes at the start that are left out")

    class output_spec(TraitedSpec):
        out_file = File(exists=True, desc="mean of realigned steady volumes")

    def results(self, inputs: Any, here: Path) -> dict[str, Any]:
        from bids_sr.io.nifti import SeriesReader
        from bids_sr.spatial.boldref import make_boldref

        with SeriesReader(inputs.in_file) as reader:
            reference = make_boldref(reader, n_dummy=inputs.n_dummy)
            return {"out_file": saved(here / "boldref.nii.gz", reference, reader.affine, header_like=reader.header)}


class BoldMask(Step):
    """Tell the brain from the rest in the reference; slices at the edge of the field of view count."""

    class input_spec(BaseInterfaceInputSpec):
        boldref = File(exists=True, mandatory=True, desc="reference of the run")

    class output_spec(TraitedSpec):
        out_mask = File(exists=True, desc="brain from the BOLD's own intensities")

    def results(self, inputs: Any, here: Path) -> dict[str, Any]:
        from bids_sr.io.nifti import SeriesReader
        from bids_sr.spatial.masks import brain_mask

        with SeriesReader(inputs.boldref) as reader:
            mask = brain_mask(reader.volume(0), reader.affine)
            return {"out_mask": saved(here / "boldmask.nii.gz", mask, reader.affine, header_like=reader.header)}


class EstimateMotion(Step):
    """Estimate the head's pose in every volume; no image is resampled."""

    class input_spec(BaseInterfaceInputSpec):
        in_file = File(exists=True, mandatory=True, desc="series as acquired, uncompressed")
        boldref = File(exists=True, mandatory=True, desc="reference, on the grid of the series")
        mask = File(exists=True, desc="head in the reference; without it, told from its intensities")
        n_dummy = traits.Range(
            low=0, value=0, usedefault=True, desc="volumes that get the first steady one's transform"
        )
        fwhm_mm = traits.Range(low=0.0, exclude_low=True, desc="smoothing before the final estimate (mm)")

    class output_spec(TraitedSpec):
        hmc_xfms = File(exists=True, desc="ITK text, one a volume, a boldref point to where it lies in that volume")
        motion_tsv = File(exists=True, desc="trans_x, y, z (mm), rot_x, y, z (rad), residual; one row a volume")

    def results(self, inputs: Any, here: Path) -> dict[str, Any]:
        from bids_sr.io.nifti import SeriesReader, load_image
        from bids_sr.spatial.boldref import estimate_run
        from bids_sr.spatial.hmc import HmcSettings
        from bids_sr.stats.glm.confounds import motion_table

        settings = HmcSettings(fwhm_mm=inputs.fwhm_mm) if inputs.fwhm_mm is not None else HmcSettings()
        mask = load_image(inputs.mask)[0] > 0 if inputs.mask else None
        with SeriesReader(inputs.in_file) as reader:
            found = estimate_run(reader, load_image(inputs.boldref)[0], mask, n_dummy=inputs.n_dummy, settings=settings)
        motion_table(found.params, found.residual).to_csv(here / "motion.tsv", sep="\t", index=False, na_rep="n/a")
        return {"hmc_xfms": saved_xfm(here / "hmc_xfms.txt", found.matrices), "motion_tsv": str(here / "motion.tsv")}


class SliceTiming(Step):
    """Bring all slices to one time of acquisition, in time only."""

    class input_spec(BaseInterfaceInputSpec):
        in_file = File(exists=True, mandatory=True, desc="series as acquired, uncompressed")
        slice_times = traits.List(traits.Float(), mandatory=True, desc="s after the start of a volume, one a slice")
        ref_fraction = traits.Range(0.0, 1.0, 0.5, usedefault=True, desc="0: first slice, 1: last slice")
        n_dummy = traits.Range(low=0, value=0, usedefault=True, desc="volumes at the start that are copied as they are")

    class output_spec(TraitedSpec):
        out_file = File(exists=True, desc="series with all slices at one time, float32 .nii")

    def results(self, inputs: Any, here: Path) -> dict[str, Any]:
        from bids_sr.io.nifti import SeriesReader, SeriesWriter
        from bids_sr.spatial.slice_timing import correct_slice_timing, reference_time

        out_file = str(here / "stc.nii")
        times = inputs.slice_times
        with (
            SeriesReader(inputs.in_file) as reader,
            SeriesWriter(out_file, reader.shape, reader.affine, reader.tr, header_like=reader.header) as writer,
        ):
            moment = reference_time(times, inputs.ref_fraction)
            correct_slice_timing(reader, writer, times, reader.tr, moment, n_dummy=inputs.n_dummy)
        return {"out_file": out_file}


class Confounds(Step):
    """Gather motion, global signals and aCompCor in one table."""

    class input_spec(BaseInterfaceInputSpec):
        in_file = File(exists=True, mandatory=True, desc="motion-corrected series on the acquired grid, uncompressed")
        mask = File(exists=True, mandatory=True, desc="brain")
        tpms = InputMultiObject(File(exists=True), desc="gray matter, white matter, cerebrospinal fluid, if known")
        registration_json = File(exists=True, desc="tissue maps are not used where it doubts the brain of the T1w")
        motion_tsv = File(exists=True, mandatory=True, desc="of EstimateMotion")
        n_dummy = traits.Range(low=0, value=0, usedefault=True, desc="volumes at the start that are not steady")

    class output_spec(TraitedSpec):
        out_file = File(exists=True, desc="confounds, one row a volume")
        out_json = File(exists=True, desc="description and unit of each column")

    def results(self, inputs: Any, here: Path) -> dict[str, Any]:
        import pandas as pd

        from bids_sr.io.nifti import SeriesReader, load_image
        from bids_sr.stats.glm.confounds import gather

        known = inputs.registration_json
        doubtful = known is not None and json.loads(Path(known).read_text(encoding="utf-8")).get("brain_doubts")
        files = inputs.tpms if inputs.tpms and not doubtful else []
        tpms = [load_image(f)[0] for f in files]
        motion = pd.read_csv(inputs.motion_tsv, sep="\t", na_values="n/a")
        mask = load_image(inputs.mask)[0] > 0
        with SeriesReader(inputs.in_file) as reader:
            table, described = gather(reader, mask, motion, tpms=tpms or None, n_dummy=inputs.n_dummy)
        return write_confounds(here, table, described)


def write_confounds(here: Path, table: Any, described: Any) -> dict[str, str]:
    """Write a table of confounds and what its columns are; the outputs of an interface that gives them."""
    table.to_csv(here / "confounds.tsv", sep="\t", index=False, na_rep="n/a", float_format="%.9g")
    return {"out_file": str(here / "confounds.tsv"), "out_json": saved_json(here / "confounds.json", described)}
