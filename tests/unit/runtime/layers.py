# SPDX-License-Identifier: Apache-2.0
"""``layers.py PROGRAM …`` runs a program for which Landlock is used up, as if there were none.

A process can have 16 layers of it. What these keep apart is the program from all that is not below
it; nothing there from each other.
"""

from __future__ import annotations

import os
import sys

from qinling_exec.runtime import landlock, system

if __name__ == "__main__":
    if landlock.keeps_signals():
        system.forbid_new_privileges()
        for _ in range(16):
            landlock.restrict(None, "", "", signals=True)
    os.execvp(sys.argv[1], sys.argv[1:])
