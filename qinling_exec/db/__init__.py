# SPDX-License-Identifier: Apache-2.0
"""The database: connections, models, migrations."""
