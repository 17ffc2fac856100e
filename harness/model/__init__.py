"""What forecasts: the contract of a patching method, and the forecaster that all of them share.

``patcher`` is the contract. ``forecaster`` puts the parts together: instance norm, ``stem``,
patcher, ``embedders``, ``backbones`` and ``heads``; ``layers`` is what these parts share.
``registry`` finds methods by name; ``declared`` says what they declare without loading torch,
and ``inspection`` loads them for it in another process. People who write methods import from
``harness``.
"""
