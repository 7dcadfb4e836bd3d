"""Prompt sets read from files: what is understood, what is refused, and that what is written can be read."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from attnreg.commands.prompts import prompts as command
from attnreg.errors import AttnregError
from attnreg.evaluation.prompts import prompt_set
from attnreg.evaluation.prompts.plain import write
from attnreg.measure.asked import Prompt, Relation, Thing


def lines(path: Path, *rows: Any) -> Path:
    """A file of so many lines; what is no text is written as JSON."""
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def refused(name: str, said: str) -> None:
    with pytest.raises(AttnregError, match=said) as fault:
        prompt_set(name)
    assert "\n" not in str(fault.value)


# GenEval

GENEVAL: list[dict[str, Any]] = [
    {"tag": "single_object", "include": [{"class": "bench", "count": 1}], "prompt": "a photo of a bench"},
    {
        "tag": "counting",
        "include": [{"class": "clock", "count": 2}],
        "exclude": [{"class": "clock", "count": 3}],
        "prompt": "a photo of two clocks",
    },
    {
        "tag": "color_attr",
        "include": [{"class": "bus", "count": 1, "color": "pink"}, {"class": "toilet", "count": 1, "color": "green"}],
        "prompt": "a photo of a pink bus and a green toilet",
    },
    {
        "tag": "position",
        "include": [{"class": "couch", "count": 1}, {"class": "cat", "count": 1, "position": ["left of", 0]}],
        "prompt": "a photo of a cat left of a couch",
    },
]


def test_geneval(tmp_path: Path) -> None:
    path = lines(tmp_path / "metadata.jsonl", *GENEVAL)
    assert prompt_set(f"geneval:{path}") == (
        Prompt("a photo of a bench", (Thing("bench"),), category="single_object"),
        Prompt("a photo of two clocks", (Thing("clock", count=2),), category="counting"),
        Prompt(
            "a photo of a pink bus and a green toilet", (Thing("bus", "pink"), Thing("toilet", "green")),
            category="color_attr",
        ),
        Prompt(
            "a photo of a cat left of a couch", (Thing("couch"), Thing("cat")), (Relation(1, "left of", 0),), "position"
        ),
    )  # fmt: skip
    refused(str(path), r"metadata.jsonl, line 1: .* write geneval:")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("{", "line 2: expected JSON, got Expecting"),
        ([1], "line 2: expected an object with the field 'prompt'"),
        ({"tag": "x"}, "line 2: expected the field 'prompt', got the fields tag"),
        ({**GENEVAL[0], "prompt": " "}, "line 2: expected a text as 'prompt'"),
        ({**GENEVAL[0], "include": []}, "line 2: expected a list of objects as 'include'"),
        ({**GENEVAL[0], "include": [{"count": 1}]}, "line 2: expected the field 'class'"),
        ({**GENEVAL[0], "include": [{"class": "a", "count": "2"}]}, "line 2: .* as 'count', got '2'"),
        ({**GENEVAL[0], "include": [{"class": "a", "position": ["left of", 0]}]}, "line 2: .*names another object"),
        ({**GENEVAL[0], "include": [{"class": "a", "position": ["left of", 4]}, {"class": "b"}]}, "another object"),
    ],
)
def test_geneval_refuses(row: Any, said: str, tmp_path: Path) -> None:
    refused(f"geneval:{lines(tmp_path / 'metadata.jsonl', GENEVAL[0], row)}", rf"metadata\.jsonl, {said}".replace(
        "metadata\\.jsonl, another", "another"))  # fmt: skip


# One prompt a line or row


def test_compbench(tmp_path: Path) -> None:
    one = lines(tmp_path / "color_val.txt", "a green bench and a blue bowl", "", "a red car and a white sheep")
    assert prompt_set(f"compbench:{one}") == (
        Prompt("a green bench and a blue bowl", category="color"),
        Prompt("a red car and a white sheep", category="color"),
    )
    refused(f"compbench:{tmp_path}", "lacks shape_val.txt, texture_val.txt, .*complex_val.txt; give examples/dataset")
    names = ("shape", "texture", "spatial", "3d_spatial", "non_spatial", "numeracy", "complex")
    for name in names:
        lines(tmp_path / f"{name}_val.txt", f"a prompt of {name}")
    whole = prompt_set(f"compbench:{tmp_path}")
    assert [prompt.category for prompt in whole] == ["color", "color", *names]


def test_partiprompts(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "PartiPrompts.tsv",
        "Prompt\tCategory\tChallenge\tNote",
        "bond\tAbstract\tBasic\tConcepts with several meanings",
        'a sign that says "Deep Learning\tArtifacts\tWriting\t',
        '"a sign that says ""hi"""\tArtifacts\tWriting\t',
    )
    assert prompt_set(f"partiprompts:{path}") == (
        Prompt("bond", category="Abstract"),
        Prompt('a sign that says "Deep Learning', category="Artifacts"),
        Prompt('a sign that says "hi"', category="Artifacts"),
    )
    refused(f"partiprompts:{lines(path, 'Prompt' + chr(9) + 'Category', 'bond')}", "line 2: expected 2 cells, .*got 1")
    refused(f"partiprompts:{lines(path, 'Prompt', 'bond')}", "line 2: expected the field 'category'")
    path.write_text("")
    refused(f"partiprompts:{path}", "expected a header line")


