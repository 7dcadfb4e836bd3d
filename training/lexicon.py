"""Makes the lexicon of the noun-phrase finder: `python -m training.lexicon /usr/share/wordnet`.

The source is the database of WordNet 3.0 (Princeton University; Debian's package `wordnet-base` holds it). Of every
entry of one word (and of two, if the first ends in -ing: "cutting_board") is kept which parts of speech it can be, how
often each was counted in the tagged texts (the bit length of the count, 0 to 9), and what the commonest sense of a noun
is about. Irregular forms come along.
"""

from __future__ import annotations

import gzip
import sys
from collections import defaultdict
from pathlib import Path

from attnreg.phrases.lexicon import DATA

_PARTS = {"1": "n", "2": "v", "3": "a", "4": "r", "5": "a"}
_FILES = ("noun", "verb", "adj", "adv")
# What a noun is about, by WordNet's lexicographer files; whatever else is a lifeless thing.
_ABOUT = {
    "04": "act", "05": "animal", "07": "attribute", "09": "cognition", "10": "communication", "11": "event",
    "12": "feeling", "16": "motive", "18": "person", "22": "process", "23": "quantity", "24": "relation",
    "26": "state", "28": "time",
}  # fmt: skip


def lexicon(folder: Path) -> str:
    """The lexicon's text: `word<TAB>n5v3<TAB>act`, then the irregular forms as `form<TAB>=verb<TAB>base`.

    Args:
        folder: WordNet's database files (`index.noun`, `cntlist.rev`, `verb.exc`, ...).

    Returns:
        One line an entry, sorted.
    """
    counts: dict[str, dict[str, int]] = defaultdict(dict)
    for name, letter in zip(_FILES, "nvar", strict=True):
        for line in (folder / f"index.{name}").read_text(encoding="ascii").splitlines():
            word = line.split(" ", 1)[0]
            first, pair, _ = word.partition("_")
            if word[:1].isalpha() and (not pair or (name == "noun" and first.endswith("ing") and word.count("_") == 1)):
                counts[word].setdefault(letter, 0)
    for line in (folder / "cntlist.rev").read_text(encoding="ascii").splitlines():
        key, _, count = line.split()
        word, code = key.split("%")
        if word in counts:
            kind = code[0]
            counts[word][_PARTS[kind]] = counts[word].get(_PARTS[kind], 0) + int(count)
    about = _first_senses(folder)
    lines = []
    for word, parts in counts.items():
        analysis = "".join(f"{part}{min(9, count.bit_length())}" for part, count in parts.items())
        kind = _ABOUT.get(about.get(word, ""), "")
        lines.append(f"{word}\t{analysis}\t{kind}".rstrip("\t"))
    for name in ("noun", "verb"):
        for line in (folder / f"{name}.exc").read_text(encoding="ascii").splitlines():
            form, base = line.split()[:2]
            if "_" not in form:
                lines.append(f"{form}\t={name}\t{base}")
    return "\n".join(sorted(lines)) + "\n"


def _first_senses(folder: Path) -> dict[str, str]:
    """The lexicographer file of each noun's first sense: `index.noun` lists the senses, commonest first."""
    files: dict[str, str] = {}
    with (folder / "data.noun").open(encoding="latin-1") as data:
        for line in data:
            if not line.startswith(" "):
                offset, file = line.split(" ", 2)[:2]
                files[offset] = file
    found = {}
    for line in (folder / "index.noun").read_text(encoding="ascii").splitlines():
        if not line.startswith(" "):
            fields = line.split()
            found[fields[0]] = files[fields[6 + int(fields[3])]]
    return found


def main(folder: str) -> None:
    """Writes the lexicon into the package."""
    packed = gzip.compress(lexicon(Path(folder)).encode("ascii"), mtime=0)
    Path(str(DATA)).write_bytes(packed)
    print(f"{len(packed)} bytes")


if __name__ == "__main__":
    main(sys.argv[1])
