"""Screenshots of the app for the docs: `python -m benchmarks.app_pictures` writes docs/pictures/app-*.png.

Needs a Chromium, and the extras app and test.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

OUT = Path(__file__).parents[1] / "docs" / "pictures"
SHOTS = ((1440, "light"), (1440, "dark"), (390, "light"), (390, "dark"))


def main() -> None:
    """Draw the example once, and look at it in every size and scheme."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as started:
        code = "from attnreg.cli import main; main()"
        command = [sys.executable, "-c", code, "app", "--port", "0", "--out", folder]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout
            line = next(line for line in server.stdout if "http://" in line)
            address = line.split()[1]
            browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            _draw(browser, address)
            for width, scheme in SHOTS:
                _shoot(browser, address, width, scheme)
            browser.close()
        finally:
            server.terminate()
            server.wait()


def _draw(browser: Any, address: str) -> None:
    page = browser.new_page()
    page.goto(address)
    page.wait_for_selector("body[data-ready]")
    page.click("#draw")
    page.wait_for_selector("#draw:not([disabled])", timeout=600_000)
    page.close()


def _shoot(browser: Any, address: str, width: int, scheme: str) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    page.goto(address)
    page.wait_for_selector("body[data-ready]")
    page.locator("#drawings button").first.click()
    page.wait_for_selector("#shown:not([hidden])")
    page.click("#maps summary")
    page.wait_for_timeout(800)
    page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
    shot = Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")
    path = OUT / f"app-{width}-{scheme}.png"
    shot.save(path, optimize=True)  # a palette would be smaller, and would show the scale of colours in a few bands
    print(path, f"{path.stat().st_size >> 10} KiB")
    context.close()


if __name__ == "__main__":
    main()
