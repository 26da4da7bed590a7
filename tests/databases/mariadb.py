# SPDX-License-Identifier: Apache-2.0
"""MariaDB."""

from __future__ import annotations

from tests.databases.server import Server, program

_PASSWORD = "not-a-secret"


class MariaDB(Server):
    """A MariaDB server with its defaults, but for what makes it quick and small."""

    kind = "mariadb"
    users = ("mysql",)
    first_schema = "mysql"

    def prepare(self) -> None:
        """Make the files of a new server."""
        self.run(_program("mariadb-install-db", "mysql_install_db"), "--no-defaults",
                 f"--datadir={self.folder}/data", "--auth-root-authentication-method=normal",
                 "--skip-test-db", "--skip-name-resolve", "--innodb-flush-log-at-trx-commit=0")
        (self.folder / "first.sql").write_text(
            f"CREATE USER IF NOT EXISTS qinling@'127.0.0.1' IDENTIFIED BY '{_PASSWORD}';\n"
            "GRANT ALL ON *.* TO qinling@'127.0.0.1';\n"
        )

    def command(self) -> list[str]:
        """Return the command that runs the server in the foreground."""
        options = [
            "--no-defaults", f"--datadir={self.folder}/data", f"--port={self.port}",
            "--bind-address=127.0.0.1", f"--socket={self.folder}/socket", "--skip-name-resolve",
            f"--pid-file={self.folder}/pid", f"--init-file={self.folder}/first.sql",
            "--max-connections=400", "--default-time-zone=+02:00", "--innodb-fast-shutdown=1",
            f"--tmpdir={self.folder}",
        ]
        if not self.durable:
            options += ["--innodb-flush-log-at-trx-commit=2", "--skip-innodb-doublewrite"]
        return [_program("mariadbd", "mysqld"), *options]

    def address(self, schema: str, port: int | None = None) -> str:
        """Return the SQLAlchemy URL of a schema, through another port when one is given."""
        return f"mysql+pymysql://qinling:{_PASSWORD}@127.0.0.1:{port or self.port}/{schema}"


def _program(*names: str) -> str:
    return program(names, (), "mariadb-server")
