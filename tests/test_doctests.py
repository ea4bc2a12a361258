"""Every public name says what it does and shows it: a docstring with an example that runs.

Public are the names in `__all__` of a module, or where it has none what it defines, or imports `as` the same name,
without an underscore; and the methods that a public class is the first to define. The `__all__` of a package speaks for
the modules in it; the root only gathers names. So a new name is held to this without a line here.
"""

from __future__ import annotations

import ast
import contextlib
import doctest
import importlib.util
import inspect
import pkgutil
import sys
import types
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import spcl_fast

# The docstrings of commands are their --help, and the functions of the kernels are those of one backend.
NOT_FOR_USERS = ("spcl_fast.__main__", "spcl_fast.cli", "spcl_fast.kernels")
# Their examples belong to the host. All others take tensors on any device, and run on each backend of it.
ON_THE_HOST = (
    *("spcl_fast.arrays", "spcl_fast.backends", "spcl_fast.batch", "spcl_fast.integrations"),
    *("spcl_fast.corpus", "spcl_fast.merc", "spcl_fast.report"),
)
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


class Public(NamedTuple):
    """A public function, class or method, by the path that a user would write; or a module that has an example."""

    path: str
    value: Any

    @property
    def module(self) -> str:
        return self.path if isinstance(self.value, types.ModuleType) else self.value.__module__


class Absent(NamedTuple):
    """A module of ours whose own imports are not installed, and what it says."""

    path: str
    reason: str


def public_modules(package: types.ModuleType) -> Iterator[types.ModuleType | Absent]:
    yield package
    if package is not spcl_fast and hasattr(package, "__all__"):
        return
    for _, name, _ in pkgutil.iter_modules(getattr(package, "__path__", []), f"{package.__name__}."):
        is_python = (importlib.util.find_spec(name).origin or "").endswith(".py")  # the libraries lie beside it
        if is_python and not name.rpartition(".")[2].startswith("_") and name not in NOT_FOR_USERS:
            try:
                module = importlib.import_module(name)
            except ImportError as error:
                missing = getattr(error.__cause__ or error, "name", None)
                if missing is None or missing.partition(".")[0] == spcl_fast.__name__:
                    raise
                yield Absent(name, str(error))
            else:
                yield from public_modules(module)


def public_values(module: types.ModuleType) -> Iterator[Public]:
    """Its functions and classes; numbers, tables and modules have no docstring of their own."""
    if ">>>" in (module.__doc__ or ""):
        yield Public(module.__name__, module)
    own = [name for name, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__]
    names = [name for name in (*own, *imported_for_others(module)) if not name.startswith("_")]
    for name in getattr(module, "__all__", names):
        value = getattr(module, name)
        if inspect.isroutine(value) or inspect.isclass(value):
            yield Public(f"{module.__name__}.{name}", value)


def imported_for_others(module: types.ModuleType) -> list[str]:
    """What it imports as the same name, which says that it is meant to be found there."""
    source = Path(module.__file__).read_text() if getattr(module, "__file__", None) else ""
    imports = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)]
    return [alias.name for node in imports for alias in node.names if alias.name == alias.asname]


def public_methods(of: Public) -> Iterator[Public]:
    """What a class is the first to define; its example shows its properties, and what a protocol asks of others."""
    has_methods = inspect.isclass(of.value) and not getattr(of.value, "_is_protocol", False)
    for name, value in vars(of.value).items() if has_methods else ():
        function = getattr(value, "__func__", value)  # of a classmethod or staticmethod
        is_own = inspect.isfunction(function) and function.__module__ == of.value.__module__
        if is_own and not name.startswith("_") and not is_inherited(of.value, name):
            yield Public(f"{of.path}.{name}", function)


def is_inherited(of: type, name: str) -> bool:
    """Whether a base class has a method of this name; `forward` of `torch.nn.Module` is only a name for none."""
    return any(getattr(vars(base).get(name), "__name__", None) == name for base in of.__mro__[1:])


def public(modules: Iterable[types.ModuleType]) -> list[Public]:
    """Each once, by the first path that leads to it."""
    found: dict[int, Public] = {}
    for module in modules:
        for value in public_values(module):
            for one in (value, *public_methods(value)):
                found.setdefault(id(one.value), one)
    return list(found.values())


def fault(of: Public) -> str | None:
    """What is wrong with the example of a public name; None where there is one and it holds."""
    docstring = of.value.__doc__
    if not docstring:
        return f"{of.path} has no docstring"
    example = doctest.DocTestParser().get_doctest(inspect.cleandoc(docstring), {}, of.path, None, 0)
    if not example.examples:
        return f"{of.path} has no example: no line of its docstring begins with >>>"
    said: list[str] = []
    failed, _ = doctest.DocTestRunner(verbose=False, optionflags=OPTIONS).run(example, out=said.append)
    return "".join(said) if failed else None


@contextlib.contextmanager
def forgotten() -> Iterator[None]:
    """What an example adds to a table of the package, such as a name that it registers, is taken out after it."""
    before = [(table, set(table)) for table in tables()]
    yield
    for table, keys in before:
        for key in set(table) - keys:
            del table[key]


def tables() -> Iterator[dict[Any, Any]]:
    """The dictionaries of our modules, and those in the objects there."""
    for module in [module for name, module in sys.modules.items() if name.partition(".")[0] == spcl_fast.__name__]:
        for name, value in vars(module).items():
            if type(value).__module__.partition(".")[0] == spcl_fast.__name__:
                yield from (inner for inner in getattr(value, "__dict__", {}).values() if type(inner) is dict)
            elif type(value) is dict and not name.startswith("__"):
                yield value


