"""Hashes: BLAKE3 itself, keyed and not, over bytes and buffers."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from flowtrace import Digest
from flowtrace.values.encoded import Hasher, derive_key, hash_buffer, hash_bytes, hash_raw

EMPTY = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"  # from the BLAKE3 specification


def test_the_empty_input_has_the_published_hash():
    assert hash_bytes(b"") == EMPTY
    assert hash_buffer(memoryview(b"")) == EMPTY
    assert Hasher().finish() == EMPTY


@given(st.binary(), st.integers(0, 50))
def test_pieces_and_the_whole_have_one_hash(data, cut):
    hasher = Hasher()
    hasher.update(data[:cut])
    hasher.update(data[cut:])
    assert hasher.finish() == hash_bytes(data) == hash_buffer(memoryview(data)) == blake3(data).hexdigest()


def test_threads_that_share_hashers_get_the_hashes_of_their_own_bytes():
    texts = [bytes([number % 256]) * (number * 97 % 5000) for number in range(2000)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(hash_raw, texts)) == [blake3(text).digest() for text in texts]


@pytest.mark.parametrize("size", [1, 65_536, (1 << 20) - 1, 1 << 20, 5_000_001])
def test_one_core_and_many_give_one_hash(size):
    data = bytes(range(256)) * (size // 256 + 1)
    assert hash_buffer(memoryview(data)[:size]) == hash_bytes(data[:size])


def test_a_key_comes_from_text_and_changes_the_hash():
    key = derive_key("s3cret")
    assert key == derive_key("s3cret")
    assert key != derive_key("s3cret ")
    assert len(key) == 32
    assert key.hex() == "398ebbf6a1094fbdd0f259cbb292894f263a776811196c562b36a7e698219bfb"
    keyed = hash_bytes(b"abc", key)
    assert (keyed.value, keyed.algorithm) == (blake3(b"abc", key=key).hexdigest(), "blake3-keyed")
    assert keyed != hash_bytes(b"abc")


def test_a_key_may_be_any_text_that_an_environment_can_hold():
    assert derive_key("é\udcff") != derive_key("é")


def test_a_digest_is_its_hex_text_and_survives_copies():
    digest = hash_bytes(b"abc", derive_key("k"))
    for same in (digest, copy.copy(digest), copy.deepcopy(digest), pickle.loads(pickle.dumps(digest))):
        assert (type(same), str(same), same.value, same.algorithm) == (
            Digest,
            digest.value,
            digest.value,
            "blake3-keyed",
        )
    assert type(digest.value) is str
    assert digest == digest.value
    assert {digest: 1}[digest.value] == 1
    assert Digest(EMPTY).algorithm == "blake3"
