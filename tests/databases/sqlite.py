# SPDX-License-Identifier: Apache-2.0
"""SQLite: no server, a file for each schema."""

from __future__ import annotations

from tests.databases.server import Server


class SQLite(Server):
    """Has the interface of a server, so that a test can be given any database."""

    kind = "sqlite"

    def prepare(self) -> None:
        """Need nothing."""

    def command(self) -> list[str]:
        """Refuse: there is nothing to run."""
        raise NotImplementedError

    def address(self, schema: str, port: int | None = None) -> str:
        """Return the SQLAlchemy URL of a schema."""
        assert port is None, "SQLite is not reached through a port"
        return f"sqlite:///{self.folder}/{schema}.sqlite"

    def start(self) -> None:
        """Need nothing."""

    def stop(self) -> None:
        """Leave the files as they are."""

    def kill(self) -> None:
        """Leave the files as they are."""

    def pause(self) -> None:
        """Refuse: it can't hang by itself."""
        raise NotImplementedError

    resume = pause

    def new_schema(self) -> str:
        """Return the URL of a file that is not there yet."""
        return self.address(f"qinling_{next(self._numbers)}")

    def drop_schema(self, url: str) -> None:
        """Remove the file of a schema."""
        for path in self.folder.glob(f"{url.rpartition('/')[2]}*"):
            path.unlink()
