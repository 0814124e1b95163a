"""`make table`: the tables of README and docs/advise.md, measured anew, as Markdown.

python -m tests.bench.tables [day] [traces] [advice] [--write]

`--write` puts each where it stands, between its marks. One process at a time: slow, and kind to others.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.bench.table import TRACE, step
from tests.traces import SHARED
from warmscaler.data.read import read_trace
from warmscaler.models.advised.policy import Advised
from warmscaler.models.learned.habits import Model
from warmscaler.simulator.figures import Figures
from warmscaler.simulator.replay import CREATE_MS
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
BASE, HYBRID, LEARNED = "fixed:300", "hybrid-histogram", "learned"
CAPACITY_GB = 16
OTHER_PRICES = (0.0025, 0.05)
"""Below and above the price that training finds on the day."""
MAX_ADVICE_RATIO = 0.9
NAMES = {"fixed:300": "fixed 300 s (the reference server's window)", "clairvoyant": "*clairvoyant*"}


def cost_s(figures: Figures, price: float) -> float:
    """Seconds waited, and GB·s wasted at the price."""
    return figures.wait_s + price * figures.wasted_gb_s


def less(ours: float, theirs: float) -> str:
    """What of `theirs` is gone, for a person."""
    change = 100.0 * (1.0 - ours / theirs)
    return f"{abs(change):.0f} % {'less' if change >= 0.0 else 'more'}"


def trained(path: Path) -> tuple[Window, Model]:
    part = window(read_trace(path), 0.5)
    step(f"{part.trace.name}: training")
    return part, train(part, create_ms=CREATE_MS, jobs=1)


def day() -> Iterator[str]:
    """README's table of one day: every policy, learned at its own and at two other prices."""
    part, model = trained(TRACE)
    policies = [each for each in DEFAULT_POLICIES if each != "greedy-dual"]
    policies.insert(policies.index("knative"), f"greedy-dual:{CAPACITY_GB}")
    settings = chosen(policies)
    at = next(n for n, each in enumerate(settings) if each.policy == LEARNED) + 1
    settings[at:at] = [chosen([LEARNED], price=price)[0] for price in OTHER_PRICES]
    step(f"{part.trace.name}: replaying")
    done = list(evaluate(part, settings, create_ms=CREATE_MS, model=model))
    yield (
        "| policy | score | resource | cold start | cold-start rate | p75 of apps | wasted GB·s |"
        " waited s |"
    )
    yield "|---|---|---|---|---|---|---|---|"
    for each in done:
        of = each.figures
        yield (
            "| "
            + " | ".join(
                (
                    _name(each.setting, model),
                    f"{of.score:.2f}",
                    f"{of.resource_score:.2f}",
                    f"{of.cold_start_score:.2f}",
                    "" if of.cold_start_rate is None else f"{of.cold_start_rate:.5f}",
                    ""
                    if of.app_cold_start_rate_p75 is None
                    else f"{of.app_cold_start_rate_p75:.3f}",
                    f"{of.wasted_gb_s:,.0f}",
                    f"{of.wait_s:,.0f}",
                )
            )
            + " |"
        )
    base = _of(done, BASE).figures
    yield ""
    for each in done:
        if each.setting.policy == LEARNED:
            of = each.figures
            yield (
                f"- {_name(each.setting, model)}: {less(of.wait_s, base.wait_s)} waiting and"
                f" {less(of.wasted_gb_s, base.wasted_gb_s)} wasted memory than fixed 300 s; cold starts"
                f" {100.0 * (base.cold_start_rate or 0.0):.2f} → "
                f"{100.0 * (of.cold_start_rate or 0.0):.2f} % of requests."
            )


def traces() -> Iterator[str]:
    """README's table over all shared traces."""
    yield (
        "| trace | price | score | cold-start rate | waited s | wasted GB·s |"
        " cost over fixed 300 s's | over hybrid-histogram's |"
    )
    yield "|---|---|---|---|---|---|---|---|"
    for path in sorted(SHARED.glob("*.tar.gz")):
        part, model = trained(path)
        step(f"{part.trace.name}: replaying")
        done = list(
            evaluate(part, chosen([BASE, HYBRID, LEARNED]), create_ms=CREATE_MS, model=model)
        )
        base, hybrid, ours = (_of(done, name).figures for name in (BASE, HYBRID, LEARNED))
        price = model.price_s_per_gb_s
        own = cost_s(ours, price)
        yield (
            "| "
            + " | ".join(
                (
                    part.trace.name,
                    f"{price:.3g}",
                    f"{base.score:.1f} → {ours.score:.1f}",
                    f"{base.cold_start_rate or 0.0:.4f} → {ours.cold_start_rate or 0.0:.4f}",
                    f"{base.wait_s:,.0f} → {ours.wait_s:,.0f}",
                    f"{base.wasted_gb_s:,.0f} → {ours.wasted_gb_s:,.0f}",
                    f"{own / cost_s(base, price):.2f}",
                    f"{own / cost_s(hybrid, price):.2f}",
                )
            )
            + " |"
        )


def advice() -> Iterator[str]:
    """docs/advise.md's table: advice from the first half, replayed on the second."""
    yield "| trace | price, s per GB·s | GB·h saved | seconds waited less | cost over fixed 300's |"
    yield "|---|---|---|---|---|"
    for path in sorted(SHARED.glob("*.tar.gz")):
        part, model = trained(path)
        price = model.price_s_per_gb_s
        step(f"{part.trace.name}: advice")
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


def _of(done: list[Measured], policy: str) -> Measured:
    return next(each for each in done if each.setting.policy == policy)


def _name(setting: Setting, model: Model) -> str:
    if setting.policy == LEARNED:
        price = setting.price or model.price_s_per_gb_s
        where = "of training" if setting.price is None else "told"
        return f"**learned**, price {price:.3g} ({where})"
    kind, _, number = setting.policy.partition(":")
    plain = {"fixed": f"fixed {number} s", "greedy-dual": f"greedy-dual, {number} GB"}.get(kind)
    return NAMES.get(setting.policy, plain or setting.policy)


if __name__ == "__main__":
    main()
