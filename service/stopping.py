"""The signals that end us in good order."""

from __future__ import annotations

import signal


def stopping() -> tuple[signal.Signals, ...]:
    """SIGTERM, and SIGHUP, which says that the terminal is gone, unless whoever started us had it
    ignored, as nohup does."""
    hang_up = (signal.SIGHUP,) if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN else ()
    return (signal.SIGTERM, *hang_up)
