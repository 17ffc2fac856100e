"""A suite, from its file to its rows: plan, survey, execute, watch, tune and audit.

``suite`` plans jobs, ``execute`` sees which of them are missing and stores what is measured,
``local`` and ``ray`` do the work, ``tune`` searches and ``audit`` checks committed rows.
"""
