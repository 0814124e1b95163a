"""The cluster's API, as far as we need it: by lightkube."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
from lightkube import AsyncClient, KubeConfig
from lightkube.config.client_adapter import verify_cluster
from lightkube.config.kubeconfig import SingleConfig
from lightkube.config.models import User
from lightkube.core.exceptions import ApiError
from lightkube.generic_resource import create_namespaced_resource
from lightkube.types import PatchType

from warmscaler.service.knative.revisions import GROUP, KIND, OWNER, PLURAL, VERSION

ALL = "*"
"""Every namespace."""
WATCH_S = 290
"""For so long one watch is asked for; the next goes on where it ended."""
SILENT_S = WATCH_S + 30.0
"""A watch that says nothing for longer is dead."""
WATCH_AGAIN_S = 1.0
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


class _Watching(httpx2.AsyncHTTPTransport):
    """Asks for bookmarks in every watch: a quiet one then does not fall behind and expire. One that
    the API ends at once is not asked for again at once."""

    _may_s = 0.0

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if request.url.params.get("watch") == "true":
            now_s = asyncio.get_running_loop().time()
            await asyncio.sleep(self._may_s - now_s)
            self._may_s = max(now_s, self._may_s) + WATCH_AGAIN_S
            request.url = request.url.copy_merge_params({"allowWatchBookmarks": "true"})
        return await super().handle_async_request(request)


class Api:
    """Belongs to the running event loop. Every call raises ApiFailure."""

    def __init__(self, config: SingleConfig) -> None:
        """Raises NoCluster."""
        user = config.user or User()
        try:
            verify = verify_cluster(config.cluster, user, config.abs_file)
            self._client = AsyncClient(
                config,
                timeout=httpx2.Timeout(_ANSWER_S),
                field_manager=OWNER,
                trust_env=False,
                transport=_Watching(verify=verify),
                lazy=False,
            )
        except Exception as error:
            # Certificates that cannot be read, an address that is none: each its own kind.
            text = " ".join(str(error).split())
            raise NoCluster(
                f"{config.context_name}: this cluster cannot be called: {text}"
            ) from None
        self.namespace = config.namespace
        """Where we run."""

    async def close(self) -> None:
        await self._client.close()

    async def revisions(self, namespace: str) -> tuple[list[dict[str, Any]], str]:
        """All there are, and the version of the list."""
        found = self._client.list(_Revision, namespace=namespace)
        with _asked():
            every = [_plain(each) async for each in found]
            return every, str(found.resourceVersion)

    async def watch(self, namespace: str, version: str) -> AsyncIterator[Event]:
        """What happened since `version`, until the API ends it. 410: list anew."""
        events = self._client.watch(
            _Revision, namespace=namespace, resource_version=version, server_timeout=WATCH_S
        )
        with _asked():
            async for kind, found in events:
                yield Event(kind, _plain(found))

    async def revision(self, namespace: str, name: str) -> dict[str, Any]:
        """One, as it is now."""
        with _asked():
            return _plain(await self._client.get(_Revision, name, namespace=namespace))

    async def patch(self, namespace: str, name: str, body: dict[str, Any]) -> dict[str, Any]:
        """A merge patch of one Revision; what it is then."""
        with _asked():
            found = await self._client.patch(
                _Revision, name, body, namespace=namespace, patch_type=PatchType.MERGE
            )
            return _plain(found)

    async def lease(self, namespace: str, name: str) -> dict[str, Any] | None:
        """The Lease; None if there is none."""
        try:
            with _asked():
                return _plain(await self._client.get(_Lease, name, namespace=namespace))
        except ApiFailure as failure:
            if failure.status == NOT_FOUND:
                return None
            raise

    async def write_lease(
        self, namespace: str, name: str, lease: dict[str, Any] | None, spec: dict[str, Any]
    ) -> None:
        """Creates it where `lease` is None, else replaces what that one says, of its version."""
        made = lease or {"metadata": {"name": name, "namespace": namespace}}
        made = _Lease.from_dict({**made, "spec": spec})
        with _asked():
            await (self._client.create(made) if lease is None else self._client.replace(made))


def cluster(path: str | None) -> SingleConfig:
    """Of a kubeconfig, or of where we run: in the cluster, or as `kubectl` does. Raises NoCluster."""
    try:
        config = KubeConfig.from_env() if path is None else KubeConfig.from_file(path)
        found = config.get()
    except Exception as error:  # of whatever the file has instead
        said = f"there is no {error}" if isinstance(error, KeyError) else str(error)
        text = " ".join(said.split())
        raise NoCluster(f"{path or 'the cluster'}: no configuration of one: {text}") from None
    if found is None:
        raise NoCluster("no cluster is configured: give --kubeconfig FILE")
    return found


@contextmanager
def _asked() -> Iterator[None]:
    """Whatever comes of it is the API's failure: of what is no answer of its, a proxy's page, a line
    cut short, the client raises what its decoder does, or a KeyError of a header."""
    try:
        yield
    except Exception as error:
        raise _failure(error) from None


def _plain(found: Any) -> dict[str, Any]:
    return dict(found.to_dict())


def _failure(error: Exception) -> ApiFailure:
    if isinstance(error, ApiError):
        return ApiFailure(str(error.status.message), int(error.status.code or 0))
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, httpx2.HTTPStatusError):
            return ApiFailure(str(cause), cause.response.status_code)
        cause = cause.__context__
    return ApiFailure(str(error) or type(error).__name__)
