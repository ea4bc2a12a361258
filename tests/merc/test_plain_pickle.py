"""load_plain: the same objects as pickle gives, from data alone; what would run is refused and does not run."""

import collections
import math
import os
import pickle
import struct

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spcl_fast.merc.dataset import DatasetError
from spcl_fast.merc.readers import _machine, load_plain

PROTOCOLS = range(6)
PLAIN = {
    "numbers": [0, 1, 255, 256, 65536, -1, 2**31, -(2**31), 2**40, -(2**200), 2.5, -0.0, math.inf, True, False, None],
    "text": ["", "é", "a'b\"c\\d\n\t", "\u4e2d", "x" * 300, "\udc80"],
    "bytes": [b"", b"\x00\xff", b"x" * 300],
    "tuples": ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)),
    "sets": {"a", 1, (1, "b")},
    1: {"nested": [{}, [], [[1.5, 2.5, 3.5]]]},
    ("key", 2): "tuple as key",
}


def same(a: object, b: object) -> bool:
    """Equal in value and kind; the sign of zero and the place of NaN count."""
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return type(a) is type(b) and a.dtype.kind == b.dtype.kind and np.array_equal(a, b) and a.shape == b.shape
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return struct.pack("d", a) == struct.pack("d", b) if isinstance(a, float) else a == b


def refusal(content: bytes) -> str:
    with pytest.raises(DatasetError) as caught:
        load_plain(content)
    message = str(caught.value)
    assert message.startswith("byte ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_plain_containers(protocol):
    assert same(load_plain(pickle.dumps(PLAIN, protocol)), PLAIN)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("dtype", ["<f2", "<f4", ">f4", "<f8", "<i1", "<i8", ">i4", "<u2", "?", "<U3", ">U3", "S2"])
def test_arrays(protocol, dtype):
    values = np.array([[0, 1, 1], [1, 0, 1]]).astype(dtype)
    for array in (values, np.asfortranarray(values), values[:, ::2], values[0, 0:0], np.array(1).astype(dtype)):
        found = load_plain(pickle.dumps([array, array], protocol))
        assert same(found, [array, array])
        assert found[0] is found[1]


def test_numpy_scalars_and_kinds_of_containers_become_plain_ones():
    value = [
        np.float32(2.5),
        np.int64(-3),
        np.str_("ab"),
        bytearray(b"x"),
        frozenset([1]),
        collections.OrderedDict(a=1),
    ]
    for protocol in PROTOCOLS:
        found = load_plain(pickle.dumps([*value, collections.defaultdict(list, b=[2])], protocol))
        assert same(found, [2.5, -3, "ab", b"x", {1}, {"a": 1}, {"b": [2]}])


def test_both_module_paths_of_numpy():
    written = pickle.dumps(np.arange(3.0), 2)
    old = written.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    new = old.replace(b"numpy.core.multiarray", b"numpy._core.multiarray")
    assert old != new
    assert same(load_plain(old), load_plain(new))
    in_band = pickle.dumps(np.arange(3.0), 5)
    name = b"numpy._core.numeric" if b"numpy._core.numeric" in in_band else b"numpy.core.numeric"
    assert name in in_band  # protocol 5 has a function of its own


# What Python 2.7 with NumPy 1.16 writes for {"vid": array([1.0, 2.0])}, by protocol.
CONTENT = struct.pack("<2d", 1.0, 2.0)
PYTHON2 = {
    0: b"(dp0\nS'vid'\np1\ncnumpy.core.multiarray\n_reconstruct\np2\n(cnumpy\nndarray\np3\n(I0\ntp4\nS'b'\np5\ntp6\nR"
    b"p7\n(I1\n(I2\ntp8\ncnumpy\ndtype\np9\n(S'f8'\np10\nI0\nI1\ntp11\nRp12\n(I3\nS'<'\np13\nNNNI-1\nI-1\nI0\ntp14\nbI00\n"
    b"S'\\x00\\x00\\x00\\x00\\x00\\x00\\xf0?\\x00\\x00\\x00\\x00\\x00\\x00\\x00@'\np15\ntp16\nbs.",
    2: b"\x80\x02}q\x00U\x03vidq\x01cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03K\x00\x85q\x04U"
    b"\x01bq\x05\x87q\x06Rq\x07(K\x01K\x02\x85q\x08cnumpy\ndtype\nq\tU\x02f8q\nK\x00K\x01\x87q\x0bRq\x0c(K\x03U\x01<q\rNNN"
    b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\x0eb\x89U\x10" + CONTENT + b"q\x0ftq\x10bs.",
}


@pytest.mark.parametrize("protocol", [0, 2])
def test_pickles_of_python_2(protocol):
    found = load_plain(PYTHON2[protocol])
    assert same(found, {"vid": np.array([1.0, 2.0])})
    assert same(found, pickle.loads(PYTHON2[protocol], encoding="latin1"))
    assert load_plain(b"U\x02\xe9\xff.") == "éÿ"
    assert load_plain(b"c__builtin__\nset\n((lI1\natR.") == {1}


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**100), 2**100)
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.binary(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=4) | st.integers(-5, 5), inner, max_size=4)
        | st.sets(st.text(max_size=4) | st.integers(0, 9), max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=100, deadline=None)
