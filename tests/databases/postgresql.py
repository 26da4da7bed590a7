# SPDX-License-Identifier: Apache-2.0
"""PostgreSQL."""

from __future__ import annotations

import glob
import signal

from tests.databases.server import Server, program


class PostgreSQL(Server):
    """A PostgreSQL server; its text is UTF-8 in the order of the bytes (locale C)."""

    kind = "postgresql"
    users = ("postgres",)
    first_schema = "postgres"
    stop_signal = signal.SIGINT  # "fast": clients are disconnected

    def prepare(self) -> None:
        """Make the files of a new server."""
        self.run(_program("initdb"), "--no-sync", "--auth=trust", "--username=qinling",
                 "--encoding=UTF8", "--locale=C.UTF-8", "--pgdata", str(self.folder / "data"))

    def command(self) -> list[str]:
        """Return the command that runs the server in the foreground."""
        settings = {
            "listen_addresses": "127.0.0.1", "unix_socket_directories": str(self.folder),
            "max_connections": "400", "shared_buffers": "128MB", "timezone": "Europe/Berlin",
            "deadlock_timeout": "200ms", "logging_collector": "off",
        }
        if not self.durable:
            settings |= {"fsync": "off", "full_page_writes": "off"}
        options = [f"--{name}={value}" for name, value in settings.items()]
        return [_program("postgres"), "-D", str(self.folder / "data"), "-p", str(self.port),
                *options]

    def address(self, schema: str, port: int | None = None) -> str:
        """Return the SQLAlchemy URL of a schema, through another port when one is given."""
        return f"postgresql+psycopg://qinling@127.0.0.1:{port or self.port}/{schema}"


def _program(name: str) -> str:
    folders = sorted(glob.glob("/usr/lib/postgresql/*/bin"),
                     key=lambda path: int(path.split("/")[4]), reverse=True)
    return program((name,), tuple(folders), "postgresql")
