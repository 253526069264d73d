"""What dp2p costs and how fast it is, beside its peers and beside the physical limit.

``python -m load.bench`` (``dp2p bench``, ``make bench``) measures every registered contender in one
run and prints one table. How to add a contender: ``load/bench/registry.py``.
"""
