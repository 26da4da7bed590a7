# SPDX-License-Identifier: Apache-2.0
"""Replays what Qinling 5.0.0 answered against this service."""
