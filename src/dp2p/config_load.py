"""Configuration from ``dp2p.toml``, ``DP2P_*`` variables and flags, in growing precedence.

Each value is checked where it stands, also one that a stronger source overrides, so that an error
names the file, variable or flag it came from, the key, and what is allowed.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from msgspec import inspect

from dp2p import places
from dp2p.config import (
    Config,
    bootstrap,
    caps,
    check_run_dir,
    discovery_advertised,
    discovery_endpoints,
    listen_endpoints,
    static_peers,
)
from dp2p.errors import ConfigError

DEFAULT_FILE = "dp2p.toml"
PREFIX = "DP2P_"
OTHER_VARIABLES = {"DP2P_CONFIG", "DP2P_WITHOUT_OPENSSL"}  # the file's path; a build option
_NOT_SET_BY_HAND = {"node.instance"}
_PATHS = {"node.key_file", "node.run_dir", "store.file"}
_READ_AS: dict[str, tuple[str, Callable[[Config], object]]] = {
    "listen.addresses": ("listen.addresses", listen_endpoints),
    "listen.advertise": ("listen.addresses", listen_endpoints),
    "peers.static": ("peers.static", static_peers),
    "discovery.listen": ("discovery.listen", discovery_endpoints),
    "discovery.advertise": ("discovery.advertise", discovery_advertised),
    "discovery.bootstrap": ("discovery.bootstrap", bootstrap),
}
"Keys with addresses -> the key as which they are read, and what reads that."


def _keys() -> dict[str, inspect.Field]:
    """All keys as ``section.key``, with what msgspec knows of their types."""
    root = inspect.type_info(Config)
    assert isinstance(root, inspect.StructType)
    return {
        f"{section.name}.{key.name}": key
        for section in root.fields
        if isinstance(section.type, inspect.StructType)
        for key in section.type.fields
        if f"{section.name}.{key.name}" not in _NOT_SET_BY_HAND
    }


def _types() -> dict[str, Any]:
    """The Python type of each key, for conversion."""
    return {
        f"{section.name}.{key.name}": key.type
        for section in msgspec.structs.fields(Config)
        for key in msgspec.structs.fields(section.type)
    }


KEYS = _keys()
_TYPES = _types()
VARIABLES = {PREFIX + key.replace(".", "_").upper(): key for key in KEYS}


@dataclass(frozen=True, slots=True)
class Setting:
    """One value and where it stands."""

    key: str
    value: Any
    origin: str
    "File, variable or flag, as errors name it."
    base: Path
    "What a relative path is relative to."
    strict: bool = False
    "True where the source has types of its own."


def load(
    file: Path | None = None,
    env: Mapping[str, str] | None = None,
    flags: Mapping[str, tuple[str, Any]] | None = None,
    cwd: Path | None = None,
) -> Config:
    """The configuration from all sources.

    ``file`` is one that must exist; without it ``DP2P_CONFIG`` names one, and ``dp2p.toml`` in
    ``cwd`` is read when it is there. ``flags`` maps a key to the flag's name and value.
    Raises: ConfigError.
    """
    variables = os.environ if env is None else env
    here = Path.cwd() if cwd is None else cwd
    values: dict[str, dict[str, Any]] = {}
    origins: dict[str, str] = {}
    for setting in _settings(_find_file(file, variables, here), variables, flags or {}, here):
        section, key = setting.key.split(".")
        values.setdefault(section, {})[key] = _checked(setting)
        origins[setting.key] = setting.origin
    node, store = values.setdefault("node", {}), values.setdefault("store", {})
    _fill_paths(node, store, variables)
    config = msgspec.convert(values, Config)
    check_run_dir(config.node.run_dir, origins.get("node.run_dir", "the default"))
    return config


def _settings(
    file: Path | None, env: Mapping[str, str], flags: Mapping[str, tuple[str, Any]], cwd: Path
) -> Iterator[Setting]:
    if file is not None:
        yield from _from_file(file, cwd)
    yield from _from_environment(env, cwd)
    for key, (flag, value) in flags.items():
        if key not in KEYS:
            raise ConfigError(f"{flag}: unknown key {key}{_suggest(key, KEYS)}")
        yield Setting(key, _from_text(key, value), flag, cwd)


def _find_file(file: Path | None, env: Mapping[str, str], cwd: Path) -> Path | None:
    if file is not None:
        return file
    if named := env.get("DP2P_CONFIG"):
        return Path(named)
    default = cwd / DEFAULT_FILE
    return default if default.exists() else None


def _from_file(file: Path, cwd: Path) -> Iterator[Setting]:
    try:
        document = tomllib.loads((cwd / file).read_bytes().decode())
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"{file}: not TOML: {error}") from None
    sections = {key.split(".")[0] for key in KEYS}
    for section, table in document.items():
        if section not in sections:
            raise ConfigError(f"{file}: unknown section [{section}]{_suggest(section, sections)}")
        if not isinstance(table, dict):
            raise ConfigError(f"{file}: {section} is a value; expected a table [{section}]")
        for key, value in table.items():
            yield _file_setting(file, section, key, value, cwd)


def _file_setting(file: Path, section: str, key: str, value: Any, cwd: Path) -> Setting:
    name = f"{section}.{key}"
    if name not in KEYS:
        known = [other.split(".")[1] for other in KEYS if other.startswith(section + ".")]
        raise ConfigError(f"{file}: unknown key {name}{_suggest(key, known)}")
    return Setting(name, value, str(file), (cwd / file).parent, strict=True)


def _from_environment(env: Mapping[str, str], cwd: Path) -> Iterator[Setting]:
    for variable, text in sorted(env.items()):
        if not variable.startswith(PREFIX) or variable in OTHER_VARIABLES:
            continue
        if variable not in VARIABLES:
            raise ConfigError(
                f"environment: unknown variable {variable}{_suggest(variable, VARIABLES)}"
            )
        key = VARIABLES[variable]
        yield Setting(key, _from_text(key, text), f"environment variable {variable}", cwd)


def _from_text(key: str, value: Any) -> Any:
    """Lists are written with commas where only text can stand."""
    if isinstance(value, str) and isinstance(KEYS[key].type, inspect.ListType):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def _checked(setting: Setting) -> Any:
    """The value in its type.  Raises: ConfigError."""
    try:
        value = msgspec.convert(setting.value, _TYPES[setting.key], strict=setting.strict)
    except msgspec.ValidationError:
        raise ConfigError(
            f"{setting.origin}: {setting.key} is {setting.value!r}; allowed is "
            f"{describe(KEYS[setting.key].type)}"
        ) from None
    if setting.key in _PATHS:
        return _path(setting, value)
    _check_addresses(setting, value)
    _check_rates(setting, value)
    return value


def _path(setting: Setting, value: str) -> str:
    """Absolute, with ~ and ~USER as in a shell.  Raises: ConfigError."""
    try:
        return str(setting.base / Path(value).expanduser())
    except RuntimeError:
        text = f"{setting.origin}: {setting.key} is {value!r}; nobody has that home directory"
        raise ConfigError(text) from None


def _check_addresses(setting: Setting, value: Any) -> None:
    """Addresses are read here once, so that an error can still name their source."""
    key, read = _READ_AS.get(setting.key, ("", None))
    if read is None:
        return
    section, name = key.split(".")
    try:
        read(msgspec.convert({section: {name: value}}, Config))
    except ConfigError as error:
        text = str(error).replace(key, setting.key, 1)
        raise ConfigError(f"{setting.origin}: {text}") from None


def _check_rates(setting: Setting, value: Any) -> None:
    """Rates likewise."""
    section, key = setting.key.split(".")
    if section == "rates":
        try:
            caps(msgspec.convert({section: {key: value}}, Config))
        except ConfigError as error:
            raise ConfigError(f"{setting.origin}: {error}") from None


def _fill_paths(node: dict[str, Any], store: dict[str, Any], env: Mapping[str, str]) -> None:
    """Defaults that depend on who runs this and where."""
    home = Path(env.get("HOME") or "~").expanduser()
    if "key_file" not in node:
        base = Path(env.get("XDG_CONFIG_HOME") or home / ".config")
        node["key_file"] = str(base / "dp2p" / "key")
    if "run_dir" not in node:
        node["run_dir"] = str(places.default_run_dir(env))
    if "file" not in store:
        store["file"] = node["key_file"] + ".peers.db"


def _suggest(name: str, known: Iterable[str]) -> str:
    """``; did you mean x?``, or what there is."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {near[0]}?" if near else f"; known are {', '.join(names)}"


def describe(kind: inspect.Type) -> str:
    """What a key may hold, for people."""
    match kind:
        case inspect.LiteralType(values=values):
            return "one of " + ", ".join(map(str, values))
        case inspect.ListType(max_length=most):
            return "a list of text" + (f" with up to {most} entries" if most else "")
        case inspect.BoolType():
            return "true or false"
        case inspect.StrType(min_length=least, max_length=most):
            return f"text of {least or 0} to {most} characters"
        case inspect.IntType() | inspect.FloatType():
            what = "a whole number" if isinstance(kind, inspect.IntType) else "a number"
            low = f" above {kind.gt}" if kind.gt is not None else f" from {kind.ge}"
            high = f" up to {kind.le}" if kind.gt is not None else f" to {kind.le}"
            return what + low + high
        case inspect.UnionType(types=kinds):
            return " or ".join(describe(one) for one in kinds)
        case inspect.DictType():
            return "tables, each with a name, which only a file can hold"
        case inspect.Metadata(type=inner):
            return describe(inner)
    return "another type"
