"""The contest's Scaler service: checks what comes in, asks the driver, says its answer."""

from __future__ import annotations

import re
from typing import TypeVar

from google.protobuf.message import DecodeError

from warmscaler.service.front.http2.requests import Code
from warmscaler.service.front.methods import Caller, Failed, Method, Unary
from warmscaler.service.live.driver import Driver, Named, UnknownApp, UnknownInstance
from warmscaler.service.live.waiting import Refused, Throttled, Waiting
from warmscaler.service.proto import scaler_pb2 as pb

K = TypeVar("K")
V = TypeVar("V")
SERVICE = pb.DESCRIPTOR.services_by_name["Scaler"].full_name
_OK = pb.IdleReply().SerializeToString()


_ASSIGN = re.compile(
    rb"\n([\x01-\x7f])(.*?)(?:\x10[\x80-\xff]{0,9}[\x00-\x7f])?(\x1a.*)", re.DOTALL
)
"""An AssignRequest as it is nearly always packed: the length of the request's id, the id if what follows
is where that ends, and the field of meta_data. Its timestamp is of no interest here."""
_FIRST = 0x0A
"""How a message's field 1 begins."""
_SHORT = 0x7F
"""The longest field whose length is one byte."""
_ASSIGMENT = tuple(b"\x12%c" % length for length in range(_SHORT + 1))
"""How the field of an AssignReply begins, by its length."""
_MOST_MEMORY_MB = 1 << 40
"""No instance has more. Whoever asks for more would have every other app make room for it in vain."""
_KEPT = 4_096
"""Of what callers send again and again, so many are known by their bytes."""


