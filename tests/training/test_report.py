"""The report: what it says, that nothing is left off its chart, and that it works in a browser."""

from __future__ import annotations

import hashlib
import re
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from html import unescape
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from tests.browser import chromium
from tests.traces import trace_of
from warmscaler.data.trace import Trace
from warmscaler.models.learned.habits import Model
from warmscaler.models.registry import make_policy
from warmscaler.simulator.figures import queued
from warmscaler.simulator.replay import replay
from warmscaler.training.evaluating.evaluate import Measured, Window, evaluate, window
from warmscaler.training.evaluating.settings import chosen
from warmscaler.training.reporting.headline import headline
from warmscaler.training.reporting.origin import Origin, sha256_of
from warmscaler.training.reporting.plots import draw_distribution, frontier
from warmscaler.training.reporting.report import render

pytestmark = pytest.mark.filterwarnings("ignore:Glyph")  # few fonts have all of a key
KEYS = (
    *("b$$", "$x$", "</script><script>alert(1)</script>", r"\frac{$1$}{2}", "<b>&amp;"),
    *("a\0b", "line\nline", "x" * 300),
)
ORIGIN = Origin("1.2.3", "c0de" * 16, datetime(2026, 1, 2, tzinfo=UTC), "scaler evaluate t", "ab")


@pytest.fixture(scope="module")
def trace() -> Trace:
    rows = [(k * (90_000 + 1_000 * app), app, 900) for app in range(len(KEYS)) for k in range(60)]
    rows += [(k * 400_000 + 5, 0, 2_000) for k in range(6)]
    made = trace_of(rows, memory_mb=[128 * (app + 1) for app in range(len(KEYS))])
    apps = tuple(replace(app, key=key) for app, key in zip(made.apps, KEYS, strict=True))
    return replace(made, apps=apps)


@pytest.fixture(scope="module")
def part(trace: Trace) -> Window:
    return window(trace, 0.5)


@pytest.fixture(scope="module")
def measured(part: Window) -> list[Measured]:
    policies = ("fixed:10", "fixed:300", "fixed:7200", "learned", "clairvoyant")
    settings = chosen(policies, price=0.01)
    return list(evaluate(part, settings, create_ms=300, model=Model(), keep_replays=True))


@pytest.fixture(scope="module")
def page(part: Window, measured: list[Measured]) -> str:
    return render(part, measured, create_ms=300, origin=ORIGIN, model=Model())


def tips(page: str, chart: str) -> list[str]:
    """What the marks of one chart say, of its wide drawing."""
    _, _, rest = page.partition(f'id="chart-{chart}"')
    wide, _, _ = rest.partition('<div class="narrow">')
    return [unescape(each) for each in re.findall(r"<title>(.*?)</title>", wide, re.DOTALL)]


def test_every_setting_is_on_the_chart_those_without_waiting_too(
    page: str, measured: list[Measured]
) -> None:
    assert {each.figures.wait_s > 0.0 for each in measured} == {True, False}
    said = [each.splitlines()[0] for each in tips(page, "frontier")]
    assert sorted(said) == sorted(each.setting.label for each in measured)


@pytest.mark.filterwarnings("error:constrained_layout")
def test_the_smallest_trace_has_its_points_on_the_chart() -> None:
    """One request of one app, and no waiting: its one setting stands at 0, its app is a line."""
    of_two = window(trace_of([(0, 0, 100), (60_000, 0, 100)], memory_mb=[256]), 0.5)
    (alone,) = evaluate(of_two, chosen(("fixed:300",)), create_ms=300, model=Model())
    drawing = frontier([alone], narrow=False)
    (line,) = drawing.axes.get_lines()
    at = drawing.axes.transData.transform(line.get_xydata())[0]
    assert drawing.axes.get_window_extent().contains(at[0], at[1])
    assert np.array(line.get_ydata()).tolist() == [0.0]
    assert [tick for tick in drawing.axes.get_xticks() if tick > 0.0]
    of_apps = draw_distribution({"fixed:300": np.array([15.0])}, "GB·s", log=True, narrow=False)
    assert np.array(of_apps.axes.get_lines()[0].get_ydata()).tolist() == [0.0, 1.0]
    assert of_apps.axes.get_xticks().tolist() == [15.0]


