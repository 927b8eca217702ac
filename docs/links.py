"""Follows every link of the built site to a local file, and fails if one is dead.

    python docs/links.py FOLDER

Sphinx checks the sources; this checks the result, including pictures and the theme's own links. External addresses
are skipped: a build needs no network.
"""

import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class _Page(HTMLParser):
    """A page's links and anchors."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" and value:
                self.anchors.add(value)
            elif value and (name == "src" or (name == "href" and tag != "base")):
                self.links.append(value)


def dead(folder: Path) -> Iterator[str]:
    """Yield every dead link below a folder, as `page: link`."""
    pages = {path: _Page(path.read_text(encoding="utf-8")) for path in folder.resolve().rglob("*.html")}
    for path, page in pages.items():
        for link in page.links:
            if not _leads_somewhere(link, path, pages):
                yield f"{path.relative_to(folder.resolve())}: {link}"


def _leads_somewhere(link: str, path: Path, pages: dict[Path, _Page]) -> bool:
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return True
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if target.is_dir():
        target /= "index.html"
    if not target.exists():
        return False
    return not parts.fragment or target not in pages or unquote(parts.fragment) in pages[target].anchors


def main() -> None:
    """Print the dead links and exit with 1 if there are any."""
    found = sorted(set(dead(Path(sys.argv[1]))))
    sys.stdout.writelines(f"dead link: {each}\n" for each in found)
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
