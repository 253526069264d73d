"""Declares the extension ``dp2p._transport`` to cffi (API mode, so the compiler checks it all).

The declarations are read from the public headers, between ``/* cdef:begin */`` and
``/* cdef:end */``. libsodium is required; libcrypto's AEAD is built in where pkg-config finds
OpenSSL 3, unless the environment sets ``DP2P_WITHOUT_OPENSSL=1``.
"""

import os
import re
import shlex
import subprocess
from pathlib import Path

from cffi import FFI

ROOT = Path(__file__).resolve().parent.parent
INCLUDE = ROOT / "cext" / "include"

# In the order of their dependencies: a later header uses the names of an earlier one.
HEADERS = ("dp2p_base.h", "dp2p_identity.h", "dp2p_noise.h", "dp2p_packet.h", "dp2p.h")

CFLAGS = (
    "-std=c11",
    "-O3",
    "-Wall",
    "-Wextra",
    # cffi's generated file passes every function the module object, used or not.
    "-Wno-unused-parameter",
    "-Werror=implicit-function-declaration",
    "-Werror=incompatible-pointer-types",
    "-Werror=int-conversion",
    "-Werror=return-type",
    "-fvisibility=hidden",
    "-fstack-protector-strong",
)

# For quoted names alone: a header of ours may be called as one of the system's (<sched.h>).
INCLUDES = ("-iquote", "cext/include", "-iquote", "cext/src")

_REGION = re.compile(r"/\* cdef:begin \*/(.*?)/\* cdef:end \*/", re.DOTALL)


def declarations(header: str) -> str:
    """Everything in ``header`` that is marked for cffi. Raises ValueError if nothing is."""
    regions = _REGION.findall(header)
    if not regions:
        raise ValueError("a public header has no cdef:begin ... cdef:end region")
    return "\n".join(regions)


def pkg_config(*arguments: str) -> list[str]:
    """The words that pkg-config prints. Raises RuntimeError if it is missing or refuses."""
    command = [os.environ.get("PKG_CONFIG", "pkg-config"), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except FileNotFoundError as error:
        raise RuntimeError("dp2p needs pkg-config to build its extension") from error
    except subprocess.CalledProcessError as error:
        raise RuntimeError(f"{shlex.join(command)}: {error.stderr.strip()}") from error
    return shlex.split(done.stdout)


def with_openssl() -> bool:
    """Whether libcrypto's provider is built in."""
    if os.environ.get("DP2P_WITHOUT_OPENSSL", "0") not in ("", "0"):
        return False
    try:
        pkg_config("--exists", "libcrypto >= 3")
    except RuntimeError:
        return False
    return True


def relative(paths: list[Path]) -> list[str]:
    """Sorted paths below the root, as setuptools wants them."""
    return sorted(str(path.relative_to(ROOT)) for path in paths)


def make() -> FFI:
    """The builder that setup.py hands to cffi."""
    openssl = with_openssl()
    libraries = ["libsodium", *(["libcrypto"] if openssl else [])]
    macros: list[tuple[str, str | None]] = [("_GNU_SOURCE", None)]
    if openssl:
        macros.append(("DP_HAVE_OPENSSL", None))
    headers = [INCLUDE / name for name in HEADERS if (INCLUDE / name).exists()]
    ffi = FFI()
    ffi.cdef("\n".join(declarations(path.read_text()) for path in headers))
    ffi.set_source(
        "dp2p._transport",
        "".join(f'#include "{path.name}"\n' for path in headers),
        sources=relative([*(ROOT / "cext" / "src").glob("*.c")]),
        depends=relative(
            [
                *(ROOT / "cext" / "src").glob("*.h"),
                *INCLUDE.glob("*.h"),
                Path(__file__).resolve(),
            ]
        ),
        define_macros=macros,
        extra_compile_args=[*CFLAGS, *INCLUDES, *pkg_config("--cflags", *libraries)],
        extra_link_args=pkg_config("--libs", *libraries),
    )
    return ffi


ffi = make()
