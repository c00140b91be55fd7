#!/bin/sh
# Prints the path of the Python that the virtual environment is created with:
#   select_python.sh [--server]
# With --server it can run the embedded Triton Inference Server: Python 3.11 or 3.12 with its shared libpython, on
# Linux with glibc 2.35 or newer. Without, any Python from 3.11 to 3.14.
#
# The first interpreter on the path that fits; else one that uv provides, which comes from the path or from PyPI. Where
# there is none, the reason and what to install go to stderr, and the exit code is 4.
#
#   PYTHON      use this interpreter, or fail
#   OS_RELEASE  names the distribution    [/etc/os-release]
set -eu
cache=$(cd "$(dirname "$0")/.." && pwd)/.cache
embedded_server=
[ "${1:-}" != --server ] || embedded_server=yes
without_server='build without it ("make export EXTRAS=export,cpu") and serve with docker ("make up")'
if [ "$embedded_server" ]; then
    candidates="python3 python3.12 python3.11" supported="3.11 3.12"
else
    candidates="python3 python3.14 python3.13 python3.12 python3.11" supported="3.11 3.12 3.13 3.14"
fi

# Run by each candidate: prints the interpreter's own path; or what is wrong with it, and exits with 1.
# The server's Python model processes are linked with libpython, so a static interpreter alone does not do. The path is
# that of the interpreter below a virtual environment or a version manager's shim: it stays when those change.
probe='
import os, sys, sysconfig

version = "%d.%d" % sys.version_info[:2]
supported, embedded_server = sys.argv[1].split(), sys.argv[2:]
libpython = "libpython%s.so.1.0" % version
folders = [os.path.join(sys.base_prefix, "lib"), sysconfig.get_config_var("LIBDIR") or ""]
multiarch = sysconfig.get_config_var("MULTIARCH") or ""
folders += [os.path.join(lib, multiarch) for lib in ("/usr/lib", "/lib", "/usr/lib64")]
problem = None
if version not in supported:
    problem = "is Python " + version
elif embedded_server and not any(os.path.isfile(os.path.join(folder, libpython)) for folder in folders):
    problem = "has no " + libpython
for module in () if problem else ("ensurepip", "ssl"):
    try:
        __import__(module)
    except ImportError:
        problem = "has no module " + module
print(problem or os.path.realpath(getattr(sys, "_base_executable", sys.executable)))
sys.exit(problem is not None)
'

# Sets `answer` to the path of an interpreter; or, with status 1, to what is wrong with it.
examine() {
    command -v "$1" >/dev/null || { answer="is missing"; return 1; }
    answer=$("$1" -I -c "$probe" "$supported" ${embedded_server:+server} 2>/dev/null) && return
    answer=${answer:-does not run}
    return 1
}

fail() {
    echo "error: $*" >&2
    exit 4
}

# Prints the path of uv, which is installed from PyPI where it is missing.
find_uv() {
    command -v uv && return
    if [ ! -x "$cache/uv/bin/uv" ]; then
        python3 -m venv --clear "$cache/uv" >/dev/null 2>&1 || return
        "$cache/uv/bin/python" -m pip install --quiet uv >&2 || return
    fi
    echo "$cache/uv/bin/uv"
}

# Sets `answer` to a Python 3.12 of uv's own, which has its libpython beside it.
managed_python() {
    uv=$(find_uv) || return
    uv_ran=yes
    echo "no suitable Python here ($problems): getting Python 3.12 with uv, about 35 MB" >&2
    # No configuration of the project in the current folder, no virtual environment, no program on the path.
    export UV_PYTHON_PREFERENCE=only-managed UV_PYTHON_INSTALL_BIN=0 UV_NO_CONFIG=1
    "$uv" python install 3.12 >&2 || return
    examine "$("$uv" python find --system --no-project 3.12)"
}

# Prints the command that installs a suitable Python, or uv, on this distribution; nothing where that is not known.
install_command() {
    ID='' ID_LIKE='' VERSION_CODENAME='' DEBIAN_CODENAME='' UBUNTU_CODENAME=''
    # shellcheck source=/dev/null
    [ ! -r "${OS_RELEASE:=/etc/os-release}" ] || . "$OS_RELEASE"
    sudo='sudo '
    [ "$(id -u)" -ne 0 ] || sudo=
    case " $ID $ID_LIKE " in
        *" debian "* | *" ubuntu "*)
            case ${UBUNTU_CODENAME:-${DEBIAN_CODENAME:-$VERSION_CODENAME}} in
                bookworm) packages="python3-venv libpython3.11" ;;
                jammy) packages="python3.11-venv libpython3.11" ;;
                noble) packages="python3-venv libpython3.12" ;;
                *) # has a newer Python only: with pip it installs uv
                    [ -z "$uv_ran" ] || return 0
                    packages=python3-venv ;;
            esac
            echo "${sudo}apt-get install $packages" ;;
        *" fedora "* | *" rhel "*) echo "${sudo}dnf install python3.12" ;;
        *" arch "*) [ "$uv_ran" ] || echo "${sudo}pacman -S uv" ;;
        *suse*) echo "${sudo}zypper install python312" ;;
        *" alpine "*) echo "${sudo}apk add python3" ;;
    esac
}

if [ "$embedded_server" ]; then
    libc=$(getconf GNU_LIBC_VERSION 2>/dev/null) || libc="no glibc"
    case $(uname -sm) in
        "Linux x86_64" | "Linux aarch64") ;;
        *) libc="no glibc" ;;
    esac
    minor=${libc#glibc 2.}
    [ "$minor" != "$libc" ] && [ "${minor%%.*}" -ge 35 ] || fail "the embedded server needs Linux with glibc 2.35 or" \
        "newer, on x86-64 or ARM64 (this is $(uname -sm) with $libc): $without_server"
fi

if [ "${PYTHON:-}" ]; then
    examine "$PYTHON" && echo "$answer" && exit
    [ "$embedded_server" ] || fail "PYTHON=$PYTHON $answer: Python 3.11 to 3.14 with ensurepip is needed"
    fail "PYTHON=$PYTHON $answer: the embedded server needs Python 3.11 or 3.12 with its shared libpython;" \
        "leave PYTHON out, or $without_server"
fi

problems=
for candidate in $candidates; do
    examine "$candidate" && echo "$answer" && exit
    case "$problems, is missing" in *" $answer"*) continue ;; esac # python3.11 is often python3
    problems="${problems:+$problems, }$candidate $answer"
done
problems=${problems:-no python3} uv_ran=
managed_python && echo "$answer" && exit

fix=$(install_command)
uv_fix="install uv (https://docs.astral.sh/uv)"
[ -z "$uv_ran" ] || uv_fix="let uv download its own (its message is above)"
fail "needs Python $(echo "$supported" | sed 's/ /, /g; s/, \([^,]*\)$/ or \1/')" \
    "with ensurepip${embedded_server:+ and its shared libpython} ($problems): ${fix:+$fix, or }$uv_fix"
