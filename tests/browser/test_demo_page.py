"""The demo's page in a real browser: sign in, storm, sign out."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from ..example_app.demo import demo_page

pytestmark = [pytest.mark.browser, pytest.mark.long]

OPTIONS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Chrome]:
    """Chromium with an empty profile."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        missing = "chromium and chromedriver are not both installed"
        if os.environ.get("TOKENROTATE_REQUIRE_ENGINES"):
            pytest.fail(f"TOKENROTATE_REQUIRE_ENGINES is set, but {missing}")
        pytest.skip(missing)
    options = ChromeOptions()
    options.binary_location = chromium
    for option in [*OPTIONS, f"--user-data-dir={tmp_path / 'profile'}"]:
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = Chrome(options, Service(driver))
    yield browser
    browser.quit()


def test_sign_in_storm_and_sign_out(browser: Chrome) -> None:
    """64 requests meet an expired token: one claims, and is shown; the provider has one redemption."""
    with demo_page("--provider-seconds", "2") as (_, page, log):
        browser.get(page)
        find(browser, "#sign-in").click()
        find(browser, "button.allow").click()
        assert find(browser, "#who").text == "alice"
        assert '"user": "alice"' in find(browser, "#resource").text

        find(browser, "#start").click()
        # While the storm fills its threads the grant is still read.
        wait(browser, lambda: find(browser, "[data-fact=claimed_by]").text != "nobody")
        assert not find(browser, "#start").is_enabled()
        wait(browser, lambda: find(browser, "#start").is_enabled() and figures(browser))
        assert find(browser, "[data-fact=claimed_by]").text == "nobody"
        assert len(browser.find_elements(By.CSS_SELECTOR, "#timeline .bar")) == 64
        assert len(browser.find_elements(By.CSS_SELECTOR, "#timeline .bar.claimed")) == 1
        assert len(browser.find_elements(By.CSS_SELECTOR, "#timeline .mark")) == 1
        shown = figures(browser)
        assert (shown["requests answered"], shown["claimed"], shown["redemption"]) == (64, 1, 1)
        assert shown["waited"] > 0
        assert requests.get(log, timeout=10).json()["redemptions"] == 1
        assert find(browser, "[data-fact=token_version]").text == "1"

        find(browser, "#sign-out").click()
        find(browser, "#sign-in")
        assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_a_visitor_who_was_signed_out_is_told(browser: Chrome) -> None:
    """The storm of a page whose session is gone says so, and draws nothing."""
    with demo_page("--processes", "1") as (_, page, _log):
        browser.get(page)
        find(browser, "#sign-in").click()
        find(browser, "button.allow").click()
        find(browser, "#start")
        browser.delete_all_cookies()
        find(browser, "#start").click()
        wait(browser, lambda: "signed out" in find(browser, "#status").text)
        assert browser.find_elements(By.CSS_SELECTOR, "#timeline .bar") == []


def find(browser: Chrome, selector: str) -> Any:
    """Return the element, as soon as it is there."""
    return wait(browser, lambda: next(iter(browser.find_elements(By.CSS_SELECTOR, selector)), None))


def wait(browser: Chrome, condition: Callable[[], Any]) -> Any:
    """Return what ``condition`` returns as soon as that is true; fail after 30 s."""
    return WebDriverWait(browser, 30, poll_frequency=0.05).until(lambda _: condition())


def figures(browser: Chrome) -> dict[str, int]:
    """Return the numbers above the timeline by their names."""
    items = browser.find_elements(By.CSS_SELECTOR, "#figures li")
    return {name: int(number) for number, name in (item.text.split("\n") for item in items)}
