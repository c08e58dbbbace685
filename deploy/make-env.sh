#!/bin/sh
# Writes .env for docker-compose.yml with fresh random passwords, readable by its owner only, and prints the
# intake's first token: only its SHA-256 is kept.
#
#     sh deploy/make-env.sh [FILE]
set -eu

file=${1:-.env}

random() {
    od -An -N24 -tx1 /dev/urandom | tr -d ' \n'
}

sha256() {
    if command -v sha256sum > /dev/null; then sha256sum; else shasum -a 256; fi | cut -c1-64
}

token=$(random)
# `noclobber` makes the shell refuse to overwrite a file: a lost password locks the database up.
set -C
umask 077
{
    echo "POSTGRES_PASSWORD=$(random)"
    echo "GRAFANA_ADMIN_PASSWORD=$(random)"
    echo "OVOZ_INGEST_TOKENS=first:$(printf %s "$token" | sha256)"
    echo "OVOZ_ALERTS_APPRISE="
    echo "OVOZ_WORKER_QUOTES_TOKEN_SHA256="
} > "$file"

echo "Wrote $file. The intake's token, shown this once:"
echo "$token"
