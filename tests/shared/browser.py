"""What a browser shows of a report, measured in Chromium."""

import re
import shutil
import subprocess
from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

_MEASURE = """
<script>
addEventListener("load", () => {
  const broken = [], cut = [];
  for (const cell of document.querySelectorAll("table.list :is(th, td), table.grid :is(th, td), thead th")) {
    const walker = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      for (const word of walker.currentNode.data.matchAll(/[^\\s-]+/g)) {
        const range = document.createRange();
        range.setStart(walker.currentNode, word.index);
        range.setEnd(walker.currentNode, word.index + word[0].length);
        if (range.getClientRects().length > 1) broken.push(word[0]);
      }
    }
  }
  for (const box of document.querySelectorAll(".scroll, .fit")) {
    if (box.scrollWidth > box.clientWidth) cut.push(box.firstElementChild.className);
  }
  document.documentElement.dataset.broken = broken.join(" ");
  document.documentElement.dataset.cut = cut.join(" ");
  document.documentElement.dataset.beyond = document.documentElement.scrollWidth - innerWidth;
});
</script>
"""


def layout(page: Path, width: int, scratch: Path) -> dict[str, str]:
    """How a page is laid out in a window of this width [px], which Chromium makes at least 500.

    Returns:
        ``broken``: words in tables of text that are broken in the middle; ``cut``: styles of tables that are wider
        than their place; ``beyond``: by how many pixels the page is wider than the window.
    """
    assert CHROMIUM is not None
    measured = scratch / f"measured-{width}.html"
    measured.write_text(page.read_text("utf-8").replace("</body>", f"{_MEASURE}</body>"), "utf-8")
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
        "--hide-scrollbars", f"--user-data-dir={scratch / 'profile'}", "--virtual-time-budget=10000",
        f"--window-size={width},2000", "--dump-dom", measured.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
    root = re.search(r"<html[^>]*>", done.stdout)
    assert root is not None
    return dict(re.findall(r'data-(broken|cut|beyond)="([^"]*)"', root[0]))