def test_keys_that_look_like_mathematics_or_markup_stand_as_they_are(page: str) -> None:
    texts = set()
    for picture in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        root = ElementTree.fromstring(picture)  # noqa: S314 - our own
        texts |= {"".join(each.itertext()) for each in root.iter() if each.tag.endswith("text")}
    for shown in ("b$$", "$x$", "</script><sc…", r"\frac{$1$}{2…", "<b>&amp;", "xxxxxxxxxxxx…"):
        assert shown in texts
    assert "<script>alert" not in page


def test_headline_shows_the_bad_with_the_good(measured: list[Measured]) -> None:
    memory, money, cold, waiting = headline(measured, "fixed:300", 3.6)
    base, ours = measured[1].figures, measured[3].figures
    assert [each.name for each in (memory, money, cold, waiting)] == [
        "Memory wasted",
        "Money for instances",
        "Cold starts",
        "Waiting",
    ]
    assert money.before == f"{base.slot_gb_s / 1_000.0:,.2f}"
    assert cold.before == f"{base.cold_start_rate:.2%}"
    assert waiting.before == f"{base.wait_s:,.0f}"
    assert f"{ours.wait_s:,.0f}" in waiting.after
    assert headline(measured, "nosuch", 1.0) == []
    still = [replace(each, figures=replace(each.figures, wait_s=0.0)) for each in measured]
    waiting = headline(still, "fixed:300", 1.0)[3]
    assert (waiting.verdict, waiting.said) == ("same", "as before")
    still[3] = replace(still[3], figures=replace(still[3].figures, wait_s=5.0))
    waiting = headline(still, "fixed:300", 1.0)[3]
    assert (waiting.verdict, waiting.said) == ("worse", "from nothing")


def test_the_baseline_can_be_chosen(part: Window, measured: list[Measured]) -> None:
    bare = [replace(each, replayed=None) for each in measured]
    page = render(part, bare, create_ms=300, origin=ORIGIN, baseline="fixed:7200")
    assert "<b>fixed:7200</b> to <b>learned</b>" in page


def test_queued_is_who_waited_for_a_busy_instance() -> None:
    # One starts it; one waits for that same start and then for its execution, one during it.
    trace = trace_of([(0, 0, 5_000), (3_000, 0, 10), (60_000, 0, 10)])
    result = replay(trace, make_policy("learned", model=Model(), price=1.0))
    assert result.cold.tolist()[:2] == [True, True]
    served_by_first = result.slot[1] == result.slot[0]
    assert queued(trace, result).tolist() == [False, bool(served_by_first), False]
    early = replay(trace, make_policy("fixed:10"))
    assert not queued(trace, early).any()


def test_hash_is_what_sha256sum_prints(tmp_path: Path) -> None:
    folder = tmp_path / "trace"
    (folder / "sub").mkdir(parents=True)
    (folder / "requests").write_text("a")
    (folder / "sub" / "metas").write_text("b")
    listed = subprocess.run(
        ["sha256sum", "requests", "sub/metas"], cwd=folder, capture_output=True, check=True
    ).stdout
    assert sha256_of(folder) == hashlib.sha256(listed).hexdigest()
    assert sha256_of(folder / "requests") == hashlib.sha256(b"a").hexdigest()
    assert sha256_of(tmp_path / "nothing") is None


def test_in_a_browser(page: str, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(page, encoding="utf-8")
    first = "document.querySelector('table.sortable tbody tr td').textContent"
    with chromium(tmp_path / "browser") as browser:
        for width, dark in ((1_400, False), (800, True), (500, False)):
            browser.open(file.as_uri(), width=width, dark=dark)
            assert browser.run("document.documentElement.scrollWidth") <= width
            # The drawing that is shown has letters of at least 10 px.
            heights = browser.run(
                "[...document.querySelectorAll('.chart text')].map(t =>"
                " t.getBoundingClientRect().height).filter(h => h > 0)"
            )
            assert heights
            assert min(heights) >= 10.0
            browser.point("table.sortable th:nth-child(2)", click=True)
            browser.wait_for(f"{first} === 'clairvoyant'")
            browser.point("table.sortable th:nth-child(2)", click=True)
            browser.wait_for(f"{first} !== 'clairvoyant'")
            shown = "narrow" if width <= 640 else "wide"
            browser.point(f"#chart-frontier .{shown} use[data-tip]")
            browser.wait_for("document.querySelector('.tip.shown')")
            assert "GB·s" in browser.run("document.querySelector('.tip').textContent")
        assert browser.errors == []
