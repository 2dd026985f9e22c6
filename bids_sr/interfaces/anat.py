"""T1w: bias field, brain mask, normalization, tissues, atlas and region of interest."""

import logging
from pathlib import Path
from typing import Any

from nipype.interfaces.base import BaseInterfaceInputSpec, File, TraitedSpec, traits

from bids_sr.interfaces.steps import AntsInputSpec, SloppyInputSpec, Step, saved, saved_json, saved_xfm

LOGGER = logging.getLogger(__name__)


class LoadTemplate(Step):
    """Write a template that is on this machine into the working directory; nothing is downloaded."""

    class input_spec(BaseInterfaceInputSpec):
        space = traits.Str(mandatory=True, desc="name of the space, e.g. MNI152NLin2009aSym")

    class output_spec(TraitedSpec):
        template = File(exists=True, desc="skull-stripped T1w template, 0 to about 1")
        template_mask = File(exists=True, desc="its brain")
        priors = traits.List(File(exists=True), desc="GM and WM of the template; empty where it has none")

    def results(self, inputs: Any, here: Path) -> dict[str, Any]:
        from bids_sr.registration.templates import load_template

        template = load_template(inputs.space)
        tissues = zip(("gm", "wm"), template.tissues or (), strict=False)
        return {
            "template": saved(here / "template.nii", template.t1.data, template.t1.affine),
            "template_mask": saved(here / "template_mask.nii", template.mask.data, template.mask.affine),
            "priors": [saved(here / f"{name}.nii", image.data, image.affine) for name, image in tissues],
        }


class CorrectBias(Step):
    """Bring a T1w image to right, anterior, superior, and divide it by its bias field (N4 on 5 mm voxels)."""

    class input_spec(SloppyInputSpec):
        in_file = File(exists=True, mandatory=True, desc="T1w (of a series, the first volume)")
        mask = File(exists=True, desc="brain; without it, the head")

    class output_spec(TraitedSpec):
        out_file = File(exists=True, desc="T1w over its bias field, RAS, negative values set to zero")

    def results(self, inputs: Any, here: Path) -> dict[str, Any]:
        import numpy as np

        from bids_sr.registration.ants import Image, load_ras
        from bids_sr.registration.brain import bias_field

        image = load_ras(inputs.in_file)
        image = Image(data=np.maximum(image.data, 0), affine=image.affine)
        mask = load_ras(inputs.mask).data > 0.5 if inputs.mask else None
        levels = (20, 15) if mask is None else (20, 20, 20)  # the head's field is only a first one
        field = bias_field(image, mask, seed=inputs.seed, iterations=levels[:2] if inputs.sloppy else levels)
        return {"out_file": saved(here / "t1w_unbiased.nii", image.data / field, image.affine)}


class MaskBrain(Step):
    """Brain mask of a T1w image: the template's, carried over and fitted to the tissue."""

    class input_spec(SloppyInputSpec):
        in_file = File(exists=True, mandatory=True, desc="T1w without bias: head, defaced head or brain")
        template = File(exists=True, mandatory=True, desc="skull-stripped T1w template")
        template_mask = File(exists=True, mandatory=True, desc="its brain")

    class output_spec(TraitedSpec):
        out_mask = File(exists=True, desc="brain on the grid of the T1w image")
        affine_xfm = File(exists=True, desc="takes a template point to its T1w point, affine")
        out_json = File(exists=True, desc="figures of the mask, and what speaks against it")

    def results(self, inputs: Any, here: Path) -> dict[str, Any]:
        from bids_sr.registration.ants import load
        from bids_sr.registration.brain import brain_from_head

        head = load(inputs.in_file)
        mask, affine, check = brain_from_head(
            head, load(inputs.template), load(inputs.template_mask).data > 0.5, seed=inputs.seed,
            prefix=str(here / "head_"), sloppy=inputs.sloppy,
        )  # fmt: skip
        return {
            "out_mask": saved(here / "brain_mask.nii", mask, head.affine),
            "affine_xfm": saved_xfm(here / "affine.txt", affine),
            "out_json": saved_check(here / "brain.json", check),
        }


def saved_check(path: Path, check: Any) -> str:
    """Write the figures of a brain mask (a `BrainCheck`), and warn of a doubtful one; the path as text."""
    if check.doubts:
        LOGGER.warning(
            "The brain of the T1w image looks wrong: %s. aCompCor and tissue signals are left out of the confounds.",
            "; ".join(check.doubts),
        )
    return saved_json(path, check.facts())


