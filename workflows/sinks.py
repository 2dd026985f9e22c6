"""Sinks: what each stage leaves in the derivatives, under which name."""

from collections.abc import Mapping, Sequence
from typing import Any

from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow

from bids_sr.interfaces.derivatives_sink import WriteDerivatives
from bids_sr.workflows.plans import Store
from bids_sr.workflows.wiring import fields_of, joined, out_of, same, set_given

Entities = Mapping[str, str]
Fields = Mapping[str, tuple[Entities, Mapping[str, Any]]]
"""Name of a field to the entities and the sidecar of its file."""

LOG_COLUMNS = {
    name: {"Description": text, "Units": unit}
    for name, text, unit in (
        (
            "phase",
            "search: some slices are held out; refit: again on all slices, for as many steps as did best before; map: "
            "variance maps of a run are found, in which nothing is trained",
            "n/a",
        ),
        ("iteration", "number of the training step, or of the round of variance maps", "1"),
        ("loss", "weighted sum of the generator's terms", "1"),
        ("content", "difference to the measured high-resolution patch", "1"),
        ("adversarial", "how far the critic tells generated patches from measured ones; n/a before it takes part", "1"),
        ("perceptual", "difference in features of VGG-19; n/a without its weights", "1"),
        ("critic", "loss of the critic", "1"),
        ("backward_critic", "loss of the critic of the way back; of methods with a cycle only", "1"),
        ("tv", "total variation of the output; of methods with that term only, as the next four", "1"),
        ("ssim", "one minus the structural similarity", "1"),
        ("cycle", "difference to the image after the way there and back", "1"),
        ("identity", "difference of what the network makes of a fine image, to that image", "1"),
        ("sparsify", "total variation of the output and of its difference to the measured image", "1"),
        ("learning_rate", "of the generator", "1"),
        ("psnr", "peak signal-to-noise ratio on the held-out slices", "dB"),
    )
}


def init_sink(
    store: Store, *, name: str, entities: Sequence[Entities] | None = None, sidecar: Sequence[Any] | None = None,
    dtype: str = "float32", provenance: Mapping[str, str] | None = None,
) -> pe.Node:  # fmt: skip
    """One node that stores files; entities and sidecars that are not given here are to be connected.

    Parameters
    ----------
    entities, sidecar : of each file, in the order of ``in_file``
    dtype : stored type of uncompressed series
    provenance : added to every sidecar
    """
    sink = WriteDerivatives(
        base_directory=store.output_dir, common=dict(store.common), sources=list(store.sources), dtype=dtype,
        axis_order=store.axis_order,
    )  # fmt: skip
    node = pe.Node(sink, name=name)
    set_given(node, {
        "entities": None if entities is None else [dict(each) for each in entities],
        "provenance": None if provenance is None else dict(provenance),
        "sidecar": None if sidecar is None else list(sidecar),
    })  # fmt: skip
    return node


def keep_fields(
    workflow: LiterateWorkflow, made_by: LiterateWorkflow, store: Store, *, name: str, fields: Fields
) -> None:
    """Store those outputs of a part of a workflow that it has, one file a field, under fixed names."""
    kept = {field: fields[field] for field in fields if field in fields_of(made_by, "outputnode")}
    sink = init_sink(
        store, name=name, entities=[entities for entities, _ in kept.values()],
        sidecar=[dict(sidecar) for _, sidecar in kept.values()],
    )  # fmt: skip
    files = joined(workflow, f"{name}_files", [(made_by, f"outputnode.{field}") for field in kept])
    workflow.connect([(files, sink, same(out="in_file"))])


def keep_model(workflow: LiterateWorkflow, made_by: LiterateWorkflow, store: Store, *, name: str, method: str) -> None:
    """Store a model, its card and its log."""
    fields: Fields = {
        "model_file": ({"desc": method, "suffix": "model"}, {}),
        "card_file": ({"desc": method, "suffix": "model"}, {}),
        "log_file": ({"desc": method, "suffix": "log"}, LOG_COLUMNS),
    }
    models = Store(output_dir=store.output_dir, common={**store.common, "datatype": "models"})
    keep_fields(workflow, made_by, models, name=name, fields=fields)


