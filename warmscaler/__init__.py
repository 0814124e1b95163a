"""Scaler, a predictive autoscaler for serverless platforms; the command is `scaler`.

    import warmscaler as ws

    trace = ws.read_trace("calls.csv", app="fn", arrival="ts", duration="took:ms")
    ws.compare(trace, ["fixed:300", "learned", MyPolicy()], split=0.5).plot()

Every name is imported when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from warmscaler.data.generate import generate as generate
    from warmscaler.data.read import write_trace as write_trace
    from warmscaler.data.tables.build import AppFacts as AppFacts
    from warmscaler.data.tables.frames import read_trace as read_trace
    from warmscaler.data.trace import App as App
    from warmscaler.data.trace import Trace as Trace
    from warmscaler.data.trace import TraceError as TraceError
    from warmscaler.models.artifact.folder import read_artifact as read_artifact
    from warmscaler.models.learned.habits import Model as Model
    from warmscaler.models.learned.policy import Learned as Learned
    from warmscaler.models.policy import AppPolicy as AppPolicy
    from warmscaler.models.policy import Policy as Policy
    from warmscaler.models.policy import Pool as Pool
    from warmscaler.models.registry import PolicyError as PolicyError
    from warmscaler.models.registry import make_policy as make_policy
    from warmscaler.training.fitting.idle_time_model import IdleTimeModel as IdleTimeModel
    from warmscaler.training.fitting.idle_times import idle_times as idle_times
    from warmscaler.training.study.compare import Backtest as Backtest
    from warmscaler.training.study.compare import Comparison as Comparison
    from warmscaler.training.study.compare import backtest as backtest
    from warmscaler.training.study.compare import compare as compare
    from warmscaler.training.study.compare import fit as fit

_WHERE = {
    "App": "data.trace",
    "AppFacts": "data.tables.build",
    "AppPolicy": "models.policy",
    "Backtest": "training.study.compare",
    "Comparison": "training.study.compare",
    "IdleTimeModel": "training.fitting.idle_time_model",
    "Learned": "models.learned.policy",
    "Model": "models.learned.habits",
    "Policy": "models.policy",
    "PolicyError": "models.registry",
    "Pool": "models.policy",
    "Trace": "data.trace",
    "TraceError": "data.trace",
    "backtest": "training.study.compare",
    "compare": "training.study.compare",
    "fit": "training.study.compare",
    "generate": "data.generate",
    "idle_times": "training.fitting.idle_times",
    "make_policy": "models.registry",
    "read_artifact": "models.artifact.folder",
    "read_trace": "data.tables.frames",
    "write_trace": "data.read",
}
__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'warmscaler' has no attribute {name!r}")
    value = getattr(import_module(f"warmscaler.{_WHERE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_WHERE})
