"""Questions about the harness and its methods that no leaderboard answers.

``checks`` are the promises that every method keeps, ``hindsight`` what the best of many random
plans would gain, ``perf`` how fast everything is, ``chaos`` whether kills lose anything, ``scale``
what thousands of runs cost beside their work, ``simulation`` how often verdicts are wrong. Each
has a ``main`` or one function to call; nothing imports them but the command line.
"""
