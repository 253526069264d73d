"""The application SDK: a small client of a node's application API (docs/spec/app-api.md)."""