@given(value=values, protocol=st.sampled_from(PROTOCOLS))
def test_any_plain_object(value, protocol):
    assert same(load_plain(pickle.dumps(value, protocol)), value)


class Calls:
    """Unpickling one would be noticed."""

    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


class Stateful:
    def __init__(self):
        self.x = 1


HOSTILE = {
    "os.system": (Calls(os.system, "exit 1"), "asks for posix.system"),
    "eval": (Calls(eval, "pytest.fail()"), "eval, which is not among arrays and plain containers"),
    "getattr": (Calls(getattr, "", "join"), "getattr, which is not among arrays and plain containers"),
    "numpy.load": (Calls(np.load, "x"), "asks for numpy.load"),
    "in a dict": ({"a": [Calls(os.getcwd)]}, "asks for posix.getcwd"),
    "an object": (Stateful(), "Stateful"),
    "complex": (1j, "complex, which is not among arrays and plain containers"),
    "array of objects": (np.array([None, {}], object), "dtype 'O8', which is neither numbers nor text"),
    "records": (np.zeros(2, "i4,f4"), "dtype 'V8', which is neither numbers nor text"),
    "dates": (np.zeros(2, "M8[s]"), "dtype 'M8'"),
    "complex array": (np.zeros(2, complex), "dtype 'c16'"),
    "slice": (slice(1), "slice, which is not among arrays and plain containers"),
    "float as key": ({0.5: 1}, "keys must be text"),
    "key of keys": ({((1,),): 1}, "keys must be text"),
    "long key": ({tuple("abcdefghi"): 1}, "keys must be tuples of at most 8 (got 9)"),
    "large key": ({2**61: 1}, "integers below 2**61"),
}


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_not_data_is_refused_by_name(name, protocol):
    value, message = HOSTILE[name]
    if protocol == 0 and name == "an object":
        message = "asks for copy_reg._reconstructor"
    assert message in refusal(pickle.dumps(value, protocol))


def array_pickle(shape=b"K\x02\x85", dtype=b"U\x02f8", order=b"U\x01<", names=b"N", content=b"U\x10" + CONTENT):
    return (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01" + shape
        + b"cnumpy\ndtype\n" + dtype + b"K\x00K\x01\x87R(K\x03" + order + b"N" + names
        + b"NJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89" + content + b"tb."
    )  # fmt: skip


