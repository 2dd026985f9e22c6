"""Pages of the site that are elsewhere in the repository: two at its top, tables of the papers,
and the gallery. Links in these pages and to these pages work from `docs/` as well.
"""

import re
import warnings
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
PAGES = {"contributing.md": "CONTRIBUTING.md", "changes.md": "CHANGES.md"} | {
    f"results/{path.name}": f"benchmarks/results/{path.name}"
    for path in sorted((ROOT / "benchmarks/results").glob("papers_*.md"))
}
GALLERY = "examples/"
# the examples show their figures, as scripts do; mkdocs-gallery has no screen and collects them
warnings.filterwarnings("ignore", message="FigureCanvasAgg is non-interactive")


def on_files(files: Files, *, config: Any) -> Files:
    """Add CONTRIBUTING.md, CHANGES.md and the tables of the papers to the pages."""
    for page, name in PAGES.items():
        text = re.sub(r"\]\(docs/", "](", (ROOT / name).read_text(encoding="utf-8"))
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: Any) -> str:
    """Return a page whose links to those pages, which lead out of `docs/` in the repository, and
    links of the gallery, which lead into it, work on the site.
    """
    if page.file.src_uri.startswith(GALLERY):
        return _of_the_gallery(markdown, is_index=page.file.name == "index")
    up = "../" * page.file.src_uri.count("/")
    for name, file in PAGES.items():
        markdown = markdown.replace(f"]({up}../{file}", f"]({up}{name}")
    markdown = markdown.replace("](../examples/gallery/README.md", f"]({GALLERY}index.md")
    return re.sub(r"\]\(\.\./examples/gallery/(plot_\w+)\.py", rf"]({GALLERY}\1.md", markdown)


def _of_the_gallery(markdown: str, *, is_index: bool) -> str:
    """A page of mkdocs-gallery, whose links are those of the script in `examples/gallery`."""
    markdown = markdown.replace("](../../docs/", "](../")
    markdown = re.sub(r"\]\((plot_\w+)\.py", r"](\1.md", markdown)
    # mkdocs-gallery takes pages for folders, which those of this site are not
    markdown = markdown.replace('srcset="../images/', 'srcset="images/')
    markdown, linked = re.subn(r'href="(plot_\w+)"', r'href="\1.html"', markdown)
    if is_index and not linked:
        raise PluginError(
            "mkdocs-gallery links to the examples otherwise than docs/hooks.py expects"
        )
    return markdown
