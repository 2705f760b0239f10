#!/bin/sh
# Numba uses a cache only where it can write: on a read-only file system, or as another user, a copy of the one that
# the image was built with.
if ! [ -w "$NUMBA_CACHE_DIR" ] && copy=$(mktemp -d 2>/dev/null); then
    cp -r "$NUMBA_CACHE_DIR/." "$copy" && chmod -R u+w "$copy" && export NUMBA_CACHE_DIR="$copy"
fi
exec crispmask "$@"
