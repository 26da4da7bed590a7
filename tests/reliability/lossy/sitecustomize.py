# SPDX-License-Identifier: Apache-2.0
"""Makes a share of all SQL statements of a process fail, when this folder is in its PYTHONPATH.

``QINLING_EXEC_TEST_FAILING=0.05:SEED:FILE``, as long as there is a file of that name. Half
fail before they are sent and half after they were carried out; half as a deadlock (which is what
Galera answers too when it fails to certify), half with the loss of the connection.
"""

import os
import random
import threading

import psycopg
import pymysql
import sqlalchemy as sa

SHARE, SEED, FILE = os.environ["QINLING_EXEC_TEST_FAILING"].split(":", 2)
CHANCE = random.Random(int(SEED))
LOCK = threading.Lock()


@sa.event.listens_for(sa.Engine, "do_execute")
def fail(cursor, statement, parameters, context):
    """Carry out a statement, or not."""
    with LOCK:
        fails = CHANCE.random() < float(SHARE)
        first, lost = CHANCE.random() < 0.5, CHANCE.random() < 0.5
    if not fails or not os.path.exists(FILE):
        return False
    if first:
        cursor.execute(statement, parameters)
    driver = type(cursor).__module__.partition(".")[0]
    if not lost:
        raise (psycopg.errors.DeadlockDetected("deadlock detected") if driver == "psycopg" else
               pymysql.err.OperationalError(1213, "Deadlock found when trying to get lock"))
    if driver == "psycopg":
        cursor.connection.close()
        raise psycopg.OperationalError("server closed the connection unexpectedly")
    cursor.connection._force_close()
    raise pymysql.err.OperationalError(2013, "Lost connection to MySQL server during query")
