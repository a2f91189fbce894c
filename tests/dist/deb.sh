# Sourced by check.sh, where systemd runs: the life of the Debian package.

unit=/usr/lib/systemd/system/trilith.service
state=/var/lib/trilith
# Of 100, as systemd-analyze counts; it is 12, with 1 more where glibc is linked statically.
EXPOSURE_MAX=15

package_of() { ls trilith_*-"$1"_*.deb; }
property() { systemctl show --property "$1" --value trilith; }

# The service runs, shut in: as its user, without capabilities, and nothing failed on the way.
check_running() {
    [ "$(property ActiveState) $(property NRestarts)" = "active 0" ] || fail "$(systemctl --no-pager status trilith)"
    local pid
    pid=$(property MainPID)
    [ "$(status_of "$pid" Uid | cut -f1)" = "$(id -u trilith)" ] || fail "it runs as $(status_of "$pid" Uid)"
    [ "$(status_of "$pid" CapEff) $(status_of "$pid" CapBnd)" = "0000000000000000 0000000000000000" ]
    [ "$(status_of "$pid" NoNewPrivs) $(status_of "$pid" Seccomp)" = "1 2" ]
    # The allocator says so when it cannot start its thread.
    local said
    said=$(journalctl --no-pager --output cat --unit trilith)
    case "$said" in *jemalloc* | *WARN* | *ERROR*) fail "the journal has: $said" ;; esac
}

check_package() {
    local first second said before
    first=$(package_of 1) second=$(package_of 2)

    step "what is in $first"
    [ "$(dpkg-deb --field "$first" Package) $(dpkg-deb --field "$first" Architecture)" = "trilith $(dpkg --print-architecture)" ]
    said=$(dpkg-deb --contents "$first" | awk '{ print $1, $2, $6 }')
    for entry in "-rwxr-xr-x root/root ./usr/bin/trilith" "-rw-r--r-- root/root .$unit" \
        "-rw-r--r-- root/root ./etc/trilith/trilith.yaml" "-rw-r--r-- root/root ./usr/share/doc/trilith/copyright"; do
        expect "$said" "$entry"
    done
    [ "$(dpkg-deb --info "$first" conffiles)" = /etc/trilith/trilith.yaml ] || fail "the configuration is no conffile"
    if command -v lintian >/dev/null; then lintian --fail-on error "$first"; fi

    step "install: it is there, enabled, and runs"
    ! getent passwd trilith >/dev/null || fail "there is a user trilith on this machine already"
    dpkg --install "$first"
    expect "$(getent passwd trilith)" ":$state:/usr/sbin/nologin"
    [ "$(id -u trilith)" -lt 1000 ] || fail "trilith is no system user"
    [ -z "$(dpkg --verify trilith)" ] || fail "installed files differ: $(dpkg --verify trilith)"
    [ "$(systemctl is-enabled trilith)" = enabled ]
    until_ready
    check_running
    write_data
    read_data
    said=$(find $state ! -user trilith -o -perm /go+rwx)
    [ -z "$said" ] || fail "data that others can touch: $said"
    expect "$(trilith check-config --config /etc/trilith/trilith.yaml)" "$state"

    step "the unit"
    said=$(systemd-analyze verify --man=no "$unit" 2>&1) || fail "systemd-analyze verify: $said"
    [ -z "$said" ] || fail "systemd-analyze verify: $said"
    said=$(systemd-analyze security --no-pager --threshold=$EXPOSURE_MAX trilith.service 2>&1) || fail "$said"
    printf '%s\n' "$said" | tail -n 1

    step "upgrade, with the server running and a setting of one's own"
    sed -i 's/^#retention-logs: 14d/retention-logs: 21d/' /etc/trilith/trilith.yaml
    before=$(property MainPID)
    dpkg --install "$second"
    [ "$(dpkg-query --show --showformat '${Version}' trilith)" = "$(dpkg-deb --field "$second" Version)" ]
    grep -q '^retention-logs: 21d' /etc/trilith/trilith.yaml || fail "the upgrade took the administrator's setting"
    [ "$(property MainPID)" != "$before" ] || fail "the old server runs on"
    read_data
    expect "$(curl -fsS http://127.0.0.1:9090/-/status)" '"21d"'
    check_running

    step "killed, it is started again; with a wrong setting it is not"
    kill -KILL "$(property MainPID)"
    until [ "$(property NRestarts) $(property ActiveState)" = "1 active" ]; do sleep 0.2; done
    read_data
    echo 'retention-log: 1d' >>/etc/trilith/trilith.yaml
    systemctl restart trilith || true
    until [ "$(property ActiveState)" = failed ]; do sleep 0.2; done
    [ "$(property NRestarts)" = 0 ] || fail "it was started $(property NRestarts) times with a wrong setting"
    expect "$(journalctl --no-pager --output cat --unit trilith -n 20)" 'retention-logs'
    sed -i '/^retention-log:/d' /etc/trilith/trilith.yaml

    step "remove: data, user and configuration stay"
    systemctl restart trilith
    until_ready
    said=$(dpkg --remove trilith)
    expect "$said" "the data in $state stays"
    ! curl -fs -o /dev/null http://127.0.0.1:9090/-/healthy || fail "it runs on after its removal"
    [ ! -e /usr/bin/trilith ] && [ -e $state/FORMAT ] && [ -e /etc/trilith/trilith.yaml ] && getent passwd trilith >/dev/null

    step "install again: the data is there"
    dpkg --install "$second"
    read_data

    step "purge: nothing stays"
    said=$(dpkg --purge trilith)
    expect "$said" "deleting the data in $state"
    ! getent passwd trilith >/dev/null && ! getent group trilith >/dev/null || fail "the user stays"
    said=$(find /etc /usr /var/lib -xdev -maxdepth 4 -name '*trilith*' -newer /run/dist/SHA256SUMS)
    [ -z "$said" ] || fail "the purge leaves $said"
    ! dpkg-query --show trilith 2>/dev/null || fail "dpkg still knows it"
}
