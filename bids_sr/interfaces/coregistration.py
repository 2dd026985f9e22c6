"""Registration of BOLD, T2*-weighted pair and T1w, and what is carried over by it.

Transform files are ITK text. Their name says which image they resample, as with antsApplyTransforms: `A2B` takes a
point of B to where it lies in A.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    InputMultiObject,
    SimpleInterface,
    TraitedSpec,
    isdefined,
    traits,
)

from bids_sr.interfaces.shared_specs import AXIS_ORDER, FACTOR, AntsInputSpec, saved, saved_xfm
from bids_sr.io import atomic_files


class PreparePair(SimpleInterface):
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

    def _run_interface(self, runtime: Any) -> Any:
        from bids_sr.registration.ants import load
        from bids_sr.registration.pair_frames import registered_pair, truncated_pair

        here, highres = Path(runtime.cwd), load(self.inputs.highres, self.inputs.highres_order)
        if isdefined(self.inputs.lowres) and not self.inputs.truncate:
            prefix = str(here / "pair_")
            pair = registered_pair(
                highres, load(self.inputs.lowres, self.inputs.lowres_order), self.inputs.factor, seed=self.inputs.seed,
                prefix=prefix,
            )  # fmt: skip
        else:
            pair = truncated_pair(highres, self.inputs.factor)
        self._results |= {
            "train_highres": saved(here / "train_highres.nii", pair.highres.data, pair.highres.affine),
            "train_lowres": saved(here / "train_lowres.nii", pair.lowres.data, pair.lowres.affine),
            "pair_mask": saved(here / "pair_mask.nii", pair.mask, pair.lowres.affine),
            "highres2lowres_xfm": saved_xfm(here / "highres2lowres.txt", pair.xfm),
            "pair_json": str(atomic_files.write_json(here / "pair.json", pair.facts)),
        }
        return runtime


class RegisterBoldToT1w(SimpleInterface):
    """Rigid registration of boldref and T1w brain by mutual information, estimated on the BOLD's grid."""

    class input_spec(AntsInputSpec):
        boldref = File(exists=True, mandatory=True, desc="BOLD reference")
        t1w_preproc = File(exists=True, mandatory=True, desc="T1w without bias")
        t1w_mask = File(exists=True, mandatory=True, desc="brain on its grid")

    class output_spec(TraitedSpec):
        boldref2t1w_xfm = File(exists=True, desc="takes a T1w point to its boldref point")
        out_json = File(exists=True, desc="size and quality of the registration")

    def _run_interface(self, runtime: Any) -> Any:
        from bids_sr.registration.ants import load, load_ras
        from bids_sr.registration.bold_to_anat import register_to_t1w

        here = Path(runtime.cwd)
        xfm, facts = register_to_t1w(
            load_ras(self.inputs.boldref), load(self.inputs.t1w_preproc), load(self.inputs.t1w_mask).data > 0.5,
            seed=self.inputs.seed, prefix=str(here / "coreg_"),
        )  # fmt: skip
        self._results["boldref2t1w_xfm"] = saved_xfm(here / "boldref2t1w.txt", xfm)
        self._results["out_json"] = str(atomic_files.write_json(here / "coreg.json", facts))
        return runtime


class RegisterPairToBold(SimpleInterface):
    """Rigid registration of highres to boldref; the pair's own offset tells where to start."""

    class input_spec(AntsInputSpec):
        boldref = File(exists=True, mandatory=True, desc="BOLD reference")
        highres = File(exists=True, mandatory=True, desc="highres as acquired")
        highres2lowres_xfm = File(
            exists=True, desc="takes a lowres point to its point in highres; where the search starts"
        )
        factor = FACTOR

    class output_spec(TraitedSpec):
        highres2boldref_xfm = File(exists=True, desc="takes a boldref point to its highres point")
        guide_hr = File(exists=True, desc="highres on the high-resolution grid of boldref, for masks and report")
        out_json = File(exists=True, desc="size and quality of the registration")

    def _run_interface(self, runtime: Any) -> Any:
        from bids_sr.registration.ants import load, load_like
        from bids_sr.registration.bold_to_anat import register_pair_to_bold
        from bids_sr.spatial.resampling import sample_volume
        from bids_sr.spatial.transforms import hr_grid, read_itk

        here, boldref = Path(runtime.cwd), load(self.inputs.boldref)
        highres = load_like(self.inputs.highres, boldref)
        given = self.inputs.highres2lowres_xfm
        start = read_itk(given)[0] if isdefined(given) else None
        xfm, facts = register_pair_to_bold(
            boldref, highres, start, seed=self.inputs.seed, prefix=str(here / "pair2bold_")
        )
        shape, affine = hr_grid(boldref.data.shape, boldref.affine, self.inputs.factor)
        guide = sample_volume(highres.data, highres.affine, shape, affine, xfm)
        self._results["highres2boldref_xfm"] = saved_xfm(here / "highres2boldref.txt", xfm)
        self._results["guide_hr"] = saved(here / "guide_hr.nii", guide, affine)
        self._results["out_json"] = str(atomic_files.write_json(here / "pair2bold.json", facts))
        return runtime


