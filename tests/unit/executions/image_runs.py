# SPDX-License-Identifier: Apache-2.0
"""A driver of runs of images that print and end as a test says, and what tests do with it."""

import threading
import time

from qinling_exec.executions import logs, states, targets
from qinling_exec.executions.queue import Queue
from qinling_exec.orchestrator.base import ImageEnd, OrchestratorUnavailable

DONE = ImageEnd("success", "none", None, 1.0)
LOST = states.error("It was lost.")
DELETED = ImageEnd("error", "deleted", "It was deleted.")


class Driver:
    """Runs that print and end as the test says."""

    ready = True

    def __init__(self):
        self.runs, self.ended, self.waits = {}, [], {}
        self.prints, self.end_with, self.error, self.away = b"", DONE, None, False
        self.going_on, self.may_begin = threading.Event(), threading.Event()
        self.may_begin.set()
        self.entered = threading.Event()

    def listen(self, on_room):
        self.on_room = on_room

    def waiting(self):
        return {attempt for attempt in self.runs if attempt not in self.waits}

    def begin(self, run):
        self.entered.set()
        self.may_begin.wait(10)
        if self.error:
            raise self.error
        self.runs[run.attempt] = run

    def log_begin(self, attempt):
        if self.away:
            raise OrchestratorUnavailable("no answer")
        run = self.runs.get(attempt)
        return run.log_begin if run else None

    def follow(self, attempt, on_log, skip, left):
        on_log(self.prints[skip:])
        while not self.going_on.wait(0.01) and not left.is_set() and attempt not in self.ended:
            pass
        if left.is_set():
            return None
        return DELETED if attempt in self.ended else self.end_with

    def end(self, attempt):
        self.seen_at_end = self.images.fences()
        self.ended.append(attempt)

    def all(self):
        return set(self.runs)


class Me:
    id = "me"

    def beat(self):
        pass

    def holds(self, runner_id):
        return runner_id == self.id


def begin(database, images, count=1):
    with database.reader() as connection:
        group, = Queue(database).groups(connection)
    images.begin(group, target_of(database), count)


def wait_for(condition, seconds=10):
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.01)
    return condition()


def log_of(database, execution_id):
    with database.reader() as connection:
        return logs.read(connection, execution_id)


def target_of(database):
    with database.reader() as connection:
        return targets.load(connection, "f", 0)
