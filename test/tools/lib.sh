# shellcheck shell=bash
# Sourced by the scripts under test/: where things are, and as whom they run.

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

# Everything that a run leaves behind lies here, one place per user and checkout, out of the
# repository because user postgres may be unable to enter that.
run_dir=${ORDER_MGMT_RUN_DIR:-${TMPDIR:-/tmp}/order_mgmt-$(id -un)-$(cksum <<<"$top" | cut -d' ' -f1)}

pg_config=${PG_CONFIG:-pg_config}
bindir() { "$pg_config" --bindir; }

# initdb refuses root, so root's servers and the tests that start some belong to postgres.
if [ "$(id -u)" = 0 ]; then
    server_user=postgres
    as_server() { (cd / && exec runuser -u postgres -- "$@"); }
    as_root() { "$@"; }
else
    server_user=$(id -un)
    as_server() { (cd / && exec "$@"); }
    as_root() { sudo "$@"; }
fi

say() { printf '\n== %s\n' "$*"; }
die() { printf '%s\n' "$*" >&2; exit 1; }

# A directory under run_dir that the server's user owns.
make_server_dir() {
    mkdir -p "$run_dir"
    [ -O "$run_dir" ] || die "$run_dir belongs to somebody else"
    chmod 755 "$run_dir"
    mkdir -p "$1"
    chmod 700 "$1"
    chown "$server_user" "$1"
}

# The working copy, built and put where PostgreSQL finds it.
build_and_install() {
    mkdir -p "$run_dir"
    if ! { make -C "$top" all && as_root make -C "$top" PG_CONFIG="$pg_config" install; } >"$run_dir/build.log" 2>&1; then
        cat "$run_dir/build.log" >&2
        die 'the build failed'
    fi
}
