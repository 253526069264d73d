"""The cffi hook; everything else about the package stands in pyproject.toml."""

from setuptools import setup

setup(cffi_modules=["cext/build.py:ffi"])
