"""What another program has estimated, brought into the form that the rest of the graph reads; nothing is estimated."""

from pathlib import Path
from typing import Any

from nipype.interfaces.base import BaseInterfaceInputSpec, File, InputMultiObject, TraitedSpec, traits

from bids_sr.interfaces.anat import saved_check
from bids_sr.interfaces.coregistration import MaskBold, RegisterBoldToT1w
from bids_sr.interfaces.head_motion import Confounds, write_confounds
from bids_sr.interfaces.steps import AXIS_ORDER, FACTOR, AntsInputSpec, Step, saved, saved_json, saved_xfm


class ImportAnat(Step):
    """Copy an anatomy to uncompressed images; values stay as they are."""

    class input_spec(BaseInterfaceInputSpec):
        t1w = File(exists=True, mandatory=True, desc="T1w without bias")
        mask = File(exists=True, mandatory=True, desc="its brain")
        dseg = File(exists=True, desc="tissues: 1 GM, 2 WM, 3 CSF")
        tpms = InputMultiObject(File(exists=True), desc="probabilities of GM, WM and CSF")

    class output_spec(TraitedSpec):
        t1w = File(exists=True, desc="T1w, float32 .nii")
        mask = File(exists=True, desc="brain, .nii")
        dseg = File(exists=True, desc="tissues, told from the probabilities where they are not given")
        tpms = traits.List(File(exists=True), desc="probabilities of GM, WM and CSF")
        out_json = File(exists=True, desc="figures of the mask, and what speaks against it")

    def results(self, inputs: Any, here: Path) -> dict[str, Any]:
        import numpy as np

        from bids_sr.registration.ants import load
        from bids_sr.registration.brain import check_mask
        from bids_sr.registration.tissues import segmentation

        t1w, mask = load(inputs.t1w), load(inputs.mask)
        copied: dict[str, Any] = {
            "t1w": saved(here / "t1w.nii", t1w.data, t1w.affine),
            "mask": saved(here / "mask.nii", mask.data > 0.5, mask.affine),
            "out_json": saved_check(here / "brain.json", check_mask(mask)),
        }
        if inputs.tpms:
            maps = [load(path) for path in inputs.tpms]
            copied["tpms"] = [saved(here / f"tissue{k}.nii", each.data, each.affine) for k, each in enumerate(maps)]
            labels = (
                np.round(load(inputs.dseg).data).astype(np.uint8)
                if inputs.dseg
                else segmentation(np.stack([image.data for image in maps]))
            )
            copied["dseg"] = saved(here / "dseg.nii", labels, t1w.affine)
        return copied


class ShowInTemplate(Step):
    """The T1w image in template space, through transforms that are given."""

    class input_spec(AntsInputSpec):
        t1w = File(exists=True, mandatory=True, desc="T1w")
        t1w2std_xfm = File(exists=True, mandatory=True, desc="resamples T1w-space images into the template")
        template = File(exists=True, mandatory=True, desc="template")

    class output_spec(TraitedSpec):
        std_t1w = File(exists=True, desc="T1w in template space, 2 mm")

    def results(self, inputs: Any, here: Path) -> dict[str, Any]:
        from bids_sr.registration.ants import apply, load
        from bids_sr.registration.brain import two_mm_grid

        grid = two_mm_grid(load(inputs.template))
        seen = apply(load(inputs.t1w), grid, [inputs.t1w2std_xfm], seed=inputs.seed)
        return {"std_t1w": saved(here / "std_t1w.nii", seen, grid.affine)}


