"""The measures that the ledger may name."""
