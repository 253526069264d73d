"""Who may import and include whom, and how long a file may be.

The rules are the tables at the top; to allow something is to add a row and say why. Each check
takes sources as a mapping from name to text, so that the second half of this file can show that it
fails when it should.
"""

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAX_LINES = 600

# --- Python: layers. The longest prefix of a module's name decides; what has no row is core. ---

LAYERS = {
    "dp2p": "core",
    "dp2p.__init__": "facade",  # the public names, taken from core and SDK
    "dp2p.coordinator": "coordinator",
    "dp2p.shards": "shards",
    "dp2p.sdk": "sdk",
    "dp2p.sim": "sim",
    "dp2p.cli": "cli",
    "dp2p.__main__": "cli",
    "load": "load",
    "load.bench.discovery": "load of the coordinator",  # both are parts that no SDK reaches
    "load.bench.store": "load of the coordinator",
}

MAY_IMPORT = {
    "core": {"core"},
    "facade": {"core", "sdk"},
    "coordinator": {"core", "coordinator"},
    "shards": {"core", "shards"},
    "sdk": {"core", "sdk"},
    "sim": {"core", "coordinator", "sim"},
    "cli": {"core", "facade", "sdk", "coordinator", "shards", "load", "sim", "cli"},
    "load": {"core", "facade", "sdk", "load"},
    "load of the coordinator": {"core", "coordinator", "load"},
}

# --- Python: modules that only some may import. A row covers what lies below it as well. ---

# Where bytes, time and randomness come from outside; all else gets them handed in.
EDGES = (
    "dp2p.cli",
    "dp2p.launch",
    "dp2p.listening",
    "dp2p.sdk",
    "dp2p.supervisor",
    "dp2p.coordinator.__main__",
    "dp2p.coordinator.discoverer",
    "dp2p.coordinator.discovery.udp",
    "dp2p.coordinator.interfaces",
    "dp2p.coordinator.nat",
    "dp2p.coordinator.node",
    "dp2p.coordinator.router",
    "dp2p.coordinator.upkeep",
    "dp2p.shards.__main__",
    "load",
)

RESTRICTED = {
    "dp2p._transport": ("dp2p.transport", "dp2p.transport_codes"),
    "cffi": ("dp2p.transport",),
    "sqlite3": (
        "dp2p.coordinator.store_file",
        "dp2p.coordinator.store_schema",
        "load.bench.store",  # for its version
    ),
    "zmq": (
        "dp2p.cli.client",
        "dp2p.sdk",
        "dp2p.coordinator.router",
        "dp2p.shards.applications",
        "dp2p.shards.fabric",
        "dp2p.shards.shard",
        "load",
    ),
    "asyncio": EDGES,
    "random": (*EDGES, "dp2p.sim"),  # which seeds it
    "secrets": EDGES,
    "select": EDGES,
    "selectors": EDGES,
    "socket": EDGES,
    "time": EDGES,
}

# The folders behind the links in src/dp2p would otherwise be importable under a second name.
SECOND_NAMES = ("coordinator", "shards", "src")

# --- C: (files, headers that they may not reach, not even through others) ---

HANDSHAKE = ("handshake*.h", "symmetric*.h", "patterns*.h", "noise*.h", "dp2p_noise.h")
UNREACHABLE = {
    "frame*": HANDSHAKE,
    "segment*": HANDSHAKE,
    "sched*": HANDSHAKE,
    "channel*": HANDSHAKE,
}

# --- C: header -> files that may include it ---

INCLUDERS = {
    "handshake.h": ("handshake*", "link*", "noise*"),
    "sys/epoll.h": ("engine*",),
    "sys/socket.h": ("engine*", "tcp*", "address*"),
}

Sources = Mapping[str, str]


def beneath(module: str, prefixes: Iterable[str]) -> bool:
    """Whether ``module`` is one of ``prefixes`` or lies below one."""
    return any(module == prefix or module.startswith(prefix + ".") for prefix in prefixes)


def layer(module: str) -> str:
    rows = [prefix for prefix in LAYERS if beneath(module, [prefix])]
    return LAYERS[max(rows, key=len)] if rows else "core"


def called_import(node: ast.Call) -> str | None:
    """The name in ``import_module("name")`` or ``__import__("name")``."""
    function = node.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    match node.args:
        case [ast.Constant(value=str(target)), *_] if name in ("import_module", "__import__"):
            return target
    return None


def imports(text: str, modules: Sources) -> Iterator[str]:
    """Every module that ``text`` imports, wherever; a relative import keeps its dots.

    ``from dp2p import errors`` imports dp2p.errors; ``from dp2p import attach``, which is a name
    and no module, imports dp2p.__init__.
    """
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            for alias in node.names:
                name = f"{base}.{alias.name}"
                if name in modules or name in RESTRICTED:
                    yield name
                elif base == "dp2p" and alias.name != "__version__":
                    yield "dp2p.__init__"
                else:
                    yield base
        elif isinstance(node, ast.Call) and (target := called_import(node)):
            yield target


