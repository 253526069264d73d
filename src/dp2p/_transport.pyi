"""The extension that cext/build.py declares; dp2p.transport gives its functions their types."""

from typing import Any

ffi: Any
lib: Any
