"""The simulator: networks of nodes in virtual time, and a fast model of larger ones.

``engine``, ``network`` and ``nodes`` run the coordinator's own discovery code with simulated
packets; ``model`` computes with numpy what ideal tables would give. ``experiments`` are run by
`dp2p sim`, each with a seed: the same seed gives the same figures. Source: docs/simulation.md.
"""
