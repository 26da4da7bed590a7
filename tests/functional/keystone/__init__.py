# SPDX-License-Identifier: Apache-2.0
"""The service behind a real Keystone."""