class NormalizeT1w(Step):
    """Affine and SyN registration of the T1w brain to the template, as two composite transforms."""

    class input_spec(SloppyInputSpec):
        t1w = File(exists=True, mandatory=True, desc="T1w without bias")
        mask = File(exists=True, mandatory=True, desc="its brain")
        affine_xfm = File(exists=True, mandatory=True, desc="takes a template point to its T1w point, affine")
        template = File(exists=True, mandatory=True, desc="skull-stripped T1w template")
        template_mask = File(exists=True, mandatory=True, desc="its brain")

    class output_spec(TraitedSpec):
        t1w2std_xfm = File(exists=True, desc="resamples T1w-space images into the template (.h5)")
        std2t1w_xfm = File(exists=True, desc="resamples template-space images onto the T1w image (.h5)")
        std_t1w = File(exists=True, desc="T1w in template space, 2 mm")

    def results(self, inputs: Any, here: Path) -> dict[str, Any]:
        from bids_sr.registration.ants import apply, load
        from bids_sr.registration.brain import normalize, two_mm_grid
        from bids_sr.spatial.transforms import read_itk

        t1w, template = load(inputs.t1w), load(inputs.template)
        forward, inverse = normalize(
            t1w, load(inputs.mask).data > 0.5, template, load(inputs.template_mask).data > 0.5,
            read_itk(inputs.affine_xfm)[0], seed=inputs.seed, prefix=str(here / "t1w2std_"),
            sloppy=inputs.sloppy,
        )  # fmt: skip
        grid = two_mm_grid(template)
        seen = saved(here / "std_t1w.nii", apply(t1w, grid, [forward], seed=inputs.seed), grid.affine)
        return {"t1w2std_xfm": forward, "std2t1w_xfm": inverse, "std_t1w": seen}


class SegmentTissues(Step):
    """Gaussian mixture of three tissues with the template's tissue maps as priors, where it has them."""

    class input_spec(AntsInputSpec):
        t1w = File(exists=True, mandatory=True, desc="T1w without bias")
        mask = File(exists=True, mandatory=True, desc="its brain")
        priors = traits.List(File(exists=True), desc="GM and WM of the template; empty for none")
        std2t1w_xfm = File(exists=True, mandatory=True, desc="resamples template-space images onto the T1w image")

    class output_spec(TraitedSpec):
        t1w_dseg = File(exists=True, desc="1 GM, 2 WM, 3 CSF")
        t1w_tpms = traits.List(File(exists=True), desc="probabilities of GM, WM, CSF")

    def results(self, inputs: Any, here: Path) -> dict[str, Any]:
        from bids_sr.registration.ants import load
        from bids_sr.registration.brain import carried_priors
        from bids_sr.registration.tissues import TISSUES, segmentation, tissue_probabilities

        t1w, mask = load(inputs.t1w), load(inputs.mask).data > 0.5
        maps = [load(path) for path in inputs.priors or ()]
        priors = carried_priors(t1w, mask, maps, inputs.std2t1w_xfm, seed=inputs.seed) if maps else None
        probabilities = tissue_probabilities(t1w.data, mask, priors)
        return {
            "t1w_dseg": saved(here / "dseg.nii", segmentation(probabilities), t1w.affine),
            "t1w_tpms": [
                saved(here / f"{tissue}_probseg.nii", probability, t1w.affine)
                for tissue, probability in zip(TISSUES, probabilities, strict=True)
            ],
        }


class DefineRegion(Step):
    """The region of interest on the T1w grid, its source and what leads there, and the atlas on the T1w grid.

    A file is taken to be in template space when its field of view matches that of an MNI image (the template's, or the
    common boxes of the MNI152 family; edges within 5 mm); otherwise in the scanner space of the T1w image.
    """

    class input_spec(AntsInputSpec):
        roi = traits.Str("motor", usedefault=True, desc="brain, names of regions, or the path of a mask")
        t1w = File(exists=True, mandatory=True, desc="T1w; gives the grid")
        mask = File(exists=True, mandatory=True, desc="its brain")
        template = File(exists=True, mandatory=True, desc="template; its field of view tells what is in its space")
        std2t1w_xfm = File(exists=True, mandatory=True, desc="resamples template-space images onto the T1w image")

    class output_spec(TraitedSpec):
        roi_t1w = File(exists=True, desc="region on the T1w grid")
        atlas_t1w = File(exists=True, desc="AAL2 labels on the T1w grid")
        roi_source = File(exists=True, desc="region in the space in which it was given")
        roi_xfms = traits.List(File(exists=True), desc="takes T1w points to that space; empty: T1w space")

    def results(self, inputs: Any, here: Path) -> dict[str, Any]:
        import numpy as np

        from bids_sr.registration.ants import load
        from bids_sr.registration.templates import atlas_file, find_region, on_t1w

        t1w, mask = load(inputs.t1w), load(inputs.mask)
        to_std, seed = [inputs.std2t1w_xfm], inputs.seed
        atlas = load(atlas_file())
        region, in_template = find_region(inputs.roi, atlas, mask, load(inputs.template))
        xfms = to_std if in_template else []
        labels = on_t1w(atlas, t1w, to_std, seed=seed, interpolator="nearestNeighbor")
        return {
            "atlas_t1w": saved(here / "atlas_t1w.nii", np.round(labels).astype(np.int16), t1w.affine),
            "roi_source": saved(here / "roi_source.nii", region.data > 0.5, region.affine),
            "roi_t1w": saved(here / "roi_t1w.nii", on_t1w(region, t1w, xfms, seed=seed) > 0.5, t1w.affine),
            "roi_xfms": xfms,
        }
