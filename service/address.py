"""Network addresses as people write them: HOST:PORT, and an IPv6 address in brackets or bare."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

DIRECT = ("grpc.enable_http_proxy", 0)
"""For every channel we make. gRPC follows `https_proxy`, which Docker's settings put into every
container, even to a neighbour on loopback; nobody whom we call is beyond a proxy."""
_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_.])?")


class AddressError(Exception):
    """What is written is no address. Its text is one line: what to write instead."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where somebody listens. As text it is what gRPC takes, an IPv6 address in brackets."""

    host: str
    """A name or an IP address, never in brackets: what the socket module takes."""
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> Address:
        """Of HOST:PORT. Raises AddressError."""
        if "://" in text:
            raise AddressError("must be HOST:PORT alone, as 127.0.0.1:9001")
        host, colon, port = text.rpartition(":")
        if _is_ipv6(text) or (":" in host and not host.startswith("[")):
            # `::1:9001` is an address by itself as well: nobody can know what was meant.
            raise AddressError("an IPv6 address goes in brackets before its port, as [::1]:9001")
        if not (colon and port.isascii() and port.isdecimal() and 0 < int(port) < 65536):
            raise AddressError("must be HOST:PORT, as 127.0.0.1:9001")
        return cls(parse_host(host), int(port))


def parse_host(text: str) -> str:
    """A name or an IP address, without its brackets. Raises AddressError."""
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if _is_ipv6(bare):
        return bare
    if bare != text or "[" in text or "]" in text:
        raise AddressError("no IPv6 address stands in the brackets: write [::1]")
    if ":" in text:
        raise AddressError("must be a host's name or IP address alone, as 127.0.0.1 or ::1")
    if not _NAME.fullmatch(text):
        raise AddressError("must be a host's name or IP address, as 127.0.0.1")
    if re.fullmatch(r"[0-9.]+", text):
        try:
            ip_address(text)
        except ValueError:
            raise AddressError("is no IPv4 address: four numbers up to 255") from None
    return text


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it; of names only `localhost` is known to be so."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True
