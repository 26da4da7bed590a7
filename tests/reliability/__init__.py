# SPDX-License-Identifier: Apache-2.0
"""Faults of every kind, with an independent ledger of what really ran.

The parts: ``functions/`` are what is run; each run tells :mod:`ledger` when it starts and ends,
over a connection that the kernel closes when its last process is gone. :mod:`history` is a client
that writes down what it was answered. :mod:`invariants` holds the two against the service's own
records.
"""
