"""The fields that the contest's page of statistics has."""

from __future__ import annotations

FIELDS = {
    "id",
    "requestFilePath",
    "metaFilePath",
    "startTime",
    "endTime",
    "totalRequestsCount",
    "failedRequestsCount",
    "successRate",
    "invocationLatencyInSecs",
    "invocationExecutionTimeInSecs",
    "invocationExecutionTimeInGBs",
    "invocationScheduleTimeInSecs",
    "invocationIdleTimeInSecs",
    "totalSlotTimeInGBs",
    "totalLiveSlotCount",
    "score",
}
