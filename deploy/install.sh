#!/bin/sh
# Installs the project, editable, into a virtual environment:
#   install.sh VENV EXTRAS [GROUP]     EXTRAS: those of pyproject.toml, separated by commas; GROUP: a dependency group
# What is complete is recorded as VENV/.installed-EXTRAS and, with a group, VENV/.installed-EXTRAS+GROUP: make compares
# these files' ages. An environment without such a file is incomplete, and is created again.
#
#   PYTHON       make it with this interpreter    [select_python.sh chooses]
#   TORCH_INDEX  take torch from this index       [PyTorch's for CPUs; with an NVIDIA driver PyPI, which has CUDA]
set -eu
cd "$(dirname "$0")/.."
venv=$1 extras=$2 group=${3:-}
cpu_index=https://download.pytorch.org/whl/cpu

fail() {
    echo "error: $*" >&2
    exit 4
}

has_extra() {
    case ",$extras," in *",$1,"*) ;; *) return 1 ;; esac
}

pip() {
    "$venv/bin/python" -m pip --disable-pip-version-check "$@"
}

# Whether an installation into the environment was completed, and its Python is one that would be chosen.
is_usable() {
    ls "$venv"/.installed-* >/dev/null 2>&1 || return
    current=$(PYTHON=$venv/bin/python deploy/select_python.sh ${server_flag:+"$server_flag"} 2>/dev/null) || return
    [ -z "${PYTHON:-}" ] || [ "$current" = "$(deploy/select_python.sh ${server_flag:+"$server_flag"})" ]
}

install_torch() {
    torch=$(grep '^torch==' constraints.txt)
    installed=$("$venv/bin/python" -c 'from importlib import metadata; print(metadata.version("torch"))' 2>/dev/null) || :
    case "torch==$installed" in "$torch" | "$torch+"*) return ;; esac
    index=${TORCH_INDEX:-}
    if [ -z "$index" ] && ! command -v nvidia-smi >/dev/null && [ ! -e /proc/driver/nvidia/version ]; then
        # Asked for first: an index that cannot be reached is known in seconds, and is no reason to fail.
        if pip index versions torch --index-url "$cpu_index" --retries 0 --timeout 10 >/dev/null 2>&1; then
            index=$cpu_index
        else
            echo "cannot reach $cpu_index: torch comes from PyPI, with CUDA" >&2
        fi
    fi
    if [ "$index" ]; then
        echo "installing into $venv: about 0.5 GB to download, 2 GB on disk (torch from $index)" >&2
        pip install --no-deps --retries 1 --index-url "$index" "$torch"
    else
        echo "installing into $venv: about 3 GB to download, 6 GB on disk (torch with CUDA)" >&2
    fi
}

server_flag=
! has_extra server || server_flag=--server
if ! is_usable; then
    python=$(deploy/select_python.sh ${server_flag:+"$server_flag"})
    [ ! -e "$venv" ] || [ -e "$venv/pyvenv.cfg" ] || fail "$venv is not a virtual environment: name another with VENV="
    "$python" -m venv --clear "$venv"
    pip install --quiet --upgrade 'pip>=25.2' # has --group, and goes on with a download that was interrupted
fi
! has_extra export || install_torch
pip install --constraint constraints.txt --editable ".[$extras]" ${group:+--group "$group"}
touch "$venv/.installed-$extras" ${group:+"$venv/.installed-$extras+$group"}
