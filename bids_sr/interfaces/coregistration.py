"""Registration of BOLD, T2*-weighted pair and T1w, and what is carried over by it.

Transform files are ITK text. Their name says which image they resample, as with antsApplyTransforms: `A2B` takes a
point of B to where it lies in A.
"""

import json
from pathlib import Path
from typing import Any

from nipype.interfaces.base import BaseInterfaceInputSpec, File, InputMultiObject, TraitedSpec, traits

from bids_sr.interfaces.steps import AXIS_ORDER, FACTOR, AntsInputSpec, Step, saved, saved_json, saved_xfm


class PreparePair(Step):
    """Bring the members of the pair into one frame; resample highres only where it is out of register."""

    class input_spec(AntsInputSpec):
        highres = File(exists=True, mandatory=True, desc="T2*-weighted image at high resolution")
        lowres = File(exists=True, desc="the same at low resolution; made from highres where there is none")
        factor = FACTOR
        truncate = traits.Bool(False, usedefault=True, desc="make lowres from highres, whatever lowres is given")
        highres_order = AXIS_ORDER
        lowres_order = AXIS_ORDER

    class output_spec(TraitedSpec):
        train_highres = File(exists=True, desc="highres in the frame of lowres, on its high-resolution grid")
        train_lowres = File(exists=True, desc="lowres")
        pair_mask = File(exists=True, desc="head in lowres")
        highres2lowres_xfm = File(exists=True, desc="takes a lowres point to its point in highres as acquired")
        pair_json = File(exists=True, desc="offset of the pair; whether it was resampled or truncated")

    def results(self, inputs: Any, here: Path) -> dict[str, Any]:
        from bids_sr.registration.ants import load
        from bids_sr.registration.pair_frames import registered_pair, truncated_pair

        highres = load(inputs.highres, inputs.highres_order)
        if inputs.lowres and not inputs.truncate:
            prefix = str(here / "pair_")
            pair = registered_pair(
                highres, load(inputs.lowres, inputs.lowres_order), inputs.factor, seed=inputs.seed,
                prefix=prefix,
            )  # fmt: skip
        else:
            pair = truncated_pair(highres, inputs.factor)
        return {
            "train_highres": saved(here / "train_highres.nii", pair.highres.data, pair.highres.affine),
            "train_lowres": saved(here / "train_lowres.nii", pair.lowres.data, pair.lowres.affine),
            "pair_mask": saved(here / "pair_mask.nii", pair.mask, pair.lowres.affine),
            "highres2lowres_xfm": saved_xfm(here / "highres2lowres.txt", pair.xfm),
            "pair_json": saved_json(here / "pair.json", pair.facts),
        }


class RegisterBoldToT1w(Step):
    """Rigid registration of boldref and T1w brain by mutual information, estimated on the BOLD's grid."""

    class input_spec(AntsInputSpec):
        boldref = File(exists=True, mandatory=True, desc="BOLD reference")
        t1w_preproc = File(exists=True, mandatory=True, desc="T1w without bias")
        t1w_mask = File(exists=True, mandatory=True, desc="brain on its grid")

    class output_spec(TraitedSpec):
        boldref2t1w_xfm = File(exists=True, desc="takes a T1w point to its boldref point")
        out_json = File(exists=True, desc="size and quality of the registration")

    def results(self, inputs: Any, here: Path) -> dict[str, Any]:
        from bids_sr.registration.ants import load, load_ras
        from bids_sr.registration.bold_to_anat import register_to_t1w

        xfm, facts = register_to_t1w(
            load_ras(inputs.boldref), load(inputs.t1w_preproc), load(inputs.t1w_mask).data > 0.5,
            seed=inputs.seed, prefix=str(here / "coreg_"),
        )  # fmt: skip
        return {
            "boldref2t1w_xfm": saved_xfm(here / "boldref2t1w.txt", xfm),
            "out_json": saved_json(here / "coreg.json", facts),
        }