class ImportMotion(Step):
    """Read head motion of another program, and average volumes by it into a reference in the run's own units."""

    class input_spec(BaseInterfaceInputSpec):
        in_file = File(exists=True, mandatory=True, desc="series as acquired")
        hmc_xfms = File(exists=True, mandatory=True, xor=["in_table"], desc="ITK text, volumes onto the reference")
        in_table = File(exists=True, mandatory=True, xor=["hmc_xfms"], desc="confounds with parameters of MCFLIRT")
        n_dummy = traits.Range(low=0, value=0, usedefault=True, desc="volumes at the start that are not steady")
        axis_order = AXIS_ORDER
        shift_map = File(exists=True, desc="distortion of the volumes")

    class output_spec(TraitedSpec):
        hmc_xfms = File(exists=True, desc="ITK text, one rigid transform a volume, boldref point to its point in it")
        motion_tsv = File(exists=True, desc="trans_x, y, z (mm), rot_x, y, z (rad), no residual; one row a volume")
        boldref = File(exists=True, desc="mean of steady volumes brought into register by them")

    def results(self, inputs: Any, here: Path) -> dict[str, Any]:
        import numpy as np
        import pandas as pd

        from bids_sr.io.grids import inverse, reordered, reordered_affine
        from bids_sr.io.nifti import SeriesReader
        from bids_sr.spatial.boldref import mean_in_reference, motion_of_mcflirt, precomputed_motion
        from bids_sr.spatial.distortion import load_distortion
        from bids_sr.spatial.masks import brain_mask
        from bids_sr.spatial.transforms import read_itk
        from bids_sr.stats.glm.confounds import MOTION, motion_table

        warp = load_distortion(inputs.shift_map) if inputs.shift_map else None
        with SeriesReader(inputs.in_file) as reader:
            source = inputs.in_table or inputs.hmc_xfms
            if inputs.in_table:
                parameters = pd.read_csv(source, sep="\t")[list(MOTION)].to_numpy(np.float64)
                still = mean_in_reference(reader, np.tile(np.eye(4), (reader.shape[3], 1, 1)), n_dummy=inputs.n_dummy)
                back = inverse(inputs.axis_order)  # these parameters hold for the order of axes of the file
                affine = reordered_affine(reader.affine, back)
                matrices = motion_of_mcflirt(parameters, reordered(still, back), affine)
            else:
                matrices = read_itk(source)
            if len(matrices) != reader.shape[3]:
                raise ValueError(f"{source}: head motion of {len(matrices)} volumes, and there are {reader.shape[3]}")
            mean = mean_in_reference(reader, matrices, n_dummy=inputs.n_dummy, distortion=warp)
            motion = precomputed_motion(matrices, brain_mask(mean, reader.affine), reader.affine)
            boldref = saved(here / "boldref.nii.gz", mean, reader.affine, header_like=reader.header)
        table = motion_table(motion.params, np.full(len(matrices), np.nan))
        table.to_csv(here / "motion.tsv", sep="\t", index=False, na_rep="n/a")
        hmc_xfms = saved_xfm(here / "hmc_xfms.txt", motion.matrices)
        return {"hmc_xfms": hmc_xfms, "motion_tsv": str(here / "motion.tsv"), "boldref": boldref}


class FieldToShift(Step):
    """How far a field shifts the signal of a run."""

    class input_spec(BaseInterfaceInputSpec):
        in_file = File(exists=True, mandatory=True, desc="series as acquired")
        fieldmap = File(exists=True, mandatory=True, desc="field (Hz)")
        boldref2fmap_xfm = File(exists=True, mandatory=True, desc="ITK text, field map point to its boldref point")
        phase_encoding = traits.Enum("i", "i-", "j", "j-", "k", "k-", mandatory=True, desc="of the series")
        readout = traits.Range(low=0.0, exclude_low=True, mandatory=True, desc="total readout time (s)")

    class output_spec(TraitedSpec):
        shift_map = File(exists=True, desc="shift of the signal on the boldref's grid; see `spatial.distortion`")

    def results(self, inputs: Any, here: Path) -> dict[str, Any]:
        from bids_sr.io.nifti import SeriesReader
        from bids_sr.registration.ants import load
        from bids_sr.spatial.distortion import save_distortion, voxel_shift
        from bids_sr.spatial.transforms import invert, read_itk

        field, out = load(inputs.fieldmap), here / "shift.nii"
        with SeriesReader(inputs.in_file) as reader:
            x, y, z = reader.shape[:3]
            xfm = invert(read_itk(inputs.boldref2fmap_xfm)[0])
            distortion = voxel_shift(
                field.data, field.affine, xfm, (x, y, z), reader.affine, inputs.phase_encoding,
                inputs.readout,
            )  # fmt: skip
        save_distortion(distortion, out)
        return {"shift_map": str(out)}


