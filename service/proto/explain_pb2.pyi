from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class AppRequest(_message.Message):
    __slots__ = ("app",)
    APP_FIELD_NUMBER: _ClassVar[int]
    app: str
    def __init__(self, app: _Optional[str] = ...) -> None: ...

class AppReply(_message.Message):
    __slots__ = ("known", "sentences", "account")
    KNOWN_FIELD_NUMBER: _ClassVar[int]
    SENTENCES_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    known: bool
    sentences: _containers.RepeatedScalarFieldContainer[str]
    account: str
    def __init__(self, known: _Optional[bool] = ..., sentences: _Optional[_Iterable[str]] = ..., account: _Optional[str] = ...) -> None: ...
