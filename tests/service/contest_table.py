"""A client of the contest's interface made from its published table alone (contest_table.md).

It knows nothing of our .proto file nor of the code generated from it: a mistake there cannot
hide here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message

TABLE = Path(__file__).with_suffix(".md")
PACKAGE = "serverless.simulator"
STATUS = ("Ok", "Throttle", "InternalError", "NotFound", "InvalidArgument", "InvalidAssigment")
SERVICES = {"Scaler": ("Assign", "Idle"), "Platform": ("CreateSlot", "DestroySlot", "Init")}

_Field = descriptor_pb2.FieldDescriptorProto
SCALARS = {
    "bool": _Field.TYPE_BOOL,
    "int32": _Field.TYPE_INT32,
    "string": _Field.TYPE_STRING,
    "uint32": _Field.TYPE_UINT32,
    "uint64": _Field.TYPE_UINT64,
}


@dataclass(frozen=True, slots=True)
class FieldRow:
    """One field as the table gives it."""

    number: int
    name: str
    type: str
    optional: bool


def rows() -> Iterator[tuple[str, list[FieldRow]]]:
    """Each message of the table and its fields."""
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        _, message, cell, _ = line.split("|")
        if not message.strip().isidentifier() or message.strip() == "message":
            continue
        fields = []
        for text in cell.split("·"):
            found = re.fullmatch(r"(\d+) (\w+) (optional )?(\w+)( \(ms\))?", text.strip())
            assert found, text
            fields.append(FieldRow(int(found[1]), found[2], found[4], found[3] is not None))
        yield message.strip(), fields


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(
        name="from_the_table.proto", package=PACKAGE, syntax="proto3"
    )
    status = file.enum_type.add(name="Status")
    for number, name in enumerate(STATUS):
        status.value.add(name=name, number=number)
    for message_name, fields in rows():
        message = file.message_type.add(name=message_name)
        for row in fields:
            field = message.field.add(name=row.name, number=row.number, label=_Field.LABEL_OPTIONAL)
            if row.type in SCALARS:
                field.type = SCALARS[row.type]
            else:
                field.type = _Field.TYPE_ENUM if row.type == "Status" else _Field.TYPE_MESSAGE
                field.type_name = f".{PACKAGE}.{row.type}"
            if row.optional:
                field.proto3_optional = True
                field.oneof_index = len(message.oneof_decl)
                message.oneof_decl.add(name=f"_{row.name}")
    return file


_pool = descriptor_pool.DescriptorPool()
_pool.Add(_file())
MESSAGES: dict[str, type[Message]] = message_factory.GetMessageClassesForFiles(
    ["from_the_table.proto"], _pool
)


def message(name: str, **fields: Any) -> Any:
    """A message of the table, of a class that is not ours."""
    return MESSAGES[f"{PACKAGE}.{name}"](**fields)


class TableClient:
    """Calls `Scaler` or `Platform` at the other end of `channel`: `await client("Assign", m)`."""

    def __init__(self, channel: grpc.aio.Channel, service: str) -> None:
        self._calls = {
            method: channel.unary_unary(
                f"/{PACKAGE}.{service}/{method}",
                request_serializer=lambda request: request.SerializeToString(),
                response_deserializer=MESSAGES[f"{PACKAGE}.{method}Reply"].FromString,
            )
            for method in SERVICES[service]
        }

    async def __call__(self, method: str, request: Message) -> Any:
        """The reply; raises grpc.aio.AioRpcError."""
        return await self._calls[method](request, timeout=10.0)
