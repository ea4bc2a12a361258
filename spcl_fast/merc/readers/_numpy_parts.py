"""The few names a pickle of arrays and containers mentions, and what stands in for each of them.

NumPy pickles an array as calls of its own functions. Their arguments are all that is looked at here: a dtype of the
short list, a shape, and bytes that must be exactly as many as these two say.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from spcl_fast.merc.dataset import DatasetError
from spcl_fast.merc.readers._words import shown

_BUILTINS = ("builtins", "__builtin__")
_MULTIARRAY = ("numpy.core.multiarray", "numpy._core.multiarray")
_NUMERIC = ("numpy.core.numeric", "numpy._core.numeric")
_NAMES: dict[tuple[str, str], str] = {
    **{(module, name): name for module in _BUILTINS for name in ("set", "frozenset", "bytes", "bytearray")},
    **{(module, name): "factory" for module in _BUILTINS for name in ("list", "dict", "int", "float", "str", "tuple")},
    **{(module, "_reconstruct"): "array" for module in _MULTIARRAY},
    **{(module, "scalar"): "scalar" for module in _MULTIARRAY},
    **{(module, "_frombuffer"): "buffer" for module in _NUMERIC},
    ("numpy", "dtype"): "dtype",
    ("numpy", "ndarray"): "ndarray",
    ("_codecs", "encode"): "encode",
    ("collections", "OrderedDict"): "OrderedDict",
    ("collections", "defaultdict"): "defaultdict",
    ("torch._utils", "_rebuild_tensor_v2"): "tensor",
    ("torch.storage", "_load_from_bytes"): "storage",
}
# What a tensor's storage may be called; `_torch_parts` knows the dtypes.
_NAMES |= {
    ("torch", f"{kind}Storage"): f"{kind}Storage"
    for kind in ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")
}
# Booleans, integers, floats of 2, 4 and 8 bytes, and text; "O" would be pickled objects, "V" and "M" are no data here.
_DTYPE = re.compile(r"[<>|=]?(b1|\?|[iu][1248]|f[248]|[SU]\d{1,7})", re.ASCII)
_KEYS = (str, int, bytes, type(None))
# Beyond it different integers share a hash, and a table of such keys takes quadratic time to fill.
_MAX_KEY = 2**61 - 1
# A tuple is hashed anew for each use of it.
_MAX_KEY_LENGTH = 8


@dataclass(frozen=True)
class Name:
    """A function or class that the pickle mentions, known by what it stands for."""

    of: str
    written: str


@dataclass
class Dtype:
    """A dtype that may still be told its byte order."""

    code: str
    order: str = "="

    def resolve(self) -> np.dtype[Any]:
        return np.dtype(self.order + self.code)


def known(module: object, name: object) -> Name:
    """What stands in for `module.name`."""
    if not (isinstance(module, str) and isinstance(name, str)):
        raise DatasetError("a name that is no text")
    of = _NAMES.get((module, name))
    if of is None:
        written = f"{module}.{name}" if f"{module}.{name}".isprintable() else ascii(f"{module}.{name}")
        hint = " (store tensors as arrays: tensor.numpy())" if module.partition(".")[0] == "torch" else ""
        raise DatasetError(f"asks for {written[:200]}, which is not among arrays and plain containers{hint}")
    return Name(of, f"{module}.{name}")


def key(value: Any) -> Any:
    """A key of a dict or member of a set: text, a small integer, or a flat tuple of them."""
    members = value if type(value) is tuple else (value,)
    if len(members) > _MAX_KEY_LENGTH:
        raise DatasetError(f"keys must be tuples of at most {_MAX_KEY_LENGTH} (got {len(members)})")
    for x in members:
        if not isinstance(x, _KEYS) or (isinstance(x, int) and abs(x) >= _MAX_KEY):
            raise DatasetError(f"keys must be text, integers below 2**61 or tuples of them (got {shown(x)})")
    return value


def pairs(values: list[Any]) -> dict[Any, Any]:
    """A dict of keys and values in turn."""
    if len(values) % 2:
        raise DatasetError("a key without a value")
    return dict(zip((key(x) for x in values[::2]), values[1::2], strict=True))


def require(value: Any, kind: type, does: str) -> Any:
    """The value, if it is of this kind."""
    if type(value) is not kind:
        raise DatasetError(f"{does} what is no {kind.__name__} (got {shown(value)})")
    return value


def make(name: Any, arguments: Any, spend: Callable[[int], None]) -> Any:
    """What calling the named function would have given.

    `spend` is told of the bytes that are about to be copied: arguments can be used again and again.
    """
    if not isinstance(name, Name):
        raise DatasetError(f"calls what is no function (got {shown(name)})")
    if type(arguments) is not tuple:
        raise DatasetError(f"{name.written}: arguments that are no tuple")
    wrong = DatasetError(f"{name.written}: arguments that NumPy and Python do not write")
    if name.of == "dtype" and 1 <= len(arguments) <= 3 and isinstance(arguments[0], str):
        found = _DTYPE.fullmatch(arguments[0])
        if found is None:
            raise DatasetError(f"an array of dtype {shown(arguments[0])}, which is neither numbers nor text")
        return Dtype(found[1])
    if name.of == "array" and len(arguments) == 3 and isinstance(arguments[0], Name) and arguments[0].of == "ndarray":
        return np.empty(0)  # `fill` gives it shape, dtype and content
    if name.of == "buffer" and len(arguments) == 4 and arguments[3] in ("C", "F"):
        data, dtype, shape, order = arguments
        array = np.empty(0)
        _set(array, shape, dtype, order == "F", data, spend)
        return array
    if name.of == "scalar" and len(arguments) == 2:
        array = np.empty(0)
        _set(array, (), arguments[0], False, arguments[1], spend)
        return array.item()
    if name.of in ("set", "frozenset") and len(arguments) == 1 and type(arguments[0]) in (list, tuple, set):
        spend(8 * len(arguments[0]))
        return {key(x) for x in arguments[0]}
    if name.of in ("storage", "tensor"):
        from spcl_fast.merc.readers import _torch_parts  # it runs a machine of its own

        if name.of == "tensor":
            return _torch_parts.make_tensor(arguments)
        if len(arguments) == 1 and isinstance(arguments[0], bytes):
            spend(2 * len(arguments[0]))
            return _torch_parts.read_storage(arguments[0])
    if name.of == "encode" and len(arguments) == 2 and arguments[1] in ("latin1", "latin-1"):
        return _bytes(arguments[0], spend)
    if name.of in ("bytes", "bytearray") and len(arguments) <= 2:
        return _bytes(arguments[0], spend) if arguments else b""
    if name.of == "OrderedDict" and len(arguments) <= 1:
        items = arguments[0] if arguments else []
        spend(8 * len(items) if type(items) is list else 0)
        if type(items) is list and all(type(x) in (list, tuple) and len(x) == 2 for x in items):
            return {key(k): value for k, value in items}
    if name.of == "defaultdict" and len(arguments) <= 1 and all(x is None or isinstance(x, Name) for x in arguments):
        return {}
    raise wrong


def fill(value: Any, state: Any, spend: Callable[[int], None]) -> None:
    """Gives an array or dtype of `make` the rest of what is known about it; `spend` as there."""
    if isinstance(value, Dtype) and type(state) is tuple and len(state) >= 5 and state[1] in ("<", ">", "|", "="):
        if any(x is not None for x in state[2:5]):
            raise DatasetError("an array of records, which is neither numbers nor text")
        value.order = state[1]
    elif isinstance(value, np.ndarray) and type(state) is tuple and len(state) in (4, 5):
        shape, dtype, fortran, data = state[-4:]
        _set(value, shape, dtype, fortran, data, spend)
    else:
        raise DatasetError(f"sets the state of what has none (got {shown(value)})")


def _bytes(value: Any, spend: Callable[[int], None]) -> bytes:
    """Bytes, or the text that stood for them before Python 3 or protocol 3."""
    spend(len(value) if isinstance(value, (str, bytes)) else 0)
    if isinstance(value, str):
        try:
            return value.encode("latin-1")
        except UnicodeEncodeError:
            raise DatasetError("text where bytes belong") from None
    if not isinstance(value, bytes):
        raise DatasetError(f"must be bytes (got {shown(value)})")
    return value


def _set(array: np.ndarray, shape: Any, dtype: Any, fortran: Any, data: Any, spend: Callable[[int], None]) -> None:
    if not isinstance(dtype, Dtype):
        raise DatasetError(f"an array without a dtype (got {shown(dtype)})")
    if type(shape) is not tuple or len(shape) > 8 or not all(type(n) is int and 0 <= n < 2**63 for n in shape):
        raise DatasetError("an array whose shape is no tuple of sizes")
    resolved, content = dtype.resolve(), _bytes(data, spend)
    wanted = math.prod(shape) * resolved.itemsize
    if resolved.itemsize == 0 or wanted != len(content):
        raise DatasetError(f"{resolved} of shape {shape} takes {wanted} bytes, but {len(content)} are there")
    if resolved.kind == "U":
        # NumPy takes any four bytes for a character, and fails later, with SystemError, where Python does not.
        code_points = np.frombuffer(content, resolved.str[0] + "u4")
        if np.any((code_points > 0x10FFFF) | ((code_points >= 0xD800) & (code_points <= 0xDFFF))):
            raise DatasetError("an array of what is no Unicode text")
    state: Any = (1, shape, resolved, bool(fortran), content)
    array.__setstate__(state)
