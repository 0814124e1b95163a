"""TLS and mutual TLS: of our server, and toward the platform. Files are taken up when they change.

A new certificate is used from the next handshake on; connections that stand keep theirs. Files that
do not fit together (a rotation half done) change nothing and are said once.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import grpc

log = logging.getLogger("scaler.tls")

Signature = tuple[tuple[int, int, int], ...]


class TlsError(Exception):
    """Certificates that cannot be used. Its text is one line: which file, what is wrong."""


@dataclass(frozen=True, slots=True)
class ServerTls:
    """Our certificate; with `client_ca`, callers must show one that it signed."""

    cert: Path
    key: Path
    client_ca: Path | None = None

    def credentials(self) -> grpc.ServerCredentials:
        """What the server listens with. Raises TlsError."""
        files = _Files(self._paths(), self._check)

        def fetch() -> grpc.ServerCertificateConfiguration | None:
            # Called on a thread of gRPC's, for every handshake.
            contents = files.changed()
            return None if contents is None else _configuration(contents)

        first = files.read()
        return grpc.dynamic_ssl_server_credentials(
            _configuration(first),
            fetch,  # type: ignore[arg-type]  # None says: as before
            require_client_authentication=self.client_ca is not None,
        )

    def contexts(self) -> Callable[[], ssl.SSLContext]:
        """What our own front asks at every handshake: the files as they are. Raises TlsError."""
        files = _Files(self._paths(), self._check)
        files.read()
        context = self._context()

        def current() -> ssl.SSLContext:
            nonlocal context
            if files.changed() is not None:
                try:
                    context = self._context()
                except (OSError, ValueError) as error:
                    log.error("the new certificate is not used, the old one stays: %s", error)
            return context

        return current

    def _context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["h2"])
        context.load_cert_chain(self.cert, self.key, password="")  # nobody to ask for one
        if self.client_ca is not None:
            context.load_verify_locations(self.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def _paths(self) -> tuple[Path, ...]:
        return (self.cert, self.key, *((self.client_ca,) if self.client_ca else ()))

    def _check(self) -> None:
        _check_pair(self.cert, self.key)
        if self.client_ca is not None:
            _check_authority(self.client_ca)


class PlatformTls:
    """Whom we trust as the platform, and our own certificate if it asks for one."""

    def __init__(self, ca: Path, cert: Path | None = None, key: Path | None = None) -> None:
        self._ca, self._cert, self._key = ca, cert, key
        own = (cert, key) if cert is not None and key is not None else ()
        self._files = _Files((ca, *own), self._check)

    def credentials(self) -> grpc.ChannelCredentials:
        """What a channel to the platform is made with. Raises TlsError."""
        return _channel_credentials(self._files.read())

    def changed(self) -> grpc.ChannelCredentials | None:
        """New credentials if the files changed since they were last read."""
        contents = self._files.changed()
        return None if contents is None else _channel_credentials(contents)

    def _check(self) -> None:
        _check_authority(self._ca)
        if self._cert is not None and self._key is not None:
            _check_pair(self._cert, self._key)


class _Files:
    """Some files that are used together, read when one of them changed."""

    def __init__(self, paths: tuple[Path, ...], check: Callable[[], None]) -> None:
        self._paths = paths
        self._check = check
        self._seen: Signature | None = None

    def read(self) -> list[bytes]:
        """Their contents, checked. Raises TlsError."""
        self._seen = self._signature()
        self._check()
        contents = [_read(path) for path in self._paths]
        if self._signature() != self._seen:  # what was checked may not be what was read
            raise TlsError(f"{self._paths[0]}: changes while it is read")
        return contents

    def changed(self) -> list[bytes] | None:
        """Their contents if they changed since; None if not, or if they cannot be used."""
        try:
            if self._signature() == self._seen:
                return None
            contents = self.read()
        except TlsError as error:
            log.error("the new certificate is not used, the old one stays: %s", error)
            return None
        log.info("took up the new certificate in %s", self._paths[0])
        return contents

    def _signature(self) -> Signature:
        try:
            stats = [path.stat() for path in self._paths]
        except OSError as error:
            raise TlsError(f"{error.filename}: cannot be read: {error.strerror}") from None
        return tuple((each.st_ino, each.st_size, each.st_mtime_ns) for each in stats)


def _configuration(contents: list[bytes]) -> grpc.ServerCertificateConfiguration:
    cert, key, *authority = contents
    return grpc.ssl_server_certificate_configuration(
        [(key, cert)], root_certificates=authority[0] if authority else None
    )


def _channel_credentials(contents: list[bytes]) -> grpc.ChannelCredentials:
    authority, *own = contents
    cert, key = own or (None, None)
    return grpc.ssl_channel_credentials(authority, private_key=key, certificate_chain=cert)


def _check_pair(cert: Path, key: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(cert, key, password="")  # nobody is there to ask for one
    except (OSError, ValueError) as error:
        raise TlsError(f"{cert}, {key}: not a certificate and its key: {_text(error)}") from None


def _check_authority(path: Path) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except (OSError, ValueError) as error:
        raise TlsError(f"{path}: not a file of certificates: {_text(error)}") from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise TlsError(f"{path}: cannot be read: {error.strerror}") from None


def _text(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
