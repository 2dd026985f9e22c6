"""Training on structural scans, and super-resolution with contrasts as channels of a network."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bids_sr.io.volume import Volume
from bids_sr.networks import images_text
from bids_sr.pipeline.artifacts import File, Map, Mask
from bids_sr.pipeline.step import HERE, step
from bids_sr.run_time import RunTime
from bids_sr.sr.device import Device, choose_device
from bids_sr.sr.models.request import TrainingSettings, request_model
from bids_sr.steps.memory import RESOLVE_SCANS, TRAIN_ON_SCANS
from bids_sr.steps.training import ModelFiles, provide_model
from bids_sr.steps.training_costs import schedule_training, training_work
from bids_sr.steps.training_texts import describe_network, read_cards
from bids_sr.structural.steps.scans import (
    AlignmentModel,
    IntensityScaling,
    list_suffixes,
    make_scan,
    stack_scans,
)

# processor time of training (s per million voxels of all contrasts), with the recipe fast and with
# other recipes
_FAST_TRAINING_SECONDS, _TRAINING_SECONDS = 220.0, 400_000.0


def describe_scan_network(training: TrainingSettings, *, of_others: bool) -> str:
    """Return methods text of a network that will be trained on scans.

    `of_others` is True if the scans are from other participants.
    """
    data, features = _scans_text("the", of_others=of_others), training.vgg_weights is not None
    text = describe_network(training, (), data=data, features=features)
    return f"{text} {_channels_text(training.method)}"


def describe_networks_of_scans(
    training: TrainingSettings, folders: Sequence[Path], unfinished: int, *, of_others: bool
) -> str:
    """Return methods text of networks trained on scans, based on models of finished steps."""
    cards, sources = read_cards(training.method, folders)
    data = _scans_text(images_text(cards), of_others=of_others)
    text = describe_network(training, cards, data=data, sources=sources, unfinished=unfinished)
    return f"{text} {_channels_text(training.method)}"


def _scans_text(heads: str, *, of_others: bool) -> str:
    """Describe the training scans; `heads` is the number of other participants, as text."""
    if of_others:
        return f"pairs of high- and low-resolution scans from {heads} other participants"
    return "the participant's own pairs of high- and low-resolution scans"


def _channels_text(method: str) -> str:
    """Return a sentence on the contrasts as channels of a network."""
    return (
        f"The network {method} super-resolved all contrasts together (as channels), slice by"
        " slice."
    )


def _estimate_training_time(training: TrainingSettings, suffixes: Sequence[str]) -> RunTime:
    """Estimate the time of `train_on_scans`."""
    if training.is_given:
        return RunTime(always=0.5)
    per_contrast = _FAST_TRAINING_SECONDS if training.recipe == "fast" else _TRAINING_SECONDS
    seconds = per_contrast * len(suffixes) * training_work(training)
    return schedule_training(RunTime(high=seconds), training)


@step(memory=TRAIN_ON_SCANS, resumes=True, cost=_estimate_training_time)
def train_on_scans(
    scan_mask: Mask,
    heads_fine: list[Map] | None = None,
    heads_coarse: list[Map] | None = None,
    heads_masks: dict[str, Mask] | None = None,
    *,
    here: Path = HERE,
    training: TrainingSettings,
    suffixes: tuple[str, ...] = (),
    anat_align: AlignmentModel,
    anat_scale: IntensityScaling,
) -> ModelFiles:
    """Train a network on all contrasts of one or several heads, or reuse a trained network.

    Parameters
    ----------
    scan_mask : Mask
        Brain of the participant, whose grid the model is for.
    heads_fine, heads_coarse : list[Map] | None
        High- and low-resolution scans of all heads, contrast by contrast.
    heads_masks : dict[str, Mask] | None
        Brain of each head by its name; None if a trained model is used.
    training : TrainingSettings
        Method and settings of the training.
    suffixes : tuple[str, ...]
        Contrasts of the participant; the heads have the same contrasts.
    anat_align, anat_scale : AlignmentModel, IntensityScaling
        Preparation of the scans, which is recorded in the request for a model.
    """
    from bids_sr.networks import SAME_GRID, contrast_image, joined_contrasts

    heads_fine, heads_coarse, heads_masks = heads_fine or [], heads_coarse or [], heads_masks or {}
    n_contrasts = len(heads_fine) // max(1, len(heads_masks))
    suffixes = tuple(list_suffixes(heads_fine[:n_contrasts])) or suffixes
    heads = []
    for index, (name, mask) in enumerate(heads_masks.items()):
        head_scans = slice(index * n_contrasts, (index + 1) * n_contrasts)
        fine, coarse = stack_scans(heads_fine[head_scans]), stack_scans(heads_coarse[head_scans])
        heads.append(contrast_image(fine, coarse, mask.data, mask.affine, suffixes, name))
    request = replace(
        request_model(training, SAME_GRID), anat_align=anat_align, anat_scale=anat_scale
    )
    return provide_model(
        request, tuple(heads) or None, here, scan_mask.affine, joined_contrasts(suffixes)
    )


@step(
    makes="made_scans",
    memory=RESOLVE_SCANS,
    cost=lambda suffixes: RunTime(always=5.0, high=5.0 * len(suffixes)),
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
) -> list[Map]:
    """Super-resolve all contrasts of one head together.

    Parameters
    ----------
    coarse_scans : list[Map]
        Low-resolution scans on the high-resolution grid (cubic spline), one per contrast.
    scan_mask : Mask
        Brain on the grid of the scans (3D, boolean).
    model_file : File
        Trained network.
    suffixes : tuple[str, ...]
        BIDS suffix of each contrast.
    method : str
        Name of the method, the series of the results.
    device : Device
        Device that computes the network.
    omp_nthreads : int
        Number of threads.
    """
    from bids_sr.networks import super_resolve_contrasts
    from bids_sr.sr.models.model import load_model

    images = super_resolve_contrasts(
        load_model(model_file),
        stack_scans(coarse_scans),
        scan_mask.data,
        scan_mask.affine,
        device=choose_device(device),
        threads=omp_nthreads,
    )
    return [
        make_scan(Volume(image, scan_mask.affine), method, suffix, scan.sidecar)
        for image, suffix, scan in zip(images, suffixes, coarse_scans, strict=True)
    ]
