"""The app in a headless Chromium, as a newcomer meets it: type, draw, look, cancel, restore, come back."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from app_served import Served

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the path")
SERIOUS = ("serious", "critical")
EXPECTED = ("status of 422", "status of 404")
"""What a browser itself writes to its console when a form is refused."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as started:
        found = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


class Seen:
    """A page, and all that went wrong or elsewhere while it was open."""

    def __init__(self, browser: Any, address: str, width: int = 1200, scheme: str = "light", **options: Any) -> None:
        self.context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, **options)
        self.page = self.context.new_page()
        self.told: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.told.append(message.text))
        self.page.on("pageerror", lambda error: self.told.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.address = address
        self.open()

    def open(self) -> None:
        self.page.goto(self.address)
        self.page.wait_for_selector("body[data-ready]")

    def draw(self, **fields: str) -> None:
        for name, text in fields.items():
            self.page.fill(f"#{name}", text)
        self.page.click("#draw")

    def done(self) -> None:
        self.page.wait_for_selector("#draw:not([disabled])", timeout=90_000)
        self.page.wait_for_selector("#shown:not([hidden])")

    def error(self, field: str) -> str:
        self.page.wait_for_function(f"() => document.getElementById('{field}-error').textContent")
        return str(self.page.inner_text(f"#{field}-error"))

    def chips(self) -> dict[str, bool]:
        boxes = self.page.locator("#chips input").all()
        return {box.get_attribute("value"): box.is_checked() for box in boxes}

    def wait_for_chips(self, *words: str) -> None:
        wanted = list(words)
        script = (
            "wanted => [...document.querySelectorAll('#chips input')].map(one => one.value).join() === wanted.join()"
        )
        self.page.wait_for_function(script, arg=wanted)

    def violations(self) -> list[tuple[str, str]]:
        found = axe.Axe().run(self.page).response["violations"]
        return [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in SERIOUS]

    def close(self) -> None:
        assert [text for text in self.told if not any(known in text for known in EXPECTED)] == []
        assert [url for url in self.asked if not url.startswith((self.address, "data:"))] == []
        self.context.close()


@pytest.fixture
def visit(browser: Any, served: Served) -> Iterator[Callable[..., Seen]]:
    opened: list[Seen] = []

    def go(address: str = "", **options: Any) -> Seen:
        opened.append(Seen(browser, address or served.address, **options))
        return opened[-1]

    yield go
    for one in opened:
        one.close()


def test_a_newcomer_draws_and_looks(visit: Callable[..., Seen], served: Served) -> None:
    seen = visit()
    page = seen.page
    assert page.input_value("#prompt") == "a bird and a frog"
    assert seen.chips() == {"bird": True, "frog": True}
    page.fill("#prompt", "a red frog and a crown")
    seen.wait_for_chips("red frog", "crown")
    seen.draw(seeds="0,5", steps="2")
    seen.done()
    assert page.locator("#seeds-row button").count() == 2
    assert page.inner_text("#shown-title") == "“a red frog and a crown”"
    shown = page.locator("#seeds-row button").nth(1)
    shown.click()
    assert shown.get_attribute("aria-pressed") == "true"
    for kind in ("unmodified", "regulated"):
        assert f"seed5-{'none' if kind == 'unmodified' else 'auto'}.png" in page.get_attribute(f"#{kind}", "src")
        assert page.evaluate(f"document.getElementById('{kind}').decode().then(() => true)")
    assert "seed 5" in page.get_attribute("#regulated", "alt")
    assert "Method used: best-start" in page.inner_text("#happened")
    assert page.locator("#happened tbody tr").count() >= 1
    page.locator("#maps summary").click()
    page.wait_for_function("() => [...document.querySelectorAll('.maps img')].every(one => one.naturalWidth > 128)")
    assert page.locator(".maps img").count() == 2
    assert (
        page.get_attribute(".maps img >> nth=0", "alt")
        == "Attention maps of red frog, crown over the steps, unmodified"
    )
    shown.press("Enter")
    assert page.is_visible(".maps"), "it stays open"
    assert seen.violations() == []
    assert page.locator("#drawings button").count() == 1


def test_the_slider_by_mouse_and_by_keys(visit: Callable[..., Seen]) -> None:
    seen = visit()
    seen.draw(seeds="1", steps="1")
    seen.done()
    page = seen.page
    clip = "getComputedStyle(document.getElementById('unmodified')).clipPath"
    middle = page.evaluate(clip)
    box = page.locator("#stage").bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.9, box["y"] + 30)
    right = page.evaluate(clip)
    assert middle != right
    assert float(page.input_value("#slider")) > 80
    page.focus("#slider")
    page.keyboard.press("Home")
    assert page.input_value("#slider") == "0"
    page.keyboard.press("ArrowRight")
    assert page.input_value("#slider") == "1"
    assert page.get_attribute("#slider", "aria-valuetext") == "1 % unmodified"


