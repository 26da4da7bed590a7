# SPDX-License-Identifier: Apache-2.0
"""Tests of the whole service: a real process on a real port."""
