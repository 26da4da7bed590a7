# SPDX-License-Identifier: Apache-2.0
"""The REST API: HTTP, validation, policy. What things mean is decided below it."""
