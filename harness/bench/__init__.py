"""A suite, from its file to its rows: plan, survey, execute, watch, tune and audit.

``suite`` reads its file and ``plan`` makes the jobs; ``survey`` sees how each stands, ``execute``
has what is missing done and stores what is measured, and ``estimate`` says how long that takes.
``local`` and ``cluster`` do the work and tell of it in the words of ``events``; ``watch`` lets one
bench at a time write, and others see how far it is. ``tune`` searches, ``audit`` checks committed
rows, ``provenance`` says what they were made with.
"""
