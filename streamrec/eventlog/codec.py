"""From bytes to events: JSON objects and lines of a table.

    bytes ──msgspec──► fields ──check──► Event          the hot path: well-formed records
      └────explain───► fields ──check──► Event | Reject  everything else, and dotted paths

`explain` alone says what a record means; the hot path is a shortcut for records that it is sure of and
gives the same events. Of duplicate keys in an object the last one counts (as in msgspec, pydantic
and Python's own json); null is the same as absent; unknown fields are ignored. How deep an object may be
nested is counted in brackets, because a recursion limit would depend on who calls.
"""

import csv
import json
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from streamrec.errors import ConfigError
from streamrec.event import Event, Record
from streamrec.eventlog.base import Reject
from streamrec.eventlog.fields import FieldNames, check, join_parts

MAX_RECORD_BYTES: Final = 1 << 20
MAX_DEPTH: Final = 64
SCHEMA_VERSION: Final = 1
_MAGIC: Final = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"\x04\x22\x4d\x18": "lz4"}
_ROLES: Final = ("user", "mark", "time", "id", "value")

Tree = dict[str, Any]
Paths = tuple[tuple[str, ...], ...]


def read_text(value: bytes | None) -> str | Reject:
    """The text of a value, before anybody looks for fields in it.

    Examples
    --------
    >>> read_text(b"{}"), read_text(b"").reason, read_text(b"\\x1f\\x8b\\x08").reason
    ('{}', 'blank_line', 'compressed')
    """
    if value is None:
        return Reject("tombstone", "the record has no value")
    if len(value) > MAX_RECORD_BYTES:
        return Reject("too_large", f"{len(value)} bytes, at most {MAX_RECORD_BYTES} are read")
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        return _binary(value) or Reject("not_utf8", f"byte {error.start} is {value[error.start]:#04x}")
    if not text or text.isspace():
        return Reject("blank_line", "nothing but white space")
    return (_binary(value) or text) if text[0] in "\0\x04" else text


def _binary(value: bytes) -> Reject | None:
    for magic, name in _MAGIC.items():
        if value.startswith(magic):
            return Reject("compressed", f"the value looks like {name} data: let the producer declare it")
    if value.startswith(b"\0"):
        return Reject("schema_registry", "the value starts with byte 0, as Avro with a schema registry does")
    return None


def read_tree(text: str) -> Tree | Reject:
    """The JSON object in a text, by the standard library, which tells faults apart.

    Examples
    --------
    >>> read_tree('{"a": 1, "a": 2}'), read_tree("[]").reason, read_tree('{"a": NaN}').reason
    ({'a': 2}, 'not_an_object', 'not_json')
    """
    if is_deep(text):
        return Reject("too_deep", f"nested more than {MAX_DEPTH} deep")
    try:
        tree = json.loads(text, parse_constant=_refuse, parse_int=_integer)
        if "\\u" in text:
            json.dumps(tree, ensure_ascii=False).encode()
    except RecursionError:
        return Reject("too_deep", "nested too deep for the stack")
    except UnicodeEncodeError:
        return Reject("not_json", "a lone surrogate is not a character")
    except ValueError as error:
        return Reject("not_json", str(error)[:200])
    if not isinstance(tree, dict):
        return Reject("not_an_object", f"expected an object, got {type(tree).__name__}")
    return tree


def is_deep(text: str) -> bool:
    """Whether a text is nested deeper than is read; mostly answered by counting brackets."""
    return text.count("{") + text.count("[") > MAX_DEPTH < depth(text)


def depth(text: str) -> int:
    """How deep brackets nest in a JSON text, those inside of texts left out.

    Examples
    --------
    >>> depth('{"a": [1, "[[["]}'), depth("[" * 100)
    (2, 100)
    """
    deepest = level = 0
    inside = escaped = False
    for char in text:
        if inside:
            inside = escaped or char != '"'
            escaped = char == "\\" and not escaped
        elif char in "{[":
            level += 1
            deepest = max(deepest, level)
        elif char in "}]":
            level -= 1
        else:
            inside = char == '"'
    return deepest


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _integer(digits: str) -> int | str:
    return int(digits) if len(digits) <= 4000 else digits  # a longer one is no id and no time anyway


