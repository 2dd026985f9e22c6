"""``bids-sr-models list`` and ``card``: methods, baselines and models, and the card of a model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from bids_sr.cli.console import table_text
from bids_sr.config import UsageError, suggest_name
from bids_sr.model_commands.cli.model_files import open_model
from bids_sr.model_commands.cli.options import CardOptions, ListOptions
from bids_sr.model_commands.cli.recipe_settings import settings_text
from bids_sr.series import BASELINES, INTERPOLATIONS
from bids_sr.sr.method import get_method, method_names, method_names_without_controls

_LEARNS_FROM = {
    "pair": "pairs of high- and low-resolution images",
    "images": "high-resolution images, with measured or simulated low-resolution images",
    "series": "the processed run itself",
    "self": "low-resolution images only",
}


def list_models(options: ListOptions) -> None:
    """Print methods, baselines and trained models.

    If methods are named, the settings of their recipes are printed instead. Folders of further
    models can be named as well.
    """
    methods, folders = _split_names(options.names)
    if methods:
        print("\n\n".join(map(settings_text, methods)))
        if not folders:
            return
        print()
    _print_methods()
    _print_baselines()
    from bids_sr.boilerplate import HERE

    for title, folder in [
        ("included in the package", HERE / "models"),
        *((str(folder), folder) for folder in folders),
    ]:
        print(f"\nTrained models: {title}")
        _print_models(folder)


def _print_methods() -> None:
    """Print a table of all methods that can be trained."""
    print(
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
    print(table_text(rows))


def _print_baselines() -> None:
    """Print a table of the methods that need no training."""
    print("\nBaseline methods (no training required)")
    baseline_rows = [
        (name, summary if name in INTERPOLATIONS else f"{summary} (only available in bids-sr)")
        for name, summary in BASELINES.items()
    ]
    print(table_text(baseline_rows))


def _split_names(names: Sequence[str]) -> tuple[list[str], list[Path]]:
    """Split words into methods and folders; reject other words."""
    methods = [name for name in names if name in method_names()]
    folders = [Path(name) for name in names if name not in methods]
    for folder in folders:
        if not folder.is_dir():
            methods_text = ", ".join(method_names_without_controls())
            reason = f"neither a directory nor one of the methods {methods_text}"
            fix = suggest_name(str(folder), method_names_without_controls()) or "check the name"
            raise UsageError(f"{folder}", reason, fix)
    return methods, folders


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


def _print_models(folder: Path) -> None:
    """Print a line for each model below a folder, including damaged models."""
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
    print(table_text(cells or [("none",)]))


def show_card(options: CardOptions) -> None:
    """Print a model card after verifying the weights."""
    model = open_model(options.model)
    card = {**model.card.json, "method": model.card.method, "recipe": model.card.recipe}
    if options.json:
        print(json.dumps(card, indent=2, sort_keys=True))
        return
    print(f"{options.model}: the weights match the model card")
    _print_entries(card, depth=0)


def _print_entries(entries: Mapping[str, object], depth: int) -> None:
    """Print nested entries as indented lines; lists are printed on one line."""
    for key, value in sorted(entries.items()):
        label = "  " * depth + _replace_unprintable(str(key))
        if isinstance(value, Mapping):
            print(f"{label}:")
            _print_entries(value, depth + 1)
        else:
            print(f"{label}: {_replace_unprintable(_format_entry(value))}")


def _format_entry(value: object) -> str:
    """Return a value, or the values of a list, as text."""
    if isinstance(value, list):
        return " ".join(map(str, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _replace_unprintable(text: str) -> str:
    """Replace non-printable characters by question marks.

    An untrusted card could use such characters to manipulate a terminal.
    """
    return "".join(character if character.isprintable() else "?" for character in text)
