"""What holds whatever was forecast: in use, steps, cool-down, least, most, overrides."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from warmscaler.replicas.overrides import Override, floor_at
from warmscaler.replicas.spec import AppSpec

_RECENT = 512
"""Targets that cool-down remembers; a falling staircase with more steps loses its lowest ones."""


class Bounds:
    """Turns the target of a look into the replicas wanted, and says which rule changed it.

    Steps are counted from the look before: within one look, asking again gives no more of them. A
    look is another one from 3/4 of `look_s` on, for none comes at exactly its time.
    """

    __slots__ = ("_before", "_last_s", "_look_s", "_now", "_overrides", "_recent", "_spec")

    def __init__(self, spec: AppSpec, look_s: float, overrides: Sequence[Override] = ()) -> None:
        self._spec, self._look_s = spec, look_s
        self._overrides = tuple(each for each in overrides if each.app == spec.app)
        self._recent: deque[tuple[float, int]] = deque(maxlen=_RECENT)
        self._before: int | None = None
        self._now: int | None = None
        self._last_s = -float("inf")

    def apply(self, now_s: float, target: int, in_use: int) -> tuple[int, str]:
        """The replicas wanted at `now_s`, and the rule that changed `target` last ("" for none)."""
        spec, rule = self._spec, ""
        if now_s >= self._last_s + 0.75 * self._look_s:
            self._before, self._last_s = self._now, now_s
        wanted = target
        cooled = self._cooled(now_s, target)
        if cooled > wanted:
            wanted, rule = cooled, f"cool-down of {spec.cool_down_s:g} s"
        if self._before is not None:
            if spec.step_up is not None and wanted > self._before + spec.step_up:
                wanted, rule = self._before + spec.step_up, f"step up of {spec.step_up}"
            if spec.step_down is not None and wanted < self._before - spec.step_down:
                wanted, rule = self._before - spec.step_down, f"step down of {spec.step_down}"
        floor = floor_at(self._overrides, spec.app, now_s, now_s + spec.start_s + self._look_s)
        if floor > wanted:
            wanted, rule = floor, f"override of at least {floor}"
        if in_use > wanted:
            wanted, rule = in_use, f"{in_use} in use"
        if spec.least > wanted:
            wanted, rule = spec.least, f"at least {spec.least}"
        if wanted > spec.most:
            wanted, rule = spec.most, f"at most {spec.most}"
        self._now = wanted
        return wanted, rule

    def _cooled(self, now_s: float, target: int) -> int:
        """The largest target of the last `cool_down_s`; the deque keeps falling targets only."""
        if not self._spec.cool_down_s:
            return target
        recent = self._recent
        while recent and recent[0][0] < now_s - self._spec.cool_down_s:
            recent.popleft()
        while recent and recent[-1][1] <= target:
            recent.pop()
        recent.append((now_s, target))
        return recent[0][1]
