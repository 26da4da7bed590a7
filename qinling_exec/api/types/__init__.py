# SPDX-License-Identifier: Apache-2.0
"""WSME types of request bodies, and how objects are shown in replies."""
