"""Overrides: read as they stand, and each mistake told in one line."""

from __future__ import annotations

import pytest

from warmscaler.replicas.overrides import Override, OverridesError, floor_at, parse_overrides

GOOD = """
[[override]]
app = "checkout"
from = 2026-11-27T08:00:00+01:00
until = 2026-11-27T09:00:00+01:00
at_least = 20

[[override]]
app = "checkout"
from = 2026-11-27T07:30:00Z
until = 2026-11-27T07:45:00Z
at_least = 30
"""
EIGHT = 1_795_762_800.0


def test_they_are_read() -> None:
    first, second = parse_overrides(GOOD)
    assert first == Override("checkout", EIGHT, EIGHT + 3_600.0, 20)
    assert floor_at((first, second), "checkout", EIGHT, EIGHT) == 20
    assert floor_at((first, second), "checkout", EIGHT + 1_700.0, EIGHT + 1_800.0) == 30
    assert floor_at((first, second), "checkout", EIGHT + 3_600.0, EIGHT + 3_700.0) == 0
    assert floor_at((first, second), "other", EIGHT, EIGHT) == 0
    assert parse_overrides("") == ()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("at_least = 20", ""), "override 1: `at_least` is missing"),
        (("at_least = 20", "at_least = -1"), "override 1: `at_least` must be a whole number"),
        (("at_least = 20", "at_least = 2.5"), "override 1: `at_least` must be a whole number"),
        (("at_least = 30", "atleast = 30"), "override 2: `atleast` is not known"),
        (('app = "checkout"', "app = 3"), "override 1: `app` must be a name"),
        (("T08:00:00+01:00", "T08:00:00"), "override 1: `from` must be a date and time with its"),
        (("T09:00:00+01:00", "T08:00:00+01:00"), "override 1: `until` must be later than `from`"),
        (("[[override]]", "[override]"), "not TOML"),
        (("at_least = 20", f"at_least = {'[' * 5_000}"), "not TOML"),
        (("[[override]]", "[[overrides]]"), "`overrides` is not known here"),
    ],
)
def test_a_mistake_is_one_line(change: tuple[str, str], said: str) -> None:
    text = GOOD.replace(*change, 1)
    with pytest.raises(OverridesError) as caught:
        parse_overrides(text, "floors.toml")
    assert said in str(caught.value)
    assert str(caught.value).startswith("floors.toml: ")
    assert "\n" not in str(caught.value)
