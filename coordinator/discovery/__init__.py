"""Discovery: a Kademlia over encrypted UDP.

Source: docs/spec/discovery.md. Everything here but ``udp`` is pure: bytes and times come in, bytes
and actions go out, so that the simulator runs the same code in virtual time.
"""
