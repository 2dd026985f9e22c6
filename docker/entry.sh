#!/bin/sh
# Run a command under an init, with a home and caches of its own in the temporary directory.
# Under Apptainer /tmp is the machine's and shared with others: hence one folder a user, which nobody else can write to.
home="${TMPDIR:-/tmp}/bids-sr-$(id -u)"
(umask 077 && mkdir -p "$home") 2>/dev/null
if [ -h "$home" ] || [ ! -O "$home" ] || [ ! -w "$home" ]; then
    home=$(mktemp -d "${TMPDIR:-/tmp}/bids-sr.XXXXXX") || {
        echo "bids-sr: nothing can be written in ${TMPDIR:-/tmp}. With a read-only root give --tmpfs /tmp." >&2
        exit 2
    }
fi
export HOME="$home" XDG_CACHE_HOME="$home/cache" MPLCONFIGDIR="$home/matplotlib"
# nothing but tini stands between the program and a signal; -s: also where tini is not process 1, as under Apptainer
exec tini -s -- "$@"
