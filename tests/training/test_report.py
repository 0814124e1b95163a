"""The report of apps that are called anything."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from tests.traces import trace_of
from warmscaler.cli.evaluate import run
from warmscaler.training.evaluating.evaluate import train, window
from warmscaler.training.evaluating.settings import chosen
from warmscaler.training.reporting.report import render

KEYS = ("b$$", "$x$", "$\\frac{1}{0$", "<b>&amp;", "a\0b", "line\nline", "x" * 300)


@pytest.mark.filterwarnings("ignore:Glyph")  # a replacement character is in few fonts
def test_keys_that_look_like_mathematics_or_markup_stand_as_they_are() -> None:
    rows = [(n * 40_000, n % len(KEYS), 200 * (n % 5)) for n in range(420)]
    drawn = trace_of(rows, memory_mb=[128] * len(KEYS))
    apps = tuple(replace(app, key=key) for app, key in zip(drawn.apps, KEYS, strict=True))
    part = window(replace(drawn, apps=apps), 0.5)
    model = train(part, create_ms=300.0, jobs=1)
    settings = chosen(["fixed:300", "learned"])
    fold = run(part, settings, model, 300.0, 1, keep_replays=True)
    page = render(part, fold.measured, create_ms=300.0, model=model)
    pictures = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    texts = set()
    for picture in pictures:
        root = ElementTree.fromstring(re.sub(r"xlink:", "", picture))  # noqa: S314 - our own
        texts |= {"".join(each.itertext()) for each in root.iter() if each.tag.endswith("text")}
    for shown in ("b$$", "$x$", "$\\frac{1}{0"[:10], "<b>&amp;"):
        assert f"{shown}, 128 MB" in texts or f"{shown}…, 128 MB" in texts, (shown, texts)
