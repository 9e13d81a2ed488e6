# shellcheck shell=bash disable=SC2034,SC2153
# Podman in place of Docker, with a store of its own: images, containers, volumes and networks of `make compose-test` are
# under $COMPOSE, and removing that folder removes all of them.

readonly COMPOSE=$STATE/compose
readonly BASE_IMAGE=docker.io/library/debian:bookworm-slim DEBIAN_RELEASE=bookworm
readonly PROJECT=secretaria-test PODMAN_COMPOSE=$TOOLS/compose/bin/podman-compose

install_compose_needs() {
    command -v podman >/dev/null || echo podman
    command -v runc >/dev/null || echo runc
    # Names and networks between containers.
    [[ -x /usr/lib/podman/netavark ]] || command -v netavark >/dev/null || echo netavark
    [[ -x /usr/lib/podman/aardvark-dns ]] || command -v aardvark-dns >/dev/null || echo aardvark-dns
    command -v iptables >/dev/null || echo iptables
    command -v debootstrap >/dev/null || echo debootstrap
    command -v curl >/dev/null || echo curl
    command -v openssl >/dev/null || echo openssl
    python3 -c 'import ensurepip' 2>/dev/null || echo python3-venv
}

# In an environment of its own, so that `make check` does not need it.
install_podman_compose() {
    local stamp=$TOOLS/compose/stamp
    [[ $(cat "$stamp" 2>/dev/null) == "$PODMAN_COMPOSE_VERSION" ]] && return
    say "install    podman-compose $PODMAN_COMPOSE_VERSION"
    rm -rf "$TOOLS/compose"
    {
        python3 -m venv "$TOOLS/compose" &&
            "$TOOLS/compose/bin/pip" install -q --disable-pip-version-check "podman-compose==$PODMAN_COMPOSE_VERSION"
    } </dev/null >"$LOGS/podman-compose.log" 2>&1 || show_failure podman-compose
    echo "$PODMAN_COMPOSE_VERSION" >"$stamp"
}

# What Podman reads instead of the machine's settings. Works without systemd and with cgroups of either version. The limits
# are low because a container may not have more than the account that starts it.
podman_settings() {
    mkdir -p "$COMPOSE/tmp"
    cat >"$COMPOSE/containers.conf" <<CONF
[containers]
default_ulimits = ["nofile=16384:16384", "nproc=4096:4096"]
[network]
network_backend = "netavark"
network_config_dir = "$COMPOSE/networks"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
tmp_dir = "$COMPOSE/run/libpod"
CONF
    cat >"$COMPOSE/storage.conf" <<CONF
[storage]
driver = "$(storage_driver)"
graphroot = "$COMPOSE/store"
runroot = "$COMPOSE/run"
CONF
    export CONTAINERS_CONF=$COMPOSE/containers.conf CONTAINERS_STORAGE_CONF=$COMPOSE/storage.conf
    # A build's steps run in a chroot: that needs no more rights than debootstrap does. Caches go to the folder for temporary files.
    export BUILDAH_ISOLATION=chroot TMPDIR=$COMPOSE/tmp
    # There may be no systemd to run health checks by its timers: this script runs them itself.
    export DISABLE_HC_SYSTEMD=true
}

# Overlays where the kernel has them; else a copy for each layer, which costs time and disk. A store stays what it is.
storage_driver() {
    local probe=$COMPOSE/probe driver=vfs
    [[ -d $COMPOSE/store/vfs-images ]] && { echo vfs; return; }
    mkdir -p "$probe"/{lower,upper,work,merged}
    if mount -t overlay overlay -o "lowerdir=$probe/lower,upperdir=$probe/upper,workdir=$probe/work" "$probe/merged" 2>/dev/null; then
        umount "$probe/merged"
        driver=overlay
    fi
    rm -rf "$probe"
    echo "$driver"
}

# The one image that the Dockerfile builds on. Where it cannot be pulled, it is made from Debian's packages.
base_image() {
    podman image exists "$BASE_IMAGE" && return
    if timeout 120 podman pull -q "$BASE_IMAGE" >"$LOGS/base-image.log" 2>&1; then
        say "base       $BASE_IMAGE, pulled"
        return
    fi
    say "base       $BASE_IMAGE cannot be pulled: making it with debootstrap"
    bootstrap "$COMPOSE/base" >>"$LOGS/base-image.log" 2>&1 || show_failure base-image
    tar -C "$COMPOSE/base" -c . | podman import - "$BASE_IMAGE" >>"$LOGS/base-image.log" 2>&1 || show_failure base-image
    rm -rf "$COMPOSE/base"
}

# What the rest depends on, said before anything is built: runc, cgroups and a network of Podman's.
container_runs() {
    podman run --rm "$BASE_IMAGE" true >"$LOGS/container.log" 2>&1 || die "Podman cannot start a container on this machine:
$(tail -n 5 "$LOGS/container.log")"
}

# Debian's smallest system, with the sources of packages, and without the documentation and languages, of the image of that
# name. Certificates that this machine trusts besides the usual ones go along: it may be behind a proxy that needs them.
bootstrap() {
    local root=$1
    rm -rf "$root"
    debootstrap --variant=minbase "$DEBIAN_RELEASE" "$root" || return
    sed -i -E "s#^deb (\S+) $DEBIAN_RELEASE main#&\ndeb \1 $DEBIAN_RELEASE-updates main\ndeb \1-security $DEBIAN_RELEASE-security main#" \
        "$root/etc/apt/sources.list" || return
    printf 'path-exclude /usr/share/%s/*\n' doc info locale man >"$root/etc/dpkg/dpkg.cfg.d/slim" || return
    rm -rf "$root"/usr/share/{doc,info,locale,man}/* "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/archives/*.deb
    if compgen -G '/usr/local/share/ca-certificates/*.crt' >/dev/null; then
        mkdir -p "$root/usr/local/share/ca-certificates"
        cp -L /usr/local/share/ca-certificates/*.crt "$root/usr/local/share/ca-certificates/"
    fi
}

compose() { "$PODMAN_COMPOSE" --env-file "$COMPOSE/env" --profile sandbox --profile three-brokers -p "$PROJECT" -f "$ROOT/docker-compose.yml" "$@"; }
container() { echo "${PROJECT}_$1_1"; }
inside() {
    local service=$1
    shift
    podman exec "$(container "$service")" "$@"
}
healthy() { podman healthcheck run "$(container "$1")" >/dev/null 2>&1; }
