"""`make table`: the tables of README and docs/advise.md, measured anew, as Markdown.

python -m tests.bench.tables [day] [traces] [advice] [--write]

`--write` puts each where it stands, between its marks. One process at a time: slow, and kind to others.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from tests.bench.table import TRACE, step
from tests.traces import SHARED
from warmscaler.data.read import read_trace
from warmscaler.models.advised.policy import Advised
from warmscaler.models.learned.habits import Model
from warmscaler.models.objectives.words import SAFE, SCORE, Kind, Objective, at_price
from warmscaler.simulator.figures import Figures
from warmscaler.simulator.replay import CREATE_MS
from warmscaler.training.advising.safe import safe_price
from warmscaler.training.advising.search import find_advice
from warmscaler.training.evaluating.evaluate import (
    Measured,
    Window,
    evaluate,
    measure,
    train,
    window,
)
from warmscaler.training.evaluating.settings import DEFAULT_POLICIES, Setting, chosen

ROOT = Path(__file__).parents[2]
BASE, LEARNED = "fixed:300", "learned"
CAPACITY_GB = 16
ASKED = {
    "**learned** (safe, as it is unless told)": SAFE,
    "**learned**, `--objective score`": SCORE,
    "**learned**, `--price 0.0025`": at_price(0.0025),
    "**learned**, `--price 0.05`": at_price(0.05),
}
MAX_ADVICE_RATIO = 0.9


def cost_s(figures: Figures, price: float) -> float:
    """Seconds waited, and GB·s wasted at the price."""
    return figures.wait_s + price * figures.wasted_gb_s


def less(ours: float, theirs: float) -> str:
    """What of `theirs` is gone, for a person."""
    change = 100.0 * (1.0 - ours / theirs)
    return f"{abs(change):.0f} % {'less' if change >= 0.0 else 'more'}"


@cache
def trained(path: Path, objective: Objective) -> Model:
    """On the first half, for that objective."""
    part = whole(path)
    step(f"{part.trace.name}: training for {objective}")
    return train(part, create_ms=CREATE_MS, objective=objective, jobs=1)


def whole(path: Path) -> Window:
    return window(read_trace(path), 0.5)


def learned(path: Path, part: Window, objective: Objective) -> Measured:
    """Learned as `scaler evaluate --objective` has it: trained for it, and moved by it."""
    model = trained(path, SAFE if objective.kind is Kind.PRICE else objective)
    (setting,) = chosen([LEARNED], objective=objective)
    return measure(part, setting, CREATE_MS, model)


def day() -> Iterator[str]:
    """README's table of one day: every policy, learned by what is asked of it."""
    part = whole(TRACE)
    policies = [each for each in DEFAULT_POLICIES if each not in ("greedy-dual", LEARNED)]
    policies.insert(policies.index("knative"), f"greedy-dual:{CAPACITY_GB}")
    step(f"{part.trace.name}: replaying")
    done = list(evaluate(part, chosen(policies), create_ms=CREATE_MS))
    ours = {name: learned(TRACE, part, objective) for name, objective in ASKED.items()}
    best = done.pop()  # the clairvoyant reference stands last
    yield (
        "| policy | score | resource | cold start | cold-start rate | of starts | p75 of apps |"
        " wasted GB·s | waited s |"
    )
    yield "|---|---|---|---|---|---|---|---|---|"
    for name, each in (*((_name(each.setting), each) for each in done), *ours.items()):
        yield _row(name, each.figures)
    yield _row(f"*{best.setting.policy}*", best.figures)
    base = next(each for each in done if each.setting.policy == BASE).figures
    yield ""
    for name, each in ours.items():
        of = each.figures
        yield (
            f"- {name}: {less(of.wait_s, base.wait_s)} waiting and"
            f" {less(of.wasted_gb_s, base.wasted_gb_s)} wasted memory than fixed 300 s; cold starts"
            f" {100.0 * (base.cold_start_rate or 0.0):.2f} → "
            f"{100.0 * (of.cold_start_rate or 0.0):.2f} % of requests, of which"
            f" {100.0 * (of.start_rate or 0.0):.2f} wait for a start and not behind a busy instance."
        )