def test_abc_6k_and_cc_500(tmp_path: Path) -> None:
    abc = lines(tmp_path / "ABC-6K.txt", "A small cat on a large bowl", "A large cat on a small bowl")
    assert [prompt.category for prompt in prompt_set(f"abc-6k:{abc}")] == ["caption", "swapped"]
    assert len({*prompt_set(f"abc-6k:{abc}", half="development"), *prompt_set(f"abc-6k:{abc}", half="test")}) == 2
    assert sorted(len(prompt_set(f"abc-6k:{abc}", half=half)) for half in ("development", "test")) == [0, 2]
    refused(f"abc-6k:{lines(abc, 'one', 'two', 'three')}", "ABC-6K.txt, line 3: .* an odd number of lines")
    cc = lines(
        tmp_path / "CC-500.txt", "a red apple and an orange fire hydrant", "A red car and a red bench.", "two cats",
        *["a white sheep and a brown dog"] * 450,
    )  # fmt: skip
    made = prompt_set(f"cc-500:{cc}")
    assert len(made) == 446
    things = (Thing("apple", "red"), Thing("fire hydrant", "orange"))
    assert made[0] == Prompt("a red apple and an orange fire hydrant", things, category="two colours")
    assert made[1].things == (Thing("car", "red"), Thing("bench", "red"))
    assert made[1].category == "same colour"
    assert made[2] == Prompt("two cats")


# Questions

DSG_HEADER = "item_id,text,keywords,proposition_id,dependency,category_broad,category_detailed,tuple"
DSG = [
    f"{DSG_HEADER},question_natural_language",
    "whoops_5,A cube,cube,1,0,entity,whole,entity - whole (cube),Is there a cube?",
    'whoops_5,A cube,"cube, red",2,1,attribute,color,"x",Is the cube red?',
    'vrd_57,"bench, trees",bench,1,0,entity,whole,x,Is there a bench?',
    'vrd_57,"bench, trees",trees,2,0,entity,whole,x,Are there trees?',
    'vrd_57,"bench, trees",near,3,"1,2",relation,spatial,x,Is the bench near the trees?',
]


