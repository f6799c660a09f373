"""Builds the C kernels once per instruction set, and the Cython modules on top of them.

Everything else about the package is in pyproject.toml.
"""

import os
import platform
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_clib import build_clib
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError, LinkError

# Not -ffast-math: it also sets flush-to-zero in every process that loads the library. What these three allow is
# multiply-adds, a square root without errno, and computing both sides of a choice. -g0, because many a Python passes
# on the -g that it was built with: two thirds of the package would be debugging symbols.
C_FLAGS = ["-O3", "-g0", "-std=c11", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math"]
if os.environ.get("FASTMLP_WERROR"):
    C_FLAGS += ["-Wall", "-Wextra", "-Werror"]

X86 = platform.machine().lower() in ("x86_64", "amd64")
ARM = platform.machine().lower() in ("aarch64", "arm64")
ISA_FLAGS = {"scalar": []}
if X86:
    ISA_FLAGS["avx2"] = ["-mavx2", "-mfma", "-mpopcnt", "-mbmi"]
    ISA_FLAGS["avx512"] = ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma", "-mpopcnt", "-mbmi"]
    ISA_FLAGS["avx512"] += ["-mprefer-vector-width=512"]
elif ARM:
    ISA_FLAGS["neon"] = []

SOURCES = [str(path) for path in sorted(Path("src").rglob("*.[ch]"))]
HEADERS = [path for path in SOURCES if path.endswith(".h")]
# What Cython puts into each module that has memoryviews, 100 KB, is in this one instead.
SHARED = Path("fastmlp", "engine", "_shared")


def library(name, sources, flags):
    return (name, {"sources": sources, "cflags": C_FLAGS + flags, "obj_deps": {"": HEADERS}})


LIBRARIES = [library("fm_dispatch", ["src/dispatch.c", "src/isa/denormals.c"], [])]
LIBRARIES += [library(f"fm_{isa}", [f"src/isa/{isa}.c"], flags) for isa, flags in ISA_FLAGS.items()]


class BuildLibraries(build_clib):
    """Says in a line what is missing to compile anything; these libraries are the first to be compiled."""

    def build_libraries(self, libraries):
        if not compiles(self.compiler, "#include <stdlib.h>\nint main(void) { return EXIT_SUCCESS; }\n"):
            raise CompileError(
                f"fastmlp needs a C compiler, and {self.compiler.compiler[0]!r} does not compile a program: get one by "
                "'apt install build-essential' (Debian, Ubuntu), 'dnf install gcc' (Fedora) or "
                "'xcode-select --install' (macOS), or name another one, as CC=clang"
            )
        headers = sysconfig.get_path("include")
        if not Path(headers, "Python.h").exists():
            raise CompileError(
                f"fastmlp needs Python's C headers, and there is no Python.h in {headers}: get them by "
                "'apt install python3-dev' (Debian, Ubuntu) or 'dnf install python3-devel' (Fedora)"
            )
        build = super().build_libraries
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda one: build([one]), libraries))


class BuildExtensions(build_ext):
    """Builds the C libraries first (editable installs leave them out) and uses OpenMP where the compiler has it.

    The modules are put beside their sources as well, so that the package also works in the folder it is built in,
    where Python finds the sources before what is installed.
    """

    def run(self):
        self.run_command("build_clib")
        super().run()
        if not self.inplace:
            self.copy_extensions_to_source()

    def build_extensions(self):
        self.parallel = self.parallel or True  # as many compilers as there are processors, where no number is given
        openmp = ["-fopenmp"] if self.has_openmp() else []
        for extension in self.extensions:
            extension.extra_compile_args += openmp
            extension.extra_link_args += openmp
        super().build_extensions()

    def has_openmp(self):
        if os.environ.get("FASTMLP_NO_OPENMP"):
            return False
        program = "#include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }\n"
        if compiles(self.compiler, program, "-fopenmp"):
            return True
        print("fastmlp: the compiler has no OpenMP; building for one thread")
        return False


def compiles(compiler, program, *flags):
    """Whether a C program can be compiled and linked."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "probe.c")
        source.write_text(program)
        try:
            objects = compiler.compile([str(source)], folder, extra_postargs=list(flags))
            compiler.link_executable(objects, str(Path(folder, "probe")), extra_postargs=list(flags))
        except (CompileError, LinkError):
            return False
    return True


def extension(path):
    return Extension(
        ".".join(path.with_suffix("").parts),
        [str(path)],
        include_dirs=["src", "fastmlp/engine"],
        depends=[*SOURCES, "fastmlp/engine/rendezvous.h"],
        extra_link_args=["-Wl,-s"] if platform.system() == "Linux" else [],  # no names of functions: 250 KB
        # Cython's own output: -O3 would only make it larger.
        extra_compile_args=["-O2", "-g0", "-ffp-contract=fast", "-Wno-unused-function"],
    )


setup(
    libraries=LIBRARIES,
    ext_modules=cythonize(
        [extension(SHARED.with_suffix(".c")), *map(extension, sorted(Path("fastmlp").rglob("*.pyx")))],
        shared_utility_qualified_name=".".join(SHARED.parts),
    ),
    cmdclass={"build_clib": BuildLibraries, "build_ext": BuildExtensions},
)
