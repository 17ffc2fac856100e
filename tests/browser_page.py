"""The page in a real browser: run by ``make test-browser``, and by no other name collected."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal
from urllib.parse import quote

import pytest
import small_zero_shot
import suite_page
from axe_playwright_python.sync_playwright import Axe
from chromium import chromium
from playwright.sync_api import Browser, Dialog, Locator, Page, expect
from suite_page import AWKWARD, SETS

from harness.report import kinds, tables
from harness.report.page import PAGE, page_text, write_page
from harness.report.tables import MADE

Theme = Literal["dark", "light"]
SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 600 300">'
    '<rect width="600" height="300" style="fill: {}"/></svg>'
)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="session")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where the page of a small suite lies on this disk."""
    folder = suite_page.write(tmp_path_factory.mktemp("results") / "small")
    suite_page.add_planted(folder)
    tables.write(folder, holes="show")
    write_page(folder)
    for name, colour in (("", "white"), ("-dark", "black")):
        path = folder / MADE / f"patches-ETTh2-96-24{name}.svg"
        path.write_text(SVG.format(colour), "utf-8")
    path = folder / MADE / PAGE
    path.write_text(page_text(folder, about="A suite"), encoding="utf-8")
    return path.as_uri()


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """The page on a desk; whatever it says to the console or asks for elsewhere is an error."""
    faults: list[str] = []
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    watch(opened, faults)
    opened.goto(address)
    yield opened
    opened.close()
    assert faults == []


