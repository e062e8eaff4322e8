"""The file of a black box: complete when it appears, of a fixed size, held by one process, read without trusting it.

Layout, little-endian: a header, a table of JSON records (one for each node), and slots. A slot holds a step's start and
right behind it the step's end, so that a small step touches one page. Each of the two begins with its checksum and has
the step's number as its last number: a kill may leave the first bytes of a record without the last ones. An end is
valid if it has the number of its start. A record that its checksum does not fit is torn.

The checksum is Adler-32 of RFC 1950 (`zlib.adler32`) over the bytes, started with the sum of the numbers modulo a
prime: there is no attacker here, CRC-32 takes twice as long, and numbers are added faster than copied.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Generator
from contextlib import contextmanager
from mmap import mmap
from stat import S_ISREG
from struct import Struct
from typing import Any, Final, NamedTuple
from zlib import adler32

from flowtrace.errors import RingFileError
from flowtrace.host.signals import Tolerating, is_taken, let_through
from flowtrace.host.system import open_file, os
from flowtrace.trace.files import is_ours, temporary_beside
from flowtrace.values.json import dumps, loads

try:
    import fcntl
except ImportError:  # Windows has no such locks: only the process id is compared there
    _fcntl: Any = None
else:
    _fcntl = fcntl

MAGIC: Final = b"FLTBOX\x00\x03"
HEADER: Final = 32 << 10
TABLE: Final = (1 << 20) - HEADER
PART: Final = 4 << 10
PRIME: Final = 1_073_741_789
"""The largest prime below 2**30: an int of one digit, by which CPython divides fast."""
adler: Final = adler32
SLOT: Final = 2 * PART + 192  # no power of two: all small steps would compete for the same lines of the cache
FIRST: Final = HEADER + TABLE
MOST_STEPS: Final = 10_000
MOST_IN_FLIGHT: Final = 480
MARGIN: Final = 12  # finished steps beyond those asked for: threads may take slots at the same moment
MAX_BYTES: Final = FIRST + SLOT * (MOST_STEPS + MARGIN + MOST_IN_FLIGHT)
FRAME: Final = Struct("<II")
START: Final = Struct("<IQqQQQ")
"""Checksum, parent's number, clock reading, thread, packed integer (see `pack_integer`), number; then the payload."""
END: Final = Struct("<IqQQ")
"""Checksum, duration, packed integer, number; then the result."""
HAS_DIGEST: Final = 1
HAS_DATA: Final = 2
IS_KEYED: Final = 4
DIGEST: Final = 32
ROOM: Final = PART - max(START.size, END.size) - DIGEST
"""Bytes of a value and its notes that fit into one half of a slot."""
Pack = Callable[..., None]
into_start: Final[list[Pack | None]] = [None] * PART
"""Process-global: by the size of its tail, the function that packs a complete start; made once, under the GIL."""
into_end: Final[list[Pack | None]] = [None] * PART
"""Process-global: the same for an end."""
_STATE: Final = len(MAGIC)
_JSON: Final = 16
_CLEAN: Final = b"clean"
_OPEN: Final = os.O_RDWR | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_NO_ALLOCATE: Final = frozenset({errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS})
_NO_LINK: Final = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EACCES, errno.EMLINK})


def slots_for(buffer_size: int) -> int:
    """Return how many slots a box has that keeps this many finished steps."""
    return min(buffer_size, MOST_STEPS) + MARGIN + MOST_IN_FLIGHT


def pack_integer(size: int, about: int, flags: int, node: int = 0) -> int:
    """Return four numbers as one: bytes of the value, bytes of the notes about it, flags, node."""
    return size | about << 13 | flags << 26 | node << 32


def checksum(tail: bytes, *numbers: int) -> int:
    """Return the checksum of a start or an end: of its numbers, and of the tail that follows them."""
    return adler32(tail, sum(numbers) % PRIME)


def make_packer(size: int, layout: Struct, packers: list[Pack | None]) -> Pack:
    """Return the function that packs a record with a tail of this size, and keep it among the packers."""
    pack = packers[size] = Struct(f"{layout.format}{size}s").pack_into
    return pack


def framed(body: bytes) -> bytes:
    """Return a record with its checksum and length before it."""
    return FRAME.pack(adler32(body), len(body)) + body