def test_dsg(tmp_path: Path) -> None:
    path = lines(tmp_path / "dsg.csv", *DSG)
    cube, bench = prompt_set(f"dsg:{path}")
    questions = (("Is there a cube?", "yes"), ("Is the cube red?", "yes"))
    assert cube == Prompt("A cube", category="whoops", questions=questions, parents=((), (0,)))
    assert (bench.text, bench.category, bench.parents) == ("bench, trees", "vrd", ((), (), (0, 1)))
    last = "vrd_57,x,near,3,9,relation,spatial,x,Is it?"
    refused(f"dsg:{lines(path, *DSG[:5], last.replace(',x,near', ',other text,near'))}", "line 6: .* as in line 4")
    refused(f"dsg:{lines(path, *DSG[:5], DSG[5].replace('1,2', '1,9'))}", r"line 6: .* 'dependency' .*got \['9'\]")
    refused(f"dsg:{lines(path, *DSG, DSG[5])}", "line 7: expected one question a 'proposition_id', got '3'")
    refused(f"dsg:{lines(path, DSG[0].replace('item_id', 'id'), DSG[1])}", "line 2: expected the field 'item_id'")
    refused(f"dsg:{lines(path, DSG[0])}", "expected at least one question")
    refused(f"dsg:{lines(path, *DSG[:2], chr(34) + 'open')}", "line 3: expected a table with its quotes closed")


def test_tifa(tmp_path: Path) -> None:
    row = {
        "id": "coco_301091", "caption": "A surfer on a beach.", "question": "is this a surfer?",
        "choices": ["yes", "no"], "answer": "yes", "answer_type": "animal/human", "element": "surfer",
    }  # fmt: skip
    second = {**row, "question": "where?", "choices": ["beach", "park"], "answer": "beach"}
    path = lines(tmp_path / "qa.json", [row, second, {**row, "id": "drawbench_3", "choices": []}])
    surfer, other = prompt_set(f"tifa:{path}")
    questions = (("is this a surfer?", "yes"), ("where?", "beach"))
    assert surfer == Prompt(
        "A surfer on a beach.", category="coco", questions=questions, choices=(("yes", "no"), ("beach", "park"))
    )
    assert (other.category, other.choices) == ("drawbench", ())
    refused(f"tifa:{lines(path, [row, {**second, 'answer': 'sea'}])}", "entry 2: expected one of the choices")
    texts = [{"id": "coco_1", "caption": "A surfer"}]
    refused(f"tifa:{lines(path, texts)}", "entry 1: expected a question, got none; give the file ..._question_answers")
    refused(f"tifa:{lines(path, row)}", "qa.json: expected a list, got an object with the keys 'id'")
    refused(f"tifa:{lines(path, '[', '1,', ']')}", "qa.json, line 3: expected JSON")


# COCO


def coco(folder: Path, captions: dict[int, list[str]], areas: dict[int, dict[str, float]]) -> Path:
    """Captions and instances of pictures of 100 x 100."""
    names = ["person", "dog", "bear", "teddy bear", "bench"]
    instances = {
        "images": [{"id": image, "height": 100, "width": 100} for image in areas],
        "categories": [{"id": i, "name": name} for i, name in enumerate(names)],
        "annotations": [
            {"image_id": image, "category_id": names.index(name.strip("*")), "area": area, "iscrowd": int("*" in name)}
            for image, of in areas.items()
            for name, area in of.items()
        ],
    }
    told = {"annotations": [{"image_id": image, "caption": text} for image, of in captions.items() for text in of]}
    lines(folder / "instances_val2014.json", instances)
    return lines(folder / "captions_val2014.json", told)


