"""Build the C extensions; everything else about the package stands in pyproject.toml.

Environment:
    MDSYS_EXT: Names to build, joined by commas (``_decode,_generator``); unset builds all,
        empty builds none (an editable install whose extensions are built apart).
    MDSYS_WERROR: ``1`` turns warnings in our own C into errors. For developers: a user's newer
        compiler must not refuse to install us.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# Extension -> its C sources in native/src; the binding is native/bind/<name>.pyx.
# Each links its own copy of what it needs, compiled once: they share memory, never symbols.
DECODERS = tuple(sorted(path.name for path in Path("native/src").glob("decode_*.c")))
FEED = (
    *("audience.c", "book.c", "book_snapshot.c", "capture_state.c", "feed.c", "publish.c"),
    *("segment.c", *DECODERS),
)
SOURCES: dict[str, tuple[str, ...]] = {
    "_native": ("segment.c",),
    "_consume": (),
    "_decode": FEED,
    "_listener": FEED,
    "_capture": FEED,
    "_generator": ("sim_binance.c",),
}

# -O2 against the interpreter's -O3: measured no slower, and smaller. Portable on purpose: no
# -march=native; what needs newer instructions asks the processor at run time.
FLAGS = ("-std=c17", "-O2", "-fvisibility=hidden")
OUR_WARNINGS = ("-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow")
# Cython's own C converts and shadows freely.
CYTHON_WARNINGS = (
    "-Wall",
    "-Wno-unused-function",
    "-Wno-unused-variable",
    "-Wno-sign-compare",
    "-Wno-unreachable-code",
)


def selected_names() -> list[str]:
    """Return the extensions to build, as MDSYS_EXT says.

    Raises:
        SystemExit: MDSYS_EXT names an extension that is not ours.
    """
    wanted = os.environ.get("MDSYS_EXT")
    names = list(SOURCES) if wanted is None else [name for name in wanted.split(",") if name]
    if unknown := sorted(set(names) - set(SOURCES)):
        raise SystemExit(f"MDSYS_EXT: unknown {', '.join(unknown)}; there are {', '.join(SOURCES)}")
    return names


HEADERS = sorted(str(path) for path in Path("native").rglob("*.h"))


def is_newer(made: str, source: str) -> bool:
    """Whether an object is newer than all it is made from: setuptools would compile it again."""
    if not Path(made).exists():
        return False
    made_at = Path(made).stat().st_mtime_ns
    return all(Path(each).stat().st_mtime_ns < made_at for each in (source, *HEADERS, __file__))


def extensions() -> list[Extension]:
    """Return the selected extensions, each rebuilt when any header changes."""
    return [
        Extension(
            f"mdsys.{name}",
            [f"native/bind/{name}.pyx", *(f"native/src/{source}" for source in SOURCES[name])],
            depends=HEADERS,
            include_dirs=["native/include", "native/src"],
            extra_compile_args=list(FLAGS),
        )
        for name in selected_names()
    ]


class BuildExt(build_ext):
    """Compile our own C with all warnings and Cython's with few."""

    def build_extensions(self) -> None:
        """Build every extension, choosing the warnings source by source."""
        ours = list(OUR_WARNINGS)
        if os.environ.get("MDSYS_WERROR") == "1":
            ours.append("-Werror")
        compile_one = self.compiler._compile  # noqa: SLF001 - setuptools has no per-source flags

        def compile_with_warnings(
            obj: str,
            src: str,
            ext: str,
            cc_args: list[str],
            postargs: list[str],
            pp_opts: list[str],
        ) -> Any:
            if is_newer(obj, src):
                return None
            warnings = ours if Path(src).is_relative_to("native/src") else list(CYTHON_WARNINGS)
            return compile_one(obj, src, ext, cc_args, [*postargs, *warnings], pp_opts)

        self.compiler._compile = compile_with_warnings  # noqa: SLF001
        super().build_extensions()


modules = extensions()
setup(
    ext_modules=cythonize(
        modules,
        build_dir="build/cython",
        compiler_directives={"embedsignature": True},
    )
    if modules
    else [],
    cmdclass={"build_ext": BuildExt},
)