LIES = {
    "empty": (b"", "the file ends before the pickle does"),
    "archive": (b"PK\x03\x04", "not a pickle (opcode 0x50)"),
    "text": (b"Hello", "not a pickle (opcode 0x48)"),
    "protocol": (b"\x80\x06.", "protocol 06 is not one of 0 to 5"),
    "no stop": (b"\x80\x02K\x01", "the file ends"),
    "nothing": (b"\x80\x02.", "takes what is not there"),
    "text announced": (b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7f.", "bytes are announced, but 1 are left"),
    "bytes announced": (b"\x8e\xff\xff\xff\xff\xff\x00\x00\x00.", "bytes are announced"),
    "bytearray announced": (b"\x96\xff\xff\xff\xff\xff\x00\x00\x00.", "bytes are announced"),
    "frame announced": (b"\x95\xff\xff\xff\xff\xff\xff\xff\xff.", "bytes are announced"),
    "text no utf-8": (b"\x8c\x02\xff\xff.", "damaged ('utf-8' codec"),
    "integer announced": (b"\x8b\xff\xff\xff\x7f.", "an integer of 2147483647 bytes"),
    "integer of digits": (b"I" + b"9" * 5000 + b"\n.", "an integer of 5000 digits"),
    "integer of letters": (b"Iab\n.", "damaged (invalid literal"),
    "line without end": (b"I12", "ends inside a line"),
    "float without end": (b"G\x00\x00", "ends inside a number"),
    "text without quotes": (b"Sab\n.", "without its quotes"),
    "escape": (b"S'\\q'\n.", "with the escape"),
    "no mark": (b"K\x01t.", "takes what is not there"),
    "below the mark": (b"](K\x01tae.", "takes what is not there"),
    "unknown memo": (b"h\x05.", "refers to object 5"),
    "append to dict": (b"}K\x01a.", "appends to what is no list (got dict)"),
    "item of list": (b"]K\x01K\x02s.", "sets an item of what is no dict (got list)"),
    "odd items": (b"}(K\x01u.", "a key without a value"),
    "list as key": (b"}]K\x01s.", "keys must be text"),
    "list in set": (b"\x8f(]\x90.", "keys must be text"),
    "call of text": (b"U\x01a)R.", "calls what is no function (got 'a')"),
    "no tuple": (b"c__builtin__\nset\n]R.", "arguments that are no tuple"),
    "set of number": (b"c__builtin__\nset\nK\x01\x85R.", "arguments that NumPy and Python do not write"),
    "state of list": (b"]}b.", "sets the state of what has none (got list)"),
    "unicode name": (b"c\xc3\xa9\n\xe2\x80\xae\n.", "asks for '\\xe9.\\u202e'"),
    "name of number": (b"K\x01K\x02\x93.", "a name that is no text"),
    "persistent": (b"U\x01aQ.", "holds a persistent id"),
    "extension": (b"N\x82\x01.", "holds an extension code"),
    "instance": (b"(ios\nsystem\n.", "holds an object of a class"),
    "object": (b"(cos\nsystem\no.", "asks for os.system"),
    "new object": (b"c__builtin__\nset\n)\x81.", "holds an object of a class"),
    "buffer": (b"N\x97.", "a buffer that lies outside the file"),
    "array shape": (array_pickle(b"K\x03\x85"), "float64 of shape (3,) takes 24 bytes, but 16 are there"),
    "array huge": (array_pickle(b"J\xff\xff\xff\x7f\x8a\x05\xff\xff\xff\xff\x7f\x86"), "but 16 are there"),
    "array negative": (array_pickle(b"J\xff\xff\xff\xff\x85"), "no tuple of sizes"),
    "array many sizes": (array_pickle(b"(" + b"K\x01" * 9 + b"t"), "no tuple of sizes"),
    "array past numpy": (array_pickle(b"K\x00\x8a\x09" + b"\xff" * 8 + b"\x00\x86", content=b"U\x00"), "byte "),
    "array of nothing": (array_pickle(dtype=b"U\x02U0"), "takes 0 bytes"),
    "array of fields": (array_pickle(names=b"U\x01a\x85"), "an array of records"),
    "array byte order": (array_pickle(order=b"U\x01!"), "sets the state of what has none"),
    "array dtype": (array_pickle(dtype=b"U\x0ff8; import this"), "which is neither numbers nor text"),
    "array no unicode": (array_pickle(b"K\x01\x85", b"U\x02U4", content=b"U\x10" + b"\xff" * 16), "no Unicode text"),
    "array wide text": (array_pickle(content=b"\x8c\x04\xe4\xb8\xad\xc3"), "damaged"),
    "dtype of dtype": (b"cnumpy\ndtype\n" + b"cnumpy\ndtype\n\x85R.", "arguments that NumPy"),
    "deep": (b"]" * 1001 + b"(" * 1001 + b".", "nested deeper than 1000"),
}


@pytest.mark.parametrize("name", LIES)
def test_lies_are_refused_with_their_place(name):
    content, message = LIES[name]
    assert message in refusal(content)


DTYPES = ["float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"]


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize("dtype", DTYPES)
def test_tensors(dtype, protocol):
    tensor = torch.tensor([[0, 1, 2], [3, 4, 5]]).to(getattr(torch, dtype))
    tensors = [tensor, tensor[1], tensor[0, 1], tensor[:0], tensor[1:, :1], torch.ones(2).to(tensor.dtype)]
    found = load_plain(pickle.dumps(tensors, protocol))
    for array, wanted in zip(found, tensors, strict=True):
        assert same(array, (wanted.float() if dtype == "bfloat16" else wanted).numpy())


def tensor_pickle(old=b"", new=b"", count=1):
    content = pickle.dumps(torch.arange(6.0).reshape(2, 3), 4)
    assert content.count(old) >= count
    return content.replace(old, new)


TENSORS = {
    "torch.save": (b"torch._utils", b"torch.xutils", "asks for torch.xutils._rebuild_tensor_v2"),
    "magic": (b"\x8a\nl\xfc\x9c", b"\x8a\nl\xfd\x9c", "bytes that torch does not write"),
    "byte order": (b"little_endianq\x02\x88", b"little_endianq\x02\x89", "a storage of another byte order"),
    "kind": (b"FloatStorage", b"FlautStorage", "asks for torch.FlautStorage"),
    "other kind": (b"ctorch\nFloatStorage", b"cbuiltins\nbytearray", "bytes that torch does not write"),
    "elements": (b"K\x06Nt", b"K\x07Nt", "torch.FloatStorage of 6 elements takes 24 bytes, not 24"),
    "count": (b"a.\x06\x00", b"a.\x05\x00", "torch.FloatStorage of 5 elements takes 20 bytes, not 24"),
    "huge count": (b"a.\x06\x00\x00\x00", b"a.\xff\xff\xff\xff", "takes 17179869180 bytes, not 24"),
    "view": (b"K\x06Nt", b"K\x06Kt", "byte"),
    "shape": (b"K\x02K\x03\x86", b"K\x03K\x03\x86", "a tensor of 9 elements from 0 on, in a storage of 6"),
    "repetition": (b"K\x03K\x01\x86", b"K\x00K\x00\x86", "a tensor that is not contiguous"),
    "archive": (b"\x80\x02\x8a\nl", b"PK\x8a\nl", "an archive of torch.save"),
}


@pytest.mark.parametrize("name", TENSORS)
def test_lies_about_tensors(name):
    old, new, message = TENSORS[name]
    assert message in refusal(tensor_pickle(old, new))


def test_more_that_tensors_are_not():
    assert "a tensor that is not contiguous" in refusal(pickle.dumps(torch.ones(2, 3).T))
    assert "asks for torch._utils._rebuild_parameter" in refusal(pickle.dumps(torch.nn.Parameter(torch.ones(2))))
    nested = b"ctorch.storage\n_load_from_bytes\n"
    assert "a storage that calls a function" in refusal(nested + b"C\x25" + nested + b"C\x00\x85R.\x85R.")


def test_truncated_tensors_are_refused():
    content = tensor_pickle()
    for length in range(len(content)):
        refusal(content[:length])


def test_containers_are_bounded(monkeypatch):
    monkeypatch.setattr(_machine, "MAX_CONTAINERS", 100)
    assert "more containers than a file of its size has" in refusal(b"\x8f" * 999 + b".")
    assert len(load_plain(b"(" + b"\x8f" * 100 + b"K\x01" * 200 + b"t.")) == 300


TEXT = b"X\xa0\x86\x01\x00" + b"a" * 100_000
COPIES = {  # each sets up what is to be copied, and the few bytes that copy 100 kB of it
    "encode": (b"c_codecs\nencode\nq\x000" + TEXT + b"U\x06latin1\x86q\x010", b"h\x00h\x01R"),
    "bytes": (b"cbuiltins\nbytearray\nq\x000" + TEXT + b"\x85q\x010", b"h\x00h\x01R"),
    "set": (b"cbuiltins\nset\nq\x000](" + b"K\x01" * 25_000 + b"e\x85q\x010", b"h\x00h\x01R"),
    "state": (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87Rq\x000(K\x01J\xa0\x86\x01\x00\x85"
        b"cnumpy\ndtype\nU\x02i1\x85R\x89" + TEXT + b"tq\x010",
        b"h\x00h\x01b",
    ),
}


@pytest.mark.parametrize("name", COPIES)
def test_copies_are_bounded(name):
    setup, copy = COPIES[name]
    load_plain(b"(" + setup + 2 * copy + b"t.")
    assert "copies the same bytes again and again" in refusal(b"(" + setup + 100 * copy + b"t.")


def test_deep_nesting_and_cycles_are_only_data():
    found = load_plain(b"]K\x010" * 100_000 + b"a" * 99_999 + b".")
    assert isinstance(found[0][0], list)
    cyclic = load_plain(b"]q\x00h\x00a.")
    assert cyclic[0] is cyclic
    assert load_plain(b"}r\xff\xff\xff\xff0j\xff\xff\xff\xff.") == {}  # a memo of 4 billion places is not made


def test_every_truncation_is_refused():
    for protocol in (0, 2, 5):
        content = pickle.dumps({"a": [1.5, "text", b"bytes"], "b": np.ones(3, np.float32), "c": {1}}, protocol)
        for length in range(len(content)):
            refusal(content[:length])


@settings(max_examples=200, deadline=None)
@given(
    protocol=st.sampled_from([0, 2, 4, 5]),
    changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4),
)
def test_damaged_pickle_is_read_or_refused(protocol, changes):
    content = bytearray(
        pickle.dumps([PLAIN, np.ones((2, 3)), torch.ones(2, 3), np.array(["ab"]), np.float32(1)], protocol)
    )
    for at, value in changes:
        content[at % len(content)] = value
    try:
        load_plain(bytes(content))
    except DatasetError as error:
        assert str(error).startswith("byte ")  # noqa: PT017 - either is right


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(content):
    try:
        load_plain(content)
    except DatasetError as error:
        assert str(error).startswith("byte ")  # noqa: PT017 - either is right


def test_files(tmp_path):
    path = tmp_path / "data.pkl"
    for kind, message in (("lost", "no such file"), ("folder", "is a directory"), ("empty", "byte 0: the file ends")):
        if kind == "folder":
            path.mkdir()
        elif kind == "empty":
            path.rmdir()
            path.touch()
        with pytest.raises(DatasetError) as caught:
            load_plain(path)
        assert str(caught.value).startswith(f"{path}: {message}")
    path.write_bytes(pickle.dumps({"a": 1}))
    assert load_plain(path) == load_plain(str(path)) == {"a": 1}
