"""A person starts a retrain in Prefect's UI, in a real browser, and reads what came of it.

With RESTILL_SCREENSHOTS=FOLDER the pages are kept there: the pictures of the documentation are made so.
"""

import os
import shutil
from pathlib import Path
from uuid import UUID

import pytest
from playwright.sync_api import Page, TimeoutError, expect, sync_playwright
from stack import Stack

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SHOWN_MS = 120_000  # until a page shows what it is waited for on a busy machine

pytestmark = [
    pytest.mark.timeout(1200),
    pytest.mark.skipif(
        CHROMIUM is None and "RESTILL_REQUIRE_SERVICES" not in os.environ,
        reason="no Chromium on this machine (Debian: apt-get install chromium)",
    ),
]


@pytest.fixture(scope="module")
def page(stack):
    assert CHROMIUM is not None, "RESTILL_REQUIRE_SERVICES is set, and there is no Chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        opened = browser.new_page(viewport={"width": 1280, "height": 1000})
        opened.set_default_timeout(SHOWN_MS)
        yield opened
        browser.close()


def keep(page: Page, name: str, *, full_page: bool = False) -> None:
    if folder := os.environ.get("RESTILL_SCREENSHOTS"):
        page.wait_for_timeout(8000)  # graphs are drawn last, and nothing tells when; no test waits for this
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=full_page)


def open_form(page: Page, stack: Stack) -> None:
    """Go from the list of deployments to the form of `retrain`, as a person does."""
    retrain = stack.client.read_deployment_by_name("retrain/cpu")
    page.goto(f"{stack.url}/v2/deployments")
    page.locator(f'a[href$="/deployments/deployment/{retrain.id}"]').first.click()
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_text("Custom run").click()
    expect(page.get_by_label("purpose")).to_be_visible(timeout=SHOWN_MS)


def submit(page: Page) -> UUID:
    """Submit a form that is filled in rightly; a server that was too busy to write (503) is asked again.

    Returns: the run that the server made of it.
    """
    page.wait_for_load_state("networkidle")  # editors that are loaded late move the button
    while True:
        try:
            with page.expect_response(lambda answer: answer.url.endswith("/create_flow_run")) as answered:
                page.get_by_role("button", name="Submit").click()
        except TimeoutError as error:
            refused = page.locator(":invalid").evaluate_all("fields => fields.map(field => field.outerHTML)")
            pytest.fail(f"{error}\nrefused by the browser: {refused}\n{page.locator('body').inner_text()}")
        if answered.value.status != 503:
            break
    assert answered.value.ok, answered.value.text()
    return UUID(answered.value.json()["id"])


def open_artifact(page: Page, key: str) -> None:
    """Go from a run's list of artifacts to one of them."""
    tab = page.get_by_role("tab", name="Artifacts")
    tab.click()
    page.locator(f'a[href*="artifacts/key/{key}"]').first.click()
    page.locator('a[href*="/artifacts/artifact/"]').first.click()


def test_the_form_says_what_each_value_means_and_refuses_a_wrong_one(page, stack):
    open_form(page, stack)
    for said in ("why this run is made", "Most passes over the training split.", "Softens teacher and student alike."):
        expect(page.get_by_text(said)).to_be_visible()
    page.get_by_label("Student").click()  # a drop-down of what there is
    for kind in ("siamese-lstm", "static", "cnn"):
        expect(page.get_by_role("option", name=kind)).to_be_visible()
    page.keyboard.press("Escape")
    before = len(stack.asked())
    epochs = page.get_by_label("Epochs")
    epochs.fill("0")
    page.get_by_role("button", name="Submit").click()
    assert "greater than or equal to 1" in epochs.evaluate("field => field.validationMessage")
    keep(page, "form-refuses")
    epochs.fill("")
    page.get_by_label("data_version").fill("../../etc")
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_text("does not match").first).to_be_visible(timeout=SHOWN_MS)
    keep(page, "form-refuses-data-version", full_page=True)
    assert len(stack.asked()) == before
    assert "/run" in page.url


def test_a_run_started_in_the_form_shows_how_it_went(page, stack):
    open_form(page, stack)
    keep(page, "form", full_page=True)
    page.get_by_label("purpose").fill("from the browser")
    page.get_by_label("Epochs").fill("3")
    run = submit(page)
    ended = stack.until_final(run)
    assert ended.state.is_completed(), ended.state
    assert ended.parameters["overrides"]["epochs"] == 3
    assert ended.name.startswith("retrain-")
    assert ended.name.endswith("-from-the-browser")
    assert "Promoted" in str(ended.state.message)

    page.goto(f"{stack.url}/v2/runs/flow-run/{run}")
    expect(page.get_by_text(ended.name).first).to_be_visible(timeout=SHOWN_MS)
    keep(page, "run")
    page.get_by_role("tab", name="Artifacts").click()
    for artifact in ("gates", "report", "data-docs", "batch", "distillation"):
        expect(page.locator(f'a[href*="artifacts/key/{artifact}"]').first).to_be_visible(timeout=SHOWN_MS)
    keep(page, "artifacts", full_page=True)
    address = page.url

    open_artifact(page, "gates")
    for shown in ("accuracy_floor", "p99_budget", "pass"):
        expect(page.get_by_role("cell", name=shown).first).to_be_visible(timeout=SHOWN_MS)
    keep(page, "gates", full_page=True)

    page.goto(address)
    open_artifact(page, "report")
    picture = page.locator('img[src^="data:image"]').first
    expect(picture).to_be_visible(timeout=SHOWN_MS)
    assert all(
        image.evaluate("image => image.naturalWidth") > 0 for image in page.locator('img[src^="data:image"]').all()
    )
    keep(page, "report")
