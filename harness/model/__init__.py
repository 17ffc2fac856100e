"""What forecasts: the contract of a patching method, and the forecaster that all of them share.

``patcher`` is the contract, ``forecaster`` puts norm, stem, patcher, embedder, backbone and head
together, ``registry`` finds methods by name. People who write methods import from ``harness``.
"""
