# SPDX-License-Identifier: Apache-2.0
"""Build the package; everything that is not a list of packages is in setup.cfg."""

import setuptools

MIGRATIONS = "qinling_exec.db.migrations"

setuptools.setup(
    pbr=True,
    packages=[
        *setuptools.find_packages(include=["qinling_exec", "qinling_exec.*"]),
        # The migrations are kept in the folder alembic/ of the checkout, which is no package of
        # its own: it would shadow the library.
        MIGRATIONS,
        f"{MIGRATIONS}.versions",
    ],
    package_dir={MIGRATIONS: "alembic"},
    package_data={MIGRATIONS: ["script.py.mako"],
                  "qinling_exec.conformance": ["functions/*"]},
)