class SlotRecord(NamedTuple):
    """A start or an end in a slot, checked.

    Attributes:
        fields: its numbers, the step's first; that of the node last.
        flags: ``HAS_DIGEST``, ``HAS_DATA``, ``IS_KEYED``.
        digest: hash of the value; empty where it is to be computed from the data.
        data: canonical bytes of the value.
        about: notes about it.
        size: how many bytes the record takes.
    """

    fields: tuple[int, ...]
    flags: int
    digest: bytes
    data: bytes
    about: dict[str, Any]
    size: int


class Content(NamedTuple):
    """The content of a ring file.

    Attributes:
        header: facts about the process.
        is_clean: the process ended in order.
        nodes: the records of the table by their number.
        steps: start and, where it ended, end of each step.
        torn: how many slots hold a step of which a part is missing or damaged.
    """

    header: dict[str, Any]
    is_clean: bool
    nodes: dict[int, dict[str, Any]]
    steps: list[tuple[SlotRecord, SlotRecord | None]]
    torn: int


class RingFile:
    """A ring file that this process holds.

    Args:
        path: where it is.
        header: JSON-like facts about the process.
        slots: how many slots it has.

    Attributes:
        path: where it is.
        map: its bytes, shared with the file.

    Raises:
        OSError: it can't be made there; FileExistsError where something has this name.
    """

    def __init__(self, path: str, header: dict[str, Any], slots: int) -> None:
        self.path = path
        size = FIRST + SLOT * slots
        temporary = temporary_beside(path)
        self._descriptor = os.open(temporary, _OPEN | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            _allocate(self._descriptor, size)
            _lock(self._descriptor)
            self.map = mmap(self._descriptor, size)
            self.map[: len(MAGIC)] = MAGIC
            body = framed(dumps(header))
            self.map[_JSON : _JSON + len(body)] = body
            _link(temporary, path)
        except BaseException:
            os.close(self._descriptor)
            raise
        finally:
            with Tolerating(OSError):
                os.unlink(temporary)

    def finish(self) -> None:
        """Mark the process as ended in order, and remove the file; steps may still be written, into no file."""
        self.map[_STATE : _STATE + len(_CLEAN)] = _CLEAN
        with Tolerating(OSError):
            if os.path.samestat(os.fstat(self._descriptor), os.lstat(self.path)):
                os.unlink(self.path)
        self._close()

    def abandon(self) -> None:
        """Let go of the file in a forked child: it is the parent's."""
        self.map.close()
        self._close()

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        with Tolerating(OSError):
            os.close(descriptor)


def _allocate(descriptor: int, size: int) -> None:
    """Reserve the blocks now: a disk that is full later would end the process with SIGBUS."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, 0, size)
            return
        except OSError as error:
            if error.errno not in _NO_ALLOCATE:
                raise
    for start in range(0, size, PART):
        os.write(descriptor, bytes(min(PART, size - start)))


def _link(temporary: str, path: str) -> None:
    """Give a complete file its name, unless that is taken."""
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        if is_taken(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path) from None
        os.rename(temporary, path)


def _lock(descriptor: int) -> bool:
    """Lock a file for as long as this process lives; return False if another one holds it."""
    if _fcntl is None:
        return True
    try:
        _fcntl.flock(descriptor, _fcntl.LOCK_EX | _fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:  # a file system without locks
        let_through(error)
    return True


# --- the process that wrote it


def identity(pid: int) -> str:
    """Return a text that a later process with the same id does not have: boot and start time; empty outside Linux."""
    try:
        with open_file("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            boot = file.read().strip()
        with open_file(f"/proc/{pid}/stat", "rb") as file:
            return f"{boot}:{file.read().rpartition(b')')[2].split()[19].decode('ascii')}"
    except (OSError, ValueError, IndexError) as error:
        let_through(error)
        return ""


def is_alive(header: dict[str, Any]) -> bool:
    """Return True if the process that a header names may still run."""
    pid = header.get("pid")
    if type(pid) is not int or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError as error:  # it runs, and belongs to another user
        let_through(error)
    return identity(pid) == header.get("identity")


@contextmanager
def taken_from_the_dead(path: str) -> Generator[Content | None]:
    """Hold the ring file of a dead process for the length of a ``with`` block, and remove it then.

    Yields:
        Its content; None where its process may live, or another one holds it.

    Raises:
        OSError: it can't be read.
        RingFileError: it is no ring file of this user.
    """
    descriptor = os.open(path, _OPEN)
    try:
        about = os.fstat(descriptor)
        if not is_ours(about):
            raise RingFileError(path, "is not a regular file of this user")
        content = None
        if _lock(descriptor) and os.path.samestat(about, os.lstat(path)):
            found = parse(_read(descriptor, path), path)
            content = None if is_alive(found.header) else found
        yield content
        if content is not None:
            os.unlink(path)
    finally:
        os.close(descriptor)


# --- reading


def read(path: str) -> Content:
    """Read a ring file, of any process and in any state.

    Raises:
        OSError: it can't be read.
        RingFileError: it is no ring file.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0))
    try:
        return parse(_read(descriptor, path), path)
    finally:
        os.close(descriptor)