def check_layers(modules: Sources) -> list[str]:
    return [
        f"{module} ({layer(module)}) imports {target} ({layer(target)})"
        for module, text in modules.items()
        for target in imports(text, modules)
        if beneath(target, ["dp2p", "load"]) and layer(target) not in MAY_IMPORT[layer(module)]
    ]


def check_restricted(modules: Sources) -> list[str]:
    return [
        f"{module} imports {target}; only {', '.join(allowed)} may"
        for module, text in modules.items()
        for target in imports(text, modules)
        for restricted, allowed in RESTRICTED.items()
        if beneath(target, [restricted]) and not beneath(module, allowed)
    ]


def check_absolute(modules: Sources) -> list[str]:
    return [
        f"{module} imports {target}: say dp2p..."
        for module, text in modules.items()
        for target in imports(text, modules)
        if target.startswith(".") or beneath(target, SECOND_NAMES)
    ]


def includes(text: str) -> list[str]:
    return re.findall(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', text, re.MULTILINE)


def reached(name: str, files: Sources) -> set[str]:
    """Every header that ``name`` includes, itself or through another of ``files``."""
    seen: set[str] = set()
    waiting = includes(files[name])
    while waiting:
        header = waiting.pop()
        if header not in seen:
            seen.add(header)
            waiting += includes(files.get(header, ""))
    return seen


def check_unreachable(files: Sources) -> list[str]:
    return [
        f"{name} reaches {header}"
        for name in files
        for pattern, headers in UNREACHABLE.items()
        if fnmatch(name, pattern)
        for header in sorted(reached(name, files))
        if any(fnmatch(header, forbidden) for forbidden in headers)
    ]


def check_includers(files: Sources) -> list[str]:
    return [
        f"{name} includes {header}; only {', '.join(INCLUDERS[header])} may"
        for name, text in files.items()
        for header in includes(text)
        if header in INCLUDERS and not any(fnmatch(name, allowed) for allowed in INCLUDERS[header])
    ]


def check_length(files: Sources) -> list[str]:
    return [
        f"{name} has {lines} lines, of at most {MAX_LINES}"
        for name, text in files.items()
        if (lines := len(text.splitlines())) > MAX_LINES
    ]


# --- the rules, held by what is in the tree ---


def python_modules() -> dict[str, str]:
    """Module name -> source, for all that is imported as dp2p.* or load.*."""
    folders = {
        "dp2p": ROOT / "src" / "dp2p",
        "dp2p.coordinator": ROOT / "coordinator",
        "dp2p.shards": ROOT / "shards",
        "load": ROOT / "load",
    }
    modules = {}
    for package, folder in folders.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            name = ".".join([package, *parts])
            # A package goes by its own name; only the root's facade keeps __init__.
            name = name if name == "dp2p.__init__" else name.removesuffix(".__init__")
            modules[name] = path.read_text(encoding="utf-8")
    return modules


def c_files() -> dict[str, str]:
    """File name -> source, for the extension without its tests."""
    folders = (ROOT / "cext" / "include", ROOT / "cext" / "src")
    return {
        path.name: path.read_text(encoding="utf-8")
        for folder in folders
        for path in sorted(folder.glob("*.[ch]"))
    }


def all_files() -> dict[str, str]:
    return {
        str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
        for folder in ("src", "coordinator", "shards", "load", "examples", "tests", "cext")
        for ending in ("*.py", "*.[ch]")
        for path in sorted((ROOT / folder).rglob(ending))
    }


def test_layers_hold() -> None:
    assert check_layers(python_modules()) == []


def test_restricted_modules_stay_at_the_edge() -> None:
    assert check_restricted(python_modules()) == []


def test_imports_are_absolute() -> None:
    assert check_absolute(python_modules()) == []


def test_framing_never_sees_the_handshake() -> None:
    assert check_unreachable(c_files()) == []


def test_c_headers_stay_with_their_users() -> None:
    assert check_includers(c_files()) == []


def test_files_are_short() -> None:
    assert check_length(all_files()) == []


def test_the_tree_is_found() -> None:
    assert "dp2p.__init__" in python_modules()
    assert "dp2p_base.h" in c_files()
    assert "tests/test_architecture.py" in all_files()


# --- each check fails when it should: (module, source, whether it is refused) ---

LAYER_ROWS = [
    ("dp2p.ids", "import dp2p.errors", False),
    ("dp2p.ids", "from dp2p import errors, __version__", False),
    ("dp2p.ids", "from dp2p import attach", True),
    ("dp2p.ids", "import dp2p.sdk", True),
    ("dp2p.unheard_of", "import dp2p.coordinator.main", True),
    ("dp2p.coordinator.table", "import dp2p.errors\nimport dp2p.coordinator.main", False),
    ("dp2p.coordinator.table", "import dp2p.shards.main", True),
    ("dp2p.shards.main", "from dp2p.coordinator import main", True),
    ("dp2p.shards.main", "def late():\n    from dp2p.coordinator.main import run", True),
    ("dp2p.shards.main", "import importlib\nimportlib.import_module('dp2p.coordinator')", True),
    ("dp2p.sdk.node", "from dp2p.sdk.stream import Stream", False),
    ("dp2p.sdk.node", "import dp2p.coordinator", True),
    ("dp2p.sdk.node", "import dp2p.shards", True),
    ("dp2p.sdk.node", "from dp2p.cli import main", True),
    ("dp2p.__init__", "from dp2p.sdk import attach", False),
    ("dp2p.__init__", "from dp2p.cli import main", True),
    ("dp2p.cli.up", "import dp2p.coordinator.main, dp2p.shards.main", False),
    ("load.bulk", "from dp2p import attach", False),
    ("load.bulk", "import dp2p.shards.main", True),
    ("load.bulk", "import dp2p.coordinator.main", True),
    ("load.bench.store", "import dp2p.coordinator.main", False),
]

RESTRICTED_ROWS = [
    ("dp2p.transport", "from dp2p._transport import ffi, lib", False),
    ("dp2p.frames", "from dp2p._transport import ffi, lib", True),
    ("dp2p.frames", "from dp2p import _transport", True),
    ("dp2p.frames", "import dp2p._transport", True),
    ("dp2p.shards.main", "from dp2p._transport import lib", True),
    ("dp2p.sdk.sockets", "import zmq.asyncio", False),
    ("dp2p.coordinator.router", "import zmq.asyncio", False),
    ("dp2p.messages", "import zmq", True),
    ("dp2p.coordinator.table", "from zmq import asyncio", True),
    ("dp2p.coordinator.router_notes", "import zmq", True),
    ("dp2p.coordinator.node", "import asyncio, socket, time", False),
    ("dp2p.coordinator.table", "import time", True),
    ("dp2p.coordinator.table", "from secrets import token_bytes", True),
    ("dp2p.ids", "import random", True),
    ("dp2p.ids", "from socket import AF_INET", True),
    ("dp2p.ids", "import asyncio.locks", True),
    ("dp2p.ids", "import timeit", False),
    ("dp2p.coordinator.store_file", "import sqlite3", False),
    ("dp2p.coordinator.store", "import sqlite3", True),
    ("dp2p.coordinator.node", "from sqlite3 import connect", True),
]

ABSOLUTE_ROWS = [
    ("dp2p.ids", "from dp2p.errors import Error", False),
    ("dp2p.ids", "from .errors import Error", True),
    ("dp2p.ids", "from . import errors", True),
    ("dp2p.cli.up", "import coordinator.main", True),
    ("dp2p.cli.up", "from shards import main", True),
]

STUBS = {"dp2p.errors": "", "dp2p.coordinator.main": "", "dp2p.shards.main": ""}


@pytest.mark.parametrize(("module", "text", "refused"), LAYER_ROWS)
def test_layers_are_checked(module: str, text: str, refused: bool) -> None:
    assert bool(check_layers({**STUBS, module: text})) is refused


@pytest.mark.parametrize(("module", "text", "refused"), RESTRICTED_ROWS)
def test_restrictions_are_checked(module: str, text: str, refused: bool) -> None:
    assert bool(check_restricted({**STUBS, module: text})) is refused


@pytest.mark.parametrize(("module", "text", "refused"), ABSOLUTE_ROWS)
def test_absolute_names_are_checked(module: str, text: str, refused: bool) -> None:
    assert bool(check_absolute({**STUBS, module: text})) is refused


@pytest.mark.parametrize("name", ["frame.c", "segment_reader.h", "sched.c", "channels.c"])
def test_reaching_the_handshake_is_refused(name: str) -> None:
    direct = {name: '#include "handshake.h"'}
    through = {name: '#include "link.h"', "link.h": '# include "dp2p_noise.h"'}
    fine = {name: '#include "cipher.h"\n#include <string.h>', "cipher.h": '#include "aead.h"'}
    assert check_unreachable(direct)
    assert check_unreachable(through)
    assert not check_unreachable(fine)


def test_includers_are_checked() -> None:
    assert not check_includers({"link_open.c": '#include "handshake.h"'})
    assert check_includers({"engine.c": '#include "handshake.h"'})
    assert not check_includers({"engine.c": "#include <sys/epoll.h>"})
    assert check_includers({"link.c": "#include <sys/epoll.h>"})


def test_length_is_checked() -> None:
    assert not check_length({"a.py": "x\n" * MAX_LINES})
    assert check_length({"a.py": "x\n" * (MAX_LINES + 1)})
