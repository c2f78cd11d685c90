"""The pages of `corpusmill browse` in a real browser, over hostile documents."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from pipeline.look import labels
from pipeline.look.browse.document import Library
from pipeline.look.browse.filters import Filter
from tests.conftest import Shared
from tests.pipeline.browse_run import ARABIC, CHINESE, DOCUMENTS, SCRIPT, served, write

FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
SECONDS = 60
"""How long a page is waited for on a busy machine."""


@pytest.fixture(scope="module")
def folder(shared: Shared, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run over hostile documents, which the tests of this file may label."""
    made = shared("hostile", write) / "out"
    return Path(shutil.copytree(made, tmp_path_factory.mktemp("pages") / "out"))


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    with served(folder) as where:
        yield where


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("there is no chromium on this machine; on Debian `apt-get install chromium`")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Browser, address: str) -> Iterator[Page]:
    """A page that notes errors, and requests to elsewhere; there must be none at the end of a test."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(1_000 * SECONDS)
    expect.set_options(1_000 * SECONDS)
    made = context.new_page()
    wrong: list[str] = []
    made.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    made.on("pageerror", lambda error: wrong.append(str(error)))
    made.on("request", lambda request: None if request.url.startswith(address) else wrong.append(request.url))
    made.on("dialog", lambda dialog: wrong.append(dialog.message))
    yield made
    context.close()
    assert wrong == []


def test_the_list_loads_filters_and_searches(page: Page, address: str) -> None:
    """The page would come up empty or broken, or a filter would do nothing."""
    page.goto(f"{address}/")
    expect(page.locator("#count")).to_have_text(str(DOCUMENTS + 4))
    expect(page.locator("a.row")).to_have_count(50)
    expect(page.locator(".snippet").first).not_to_be_empty()
    page.select_option("select[name=source]", "odd")
    page.fill("input[name=search]", "committee")
    page.get_by_role("button", name="Show").click()
    page.wait_for_url("**/?*source=odd*")
    expect(page.locator("#count")).to_have_text(str(DOCUMENTS // 2))
    assert page.url == f"{address}/?table=documents&search=committee&source=odd"
    page.fill("input[name=search]", CHINESE[:5])
    page.select_option("select[name=source]", "")
    page.keyboard.press("Enter")
    page.wait_for_url("**/?*%E4*")
    expect(page.locator("a.row")).to_have_count(1)
    expect(page.locator(".snippet mark")).to_have_text(CHINESE[:5])


def test_keys_walk_through_documents(page: Page, address: str, folder: Path) -> None:
    """Next and previous would leave the filter, or skip documents."""
    rows = Library.of(folder).table("documents").find(Filter(source="odd"), None, 3).rows
    urls = [f"{address}/document?source=odd&at={row['place']}" for row in rows]
    page.goto(f"{address}/?source=odd")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url(urls[0])
    expect(page.locator("#tokens .t").first).to_be_visible()
    for key, url in (("j", urls[1]), ("ArrowRight", urls[2]), ("k", urls[1]), ("ArrowLeft", urls[0])):
        page.keyboard.press(key)
        page.wait_for_url(url)
    page.keyboard.press("k")
    expect(page.locator("#toast")).to_have_text("this is the first one")


@pytest.mark.parametrize("query", ["search=needle", "table=dropped&search=javascript"])
def test_a_script_in_a_document_does_not_run(page: Page, address: str, query: str) -> None:
    """A page from the crawl would run its script in the reviewer's browser, and could send the corpus away."""
    page.goto(f"{address}/?{query}")
    expect(page.locator("#count")).to_have_text("1")
    page.locator("a.row").click()
    page.wait_for_url("**/document?*")
    for pane in ("#raw", "#text", "#tokens"):
        expect(page.locator(pane)).to_contain_text("<script>")
    if "dropped" in query:
        expect(page.locator(".verdict")).to_contain_text("<script>")
        page.locator("#steps summary").click()
        expect(page.locator("#steps .lost")).to_contain_text("<script>")
    assert page.evaluate("[window.pwned, document.title.startsWith('pwned'), document.images.length]") == [
        None,
        False,
        0,
    ]
    assert page.evaluate("[...document.scripts].map((one) => one.src)") == [f"{address}/static/browse.js"]


def test_directions_and_duplicates(page: Page, address: str) -> None:
    """Arabic would be set from the left; a duplicate's survivor would not be found."""
    page.goto(f"{address}/?search={ARABIC[:7]}")
    page.locator("a.row").click()
    page.wait_for_url("**/document?*")
    assert page.locator("#text").evaluate("one => getComputedStyle(one).direction") == "rtl"
    page.goto(f"{address}/?table=dropped&reason=dedup.near_duplicate")
    page.locator("a.row").click()
    page.locator("#relations button").click()
    expect(page.locator("#relations ins, #relations del")).to_have_count(2)
    page.locator("#relations a").first.click()
    page.wait_for_url("**/document?at=*")
    expect(page.locator("#relations")).to_contain_text("1 lost to this one")


def test_labels_are_stored_in_a_sample(page: Page, address: str, folder: Path) -> None:
    """A reviewer's judgements would be lost, or the next document of the sample not come up."""
    page.goto(f"{address}/document?sample=5&by=source&at=0")
    page.keyboard.press("w")
    page.keyboard.type(f"gut, weil {SCRIPT}")
    page.keyboard.press("Escape")
    page.keyboard.press("g")
    page.wait_for_url("**/document?*at=1")
    page.keyboard.press("b")
    page.wait_for_url("**/document?*at=2")
    first, second = labels.read(folder).values()
    assert (first.label, first.why, first.by) == ("good", f"gut, weil {SCRIPT}", "ann")
    assert (second.label, second.why) == ("bad", "")
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(f"{address}/document?sample=5&by=source&at=0")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.goto(f"{address}/document?sample=5&by=source&at=2")
    page.keyboard.press("k")
    page.wait_for_url("**/document?*at=1")
    expect(page.locator("[data-label=bad]")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("b")  # once more takes it back
    expect(page.locator("[data-label=bad]")).to_have_attribute("aria-pressed", "false")
    assert [label.label for label in labels.read(folder).values()] == ["good"]


@pytest.mark.parametrize("width", [390, 1600])
def test_pages_fit_the_window(chromium: Browser, address: str, width: int) -> None:
    """On a telephone a page would have to be pushed from side to side."""
    context = chromium.new_context(viewport={"width": width, "height": 844}, color_scheme="dark")
    page = context.new_page()
    for path in ("/", "/?table=dropped", "/document?at=0.0"):
        page.goto(f"{address}{path}", wait_until="networkidle")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        shown = page.locator("#pane-raw").is_visible() if "document" in path else page.locator("#form").is_visible()
        assert shown is (width > 800)
    context.close()
