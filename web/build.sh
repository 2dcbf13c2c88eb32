#!/bin/sh
# Builds the page into web/dist, to be served by any static host below any path. Run by `make web`.
# CARGO and CARGO_FLAGS as for make; WASM_BINDGEN and WASM_OPT name other tools than those found.
set -eu

cd "$(dirname "$0")/.."
dist=web/dist
next=web/dist.next
target=${CARGO_TARGET_DIR:-target}/wasm32-unknown-unknown/web
. .setup/model.sh
name=${model##*/}

say() { printf 'web: %s\n' "$*"; }

say "compiling"
# shellcheck disable=SC2086 # flags are words
${CARGO:-cargo} build --profile web --target wasm32-unknown-unknown -p fathom-web ${CARGO_FLAGS:-}

rm -rf "$next"
mkdir -p "$next/models"
"${WASM_BINDGEN:-.setup/state/bin/wasm-bindgen}" --target web --out-dir "$next" "$target/fathom_web.wasm"
# Old versions of wasm-opt confuse the two tables that wasm-bindgen's glue uses: the page then does not start (108 does, 130 does not).
optimiser=${WASM_OPT:-wasm-opt}
version=$("$optimiser" --version 2>/dev/null | sed -n 's/^wasm-opt version \([0-9]*\).*/\1/p')
if [ "${version:-0}" -ge 116 ]; then
    say "optimising"
    "$optimiser" -Os --enable-bulk-memory --enable-multivalue --enable-mutable-globals --enable-nontrapping-float-to-int \
        --enable-reference-types --enable-sign-ext "$next/fathom_web_bg.wasm" -o "$next/fathom_web_bg.wasm"
else
    say "no wasm-opt of version 116 or later found (WASM_OPT names one): the page is a little larger than it need be"
fi
cp web/page/* "$next/"

# The model is linked where it can be: it is large.
ln "$model" "$next/models/$name" 2>/dev/null || cp "$model" "$next/models/$name"
printf '{"name": "SmolLM2 135M Instruct", "file": "%s", "bytes": %s, "sha256": "%s"}\n' "$name" "$model_bytes" "$model_sha256" >"$next/models/default.json"

# What the service worker keeps; its version is the hash of all of it.
(
    cd "$next"
    files=$(find . -type f ! -path "./models/$name" ! -name precache.json ! -name service-worker.js ! -name '*.d.ts' | sed 's|^\./||' | LC_ALL=C sort)
    for file in $files; do sha256 "$file"; done >precache.hashes
    version=$(sha256 precache.hashes)
    rm precache.hashes
    {
        printf '{"version": "%s", "files": ["./"' "$version"
        for file in $files; do printf ', "%s"' "$file"; done
        printf ']}\n'
    } >precache.json
)
rm -rf "$dist"
mv "$next" "$dist"

bytes() { wc -c <"$1" | tr -d ' '; }
for file in fathom_web_bg.wasm fathom_web.js; do
    line="$file: $(bytes "$dist/$file") bytes"
    line="$line, $(gzip -9 -c "$dist/$file" | wc -c | tr -d ' ') with gzip"
    if have brotli; then line="$line, $(brotli -q 11 -c "$dist/$file" | wc -c | tr -d ' ') with brotli"; fi
    say "$line"
done
say "built into $dist; \`make web-serve\` serves it on this machine"
