"""A price that is moved until what is spent of an allowance, over time, is the allowance.

**Method.** Quantile tracking (A. Angelopoulos, E. Candes, R. Tibshirani, "Conformal PID Control for
Time Series Prediction", NeurIPS 2023, section 2.1) on the logarithm of the price: it falls by a step
for each unit spent, and rises by a step for each unit allowed. With steps that shrink as
`(FIRST + n) ** -SHRINK` after n units (A. Angelopoulos, R. Barber, S. Bates, "Online conformal
prediction with decaying step sizes", ICML 2024) it comes to rest where traffic is stationary. Their
bound is ours: as the logarithm stays between two limits, what was spent differs from what was allowed
by no more than their distance over the last step, whatever the traffic was.
"""

from __future__ import annotations

from math import exp, inf, log

from warmscaler.models.objectives.limits import HIGH, LOW

FIRST = 30.0
"""The starting price was found on as many units, so to speak."""
SHRINK = 0.6
"""Above a half, so that the price comes to rest; below one, so that it gets everywhere."""
LEAST_STEP = 0.01
"""Traffic changes: after a hundred units the price must be able to be another."""
SLOWEST_MS = 300_000.0
"""Where nothing is spent the price rises e-fold in so long at the soonest, on average since it began:
it takes a while until another price shows, as instances are kept for minutes."""
TOLD = 0.05
"""The price that is told follows once it is off by this share: plans are made anew then."""


class Controller:
    """Time is an input (ms); the same events give the same price."""

    __slots__ = ("_last_ms", "_limits", "direction", "log_price", "passed_ms", "told", "units")

    def __init__(
        self, start: float, *, direction: float = 1.0, limits: tuple[float, float] = (LOW, HIGH)
    ) -> None:
        """`start` in seconds per GB·s, held to the limits: at them the price stays, and nothing adds up
        behind. `direction` 1: a dearer GB·s makes more be spent, as of waiting; -1: less, as of memory."""
        self.direction = direction
        self._limits = log(limits[0]), log(limits[1])
        self.log_price = self._held(log(start))
        self.told = exp(self.log_price)
        """The price to go by."""
        self.units = 0.0
        """Allowed so far."""
        self.passed_ms = 0.0
        """While they were."""
        self._last_ms = inf

    def tell(self, now_ms: float, allowed: float, spent: float) -> bool:
        """So many units were allowed, and so many spent, since it was last told. Returns whether `told`
        is another."""
        self.passed_ms += max(now_ms - self._last_ms, 0.0)
        self._last_ms = now_ms
        self.units += allowed
        move = self.direction * self.step() * (allowed - spent)
        return self.move_to(self.log_price + move)

    def step(self) -> float:
        """What the logarithm of the price moves for a unit, now."""
        step: float = max((FIRST + self.units) ** -SHRINK, LEAST_STEP)
        if self.units * SLOWEST_MS * step > self.passed_ms:
            return self.passed_ms / (self.units * SLOWEST_MS)
        return step

    def move_to(self, log_price: float) -> bool:
        """As far as the limits go. Returns whether `told` is another."""
        self.log_price = self._held(log_price)
        if abs(self.log_price - log(self.told)) <= TOLD:
            return False
        self.told = exp(self.log_price)
        return True

    def _held(self, log_price: float) -> float:
        low, high = self._limits
        return min(max(log_price, low), high)
