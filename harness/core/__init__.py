"""The values everything is made of, and nothing that computes: no torch, no pandas.

Tasks, jobs and records, how they are read from text, the constants of the protocol, files that are
written whole, locks, and the words that messages share. Every other room imports from here, and
this one from none.
"""