def traces() -> Iterator[str]:
    """README's table over all shared traces: fixed 300 s, learned as it is unless told, and for the
    score."""
    yield "| trace | waited s | wasted GB·s | cold-start rate | score |"
    yield "|---|---|---|---|---|"
    for path in sorted(SHARED.glob("*.tar.gz")):
        part = whole(path)
        base = measure(part, Setting(BASE), CREATE_MS)
        of = [
            each.figures for each in (base, learned(path, part, SAFE), learned(path, part, SCORE))
        ]
        columns = (
            [f"{each.wait_s:,.0f}" for each in of],
            [f"{each.wasted_gb_s:,.0f}" for each in of],
            [f"{each.cold_start_rate or 0.0:.4f}" for each in of],
            [f"{each.score:.1f}" for each in of],
        )
        yield f"| {part.trace.name} | " + " | ".join(map(" · ".join, columns)) + " |"


def advice() -> Iterator[str]:
    """docs/advise.md's table: advice from the first half, replayed on the second."""
    yield "| trace | price, s per GB·s | GB·h saved | seconds waited less | cost over fixed 300's |"
    yield "|---|---|---|---|---|"
    for path in sorted(SHARED.glob("*.tar.gz")):
        part = whole(path)
        step(f"{part.trace.name}: advice")
        price = safe_price(part.training, today=BASE, create_ms=CREATE_MS)
        made = find_advice(part.training, price=price, create_ms=CREATE_MS)
        ours = measure(part, Setting("advice"), CREATE_MS, own=Advised(made)).figures
        base = measure(part, Setting(BASE), CREATE_MS).figures
        ratio = cost_s(ours, price) / cost_s(base, price)
        mark = "" if ratio <= MAX_ADVICE_RATIO else f" (above {MAX_ADVICE_RATIO})"
        yield (
            f"| {part.trace.name} | {price:.3g} |"
            f" {(base.slot_gb_s - ours.slot_gb_s) / 3_600.0:,.1f} |"
            f" {base.wait_s - ours.wait_s:,.0f} | {ratio:.3f}{mark} |"
        )


TABLES: dict[str, tuple[Callable[[], Iterator[str]], Path, str]] = {
    "day": (day, ROOT / "README.md", "figures"),
    "traces": (traces, ROOT / "README.md", "traces"),
    "advice": (advice, ROOT / "docs/advise.md", "advice"),
}


def put(path: Path, mark: str, text: str) -> None:
    """Puts `text` between `<!-- MARK -->` and `<!-- /MARK -->`. Raises ValueError without them."""
    begin, end = f"<!-- {mark} -->\n", f"<!-- /{mark} -->"
    found = re.subn(
        f"{begin}.*?{end}", lambda _: f"{begin}{text}{end}", path.read_text(), flags=re.DOTALL
    )
    if found[1] != 1:
        raise ValueError(f"{path}: has no single {begin.strip()} … {end}")
    path.write_text(found[0])


def main() -> None:
    os.nice(5)
    asked = [word for word in sys.argv[1:] if word != "--write"] or list(TABLES)
    if unknown := [word for word in asked if word not in TABLES]:
        sys.exit(f"{unknown[0]}: there are {', '.join(TABLES)}")
    if not any(SHARED.glob("*.tar.gz")):
        sys.exit(f"no trace: {SHARED} is not there")
    for name in asked:
        lines, path, mark = TABLES[name]
        print(f"<!-- {mark}: {path.relative_to(ROOT)} -->", flush=True)
        text = ""
        for line in lines():
            print(line, flush=True)
            text += line + "\n"
        if "--write" in sys.argv[1:]:
            put(path, mark, text)


def _row(name: str, of: Figures) -> str:
    rates = of.cold_start_rate, of.start_rate
    p75 = of.app_cold_start_rate_p75
    columns = (
        name,
        f"{of.score:.2f}",
        f"{of.resource_score:.2f}",
        f"{of.cold_start_score:.2f}",
        *("" if rate is None else f"{rate:.5f}" for rate in rates),
        "" if p75 is None else f"{p75:.3f}",
        f"{of.wasted_gb_s:,.0f}",
        f"{of.wait_s:,.0f}",
    )
    return f"| {' | '.join(columns)} |"


def _name(setting: Setting) -> str:
    kind, _, number = setting.policy.partition(":")
    plain = {"fixed": f"fixed {number} s", "greedy-dual": f"greedy-dual, {number} GB"}.get(kind)
    return f"{plain} (the reference server's window)" if setting.policy == BASE else plain or kind


if __name__ == "__main__":
    main()
