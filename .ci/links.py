"""Every link of the built documentation and of the repository's own pages leads somewhere.

    python .ci/links.py build/site [--external]

Links inside are followed to the file and to the heading; those to other hosts only with --external.
"""

import argparse
import os
import re
import sys
import urllib.request
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

ROOT = Path(__file__).resolve().parents[1]


class Page(HTMLParser):
    """The ids and the links of a page."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self.feed(content)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if value and name == "id":
                self.ids.add(value)
            elif value and name in ("href", "src") and tag in ("a", "img", "link", "script"):
                self.links.add(value)


def broken_in_site(site: Path) -> tuple[list[str], set[str]]:
    """Broken links inside, and the links to other hosts."""
    pages = {path: Page(path.read_text()) for path in site.rglob("*.html")}
    broken, elsewhere = [], set()
    for path, page in pages.items():
        for link in sorted(page.links):
            if re.match(r"[a-z]+:", link):
                elsewhere |= {link} if link.startswith("http") else set()
                continue
            if path.name == "404.html":
                continue  # its links are absolute, for a server
            target, anchor = urldefrag(link)
            file = Path(os.path.normpath(path.parent / unquote(target))) if target else path
            file = file / "index.html" if file.is_dir() else file
            if not file.exists():
                broken.append(f"{path.relative_to(site)}: {link}: no such page")
            elif anchor and file in pages and unquote(anchor) not in pages[file].ids and anchor != "__skip":
                broken.append(f"{path.relative_to(site)}: {link}: no such heading")
    return broken, elsewhere


def broken_in_repository() -> list[str]:
    """Links of the Markdown files to files that are not there."""
    broken = []
    sources = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    for source in sources:
        text = re.sub(r"^ *```.*?^ *```", "", source.read_text(), flags=re.MULTILINE | re.DOTALL)
        for link in re.findall(r"\]\(([^)\s]+)\)", text):
            path = urldefrag(link)[0]
            if "://" in link or not path or path.startswith("reference/") or "/reference/" in path:
                continue
            if not (source.parent / path).exists() and path not in ("../README.zh-CN.md", "index.md"):
                broken.append(f"{source.relative_to(ROOT)}: {link}: no such file")
    return broken


def unreachable(links: set[str]) -> list[str]:
    """Those of other hosts that do not answer."""
    failed = []
    for link in sorted(links):
        if "127.0.0.1" in link:
            continue
        try:
            request = urllib.request.Request(link, headers={"User-Agent": "mlpserve link check"})
            urllib.request.urlopen(request, timeout=20).close()
        except (OSError, ValueError) as error:
            failed.append(f"{link}: {error}")
    return failed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("site", type=Path)
    parser.add_argument("--external", action="store_true", help="ask other hosts too")
    arguments = parser.parse_args()
    broken, elsewhere = broken_in_site(arguments.site)
    broken += broken_in_repository()
    if arguments.external:
        broken += unreachable(elsewhere)
    if broken:
        sys.exit("\n".join(broken))


if __name__ == "__main__":
    main()