def params() -> list[Any]:
    modules = list(public_modules(spcl_fast))
    absent = [module for module in modules if isinstance(module, Absent)]
    found: list[Any] = [
        pytest.param(None, marks=pytest.mark.skip(reason=why), id=path.removeprefix("spcl_fast."))
        for path, why in absent
    ]
    for of in public(module for module in modules if module not in absent):
        marks = [] if runs_on_any_device(of) else pytest.mark.host_only
        found.append(pytest.param(of, marks=marks, id=of.path.removeprefix("spcl_fast.")))
    return found


def runs_on_any_device(of: Public) -> bool:
    return not of.module.startswith(ON_THE_HOST)


@pytest.mark.parametrize("of", params())
def test_public_name_has_an_example_that_runs(of, backend_names, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # an example may write a file, as its reader would
    for backend in backend_names if runs_on_any_device(of) else [""]:
        monkeypatch.setenv("SPCL_FAST_BACKEND", backend)
        with forgotten():
            assert fault(of) is None, backend


def module_of(**values: Any) -> types.ModuleType:
    module = types.ModuleType("planted")
    for name, value in values.items():
        value.__module__ = module.__name__
        setattr(module, name, value)
    return module


def doubled(x):
    """Twice as much.

    Example:
        >>> 2 * 3
        6
    """


@pytest.mark.parametrize(
    ("docstring", "expected"),
    [
        (None, "has no docstring"),
        ("Twice as much.", "has no example"),
        ("Twice as much.\n\n>>> 2 * 3\n7", "Expected:\n    7\nGot:\n    6"),
        ("Twice as much.\n\n>>> doubled(3)\n6", "NameError: name 'doubled' is not defined"),
    ],
)
def test_example_that_is_missing_or_wrong_is_a_fault(docstring, expected):
    def planted(x):
        return 2 * x

    planted.__doc__ = docstring
    (found,) = public([module_of(planted=planted)])
    assert expected in fault(found)


def test_modules_are_found_by_themselves_and_those_without_their_host_are_named(tmp_path, monkeypatch):
    files = {
        "__init__": "",
        "_hidden": "raise AssertionError",
        "adapter": "try: import no_such_host\nexcept ImportError as e: raise ImportError('needs a host') from e",
        "_own": "def imported(): pass\ndef used(): pass",
        "plain": "from planted_package._own import imported as imported, used\ndef shown(): pass",
        "documented": "'A module. >>> 1 + 1'",
        "part/__init__": "from planted_package.part.inner import shown\n__all__ = ['shown']",
        "part/inner": "def shown(): pass\ndef helper(): pass",
    }
    for name, text in files.items():
        path = tmp_path / "planted_package" / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    found = list(public_modules(importlib.import_module("planted_package")))
    absent = [module for module in found if isinstance(module, Absent)]
    assert absent == [Absent("planted_package.adapter", "needs a host")]
    paths = [of.path for of in public(module for module in found if module not in absent)]
    names = ["documented", "part.shown", "plain.shown", "plain.imported"]
    assert paths == [f"planted_package.{name}" for name in names]

    (tmp_path / "planted_package" / "wrong.py").write_text("import spcl_fast.no_such_module")
    with pytest.raises(ImportError, match=r"spcl_fast\.no_such_module"):
        list(public_modules(sys.modules["planted_package"]))
    for name in [name for name in sys.modules if name.startswith("planted_package")]:
        del sys.modules[name]


def test_names_are_found_by_themselves_and_once():
    class Planted:
        """Has one method."""

        def method(self):
            """Is of it."""

        @classmethod
        def made(cls):
            """Is of it, too."""

        def _hidden(self):
            """Is not public."""

    module = module_of(doubled=doubled, Planted=Planted, _hidden=lambda: None)
    module.again = doubled
    for method in (Planted.method, Planted.made.__func__):
        method.__module__ = "planted"
    assert [found.path for found in public([module, module])] == [
        *("planted.doubled", "planted.Planted", "planted.Planted.method", "planted.Planted.made")
    ]
    assert fault(public([module])[0]) is None
    module.__all__ = ["Planted"]
    assert public([module])[0].path == "planted.Planted"


def test_what_an_example_registers_is_forgotten():
    class Registry:
        def __init__(self):
            self.names = {"mine": 1}

    Registry.__module__ = "spcl_fast.planted"
    planted = types.ModuleType("spcl_fast.planted")
    planted.registry, planted.table = Registry(), {"old": 1}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, planted.__name__, planted)
        with forgotten():
            planted.registry.names["new"] = planted.table["new"] = 2
    assert (planted.registry.names, planted.table) == ({"mine": 1}, {"old": 1})


def test_walk_reaches_functions_classes_and_methods():
    modules = [module for module in public_modules(spcl_fast) if not isinstance(module, Absent)]
    paths = {of.path for of in public(modules)}
    assert {"spcl_fast.SelfPacedScheduler", "spcl_fast.SelfPacedScheduler.end_epoch"} <= paths
    assert {"spcl_fast.ops.self_paced_step", "spcl_fast.reference.self_paced_step"} <= paths
    assert {"spcl_fast.arrays.self_paced_step", "spcl_fast.merc.trainer.Trainer.fit"} <= paths
    assert not {path for path in paths if path.startswith(NOT_FOR_USERS)}
    assert "spcl_fast.reference.SelfPacedStep" not in paths  # it is `ops.SelfPacedStep`
