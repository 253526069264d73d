"""The coordinator: knows everything about the node, carries no datagram."""
