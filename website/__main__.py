"""Builds the site: `python -m website`. Warnings are errors; so are links that lead nowhere."""

from __future__ import annotations

import sys
from pathlib import Path

import yaml
from zensical import build

from website.check import faults
from website.pages import gather, named, navigation

ROOT = Path(__file__).parent.parent
BUILD = ROOT / "build"
PAGES = BUILD / "site-sources"
SITE = BUILD / "site"


def main() -> int:
    """Gathers the pages, builds and checks them.

    Returns:
        0, or 1 after saying what is wrong.
    """
    wrong = gather(ROOT, PAGES)
    settings = yaml.safe_load((ROOT / "website/mkdocs.yml").read_text(encoding="utf-8"))
    settings["nav"] = navigation(settings["nav"], PAGES)
    pages = {str(path.relative_to(PAGES)) for path in (PAGES).rglob("*.md")}
    unnamed = pages - named(settings["nav"]) - set(settings.pop("not_in_nav", "").split())
    wrong += [f"{page} is in no menu; name it in website/mkdocs.yml" for page in sorted(unnamed)]
    settings |= {"docs_dir": PAGES.name, "site_dir": SITE.name}
    (BUILD / "mkdocs.yml").write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    if wrong:
        print(*wrong, sep="\n", file=sys.stderr)
        return 1
    build(str(BUILD / "mkdocs.yml"), {"clean": True, "strict": True})
    wrong = list(faults(SITE))
    print(*wrong, sep="\n", file=sys.stderr)
    print(f"{len(list(SITE.rglob('*.html')))} pages in {SITE.relative_to(ROOT)}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
