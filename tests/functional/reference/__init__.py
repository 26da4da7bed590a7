# SPDX-License-Identifier: Apache-2.0
"""The reference of the API, held against the service."""
