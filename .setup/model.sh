# The default model, and how files are hashed: read by .setup/setup.sh and web/build.sh, in the project's folder.
# shellcheck shell=sh disable=SC2034 # used by those who read it

model=assets/smollm2-135m-instruct-q4_1.gguf
model_bytes=98362432
model_sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53

have() { command -v "$1" >/dev/null 2>&1; }

sha256() {
    { if have sha256sum; then sha256sum "$1"; elif have shasum; then shasum -a 256 "$1"; else openssl dgst -sha256 -r "$1"; fi; } | cut -d ' ' -f 1
}