class ImportCoreg(Step):
    """Take over a registration of BOLD and T1w, and measure how well the brains agree by it."""

    class input_spec(BaseInterfaceInputSpec):
        in_xfm = File(exists=True, mandatory=True, desc="ITK text of another program, boldref onto the T1w image")
        origin = traits.Str(mandatory=True, desc="program and version")
        boldref = File(exists=True, mandatory=True, desc="BOLD reference")
        t1w_preproc = File(exists=True, mandatory=True, desc="T1w without bias")
        t1w_mask = File(exists=True, mandatory=True, desc="brain on its grid")

    output_spec = RegisterBoldToT1w.output_spec

    def results(self, inputs: Any, here: Path) -> dict[str, Any]:
        from bids_sr.registration.ants import load
        from bids_sr.registration.bold_to_anat import facts_of_coreg
        from bids_sr.spatial.transforms import read_itk

        xfm = read_itk(inputs.in_xfm)[0]
        facts = facts_of_coreg(load(inputs.boldref), load(inputs.t1w_preproc), load(inputs.t1w_mask).data > 0.5, xfm)
        facts |= {"bold_t1w_origin": inputs.origin}
        return {
            "boldref2t1w_xfm": saved_xfm(here / "boldref2t1w.txt", xfm),
            "out_json": saved_json(here / "coreg.json", facts),
        }


class ImportMask(Step):
    """Take over a brain mask, and bring it to the high-resolution grid."""

    class input_spec(BaseInterfaceInputSpec):
        boldref = File(exists=True, mandatory=True, desc="BOLD reference")
        in_mask = File(exists=True, mandatory=True, desc="brain on its grid")
        origin = traits.Str(mandatory=True, desc="program and version")
        factor = FACTOR

    output_spec = MaskBold.output_spec

    def results(self, inputs: Any, here: Path) -> dict[str, Any]:
        import numpy as np

        from bids_sr.registration.ants import load, load_like
        from bids_sr.spatial.resampling import Spline, sample_volume
        from bids_sr.spatial.transforms import hr_grid

        boldref = load(inputs.boldref)
        mask = load_like(inputs.in_mask, boldref)
        inside = mask.data > 0.5
        if inside.shape != boldref.data.shape or not inside.any():
            raise ValueError(f"{inputs.in_mask}: it is empty, or not on the grid of the run")
        shape, affine = hr_grid(inside.shape, mask.affine, inputs.factor)
        high = sample_volume(inside.astype(np.float32), mask.affine, shape, affine, None, Spline(order=1)) >= 0.5
        return {
            "bold_mask": saved(here / "bold_mask.nii", inside, mask.affine),
            "bold_mask_hr": saved(here / "bold_mask_hr.nii", high, affine),
            "out_json": saved_json(here / "mask.json", {"mask_source": inputs.origin}),
        }


class ImportConfounds(Step):
    """Take over the columns of a confounds table that are known here."""

    class input_spec(BaseInterfaceInputSpec):
        in_file = File(exists=True, mandatory=True, desc="table of another program, one row a volume")
        origin = traits.Str(mandatory=True, desc="program and version")
        n_dummy = traits.Range(low=0, value=0, usedefault=True, desc="volumes at the start that are not steady")

    output_spec = Confounds.output_spec

    def results(self, inputs: Any, here: Path) -> dict[str, Any]:
        from bids_sr.stats.glm.confounds import take_over

        return write_confounds(here, *take_over(Path(inputs.in_file), n_dummy=inputs.n_dummy, origin=inputs.origin))
