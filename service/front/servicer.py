"""The contest's Scaler service: checks what comes in, asks the driver, says its answer."""

from __future__ import annotations

from google.protobuf.message import DecodeError

from warmscaler.service.front.http2.requests import Code
from warmscaler.service.front.methods import Caller, Failed, Method, Unary
from warmscaler.service.live.driver import Driver, UnknownApp, UnknownInstance
from warmscaler.service.live.waiting import Refused, Throttled, Waiting
from warmscaler.service.proto import scaler_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["Scaler"].full_name
_OK = pb.IdleReply().SerializeToString()


class ScalerServicer:
    """Assign and Idle. Bytes that are no message are one in which everything is missing."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._reply = (
            pb.AssignReply()
        )  # filled in again for each answer: half the cost of a new one
        self._assigment = self._reply.assigment

    def methods(self) -> list[Method]:
        """What a transport serves. An Idle is never refused: it frees what others wait for."""
        return [
            Unary(f"/{SERVICE}/Assign", self.assign, refusable=True),
            Unary(f"/{SERVICE}/Idle", self.idle),
        ]

    def assign(self, message: bytes, caller: Caller) -> bytes | Waiting:
        """One instance of its app for the request, and for no other until its Idle."""
        try:
            request = pb.AssignRequest.FromString(message)
        except DecodeError:
            request = pb.AssignRequest()
        meta = request.meta_data
        if not meta.key or not meta.memory_in_mb:
            raise Failed(Code.INVALID_ARGUMENT, _what_is_missing(request))
        request_id, key = request.request_id, meta.key

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
        return _OK

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


def _what_is_missing(request: pb.AssignRequest) -> str:
    if not request.HasField("meta_data"):
        return "meta_data is missing, or the message cannot be read"
    if not request.meta_data.key:
        return "meta_data.key is empty"
    return "meta_data.memory_in_mb is zero"
