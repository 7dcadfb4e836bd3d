"""Looks through the built site: links that lead nowhere, and what a page would fetch from elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

FETCHED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href", "video": "src"}
"""Elements whose address a browser asks for by itself."""
NOT_FETCHED = {"canonical", "next", "prev", "alternate"}
"""Kinds of <link> that are names, not addresses to be asked."""
HOST = re.compile(r"(?:[a-z0-9-]+\.)+[a-z]{2,}")


class _Page(HTMLParser):
    """What one page links to, what it fetches and which places it has."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.places: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Called for every element."""
        has = {name: value or "" for name, value in attrs}
        self.places |= {has[name] for name in ("id", "name") if name in has}
        if tag == "a" and "href" in has:
            self.links.append(has["href"])
        elif (address := has.get(FETCHED.get(tag, ""))) and not NOT_FETCHED & set(has.get("rel", "").split()):
            self.fetched.append(address)


def faults(site: Path) -> Iterator[str]:
    """What is wrong with a built site, one line each.

    Args:
        site: its folder. There is no network: addresses elsewhere are looked at by their form alone.

    Yields:
        The page and the link.
    """
    pages = {path: _read(path) for path in sorted(site.rglob("*.html"))}
    for path, page in pages.items():
        name = path.relative_to(site)
        # The page for wrong addresses is shown at any depth, so its own are from the site's root.
        anywhere = path.name == "404.html"
        for address in page.fetched:
            if urlsplit(address).netloc:
                yield f"{name} fetches {address}"
            elif not anywhere and not address.startswith("data:") and (fault := _leads(address, path, pages)):
                yield f"{name} shows {address}: {fault}"
        for address in page.links:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                if parts.scheme != "https" or not HOST.fullmatch(parts.netloc):
                    yield f"{name} links to {address}: expected https and a host"
            elif not anywhere and (fault := _leads(address, path, pages)):
                yield f"{name} links to {address}: {fault}"
    for style in sorted(site.rglob("*.css")):
        for address in re.findall(r"(?:@import\s*|url\()[\"']?(https?:[^\"')]+)", style.read_text(encoding="utf-8")):
            yield f"{style.relative_to(site)} fetches {address}"


def _read(path: Path) -> _Page:
    page = _Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def _leads(address: str, page: Path, pages: dict[Path, _Page]) -> str:
    """Why an address leads nowhere, or nothing if it leads somewhere."""
    parts = urlsplit(address)
    place = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if place.is_dir():
        place /= "index.html"
    if not place.is_file():
        return "there is no such file"
    if parts.fragment and place in pages and unquote(parts.fragment) not in pages[place].places:
        return "the page has no such place"
    return ""