def test_coco_takes_two_salient_objects(tmp_path: Path) -> None:
    captions = {
        9: ["A nice view", "Two dogs next to a  brown Bench\n", "a dog on a bench"],
        3: ["a man with a teddy bear"],
        4: ["a dog and a bench"],
        5: ["a dog and a bench"],
        6: ["a dog and a bench, and a person"],
        7: ["a bear and a teddy bear"],
        8: ["a teddy bear"],
    }
    areas = {
        9: {"dog": 500, "bench": 9000, "person": 499},
        3: {"person": 600, "teddy bear": 700},
        4: {"dog": 5000, "bench": 499},  # too small
        5: {"dog": 5000, "*bench": 5000},  # a crowd
        6: {"dog": 3000, "bench": 3000, "person": 3000},  # three
        7: {"bear": 900, "teddy bear": 900},
        8: {"bear": 900, "teddy bear": 900},  # the caption names one
    }
    path = coco(tmp_path, captions, areas)
    category = "two salient objects"
    made = prompt_set(f"coco:{tmp_path}")
    assert made == prompt_set(f"coco:{path}")
    assert made == (
        Prompt("a man with a teddy bear", (Thing("man"), Thing("teddy bear")), category=category),
        Prompt("a bear and a teddy bear", (Thing("bear"), Thing("teddy bear")), category=category),
        Prompt("Two dogs next to a brown Bench", (Thing("dog"), Thing("bench", "brown")), category=category),
    )
    assert prompt_set(f"coco-attributes:{tmp_path}") == made[2:]


def test_coco_refuses(tmp_path: Path) -> None:
    refused(f"coco:{tmp_path}", "expected one captions_.*, got none; name the captions file itself")
    path = coco(tmp_path, {1: ["a dog and a bench"]}, {1: {"dog": 9000}})
    refused(f"coco:{path}", "name two objects, got none")
    told = json.loads((tmp_path / "instances_val2014.json").read_text())
    for key, change, said in (
        ("annotations", {"image_id": 7}, "entry 1 of 'annotations': expected the image_id of one of the images, got 7"),
        ("annotations", {"category_id": 77}, "entry 1 of 'annotations': expected the category_id"),
        ("annotations", {"area": "big"}, "entry 1 of 'annotations': expected a number as 'area'"),
        ("images", {"height": None}, "entry 1 of 'images': expected a height and a width"),
        ("categories", {"name": 3}, "entry 1 of 'categories': expected a text as 'name'"),
    ):
        changed = {**told, key: [{**told[key][0], **change}, *told[key][1:]]}
        lines(tmp_path / "instances_val2014.json", changed)
        refused(f"coco:{path}", f"instances_val2014.json, {said}")
    lines(tmp_path / "instances_val2014.json", {"images": []})
    refused(f"coco:{path}", "expected an object with the key 'categories'")
    (tmp_path / "instances_val2014.json").unlink()
    refused(f"coco:{path}", "with its instances_.* beside it")


# Files of one's own, and back

WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12).filter(
    str.strip
)
THINGS = st.lists(
    st.tuples(WORDS, st.none() | WORDS, st.lists(WORDS, max_size=2), st.integers(1, 20)), min_size=2, max_size=3
)
QUESTIONS = st.lists(st.tuples(WORDS, WORDS, st.lists(WORDS, max_size=3)), max_size=3)
ROWS = st.lists(st.tuples(WORDS, WORDS | st.just(""), THINGS, st.booleans(), QUESTIONS), min_size=1, max_size=4)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
@given(rows=ROWS)
def test_what_is_written_can_be_read(suffix: str, rows: list[Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    made = [
        Prompt(
            text,
            tuple(Thing(noun, colour, tuple(more), count) for noun, colour, more, count in things),
            (Relation(1, "left of", 0),) if related else (),
            category,
            tuple((question, answer) for question, answer, _ in questions),
            choices=tuple(tuple(choices) for _, _, choices in questions),
            parents=tuple(tuple(range(i)) for i in range(len(questions))),
        )
        for text, category, things, related, questions in rows
    ]
    path = tmp_path_factory.mktemp("written") / f"prompts{suffix}"
    write(made, path)
    assert prompt_set(str(path)) == tuple(made)


LINE = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\0"), min_size=1, max_size=9)


@given(texts=st.lists(LINE.map(str.strip).filter(bool), min_size=1, max_size=5))
def test_a_text_file_holds_its_lines(texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("written") / "prompts.txt"
    write([Prompt(text) for text in texts], path)
    assert [prompt.text for prompt in prompt_set(str(path))] == texts


@pytest.mark.parametrize("text", ["", " a cat", "a cat\n", "a\ncat", "\ufeffa cat"])
def test_a_text_that_is_no_line_is_told(text: str, tmp_path: Path) -> None:
    with pytest.raises(AttnregError, match=r"expected prompts that are one line, got .*; write \.csv or \.jsonl"):
        write([Prompt("a dog"), Prompt(text)], tmp_path / "prompts.txt")
    assert not (tmp_path / "prompts.txt").exists()


def test_files_of_other_people(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_bytes("\ufeffa cat\r\n\r\n  a Käfer \r\n".encode())
    assert prompt_set(str(path)) == (Prompt("a cat"), Prompt("a Käfer"))
    table = lines(tmp_path / "mine.tsv", "id\tCaption\tcategory", "7\ta\u2028cat\tx", "8\ta dog\t")
    assert prompt_set(str(table)) == (Prompt("a\u2028cat", category="x"), Prompt("a dog"))
    mixed = lines(tmp_path / "mine.json", ["a cat"])
    refused(str(mixed), "entry 1: expected an object")
    listed = lines(tmp_path / "mine.jsonl", '"a cat"', {"text": "a dog", "things": ["dog"], "score": 3})
    assert prompt_set(str(listed)) == (Prompt("a cat"), Prompt("a dog", (Thing("dog"),)))


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"things": "cat"}, "a list as 'things'"),
        ({"things": [{"noun": "cat", "color": "red"}]}, "noun, colour, attributes and count, got 'color'"),
        ({"things": [{"colour": "red"}]}, "the field 'noun'"),
        ({"things": [{"noun": "cat", "count": 0}]}, "above 0 as 'count'"),
        ({"things": [{"noun": "cat", "count": True}]}, "above 0 as 'count'"),
        ({"things": [{"noun": "cat", "attributes": "big"}]}, "a list of texts as 'attributes'"),
        ({"things": ["a", "b"], "relations": [{"first": 0, "where": "above", "second": 2}]}, "indices of the 2 things"),
        ({"things": ["a", "b"], "relations": [{"first": 0, "second": 1}]}, "the field 'where'"),
        ({"questions": [["is it?"]]}, "a pair of question and answer"),
        ({"questions": [["is it?", "yes"]], "choices": [["yes"], ["no"]]}, "as many choices as questions .1., got 2"),
        ({"questions": [["is it?", "yes"]], "parents": [[1]]}, "parents that exist"),
        ({"questions": [["is it?", "yes"]], "parents": [["0"]]}, "a list of lists as 'parents'"),
        ({"category": 3}, "a text as 'category'"),
    ],
)
def test_a_wrong_field_is_told(row: dict[str, Any], said: str, tmp_path: Path) -> None:
    good = {"prompt": "a cat"}
    refused(str(lines(tmp_path / "mine.jsonl", good, {**good, **row})), rf"mine\.jsonl, line 2: expected .*{said}")
    refused(str(lines(tmp_path / "mine.json", [good, {**good, **row}])), rf"mine\.json, entry 2: expected .*{said}")
    if "category" not in row:
        with (tmp_path / "mine.csv").open("w", newline="") as file:
            csv.writer(file).writerows([["prompt", *row], ["a\ncat", *map(json.dumps, row.values())]])
        refused(str(tmp_path / "mine.csv"), rf"mine\.csv, line 2: expected .*{said}")


