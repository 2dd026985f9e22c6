"""``bids-sr-models list``: methods, baselines and models, settings, and model cards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from bids_sr.cli.console import table_text
from bids_sr.cli.models.commands.model_files import open_model
from bids_sr.cli.models.commands.options import ListOptions
from bids_sr.cli.models.commands.recipe_settings import settings_text
from bids_sr.config import suggest_name
from bids_sr.io.notices import UsageError
from bids_sr.io.series import BASELINES, get_need
from bids_sr.sr.method import get_method, method_names, method_names_without_controls

_LEARNS_FROM = {
    "pair": "pairs of high- and low-resolution images",
    "images": "high-resolution images, with measured or simulated low-resolution images",
    "series": "the processed run itself",
    "self": "low-resolution images only",
}


def list_models(options: ListOptions) -> None:
    """Print methods, baselines and the models of the package.

    If names are given, print the settings of these methods, the cards of these models and the
    models in these folders instead.
    """
    if options.names:
        print("\n\n".join(map(_describe, options.names)))
        return
    print(_list_methods())
    print(_list_baselines())
    from bids_sr.boilerplate import HERE

    print(f"\nTrained models: included in the package\n{_list_folder(HERE / 'models')}")


def _describe(name: str) -> str:
    """Return the settings of a method, the card of a model file, or the models in a folder."""
    path = Path(name)
    if name in method_names():
        return settings_text(name)
    if path.is_dir():
        return f"Trained models: {path}\n{_list_folder(path)}"
    if not path.exists():
        methods = method_names_without_controls()
        reason = (
            f"neither a model file, nor a directory, nor one of the methods {', '.join(methods)}"
        )
        raise UsageError(name, reason, suggest_name(name, methods) or "check the name")
    return _describe_model(path)


def _list_folder(folder: Path) -> str:
    """Return a line for each model below a folder, including damaged models."""
    from bids_sr.sr.models.card import ModelError, read_card

    rows: list[tuple[str, ...]] = []
    for weights in sorted(folder.rglob("*.safetensors")):
        try:
            card = read_card(weights)
        except ModelError as error:
            rows.append((weights.name, _replace_unprintable(f"cannot be used: {error}")))
            continue
        voxel_size_text = " x ".join(f"{number:.3g}" for number in card.lowres_mm)
        factor_text = " x ".join(f"{number:g}" for number in card.factor)
        score_text = (
            f"held-out PSNR {card.psnr['network']:.1f} dB" if "network" in card.psnr else ""
        )
        rows.append(
            (
                str(weights.relative_to(folder)),
                f"{card.method} ({card.recipe})",
                f"{voxel_size_text} mm, factor {factor_text}",
                card.contrast,
                score_text,
            )
        )
    cells = [tuple(_replace_unprintable(cell) for cell in row) for row in rows]
    return table_text(cells or [("none",)])


def _describe_model(path: Path) -> str:
    """Return a model card after verifying the weights."""
    model = open_model(path)
    card = {**model.card.json, "method": model.card.method, "recipe": model.card.recipe}
    return "\n".join(
        [f"{path}: the weights match the model card", *_format_entries(card, depth=0)]
    )


def _format_entries(entries: Mapping[str, object], depth: int) -> Iterator[str]:
    """Yield nested entries as indented lines; a list is one line."""
    for key, value in sorted(entries.items()):
        label = "  " * depth + _replace_unprintable(str(key))
        if isinstance(value, Mapping):
            yield f"{label}:"
            yield from _format_entries(value, depth + 1)
        else:
            yield f"{label}: {_replace_unprintable(_format_entry(value))}"


def _replace_unprintable(text: str) -> str:
    """Replace non-printable characters by question marks.

    An untrusted card could use such characters to manipulate a terminal.
    """
    return "".join(character if character.isprintable() else "?" for character in text)


def _format_entry(value: object) -> str:
    """Return a value, or the values of a list, as text."""
    if isinstance(value, list):
        return " ".join(map(str, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _list_methods() -> str:
    """Return a table of all methods that can be trained."""
    title = (
        "Methods (train a model with bids-sr-models train METHOD OUT ..., or with bids-sr"
        " ... --sr-method METHOD)"
    )
    rows = [("name", "dims", "parameters fast / paper", "reference", "learns from", "description")]
    for name in method_names_without_controls():
        method = get_method(name)
        training_data = _LEARNS_FROM.get(method.trained_on, method.trained_on)
        rows.append(
            (
                name,
                f"{method.ndim}D",
                _count_parameters(name),
                method.reference,
                training_data,
                method.summary,
            )
        )
    return f"{title}\n{table_text(rows)}"


def _count_parameters(name: str) -> str:
    """Return the number of generator parameters per recipe, "-" if there is no generator.

    The factor is 2, and no memory is allocated.
    """
    import torch

    method = get_method(name)
    counts = []
    for recipe in (method.recipes.get("fast"), method.recipes.get("paper")):
        if recipe is None:
            counts.append("-")
            continue
        with torch.device("meta"):
            network = recipe.build_generator(1, (2.0, 2.0, 1.0))
        count = sum(parameter.numel() for parameter in network.parameters())
        counts.append(f"{count:,}")
    return " / ".join(counts)


def _list_baselines() -> str:
    """Return a table of the methods that need no training."""
    baseline_rows = [
        (name, summary if get_need(name) == "volume" else f"{summary} (only available in bids-sr)")
        for name, summary in BASELINES.items()
    ]
    return f"\nBaseline methods (no training required)\n{table_text(baseline_rows)}"
