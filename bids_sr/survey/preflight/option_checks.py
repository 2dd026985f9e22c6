"""Rules on options and on the models that they name, before the data set is read.

`OPTION_RULES` are of all calls, and `RUN_OPTION_RULES` of calls that process BOLD runs.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

from bids_sr.config import Settings, SuperRes
from bids_sr.io.notices import Notice
from bids_sr.sr.method import get_method
from bids_sr.sr.networks.missing_features import missing_features_notice
from bids_sr.survey.bids.content import require_content
from bids_sr.survey.bids.method_options import find_vgg_weights
from bids_sr.survey.bids.pretrained_models import find_pretrained
from bids_sr.survey.notices import judge, note, option_problem, problem, warning
from bids_sr.survey.preflight.pretrained_models import judge_pretrained


def _judge_weights(settings: Settings) -> Iterator[Notice]:
    """Reject model weights given as options that are missing, unreadable or in another format."""
    superres = settings.superres
    for file in filter(None, (*superres.pretrained, superres.vgg_weights)):
        yield from judge((_judge_weight_file,), file, superres)


def _judge_weight_file(file: Path, superres: SuperRes) -> Iterator[Notice]:
    """Reject a file of weights that is missing, unreadable or in another format."""
    if not file.is_file():
        yield problem(file, "the file was not found", "Check the path.")
    elif file != superres.vgg_weights and file.suffix != ".safetensors":
        yield problem(
            file,
            "the file is not a .safetensors file. Files written by torch.save can execute"
            " code and are therefore not loaded",
            "Specify a file in the .safetensors format.",
        )
    else:
        require_content(file)


def _judge_reused_models(settings: Settings) -> Iterator[Notice]:
    """Reject models that are to be used but are missing or lack a card."""
    superres = settings.superres
    problems = [*judge_pretrained(superres)]
    yield from problems
    folder = superres.models_to_reuse(settings.paths.output_dir)
    if (
        not problems
        and superres.model_source == "reuse"
        and folder is not None
        and any(find_pretrained(superres, name) is None for name in superres.learned)
        and not any(folder.rglob("*.safetensors"))
    ):
        yield option_problem(
            f"--set superres.model_source=reuse: {folder}",
            "the model directory does not contain a model (.safetensors file)",
            "Specify the model directory with --set superres.model_dir=DIR, or omit"
            " superres.model_source=reuse to train a new model.",
        )


def _require_slurm_commands(settings: Settings) -> Iterator[Notice]:
    """Report a plugin file on a machine without the SLURM commands."""
    file = settings.resources.use_plugin
    missing_commands = [
        name for name in ("sbatch", "squeue", "scontrol", "scancel") if shutil.which(name) is None
    ]
    if file is not None and missing_commands:
        yield problem(
            file,
            f"the SLURM commands {', '.join(missing_commands)} were not found on the PATH",
            "Run the program on a computer with the SLURM commands, or omit --use-plugin.",
        )


def note_missing_features(settings: Settings) -> Iterator[Notice]:
    """Report methods whose training loss lacks VGG-19 features because the weights are missing.

    For default methods, whose loss includes the features optionally, only warnings are reported.
    """
    superres = settings.superres
    default_methods = SuperRes().learned
    for name in superres.learned:
        notice = missing_features_notice(get_method(name), superres.recipe)
        is_trained = superres.model_source != "reuse" and find_pretrained(superres, name) is None
        if notice is None or not is_trained or find_vgg_weights(superres, name) is not None:
            continue
        level, text = notice
        option = f"--sr-method {name} --recipe {superres.recipe}"
        if level == "warning":
            yield warning(option, text, code="method")
        elif name not in default_methods:
            yield note(option, text, code="method")


OPTION_RULES = (_judge_weights, _judge_reused_models, _require_slurm_commands)
RUN_OPTION_RULES = (note_missing_features,)