class RegisterPairToBold(Step):
    """Rigid registration of highres to boldref; the pair's own offset tells where to start."""

    class input_spec(AntsInputSpec):
        boldref = File(exists=True, mandatory=True, desc="BOLD reference")
        highres = File(exists=True, mandatory=True, desc="highres as acquired")
        highres2lowres_xfm = File(
            exists=True, desc="takes a lowres point to its highres point; where the search starts"
        )
        factor = FACTOR

    class output_spec(TraitedSpec):
        highres2boldref_xfm = File(exists=True, desc="takes a boldref point to its highres point")
        guide_hr = File(exists=True, desc="highres on the high-resolution grid of boldref, for masks and report")
        out_json = File(exists=True, desc="size and quality of the registration")

    def results(self, inputs: Any, here: Path) -> dict[str, Any]:
        from bids_sr.registration.ants import load, load_like
        from bids_sr.registration.bold_to_anat import register_pair_to_bold
        from bids_sr.spatial.resampling import sample_volume
        from bids_sr.spatial.transforms import hr_grid, read_itk

        boldref = load(inputs.boldref)
        highres = load_like(inputs.highres, boldref)
        given = inputs.highres2lowres_xfm
        start = read_itk(given)[0] if given is not None else None
        xfm, facts = register_pair_to_bold(boldref, highres, start, seed=inputs.seed, prefix=str(here / "pair2bold_"))
        shape, affine = hr_grid(boldref.data.shape, boldref.affine, inputs.factor)
        guide = sample_volume(highres.data, highres.affine, shape, affine, xfm)
        return {
            "highres2boldref_xfm": saved_xfm(here / "highres2boldref.txt", xfm),
            "guide_hr": saved(here / "guide_hr.nii", guide, affine),
            "out_json": saved_json(here / "pair2bold.json", facts),
        }


class MaskBold(Step):
    """Brain mask of the BOLD: its own, kept to the T1w brain where that fits."""

    class input_spec(BaseInterfaceInputSpec):
        boldref = File(exists=True, mandatory=True, desc="BOLD reference")
        factor = FACTOR
        t1w_mask = File(exists=True, desc="brain in the T1w image")
        boldref2t1w_xfm = File(exists=True, desc="takes a T1w point to its boldref point")

    class output_spec(TraitedSpec):
        bold_mask = File(exists=True, desc="brain on the grid of boldref")
        bold_mask_hr = File(exists=True, desc="brain on its high-resolution grid")
        out_json = File(exists=True, desc="agreement of the masks; which was taken")

    def results(self, inputs: Any, here: Path) -> dict[str, Any]:
        from bids_sr.registration.ants import Image, load
        from bids_sr.registration.bold_to_anat import combined_masks
        from bids_sr.spatial.transforms import read_itk

        boldref = load(inputs.boldref)
        brain: tuple[Image, Any] | None = None
        if inputs.t1w_mask and inputs.boldref2t1w_xfm:
            brain = load(inputs.t1w_mask), read_itk(inputs.boldref2t1w_xfm)[0]
        low, high, high_affine, facts = combined_masks(boldref, inputs.factor, brain)
        return {
            "bold_mask": saved(here / "bold_mask.nii", low, boldref.affine),
            "bold_mask_hr": saved(here / "bold_mask_hr.nii", high, high_affine),
            "out_json": saved_json(here / "mask.json", facts),
        }


class RegionToBold(Step):
    """Bring a region of interest to the BOLD by one concatenated transform and one interpolation a grid."""

    class input_spec(AntsInputSpec):
        roi_source = File(exists=True, mandatory=True, desc="region in the space in which it was given")
        roi_xfms = InputMultiObject(File(exists=True), desc="from T1w points to that space; none: it is in T1w space")
        boldref2t1w_xfm = File(exists=True, mandatory=True, desc="takes a T1w point to its boldref point")
        bold_mask = File(exists=True, mandatory=True, desc="brain on its grid")
        bold_mask_hr = File(exists=True, mandatory=True, desc="brain on its high-resolution grid")

    class output_spec(TraitedSpec):
        roi_bold = File(exists=True, desc="region on the grid of boldref, inside the brain")
        roi_bold_hr = File(exists=True, desc="the same on its high-resolution grid")
        out_json = File(exists=True, desc="share of the region in the field of view; whether the brain took its place")

    def results(self, inputs: Any, here: Path) -> dict[str, Any]:
        from bids_sr.registration.ants import load
        from bids_sr.registration.bold_to_anat import region_on_bold
        from bids_sr.spatial.transforms import read_itk

        low, high = load(inputs.bold_mask), load(inputs.bold_mask_hr)
        regions, facts = region_on_bold(
            load(inputs.roi_source), inputs.roi_xfms or [],
            read_itk(inputs.boldref2t1w_xfm)[0], (low, high), seed=inputs.seed, folder=here,
        )  # fmt: skip
        return {
            "roi_bold": saved(here / "roi_bold.nii", regions[0], low.affine),
            "roi_bold_hr": saved(here / "roi_bold_hr.nii", regions[1], high.affine),
            "out_json": saved_json(here / "roi.json", facts),
        }


