"""The reactive rules that are replayed: Knative's, and that of KEDA with a HorizontalPodAutoscaler.

Defaults are the platforms' own. Sources: Knative Serving, `pkg/autoscaler/scaling/autoscaler.go` and
the ConfigMap `config-autoscaler`; Kubernetes, "Horizontal Pod Autoscaling" (algorithm details,
default behaviour); KEDA, "Scaling Deployments" (pollingInterval, cooldownPeriod).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import NamedTuple

NONE, KNATIVE, KEDA = 0, 1, 2


class Settings(NamedTuple):
    """A rule as the loop reads it: one type for both, so that it is compiled once.

    What the other rule alone has stays 0. Times in s.
    """

    kind: int = NONE
    tick_s: float = 0.0
    window_s: float = 0.0
    """That concurrency is averaged over; 0 is what is there now."""
    utilisation: float = 0.0
    delay_s: float = 0.0
    """For which the most that was wanted of late is held."""
    least: int = 0
    panic_share: float = 0.0
    panic_threshold: float = 0.0
    zero_grace_s: float = 0.0
    cooldown_s: float = 0.0
    tolerance: float = 0.0
    poll_s: float = 0.0


FLOOR_ONLY = Settings()
"""No rule: replicas are what the floor says."""


@dataclass(frozen=True, slots=True)
class Knative:
    """Concurrency averaged over a stable and a panic window, looked at every 2 s."""

    stable_s: float = 60.0
    utilisation: float = 0.7
    scale_down_delay_s: float = 0.0
    least: float = 0.0
    panic_share: float = 0.1
    panic_threshold: float = 2.0
    zero_grace_s: float = 30.0
    tick_s: float = 2.0

    def settings(self) -> Settings:
        """As the loop reads it."""
        return Settings(
            kind=KNATIVE,
            tick_s=self.tick_s,
            window_s=self.stable_s,
            utilisation=self.utilisation,
            delay_s=self.scale_down_delay_s,
            least=int(self.least),
            panic_share=self.panic_share,
            panic_threshold=self.panic_threshold,
            zero_grace_s=self.zero_grace_s,
        )

    @property
    def label(self) -> str:
        """As a table names it."""
        return (
            f"knative {self.stable_s:g} s, target {self.utilisation:g}"
            + (f", delay {self.scale_down_delay_s:g} s" if self.scale_down_delay_s else "")
            + (f", least {self.least:g}" if self.least else "")
            + (f", grace {self.zero_grace_s:g} s" if self.zero_grace_s != 30.0 else "")
        )


@dataclass(frozen=True, slots=True)
class Keda:
    """HPA every 15 s on the requests there, from and to zero by KEDA's polling."""

    stabilisation_s: float = 300.0
    utilisation: float = 0.7
    cooldown_s: float = 300.0
    least: float = 0.0
    metric_window_s: float = 0.0
    tolerance: float = 0.1
    poll_s: float = 30.0
    tick_s: float = 15.0

    def settings(self) -> Settings:
        """As the loop reads it."""
        return Settings(
            kind=KEDA,
            tick_s=self.tick_s,
            window_s=self.metric_window_s,
            utilisation=self.utilisation,
            delay_s=self.stabilisation_s,
            least=int(self.least),
            cooldown_s=self.cooldown_s,
            tolerance=self.tolerance,
            poll_s=self.poll_s,
        )

    @property
    def label(self) -> str:
        """As a table names it."""
        return (
            f"keda {self.stabilisation_s:g} s, target {self.utilisation:g}"
            f", cool-down {self.cooldown_s:g} s"
            + (f", least {self.least:g}" if self.least else "")
            + (f", mean of {self.metric_window_s:g} s" if self.metric_window_s else "")
        )


Rule = Knative | Keda


def grid() -> list[Rule]:
    """The settings that each rule is tuned over in hindsight; the defaults are among them."""
    found: list[Rule] = [
        Knative(stable, utilisation, delay, least, zero_grace_s=grace)
        for stable, utilisation, delay, least, grace in product(
            (6.0, 15.0, 60.0, 300.0, 600.0),
            (0.7, 1.0),
            (0.0, 300.0, 900.0, 3600.0),
            (0.0, 1.0),
            (6.0, 30.0),
        )
        if grace == 30.0 or (delay == 0.0 and least == 0.0)
    ]
    found += [
        Keda(stabilisation, utilisation, cooldown, least)
        for stabilisation, utilisation, cooldown, least in product(
            (0.0, 60.0, 300.0, 900.0, 3600.0), (0.7, 1.0), (30.0, 300.0, 3600.0), (0.0, 1.0)
        )
    ]
    return found


def bases(rule: Rule) -> list[Rule]:
    """The settings in which the platform's own rule may stand under a floor, the leanest first.

    It adds what a floor missed. Lean ones hold nothing for long; others keep what a burst started.
    """
    if isinstance(rule, Knative):
        return [
            replace(
                rule,
                stable_s=stable_s,
                utilisation=share,
                scale_down_delay_s=delay_s,
                zero_grace_s=6.0,
            )
            for share in (1.0, 0.7)
            for delay_s in (0.0, 300.0, 900.0, 3_600.0)
            for stable_s in (6.0, 60.0)
        ]
    return [
        replace(rule, stabilisation_s=stabilisation_s, utilisation=share, cooldown_s=cooldown_s)
        for share in (1.0, 0.7)
        for cooldown_s in (0.0, 300.0, 3_600.0)
        for stabilisation_s in (0.0, 60.0, 900.0)
    ]
