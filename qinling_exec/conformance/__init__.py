# SPDX-License-Identifier: Apache-2.0
"""Finds out whether a worker, in whatever language, keeps the worker protocol."""
