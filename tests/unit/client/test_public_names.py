"""The names of the package are importable, and the lazy table has those that are not imported at once."""

import subprocess
import sys

import seresnext_client


def test_the_lazy_table_has_every_public_name_but_connect() -> None:
    assert sorted(seresnext_client.__all__) == sorted([*seresnext_client._LAZY_IMPORTS, "connect"])
    assert seresnext_client.__all__ == sorted(seresnext_client.__all__)


def test_a_public_name_is_never_a_module_whatever_is_imported_first() -> None:
    program = (
        "import inspect, pkgutil, importlib, seresnext_client as package\n"
        "def check():\n"
        "    modules = [name for name in package.__all__ if inspect.ismodule(getattr(package, name))]\n"
        "    assert not modules, modules\n"
        "check()\n"
        "for module in pkgutil.iter_modules(package.__path__, 'seresnext_client.'):\n"
        "    importlib.import_module(module.name)\n"
        "check()\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
