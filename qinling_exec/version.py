# SPDX-License-Identifier: Apache-2.0
"""The version of the installed package."""

from importlib import metadata

try:
    VERSION = metadata.version("qinling-exec")
except metadata.PackageNotFoundError:  # run from a checkout that was never installed
    VERSION = "0.0.0"
