# SPDX-License-Identifier: Apache-2.0
"""The bearer secret of a worker: given at its start, or by whoever specialises it first."""

from __future__ import annotations

import hmac

from qinling_exec.runtime.messages import Refused

_SCHEME = b"Bearer "


class Secret:
    """What requests have to bring.

    A generic worker in a pod is started without a secret: all pods of a pool are alike, and
    whoever may read a pod's description must not learn it. The first request to specialise the
    worker brings the secret, which is the worker's from then on, for good.

    :param given: the secret, empty when it is still to come.
    """

    def __init__(self, given: str) -> None:
        self._bearer = _SCHEME + given.encode() if given else None

    @property
    def known(self) -> bool:
        """Whether the worker has its secret."""
        return self._bearer is not None

    def check(self, header: str) -> None:
        """Compare an Authorization header, in a time that tells nothing of the secret.

        :raises Refused: it is missing or wrong, or the worker has no secret yet.
        """
        if self._bearer is None:
            raise Refused(401, "The worker has no secret yet; the first POST /specialize brings"
                               " it.")
        if not hmac.compare_digest(header.encode("latin-1"), self._bearer):
            raise Refused(401, "The secret is missing or wrong.")

    def learn(self, header: str) -> None:
        """Make what an Authorization header brings the worker's secret, if it has none.

        :raises Refused: the header brings no secret.
        """
        if self._bearer is not None:
            return
        bearer = header.encode("latin-1")
        if not bearer.startswith(_SCHEME) or not bearer[len(_SCHEME):].strip():
            raise Refused(401, "A bearer secret is wanted: it becomes this worker's own.")
        self._bearer = bearer
