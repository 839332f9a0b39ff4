# SPDX-License-Identifier: Apache-2.0
"""How long the tests of this directory wait for what must come."""

# A busy machine may take a hundred times as long as a quiet one. What does not come within this time hangs.
PATIENCE_SECONDS = 240
