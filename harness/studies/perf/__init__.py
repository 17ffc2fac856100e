"""How fast it is, as ratios in one run: against a conventional loop and the machine's limit.

``race`` has contenders take turns in processes of their own, ``setting`` says what they all work
on, ``conventional`` is the model and the loop of most public code, ``peers`` runs such code itself
where the user has it, ``contenders`` is the work of each side, ``measure`` makes a table of each
question, ``kernels`` says where the time goes, ``overheads`` what a job costs beside its work, and
``report`` writes tables down. From outside only ``main`` is needed, and ``find`` for a peer.
"""

from harness.studies.perf.measure import main
from harness.studies.perf.peers import find

__all__ = ["find", "main"]
