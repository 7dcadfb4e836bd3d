"""COCO captions that name two salient objects, read from the captions and the instances (Lin et al., 2014)."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import Any

from attnreg.errors import AttnregError
from attnreg.evaluation.prompts.reading import Place, json_entries
from attnreg.evaluation.prompts.wording import COLOURS, plural
from attnreg.measure.asked import Prompt, Thing
from attnreg.reading import COLLECTION

SALIENT = 0.05
"""Share of the picture that the instances of a category must fill together, to be salient."""

SYNONYMS = {
    "person": ("man", "woman", "boy", "girl", "child", "kid", "baby", "lady", "guy", "player", "skier", "surfer"),
    "airplane": ("plane", "jet", "aeroplane"),
    "bicycle": ("bike",),
    "motorcycle": ("motorbike", "motor bike"),
    "couch": ("sofa",),
    "tv": ("television", "tv screen"),
    "cell phone": ("phone", "cellphone"),
    "dining table": ("table",),
    "potted plant": ("plant",),
    "sports ball": ("ball", "soccer ball", "basketball"),
    "donut": ("doughnut",),
    "refrigerator": ("fridge",),
    "hot dog": ("hotdog",),
    "teddy bear": ("stuffed bear",),
    "laptop": ("laptop computer",),
}
"""Other words of captions for a category."""
_COLOUR = rf"(?:({'|'.join((*COLOURS, 'grey'))}) )?"


def coco(path: Path) -> tuple[Prompt, ...]:
    """Captions that name both of the two salient objects of their picture, at most one caption a picture.

    path: the folder `annotations` (with one captions_*.json and its instances_*.json), or the captions file itself
    with the instances beside it. A category is salient in a picture if its instances (crowds left out) fill at least
    5 % of it; the pictures with exactly two salient categories are taken, in the order of their ids, and of each the
    first caption that names both, in singular or plural or by a synonym. The things are the caption's own words in the
    singular, in the caption's order, with the colour before them if there is one. How many are asked for is not known:
    the counts are 1. The category is "two salient objects". The paper says no more than that; this is our reading.

    Raises `AttnregError` with file and entry.
    """
    captions, instances = _files(path)
    names = {
        row.get("id"): place.text(row, "name")
        for place, row in json_entries(instances, "categories", bounds=COLLECTION)
    }
    sizes: dict[Any, int] = {}
    for place, row in json_entries(instances, "images", bounds=COLLECTION):
        sides: list[Any] = [row.get("height"), row.get("width")]
        place.wants(all(type(side) is int and side > 0 for side in sides), "a height and a width", sides)
        sizes[row.get("id")] = sides[0] * sides[1]
    areas: dict[Any, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for place, row in json_entries(instances, "annotations", bounds=COLLECTION):
        image, category = row.get("image_id"), row.get("category_id")
        area: Any = row.get("area")
        place.wants(image in sizes, "the image_id of one of the images", image)
        place.wants(category in names, "the category_id of one of the categories", category)
        place.wants(isinstance(area, int | float), "a number as 'area'", area)
        if not row.get("iscrowd"):
            areas[image][names[category]] += area
    salient = {
        image: {name for name, area in of.items() if area >= SALIENT * sizes[image]} for image, of in areas.items()
    }
    made: dict[Any, Prompt] = {}
    for place, row in json_entries(captions, "annotations", bounds=COLLECTION):
        image, text = row.get("image_id"), " ".join(place.text(row, "caption").split())
        if image not in made and len(salient.get(image, ())) == 2:
            things = _named(text, salient[image])
            if len(things) == 2:
                made[image] = Prompt(text, things, category="two salient objects")
    if not made:
        raise Place(captions).fault(f"captions of the pictures in {instances.name} that name two objects", "none")
    return tuple(made[image] for image in sorted(made))


def coco_attributes(path: Path) -> tuple[Prompt, ...]:
    """Of the prompts of `coco` those that give one of their objects a colour, or both: Divide & Bind's second use."""
    return tuple(prompt for prompt in coco(path) if any(thing.colour for thing in prompt.things))


def _files(path: Path) -> tuple[Path, Path]:
    if path.is_dir():
        found = sorted(path.glob("captions_*.json"))
        if len(found) != 1:
            shown = ", ".join(one.name for one in found) or "none"
            raise AttnregError(f"expected one captions_*.json in {path}, got {shown}; name the captions file itself")
        path = found[0]
    instances = path.with_name(path.name.replace("captions", "instances"))
    if instances == path or not instances.is_file():
        raise AttnregError(
            f"expected captions_*.json with its instances_*.json beside it, got {path} alone; put both in one folder"
        )
    return path, instances


def _named(text: str, categories: set[str]) -> tuple[Thing, ...]:
    """The categories that a caption names, as it names them, in its order."""
    found = []
    for category in sorted(categories, key=len, reverse=True):
        for word in sorted((category, *SYNONYMS.get(category, ())), key=len, reverse=True):
            match = re.search(rf"\b{_COLOUR}(?:{re.escape(word)}|{re.escape(plural(word))})\b", text, re.IGNORECASE)
            if match:
                found.append((match.start(), Thing(word, match[1].lower() if match[1] else None)))
                # Longer names come first and are struck out: "teddy bear" names no bear.
                text = text[: match.start()] + "." * len(match[0]) + text[match.end() :]
                break
    return tuple(thing for _, thing in sorted(found, key=lambda one: one[0]))
