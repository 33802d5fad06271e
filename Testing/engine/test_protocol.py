import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from velcro_engine.errors import ProtocolError
from velcro_engine.messages.protocol import MAXIMUM_HEADER, encode_frame, read_frame

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
headers = st.dictionaries(st.text(), json_values, max_size=6).map(lambda d: {**d, "type": "link"})


class Trickle(io.RawIOBase):
    """A pipe that hands out a few bytes at a time."""

    def __init__(self, data, portion):
        self._data, self._portion = io.BytesIO(data), portion

    def read(self, size=-1):
        return self._data.read(min(size, self._portion))


@given(st.lists(st.tuples(headers, st.binary(max_size=300)), max_size=4), st.integers(1, 50))
def test_frames_come_back_as_they_were_sent_however_the_pipe_cuts_them(frames, portion):
    stream = Trickle(b"".join(encode_frame(*frame) for frame in frames), portion)
    for frame in frames:
        assert read_frame(stream) == frame
    assert read_frame(stream) is None


@given(headers, st.binary(max_size=100), st.data())
def test_a_cut_frame_is_an_error_not_an_answer(header, payload, data):
    whole = encode_frame(header, payload)
    length = data.draw(st.integers(1, len(whole) - 1))
    with pytest.raises(ProtocolError, match="ended inside"):
        read_frame(io.BytesIO(whole[:length]))


@given(st.binary(min_size=12, max_size=200))
def test_foreign_bytes_are_refused(data):
    if data[:4] == b"VLK1":
        return
    with pytest.raises(ProtocolError):
        read_frame(io.BytesIO(data))


@given(headers, st.binary(max_size=60), st.data())
def test_a_flipped_byte_never_does_more_than_a_protocol_error(header, payload, data):
    damaged = bytearray(encode_frame(header, payload))
    position = data.draw(st.integers(0, len(damaged) - 1))
    damaged[position] ^= data.draw(st.integers(1, 255))
    try:
        frame = read_frame(io.BytesIO(bytes(damaged)))
    except ProtocolError:
        return
    assert isinstance(frame[0]["type"], str)


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"3", b'{"a":1}', b'{"type":4}', b"\xff\xfe", b"[" * 100_000]
)
def test_a_header_that_is_no_object_with_a_type_is_refused(text):
    frame = b"VLK1" + len(text).to_bytes(4, "little") + bytes(4) + text
    with pytest.raises(ProtocolError):
        read_frame(io.BytesIO(frame))


def test_oversized_announcements_are_refused_before_reading_them():
    for sizes in ((MAXIMUM_HEADER + 1, 0), (2, 2**32 - 1)):
        head = b"VLK1" + sizes[0].to_bytes(4, "little") + sizes[1].to_bytes(4, "little")
        with pytest.raises(ProtocolError, match="more data than is allowed"):
            read_frame(io.BytesIO(head))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), b"bytes"])
def test_what_is_not_json_is_refused_when_it_is_sent(value):
    with pytest.raises(ProtocolError):
        encode_frame({"type": "link", "value": value})
