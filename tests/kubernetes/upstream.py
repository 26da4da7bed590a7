# SPDX-License-Identifier: Apache-2.0
"""Connections to the cluster's API, for what stands between it and an engine."""

from __future__ import annotations

import base64
import http.client
import ssl
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml


class Upstream:
    """The cluster's API.

    :param kubeconfig: leads there.
    :param token: who the cluster is told that the caller is; else the kubeconfig's user.
    """

    def __init__(self, kubeconfig: Path, token: str | None = None) -> None:
        config = yaml.safe_load(kubeconfig.read_text("utf-8"))
        url = urlsplit(config["clusters"][0]["cluster"]["server"])
        self._address = (url.hostname or "", url.port or 443)
        self._tls = _tls(config, as_user=token is None)
        self.authorization = {"Authorization": f"Bearer {token}"} if token else {}

    def connect(self) -> http.client.HTTPSConnection:
        """Connect."""
        return http.client.HTTPSConnection(*self._address, timeout=400, context=self._tls)


def _tls(config: dict[str, Any], as_user: bool) -> ssl.SSLContext:
    with tempfile.TemporaryDirectory() as folder:
        def file(part: dict[str, Any], name: str) -> str:
            if f"{name}-data" not in part:
                return str(part[name])
            path = Path(folder, name)
            path.write_bytes(base64.b64decode(part[f"{name}-data"]))
            return str(path)

        context = ssl.create_default_context(
            cafile=file(config["clusters"][0]["cluster"], "certificate-authority"))
        if as_user:
            user = config["users"][0]["user"]
            context.load_cert_chain(file(user, "client-certificate"), file(user, "client-key"))
        return context
