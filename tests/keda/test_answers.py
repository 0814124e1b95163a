"""What a Prometheus may answer, or what stands where it should be: nothing invented, others go on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import grpc
import pytest

from tests.keda.answering import Answer, Form, answering, success
from tests.keda.published import scaled_object
from tests.keda.serving import Here, external_scaler, refused
from warmscaler.service.keda.servicer import METRIC
from warmscaler.service.looking import prometheus
from warmscaler.service.looking.gauges import Gauges
from warmscaler.service.looking.prometheus import Prometheus
from warmscaler.service.observability.health import Health

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


def app(query: str, **more: str) -> object:
    told = {"query": query, "memoryMb": "512", "startSeconds": "1"}
    return scaled_object(more.pop("name", query), told | more)


def past(*values: tuple[float | str, str]) -> Answer:
    return success("matrix", [{"metric": {}, "values": [list(pair) for pair in values]}])


@pytest.mark.parametrize(
    "times",
    [
        lambda end_s: [end_s, end_s - 5.0],  # back
        lambda end_s: ["NaN", end_s],
        lambda end_s: [1e300],
        lambda end_s: [end_s - 10.0, end_s + 1e6],  # nobody knows it yet
        lambda end_s: [0.0, end_s],  # not asked for
    ],
)
def test_times_that_were_not_asked_for_are_not_a_past(
    times: Callable[[float], list[float | str]],
) -> None:
    async def work() -> None:
        async with answering(a=3.0, b=2.0) as there, external_scaler(there.url) as here:

            async def odd(form: Form) -> Answer | None:
                if form["query"] != "a" or "end" not in form:
                    return None
                return past(*((at, "9") for at in times(float(form["end"]))))

            there.instead = odd
            code, text = await refused(here.client.metric(app("a"), METRIC))
            assert (code, "times are not those" in text) == (UNAVAILABLE, True)
            assert await here.client.metric(app("b"), METRIC) == 2.0  # looks go on

    asyncio.run(work())


def test_what_is_no_prometheus_is_away() -> None:
    pages = (b"<html>log in</html>", b"null", b"[]", b'{"status":"success","data"', b"\xff", b"")

    async def work() -> None:
        async with answering() as there:
            for page in pages:

                async def odd(form: Form, page: bytes = page) -> Answer:
                    return 200, page

                there.instead = odd
                async with external_scaler(there.url) as here:
                    code, text = await refused(here.client.metric(app("a"), METRIC))
                    assert (code, f"Prometheus at {there.url} is away" in text) == (
                        UNAVAILABLE,
                        True,
                    ), page

    asyncio.run(work())


def test_no_series_with_a_warning_is_not_known() -> None:
    """As of a store behind it that did not answer: that nothing came does not say that nothing runs."""

    async def work() -> None:
        async with answering() as there, external_scaler(there.url) as here:
            warnings: list[str] = ["a store did not answer"]

            async def odd(form: Form) -> Answer:
                more = {"warnings": warnings} if warnings else {}
                return success("matrix" if "step" in form else "vector", [], **more)

            there.instead = odd
            idle = app("idle", ignoreNullValues="true")
            code, text = await refused(here.client.metric(idle, METRIC))
            assert (code, "a store did not answer" in text) == (UNAVAILABLE, True)
            warnings.clear()

            async def known() -> bool:
                return await here.client.metric(idle, METRIC) == 0.0

            await here.until(known)

    asyncio.run(work())


def test_where_nothing_is_zero_it_was_zero_in_the_past_too() -> None:
    """Not where nothing was measured, nor where what was measured is no number."""

    async def work() -> None:
        async with answering() as there, prometheus.client() as http:
            refuses = False

            async def odd(form: Form) -> Answer:
                if form["query"] != prometheus.MEASURES:
                    return past((30.0, "2"), (45.0, "NaN"))
                if refuses:
                    return 422, b'{"status":"error","errorType":"execution","error":"no"}'
                return past((15.0, "4"), (30.0, "4"), (45.0, "4"), (75.0, "4"))

            there.instead = odd
            asked = Prometheus(there.url, http)
            told = await asked.history("a", 0.0, 90.0, 15.0, nothing_is_zero=True)
            assert told == [(15.0, 0.0), (30.0, 2.0), (75.0, 0.0)]
            assert await asked.history("a", 0.0, 90.0, 15.0) == [(30.0, 2.0)]
            refuses = True
            told = await asked.history("a", 0.0, 90.0, 15.0, nothing_is_zero=True)
            assert told == [(30.0, 2.0)]

    asyncio.run(work())


@pytest.mark.parametrize("how", ["slow", "drips", "500"])
def test_a_query_that_is_never_answered_keeps_no_other_waiting(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prometheus, "CONNECT_S", 0.1)
    monkeypatch.setattr(prometheus, "ANSWER_S", 0.2)

    async def work() -> None:
        async with answering(a=3.0, b=2.0) as there, external_scaler(there.url) as here:

            async def odd(form: Form) -> Answer | None:
                if "heavy" not in form["query"]:
                    return None
                if how == "500":
                    return 500, b'{"status":"error","errorType":"internal","error":"-"}'
                await asyncio.sleep(60.0)
                return None

            there.instead = None if how == "drips" else odd
            there.drips = "heavy"
            assert await here.client.metric(app("a"), METRIC) == 3.0
            code, _ = await refused(here.client.metric(app("heavy"), METRIC))
            assert code is UNAVAILABLE

            async def other() -> bool:
                return await here.client.metric(app("b"), METRIC) == 2.0

            await here.until(other)
            [first] = [each for each in here.looking if each.spec.app == "default/a"]
            seen_s = first.observed_s

            async def looked() -> bool:
                return first.observed_s > seen_s + 1.0

            await here.until(looked)

    asyncio.run(work())


def test_many_that_do_not_answer_leave_the_one_that_does_alone() -> None:
    async def work() -> None:
        async with answering(a=3.0) as dead, answering(a=3.0) as there:

            async def silent(form: Form) -> Answer | None:
                await asyncio.sleep(60.0)
                return None

            dead.instead = silent
            async with external_scaler(there.url) as here:
                for number in range(12):
                    at = f"{dead.url}/{number}"
                    await here.client.spec(app("a", name=f"{number}", prometheusAddress=at))
                await asyncio.sleep(0.2)
                assert await here.client.metric(app("a"), METRIC) == 3.0

    asyncio.run(work())


def test_a_fault_of_ours_in_a_look_does_not_end_the_looks(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        async with answering(a=3.0) as there, external_scaler(there.url) as here:
            assert await here.client.metric(app("a"), METRIC) == 3.0
            [followed] = here.looking

            def fails() -> None:
                del followed.changed[fails]
                raise ZeroDivisionError("ours")

            followed.changed[fails] = None
            there.values["a"] = 5.0

            async def looked() -> bool:
                return fails not in followed.changed and followed.observed == 5.0

            await here.until(looked)

            async def well() -> bool:
                return not any(place.problem for place in here.looking.places.values())

            await here.until(well)

    with caplog.at_level(logging.ERROR, "scaler"):
        asyncio.run(work())
    assert "ZeroDivisionError: ours" in caplog.text


def labels(here: Here, name: str) -> list[tuple[dict[str, str], float]]:
    return [
        (sample.labels, sample.value)
        for metric in Gauges(here.looking, Health()).collect()
        for sample in metric.samples
        if sample.name == name
    ]


def test_one_series_an_app_however_many_triggers_have_its_name() -> None:
    async def work() -> None:
        async with answering(a=3.0, b=7.0, c=1.0) as there, external_scaler(there.url) as here:
            for query, wanted in there.values.items():
                assert await here.client.metric(app(query, name="x"), METRIC) == wanted
            assert labels(here, "scaler_desired_replicas") == [({"app": "default/x"}, 7.0)]
            # Edited long ago: the one of before is not asked for any more.
            [edited] = [each for each in here.looking if each.source.query == "b"]
            edited.asked_s -= 2.0 * here.looking.options.hold_s
            assert labels(here, "scaler_desired_replicas") == [({"app": "default/x"}, 3.0)]
            edited.streams = 1
            assert labels(here, "scaler_observed_concurrency") == [({"app": "default/x"}, 7.0)]

    asyncio.run(work())


def test_a_password_is_shown_to_nobody(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        async with answering(a=3.0) as there, external_scaler(None) as here:
            for user in ("//me:secret@", "//you:secret@"):
                ref = app("a", prometheusAddress=there.url.replace("//", user))
                assert await here.client.metric(ref, METRIC) == 3.0
            [(shown, _)] = labels(here, "scaler_prometheus_away")
            assert shown == {"address": there.url}
            at = "http://me:secret@127.0.0.1:1/path"
            code, text = await refused(
                here.client.metric(app("a", prometheusAddress=at, name="away"), METRIC)
            )
            assert (code, "http://127.0.0.1:1/path is away" in text) == (UNAVAILABLE, True)
            assert "secret" not in text

    with caplog.at_level(logging.DEBUG):
        asyncio.run(work())
    assert "is away" in caplog.text
    assert "secret" not in caplog.text


def test_a_clock_put_back_stops_no_looks_and_holds_nothing_for_longer() -> None:
    async def work() -> None:
        async with answering(a=3.0) as there, external_scaler(there.url, hold_s=5.0) as here:
            back_s, now_s = 0.0, here.looking.now_s
            here.looking.now_s = lambda: now_s() - back_s
            assert await here.client.metric(app("a"), METRIC) == 3.0
            [followed] = here.looking
            [place] = here.looking.places.values()
            assert place.problem is None
            back_s = 3_600.0
            asked = place.asked

            async def looked() -> bool:
                return place.asked > asked + 1

            await here.until(looked)
            assert here.looking.floor(followed) is None

    asyncio.run(work())
