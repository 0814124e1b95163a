"""Which column is what: told (`--map app=fn,duration=took:ms`), or guessed from usual names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from warmscaler.data.tables.units import MEMORY_UNITS, TIME_UNITS, UNIT_OF_WORD
from warmscaler.data.trace import TraceError

NAMES: dict[str, str] = {
    "app": "app function service application action functionname appname appid functionid func fn"
    " applicationname servicename actionname funcname workload deployment revision revisionname"
    " kuberneteslabelsservingknativedevservice kuberneteslabelsservingknativedevrevision endpoint"
    " k8spodservingknativedevservice model modelname handler metakey hashfunction hashapp authority"
    " requestauthority host upstreamcluster name key",
    "arrival": "arrival arrivaltime arrivaltimestamp arrivedat start starttime starttimestamp"
    " startedat startdate begin begintime invocationtime invokedat requesttimestamp submittime"
    " eventtime timestamp ts time datetime timegenerated createdat at date",
    "end": "end endtime endtimestamp endedat enddate finish finishtime finishedat completed"
    " completedat completiontime stop stoptime",
    "duration": "duration durations executiontime exectime executionduration execution durationtime"
    " elapsed elapsedtime latency responsetime requesttime processingtime servicetime timetaken took",
    "memory": "memory mem memorysize memorylimit allocatedmemory memoryallocated averageallocated"
    " memoryconfigured memoryusage ram",
    "init": "init inittime initduration initialization initializationtime coldstarttime"
    " coldstartduration startuptime startupduration startup boottime",
    "status": "status statuscode responsecode httpstatus httpstatuscode responsestatus code"
    " resultcode success succeeded outcome",
    "runtime": "runtime language kind",
    "timeout": "timeout",
}
"""Usual names by role, the surest first: letters and digits only, without the unit."""
ROLES = tuple(NAMES)
REQUIRED = ("app", "arrival", "duration")
UNITS: Mapping[str, Mapping[str, float]] = {
    **dict.fromkeys(("arrival", "end", "duration", "init", "timeout"), TIME_UNITS),
    "memory": MEMORY_UNITS,
}
"""The units that a role's numbers may be told in."""
_FILLERS = {"in", "unix", "epoch", "utc", "total", "avg"}
_PAIR = re.compile(rf",(?=(?:{'|'.join(ROLES)})=)")


@dataclass(frozen=True, slots=True)
class Role:
    """Where the values of a role come from: a column, or one value for every row."""

    column: str | None = None
    unit: str | None = None
    """The one told, or that the column's name ends in."""
    constant: str | None = None
    told: bool = False
    unit_told: bool = False


def parse_map(text: str) -> dict[str, Role]:
    """`app=fn,arrival=ts:s,memory=mem` as roles; `app==NAME` is that app for every row.

    Raises TraceError where it is not of this form, a role is unknown or named twice.
    """
    roles: dict[str, Role] = {}
    for pair in _PAIR.split(text):
        name, equals, value = (part.strip() for part in pair.partition("="))
        if name not in NAMES or not equals or not value.strip("="):
            raise TraceError(
                f"--map {pair}: must be ROLE=COLUMN[:UNIT] with a role of {', '.join(ROLES)};"
                " as --map app=function,arrival=timestamp,duration=took:ms"
            )
        if name in roles:
            raise TraceError(f"--map {text}: {name} is named twice; name it once")
        if value.startswith("="):
            if name in ("arrival", "end"):
                raise TraceError(
                    f"--map {pair}: a request has an instant of its own; name a column:"
                    f" {name}=COLUMN"
                )
            roles[name] = Role(constant=value[1:], told=True)
            continue
        column, colon, unit = value.rpartition(":")
        known = unit if unit in UNITS.get(name, ()) else UNIT_OF_WORD.get(unit.lower(), "")
        if colon and known in UNITS.get(name, ()):
            roles[name] = Role(column, known, told=True, unit_told=True)
        else:
            roles[name] = Role(value, unit_of(name, value), told=True)
    return roles


def guess(columns: Sequence[str], told: Mapping[str, Role]) -> dict[str, Role]:
    """The roles told, and of those not told the ones that a column's name gives away."""
    roles = dict(told)
    free = [name for name in columns if name not in {role.column for role in told.values()}]
    for role, names in NAMES.items():
        if role in roles:
            continue
        order = {name: place for place, name in enumerate(names.split())}
        found = sorted(
            (place, whole, columns.index(column), column)
            for column in free
            for whole, name in enumerate(_spellings(column))
            if (place := order.get(name)) is not None
        )
        if found:
            column = found[0][-1]
            free.remove(column)
            roles[role] = Role(column, unit_of(role, column))
    return roles


def unit_of(role: str, column: str) -> str | None:
    """The unit that the column's name ends in, if it is one of the role's."""
    last = _words(column)[-1:] or [""]
    unit = UNIT_OF_WORD.get(last[0])
    return unit if unit in UNITS.get(role, ()) else None


def _spellings(column: str) -> list[str]:
    """The name in letters and digits, whole, and for a nested field its last part; with and without
    the unit it ends in."""
    spelt = []
    for name in dict.fromkeys((column, column.rpartition(".")[2])):
        words = [word for word in _words(name) if word not in _FILLERS]
        spelt.append("".join(words))
        if words and words[-1] in UNIT_OF_WORD:
            spelt.append("".join(words[:-1]))
    return spelt


def _words(column: str) -> list[str]:
    parted = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", column)
    return [word.lower() for word in re.split(r"[^A-Za-z0-9µ]+", parted) if word]
