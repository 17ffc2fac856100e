"""Rows in, reports out; the same rows give the same bytes, and nothing here reaches torch.

``board`` counts, with ``statistics`` for what is significant. ``tables`` writes the leaderboard
and its other formats, ``excerpts`` its first lines into README and docs, ``page`` the page of a
suite with the figures that ``drawings`` makes; ``tracking`` logs runs in MLflow and ``serving``
shows them there. What tables and page both say is in ``wording``, how text is set in ``formats``,
every picture in ``figures``.
"""
