"""Folders of pictures as other people's judges read them: written from a run, and read to be judged here.

GenEval: `00000/metadata.jsonl`, `00000/grid.png`, `00000/samples/0000.png`; T2I-CompBench:
`samples/PROMPT_000000.png`; Attend-and-Excite: `PROMPT/SEED.png`. What a layout cannot hold (seeds, letters that no
file name may have, the method) is kept beside it in `pictures.jsonl`, which those judges pass over and `read_layout`
prefers.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from attnreg.errors import AttnregError
from attnreg.reading import json_of, path_of, text_of
from attnreg.records import Record
from attnreg.report.run import Run
from attnreg.seeds import seed_of
from attnreg.shown import cut
from attnreg.writing import whole_files

BESIDE = "pictures.jsonl"
_DEVICE = re.compile(
    r"(con|prn|aux|nul|com[0-9\u00b9\u00b2\u00b3]|lpt[0-9\u00b9\u00b2\u00b3])\s*(\..*)?$", re.IGNORECASE
)
ENDINGS = (".png", ".jpg", ".jpeg", ".webp")


class Found(NamedTuple):
    """One picture of a folder."""

    prompt: str
    seed: int
    picture: Path
    method: str


@dataclass(frozen=True)
class Layout:
    """How a folder is arranged."""

    shape: str
    """For people."""
    place: Callable[[int, str, int, int], str]
    """Number of the prompt, prompt, number of the picture, seed -> path in the folder."""
    read: Callable[[Path], list[tuple[str, int, Path]]]
    """Folder -> prompts, seeds and pictures."""


def export_layout(run: Run, layout: str, folder: Path, method: str, model: str | None = None) -> list[Found]:
    """Write the pictures of one method and model of a run, and give back what was written where.

    Raises `AttnregError` if the layout cannot hold a prompt, a picture is not there, the method or model is not in the
    run, or the folder already holds something (other pictures there would be judged as well).
    """
    plan, records = LAYOUTS[layout], _chosen(run, method, model)
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise AttnregError(f"expected a new or empty folder, got {folder}; choose another, or empty it")
    numbers = {prompt: i for i, prompt in enumerate(dict.fromkeys(record.prompt for record in records))}
    records.sort(key=lambda record: (numbers[record.prompt], record.seed))
    places = [plan.place(numbers[r.prompt], r.prompt, i, r.seed) for i, r in enumerate(records)]
    _check(places, records)
    asked = _asked(run, numbers) if layout == "geneval" else {}
    shown: dict[str, list[bytes]] = {}
    try:
        with whole_files() as write:
            for record, place in zip(records, places, strict=True):
                data = run.picture(record.picture)
                if data is None:
                    raise AttnregError(
                        f"expected the picture of {record.prompt!r}, seed {record.seed}, got none in the run; "
                        "give attnreg bench run again: it draws what is lost"
                    )
                write(folder / place, data)
                if record.prompt in asked:
                    shown.setdefault(record.prompt, []).append(data)
            for prompt, told in asked.items():
                own = folder / f"{numbers[prompt]:05}"
                write(own / "metadata.jsonl", _json_lines([told]))
                write(own / "grid.png", _grid(shown.pop(prompt)))
            write(folder / BESIDE, _json_lines(_beside(r, place) for r, place in zip(records, places, strict=True)))
    except OSError as error:
        raise AttnregError(
            f"expected to write {len(records)} pictures to {folder}, got {error.strerror or error}; nothing was kept: "
            "make room, or choose another folder"
        ) from error
    return [
        Found(record.prompt, record.seed, folder / place, record.method)
        for record, place in zip(records, places, strict=True)
    ]


def _beside(r: Record, place: str) -> dict[str, Any]:
    """What `pictures.jsonl` tells of a picture."""
    return {
        "prompt": r.prompt, "seed": r.seed, "picture": place, "method": r.method, "model": r.model, "sha256": r.picture
    }  # fmt: skip


def _json_lines(rows: Iterable[Any]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode("utf-8", "backslashreplace")


def read_layout(layout: str, folder: Path, method: str | None = None) -> list[Found]:
    """The pictures of a folder, by prompt and seed. `method` is whose they are; without it, what `pictures.jsonl` says.

    Where T2I-CompBench's running numbers are all there is, the pictures of a prompt are numbered from 0.
    Raises `AttnregError` if there is no picture in that arrangement, or nobody says whose they are.
    """
    plan = LAYOUTS[layout]
    beside = folder / BESIDE
    if beside.is_file():
        found = _read_beside(beside, method)
    else:
        if not folder.is_dir():
            raise AttnregError(f"expected a folder of pictures, got {folder}, which is none; check the path")
        if method is None:
            raise AttnregError(
                f"expected to be told whose pictures these are, got {folder} without {BESIDE}; say --method NAME"
            )
        found = [Found(prompt, seed, path, method) for prompt, seed, path in plan.read(folder)]
    if not found:
        raise AttnregError(f"expected pictures in {folder} as {plan.shape}, got none; choose the right --layout")
    return found


def _chosen(run: Run, method: str, model: str | None) -> list[Record]:
    if model is None and len(run.models) > 1:
        raise AttnregError(f"expected a run of one model, got {', '.join(run.models)}; choose one with --model")
    model = model or run.models[0]
    chosen = [record for record in run.of(model) if record.method == method]
    if not chosen:
        raise AttnregError(
            f"expected a method and a model of the run, got {method!r} with {model!r}; "
            f"it has {', '.join(run.methods(model)) or 'none of that model'} (models: {', '.join(run.models)})"
        )
    return chosen


def _check(places: Sequence[str], records: Sequence[Record]) -> None:
    """Raises `AttnregError` if two pictures have one place, or a name is too long for a file."""
    taken: dict[str, str] = {}
    for place, record in zip(places, records, strict=True):
        # Compared without case: some file systems do not know it.
        if (other := taken.setdefault(place.casefold(), record.prompt)) != record.prompt:
            raise AttnregError(
                f"expected prompts with file names of their own, got {other!r} and {record.prompt!r}, both {place}; "
                "use --layout geneval, which numbers them"
            )
        if max(len(part.encode()) for part in place.split("/")) > 255:
            raise AttnregError(
                f"expected prompts that fit in a file name (255 bytes), got {record.prompt[:60]!r}...; "
                "use --layout geneval, which numbers them"
            )


def file_name(prompt: str) -> str:
    """A prompt as part of a file name: what no file system takes becomes "-"; no name that means a folder."""
    name = re.sub(r'[/\\:*?"<>|\x00-\x1f]', "-", prompt).strip()
    return name if name.strip(". ") else f"prompt{name}"


def folder_name(prompt: str) -> str:
    """A prompt as the whole name of a folder: Windows takes no dot at its end, and no name of a device."""
    name = re.sub(r"[. ]+$", lambda end: "-" * len(end[0]), file_name(prompt))
    return f"prompt-{name}" if _DEVICE.match(name) else name


def _asked(run: Run, numbers: Mapping[str, int]) -> dict[str, dict[str, Any]]:
    """What GenEval's judge is told of each prompt: the classes to find, how many, their colours and places."""
    known = {str(prompt["text"]): prompt for prompt in run.prompts}
    told = {}
    for text in numbers:
        things = known.get(text, {}).get("things") or ()
        if not things:
            raise AttnregError(
                f"expected to know the things of every prompt, for GenEval's metadata, got {text!r} without; "
                "give the prompt set with its things, or choose another --layout"
            )
        include: list[dict[str, Any]] = []
        for thing in things:
            one = {"class": thing["noun"], "count": thing.get("count", 1)}
            include.append(one | ({"color": thing["colour"]} if thing.get("colour") else {}))
        for relation in known[text].get("relations") or ():
            include[relation["first"]]["position"] = [relation["where"], relation["second"]]
        told[text] = {"tag": known[text].get("category") or "prompt", "include": include, "prompt": text}
        if more := [{"class": one["class"], "count": one["count"] + 1} for one in include if one["count"] > 1]:
            told[text]["exclude"] = more
    return told


