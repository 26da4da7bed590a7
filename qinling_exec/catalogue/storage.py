# SPDX-License-Identifier: Apache-2.0
"""Packages and who refers to them: a package is there exactly as long as somebody needs it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import BinaryIO

import sqlalchemy as sa

from qinling_exec import exceptions
from qinling_exec.catalogue.packages import Incoming, PackageStore
from qinling_exec.db import models
from qinling_exec.db.engine import Database
from qinling_exec.runtime.package import Limits, PackageRefused, check

_table = models.Package.__table__
_functions = models.Function.__table__
_versions = models.FunctionVersion.__table__


class Storage:
    """Puts packages into the store and takes unused ones out.

    The row of a package is its lock: the store changes only inside a transaction that has just
    inserted or locked that row, so that one process can't remove what another is storing.
    """

    def __init__(self, database: Database, store: PackageStore, limits: Limits) -> None:
        self._database = database
        self._limits = limits
        self.store = store

    def check(self, package: Incoming, md5sum: str | None) -> None:
        """Refuse a package that is not what it should be; before any transaction.

        :raises qinling_exec.exceptions.InputError: it is no acceptable zip, or of another hash.
        """
        if md5sum is not None and md5sum != package.md5:
            raise exceptions.InputError("Package md5 mismatch.")
        try:
            check(package.read(), self._limits)
        except PackageRefused as error:
            raise exceptions.InputError(str(error)) from error

    def keep(self, connection: sa.Connection, package: Incoming) -> str:
        """Store a received package in the caller's transaction; return its hash.

        :raises qinling_exec.exceptions.InsufficientStorage: the disk is full.
        """
        known = connection.execute(
            sa.select(_table.c.sha256).where(_table.c.sha256 == package.sha256).with_for_update()
        ).first()
        if known is None:
            connection.execute(sa.insert(_table), {
                "sha256": package.sha256, "md5": package.md5, "size": package.size,
            })
        sha256 = package.sha256
        self.store.keep(package)
        return sha256

    @contextlib.contextmanager
    def undone_on_failure(self, package: Incoming | None) -> Iterator[None]:
        """Take a package out again when the transaction inside, which kept it, fails."""
        sha256 = package.sha256 if package is not None else None
        try:
            yield
        except BaseException:
            # A failure of the clean-up must not hide what failed first.
            with contextlib.suppress(Exception):
                self.release(sha256)
            raise

    def open(self, sha256: str, missing: str) -> BinaryIO:
        """Open a package. :raises qinling_exec.exceptions.NotFound: with the text given."""
        try:
            return self.store.open(sha256)
        except exceptions.NotFound as error:
            raise exceptions.NotFound(missing) from error

    def size(self, connection: sa.Connection, sha256: str | None) -> int:
        """Return the bytes of a package, 0 when there is none."""
        found = connection.execute(sa.select(_table.c.size).where(_table.c.sha256 == sha256))
        return int(found.scalar() or 0)

    def release(self, sha256: str | None) -> None:
        """Remove a package from the store when nothing refers to it any more."""
        if sha256 is None:
            return
        used = sa.or_(
            sa.exists().where(_functions.c.package == sha256),
            sa.exists().where(_versions.c.package == sha256),
        )
        with self._database.writer() as connection:
            row = connection.execute(
                sa.select(_table.c.sha256).where(_table.c.sha256 == sha256).with_for_update()
            ).first()
            if connection.execute(sa.select(used)).scalar():
                return
            if row is None:  # of a transaction that failed: the file is there without a row
                connection.execute(sa.insert(_table), {"sha256": sha256, "md5": "", "size": 0})
            connection.execute(sa.delete(_table).where(_table.c.sha256 == sha256))
            # Before the commit, while the row keeps others out. A crash in between leaves a row
            # without a file; storing the package again writes the file again.
            self.store.remove(sha256)
