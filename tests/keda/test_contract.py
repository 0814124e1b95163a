"""Every rule of KEDA's external scaler, by a client of its own making, against a real Prometheus."""

from __future__ import annotations

import asyncio
import math
import re

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.keda.conftest import World
from tests.keda.played import Scaled, hpa_wanted
from tests.keda.published import MESSAGES, METHODS, SERVICE, Client, classes, scaled_object
from tests.keda.serving import Here, external_scaler, refused, trigger
from tests.keda.world import PATIENCE_S, needs_prometheus
from warmscaler.service.keda.servicer import METRIC, TARGET, _metrics
from warmscaler.service.looking.told import Defaults, read
from warmscaler.service.proto import externalscaler_pb2 as ours

INVALID = grpc.StatusCode.INVALID_ARGUMENT


def test_our_proto_has_the_published_names_and_numbers() -> None:
    service = ours.DESCRIPTOR.services_by_name["ExternalScaler"]
    assert service.full_name == SERVICE
    assert {
        each.name: (each.input_type.name, each.output_type.name, each.server_streaming)
        for each in service.methods
    } == METHODS
    assert not any(each.client_streaming for each in service.methods)
    for name in MESSAGES:
        published = classes()[name].DESCRIPTOR
        mine = ours.DESCRIPTOR.message_types_by_name[name]
        assert [(f.name, f.number, f.type, f.is_repeated) for f in mine.fields] == [
            (f.name, f.number, f.type, f.is_repeated) for f in published.fields
        ]


@given(st.integers(min_value=0, max_value=1_000_000), st.integers(min_value=1, max_value=1_000_000))
def test_the_hpa_comes_to_exactly_what_is_wanted(wanted: int, current: int) -> None:
    [value] = classes()["GetMetricsResponse"].FromString(_metrics(wanted)).metricValues
    assert value.metricName == METRIC
    for metric in (value.metricValueFloat, float(value.metricValue)):  # a new KEDA, an old one
        assert hpa_wanted(round(metric * 1000), TARGET * 1000, current, tolerance=0.0) == wanted


def test_the_hpas_own_tolerance_leaves_small_steps_undone() -> None:
    # Why deploy/keda sets it to 0.
    assert hpa_wanted(21_000, 1_000, 20) == 20
    assert hpa_wanted(21_000, 1_000, 20, tolerance=0.0) == 21


async def wants(here: Here, ref: object, replicas: float) -> None:
    async def seen() -> bool:
        return await here.client.metric(ref, METRIC) == replicas

    await here.until(seen)


@needs_prometheus
def test_one_spec_that_an_hpa_can_ask_for(world: World) -> None:
    world.service.in_flight["spec"] = 1.0

    async def work() -> None:
        async with external_scaler(world.prometheus.url) as here:
            ref = scaled_object("spec", trigger("spec"))
            spec = await here.client.spec(ref)
            # A path segment, and KEDA's `s0-` before it parts from the rest at the first dash.
            assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", spec.metricName)
            assert f"s0-{spec.metricName}".split("-", 1)[1] == spec.metricName
            assert (spec.targetSizeFloat, spec.targetSize) == (1.0, 1)
            stream = here.client.spec_stream(ref)
            assert await anext(stream) == spec  # at once, and the same as GetMetricSpec
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await anext(stream)

    asyncio.run(work())


@needs_prometheus
def test_the_first_call_waits_for_the_first_look(world: World) -> None:
    world.service.in_flight["first"] = 7.0

    async def work() -> None:
        async with external_scaler(world.prometheus.url) as here:
            await scraped(here, "first")
            ref = scaled_object("another", trigger("first", containerConcurrency="2"))
            assert await here.client.metric(ref, METRIC) == 4.0
            assert await here.client.is_active(ref)

    asyncio.run(work())


async def scraped(here: Here, app: str) -> None:
    """Prometheus has seen it."""
    ref = scaled_object(f"look-{app}", trigger(app))
    await here.until(lambda: here.client.is_active(ref))


@needs_prometheus
def test_active_is_told_at_once_and_when_it_changes(world: World) -> None:
    world.service.in_flight |= {"stream": 0.0, "streams": 3.0}

    async def work() -> None:
        async with external_scaler(world.prometheus.url) as here:
            await scraped(here, "streams")
            assert await anext(here.client.active_stream(scaled_object("s", trigger("streams"))))
            ref = scaled_object("stream", trigger("stream"))
            told = here.client.active_stream(ref)
            assert await anext(told) is False
            assert not await here.client.is_active(ref)
            assert await here.client.metric(ref, METRIC) == 0.0
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1.0):
                    await anext(told)  # looks come and go, and nothing changes
            told = here.client.active_stream(ref)
            assert await anext(told) is False
            world.service.in_flight["stream"] = 2.0
            assert await anext(told) is True

    asyncio.run(work())


