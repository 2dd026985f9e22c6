"""Pages of the site that stand at the top of the repository: what they link to is found from
`docs/` too.
"""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
PAGES = {"contributing.md": "CONTRIBUTING.md", "changes.md": "CHANGES.md"}


def on_files(files: Files, *, config: Any) -> Files:
    """Add CONTRIBUTING.md and CHANGES.md to the pages."""
    for page, name in PAGES.items():
        text = re.sub(r"\]\(docs/", "](", (ROOT / name).read_text(encoding="utf-8"))
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Links to those pages, which lead out of `docs/` in the repository."""
    for page, name in PAGES.items():
        markdown = markdown.replace(f"](../{name}", f"]({page}")
    return markdown
