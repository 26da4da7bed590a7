# SPDX-License-Identifier: Apache-2.0
"""qinling-exec: run functions, keep what they returned and printed."""
