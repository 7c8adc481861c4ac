"""Debian's Chromium without a window, for the tests of the pages and for the pictures of the docs."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
WIDTH = 1440
_FLAGS = ("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking")
_FLAGS += ("blink-settings=primaryHoverType=2,availableHoverTypes=2",)  # with a mouse, as on a desk
_FLAGS += ("disable-component-update", "disable-sync", "disable-dev-shm-usage", "force-prefers-reduced-motion")


@contextmanager
def open_chromium() -> Iterator[Chrome]:
    """Start the browser with an empty profile, give it, and end it."""
    options = ChromeOptions()
    options.binary_location = str(CHROMIUM)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        for flag in (*_FLAGS, f"user-data-dir={profile}", f"window-size={WIDTH},1000"):
            options.add_argument(f"--{flag}")
        with Chrome(options=options, service=ChromeService(DRIVER)) as browser:
            yield browser


def wait(browser: Chrome, script: str, seconds: float = 60) -> None:
    """Wait until the JavaScript expression is true."""
    WebDriverWait(browser, seconds, 0.2).until(lambda b: b.execute_script(f"return Boolean({script})"), script)


def wait_for_text(browser: Chrome, text: str, seconds: float = 60) -> None:
    """Wait until the page shows the text."""
    WebDriverWait(browser, seconds, 0.3).until(lambda b: text in b.find_element(By.TAG_NAME, "body").text, text)


def picture(browser: Chrome, path: Path, height: int = 1000) -> None:
    """Take a picture of the top of the page."""
    browser.set_window_size(WIDTH, height)
    browser.execute_script("scrollTo(0, 0)")
    browser.save_screenshot(str(path))


def close_assistant(browser: Chrome) -> None:
    """Close the panel that MLflow opens at the right of a new visitor's page."""
    close = "[...document.querySelectorAll('button')].find(b => b.getBoundingClientRect().right > innerWidth - 40"
    browser.execute_script(f"const b = {close} && b.getBoundingClientRect().top < 80); if (b) b.click()")
