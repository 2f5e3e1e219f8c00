"""The page in a real browser: Chromium without a window, driven by Selenium; skipped where either is missing.

The accessibility checks of axe-core run where its script is found: by the variable AXE (a file), or among npm's packages.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from actbench.page.write import write_page
from tests.pages import study_in, trial_in

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no Chromium with its driver here (chromium, chromium-driver)")


class Browser:
    """A window with one page in it."""

    def __init__(self, page: Path) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
        self.driver.set_script_timeout(300)  # which a long page's checks take on a busy machine
        self.page = page

    def open(self, *, dark: bool = False, width: int = 1100, script: bool = True) -> None:
        feature = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.command("Emulation.setEmulatedMedia", features=[feature])
        self.command("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 500)
        self.command("Emulation.setScriptExecutionDisabled", value=not script)
        self.driver.get(self.page.as_uri())

    def command(self, name: str, **arguments: Any) -> Any:
        return self.driver.execute_cdp_cmd(name, arguments)

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def requests(self) -> list[str]:
        """The addresses that were asked for since the last call."""
        told = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return [one["params"]["request"]["url"] for one in told if one["method"] == "Network.requestWillBeSent"]

    def messages(self) -> list[str]:
        return [entry["message"] for entry in self.driver.get_log("browser")]


def browser_on(folder: Path) -> Iterator[Browser]:
    write_page([folder], page := folder / "report.html")
    browser = Browser(page)
    try:
        yield browser
    finally:
        browser.driver.quit()


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Iterator[Browser]:
    yield from browser_on(study_in(tmp_path_factory.mktemp("browser") / "study"))


@pytest.fixture(scope="module")
def trial(tmp_path_factory) -> Iterator[Browser]:
    yield from browser_on(trial_in(tmp_path_factory.mktemp("browser") / "trial"))


@pytest.fixture(params=["study", pytest.param("trial", marks=pytest.mark.slow)])
def browser(request) -> Browser:
    return request.getfixturevalue(request.param)


def test_it_opens_without_a_message_or_a_request(browser):
    browser.open()
    browser.requests(), browser.messages()  # of before
    browser.open()
    assert browser.messages() == []
    assert {url for url in browser.requests() if not url.startswith("data:")} == {browser.page.as_uri()}
    assert browser.run("return document.querySelectorAll('figure svg').length") > 10
    drawn = browser.run(
        "return [...document.querySelectorAll('figure svg')].filter((svg) => svg.checkVisibility())"
        ".every((svg) => svg.getBoundingClientRect().height > 40)"
    )
    assert drawn, "pictures have a size"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 1100])
def test_it_fits_and_follows_the_systems_colours(browser, dark, width):
    browser.open(dark=dark, width=width)
    assert browser.run("return document.documentElement.scrollWidth") <= width, "nothing sticks out"
    shade = "return getComputedStyle(arguments[0]).getPropertyValue(arguments[1]).match(/\\d+/g).slice(0, 3).reduce((a, b) => a + +b, 0)"
    body = browser.run("return document.body")
    paper, letters = browser.run(shade, body, "background-color"), browser.run(shade, body, "color")
    assert (paper < 120 and letters > 600) if dark else (paper > 700 and letters < 120)
    text = browser.run("return document.querySelector('figure svg text')")
    assert (browser.run(shade, text, "fill") > 380) == dark, "pictures follow, too"


def rows(browser: Browser, column: int) -> list[str]:
    return browser.run(
        "return [...document.querySelectorAll('.networks tbody tr')].filter((row) => !row.hidden)"
        ".map((row) => row.cells[arguments[0]].textContent)",
        column,
    )


def number(text: str) -> float:
    """A figure as the page writes it: 1,234 or 5.8×10⁹."""
    powers = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹−", "-0123456789-", ",")
    return float(text.replace("×10", "e").translate(powers))


def column_of(browser: Browser, name: str) -> int:
    heads = browser.run("return [...document.querySelectorAll('.networks thead th')].map((head) => head.textContent)")
    return heads.index(name)


def key(browser: Browser, letters: str) -> None:
    from selenium.webdriver import ActionChains

    ActionChains(browser.driver).send_keys(letters).perform()


def test_networks_are_sorted_by_keyboard(study):
    from selenium.webdriver.common.keys import Keys

    study.open()
    column = column_of(study, "train loss")
    study.run("document.querySelectorAll('.networks thead button')[arguments[0]].focus()", column)
    order = "return document.querySelectorAll('.networks thead th')[arguments[0]].getAttribute('aria-sort')"
    assert study.run(order, column) is None
    found = {}
    for direction in ("ascending", "descending"):
        key(study, Keys.ENTER)
        assert study.run(order, column) == direction
        texts = rows(study, column)
        known = [number(text) for text in texts if text != "–"]
        assert len(known) < len(texts) and texts[len(known) :] == ["–"] * (len(texts) - len(known)), "what is missing is last"
        found[direction] = known
    assert found["ascending"] == sorted(found["ascending"]) and found["descending"] == found["ascending"][::-1]


def test_networks_are_filtered_and_counted(study):
    study.open()
    column = column_of(study, "activation")
    assert set(rows(study, column)) == {"relu", "tanh"}
    words = study.driver.find_element("id", "filter-text")
    words.send_keys("RELU diverged")
    shown = rows(study, column)
    assert shown and set(shown) == {"relu"} and set(rows(study, column_of(study, "status"))) == {"diverged"}
    assert study.driver.find_element("id", "count").text == f"{len(shown)} of 32 rows"
    words.clear()
    words.send_keys("nothing like this")
    assert rows(study, column) == [] and study.driver.find_element("id", "count").text == "0 of 32 rows"
    words.clear()
    words.send_keys(" ")
    study.driver.find_element("css selector", f"select[data-column='{column}'] option[value='tanh']").click()
    assert rows(study, column) == ["tanh"] * 16


def test_any_two_axes_can_be_chosen(study):
    study.open()
    shown = (
        "return [...document.querySelectorAll('.pair')].filter((pair) => pair.checkVisibility()).map((pair) => pair.dataset.axes)"
    )
    [first] = study.run(shown)
    axes = study.run("return [...document.querySelectorAll('#map-one option')].map((option) => option.value)")
    for one in axes:
        for other in axes:
            if one != other:
                study.driver.find_element("css selector", f"#map-one option[value='{one}']").click()
                study.driver.find_element("css selector", f"#map-other option[value='{other}']").click()
                [pair] = study.run(shown)
                assert set(pair.split()) == {one, other}
                assert study.run("return document.querySelector('.pair[open] svg').getBoundingClientRect().height") > 40
    assert first and study.messages() == []


def test_without_script_all_is_there(browser):
    """Read from the layout itself, since no script runs."""
    browser.open(script=False)
    snapshot = browser.command("DOMSnapshot.captureSnapshot", computedStyles=[])
    strings, document = snapshot["strings"], snapshot["documents"][0]
    laid_out = " ".join(strings[index] for index in document["layout"]["text"] if index >= 0)
    assert "How to read this" in laid_out and "rows with these words" not in laid_out.lower(), "no control that does nothing"
    assert "Numbers of this figure" in laid_out
    if "study" in str(browser.page):
        names = [" and ".join(pair) for pair in (("depth", "bias"), ("bias", "depth"))]
        assert any(name in laid_out for name in names), "every pair can be opened"


def test_it_can_be_printed(browser):
    browser.open()
    printed = base64.b64decode(browser.command("Page.printToPDF")["data"])
    assert printed.startswith(b"%PDF") and len(printed) > 20_000


def axe() -> str | None:
    places = [Path(os.environ.get("AXE", ""))]
    npm = shutil.which("npm")
    for words in (["root"], ["root", "-g"]) if npm else ():
        found = subprocess.run([str(npm), *words], capture_output=True, text=True, timeout=30).stdout.strip()
        places.append(Path(found, "axe-core", "axe.min.js"))
    return next((path.read_text(encoding="utf-8") for path in places if path.is_file()), None)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing(browser, dark):
    if (script := axe()) is None:
        pytest.skip("axe-core is not here: npm install axe-core, or AXE=…/axe.min.js")
    browser.open(dark=dark)
    browser.run("for (const one of document.querySelectorAll('details:not(.pair)')) one.open = true")
    browser.run(script)
    found = browser.driver.execute_async_script("const done = arguments[0]; axe.run().then(done, (error) => done(String(error)))")
    assert not isinstance(found, str), found
    broken = [f"{one['id']}: {one['help']}: {one['nodes'][0]['html'][:200]}" for one in found["violations"]]
    assert broken == [] and len(found["passes"]) > 20
