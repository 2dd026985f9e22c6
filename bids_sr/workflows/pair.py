"""Registration of T2*-weighted pairs, and training of networks on pairs."""

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType

from bids_sr.engine.artifacts import File, Rows
from bids_sr.engine.flow import add_methods_text, as_artifact, describe_step, subworkflow
from bids_sr.engine.outputs import Outputs
from bids_sr.engine.step import Part
from bids_sr.io.frozen import frozen
from bids_sr.io.grids import AS_STORED, AxisOrder, Factor
from bids_sr.io.series import series_name
from bids_sr.preproc.steps import registration
from bids_sr.preproc.steps.registration import AlignedPair
from bids_sr.report.figure_steps import (
    anatomy as anatomy_figures,
    model_training as model_training_figures,
)
from bids_sr.sr.models.request import TrainingSettings
from bids_sr.sr.steps import training, training_texts
from bids_sr.sr.steps.training import ModelFiles
from bids_sr.survey.bids.inputs import Pair, Subject
from bids_sr.workflows.series_requests import Analysis, SeriesRequest, select_entities


@frozen
class PairFiles:
    """Files of a pair.

    If `lowres_file` is None, the low-resolution image is simulated by truncating k-space of the
    high-resolution image. `factor` is the ratio of low- to high-resolution voxel size, per axis.
    `orders` are the axis of each file that corresponds to each axis of the runs, high resolution
    first. If `is_registered`, the headers already align the images, so that no transform is
    estimated.
    """

    highres_file: File
    lowres_file: File | None
    factor: Factor
    orders: tuple[AxisOrder, AxisOrder] = (AS_STORED, AS_STORED)
    is_registered: bool = False


@frozen
class RegisteredPair(AlignedPair):
    """Images of a pair in a common frame, with the high-resolution image as acquired.

    `factor`: ratio of low- to high-resolution voxel size, per axis.
    """

    highres_file: File
    factor: Factor


@frozen
class TrainedNetwork:
    """Network that was trained on a pair.

    `holdout`: metrics on a held-out pair; None if there is no held-out pair.
    """

    files: ModelFiles
    holdout: Rows | None = None


def fit_pair(
    analysis: Analysis,
    subject: Subject,
    pair: Pair,
    number: int,
    requests: Mapping[str, SeriesRequest],
) -> tuple[RegisteredPair, dict[str, TrainedNetwork]]:
    """Register a pair and train networks on it.

    `number` is the number of the pair within the participant, from 1. `requests` are the series
    whose models are trained on the pair, by name. Returns the images of the pair in a common
    frame, and the models by name of the series.
    """
    pair_entities = select_entities(pair.highres, "session", "run")
    pairs_with_same_image = [
        same_pair
        for same_pair in subject.pairs
        if select_entities(same_pair.highres, "session", "run") == pair_entities
    ]
    # A high-resolution image may be paired with runs of two resolutions, which need separate
    # models.
    pair_label = f"pair{number}" if len(pairs_with_same_image) > 1 else ""
    entities = {"subject": subject.label, **pair_entities}
    if pair_label:
        entities["acquisition"] = pair_label
    outputs = analysis.outputs({**entities, "datatype": "anat"}, axis_order=pair.orders[1])
    holdout = subject.holdouts.get(pair)
    seed = analysis.settings.resources.random_seed
    with subworkflow(f"pair_{number}_wf"):
        registered_pair = _register_pair(pair, seed)
        store_pair(registered_pair, pair, outputs, pair_label)
        outputs.store_figures(
            anatomy_figures.draw_pair(
                registered_pair.train_highres,
                registered_pair.train_lowres,
                registered_pair.pair_mask,
                as_artifact(pair.highres),
                registered_pair.pair_facts,
            )
        )
    held_out_pair = None
    if holdout is not None and requests:
        with subworkflow(f"holdout_{number}_wf"):
            held_out_pair = _register_pair(holdout, seed)
    models: dict[str, TrainedNetwork] = {}
    with subworkflow(f"models_{number}_wf"):
        for request in requests.values():
            with subworkflow(request.name):
                models[request.name] = _train_pair_model(
                    analysis,
                    request,
                    registered_pair,
                    held_out_pair,
                    outputs,
                    is_only_method=len(requests) == 1,
                )
    return registered_pair, models


def _register_pair(pair: Pair, random_seed: int) -> RegisteredPair:
    """Register the images of a pair of the data set."""
    files = PairFiles(
        highres_file=pair.highres,
        lowres_file=pair.lowres,
        factor=pair.factor,
        orders=pair.orders,
    )
    return register_scans(files, random_seed)