def watch(page: Page, faults: list[str]) -> None:
    page.on("console", lambda message: faults.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("dialog", lambda dialog: refuse(dialog, faults))
    page.on(
        "request",
        lambda request: (
            None if request.url.startswith(("file:", "data:")) else faults.append(request.url)
        ),
    )


def refuse(dialog: Dialog, faults: list[str]) -> None:
    faults.append(dialog.message)
    dialog.dismiss()


def column(table: Locator, name: str) -> list[str]:
    """The texts of a column of the rows that are shown."""
    heads = table.locator("thead tr:last-child > *").all_inner_texts()
    number = 1 + next(at for at, head in enumerate(heads) if head.strip().startswith(name))
    return table.locator(f"tbody tr:visible > :nth-child({number})").all_inner_texts()


def values(texts: list[str]) -> list[float]:
    return [
        float(text.replace(",", "").replace("\N{MINUS SIGN}", "-").split()[0]) for text in texts
    ]


def methods(table: Locator) -> Locator:
    """The names of the rows that are shown, as a locator, which can be waited for."""
    return table.locator("tbody tr:visible > th")


def ranking(page: Page) -> Locator:
    return page.locator(".ranking:visible")


def test_numbers_sort_as_numbers(page: Page) -> None:
    """A click sorts a column by size, another turns it round; what is empty stays below."""
    table = ranking(page)
    button = table.get_by_role("button", name="parameters")
    heading = table.get_by_role("columnheader", name="parameters")
    button.click()
    expect(heading).to_have_attribute("aria-sort", "ascending")
    rising = values(column(table, "parameters"))
    button.click()
    expect(heading).to_have_attribute("aria-sort", "descending")
    assert rising == sorted(rising)
    assert values(column(table, "parameters")) == rising[::-1]
    assert [str(number) for number in rising] != sorted(map(str, rising))  # by letter it differs

    for order in ("ascending", "descending"):
        table.get_by_role("button", name="place").click()
        place = table.get_by_role("columnheader", name="place")
        expect(place).to_have_attribute("aria-sort", order)
        assert "\N{EN DASH}" in column(table, "place")[-1]


def test_keyboard_alone_sorts(page: Page) -> None:
    """Tab reaches a heading's button, and Enter sorts by it."""
    table = ranking(page)
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent") == "skill":
            break
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    page.keyboard.press("Enter")
    expect(table.get_by_role("columnheader", name="skill")).to_have_attribute(
        "aria-sort", "ascending"
    )
    rising = values(column(table, "skill"))
    assert rising == sorted(rising)
    assert outline == "solid"


def test_filters_hide_what_does_not_fit(page: Page) -> None:
    """By name, by verdict, by budget and by data set; the count says how many are left."""
    table = ranking(page)
    everyone = table.locator("tbody tr").count()
    page.get_by_role("searchbox", name="Method").fill("UNIF")
    expect(methods(table)).to_have_text(["uniform_best", "uniform"])
    expect(page.locator("#shown")).to_have_text(f"2 of {everyone} methods")
    page.get_by_role("button", name="Show all").click()
    expect(page.locator("#shown")).to_have_text(f"{everyone} of {everyone} methods")

    page.get_by_label("Verdict").select_option("better")
    expect(methods(table)).to_have_text(["jumps"])
    page.get_by_label("Verdict").select_option("")
    page.get_by_label("Budget").select_option("about K patches")
    expect(methods(table)).to_have_text([re.compile("^soft")])
    page.get_by_label("Budget").select_option("reference forecaster")
    expect(methods(table)).to_have_text([re.compile("^seasonal_naive")])
    page.get_by_role("button", name="Show all").click()
    expect(methods(table)).to_have_count(everyone)

    page.get_by_role("combobox", name="Data set").select_option("ETTh2")
    heads = page.locator(".cells:visible thead tr:first-child th:visible")
    expect(heads).to_have_text(["ETTh2"])
    first = page.locator(".cells:visible tbody tr").first
    expect(first.locator("td:visible")).to_have_count(1)


def test_the_panel_sorts_by_its_numbers_and_says_in_words_what_passes(page: Page) -> None:
    """Marks need no colour; a filter by verdict, which a panel has not, leaves its lines alone."""
    page.evaluate("location.hash = '#track-96'")
    panel = page.locator(".panel:visible")
    expect(panel.locator("tbody tr")).to_have_count(7)
    jumps = panel.get_by_role("row", name="jumps")
    expect(jumps.get_by_role("cell").nth(0)).to_contain_text("pass")
    expect(jumps.get_by_role("cell").nth(1)).to_contain_text("fail")
    panel.get_by_role("button", name="const").click()
    last = panel.locator("tbody tr:visible").last
    expect(last).to_have_attribute("data-method", "jumps")
    page.get_by_role("combobox", name="Verdict").select_option(index=1)
    expect(panel.locator("tbody tr:visible")).to_have_count(7)
    page.get_by_role("searchbox", name="Method").fill("jum")
    expect(panel.locator("tbody tr:visible")).to_have_count(1)


def test_track_switch_shows_one_look_back(page: Page) -> None:
    """One track at a time, the longest look-back first; an address can ask for another."""
    expect(page.locator("#track-512")).to_be_visible()
    expect(page.locator("#track-96")).to_be_hidden()
    page.get_by_role("radio", name="96").press("Space")
    expect(page.locator("#track-512")).to_be_hidden()
    expect(page.locator("#track-96")).to_be_visible()
    page.evaluate("location.hash = '#track-512'")
    expect(page.locator("#track-512")).to_be_visible()


def test_deep_links_open_what_they_name(page: Page, address: str) -> None:
    """A method, a data set and a cell have addresses, whatever they are called."""
    for kind, name in (("method", AWKWARD), ("dataset", SETS[-1]), ("dataset", "ETTh2")):
        page.goto("about:blank")
        page.goto(f"{address}#{kind}-{quote(name, safe='')}")
        section = page.locator(f"details[data-{kind}]").filter(
            has=page.get_by_role("heading", name=name, exact=True)
        )
        expect(section).to_have_attribute("open", "")
        expect(section.locator("tbody tr").first).to_be_visible()
    expect(section.locator("img:visible")).to_have_count(1)

    page.goto("about:blank")
    page.goto(f"{address}#cell/jumps/{quote(SETS[-1], safe='')}/96/24/12")
    expect(page.get_by_role("dialog")).to_contain_text(f"jumps on {SETS[-1]} 96→24 K=12")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page).not_to_have_url(re.compile("#cell"))
    page.evaluate("location.hash = '#cell/nobody/ETTh2/96/24/12'")
    expect(page.get_by_role("dialog")).to_contain_text("No such cell")