class JsonCodec:
    """Reads one JSON object per record.

    Parameters
    ----------
    fields : names of the fields; those left empty are recognised in every record anew, so that what a
        record means does not depend on the records before it

    Examples
    --------
    >>> codec = JsonCodec(FieldNames())
    >>> codec.decode(Record("clicks", 0, 7, b'{"key": 12, "type": "buy", "time": 3.5}'))
    Event(user='12', mark='buy', time=3.5, id=None, partition=0, offset=7, value=None, context=False)
    >>> codec.decode(Record("clicks", 0, 8, b'{"key": 12, "type": "buy"}')).reason
    'missing_time'
    """

    def __init__(self, fields: FieldNames) -> None:
        self.fields = fields
        self._paths: dict[str, Paths] = {role: fields.candidates(role) for role in _ROLES}
        self._versioned = "v" not in fields.taken()
        self._read = self._shortcut() or self.explain

    def decode(self, record: Record) -> Event | Reject:
        """Read one record."""
        return self._read(record)

    def decode_many(self, records: Sequence[Record]) -> list[Event | Reject]:
        """Read records in order."""
        read = self._read
        return [read(record) for record in records]

    def explain(self, record: Record) -> Event | Reject:
        """Read one record without the shortcut: the definition of what it means."""
        text = read_text(record.value)
        tree = text if isinstance(text, Reject) else read_tree(text)
        if isinstance(tree, Reject):
            return tree
        version = tree.get("v") if self._versioned else None
        if version is not None and (type(version) is not int or version != SCHEMA_VERSION):
            return Reject("schema_version", f"field v: expected {SCHEMA_VERSION}, got {str(version)[:40]}")
        user, mark, time, id_, value = (self._find(tree, role) for role in _ROLES)
        return check(record, user, mark, time, id_, value, self.fields.per_second)

    def _find(self, tree: Tree, role: str) -> object:
        for names in self._paths[role]:
            parts = [_walk(tree, name) for name in names]
            if all(part is not None for part in parts):
                return parts[0] if len(parts) == 1 else _joined(parts)
        return None

    def _shortcut(self) -> Callable[[Record], Event | Reject] | None:
        """A reader of flat fields by msgspec; it hands over to `explain` whatever it does not take."""
        flat = {role: [names[0] for names in self._paths[role]] for role in _ROLES}
        if any(len(names) > 1 or "." in names[0] for paths in self._paths.values() for names in paths):
            return None
        decode, attributes = _decoder({name for names in flat.values() for name in names} | {"v"})
        user, mark, time, id_, value = ([attributes[name] for name in flat[role]] for role in _ROLES)
        version = attributes["v"]
        versioned, per_second, explain = self._versioned, self.fields.per_second, self.explain

        def hot(record: Record) -> Event | Reject:
            text = read_text(record.value)
            if isinstance(text, Reject):
                return text
            if text.count("{") + text.count("[") > MAX_DEPTH:
                return explain(record)
            try:
                row = decode(text)
            except (ValueError, RecursionError):
                return explain(record)
            found = getattr(row, version) if versioned else None
            if found is not None and (type(found) is not int or found != SCHEMA_VERSION):
                return explain(record)
            return check(
                record,
                _first(row, user), _first(row, mark), _first(row, time), _first(row, id_), _first(row, value),
                per_second,
            )  # fmt: skip

        return hot


def _decoder(names: set[str]) -> tuple[Callable[[str], object], dict[str, str]]:
    """A decoder of objects with these fields, all optional scalars, and the attribute of each."""
    attributes = {name: f"f{i}" for i, name in enumerate(sorted(names))}
    scalar = str | int | float | None
    row = msgspec.defstruct(
        "Row",
        [(attribute, scalar, None) for attribute in attributes.values()],
        rename={attribute: name for name, attribute in attributes.items()},
        gc=False,
    )
    return msgspec.json.Decoder(row).decode, attributes


