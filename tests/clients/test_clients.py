"""A short run of `make clients`: curl and h2load, where they are on this machine."""

from __future__ import annotations

import asyncio

import pytest

from tests.clients import plain_rules
from tests.clients.found import tool
from tests.clients.plain_rules import Rule
from tests.clients.stage import stage

CURL = (Rule("", plain_rules.curl_unary), Rule("", plain_rules.curl_other_http))
H2LOAD = (Rule("", plain_rules.h2load_idles), Rule("", plain_rules.h2load_drain))


@pytest.mark.parametrize(
    ("name", "package", "rules"), [("curl", "curl", CURL), ("h2load", "nghttp2-client", H2LOAD)]
)
def test_as_the_rules_say(name: str, package: str, rules: tuple[Rule, ...]) -> None:
    client = tool(name, package)
    if client.missing:
        pytest.skip(f"{name} is not installed: {client.missing}")

    async def run() -> None:
        async with stage() as there:
            for rule in rules:
                await rule.check(there, client.command[0], 500)

    asyncio.run(run())