@needs_prometheus
def test_many_scaled_objects_each_by_its_own_metadata(world: World) -> None:
    for number in range(60):  # more than one batch of queries
        world.service.in_flight[f"many-{number}"] = float(number)

    def of_three(number: int) -> object:
        app = f"many-{number}"
        return scaled_object(app, trigger(app, containerConcurrency="3"))

    async def work() -> None:
        async with external_scaler(world.prometheus.url) as here:
            await asyncio.gather(
                *(wants(here, of_three(number), math.ceil(number / 3)) for number in range(60))
            )
            # Two triggers of one ScaledObject, and one name in two namespaces.
            both = (
                scaled_object("many-4", trigger("many-4", app="b")),
                scaled_object("many-4", trigger("many-9"), namespace="other"),
            )
            await wants(here, both[0], 4.0)
            await wants(here, both[1], 9.0)
            world.service.in_flight["many-5"] = 50.0
            await wants(here, of_three(5), 17)

    asyncio.run(work())


@needs_prometheus
def test_bounds_and_edited_metadata(world: World) -> None:
    world.service.in_flight |= {"bounds": 40.0, "idle": 0.0}

    async def work() -> None:
        async with external_scaler(world.prometheus.url) as here:
            await scraped(here, "bounds")
            most = trigger("bounds", maxReplicas="6")
            await wants(here, scaled_object("bounds", most), 6.0)
            await wants(here, scaled_object("bounds", most | {"maxReplicas": "8"}), 8.0)
            least = trigger("idle", minReplicas="2")
            await wants(here, scaled_object("idle", least), 2.0)

    asyncio.run(work())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("query", None),
        ("memoryMb", None),
        ("startSeconds", None),
        ("query", " "),
        ("query", "x" * 10_000),
        ("memoryMb", "much"),
        ("memoryMb", "0"),
        ("startSeconds", "-1"),
        ("startSeconds", "nan"),
        ("containerConcurrency", "1.5"),
        ("containerConcurrency", "0"),
        ("minReplicas", "7"),  # with maxReplicas 5 below
        ("maxReplicas", "1e400"),
        ("price", "0"),
        ("objective", "1"),
        ("stepUp", "0"),
        ("coolDownSeconds", "ever"),
        ("ignoreNullValues", "perhaps"),
        ("prometheusAddress", "ftp://x"),
        ("prometheusAddress", "http://"),
        ("prometheusAddress", "http://x:99999"),
        ("prometheusAddress", None),
        ("memoryMB", "512"),
        ("app", ""),
    ],
)
def test_a_mistake_is_refused_by_its_field(field: str, value: str | None) -> None:
    metadata = trigger("any", prometheusAddress="http://127.0.0.1:1", maxReplicas="5")
    if value is None:
        del metadata[field]
    else:
        metadata[field] = value

    async def work() -> None:
        async with external_scaler(None) as here:
            ref = scaled_object("shop", metadata)
            for call in (
                here.client.is_active(ref),
                here.client.spec(ref),
                here.client.metric(ref, METRIC),
                anext(here.client.active_stream(ref)),
                anext(here.client.spec_stream(ref)),
            ):
                code, text = await refused(call)
                assert code is INVALID
                assert text.startswith(f"default/shop: {field}: ")
            assert not len(here.looking)

    asyncio.run(work())


def test_what_keda_reads_itself_is_left_to_it() -> None:
    of_keda = ("scalerAddress", "enableTLS", "unsafeSsl", "caCert", "tlsClientCert", "tlsClientKey")
    metadata = trigger("any") | dict.fromkeys((*of_keda, "tlsCertFile"), "theirs")
    assert read(metadata, "any", Defaults("http://x"))[0].memory_mb == 512


def test_other_mistakes() -> None:
    async def work() -> None:
        async with external_scaler("http://127.0.0.1:1", most_apps=1) as here:
            ref = scaled_object("shop", trigger("any"))
            await here.client.spec(ref)
            code, text = await refused(here.client.metric(ref, "cpu"))
            assert (code, text.split(":")[0]) == (INVALID, "metricName")
            code, text = await refused(here.client.spec(scaled_object("", trigger("any"))))
            assert (code, text.split(":")[0]) == (INVALID, "name")
            twice = trigger("any", queryFromEnv="up")
            code, text = await refused(here.client.spec(scaled_object("shop", twice)))
            assert (code, "query: it is given twice" in text) == (INVALID, True)
            code, _ = await refused(here.client.spec(scaled_object("more", trigger("any"))))
            assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
            code, text = await refused(here.client.metric(ref, METRIC))
            assert code is grpc.StatusCode.UNAVAILABLE
            assert "Prometheus at http://127.0.0.1:1 is away" in text

    asyncio.run(work())


