"""Work side by side: joblib's processes on this machine, or a cluster's where one is connected."""

from __future__ import annotations

import signal
from multiprocessing import resource_tracker
from typing import Any

import joblib
from joblib.parallel import BACKENDS

_Processes: Any = BACKENDS["loky"]


class _Backend(_Processes):  # type: ignore[misc]
    """Processes that do not hear SIGINT.

    Ctrl-C at a terminal reaches every process that runs there, and each would print a traceback of
    its own. Ours hears it, and joblib ends the others. A process starts with the signals blocked
    that its starter blocks, and processes start where work is submitted.
    """

    def submit(self, *arguments: Any, **options: Any) -> Any:
        resource_tracker.ensure_running()  # where it starts it unblocks the signal
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            return super().submit(*arguments, **options)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


joblib.register_parallel_backend("warmscaler", _Backend, make_default=True)


def parallel(jobs: int, **options: Any) -> joblib.Parallel:
    """For calls made by `warmscaler.training.cluster.task`; `options` are joblib.Parallel's."""
    return joblib.Parallel(n_jobs=jobs, **options)
