"""The command line: ``python -m harness VERB``, which ``make VERB`` calls.

The only room that reads environment variables and prints.
"""