class MaskBold(SimpleInterface):
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

    def _run_interface(self, runtime: Any) -> Any:
        from bids_sr.registration.ants import Image, load
        from bids_sr.registration.bold_to_anat import combined_masks
        from bids_sr.spatial.transforms import read_itk

        here, boldref = Path(runtime.cwd), load(self.inputs.boldref)
        brain: tuple[Image, Any] | None = None
        if isdefined(self.inputs.t1w_mask) and isdefined(self.inputs.boldref2t1w_xfm):
            brain = load(self.inputs.t1w_mask), read_itk(self.inputs.boldref2t1w_xfm)[0]
        low, high, high_affine, facts = combined_masks(boldref, self.inputs.factor, brain)
        self._results["bold_mask"] = saved(here / "bold_mask.nii", low, boldref.affine)
        self._results["bold_mask_hr"] = saved(here / "bold_mask_hr.nii", high, high_affine)
        self._results["out_json"] = str(atomic_files.write_json(here / "mask.json", facts))
        return runtime


class RegionToBold(SimpleInterface):
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

    def _run_interface(self, runtime: Any) -> Any:
        from bids_sr.registration.ants import load
        from bids_sr.registration.bold_to_anat import region_on_bold

        here, low, high = Path(runtime.cwd), load(self.inputs.bold_mask), load(self.inputs.bold_mask_hr)
        regions, facts = region_on_bold(
            load(self.inputs.roi_source), list(self.inputs.roi_xfms) if isdefined(self.inputs.roi_xfms) else [],
            self.inputs.boldref2t1w_xfm, (low, high), seed=self.inputs.seed, folder=here,
        )  # fmt: skip
        self._results["roi_bold"] = saved(here / "roi_bold.nii", regions[0], low.affine)
        self._results["roi_bold_hr"] = saved(here / "roi_bold_hr.nii", regions[1], high.affine)
        self._results["out_json"] = str(atomic_files.write_json(here / "roi.json", facts))
        return runtime


class TissuesToBold(SimpleInterface):
    """Mean tissue probability over each BOLD voxel."""

    class input_spec(BaseInterfaceInputSpec):
        tpms = InputMultiObject(File(exists=True), mandatory=True, desc="tissue probabilities on the T1w grid")
        boldref2t1w_xfm = File(exists=True, mandatory=True, desc="takes a T1w point to its boldref point")
        boldref = File(exists=True, mandatory=True, desc="BOLD reference")

    class output_spec(TraitedSpec):
        tpms_bold = traits.List(File(exists=True), desc="fraction of each tissue in each BOLD voxel, in the same order")

    def _run_interface(self, runtime: Any) -> Any:
        from bids_sr.registration.ants import load
        from bids_sr.spatial.masks import coverage
        from bids_sr.spatial.transforms import invert, read_itk

        boldref, xfm = load(self.inputs.boldref), invert(read_itk(self.inputs.boldref2t1w_xfm)[0])
        self._results["tpms_bold"] = []
        for number, tissue in enumerate(map(load, self.inputs.tpms)):
            share = coverage(tissue.data, tissue.affine, boldref.data.shape, boldref.affine, xfm)
            self._results["tpms_bold"].append(saved(Path(runtime.cwd) / f"tissue{number}.nii", share, boldref.affine))
        return runtime


class MergeFacts(SimpleInterface):
    """Merge JSON files of plain values whose keys differ into one."""

    class input_spec(BaseInterfaceInputSpec):
        in_files = InputMultiObject(File(exists=True), mandatory=True, desc="JSON files")

    class output_spec(TraitedSpec):
        out_json = File(exists=True, desc="all of them in one")

    def _run_interface(self, runtime: Any) -> Any:
        facts: dict[str, Any] = {}
        for path in self.inputs.in_files:
            facts |= json.loads(Path(path).read_text(encoding="utf-8"))
        self._results["out_json"] = str(atomic_files.write_json(Path(runtime.cwd) / "registration.json", facts))
        return runtime


class MapsToTemplate(SimpleInterface):
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

    def _run_interface(self, runtime: Any) -> Any:
        from bids_sr.registration.ants import load
        from bids_sr.registration.bold_to_anat import map_to_template
        from bids_sr.registration.brain import two_mm_grid

        grid = two_mm_grid(load(self.inputs.template))
        chain = [self.inputs.boldref2t1w_xfm, self.inputs.t1w2std_xfm]
        count = len(self.inputs.in_files)
        entities = self.inputs.in_entities if isdefined(self.inputs.in_entities) else [{}] * count
        sidecars = self.inputs.in_sidecars if isdefined(self.inputs.in_sidecars) else [{}] * count
        done = [
            map_to_template(
                path, entity, sidecar, grid=grid, chain=chain, space=self.inputs.space, seed=self.inputs.seed,
                out=Path(runtime.cwd) / f"map{number:03d}.nii",
            )
            for number, (path, entity, sidecar) in enumerate(
                zip(self.inputs.in_files, entities, sidecars, strict=True)
            )
        ]  # fmt: skip
        for name, values in zip(("out_files", "out_entities", "out_sidecars"), zip(*done, strict=True), strict=True):
            self._results[name] = list(values)
        return runtime
