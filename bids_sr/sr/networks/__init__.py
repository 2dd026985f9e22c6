"""Networks: architectures, losses, training data, training and application.

Recipes (`bids_sr.sr.recipe`) name the classes, and methods (`bids_sr.sr.methods`) list the
recipes. Files of models are read and written in `bids_sr.sr.models`, as for methods without
networks.
"""

from typing import TYPE_CHECKING

from bids_sr.io.lazy import import_on_use
from bids_sr.io.notices import InvalidInput as InvalidInput

if TYPE_CHECKING:
    from bids_sr.sr.networks.data.contrast_channels import (
        contrast_image as contrast_image,
        joined_contrasts as joined_contrasts,
        unit_range as unit_range,
    )
    from bids_sr.sr.networks.data.images import (
        N_VOLUMES as N_VOLUMES,
        TrainingImage as TrainingImage,
        TrainingImages as TrainingImages,
        check_images as check_images,
        checksums as checksums,
        pair_image as pair_image,
        volumes_of_run as volumes_of_run,
    )
    from bids_sr.sr.networks.inference.apply_to_contrasts import (
        SAME_GRID as SAME_GRID,
        explain_slice as explain_slice,
        super_resolve_contrasts as super_resolve_contrasts,
    )
    from bids_sr.sr.networks.inference.network_upsampler import (
        network_upsampler as network_upsampler,
    )
    from bids_sr.sr.networks.missing_features import (
        missing_features_notice as missing_features_notice,
    )
    from bids_sr.sr.networks.training.card_entries import (
        card_entries as card_entries,
        make_settings_entry as make_settings_entry,
        steps_at_stop as steps_at_stop,
    )
    from bids_sr.sr.networks.training.phase import (
        OutOfDeviceMemory as OutOfDeviceMemory,
        TrainingDiverged as TrainingDiverged,
    )
    from bids_sr.sr.networks.training.trainer import train_network as train_network
    from bids_sr.sr.networks.training_text import (
        data_text as data_text,
        images_text as images_text,
        training_sentences as training_sentences,
        write_planned_sentences as write_planned_sentences,
    )
    from bids_sr.sr.networks.vgg19 import (
        ChecksumError as ChecksumError,
        convert_vgg19 as convert_vgg19,
        load_vgg19 as load_vgg19,
    )
else:
    __getattr__ = import_on_use(
        __name__,
        {
            "data.contrast_channels": ["contrast_image", "joined_contrasts", "unit_range"],
            "data.images": [
                "N_VOLUMES",
                "TrainingImage",
                "TrainingImages",
                "check_images",
                "checksums",
                "pair_image",
                "volumes_of_run",
            ],
            "inference.apply_to_contrasts": [
                "SAME_GRID",
                "explain_slice",
                "super_resolve_contrasts",
            ],
            "inference.network_upsampler": ["network_upsampler"],
            "missing_features": ["missing_features_notice"],
            "training.card_entries": ["card_entries", "make_settings_entry", "steps_at_stop"],
            "training.phase": [
                "OutOfDeviceMemory",
                "TrainingDiverged",
            ],
            "training.trainer": ["train_network"],
            "training_text": [
                "data_text",
                "images_text",
                "training_sentences",
                "write_planned_sentences",
            ],
            "vgg19": ["ChecksumError", "convert_vgg19", "load_vgg19"],
        },
    )
