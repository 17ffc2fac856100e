"""Where results are kept and read: rows in CSV, bundles of runs, and the table of a suite.

``rows`` and ``bundles`` write and read; ``table`` joins the rows of a suite, checks them and says
which of them count. Nothing here reaches torch.
"""
