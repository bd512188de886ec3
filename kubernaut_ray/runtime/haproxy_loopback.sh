#!/bin/sh
# Stands in for the haproxy binary (RAY_SERVE_HAPROXY_BINARY_PATH). Ray's template binds its statistics and metrics pages
# on all interfaces; a laptop's run keeps them on loopback. Everything else is passed through.
config=
previous=
for argument in "$@"; do
    [ "$previous" = "-f" ] && config=$argument
    previous=$argument
done
if [ -n "$config" ]; then
    sed -i -e 's/^\( *bind \)\*\{0,1\}:\([0-9][0-9]*\)$/\1127.0.0.1:\2/' "$config"
fi
# It ends with the actor that started it; an orphan would keep the port.
if command -v setpriv >/dev/null 2>&1; then
    exec setpriv --pdeathsig KILL "$KUBERNAUT_HAPROXY" "$@"
fi
exec "$KUBERNAUT_HAPROXY" "$@"
