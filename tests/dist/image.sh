# Sourced by check.sh: the image, without an engine.

# json TEXT EXPRESSION: what a Python expression over `own` makes of it, one word a line.
json() { python3 -c 'import json, sys; own = json.loads(sys.argv[1]); print(*eval(sys.argv[2]), sep="\n")' "$1" "$2"; }

# start_image [OPTION OF CHROOT...]: the entry point in the unpacked image with the image's variables; its process is $server.
start_image() {
    env -i "${variables[@]}" "$chroot" "$@" "$rootfs" "${entry[@]}" 2>/run/server.log &
    server=$!
    until_ready
}

stop_image() {
    kill -TERM "$server"
    wait "$server" || fail "the server ended with code $?: $(cat /run/server.log)"
}

check_image() {
    local layout config variables entry check chroot server
    layout=$(ls -d trilith-*.oci)
    rootfs=/run/rootfs chroot=$(command -v chroot)
    mkdir "$rootfs"

    step "the layout $layout"
    config=$(python3 /run/check/oci_check.py "$layout" "$layout.tar" "$rootfs")
    mapfile -t variables < <(json "$config" 'own["Env"]')
    mapfile -t entry < <(json "$config" 'own["Entrypoint"]')
    mapfile -t check < <(json "$config" 'own["Healthcheck"]["Test"][1:]')
    [ "$(json "$config" 'sorted(own["ExposedPorts"])' | paste -sd ' ')" = "3100/tcp 3200/tcp 4317/tcp 4318/tcp 9090/tcp" ]
    [ "$(json "$config" 'own["Volumes"]')" = /data ]
    [ "$(stat -c '%u:%g' $rootfs/data) $(stat -c '%u:%g %a' $rootfs/trilith)" = "10001:10001 0:0 755" ]
    if command -v skopeo >/dev/null; then skopeo inspect "oci:$layout:latest" >/dev/null; fi
    if command -v umoci >/dev/null; then umoci stat --image "$layout:latest" >/dev/null; fi

    step "its entry point, as root with an empty bind mount that is root's"
    mkdir /run/bound "$rootfs/proc" "$rootfs/dev"
    mount --bind /run/bound "$rootfs/data"
    mount -t proc proc "$rootfs/proc"
    mount --rbind /dev "$rootfs/dev"
    start_image
    [ "$(status_of "$server" Uid | cut -f1) $(status_of "$server" Gid | cut -f1)" = "10001 10001" ] ||
        fail "it runs as $(status_of "$server" Uid)"
    env -i "${variables[@]}" "$chroot" "$rootfs" "${check[@]}" || fail "the health check says no"
    write_data
    read_data
    stop_image
    ! env -i "${variables[@]}" "$chroot" "$rootfs" "${check[@]}" 2>/dev/null || fail "the health check says yes of a server that is gone"

    step "again, on the data of before and as the user of --user"
    start_image --userspec=10001:10001
    read_data
    stop_image
}
