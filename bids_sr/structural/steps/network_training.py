"""Training on structural scans, and super-resolution with contrasts as channels of a network."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bids_sr.config.sections.anat import AlignmentModel, IntensityScaling
from bids_sr.engine.artifacts import File, Map, Mask
from bids_sr.engine.step import HERE, Stage, step
from bids_sr.engine.step_memory import RESOLVE_SCANS, TRAIN_ON_SCANS
from bids_sr.io.run_time import RunTime
from bids_sr.io.volume import Volume
from bids_sr.io.word_lists import format_count
from bids_sr.sr.device import Device, choose_device
from bids_sr.sr.method import get_method
from bids_sr.sr.models.request import ModelSettings, TrainingSettings, request_model
from bids_sr.sr.steps.model_times import training_work
from bids_sr.sr.steps.training import ModelFiles, provide_model
from bids_sr.sr.steps.training_texts import describe_network, read_cards
from bids_sr.structural.steps.scans import list_suffixes, make_scan, stack_scans

Split = Mapping[str, Sequence[str]]
"""Labels of participants by set (training, validation, test); empty if there is no split."""
_NO_SPLIT: Split = {}
# processor time of training (s per million voxels of all contrasts), with the recipe fast and with
# other recipes
_FAST_TRAINING_SECONDS, _TRAINING_SECONDS = 220.0, 400_000.0


def describe_scan_network(training: TrainingSettings, split: Split) -> str:
    """Return methods text of a network that will be trained on scans."""
    features = training.vgg_weights is not None
    text = describe_network(training, (), data=_describe_scans(split), features=features)
    return f"{text} {_channels_text(training.method)}"


def describe_networks_of_scans(
    training: TrainingSettings, split: Split, folders: Sequence[Path], unfinished: int
) -> str:
    """Return methods text of networks trained on scans, based on models of finished steps."""
    cards, sources = read_cards(training.method, folders)
    data = _describe_scans(split)
    text = describe_network(training, cards, data=data, sources=sources, unfinished=unfinished)
    return f"{text} {_channels_text(training.method)}"


def _describe_scans(split: Split) -> str:
    """Describe the training scans."""
    if not split:
        return "the participant's own pairs of high- and low-resolution scans"
    return (
        "pairs of high- and low-resolution scans from"
        f" {format_count(len(split['training']), 'participant')}, with"
        f" {format_count(len(split['validation']), 'other participant')} for validation and"
        f" {len(split['test'])} for testing"
    )


def _channels_text(method: str) -> str:
    """Return a sentence on the contrasts as channels of a network."""
    if not get_method(method).fuses_contrasts:
        return f"The network {method} super-resolved the scans slice by slice."
    return (
        f"The network {method} super-resolved all contrasts together (as channels), slice by"
        " slice."
    )


def time_training_on_scans(training: ModelSettings, suffixes: Sequence[str]) -> RunTime:
    """Return the processor time of `train_on_scans`."""
    if training.is_given:
        return RunTime(always=0.5)
    per_contrast = _FAST_TRAINING_SECONDS if training.recipe == "fast" else _TRAINING_SECONDS
    seconds = per_contrast * len(suffixes) * training_work(training)
    return RunTime(high=seconds)


@step(Stage.STRUCTURAL, memory=TRAIN_ON_SCANS, resumes=True)
def train_on_scans(
    heads_fine: list[Map] | None = None,
    heads_coarse: list[Map] | None = None,
    heads_masks: dict[str, Mask] | None = None,
    *,
    here: Path = HERE,
    training: TrainingSettings,
    suffixes: tuple[str, ...] = (),
    anat_align: AlignmentModel,
    anat_scale: IntensityScaling,
    split: Split = _NO_SPLIT,
) -> ModelFiles:
    """Train a network on all contrasts of one or several heads, or reuse a trained network.

    `heads_fine` and `heads_coarse` are high- and low-resolution scans of all heads, contrast by
    contrast. `heads_masks` has the brain of each head by its name, or is None if a trained model
    is used. `suffixes` are the contrasts of the heads. `anat_align` and `anat_scale` are recorded
    in the request for a model. Heads of the validation set of `split` are held out.
    """
    from bids_sr.sr.networks.data.contrast_channels import contrast_image
    from bids_sr.sr.networks.inference.apply_to_contrasts import SAME_GRID

    heads_fine, heads_coarse, heads_masks = heads_fine or [], heads_coarse or [], heads_masks or {}
    n_contrasts = len(heads_fine) // max(1, len(heads_masks))
    suffixes = tuple(list_suffixes(heads_fine[:n_contrasts])) or suffixes
    validation_heads = {f"sub-{label}" for label in split.get("validation", ())}
    heads = []
    for index, (name, mask) in enumerate(heads_masks.items()):
        head_scans = slice(index * n_contrasts, (index + 1) * n_contrasts)
        fine, coarse = stack_scans(heads_fine[head_scans]), stack_scans(heads_coarse[head_scans])
        image = contrast_image(fine, coarse, mask.data, mask.affine, suffixes, name)
        heads.append(replace(image, validation=name in validation_heads))
    request = replace(
        request_model(training, SAME_GRID),
        anat_align=anat_align,
        anat_scale=anat_scale,
        split={name: list(labels) for name, labels in split.items()},
    )
    return provide_model(request, tuple(heads) or None, here, None)


@step(
    Stage.STRUCTURAL,
    makes="made_scans",
    memory=RESOLVE_SCANS,
)
def super_resolve_scans(
    coarse_scans: list[Map],
    scan_mask: Mask,
    model_file: File,
    *,
    suffixes: tuple[str, ...],
    method: str,
    device: Device,
    omp_nthreads: int,
    anat_align: AlignmentModel,
    anat_scale: IntensityScaling,
    force: bool,
    split_set: str = "",
) -> list[Map]:
    """Super-resolve all contrasts of one head together.

    `coarse_scans` are low-resolution scans on the high-resolution grid (cubic spline), one per
    contrast, with their BIDS `suffixes`. `scan_mask` marks the brain (3D, boolean). `method` is
    the series of the results. `split_set` is the set of the participant (`anat.split`), for the
    sidecars; "" if there is no split. Raises `UsageError` if the model was trained on images with
    another grid or preparation, unless `force` is set.
    """
    from bids_sr.sr.models.compatibility import check_model
    from bids_sr.sr.models.model import load_model
    from bids_sr.sr.networks.data.contrast_channels import joined_contrasts
    from bids_sr.sr.networks.inference.apply_to_contrasts import SAME_GRID, super_resolve_contrasts

    model = load_model(model_file)
    check_model(
        model.card,
        scan_mask.affine,
        joined_contrasts(suffixes),
        SAME_GRID,
        align=anat_align,
        scale=anat_scale,
        force=force,
    )
    images = super_resolve_contrasts(
        model,
        stack_scans(coarse_scans),
        scan_mask.data,
        scan_mask.affine,
        device=choose_device(device),
        threads=omp_nthreads,
    )
    metadata = {"Split": split_set} if split_set else {}
    return [
        make_scan(Volume(image, scan_mask.affine), method, suffix, {**scan.sidecar, **metadata})
        for image, suffix, scan in zip(images, suffixes, coarse_scans, strict=True)
    ]
