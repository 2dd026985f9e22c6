"""Preflight of structural scans in one pass over headers."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from bids_sr.config import Settings
from bids_sr.io.image_header import Header
from bids_sr.io.notices import Notice
from bids_sr.structural.checks import check_edited_masks, check_lesion_template, check_tools
from bids_sr.structural.kept_split import find_kept_network
from bids_sr.structural.steps.preparation import list_interpolations
from bids_sr.structural.survey import find_simulated_factor, survey_structural
from bids_sr.survey.bids.acquired_matrix import (
    interpolation_text,
    list_interpolated,
    with_acquired_matrix,
)
from bids_sr.survey.bids.headers import read_header
from bids_sr.survey.bids.inputs import Subject
from bids_sr.survey.bids.pretrained_models import find_pretrained, input_of_models
from bids_sr.survey.notices import attribute, is_problem, problem, warning
from bids_sr.survey.preflight.checks import judge_data_set, judge_resources
from bids_sr.survey.preflight.estimates import estimate
from bids_sr.survey.preflight.method_checks import judge_card
from bids_sr.survey.preflight.option_checks import note_missing_features
from bids_sr.survey.preflight.plan import Plan


def check_scans(settings: Settings, found: Sequence[Notice] = ()) -> Plan:
    """Plan the processing of structural scans; the plan has all problems.

    `found` are notices about the options. Only headers are read, and nothing is written.
    """
    data_set = survey_structural(settings)
    superres, subjects = settings.superres, data_set.subjects
    members = data_set.split_subjects
    untrained = [name for name in superres.learned if not find_pretrained(superres, name)]
    methods = untrained if members else []
    networks = {name: find_kept_network(name, settings, members) for name in methods}
    kept_networks = {
        name: network.value for name, network in networks.items() if network.value is not None
    }
    is_trained = len(kept_networks) < len(methods)
    interpolations = list_interpolations(
        settings.anat.align,
        all_interpolations=superres.all_baselines,
        is_simulated=find_simulated_factor(settings) is not None,
    )
    plan = Plan(
        subjects=subjects,
        split_subjects=members,
        training_subjects=tuple(s for s in members if s.split_set != "test" and is_trained),
        kept_networks=kept_networks,
        series=tuple(dict.fromkeys((*interpolations, *superres.chosen))),
    )
    plan = replace(plan, estimate=estimate(plan, settings))
    labels = {subject.label for subject in subjects}
    others = (s for s in members if s.label not in labels)
    notices = [
        *found,
        *data_set.notices,
        *note_missing_features(settings),
        *_judge_models(settings, subjects),
        *_warn_of_interpolation(settings, subjects),
        *check_tools(settings),
        *check_lesion_template(settings, subjects),
        *check_edited_masks(settings, (*subjects, *others)),
        *(notice for network in networks.values() for notice in network.notices),
    ]
    if subjects:
        notices += judge_data_set(settings, data_set, notices)
        notices += judge_resources(plan.estimate, settings)
    notices = [*dict.fromkeys(notices)]
    return replace(
        plan,
        problems=tuple(filter(is_problem, notices)),
        warnings=tuple(notice for notice in notices if not is_problem(notice)),
    )


def _judge_models(settings: Settings, subjects: Sequence[Subject]) -> Iterator[Notice]:
    """Reject models that cannot be applied to participants."""
    superres = settings.superres
    for file in filter(None, (find_pretrained(superres, name) for name in superres.learned)):
        for subject in subjects:
            if subject.lowres:
                yield from _judge_model_of_lowres(settings, subject, file)
            if subject.structural:
                header = read_header(subject.structural[0].highres)
                yield from _judge_model(settings, subject, header, file)


def _warn_of_interpolation(settings: Settings, subjects: Sequence[Subject]) -> Iterator[Notice]:
    """Warn of scans whose voxels are smaller than acquired."""
    for subject in subjects:
        for path in subject.still_images:
            header = with_acquired_matrix(read_header(path), settings.paths.bids_dir.absolute())
            for axis in list_interpolated(header):
                yield from attribute(
                    [warning(path, f"{interpolation_text(axis)}.")], subject.label
                )


def _judge_model_of_lowres(settings: Settings, subject: Subject, file: Path) -> Iterator[Notice]:
    """Reject a model that cannot be applied to the grid of low-resolution scans.

    Grid and contrasts are taken from the first model, so only alignment, intensities and further
    models can differ.
    """
    from bids_sr.sr.networks.data.contrast_channels import joined_contrasts
    from bids_sr.sr.networks.inference.apply_to_contrasts import SAME_GRID
    from bids_sr.structural.model_grid import order_axes

    model_input = input_of_models(settings.superres)
    assert model_input is not None, (
        "low-resolution scans can only be processed with pretrained models"
    )
    affine = np.eye(4)
    affine[:3, :3] = np.eye(3)[:, order_axes(model_input.orientation)] * model_input.mm
    model_text = f"sub-{subject.label} with --pretrained {file}"
    contrasts = joined_contrasts(model_input.contrasts)
    yield from judge_card(file, affine, contrasts, SAME_GRID, model_text, settings)


def _judge_model(
    settings: Settings, subject: Subject, header: Header, file: Path
) -> Iterator[Notice]:
    """Reject a model that cannot be applied to a participant with pairs.

    The model card is compared with the contrasts and with `header`, the high-resolution scan that
    defines the grid.
    """
    from bids_sr.sr.models.card import ModelError, read_card
    from bids_sr.sr.networks.data.contrast_channels import joined_contrasts
    from bids_sr.sr.networks.inference.apply_to_contrasts import SAME_GRID

    contrasts = [pair.contrast for pair in subject.structural]
    model_text = f"sub-{subject.label} with --pretrained {file}"
    try:
        card = read_card(file)
    except ModelError:
        return  # reported by `judge_pretrained`
    if (channels := card.channels) != len(contrasts):
        reason = (
            f"the number of contrasts required by the model is {channels} ({card.contrast}), but"
            f" the participant has {joined_contrasts(contrasts)}"
        )
        fix = (
            "Use a model that was trained on these contrasts, or omit --pretrained to train a"
            " new model."
        )
        yield problem(model_text, reason, fix)
    else:
        joined = joined_contrasts(contrasts)
        yield from judge_card(file, header.affine, joined, SAME_GRID, model_text, settings)
