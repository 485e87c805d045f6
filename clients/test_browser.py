"""Swagger UI works in a real browser, Debian's Chromium, without a network."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import expect, sync_playwright

from tests.conftest import ROOT
from tests.helpers.fresh_folder import served_sandbox

PICTURE = ROOT / "clients" / "build" / "swagger-ui.png"  # the one in docs was made so
PATIENCE = 60_000  # ms
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


class Page:
    """Swagger UI, with the requests and the complaints of the browser while the page was open."""

    def __init__(self, page: Any, url: str) -> None:
        self.page = page
        self.asked: list[str] = []
        self.complaints: list[str] = []
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("requestfailed", lambda request: self.complaints.append(request.url))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", self._hear)
        page.goto(f"{url}/ui/")
        expect(page.locator(".opblock")).to_have_count(5, timeout=PATIENCE)

    def _hear(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)


@pytest.fixture(scope="module")
def server() -> Iterator[dict[str, str]]:
    with served_sandbox() as variables:
        yield variables


@pytest.fixture
def opened(server: dict[str, str]) -> Iterator[Page]:
    """Open Swagger UI in a new browser that has no key."""
    program = shutil.which("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=QUIET)
        page = browser.new_page(viewport={"width": 1000, "height": 1100})
        yield Page(page, server["SHOP_URL"])
        browser.close()


def test_no_network(opened: Page, server: dict[str, str]) -> None:
    """The page requests nothing from another server, and loads without an error."""
    assert len(opened.asked) > 3
    assert [url for url in opened.asked if not url.startswith(server["SHOP_URL"])] == []
    assert opened.complaints == []


def test_five_operations(opened: Page) -> None:
    """The page lists the five operations, each with its summary."""
    last = opened.page.locator(".opblock").last.bounding_box()
    height = last["y"] + last["height"] + 20
    opened.page.screenshot(path=PICTURE, clip={"x": 0, "y": 0, "width": 1000, "height": height})
    summaries = opened.page.locator(".opblock-summary-description").all_inner_texts()
    assert summaries == [
        "List customers",
        "Get one customer",
        "Add a customer",
        "Update a customer",
        "Delete a customer",
    ]


def test_on_a_phone(server: dict[str, str]) -> None:
    """The page of an open operation is as wide as a phone, and keeps the size of its letters."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=QUIET)
        phone = browser.new_page(viewport={"width": 390, "height": 844}, is_mobile=True)
        page = Page(phone, server["SHOP_URL"]).page
        page.locator("#operations-customers-update_customer .opblock-summary-control").click()
        expect(page.locator(".responses-table").first).to_be_visible(timeout=PATIENCE)
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        assert page.evaluate("window.innerWidth") == 390
        browser.close()


def test_no_inline_script(opened: Page) -> None:
    """The browser runs no script that stands in the page itself."""
    insert = """() => {
        const script = document.createElement("script");
        script.textContent = "window.canary = true";
        document.body.append(script);
        return window.canary === undefined;
    }"""
    assert opened.page.evaluate(insert)
    assert [text for text in opened.complaints if "Content Security Policy" in text]


def test_no_frame(opened: Page, server: dict[str, str]) -> None:
    """The browser does not show the page in a frame of another page."""
    insert = """url => {
        const frame = document.createElement("iframe");
        frame.src = url;
        document.body.append(frame);
    }"""
    page, url = opened.page, server["SHOP_URL"]
    page.goto(f"{url}/openapi.json")  # a page of the same origin, which has no policy
    with page.expect_event("requestfailed", timeout=PATIENCE) as failed:
        page.evaluate(insert, f"{url}/ui/")
    assert failed.value.failure == "net::ERR_BLOCKED_BY_RESPONSE"


@pytest.mark.parametrize("scheme", [0, 1], ids=["bearer", "apiKey"])
def test_try_it_out(opened: Page, server: dict[str, str], scheme: int) -> None:
    """A call of list_customers is a 401 without a key, and succeeds after Authorize."""
    page = opened.page
    page.locator("#operations-customers-list_customers .opblock-summary-control").click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute").click()
    answer = page.locator(".live-responses-table .response")
    expect(answer.locator(".response-col_status").first).to_contain_text("401", timeout=PATIENCE)

    page.get_by_role("button", name="Authorize").first.click()
    form = page.locator(".auth-container").nth(scheme)
    form.locator("input").fill(server["SHOP_KEY"])
    form.get_by_role("button", name="Authorize").click()
    page.locator(".dialog-ux .close-modal").click()
    page.get_by_role("button", name="Execute").click()
    expect(answer.locator(".response-col_status").first).to_contain_text("200", timeout=PATIENCE)
    for text in ('"total": 4', "customer@example.com"):
        expect(answer.first).to_contain_text(text)
    assert not [text for text in opened.complaints if "Policy" in text]
