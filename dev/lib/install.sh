# shellcheck shell=bash
# What the machine must have, by Debian package. Nothing is installed that is already there in another form.

install_stack_needs() {
    pg_bin >/dev/null || first_available "postgresql-$POSTGRES_MAJOR" postgresql
    java_bin >/dev/null || first_available "openjdk-$JAVA_MAJOR-jre-headless" default-jre-headless
    command -v mvn >/dev/null || kafka_jars_complete "$(kafka_jars)" || echo maven
}

install_build_needs() {
    command -v cc >/dev/null && command -v c++ >/dev/null && command -v make >/dev/null || echo build-essential
    command -v pkg-config >/dev/null || echo pkg-config
    [[ -e /usr/include/zlib.h ]] || echo zlib1g-dev
    install_download_needs
    python3 -c 'import ensurepip' 2>/dev/null || echo python3-venv
}

install_download_needs() {
    command -v curl >/dev/null || echo curl
    [[ -e /etc/ssl/certs/ca-certificates.crt ]] || echo ca-certificates
}

# For the extension: the server's headers, of the very release that is installed, because a newer package would replace
# the files of a server that runs; and the library that reads headers.
install_extension_needs() {
    local config major installed package
    config=$(pg_bin)/pg_config || return 0
    major=$("$config" --version | grep -oE '[0-9]+' | head -n 1)
    if [[ ! -e $("$config" --includedir-server 2>/dev/null)/postgres.h ]]; then
        package=postgresql-server-dev-$major
        installed=$(dpkg-query -W -f '${Version}' "postgresql-$major" 2>/dev/null || true)
        if [[ -n $installed ]] && apt-cache madison "$package" 2>/dev/null | grep -qF " $installed "; then
            echo "$package=$installed"
        else
            echo "$package"
        fi
    fi
    compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' >/dev/null || echo libclang-dev
}

# A newer Debian no longer has our major: then its own.
first_available() {
    local package
    for package in "$@"; do
        apt-cache show "$package" >/dev/null 2>&1 && { echo "$package"; return; }
    done
    echo "$1"
}

AS_ROOT=()
[[ $(id -u) == 0 ]] || AS_ROOT=(sudo -n)
may_be_root() { "${AS_ROOT[@]}" true 2>/dev/null; }
may_install_packages() { command -v apt-get >/dev/null && may_be_root; }

# A container's image comes without apt's lists, and old lists name packages that are no longer there.
refresh_packages() { "${AS_ROOT[@]}" apt-get update -q </dev/null >"$LOGS/apt.log" 2>&1 || true; }

# install_missing NEEDS_FUNCTION…: installs what those functions name, or says what to install and fails.
install_missing() {
    local needs=() packages=()
    if ! install_named "$@"; then
        if ! command -v apt-get >/dev/null; then
            die "missing on this machine (Debian's names): ${needs[*]}"
        elif ! may_be_root; then
            die "missing packages: ${needs[*]}
Install them with: sudo apt-get install --no-install-recommends ${needs[*]}"
        fi
        refresh_packages
        install_named "$@" || true
        packages=("${needs[@]}")
        say "install    ${packages[*]}"
        install_packages || show_failure apt
        install_named "$@" || die "still missing after installing: ${needs[*]}"
    fi
}

# Fills `needs` of the caller; true when nothing is missing.
install_named() {
    local group
    mapfile -t needs < <(for group in "$@"; do "$group" || true; done)
    [[ ${#needs[@]} == 0 ]]
}

# Debian would create and start a cluster of its own on port 5432, which is not wanted here.
install_packages() {
    local drop_in=/etc/postgresql-common/createcluster.d/secretaria.conf code=0
    "${AS_ROOT[@]}" mkdir -p "${drop_in%/*}"
    echo 'create_main_cluster = false' | "${AS_ROOT[@]}" tee "$drop_in" >/dev/null
    "${AS_ROOT[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${packages[@]}" \
        </dev/null >>"$LOGS/apt.log" 2>&1 || code=$?
    "${AS_ROOT[@]}" rm -f "$drop_in"
    return "$code"
}

# Checkers that are not crates, pinned, in an environment of their own. Its last file is the stamp, so a half-made one is made again.
install_tools() {
    local stamp="typos $TYPOS_VERSION, check-jsonschema $CHECK_JSONSCHEMA_VERSION, schemathesis $SCHEMATHESIS_VERSION"
    [[ $(cat "$TOOLS/stamp" 2>/dev/null) == "$stamp" ]] && return
    mkdir -p "$LOCAL"
    (
        flock -w 600 8 || die "another run has been installing tools for ten minutes: $LOCAL/tools.lock"
        [[ $(cat "$TOOLS/stamp" 2>/dev/null) == "$stamp" ]] && exit 0
        say "install    $stamp"
        rm -rf "$TOOLS/venv" "$TOOLS/stamp"
        {
            python3 -m venv "$TOOLS/venv" && "$TOOLS/venv/bin/pip" install -q --disable-pip-version-check \
                "typos==$TYPOS_VERSION" "check-jsonschema==$CHECK_JSONSCHEMA_VERSION" "schemathesis==$SCHEMATHESIS_VERSION"
        } </dev/null >"$LOGS/tools.log" 2>&1 || show_failure tools
        echo "$stamp" >"$TOOLS/stamp"
    ) 8>"$LOCAL/tools.lock"
}

install_cargo_deny() {
    [[ $("$TOOLS/cargo/bin/cargo-deny" --version 2>/dev/null) == "cargo-deny $CARGO_DENY_VERSION" ]] && return
    say "install    cargo-deny $CARGO_DENY_VERSION (a few minutes, once)"
    cargo install -q cargo-deny --version "$CARGO_DENY_VERSION" --locked --root "$TOOLS/cargo"
}
