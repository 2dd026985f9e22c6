"""Survey of a BIDS data set: files of each participant and run, and problems of these files.

`survey` returns the inputs of the workflows, such as `BoldRun` and `Subject`, together with all
problems, for ``--retrospective`` also the plan of the copies. Checks of the analysis, such as
contrasts, memory and voxel values, are in `bids_sr.survey.preflight`. pybids is only imported when
`survey` is called.
"""

from typing import TYPE_CHECKING

from bids_sr.io.lazy import import_on_use

if TYPE_CHECKING:
    from bids_sr.survey.bids.collect import survey as survey
    from bids_sr.survey.bids.entities import (
        file_stem as file_stem,
        parse_entities as parse_entities,
    )
    from bids_sr.survey.bids.findings import Findings as Findings, InputError as InputError
    from bids_sr.survey.bids.inputs import (
        BoldRun as BoldRun,
        LowresScan as LowresScan,
        ModelInput as ModelInput,
        Pair as Pair,
        Subject as Subject,
        Survey as Survey,
    )
    from bids_sr.survey.bids.method_options import (
        find_vgg_weights as find_vgg_weights,
        uses_guide as uses_guide,
    )
    from bids_sr.survey.bids.pairs import needs_pair as needs_pair
    from bids_sr.survey.bids.pretrained_models import (
        find_pretrained as find_pretrained,
        input_of_models as input_of_models,
    )
else:
    __getattr__ = import_on_use(
        __name__,
        {
            "collect": ["survey"],
            "entities": ["file_stem", "parse_entities"],
            "findings": ["Findings", "InputError"],
            "inputs": ["BoldRun", "LowresScan", "ModelInput", "Pair", "Subject", "Survey"],
            "method_options": ["find_vgg_weights", "uses_guide"],
            "pairs": ["needs_pair"],
            "pretrained_models": ["find_pretrained", "input_of_models"],
        },
    )