def keep_figures(workflow: LiterateWorkflow, drawn_by: LiterateWorkflow, *, output_dir: str, common: Entities) -> None:
    """Store the figures of a workflow that draws."""
    keep = init_sink(Store(output_dir=output_dir, common=common), name=f"keep_{drawn_by.name}")
    workflow.connect([(drawn_by, keep, out_of("entities", reportlets="in_file"))])


def anat_fields(*, template: str) -> Fields:
    """Names of what the anatomical stage leaves: field of its outputnode to entities and sidecar."""
    return {
        "t1w_preproc": ({"desc": "preproc", "suffix": "T1w"}, {"SkullStripped": False}),
        "t1w_mask": ({"desc": "brain", "suffix": "mask"}, {"Type": "Brain"}),
        "t1w_dseg": ({"suffix": "dseg"}, {"Description": "tissues: 1 GM, 2 WM, 3 CSF"}),
        "atlas_t1w": ({"desc": "aal", "suffix": "dseg"}, {"Description": "AAL2 labels brought to the subject"}),
        "roi_t1w": ({"desc": "roi", "suffix": "mask"}, {"Type": "ROI"}),
        "t1w2std_xfm": ({"from": "T1w", "to": template, "mode": "image", "suffix": "xfm"}, {}),
        "std2t1w_xfm": ({"from": template, "to": "T1w", "mode": "image", "suffix": "xfm"}, {}),
    }


MOTION: Fields = {
    "boldref": ({"desc": "hmc", "suffix": "boldref"}, {"SkullStripped": False}),
    "hmc_xfms": (
        {"from": "orig", "to": "boldref", "mode": "image", "desc": "hmc", "suffix": "xfm"},
        {"Description": "one rigid transform a volume; takes a boldref point to where it lies in the volume"},
    ),
}
REGION: Fields = {"roi_bold": ({"desc": "roi", "suffix": "mask"}, {"Type": "ROI"})}
REGISTRATION: Fields = {
    "bold_mask": ({"desc": "brain", "suffix": "mask"}, {"Type": "Brain"}),
    "bold_mask_hr": (
        {"res": "hr", "desc": "brain", "suffix": "mask"},
        {"Type": "Brain", "Resolution": "grid of the super-resolved series"},
    ),
    "registration_json": ({"desc": "registration", "suffix": "metrics"}, {}),
    "boldref2t1w_xfm": ({"from": "boldref", "to": "T1w", "mode": "image", "desc": "coreg", "suffix": "xfm"}, {}),
    "highres2boldref_xfm": (
        {"from": "highres", "to": "boldref", "mode": "image", "desc": "coreg", "suffix": "xfm"}, {},
    ),
}  # fmt: skip
CALIBRATION: Fields = {
    "sd_file": (
        {"desc": "calibrationsd", "suffix": "boldmap"},
        {"Description": "standard deviation of the calibration's fluctuations, on its own grid; 0 if not usable",
         "Units": "as the BOLD"},
    ),
    "boldref2calibration_xfm": (
        {"from": "calibration", "to": "boldref", "mode": "image", "desc": "coreg", "suffix": "xfm"},
        {"Description": "takes a boldref point to its point in the calibration"},
    ),
    "calibration_json": ({"desc": "calibration", "suffix": "metrics"}, {}),
}  # fmt: skip


def _tagged(entities: Entities, tag: str) -> Entities:
    return {**entities, "acquisition": entities.get("acquisition", "") + tag}


def pair_fields(*, high: Entities, low: Entities, tag: str = "") -> Fields:
    """Names of what the stage of a pair leaves.

    Parameters
    ----------
    high, low : the entities that tell its members apart
    tag : tells it from another pair of the same images; "" where there is none
    """
    apart = ({"acquisition": "highres"}, {"acquisition": "lowres"}) if dict(high) == dict(low) else (high, low)
    if tag:
        apart = (_tagged(apart[0], tag), _tagged(apart[1], tag))
    preproc = {"desc": "preproc", "suffix": "T2starw"}
    return {
        "train_highres": ({**apart[0], **preproc}, {"SkullStripped": False}),
        "train_lowres": ({**apart[1], **preproc}, {"SkullStripped": False}),
        "highres2lowres_xfm": (
            {"from": "highres", "to": "lowres", "mode": "image", "desc": "pair", "suffix": "xfm"},
            {"Description": "takes a point of the low-resolution image to its point in the high-resolution image"},
        ),
    }