def test_words_are_switched_off_and_added(visit: Callable[..., Seen], served: Served) -> None:
    seen = visit()
    page = seen.page
    page.fill("#prompt", "a frog and a blue crown")
    seen.wait_for_chips("frog", "blue crown")
    page.get_by_label("blue crown", exact=True).uncheck()
    page.fill("#word", "helicopter")
    page.press("#word", "Enter")
    assert "No token of the prompt matches 'helicopter'" in seen.error("targets")
    assert page.input_value("#word") == "helicopter", "nothing is lost"
    page.fill("#word", "crown")
    page.click("#add")
    seen.wait_for_chips("frog", "blue crown", "crown")
    assert seen.chips() == {"frog": True, "blue crown": False, "crown": True}
    seen.draw(seeds="0", steps="1")
    seen.done()
    name = served.app.history.drawings(1)[0]
    assert served.app.history.pictures(name)[-1].recipe.targets == ["frog", "crown"]
    page.get_by_label("frog", exact=True).uncheck()
    page.get_by_label("crown", exact=True).uncheck()
    page.click("#draw")
    assert "at least one word that is switched on" in seen.error("targets")


def test_what_is_wrong_stands_beside_its_field(visit: Callable[..., Seen], served: Served) -> None:
    seen = visit()
    page = seen.page
    before = served.app.history.drawings(99)
    page.fill("#height", "100") if page.is_visible("#height") else page.evaluate(
        "document.getElementById('more').open = true"
    )
    seen.draw(prompt="", height="100", steps="0", seeds="x")
    assert "Expected a prompt" in seen.error("prompt")
    assert "multiple of 8" in seen.error("height")
    assert "from 1 to 200" in seen.error("steps")
    assert "for example 0, 0-3" in seen.error("seeds")
    assert page.evaluate("document.activeElement.id") == "prompt"
    assert page.get_attribute("#steps", "aria-invalid") == "true"
    assert page.input_value("#height") == "100"
    assert seen.violations() == []
    seen.draw(prompt="x" * 10_000, height="", steps="1", seeds="0")
    page.wait_for_function(
        "() => document.getElementById('prompt-error').textContent.includes('at most 2,000 characters')"
    )
    assert len(page.input_value("#prompt")) == 10_000
    assert page.get_attribute("#steps", "aria-invalid") == "false"
    page.fill("#prompt", "a bird and a helicopter")
    page.wait_for_function("() => document.getElementById('prompt-error').textContent.includes('helicopter')")
    assert served.app.history.drawings(99) == before


def test_cancel_stops_at_once(visit: Callable[..., Seen], served: Served) -> None:
    seen = visit()
    page = seen.page
    seen.draw(seeds="0-15", steps="200")
    page.wait_for_function("() => /step [1-9]/.test(document.getElementById('doing').textContent)")
    assert page.evaluate("document.activeElement.id") == "stop"
    page.keyboard.press("Enter")
    page.wait_for_selector("#draw:not([disabled])", timeout=20_000)
    assert page.text_content("#heard") == "Cancelled."
    assert served.app.queue.unfinished() == set()


def test_a_picture_is_dropped_in(visit: Callable[..., Seen], served: Served) -> None:
    told = served.drawn(
        prompt="a blue frog", method="attention-balance", settings={"strength": "0.25"}, seeds="9", steps="1"
    )
    png = served.ask("GET", told["drawing"]["seeds"][0]["regulated"])[2]
    seen = visit()
    page = seen.page
    wrong = io.BytesIO()
    Image.new("RGB", (8, 8)).save(wrong, "PNG")
    for content, said in ((b"no picture", "not a PNG"), (wrong.getvalue(), "without a readable one")):
        page.set_input_files("#picture", {"name": "a.png", "mimeType": "image/png", "buffer": content})
        page.wait_for_function("said => document.getElementById('picture-error').textContent.includes(said)", arg=said)
    assert page.input_value("#prompt") == "a bird and a frog"
    drop = """bytes => {
      const given = new DataTransfer();
      given.items.add(new File([new Uint8Array(bytes)], "drawn.png", { type: "image/png" }));
      document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: given, bubbles: true, cancelable: true }));
    }"""
    page.evaluate(drop, list(png))
    page.wait_for_function("() => document.getElementById('prompt').value === 'a blue frog'")
    seen.wait_for_chips("blue frog")
    fields = {name: page.input_value(f"#{name}") for name in ("method", "seeds", "steps", "strength")}
    assert fields == {"method": "attention-balance", "seeds": "9", "steps": "1", "strength": "0.25"}
    page.click("#draw")
    seen.done()
    assert served.ask("GET", page.get_attribute("#regulated", "src"))[2] == png


