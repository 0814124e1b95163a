"""One Prometheus, asked over HTTP: time-outs, a bound on what is read, no proxy."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from urllib.parse import unquote, urlsplit

import httpx2

from warmscaler.service.looking.queries import (
    Away,
    QueryError,
    Sample,
    history,
    instant,
    is_number,
    joined,
    refusal,
)

CONNECT_S = 2.0
ANSWER_S = 10.0
MOST_ANSWER_BYTES = 16 << 20
MOST_POINTS = 10_000
"""Of one range query; Prometheus gives 11,000 a series at the most."""
KEPT_CONNECTIONS = 8
MEASURES = "count(up)"
"""Has a value whenever Prometheus measured anything."""
REFUSED = (400, 422, 503)
"""With a word of Prometheus' own: the query cannot be read, cannot be worked out, took too long."""


def client() -> httpx2.AsyncClient:
    """One for every Prometheus that is asked; belongs to the running event loop."""
    return httpx2.AsyncClient(
        timeout=httpx2.Timeout(ANSWER_S, connect=CONNECT_S),
        # Each is asked one request at a time: ones that do not answer must not keep the others waiting.
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=KEPT_CONNECTIONS),
        trust_env=False,
    )


class Prometheus:
    """At one address, http://HOST:PORT with the path before /api, if there is one.

    A name and a password in it are sent, and shown nowhere.
    """

    def __init__(self, address: str, http: httpx2.AsyncClient) -> None:
        parts = urlsplit(address)
        user, _, at = parts.netloc.rpartition("@")
        name, _, password = user.partition(":")
        self._auth = (unquote(name), unquote(password)) if user else None
        self.shown = parts._replace(netloc=at).geturl()
        """The address without them."""
        self._base = self.shown.rstrip("/") + "/api/v1/"
        self._http = http

    async def now(self, queries: Sequence[str], at_s: float) -> list[Sample]:
        """A sample of each, at a time. Raises Away; QueryError where one of them spoils it."""
        answer = await self._ask("query", {"query": joined(queries), "time": f"{at_s:.3f}"})
        return instant(answer, len(queries))

    async def history(
        self,
        query: str,
        from_s: float,
        to_s: float,
        step_s: float,
        *,
        nothing_is_zero: bool = False,
    ) -> list[tuple[float, float]]:
        """Every `step_s` from the one to the other: time and value. Raises Away, QueryError.

        With `nothing_is_zero` there is a 0 where the query found no series, and Prometheus measured.
        """
        found: dict[float, float] = {}
        while from_s <= to_s:
            last_s = min(to_s, from_s + (MOST_POINTS - 1) * step_s)
            if nothing_is_zero:
                with suppress(QueryError):  # then that is not known
                    measured = await self._range(MEASURES, from_s, last_s, step_s)
                    found |= dict.fromkeys((at_s for at_s, _ in measured), 0.0)
            found |= dict(await self._range(query, from_s, last_s, step_s))
            from_s += MOST_POINTS * step_s
        return [(at_s, value) for at_s, value in sorted(found.items()) if is_number(value)]

    async def _range(
        self, query: str, from_s: float, to_s: float, step_s: float
    ) -> list[tuple[float, float]]:
        ask = {"query": query, "start": f"{from_s:.3f}", "end": f"{to_s:.3f}"}
        answer = await self._ask("query_range", ask | {"step": f"{step_s:.3f}"})
        return history(answer, from_s, to_s, step_s)

    async def _ask(self, what: str, form: dict[str, str]) -> bytes:
        content = bytearray()
        try:
            async with (
                asyncio.timeout(CONNECT_S + ANSWER_S),  # of all: one may drip
                self._http.stream("POST", self._base + what, data=form, auth=self._auth) as reply,
            ):
                async for piece in reply.aiter_bytes():
                    content += piece
                    if len(content) > MOST_ANSWER_BYTES:
                        raise QueryError(
                            f"the answer has more than {MOST_ANSWER_BYTES >> 20} MB: ask for less"
                        )
        except (httpx2.ReadTimeout, TimeoutError):
            raise Away(f"it takes longer than {ANSWER_S:g} s") from None
        except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError) as error:
            raise Away(str(error) or type(error).__name__) from None
        if reply.status_code == 200:
            return bytes(content)
        said = refusal(bytes(content))
        if said is not None and reply.status_code in REFUSED:
            raise QueryError(said)
        raise Away(f"it answers HTTP {reply.status_code}")
