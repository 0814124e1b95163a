"""The cluster's API, as far as we need it: by lightkube."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx2
from lightkube import AsyncClient, KubeConfig
from lightkube.config.client_adapter import verify_cluster
from lightkube.config.kubeconfig import SingleConfig
from lightkube.config.models import User
from lightkube.core.exceptions import ApiError, ConfigError
from lightkube.generic_resource import create_namespaced_resource
from lightkube.types import PatchType

from warmscaler.service.knative.revisions import GROUP, KIND, OWNER, PLURAL, VERSION

ALL = "*"
"""Every namespace."""
WATCH_S = 290
"""For so long one watch is asked for; the next goes on where it ended."""
SILENT_S = WATCH_S + 30.0
"""A watch that says nothing for longer is dead."""
_ANSWER_S = 10.0
GONE, CONFLICT, NOT_FOUND = 410, 409, 404

_Revision = create_namespaced_resource(GROUP, VERSION, KIND, PLURAL)
_Lease = create_namespaced_resource("coordination.k8s.io", "v1", "Lease", "leases")


class ApiFailure(Exception):
    """The API did not do what was asked. Its text is one line."""

    def __init__(self, text: str, status: int = 0) -> None:
        super().__init__(text)
        self.status = status
        """HTTP's; 0 where nobody answered."""


class NoCluster(Exception):
    """There is no configuration of a cluster. Its text is one line."""


@dataclass(frozen=True, slots=True)
class Event:
    """One of a watch: ADDED, MODIFIED, DELETED, BOOKMARK."""

    kind: str
    object: dict[str, Any]


class _Bookmarks(httpx2.AsyncHTTPTransport):
    """Asks for bookmarks in every watch: a quiet one then does not fall behind and expire."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if request.url.params.get("watch") == "true":
            request.url = request.url.copy_merge_params({"allowWatchBookmarks": "true"})
        return await super().handle_async_request(request)


class Api:
    """Belongs to the running event loop. Every call raises ApiFailure."""

    def __init__(self, config: SingleConfig) -> None:
        user = config.user or User()
        verify = verify_cluster(config.cluster, user, config.abs_file)
        self._client = AsyncClient(
            config,
            timeout=httpx2.Timeout(_ANSWER_S),
            field_manager=OWNER,
            trust_env=False,
            transport=_Bookmarks(verify=verify),
            lazy=False,
        )
        self.namespace = config.namespace
        """Where we run."""

    async def close(self) -> None:
        await self._client.close()

    async def revisions(self, namespace: str) -> tuple[list[dict[str, Any]], str]:
        """All there are, and the version of the list."""
        found = self._client.list(_Revision, namespace=namespace)
        try:
            every = [_plain(each) async for each in found]
        except (httpx2.HTTPError, OSError) as error:
            raise _failure(error) from None
        return every, str(found.resourceVersion)

    async def watch(self, namespace: str, version: str) -> AsyncIterator[Event]:
        """What happened since `version`, until the API ends it. 410: list anew."""
        events = self._client.watch(
            _Revision, namespace=namespace, resource_version=version, server_timeout=WATCH_S
        )
        try:
            async for kind, found in events:
                yield Event(kind, _plain(found))
        except (httpx2.HTTPError, OSError) as error:
            raise _failure(error) from None

    async def revision(self, namespace: str, name: str) -> dict[str, Any]:
        """One, as it is now."""
        try:
            return _plain(await self._client.get(_Revision, name, namespace=namespace))
        except (httpx2.HTTPError, OSError) as error:
            raise _failure(error) from None

    async def patch(self, namespace: str, name: str, body: dict[str, Any]) -> dict[str, Any]:
        """A merge patch of one Revision; what it is then."""
        try:
            found = await self._client.patch(
                _Revision, name, body, namespace=namespace, patch_type=PatchType.MERGE
            )
        except (httpx2.HTTPError, OSError) as error:
            raise _failure(error) from None
        return _plain(found)

    async def lease(self, namespace: str, name: str) -> dict[str, Any] | None:
        """The Lease; None if there is none."""
        try:
            found = await self._client.get(_Lease, name, namespace=namespace)
        except (httpx2.HTTPError, OSError) as error:
            failure = _failure(error)
            if failure.status == NOT_FOUND:
                return None
            raise failure from None
        return _plain(found)

    async def write_lease(
        self, namespace: str, name: str, version: str | None, spec: dict[str, Any]
    ) -> None:
        """Creates it where `version` is None, else replaces the one of that version."""
        meta = {"name": name, "namespace": namespace}
        if version is not None:
            meta["resourceVersion"] = version
        lease = _Lease.from_dict({"metadata": meta, "spec": spec})
        try:
            if version is None:
                await self._client.create(lease)
            else:
                await self._client.replace(lease)
        except (httpx2.HTTPError, OSError) as error:
            raise _failure(error) from None


def cluster(path: str | None) -> SingleConfig:
    """Of a kubeconfig, or of where we run: in the cluster, or as `kubectl` does. Raises NoCluster."""
    try:
        config = KubeConfig.from_env() if path is None else KubeConfig.from_file(path)
        found = config.get()
    except (ConfigError, OSError, ValueError, KeyError) as error:
        text = " ".join(str(error).split())
        raise NoCluster(f"{path or 'the cluster'}: no configuration of one: {text}") from None
    if found is None:
        raise NoCluster("no cluster is configured: give --kubeconfig FILE")
    return found


def _plain(found: Any) -> dict[str, Any]:
    return dict(found.to_dict())


def _failure(error: Exception) -> ApiFailure:
    if isinstance(error, ApiError):
        return ApiFailure(str(error.status.message), int(error.status.code or 0))
    if isinstance(error, httpx2.HTTPStatusError):
        return ApiFailure(str(error), error.response.status_code)
    return ApiFailure(str(error) or type(error).__name__)
