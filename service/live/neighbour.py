"""The contest's end of a run: the simulator closes its port, and the scaler beside it stops."""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from threading import Thread

POLL_S = 0.25
CONNECT_S = 1.0
LOST_AFTER = 3
"""A port is closed when so many connections in a row failed: one may be lost to a full backlog."""
log = logging.getLogger(__name__)


def stop_when_closed(host: str, port: int) -> None:
    """Sends this process SIGTERM once HOST:PORT, after it has been open, is closed. Returns at
    once; waits for the port to open as long as that takes."""
    Thread(target=_watch, args=(host, port), daemon=True, name="until-closed").start()


def _watch(host: str, port: int) -> None:
    while not _is_open(host, port):
        time.sleep(POLL_S)
    log.info("%s:%d is open: serving until it closes", host, port)
    lost = 0
    while lost < LOST_AFTER:
        time.sleep(POLL_S)
        lost = 0 if _is_open(host, port) else lost + 1
    log.info("%s:%d is closed: stopping", host, port)
    os.kill(os.getpid(), signal.SIGTERM)


def _is_open(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=CONNECT_S):
            return True
    except OSError:
        return False
