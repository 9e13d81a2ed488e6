# shellcheck shell=bash
# The Rust toolchain that rust-toolchain.toml names, with rustfmt and clippy, for the account that runs this. Where it is
# missing it is installed: by Debian's package `rustup` where apt has one, else by the official installer.
#
# SECRETARIA_INSTALL_RUST=yes or =no answers in advance. Without it a terminal is asked, and a run without a terminal
# (CI, a container) installs and says so.

rust_channel() { sed -n 's/^channel *= *"\(.*\)"$/\1/p' "$ROOT/rust-toolchain.toml"; }
rust_home() { echo "${CARGO_HOME:-${HOME:?}/.cargo}/bin"; }

# The installer edits no PATH, so that what it installed has to be found by the scripts themselves.
if [[ -x $(rust_home)/cargo && :$PATH: != *:$(rust_home):* ]]; then PATH=$(rust_home):$PATH; fi

# Asked in the clone, because rustup answers for the folder it is in. It must not install anything here by itself.
rust_is_complete() {
    local version
    cd "$ROOT" || return
    for version in rustc cargo rustfmt cargo-clippy; do
        RUSTUP_AUTO_INSTALL=0 "$version" --version >/dev/null 2>&1 || return
    done
    # A Rust that is not rustup's takes no notice of rust-toolchain.toml.
    rust_is_new_enough "$(RUSTUP_AUTO_INSTALL=0 rustc --version)"
}

rust_is_new_enough() {
    local needed
    needed=$(sed -n 's/^rust-version *= *"\(.*\)"$/\1/p' "$ROOT/Cargo.toml")
    [[ $1 =~ ^rustc\ ([0-9.]+) ]] && printf '%s\n' "$needed" "${BASH_REMATCH[1]}" | sort -C -V
}

# install_rust: nothing where the toolchain is there, else as the head of this file says.
install_rust() {
    (rust_is_complete) && return
    rust_may_be_installed
    command -v rustup >/dev/null || install_rustup
    say "install    Rust $(rust_channel)"
    rustup toolchain install "$(rust_channel)" --profile minimal --component rustfmt --component clippy --no-self-update \
        </dev/null >"$LOGS/rust.log" 2>&1 || show_failure rust
    (rust_is_complete) || die "Rust $(rust_channel) was installed, and 'cargo' is another one: $(command -v cargo || echo none)"
}

rust_may_be_installed() {
    local what answer=${SECRETARIA_INSTALL_RUST:-}
    what="Rust $(rust_channel) for $(id -un) with rustup, into ${RUSTUP_HOME:-$HOME/.rustup} and ${CARGO_HOME:-$HOME/.cargo} (650 MB; no PATH is changed)"
    if [[ -z $answer && -t 0 && -t 1 ]]; then
        read -r -p "Missing: $what. Install it? [Y/n] " answer
        answer=${answer:-yes}
    fi
    case ${answer,,} in
        '' | y | yes | 1) say "install    $what" ;;
        *) die "Rust $(rust_channel) is missing and was not to be installed: install it with rustup (https://rustup.rs), or set SECRETARIA_INSTALL_RUST=yes" ;;
    esac
}

install_rustup() {
    # Debian's package would replace a cargo that is not rustup's.
    if ! command -v cargo >/dev/null && may_install_packages; then
        refresh_packages
        if [[ -n $(apt-cache search --names-only '^rustup$') ]]; then
            install_missing install_rustup_needs
            return
        fi
    fi
    install_missing install_download_needs
    run_rustup_init
}

install_rustup_needs() { command -v rustup >/dev/null || echo rustup; }

# The official installer of one release, held against the checksum that dev/versions.sh has of it.
run_rustup_init() {
    local triple folder
    triple=$(uname -m)-unknown-linux-gnu
    [[ -n ${RUSTUP_INIT_SHA256[$triple]:-} ]] || die "no checksum of rustup-init for $triple: install rustup yourself (https://rustup.rs)"
    folder=$(mktemp -d)
    {
        curl -fsS --retry 3 --proto '=https' --tlsv1.2 -o "$folder/rustup-init" \
            "https://static.rust-lang.org/rustup/archive/$RUSTUP_VERSION/$triple/rustup-init" &&
            echo "${RUSTUP_INIT_SHA256[$triple]}  $folder/rustup-init" | sha256sum --check &&
            chmod 0755 "$folder/rustup-init" &&
            "$folder/rustup-init" -y --no-modify-path --default-toolchain none </dev/null
    } >"$LOGS/rustup.log" 2>&1 || { rm -rf "$folder"; show_failure rustup; }
    rm -rf "$folder"
    PATH=$(rust_home):$PATH
    say "           for a shell of your own: export PATH=$(rust_home):\$PATH"
}
