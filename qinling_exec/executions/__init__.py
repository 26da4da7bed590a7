# SPDX-License-Identifier: Apache-2.0
"""The execution controller: accepts, runs, watches and records executions."""