def test_a_wrong_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes(b"a cat\na K\xe4fer\n")
    refused(str(tmp_path / "latin.txt"), "latin.txt, line 2: expected UTF-8")
    refused(str(lines(tmp_path / "empty.txt", "  ")), "empty.txt: expected at least one line")
    refused(str(lines(tmp_path / "mine.csv", "prompt")), "mine.csv: expected at least one prompt")
    refused(str(lines(tmp_path / "mine.csv", "words", "a cat")), "line 2: expected the field 'prompt' or 'text' or")
    refused(str(lines(tmp_path / "mine.csv", "prompt,Prompt", "a,b")), "line 1: expected a header whose columns differ")
    refused(str(lines(tmp_path / "mine.csv", "prompt,things", "a cat,cat")), "line 2, column 'things': expected JSON")
    (tmp_path / "folder.txt").mkdir()
    refused(str(tmp_path / "folder.txt"), "which is a folder")
    with pytest.raises(AttnregError, match=r"ends in \.txt, \.csv, \.jsonl, got .*x\.png"):
        write([Prompt("a cat")], tmp_path / "x.png")
    with pytest.raises(AttnregError, match="expected to write"):
        write([Prompt("a cat")], tmp_path / "folder.txt")
    with pytest.raises(AttnregError, match="whole characters"):
        write([Prompt("a cat\ud800")], tmp_path / "half.csv")
    assert not (tmp_path / "half.csv").exists()


# The command


def called(*arguments: str) -> Any:
    result = CliRunner().invoke(command, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


def test_list_names_every_set() -> None:
    from attnreg.evaluation.prompts import PROMPT_SETS

    told = called("list").stdout.splitlines()
    assert [re.split(r"[\[:]", line.split()[0])[0] for line in told] == [*PROMPT_SETS, "PATH"]
    assert "arXiv:2301.13826" in told[0]


def test_show(tmp_path: Path) -> None:
    told = called("show", "attend-and-excite:animals", "--limit", "3").stdout.splitlines()
    assert told[0] == "66 prompts: 66 animal-animal"
    assert told[1:] == [prompt.text for prompt in prompt_set("attend-and-excite:animals", limit=3)]
    assert len(called("show", "similar-subjects", "--all").stdout.splitlines()) == 54
    path = lines(tmp_path / "metadata.jsonl", GENEVAL[3])
    assert called("show", f"geneval:{path}", "--known").stdout.splitlines() == [
        "1 prompt: 1 position",
        "a photo of a cat left of a couch",
        "    thing: couch",
        "    thing: cat",
        "    relation: cat left of couch",
    ]


def test_export_and_back(tmp_path: Path) -> None:
    for suffix in (".csv", ".jsonl", ".txt"):
        path = tmp_path / f"out{suffix}"
        result = called("export", "divide-and-bind", str(path), "--seed", "4", "--half", "test", "--limit", "50")
        made = prompt_set("divide-and-bind", 4, 50, half="test")
        assert result.stdout == f"saved 50 prompts to {path}\n"
        back = prompt_set(str(path))
        assert back == (tuple(Prompt(prompt.text) for prompt in made) if suffix == ".txt" else made)
        assert ("only the texts" in result.stderr) == (suffix == ".txt")


def test_the_command_loads_nothing_heavy() -> None:
    code = (
        "import sys; from attnreg.commands.prompts import prompts; prompts(['--help'], standalone_mode=False);"
        "prompts(['show', 'attend-and-excite'], standalone_mode=False);"
        "print(sorted({'torch', 'diffusers', 'transformers', 'spacy'} & set(sys.modules)))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.splitlines()[-1] == "[]"


# The documentation

DOCUMENT = Path(__file__).parents[2] / "docs" / "prompts.md"


def test_the_document_names_every_set_and_its_code_runs(tmp_path: Path) -> None:
    from attnreg.evaluation.prompts import PROMPT_SETS

    text = DOCUMENT.read_text(encoding="utf-8")
    table = text[text.index("| name |") : text.index("No published set")]
    named = "".join(row.split(" | ")[0] for row in table.splitlines())
    assert set(re.findall(r"`([a-z0-9-]+)`", named)) == {*PROMPT_SETS}
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    assert len(names["few"]) == 40
    (example,) = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    (tmp_path / "mine.jsonl").write_text(example)
    things = (Thing("car", "red"), Thing("dog", count=2))
    asked = Prompt("a red car left of two dogs", things, (Relation(0, "left of", 1),))
    assert prompt_set(str(tmp_path / "mine.jsonl")) == (asked,)
