"""Fingerprints: of the machine, within which bits are promised, and of the settings that shape a state."""

import hashlib
import json
import platform
from collections.abc import Collection, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from streamrec.errors import StateError

PACKAGES = ("torch", "numpy", "numba")


def machine_fingerprint() -> dict[str, str]:
    """What must be equal for two runs to give the same bits; versions are read, nothing is imported.

    Examples
    --------
    >>> sorted(machine_fingerprint())
    ['cpu', 'cpu_features', 'numba', 'numpy', 'python', 'torch']
    """
    found = {name: _version(name) for name in PACKAGES}
    features = hashlib.sha256(" ".join(_cpu_flags()).encode()).hexdigest()[:16]
    return {**found, "python": platform.python_version(), "cpu": platform.machine(), "cpu_features": features}


def settings_fingerprint(settings: Mapping[str, Any]) -> str:
    """sha256 over settings, the same whatever the order of their keys.

    Examples
    --------
    >>> settings_fingerprint({"a": 1, "b": [2]}) == settings_fingerprint({"b": [2], "a": 1})
    True
    """
    return hashlib.sha256(json.dumps(settings, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def fields_of(settings: Mapping[str, Any], path: str = "") -> dict[str, str]:
    """Settings as a flat mapping from dotted path to JSON text.

    Examples
    --------
    >>> fields_of({"order": {"lateness_s": 0.0}, "seed": 1})
    {'order.lateness_s': '0.0', 'seed': '1'}
    """
    flat: dict[str, str] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat |= fields_of(value, f"{path}{name}.")
        else:
            flat[path + name] = json.dumps(value, sort_keys=True)
    return flat


def refuse_changes(
    stored: Mapping[str, Any], wanted: Mapping[str, Any], may_change: Collection[str] = ()
) -> None:
    """Refuse to go on with settings that do not fit the state.

    Parameters
    ----------
    stored, wanted : shaping settings, nested or flat
    may_change : dotted paths, or beginnings of them, that the caller knows how to change

    Raises
    ------
    StateError
        One line that names every changed field with both values.

    Examples
    --------
    >>> refuse_changes({"seed": 1, "models": ["a"]}, {"seed": 1, "models": ["b"]}, may_change=["models"])
    """
    old, new = fields_of(stored), fields_of(wanted)
    changed = [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]
    free = tuple(may_change)
    refused = [
        f"{name}: stored {old.get(name, 'nothing')}, now {new.get(name, 'nothing')}"
        for name in changed
        if not any(name == f or name.startswith(f + ".") for f in free)
    ]
    if refused:
        raise StateError(
            f"settings do not fit the state: {'; '.join(refused)}; "
            "go back to the stored values, or start with an empty state directory"
        )


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"


def _cpu_flags() -> list[str]:
    """Instruction sets of the processor, where the system tells; else its name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return [platform.processor()]
    found = [line.partition(":")[2].split() for line in lines if line.startswith(("flags", "Features"))]
    return sorted(found[0]) if found else [platform.processor()]
