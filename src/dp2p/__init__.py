"""A peer-to-peer node: one encrypted network of peers, shared by any number of applications."""

__version__ = "0.1.0"