def _read(descriptor: int, path: str) -> bytes:
    about = os.fstat(descriptor)
    if not S_ISREG(about.st_mode):
        raise RingFileError(path, "is not a regular file")
    if about.st_size > MAX_BYTES:
        raise RingFileError(path, f"is larger than any ring file ({MAX_BYTES} bytes)")
    with open_file(descriptor, "rb", closefd=False) as file:
        return file.read(MAX_BYTES)


def parse(data: bytes, path: str = "<bytes>") -> Content:
    """Return the content of a ring file from its bytes; records that are torn, cut off or damaged are left out.

    Raises:
        RingFileError: the bytes have no header of a ring file.
    """
    if data[: len(MAGIC)] != MAGIC:
        raise RingFileError(path, "does not have the header of a ring file of this version")
    body = _framed_body(data, _JSON, HEADER)
    header = _json_object(body)
    if header is None:
        raise RingFileError(path, "has a damaged header")
    steps: list[tuple[SlotRecord, SlotRecord | None]] = []
    torn = 0
    for at in range(FIRST, len(data), SLOT):
        start = _slot_record(data, at, START)
        if start is None:
            torn += any(data[at : at + START.size])
            continue
        end = _slot_record(data, at + start.size, END)
        steps.append((start, end if end is not None and end.fields[0] == start.fields[0] else None))
    clean = data[_STATE : _STATE + len(_CLEAN)] == _CLEAN
    return Content(header, clean, _table(data), steps, torn)


def _table(data: bytes) -> dict[int, dict[str, Any]]:
    nodes: dict[int, dict[str, Any]] = {}
    at = HEADER
    while (body := _framed_body(data, at, HEADER + TABLE)) is not None:
        record = _json_object(body)
        if record is not None:
            nodes[len(nodes)] = record
        at += FRAME.size + len(body)
    return nodes


def _framed_body(data: bytes, at: int, limit: int) -> bytes | None:
    """Return the body of a record; None where it is empty, torn or cut off."""
    if at + FRAME.size > min(limit, len(data)):
        return None
    expected, length = FRAME.unpack_from(data, at)
    body = data[at + FRAME.size : at + FRAME.size + length] if length <= limit - at - FRAME.size else b""
    return body if length and len(body) == length and adler32(body) == expected else None


def _slot_record(data: bytes, at: int, layout: Struct) -> SlotRecord | None:
    if at + layout.size > len(data):
        return None
    check, *numbers = layout.unpack_from(data, at)
    *others, packed, number = numbers
    size, about_size, flags, node = packed & 0x1FFF, packed >> 13 & 0x1FFF, packed >> 26 & 0x3F, packed >> 32
    length = layout.size + size + about_size
    tail = data[at + layout.size : at + length]
    if not number or length > PART or len(tail) != size + about_size or check != checksum(tail, *numbers):
        return None
    about = _json_object(tail[size:]) if about_size else {}
    digest_size = DIGEST if flags & HAS_DIGEST else 0
    if about is None or size < digest_size:
        return None
    value = tail[:size]
    return SlotRecord((number, *others, node), flags, value[:digest_size], value[digest_size:], about, length)


def _json_object(body: bytes | None) -> dict[str, Any] | None:
    try:
        found = None if body is None else loads(body)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