def test_cell_shows_its_record(page: Page) -> None:
    """Each cell leads to its runs: seeds, keys, failures, and commands that repeat them."""
    line = page.locator(".cells:visible tbody tr", has_text="soft")
    expect(line).to_contain_text("1 of 3 failed")
    line.locator("td a", has_text="failed").click()
    record = page.get_by_role("dialog")
    expect(record.locator("tbody tr")).to_have_count(3)
    expect(record).to_contain_text("MemoryError: <b>no room</b>")
    expect(record).to_contain_text("0123456789abcdef")
    key = record.locator("tbody tr code").first.inner_text()
    expect(record).to_contain_text(f"make rerun KEY={key}")
    expect(record).to_contain_text(
        "METHODS=soft DATASETS=ETTh1 LOOK_BACKS=512 HORIZONS=24 SEEDS=1,2,3"
    )
    link = record.get_by_role("link", name="run").first
    here = "http://127.0.0.1:5000/patchbench/small"
    expect(link).to_have_attribute("href", f"{here}?key={key}")
    # A team's server knows no short addresses: its experiment is named, as MLflow shows it.
    place = record.get_by_label("On another port")
    place.fill("https://team/#/experiments/7")
    place.press("Tab")
    wanted = f"workflowType=machine_learning&searchFilter=tags.key%20%3D%20%22{key}%22"
    expect(link).to_have_attribute("href", f"https://team/#/experiments/7/runs?{wanted}")
    place.fill("")
    place.press("Tab")
    expect(link).to_have_attribute("href", f"{here}?key={key}")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_theme_follows_the_system_until_it_is_switched(page: Page, scheme: Theme) -> None:
    """Colours and figures are those of the system's theme; the switch turns them and stays."""
    other = "dark" if scheme == "light" else "light"
    lightness = "getComputedStyle(document.body).backgroundColor.match(/[\\d.]+/g).map(Number)[0]"
    page.emulate_media(color_scheme=scheme)
    page.evaluate("location.hash = '#dataset-ETTh2'")
    figure = page.locator("#dataset-ETTh2 img:visible")
    expect(figure).to_have_class(scheme)
    assert (page.evaluate(lightness) > 128) == (scheme == "light")
    page.get_by_role("button", name=f"{other} theme").click()
    for _ in range(2):
        expect(page.locator("html")).to_have_attribute("data-theme", other)
        expect(figure).to_have_class(other)
        assert (page.evaluate(lightness) > 128) == (other == "light")
        page.reload()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [375, 1280])
def test_nothing_keeps_anyone_out(page: Page, scheme: Theme, width: int) -> None:
    """Axe finds nothing serious in either theme, with everything open, nor in a record."""
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 812})
    open_everything(page)
    assert grave(page) == []
    page.evaluate("location.hash = '#cell/jumps/ETTh2/512/24/12'")
    expect(page.get_by_role("dialog")).to_be_visible()
    assert grave(page) == []


def open_everything(page: Page) -> None:
    """Every section is open, and has made the tables that it makes when it is opened."""
    page.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
    expect(page.locator(".page .scores table").first).to_be_visible()
    expect(page.locator(".page .scores:empty")).to_have_count(0)


def grave(page: Page) -> list[str]:
    found = Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {one['nodes'][0]['html'][:200]}"
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


def test_phone_never_scrolls_sideways(page: Page) -> None:
    """At 375 px wide tables scroll in their own box, also with everything open."""
    page.set_viewport_size({"width": 375, "height": 812})
    open_everything(page)
    assert page.evaluate("document.documentElement.scrollWidth") == 375
    assert page.evaluate("document.querySelector('.box').scrollWidth") > 375


def test_page_can_be_read_without_scripts(browser: Browser, address: str) -> None:
    """Without JavaScript every table is there, of every track, and no dead control."""
    page = browser.new_page(java_script_enabled=False)
    page.goto(address)
    assert page.locator(".ranking:visible").count() == 2
    assert page.locator(".cells:visible").count() == 2
    assert page.locator("button:visible").count() == 0
    expect(page.get_by_text("Without JavaScript")).to_be_visible()
    page.close()


# The page of a zero-shot suite


@pytest.fixture(scope="session")
def zero_shot_address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where the page of a small zero-shot suite lies, with all its pictures."""
    place = tmp_path_factory.mktemp("zero_shot")
    folder = small_zero_shot.write(place / "zero_shot", seeds=1, runs=place / "runs")
    *_, path = kinds.write(folder, about="Tasks of others")
    return path.as_uri()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [375, 1280])
def test_a_zero_shot_page_keeps_nobody_out(
    browser: Browser, zero_shot_address: str, scheme: Theme, width: int
) -> None:
    """Nothing serious is found with everything open, and the page never scrolls sideways."""
    faults: list[str] = []
    page = browser.new_page(viewport={"width": width, "height": 812}, color_scheme=scheme)
    watch(page, faults)
    page.goto(zero_shot_address)
    page.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
    assert grave(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") == width
    page.close()
    assert faults == []


def test_standings_sort_by_any_column(browser: Browser, zero_shot_address: str) -> None:
    """Also by those of the second corpus."""
    page = browser.new_page()
    page.goto(zero_shot_address)
    table = page.locator(".grouped").first
    heading = table.locator("thead tr:last-child th").nth(8)
    heading.get_by_role("button").click()
    values = [float(text) for text in table.locator("tbody td:nth-child(9)").all_inner_texts()]
    assert len(values) == len(small_zero_shot.LEVEL)
    assert values == sorted(values)
    page.close()
