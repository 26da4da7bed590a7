# SPDX-License-Identifier: Apache-2.0
"""Functions and bytes of packages never go over a limit, whoever adds at the same moment."""

import threading

import pytest
import sqlalchemy as sa

from qinling_exec import exceptions
from qinling_exec.db import models
from qinling_exec.db.engine import utcnow
from qinling_exec.quota import holding
from qinling_exec.quota.holding import Holding
from qinling_exec.quota.limits import FUNCTIONS, PACKAGE_BYTES

pytestmark = pytest.mark.every_database


class Limits:
    def __init__(self, functions=-1, package_bytes=-1):
        self.limits = {FUNCTIONS: functions, PACKAGE_BYTES: package_bytes}

    def of(self, project_id):
        return self.limits


def add(database, held, project="mine", package=None, size=0):
    with database.writer() as connection:
        if package is not None and not connection.execute(sa.select(models.Package).where(
                models.Package.sha256 == package)).first():
            connection.execute(sa.insert(models.Package.__table__),
                               {"sha256": package, "md5": "m", "size": size})
        connection.execute(sa.insert(models.Function.__table__), {
            "id": models.new_id(), "cpu": 100, "memory_size": 1, "timeout": 5, "code": "{}",
            "entry": "m.m", "project_id": project, "created_at": utcnow(), "package": package,
        })
        held.check(connection, project, held.of(project), functions=1, size=size)


def functions(database, project="mine"):
    table = models.Function.__table__
    with database.reader() as connection:
        return connection.execute(sa.select(sa.func.count()).where(
            table.c.project_id == project)).scalar_one()


def test_one_function_too_many(database):
    held = Holding(Limits(functions=2))
    add(database, held)
    add(database, held)
    with pytest.raises(exceptions.OverQuota,
                       match=r"functions: the limit of the project is 2, it has 2") as found:
        add(database, held)
    assert found.value.code == 403
    assert functions(database) == 2
    add(database, held, "other")


def test_one_byte_too_many(database):
    held = Holding(Limits(package_bytes=100))
    add(database, held, package="a" * 64, size=60)
    add(database, held, package="a" * 64, size=60)  # it is stored once
    with pytest.raises(exceptions.OverQuota, match=r"package_bytes: .* is 100, it has 60, and 41"):
        add(database, held, package="b" * 64, size=41)
    add(database, held, package="c" * 64, size=40)


def test_a_version_keeps_its_package_on_the_account(database):
    held = Holding(Limits(package_bytes=100))
    add(database, held, package="a" * 64, size=60)
    with database.writer() as connection:
        function = connection.execute(sa.select(models.Function.id)).scalar_one()
        connection.execute(sa.insert(models.FunctionVersion.__table__), {
            "id": models.new_id(), "project_id": "mine", "function_id": function,
            "version_number": 1, "package": "a" * 64, "created_at": utcnow()})
        connection.execute(sa.update(models.Function.__table__).values(package=None))
    with pytest.raises(exceptions.OverQuota):
        add(database, held, package="b" * 64, size=41)


def test_many_at_once_get_exactly_what_there_is(database):
    """As from several processes: nothing but the database is between them."""
    outcomes = []

    def one():
        try:
            add(database, Holding(Limits(functions=5)))
            outcomes.append("added")
        except exceptions.OverQuota:
            outcomes.append("refused")

    threads = [threading.Thread(target=one) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["added"] * 5 + ["refused"] * 7
    assert functions(database) == 5


def test_without_limits_nothing_is_locked(database):
    add(database, Holding(Limits()), package="a" * 64, size=10)
    with database.reader() as connection:
        assert connection.execute(sa.select(models.QuotaLock)).first() is None


def test_the_lock_of_a_project_is_made_once(database):
    for _ in range(2):
        with database.writer() as connection:
            holding.lock(connection, "mine")
    with database.reader() as connection:
        assert connection.execute(sa.select(models.QuotaLock.taken)).scalars().all() == [1]
