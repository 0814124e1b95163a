"""The service `warmscaler.v1.Explain`: an app's account for whoever may call the scaler."""

from __future__ import annotations

from collections.abc import Callable

import orjson
from google.protobuf.message import DecodeError

from warmscaler.service.explaining.account import AppAccount, as_json
from warmscaler.service.explaining.words import sentences
from warmscaler.service.proto import explain_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["Explain"].full_name
METHOD = "App"
PATH = f"/{SERVICE}/{METHOD}"


class Explaining:
    """Bytes in, bytes out, whatever carries them. Bytes that are no message name no app."""

    def __init__(self, account: Callable[[str], AppAccount | None]) -> None:
        self._account = account

    def app(self, message: bytes) -> bytes:
        """An AppReply for the bytes of an AppRequest."""
        try:
            key = pb.AppRequest.FromString(message).app
        except DecodeError:
            key = ""
        account = self._account(key)
        if account is None:
            return pb.AppReply().SerializeToString()
        reply = pb.AppReply(
            known=True,
            sentences=sentences(account),
            account=orjson.dumps(as_json(account)).decode(),
        )
        return reply.SerializeToString()
