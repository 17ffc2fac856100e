"""One job, from data to record: windows, training, evaluation and what is measured.

The face is :func:`harness.run.job.run`, the function that every executor calls; it reads as the
list of what happens to a job. ``windows`` slices time, ``fit`` trains, ``evaluate`` scores,
``probes`` asks a tested model more, ``cost`` counts. Only this room computes a number of a row.
"""
