"""axe-core, the checker of accessibility, run in a page."""

from pathlib import Path

from playwright.sync_api import Page

SOURCE = Path(__file__).parents[1] / "node" / "node_modules" / "axe-core" / "axe.min.js"
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
RUN = "tags => axe.run(document, {runOnly: tags, resultTypes: ['violations']})"


def find_violations(page: Page) -> list[str]:
    """Return what in the page is against WCAG 2.2 AA, or against what axe's makers think good practice."""
    if page.evaluate("typeof axe === 'undefined'"):
        page.evaluate(SOURCE.read_text(encoding="utf-8"))
    return [
        f"{violation['id']}: {node['failureSummary']} in {node['html']}"
        for violation in page.evaluate(RUN, TAGS)["violations"]
        for node in violation["nodes"]
    ]
