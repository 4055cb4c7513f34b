"""To which partition a key goes: murmur2, as in the Java client and in kafka-python.

    partition = (murmur2(key) & 0x7fffffff) mod partitions

It is computed here and not by the client library, so that a replay that is gone on with by another client
keeps every user in one partition.

Source: Austin Appleby's MurmurHash2, seed 0x9747b28c, as in Apache Kafka's `Utils.murmur2`.
"""

from functools import lru_cache
from typing import Final

_M: Final = 0x5BD1E995
_SEED: Final = 0x9747B28C
_MASK: Final = 0xFFFFFFFF


@lru_cache(maxsize=1 << 16)
def partition_of(key: bytes, partitions: int) -> int:
    """Partition of a key.

    Examples
    --------
    >>> partition_of(b"u1", 4), partition_of(b"u2", 4), partition_of(b"u1", 1)
    (0, 2, 0)
    """
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def murmur2(data: bytes) -> int:
    """32 bits of hash, not negative.

    Examples
    --------
    >>> murmur2(b"21") - (1 << 32), murmur2(b"foobar") - (1 << 32)  # vectors of Apache Kafka's own test
    (-973932308, -790332482)
    """
    h = _SEED ^ len(data)
    whole = len(data) & ~3
    for at in range(0, whole, 4):
        k = int.from_bytes(data[at : at + 4], "little") * _M & _MASK
        h = (h * _M & _MASK) ^ ((k ^ (k >> 24)) * _M & _MASK)
    if whole < len(data):
        h = (h ^ int.from_bytes(data[whole:], "little")) * _M & _MASK
    h = (h ^ (h >> 13)) * _M & _MASK
    return h ^ (h >> 15)