def _grid(pngs: Sequence[bytes]) -> bytes:
    """Pictures side by side, as a PNG."""
    from PIL import Image  # the command line lists the layouts without waiting for it

    pictures = [Image.open(io.BytesIO(png)).convert("RGB") for png in pngs]
    wide, tall = max(one.width for one in pictures), max(one.height for one in pictures)
    grid = Image.new("RGB", (wide * len(pictures), tall))
    for i, one in enumerate(pictures):
        grid.paste(one, (i * wide, 0))
    made = io.BytesIO()
    grid.save(made, format="PNG")
    return made.getvalue()


def _read_beside(beside: Path, method: str | None) -> list[Found]:
    found = []
    root = beside.parent.resolve()
    for number, line in enumerate(text_of(beside).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            told = json_of(line, "")
            path = beside.parent / path_of(told["picture"])
            named = str(told["prompt"]), seed_of(told["seed"]), path, method or str(told["method"])
        except (ValueError, KeyError, TypeError) as error:
            raise AttnregError(
                f"expected prompt, seed, picture and method in line {number} of {beside}, got {line[:60]!r} "
                f"({cut(str(error))}); export again, or remove that file"
            ) from error
        found.append(Found(*named))
        if not path.resolve().is_relative_to(root) or not path.is_file():
            raise AttnregError(
                f"expected a picture inside {root}, got {told['picture']!r} in line {number} of {beside}; export again"
            )
    return found


def _pictures(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in ENDINGS and path.is_file())


def _numbered(folder: Path) -> list[Path]:
    return [path for path in _pictures(folder) if path.stem.isdecimal()]


def _read_geneval(folder: Path) -> list[tuple[str, int, Path]]:
    found = []
    for own in sorted(path for path in folder.iterdir() if path.is_dir() and path.name.isdecimal()):
        if not (own / "samples").is_dir():
            continue
        try:
            prompt = str(json_of(text_of(own / "metadata.jsonl"), "metadata")["prompt"])
        except (ValueError, KeyError, TypeError) as error:
            raise AttnregError(
                f'expected "prompt" in {own / "metadata.jsonl"}, got none ({cut(str(error))}); mend that file'
            ) from error
        found += [(prompt, seed_of(int(path.stem)), path) for path in _numbered(own / "samples")]
    return found


def _read_compbench(folder: Path) -> list[tuple[str, int, Path]]:
    inner = folder / "samples" if (folder / "samples").is_dir() else folder
    named = [
        (match[1], int(match[2]), path)
        for path in _pictures(inner)
        if (match := re.fullmatch(r"(.+)_(\d+)", path.stem))
    ]
    seen: dict[str, int] = {}
    found = []
    for prompt, _, path in sorted(named, key=lambda one: one[1]):
        found.append((prompt, seen.get(prompt, 0), path))
        seen[prompt] = seen.get(prompt, 0) + 1
    return found


def _read_attend_and_excite(folder: Path) -> list[tuple[str, int, Path]]:
    return [
        (own.name, seed_of(int(path.stem)), path)
        for own in sorted(path for path in folder.iterdir() if path.is_dir())
        for path in sorted(_numbered(own), key=lambda path: (len(path.stem), path.stem))
    ]


LAYOUTS: dict[str, Layout] = {
    "geneval": Layout(
        "00000/metadata.jsonl with 00000/samples/0000.png",
        lambda number, _, __, seed: f"{number:05}/samples/{seed:04}.png",
        _read_geneval,
    ),
    "t2i-compbench": Layout(
        # Its scripts sort by the number behind the prompt, over all prompts: it runs through.
        "samples/PROMPT_000000.png",
        lambda _, prompt, number, __: f"samples/{file_name(prompt)}_{number:06}.png",
        _read_compbench,
    ),
    "attend-and-excite": Layout(
        "PROMPT/SEED.png",
        lambda _, prompt, __, seed: f"{folder_name(prompt)}/{seed}.png",
        _read_attend_and_excite,
    ),
}