@needs_prometheus
def test_what_finds_nothing_is_not_known_unless_told(world: World) -> None:
    world.service.in_flight["there"] = 1.0

    async def work() -> None:
        async with external_scaler(world.prometheus.url) as here:
            await scraped(here, "there")
            code, text = await refused(
                here.client.metric(scaled_object("nowhere", trigger("nowhere")), METRIC)
            )
            assert (code, "finds no series" in text) == (grpc.StatusCode.UNAVAILABLE, True)
            zero = scaled_object("nowhere", trigger("nowhere", ignoreNullValues="true"))
            assert await here.client.metric(zero, METRIC) == 0.0
            assert not await here.client.is_active(zero)

    asyncio.run(work())


@needs_prometheus
def test_a_query_that_cannot_be_answered_spoils_no_other(world: World) -> None:
    world.service.in_flight |= {"good": 2.0, "spoils": 1.0}
    bad = {
        "whole": "sum(in_flight",
        "swallows": 'in_flight{app="good"}\n), "x", "1", "", "") or (vector(9)',
        "scalar": "scalar(vector(1))",
        "many": 'in_flight{app=~"good|spoils"}',
        "below": "vector(0) - 1",
        "nan": "vector(0) / 0",
        # Well at first, then it meets two of a kind: refused when it is worked out.
        "later": 'in_flight{app="good"} / ignoring(app) in_flight{app=~"spoils|later"}',
    }

    async def work() -> None:
        async with external_scaler(world.prometheus.url) as here:
            await scraped(here, "good")
            await scraped(here, "spoils")
            later = scaled_object("later", trigger("x", query=bad["later"]))
            await wants(here, later, 2.0)
            for name, query in bad.items():
                if name != "later":
                    ref = scaled_object(name, trigger("x", query=query))
                    code, text = await refused(here.client.metric(ref, METRIC))
                    assert code is grpc.StatusCode.UNAVAILABLE, (name, text)
            world.service.in_flight |= {"later": 1.0, "good": 5.0}
            await wants(here, scaled_object("good", trigger("good")), 5.0)
            await here.until(lambda: problem(here, "default/later"))
            comment = trigger("x", query='in_flight{app="good"} # how many\n')
            await wants(here, scaled_object("comment", comment), 5.0)

    asyncio.run(work())


async def problem(here: Here, app: str) -> str | None:
    return next(each.problem for each in here.looking if each.spec.app == app)


@needs_prometheus
def test_a_dry_run_tells_that_nothing_is_wanted(world: World) -> None:
    world.service.in_flight["dry"] = 4.0

    async def work() -> None:
        async with external_scaler(world.prometheus.url, dry_run=True) as here:
            ref = scaled_object("dry", trigger("dry"))

            async def followed() -> bool:
                return any(each.wanted and each.wanted.replicas == 4 for each in here.looking)

            await here.client.spec(ref)
            await here.until(followed)
            assert await here.client.metric(ref, METRIC) == 0.0
            assert not await here.client.is_active(ref)

    asyncio.run(work())


@needs_prometheus
def test_kedas_loop_scales_from_nothing_and_back(world: World) -> None:
    world.service.in_flight |= {"loop": 0.0, "over": 0.0}

    async def work() -> None:
        async with external_scaler(world.prometheus.url) as here:
            scaled = Scaled(here.client, scaled_object("loop", trigger("loop")))

            async def at(replicas: int) -> bool:
                await scaled.poll()
                await scaled.hpa()
                return scaled.replicas == replicas

            for in_flight in (0, 23, 24):
                world.service.in_flight["loop"] = float(in_flight)
                await here.until(lambda wanted=in_flight: at(wanted))  # type: ignore[misc]
            over = Scaled(here.client, scaled_object("over", trigger("over")), replicas=3)
            async with asyncio.timeout(PATIENCE_S):
                while over.replicas:
                    await over.hpa()
                    assert over.replicas in (1, 3)  # the HPA alone does not scale to nothing
                    await over.poll()

    asyncio.run(work())


def test_nobody_asks_any_more_and_it_is_forgotten() -> None:
    async def work() -> None:
        async with external_scaler("http://127.0.0.1:1", forget_s=0.2) as here:
            ref = scaled_object("shop", trigger("any"))
            listening = here.client.spec_stream(scaled_object("kept", trigger("other")))
            await here.client.spec(ref)
            await anext(listening)
            stream = here.client.active_stream(scaled_object("kept", trigger("kept")))
            waiting = asyncio.ensure_future(anext(stream))
            await here.until(lambda: followed(here, 3))
            await asyncio.sleep(0.3)
            here.looking.tidy()
            assert [app.spec.app for app in here.looking] == ["default/kept"]
            waiting.cancel()

    async def followed(here: Here, count: int) -> bool:
        return len(here.looking) == count

    asyncio.run(work())


def test_the_client_is_kedas_not_ours() -> None:
    assert classes()["ScaledObjectRef"].DESCRIPTOR is not ours.ScaledObjectRef.DESCRIPTOR
    assert isinstance(Client, type)
