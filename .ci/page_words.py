"""Count the words of the first screen and of whole pages of the report.

    python .ci/page_words.py PAGE.html [PAGE.html ...] [--size 1400x900] [--screenshot FOLDER]

A word contains at least two letters. The first screen has the words whose line is completely
visible before scrolling, with all folds as they are at first. The whole page has all words,
without scripts and embedded files. Words of crash files, model cards and other code in folds count
as well, because readers who unfold them read them. The last column omits the cells of tables.
"""

import argparse
import shutil
from pathlib import Path

from playwright.sync_api import sync_playwright

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_COUNT = """() => {
  const isWord = (text) => (text.match(/\\p{L}/gu) || []).length > 1;
  const hidden = (element) => element.closest("script, style, svg title, template");
  const clipped = (element) => {
    for (; element; element = element.parentElement) {
      if (getComputedStyle(element).clipPath.startsWith("inset(50%")) return true;
    }
    return false;
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let first = 0, page = 0, outside = 0;
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    if (hidden(node.parentElement)) continue;
    const shown = node.parentElement.checkVisibility() && !clipped(node.parentElement);
    for (const match of node.data.matchAll(/\\S+/g)) {
      if (!isWord(match[0])) continue;
      page += 1;
      outside += !node.parentElement.closest("tbody");
      if (!shown) continue;
      const range = document.createRange();
      range.setStart(node, match.index);
      range.setEnd(node, match.index + match[0].length);
      const box = range.getBoundingClientRect();
      first += box.width > 0 && box.top >= 0 && box.bottom <= innerHeight && box.right > 0;
    }
  }
  return [first, page, outside, document.documentElement.scrollWidth > innerWidth];
}"""


def main() -> None:
    """Print the words of pages in a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pages", nargs="+", type=Path)
    parser.add_argument("--size", default="1400x900", help="width and height of the window")
    parser.add_argument("--screenshot", type=Path, help="folder for a screenshot of each page")
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    path = next(filter(None, map(shutil.which, _BROWSERS)), None)
    with sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path=path, args=["--no-sandbox"])
        window = browser.new_page(viewport={"width": width, "height": height})
        print(f"{'first screen':>12} {'page':>8} {'without tables':>15}  {options.size}")
        for page in options.pages:
            window.goto(page.resolve().as_uri())
            first, whole, outside, is_wide = window.evaluate(_COUNT)
            remark = " (scrolls sideways)" if is_wide else ""
            print(f"{first:12} {whole:8} {outside:15}  {page}{remark}")
            if options.screenshot:
                options.screenshot.mkdir(parents=True, exist_ok=True)
                name = f"{page.parent.name}_{page.stem}_{options.size}.png"
                window.screenshot(path=options.screenshot / name)
        browser.close()


if __name__ == "__main__":
    main()
