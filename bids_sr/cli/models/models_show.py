"""``bids-sr-models list`` and ``card``: methods, baselines and models, and the card of one."""

import json
from collections.abc import Mapping
from pathlib import Path

from bids_sr.cli.console import table_text
from bids_sr.cli.models.models_options import CardOptions, ListOptions
from bids_sr.series import BASELINES, INTERPOLATIONS
from bids_sr.sr.method import get_method, offered_methods

_LEARNS_FROM = {
    "pair": "a pair of fine and coarse images",
    "images": "fine images, with measured or made coarse ones",
    "series": "the run itself, over time",
    "self": "coarse images alone",
}


def list_models(options: ListOptions) -> None:
    """Print methods, baselines and trained models.

    `options`: parsed options of the command line, with folders of further models.
    """
    print(
        "Methods (train with: bids-sr-models train METHOD OUT ...; or bids-sr ... --sr-method"
        " METHOD)"
    )
    rows = [("name", "dims", "parameters fast / paper", "reference", "learns from", "what it is")]
    for name in offered_methods():
        facts = get_method(name)
        learns = _LEARNS_FROM.get(facts.trained_on, facts.trained_on)
        rows.append((name, f"{facts.ndim}D", _sizes(name), facts.reference, learns, facts.summary))
    print(table_text(rows))
    print("\nBaselines (nothing is learned)")
    of_the_run = " (in bids-sr only)"
    nothing_learned = [
        (n, f"{t}{of_the_run * (n not in INTERPOLATIONS)}") for n, t in BASELINES.items()
    ]
    print(table_text(nothing_learned))
    from bids_sr.boilerplate import HERE

    for title, folder in [
        ("with the package", HERE / "models"),
        *((str(each), each) for each in options.folder),
    ]:
        print(f"\nTrained models: {title}")
        _models(folder)


def _sizes(name: str) -> str:
    """Return the number of generator parameters per recipe, or "-" without a generator.

    The factor is 2, and nothing is allocated.
    """
    import torch

    method, found = get_method(name), []
    for recipe in (method.recipes.get("fast"), method.recipes.get("paper")):
        if recipe is None:
            found.append("-")
            continue
        with torch.device("meta"):
            network = recipe.build_generator(1, (2.0, 2.0, 1.0))
        found.append(f"{sum(p.numel() for p in network.parameters()):,}")
    return " / ".join(found)


def _models(folder: Path) -> None:
    """One line for each model below a folder; damaged ones are named."""
    from bids_sr.sr.models.card import ModelError, read_card

    rows: list[tuple[str, ...]] = []
    for weights in sorted(folder.rglob("*.safetensors")):
        try:
            card = read_card(weights)
        except ModelError as error:
            rows.append((weights.name, _printable(f"cannot be used: {error}")))
            continue
        mm = " x ".join(f"{v:.3g}" for v in card.lowres_mm)
        factor = " x ".join(f"{v:g}" for v in card.factor)
        reached = f"held-out PSNR {card.psnr['network']:.1f} dB" if "network" in card.psnr else ""
        rows.append(
            (
                str(weights.relative_to(folder)),
                f"{card.method} ({card.recipe})",
                f"{mm} mm by {factor}",
                card.contrast,
                reached,
            )
        )
    shown = [tuple(_printable(cell) for cell in row) for row in rows]
    print(table_text(shown or [("none",)]))


def show_card(options: CardOptions) -> None:
    """Print a card; the weights are checked against it first."""
    from bids_sr.cli.models.models_files import open_model

    model = open_model(options.model)
    card = {**model.card.json, "recipe": model.card.recipe}
    if options.json:
        print(json.dumps(card, indent=2, sort_keys=True))
        return
    print(f"{options.model}: weights and card belong together")
    _lines(card, 0)


def _lines(values: Mapping[str, object], depth: int) -> None:
    """Nested values as indented lines; lists of numbers on one."""
    for key, value in sorted(values.items()):
        head = "  " * depth + _printable(str(key))
        if isinstance(value, Mapping):
            print(f"{head}:")
            _lines(value, depth + 1)
        elif isinstance(value, list):
            print(f"{head}: {_printable(' '.join(map(str, value)))}")
        else:
            print(
                f"{head}: {_printable(f'{value:.6g}' if isinstance(value, float) else str(value))}"
            )


def _printable(text: str) -> str:
    """Text without characters that could steer a terminal: a card may come from anyone."""
    return "".join(each if each.isprintable() else "?" for each in text)