class ScalerServicer:
    """Assign and Idle. Bytes that are no message are one in which everything is missing.

    A warm Assign and its Idle are told by their bytes: where callers send what they sent before, but
    for the request's id, there is nothing to unpack.
    """

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._serving = driver.serving
        self._reply = pb.AssignReply()
        """Filled in again for each answer: half the cost of a new one."""
        self._assigment = self._reply.assigment
        self._apps: dict[bytes, Named] = {}
        """By the bytes of the field that named them."""
        self._ends: dict[str, bytes] = {}
        """By instance: what follows the request's id in its Assignment."""
        self._results: dict[bytes, pb.Result] = {}

    def methods(self) -> list[Method]:
        """What a transport serves. An Idle is never refused: it frees what others wait for."""
        return [
            Unary(
                *(f"/{SERVICE}/Assign", self.assign, self.assign_at_once),
                refusable=True,
                take_back=self.take_back,
            ),
            Unary(f"/{SERVICE}/Idle", self.idle, self.idle_at_once),
        ]

    def assign_at_once(self, message: bytes) -> bytes | None:
        """See Unary."""
        found = _ASSIGN.fullmatch(message)
        if found is None:
            return None
        length, request_id, meta = found.groups()
        app = self._apps.get(meta)
        if app is None or length[0] != len(request_id):
            return None
        try:
            served = self._driver.warm(request_id.decode(), app)
        except UnicodeDecodeError:
            return None
        except Throttled as refused:
            return self._refused(refused)
        if served is None:
            return None
        instance_id = served.instance.id
        end = self._ends.get(instance_id) or self._end_of(app.key, instance_id)
        assigment = message[: 2 + length[0]] + end
        size = len(assigment)
        if size > _SHORT:
            return self._assigned(served.request_id, app.key, instance_id)
        served.assigment = assigment
        return _ASSIGMENT[size] + assigment

    def idle_at_once(self, message: bytes) -> bytes | None:
        """See Unary."""
        try:
            end = message[1] + 2
            key = message[3] + 4  # where it is if this is an Assignment of ours, and else it is not
            instance_id = message[key + message[key + 1] + 4 : end].decode()
            served = self._serving.get(instance_id)
        except (IndexError, UnicodeDecodeError):
            return None
        result = self._results.get(message[end:])
        if served is None or result is None:
            return None
        if message[0] != _FIRST or message[2:end] != served.assigment:
            return None
        self._driver.done(served, result)
        return _OK

    def take_back(self, answer: bytes) -> None:
        """The caller of an Assign was gone before its answer came: its instance is free."""
        assigment = pb.AssignReply.FromString(answer).assigment
        self._driver.unread(assigment.request_id, assigment.instance_id)

    def assign(self, message: bytes, caller: Caller) -> bytes | Waiting:
        """One instance of its app for the request, and for no other until its Idle."""
        try:
            request = pb.AssignRequest.FromString(message)
        except DecodeError:
            request = pb.AssignRequest()
        meta = request.meta_data
        if not meta.key or not 0 < meta.memory_in_mb <= _MOST_MEMORY_MB:
            raise Failed(Code.INVALID_ARGUMENT, _what_is_wrong(request))
        request_id, key = request.request_id, meta.key
        self._know(message, meta)

        def answered(answer: str | Refused) -> None:
            if isinstance(answer, str):
                caller.settle(self._assigned(request_id, key, answer))
                return
            try:
                caller.settle(self._refused(answer))
            except Failed as failed:
                caller.settle(failed)

        try:
            asked = self._driver.request(request_id, meta, answered, caller.time_left_s)
        except Refused as refused:
            return self._refused(refused)
        return self._assigned(request_id, key, asked) if type(asked) is str else asked  # type: ignore[return-value]

    def idle(self, message: bytes, caller: Caller) -> bytes:
        """The request is done; its instance is kept or destroyed."""
        try:
            request = pb.IdleRequest.FromString(message)
        except DecodeError:
            request = pb.IdleRequest()
        if not request.HasField("assigment"):
            raise Failed(Code.INVALID_ARGUMENT, "assigment is missing, or unreadable")
        try:
            self._driver.idle(request.assigment, request.result)
        except UnknownApp:
            return pb.IdleReply(
                status=pb.InternalError, error_message="no request of this app was ever assigned"
            ).SerializeToString()
        except UnknownInstance:
            raise Failed(Code.NOT_FOUND, "there is no such instance") from None
        if request.HasField("result"):
            self._know_result(request.result)
        return _OK

    def _know_result(self, result: pb.Result) -> None:
        """The next one in the same bytes is told by them; one with long words is not kept for many."""
        said = pb.IdleRequest(result=result).SerializeToString()
        if len(said) <= _SHORT:
            # A copy: what is inside a message keeps all of it.
            _keep(self._results, said, pb.IdleRequest.FromString(said).result)

    def _know(self, message: bytes, meta: pb.Meta) -> None:
        """The next one of the app in the same bytes is told by them."""
        found, app = _ASSIGN.fullmatch(message), Named.of(meta)
        if found is None or app is None or found[3] in self._apps:
            return
        if found[3] == pb.AssignRequest(meta_data=app.meta).SerializeToString():
            _keep(self._apps, found[3], app)

    def _end_of(self, key: str, instance_id: str) -> bytes:
        end = pb.Assignment(meta_key=key, instance_id=instance_id).SerializeToString()
        _keep(self._ends, instance_id, end)
        return end

    def _assigned(self, request_id: str, key: str, instance_id: str) -> bytes:
        assigment = self._assigment
        assigment.request_id, assigment.meta_key = request_id, key
        assigment.instance_id = instance_id
        return self._reply.SerializeToString()

    def _refused(self, refused: Refused) -> bytes:
        if isinstance(refused, Throttled):
            return pb.AssignReply(
                status=pb.Throttle, error_message=str(refused)
            ).SerializeToString()
        draining = self._driver.scheduler.draining
        raise Failed(Code.UNAVAILABLE if draining else Code.INTERNAL, str(refused))


def _keep(known: dict[K, V], what: K, meaning: V) -> None:
    if len(known) >= _KEPT:
        known.clear()
    known[what] = meaning


def _what_is_wrong(request: pb.AssignRequest) -> str:
    if not request.HasField("meta_data"):
        return "meta_data is missing, or the message cannot be read"
    if not request.meta_data.key:
        return "meta_data.key is empty"
    if not request.meta_data.memory_in_mb:
        return "meta_data.memory_in_mb is zero"
    return f"meta_data.memory_in_mb is over {_MOST_MEMORY_MB}, an exabyte"
