# SPDX-License-Identifier: Apache-2.0
"""Requests to the cluster's API: dicts in, dicts out, within a time, tried again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import urllib3
from oslo_config import cfg

from qinling_exec.orchestrator.base import (
    OrchestratorElsewhere,
    OrchestratorError,
    OrchestratorUnavailable,
)

JSON_PATCH = "application/json-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
#: What the server says when it has too much to do, or is not well.
_PASSING = frozenset({429, 500, 502, 503, 504})
#: About 6 seconds in all, and a second chance for an answer that did not come: who waits longer
#: comes again.
_RETRIES = urllib3.Retry(
    total=5, read=1, backoff_factor=0.2, status_forcelist=_PASSING, allowed_methods=None,
    raise_on_status=False, respect_retry_after_header=True,
)
Object = dict[str, Any]


class ApiError(OrchestratorError):
    """The cluster refused a request.

    :param status: HTTP status.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"The cluster refused: {message}")
        self.status = status

    @property
    def is_quota(self) -> bool:
        """True when there would be more than may be used in all."""
        return self.status == 403 and "exceeded quota" in str(self)


class Client:
    """One namespace of a cluster, as the configuration says. Any thread may use it."""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        options = conf.kubernetes
        self.namespace: str = options.namespace
        self._seconds: float = options.request_timeout
        self._silence: float = options.watch_silence
        self._configuration, self._http = _connect(options)

    def path(self, kind: str, name: str = "", part: str = "") -> str:
        """Return the path of a kind's objects, of one of them, or of a part of it."""
        group = "/apis/apps/v1" if kind in ("deployments", "replicasets") else "/api/v1"
        return "/".join(filter(None, (group, "namespaces", self.namespace, kind, name, part)))

    def request(self, method: str, path: str, body: Any = None, *,
                kind: str = "application/json", **params: str | int) -> Object:
        """Send a request; return the object that comes back.

        :param kind: of the body.
        :raises ApiError: it was refused.
        :raises OrchestratorUnavailable: the cluster does not answer, or not well.
        """
        with self._send(method, path, body, kind, params, self._seconds, _RETRIES) as response:
            text = _read(response)
        if response.status in _PASSING:
            raise OrchestratorUnavailable(f"The cluster answers {response.status}.")
        if response.status >= 400:
            raise _refusal(response.status, text)
        found: Object = json.loads(text)
        return found

    def stream(self, path: str, seconds: float | None = None,
               **params: str | int) -> Iterator[bytes]:
        """Yield what a request gives as it comes: lines of a watch, pieces of a log.

        The first piece is empty: the request was accepted.

        :param seconds: how long it may be silent, if that is not as long as a watch may.

        :raises ApiError: it was refused.
        :raises OrchestratorUnavailable: the cluster does not answer, or has fallen silent.
        """
        silence = self._silence if seconds is None else seconds
        with self._send("GET", path, None, "", params, silence, False) as response:
            if response.status >= 400:
                raise _refusal(response.status, _read(response))
            yield b""
            try:
                yield from response.stream(2**16)
            except (urllib3.exceptions.HTTPError, OSError) as error:
                raise OrchestratorUnavailable(f"The cluster went silent: {error}") from error

    def close(self) -> None:
        """Let go of all connections."""
        self._http.clear()

    def _send(self, method: str, path: str, body: Any, kind: str, params: dict[str, Any],
              seconds: float, retries: Any) -> urllib3.BaseHTTPResponse:
        headers = {"Accept": "application/json", "User-Agent": "qinling-exec"}
        if body is not None:
            headers["Content-Type"] = kind
        for setting in self._configuration.auth_settings().values():
            headers[setting["key"]] = setting["value"]
        url = f"{self._configuration.host}{path}" + (f"?{urlencode(params)}" if params else "")
        try:
            response: urllib3.BaseHTTPResponse = self._http.request(
                method, url, body=None if body is None else json.dumps(body), headers=headers,
                timeout=urllib3.Timeout(connect=self._seconds, read=seconds), retries=retries,
                preload_content=False)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise OrchestratorUnavailable(f"The cluster can't be reached: {error}") from error
        return response


def _connect(options: Any) -> tuple[Any, Any]:
    """Return the library's configuration, and connections made as it says."""
    # Here: API processes load the driver too, and need neither the library nor a cluster.
    from kubernetes import client as library
    from kubernetes import config as access

    configuration = library.Configuration()
    load: Any = access.load_kube_config if options.kubeconfig else access.load_incluster_config
    where = [options.kubeconfig, options.context] if options.kubeconfig else []
    try:
        load(*where, client_configuration=configuration)
    except (access.ConfigException, OSError) as error:
        raise OrchestratorElsewhere(
            f"The cluster is not known: {error} Set [kubernetes] kubeconfig, or run the engine in"
            " a pod with a service account."
        ) from error
    configuration.connection_pool_maxsize = 16
    return configuration, library.rest.RESTClientObject(configuration).pool_manager


def _read(response: urllib3.BaseHTTPResponse) -> bytes:
    try:
        return response.read()
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise OrchestratorUnavailable(f"The cluster broke off: {error}") from error


def _refusal(status: int, text: bytes) -> ApiError:
    try:
        return ApiError(status, str(json.loads(text).get("message", "")))
    except (ValueError, AttributeError):
        return ApiError(status, f"HTTP {status}")
