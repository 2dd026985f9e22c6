"""Data that the program carries: names of derivatives, the report's outline and looks, references."""

from pathlib import Path

HERE = Path(__file__).resolve().parent


def path(name: str) -> Path:
    """Absolute path of a file that comes with the program.

    Parameters
    ----------
    name : relative to this folder, such as ``report.tpl``

    Raises
    ------
    FileNotFoundError
        if the installation lacks it
    """
    found = HERE / name
    if not found.exists():
        raise FileNotFoundError(f"{name} does not come with this installation of bids-sr ({HERE})")
    return found


def bibliography() -> str:
    """All references as one BibTeX text: every ``bib/*.bib`` in the order of their names, an entry of each key once."""
    seen: set[str] = set()
    kept = []
    for file in sorted((HERE / "bib").glob("*.bib")):
        for entry in ("\n" + file.read_text(encoding="utf-8")).split("\n@")[1:]:
            key = entry.partition("{")[2].partition(",")[0].strip()
            if key not in seen:
                seen.add(key)
                kept.append("@" + entry.strip() + "\n")
    return "\n".join(kept)
