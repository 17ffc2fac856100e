"""The page of a suite: tables, figures and records in one file that opens from disk."""