def test_what_is_copied(visit: Callable[..., Seen]) -> None:
    seen = visit(permissions=["clipboard-read", "clipboard-write"])
    page = seen.page
    page.click("#copy-command")
    page.wait_for_selector("#copied pre")
    text = page.inner_text("#copied pre")
    assert text.startswith("attnreg generate --model pocket --method auto --seeds 0-3")
    assert page.evaluate("navigator.clipboard.readText()") == text
    page.click("#copy-python")
    page.wait_for_function("() => document.querySelector('#copied pre').textContent.startsWith('from attnreg import')")
    assert seen.violations() == []


def test_two_at_once_do_not_see_one_another(visit: Callable[..., Seen], served: Served) -> None:
    one, other = visit(), visit()
    one.draw(prompt="a green crown and a bird", seeds="0-15", steps="100")
    one.page.wait_for_function("() => /step/.test(document.getElementById('doing').textContent)")
    other.draw(prompt="a bird", seeds="4", steps="1")
    other.page.wait_for_function("() => document.getElementById('doing').textContent.includes('1 drawing is before')")
    other.open()
    assert "green crown" not in other.page.inner_text("#drawings")
    one.page.click("#stop")
    other.done()
    assert other.page.inner_text("#shown-title") == "“a bird”", "also when the page was loaded anew meanwhile"
    one.page.wait_for_selector("#draw:not([disabled])")


def test_a_restart_keeps_the_history(
    visit: Callable[..., Seen], serve: Callable[[Path], Served], tmp_path: Path
) -> None:
    first = serve(tmp_path)
    told = first.drawn(prompt="a blue bird", seeds="2-3", steps="1")
    assert told["state"] == "done", told
    first.close()
    again = serve(tmp_path)
    seen = visit(again.address)
    page = seen.page
    page.locator("#drawings button").click()
    page.wait_for_selector("#shown:not([hidden])")
    assert page.inner_text("#shown-title") == "“a blue bird”"
    assert page.locator("#seeds-row button").count() == 2
    assert told["drawing"]["seeds"][0]["happened"]["account"][1:] in page.inner_text("#happened")
    page.wait_for_function("() => document.getElementById('prompt').value === 'a blue bird'")
    assert (page.input_value("#seeds"), page.input_value("#steps")) == ("2-3", "1")


def test_all_of_it_by_keyboard(visit: Callable[..., Seen]) -> None:
    """From the top of the page, with nothing but Tab, arrows, Space and Enter."""
    seen = visit()
    page = seen.page
    reached: list[str] = []
    for _ in range(60):
        page.keyboard.press("Tab")
        place = page.evaluate(
            "document.activeElement.id || document.activeElement.value || document.activeElement.tagName"
        )
        if place == "bird":
            page.keyboard.press("Space")
        if place in ("seeds", "steps"):
            page.keyboard.press("Control+A")
            page.keyboard.type("1")
        if place == "draw":
            page.keyboard.press("Enter")
            break
        reached.append(place)
    assert {"prompt", "bird", "frog", "word", "add", "method", "model", "seeds", "steps"} <= set(reached)
    assert seen.chips() == {"bird": False, "frog": True}
    seen.done()
    page.focus("#slider")
    page.keyboard.press("End")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.dataset.seed") == "1"


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (390, "dark"), (1440, "light"), (1440, "dark")])
def test_it_can_be_used_by_everyone(visit: Callable[..., Seen], served: Served, width: int, scheme: str) -> None:
    if not served.app.history.drawings(1):
        served.drawn(steps="1")
    seen = visit(width=width, scheme=scheme)
    page = seen.page
    assert seen.violations() == []
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    page.select_option("#method", "attention-balance")
    page.locator("#drawings button").first.click()
    page.wait_for_selector("#shown:not([hidden])")
    page.wait_for_timeout(200)
    assert seen.violations() == []
    assert page.evaluate("document.documentElement.scrollWidth") == width
    small = """[...document.querySelectorAll('button, select, input:not([type=range])')]
        .filter(one => one.checkVisibility() && one.getBoundingClientRect().height < 24 && one.type !== 'checkbox')
        .map(one => one.outerHTML)"""
    assert page.evaluate(small) == [], "a finger must hit it"


def test_axe_finds_what_is_wrong(visit: Callable[..., Seen]) -> None:
    """Else the tests above could be blind."""
    seen = visit()
    seen.page.evaluate("document.querySelector('label[for=prompt]').remove()")
    assert "label" in {name for name, _ in seen.violations()}
