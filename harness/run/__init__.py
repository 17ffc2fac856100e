"""One job, from data to record: windows, training, evaluation and what is measured.

The face is :func:`harness.run.job.run`, the function that every executor calls. Only this room
computes a number of a row.
"""