class TissuesToBold(Step):
    """Mean tissue probability over each BOLD voxel."""

    class input_spec(BaseInterfaceInputSpec):
        tpms = InputMultiObject(File(exists=True), mandatory=True, desc="tissue probabilities on the T1w grid")
        boldref2t1w_xfm = File(exists=True, mandatory=True, desc="takes a T1w point to its boldref point")
        boldref = File(exists=True, mandatory=True, desc="BOLD reference")

    class output_spec(TraitedSpec):
        tpms_bold = traits.List(File(exists=True), desc="fraction of each tissue in each BOLD voxel, in the same order")

    def results(self, inputs: Any, here: Path) -> dict[str, Any]:
        from bids_sr.registration.ants import load
        from bids_sr.spatial.masks import coverage
        from bids_sr.spatial.transforms import invert, read_itk

        boldref, xfm = load(inputs.boldref), invert(read_itk(inputs.boldref2t1w_xfm)[0])
        shares = (coverage(t.data, t.affine, boldref.data.shape, boldref.affine, xfm) for t in map(load, inputs.tpms))
        files = [saved(here / f"tissue{k}.nii", share, boldref.affine) for k, share in enumerate(shares)]
        return {"tpms_bold": files}


class MergeFacts(Step):
    """Merge JSON files of plain values whose keys differ into one."""

    class input_spec(BaseInterfaceInputSpec):
        in_files = InputMultiObject(File(exists=True), mandatory=True, desc="JSON files")

    class output_spec(TraitedSpec):
        out_json = File(exists=True, desc="all of them in one")

    def results(self, inputs: Any, here: Path) -> dict[str, Any]:
        facts: dict[str, Any] = {}
        for path in inputs.in_files:
            facts |= json.loads(Path(path).read_text(encoding="utf-8"))
        return {"out_json": saved_json(here / "registration.json", facts)}


class MapsToTemplate(Step):
    """Bring maps to the template by one interpolation through the concatenated transforms; masks stay masks."""

    class input_spec(AntsInputSpec):
        in_files = InputMultiObject(File(exists=True), mandatory=True, desc="maps on a grid in boldref's space")
        in_entities = traits.List(traits.Dict, desc="BIDS entities of each")
        in_sidecars = traits.List(traits.Dict, desc="metadata of each")
        boldref2t1w_xfm = File(exists=True, mandatory=True, desc="takes a T1w point to its boldref point")
        t1w2std_xfm = File(exists=True, mandatory=True, desc="takes a template point to its T1w point")
        template = File(exists=True, mandatory=True, desc="T1w template")
        space = traits.Str(mandatory=True, desc="name of the template's space")

    class output_spec(TraitedSpec):
        out_files = traits.List(File(exists=True), desc="maps on a 2 mm grid of the template")
        out_entities = traits.List(traits.Dict, desc="entities with space and res")
        out_sidecars = traits.List(traits.Dict, desc="metadata with SpatialReference and Resolution")

    def results(self, inputs: Any, here: Path) -> dict[str, Any]:
        from bids_sr.registration.ants import load
        from bids_sr.registration.bold_to_anat import map_to_template
        from bids_sr.registration.brain import two_mm_grid

        grid = two_mm_grid(load(inputs.template))
        chain = [inputs.boldref2t1w_xfm, inputs.t1w2std_xfm]
        without: list[dict[str, Any]] = [{}] * len(inputs.in_files)
        given = zip(inputs.in_files, inputs.in_entities or without, inputs.in_sidecars or without, strict=True)
        done = [
            map_to_template(
                *each, grid=grid, chain=chain, space=inputs.space, seed=inputs.seed, out=here / f"map{number:03d}.nii"
            )
            for number, each in enumerate(given)
        ]
        files, entities, sidecars = map(list, zip(*done, strict=True))
        return {"out_files": files, "out_entities": entities, "out_sidecars": sidecars}
