"""What is told of an app in a map of strings, a trigger of KEDA's or annotations: read and checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from warmscaler.replicas.spec import AppSpec, SpecError
from warmscaler.service.looking.followed import Source
from warmscaler.service.looking.queries import MOST_QUERY_CHARACTERS

NUMBERS = {
    "containerConcurrency": "container_concurrency",
    "coolDownSeconds": "cool_down_s",
    "maxReplicas": "most",
    "memoryMb": "memory_mb",
    "minReplicas": "least",
    "objective": "objective",
    "price": "price",
    "startSeconds": "start_s",
    "stepDown": "step_down",
    "stepUp": "step_up",
}
"""Each key and its field of AppSpec."""
WHOLE = ("containerConcurrency", "maxReplicas", "minReplicas", "stepDown", "stepUp")
TEXTS = ("app", "ignoreNullValues", "prometheusAddress", "query")
KEYS = tuple(sorted((*NUMBERS, *TEXTS)))
OF_KEDA = (
    *("caCert", "enableTLS", "scalerAddress", "tlsClientCert", "tlsClientKey", "unsafeSsl"),
    "tlsCertFile",  # up to 2.16
)
"""What KEDA reads itself, and hands on."""
FROM_ENV = "FromEnv"
_MOST_CHARACTERS = 512


class ToldError(Exception):
    """A trigger that cannot be used. Its text is one line: which field, what is wrong, what to do."""


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a trigger need not say."""

    prometheus: str | None = None
    price: float = 0.01


PLAIN = Defaults()


def read(
    metadata: Mapping[str, str], app: str, defaults: Defaults = PLAIN
) -> tuple[AppSpec, Source]:
    """What is asked of an app, named `app` unless the metadata names it. Raises ToldError."""
    known = _known(metadata)
    numbers = {NUMBERS[key]: _number(key, text) for key, text in known.items() if key in NUMBERS}
    for needed in ("memoryMb", "query", "startSeconds"):
        if needed not in known:
            raise ToldError(f"{needed}: it is missing")
    if "price" in known and "objective" in known:
        raise ToldError("objective: price is given as well; leave one of them out")
    numbers.setdefault("price", defaults.price)
    try:
        spec = AppSpec(app=known.get("app", app), **numbers)  # type: ignore[arg-type]
    except SpecError as error:
        raise ToldError(_in_our_words(error)) from None
    return spec, _source(known, defaults)


def check_address(text: str) -> str:
    """A Prometheus' address. Raises ValueError, which says what to write."""
    try:
        parts = urlsplit(text)
        well = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        well = False
    if not well or parts.query or parts.fragment or any(each <= " " for each in text):
        raise ValueError("must be http://HOST:PORT, as http://prometheus.monitoring:9090")
    return text


def _known(metadata: Mapping[str, str]) -> dict[str, str]:
    known: dict[str, str] = {}
    for given, text in metadata.items():
        if given in OF_KEDA:
            continue
        key = given.removesuffix(FROM_ENV)
        if key not in KEYS:
            raise ToldError(f"{given}: it is not known here; there are {', '.join(KEYS)}")
        if key in known:
            raise ToldError(f"{key}: it is given twice, once as {key}{FROM_ENV}")
        most = MOST_QUERY_CHARACTERS if key == "query" else _MOST_CHARACTERS
        if len(text) > most:
            raise ToldError(f"{key}: it has {len(text)} characters; the most is {most}")
        if not text.strip():
            raise ToldError(f"{key}: it is empty")
        known[key] = text
    return known


def _number(key: str, text: str) -> float | int:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ToldError(f"{key}: {text!r} is no number")
    if key not in WHOLE:
        return value
    if value != int(value):
        raise ToldError(f"{key}: {text} must be a whole number")
    return int(value)


def _source(known: Mapping[str, str], defaults: Defaults) -> Source:
    address = known.get("prometheusAddress", defaults.prometheus)
    if address is None:
        raise ToldError("prometheusAddress: it is missing, and the scaler has no --prometheus")
    try:
        check_address(address)
    except ValueError as error:
        raise ToldError(f"prometheusAddress: {error}") from None
    nothing = known.get("ignoreNullValues", "false").lower()
    if nothing not in ("true", "false"):
        raise ToldError(f"ignoreNullValues: {nothing!r} must be true or false")
    return Source(address, known["query"], nothing_is_zero=nothing == "true")


def _in_our_words(error: SpecError) -> str:
    """AppSpec's own text, with the key that stands in the trigger instead of its field's name."""
    text = str(error)
    for key, field in NUMBERS.items():
        if field == error.field:
            return f"{key}: {text.removeprefix(field).lstrip(': ')}"
    return text