def _first(row: object, attributes: list[str]) -> object:
    for attribute in attributes:
        found: object = getattr(row, attribute)
        if found is not None:
            return found
    return None


def _walk(tree: Tree, path: str) -> object:
    found: object = tree
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _joined(parts: list[object]) -> object:
    wrong = [part for part in parts if type(part) not in (str, int)]
    return wrong[0] if wrong else join_parts([str(part) for part in parts])


class CsvCodec:
    """Reads one line of a table per record; fields by the standard library's `csv`.

    A quoted field has to end on its line: one that goes on over a line end gives a dead letter for each of
    its lines (`csv_quotes` for the first, mostly `csv_columns` or `csv_quotes` for the rest), never silence.

    Parameters
    ----------
    header : the table's first line, without its line end
    fields : names of the columns; those left empty are recognised in the header
    where : name of the table in error messages

    Raises
    ------
    ConfigError
        If the columns of user, mark and time are not in the header exactly once.

    Examples
    --------
    >>> codec = CsvCodec(b"key,type,time,split", FieldNames())
    >>> codec.decode(Record("log.csv", 0, 7, b'12,"buy, now",3.5,test'))
    Event(user='12', mark='buy, now', time=3.5, id=None, partition=0, offset=7, value=None, context=False)
    >>> codec.decode(Record("log.csv", 0, 8, b"12,buy")).reason
    'csv_columns'
    """

    def __init__(self, header: bytes, fields: FieldNames, where: str = "table") -> None:
        self.fields = fields
        try:
            text = header.decode("utf-8-sig")
            self.delimiter = next((mark for mark in ",\t;" if mark in text), ",")
            self.columns = next(csv.reader([text], delimiter=self.delimiter, strict=True), [])
        except (ValueError, csv.Error) as error:
            raise ConfigError(f"{where}: the header line cannot be read ({error})") from None
        at = {role: self._place(role, where) for role in _ROLES}
        self._mark = at["mark"]
        self._user, self._time, self._id, self._value = (
            at[role][0] if at[role] else -1 for role in ("user", "time", "id", "value")
        )
        self._per_second = fields.per_second

    def _place(self, role: str, where: str) -> tuple[int, ...]:
        """Columns of a role; none if an optional one is not there."""
        for names in self.fields.candidates(role):
            if all(self.columns.count(name) == 1 for name in names):
                return tuple(self.columns.index(name) for name in names)
        given: str = getattr(self.fields, role)
        if role in ("id", "value") and not given:
            return ()
        wanted = given or " or ".join(names[0] for names in self.fields.candidates(role))
        raise ConfigError(
            f"{where}: the {role} column {wanted} is not in the header, or not exactly once; the header has "
            f"{', '.join(self.columns) or 'nothing'}: name the column with --{role}-field"
        )

    def decode(self, record: Record) -> Event | Reject:
        """Read one record."""
        text = read_text(record.value)
        if isinstance(text, Reject):
            return text
        cells = self._quoted(text) if '"' in text else text.split(self.delimiter)
        if isinstance(cells, Reject):
            return cells
        if len(cells) != len(self.columns):
            return Reject("csv_columns", f"expected {len(self.columns)} columns, found {len(cells)}")
        mark = cells[self._mark[0]] if len(self._mark) == 1 else join_parts([cells[at] for at in self._mark])
        id_ = cells[self._id] if self._id >= 0 else None
        value = cells[self._value] if self._value >= 0 else None
        return check(record, cells[self._user], mark, cells[self._time], id_, value, self._per_second)

    def decode_many(self, records: Sequence[Record]) -> list[Event | Reject]:
        """Read records in order."""
        decode = self.decode
        return [decode(record) for record in records]

    def _quoted(self, text: str) -> list[str] | Reject:
        try:
            return next(csv.reader([text], delimiter=self.delimiter, strict=True))
        except csv.Error as error:
            return Reject("csv_quotes", str(error))
