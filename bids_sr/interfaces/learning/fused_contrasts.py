"""Fused structural scans: preparation, training, application and measures; see `bids_sr.sr.training.fused`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nipype.interfaces.base import BaseInterfaceInputSpec, File, InputMultiObject, TraitedSpec, traits

from bids_sr.interfaces.learning.training_inputs import (
    DeviceInputSpec,
    PerceptualInputSpec,
    TrainingOutputSpec,
    choose_device,
    obtain,
)
from bids_sr.interfaces.steps import SloppyInputSpec, Step, saved, saved_json, write_rows


class PrepareContrasts(Step):
    """Bring the scans of one head into one frame, onto one grid and to [0, 1]."""

    class input_spec(SloppyInputSpec):
        contrasts = traits.List(traits.Str, mandatory=True, desc="BIDS suffix of each pair; the first is the frame")
        highres = InputMultiObject(File(exists=True), mandatory=True, desc="fine scan of each")
        lowres = InputMultiObject(File(exists=True), mandatory=True, desc="coarse scan of each")
        template = File(exists=True, mandatory=True, desc="skull-stripped T1w template")
        template_mask = File(exists=True, mandatory=True, desc="its brain")
        head = traits.Str(mandatory=True, desc="name of the head, for cards of models")
        others = traits.List(traits.Str, usedefault=True, desc="interpolations besides the spline: linear, nearest")
        align = traits.Enum("rigid", "affine", "nonlinear", usedefault=True, desc="transforms between the scans")

    class output_spec(TraitedSpec):
        fine_files = traits.List(File(exists=True), desc="fine scans on one grid, [0, 1], brain alone")
        coarse_files = traits.List(File(exists=True), desc="coarse scans there by cubic spline")
        other_files = traits.List(File(exists=True), desc="all contrasts by each of the other interpolations, in order")
        mask = File(exists=True, desc="brain on that grid")
        facts_json = File(exists=True, desc="position of each scan, and the intensities that became 1")
        head_json = File(exists=True, desc="name of the head and its files, for networks that are trained on several")

    def results(self, inputs: Any, here: Path) -> dict[str, Any]:
        from bids_sr.registration.ants import load
        from bids_sr.registration.structural_preparation import Scans, prepare

        pairs = zip(inputs.contrasts, inputs.highres, inputs.lowres, strict=True)
        scans = [Scans(contrast=name, highres=load(high), lowres=load(low)) for name, high, low in pairs]
        made = prepare(
            scans, load(inputs.template), load(inputs.template_mask).data > 0.5, seed=inputs.seed,
            prefix=str(here / "scans_"), sloppy=inputs.sloppy, interpolations=("bspline", *inputs.others),
            align=inputs.align,
        )  # fmt: skip
        stacks = {"fine": made.hr, **made.lr}
        files = {
            name: [saved(here / f"{name}_{c}.nii", stack[c], made.affine) for c in inputs.contrasts]
            for name, stack in stacks.items()
        }
        head = {
            "fine_files": files["fine"], "coarse_files": files["bspline"],
            "mask": saved(here / "mask.nii", made.mask, made.affine),
        }  # fmt: skip
        facts = {"units": made.units, "align": inputs.align, "offsets": made.facts}
        named = {"head": inputs.head, **head}
        # with the sum of what is in the files, so that models are trained again where that changes
        named["checksum"] = head_set(named, inputs.contrasts).images[0].checksum()
        return head | {
            "other_files": [path for name in inputs.others for path in files[name]],
            "facts_json": saved_json(here / "facts.json", facts),
            "head_json": saved_json(here / "head.json", named),
        }


def stack(files: Sequence[str]) -> tuple[Any, Any]:
    """(C, X, Y, Z) of files on one grid, and its affine."""
    import numpy as np

    from bids_sr.io.nifti import load_image

    images = [load_image(path) for path in files]
    return np.stack([data for data, _ in images]), images[0][1]


def head_set(head: Any, contrasts: list[str]) -> Any:
    """The `ImageSet` of one head: a mapping with head, fine_files, coarse_files and mask."""
    from bids_sr.sr.training.fused import contrast_set

    (fine, affine), (coarse, _) = stack(head["fine_files"]), stack(head["coarse_files"])
    mask = stack([head["mask"]])[0][0] > 0.5
    return contrast_set(fine, coarse, mask, affine, contrasts, head["head"])


def checksum_of(fine_files: Sequence[str], coarse_files: Sequence[str], mask: str, contrasts: Sequence[str]) -> str:
    """Sum of what is in the scans of one head, by which cards know it."""
    own = {"head": "own", "fine_files": fine_files, "coarse_files": coarse_files, "mask": mask}
    return str(head_set(own, list(contrasts)).images[0].checksum())


class TrainContrasts(Step):
    """Train a network on all contrasts of one head, or take one that was trained."""

    class input_spec(PerceptualInputSpec):
        contrasts = traits.List(traits.Str, mandatory=True, desc="BIDS suffix of each channel")
        fine_files = InputMultiObject(File(exists=True), mandatory=True, desc="fine scans on one grid")
        coarse_files = InputMultiObject(File(exists=True), mandatory=True, desc="coarse scans on that grid")
        mask = File(exists=True, mandatory=True, desc="brain on that grid")
        head = traits.Str(mandatory=True, desc="name of the head, for the card")
        heads = InputMultiObject(File(exists=True), desc="heads to train on instead, as the preparation describes them")
        align = traits.Enum("rigid", "affine", "nonlinear", usedefault=True, desc="what brought the scans together")

    output_spec = TrainingOutputSpec
    _can_resume = True  # a killed run goes on from the checkpoint in its directory

    def results(self, inputs: Any, here: Path) -> dict[str, Any]:
        import json

        from bids_sr.sr.models.compatibility import describe
        from bids_sr.sr.training.fused import SAME_GRID, joined, together

        own = {name: getattr(inputs, name) for name in ("head", "fine_files", "coarse_files", "mask")}
        heads = [json.loads(Path(path).read_text()) for path in inputs.heads] if inputs.heads is not None else [own]
        images = together([head_set(head, inputs.contrasts) for head in heads])
        affine = stack(inputs.fine_files)[1]
        these = describe(affine, joined(inputs.contrasts), SAME_GRID, inputs.align)
        return obtain(inputs, images, here, these, SAME_GRID, inputs.align)


class ResolveContrasts(Step):
    """Super-resolve all contrasts of one head together."""

    class input_spec(DeviceInputSpec):
        contrasts = traits.List(traits.Str, mandatory=True, desc="BIDS suffix of each channel")
        coarse_files = InputMultiObject(File(exists=True), mandatory=True, desc="coarse scans on the fine grid, [0, 1]")
        mask = File(exists=True, mandatory=True, desc="brain on that grid")
        model_file = File(exists=True, mandatory=True, desc="weights, with the card beside them")

    class output_spec(TraitedSpec):
        out_files = traits.List(File(exists=True), desc="super-resolved scan of each contrast, [0, 1]")

    def results(self, inputs: Any, here: Path) -> dict[str, Any]:
        from bids_sr.sr.models.model import load_model
        from bids_sr.sr.training.fused import super_resolve_contrasts

        coarse, affine = stack(inputs.coarse_files)
        made = super_resolve_contrasts(
            load_model(inputs.model_file), coarse, stack([inputs.mask])[0][0] > 0.5, affine,
            device=choose_device(inputs.device), threads=inputs.threads,
        )  # fmt: skip
        named = zip(inputs.contrasts, made, strict=True)
        return {"out_files": [saved(here / f"{contrast}.nii", image, affine) for contrast, image in named]}


class MeasureContrasts(Step):
    """Compare super-resolved and interpolated scans with the fine ones: likeness, quality, tissues, lesions."""

    class input_spec(BaseInterfaceInputSpec):
        contrasts = traits.List(traits.Str, mandatory=True, desc="BIDS suffix of each contrast")
        fine_files = InputMultiObject(File(exists=True), mandatory=True, desc="fine scans, [0, 1]")
        series_files = InputMultiObject(File(exists=True), mandatory=True, desc="contrasts of each series, in order")
        series_names = traits.List(traits.Str, mandatory=True, desc="series of each of these files")
        card_files = InputMultiObject(File(exists=True), mandatory=True, desc="cards of models: what they held out")
        mask = File(exists=True, mandatory=True, desc="brain")
        seed = traits.Int(1, usedefault=True, desc="of the segmentation")

    class output_spec(TraitedSpec):
        out_file = File(exists=True, desc="table of measures (TSV)")
        dseg = File(exists=True, desc="tissues of the fine scans: 1 GM, 2 WM, 3 CSF")

    def results(self, inputs: Any, here: Path) -> dict[str, Any]:
        from bids_sr.interfaces.learning.fused_scores import held_out_slices, measured_rows
        from bids_sr.metrics.long_tables import STRUCTURAL

        fine, affine = stack(inputs.fine_files)
        mask = stack([inputs.mask])[0][0] > 0.5
        series: dict[str, dict[str, Any]] = {}
        for place, (name, path) in enumerate(zip(inputs.series_names, inputs.series_files, strict=True)):
            contrast = inputs.contrasts[place % len(inputs.contrasts)]
            series.setdefault(name, {})[contrast] = stack([path])[0][0]
        measured = dict(zip(inputs.contrasts, fine, strict=True))
        coarse = inputs.series_files[: len(inputs.contrasts)]  # of the cubic spline, which is the first series
        checksum = checksum_of(inputs.fine_files, coarse, inputs.mask, inputs.contrasts)
        slices = held_out_slices(inputs.card_files, mask.shape[2], checksum)
        rows, labels = measured_rows(measured, series, mask, affine, slices, seed=inputs.seed)
        return {
            "out_file": write_rows(here / "metrics.tsv", rows, STRUCTURAL),
            "dseg": saved(here / "dseg.nii", labels, affine),
        }