def register_scans(files: PairFiles, random_seed: int) -> RegisteredPair:
    """Bring the images of a pair into a common frame, or simulate the low-resolution image.

    `random_seed`: seed of the registration.
    """
    highres_order, lowres_order = files.orders
    if files.lowres_file is None:
        images = registration.truncate_pair(
            files.highres_file, factor=files.factor, highres_order=highres_order
        )
        add_methods_text(Part.PAIR, registration.describe_truncated_pair(files.factor))
    else:
        images = registration.register_pair(
            files.highres_file,
            files.lowres_file,
            factor=files.factor,
            random_seed=random_seed,
            highres_order=highres_order,
            lowres_order=lowres_order,
            registered=files.is_registered,
        )
        describe = partial(registration.describe_registered_pair, files.factor)
        describe_step(Part.PAIR, images.pair_facts, describe)
    return RegisteredPair(
        highres_file=files.highres_file,
        factor=files.factor,
        train_highres=images.train_highres,
        train_lowres=images.train_lowres,
        pair_mask=images.pair_mask,
        highres2lowres_xfm=images.highres2lowres_xfm,
        pair_facts=images.pair_facts,
    )


def store_pair(
    registered_pair: RegisteredPair, pair: Pair, outputs: Outputs, pair_label: str
) -> None:
    """Store the images of a pair in their common frame, and the transform.

    `pair_label`: label that distinguishes pairs with the same high-resolution image; "" if the
    image belongs to one pair.
    """
    outputs = outputs.with_references(own=registered_pair.train_lowres)
    image_entities = {
        "highres": select_entities(pair.highres, "acquisition"),
        "lowres": select_entities(pair.lowres or pair.highres, "acquisition"),
    }
    if image_entities["highres"] == image_entities["lowres"]:
        image_entities = {name: {"acquisition": name} for name in image_entities}
    images = {"highres": registered_pair.train_highres, "lowres": registered_pair.train_lowres}
    for name, image in images.items():
        entities = {**image_entities[name], "desc": "preproc", "suffix": "T2starw"}
        if pair_label:
            entities["acquisition"] = entities.get("acquisition", "") + pair_label
        outputs.store(
            image,
            entities,
            sidecar=registration.describe_pair_image("high" if name == "highres" else "low"),
        )
    outputs.store(
        registered_pair.highres2lowres_xfm,
        {"from": "highres", "to": "lowres", "mode": "image", "desc": "pair", "suffix": "xfm"},
        sidecar={
            "Description": (
                "transform that maps points of the low-resolution image to points of the"
                " high-resolution image"
            )
        },
    )


def _train_pair_model(
    analysis: Analysis,
    request: SeriesRequest,
    pair: RegisteredPair,
    held_out_pair: RegisteredPair | None,
    outputs: Outputs,
    *,
    is_only_method: bool,
) -> TrainedNetwork:
    """Train a network on a pair, or reuse a trained network, and test it on a held-out pair.

    `held_out_pair`: pair for the test; None if there is no held-out pair. `is_only_method`:
    whether exactly one method is trained on the pair.
    """
    assert request.method is not None
    settings = analysis.make_training(request.method.name)
    factor = pair.factor
    second_pair = None
    if held_out_pair is not None and held_out_pair.factor == factor:
        second_pair = held_out_pair
    files = training.train_on_pair(
        pair,
        None if second_pair is None else second_pair.train_highres,
        None if second_pair is None else second_pair.train_lowres,
        None if second_pair is None else second_pair.pair_mask,
        training=settings,
        factor=factor,
    )
    add_training_text(settings, files)
    store_model(files, settings.method, outputs)
    outputs.store_figures(
        model_training_figures.draw_training(
            files, method_label="" if is_only_method else request.name
        )
    )
    if held_out_pair is None:
        return TrainedNetwork(files=files)
    holdout = training.score_pair(
        held_out_pair,
        files.model_file,
        training=settings,
        factor=held_out_pair.factor,
    )
    add_methods_text(Part.PAIR, training_texts.HOLDOUT_TEXT)
    return TrainedNetwork(files=files, holdout=holdout)


def add_training_text(settings: TrainingSettings, files: ModelFiles) -> None:
    """Add methods text on the training of a network, which is completed after the training."""
    add_methods_text(
        Part.PAIR,
        training_texts.describe_planned(settings, "pair"),
        output=files.model_file,
        describe=partial(training_texts.describe_finished, settings, "pair"),
    )


def store_model(
    files: ModelFiles,
    method: str,
    outputs: Outputs,
    entities: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Store a model with model card and training log.

    The file names also contain `entities`.
    """
    name = {**entities, "datatype": "models", "desc": series_name(method)}
    outputs.store(files.model_file, {**name, "suffix": "model", "extension": ".safetensors"})
    outputs.store(files.card_file, {**name, "suffix": "model", "extension": ".json"})
    outputs.store(
        files.log_file,
        {**name, "suffix": "log", "extension": ".tsv"},
        sidecar=training.LOG_COLUMNS,
        level="full",
    )
