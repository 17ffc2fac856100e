"""Differences between methods: intervals, tests and verdicts, functions of a table."""
