"""Rows in, reports out: statistics, leaderboard, page, figures, and tracking in MLflow.

Everything here is a function of rows and bundles: the same rows give the same bytes. Nothing here
reaches torch.
"""
