"""Questions about the harness and its methods that no leaderboard answers.

``checks`` are the promises that every method keeps, ``hindsight`` what the best of many random
plans would gain, ``perf`` how fast everything is.
"""
