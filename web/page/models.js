// Model files in the browser: downloaded by ranges with resume, checked by SHA-256, kept in the origin's private file system (OPFS)
// under the hash of their content. Used in the engine's worker; never holds a whole file in memory, unless storage is denied.
//
// fathom-models/index.json   [{path, name, files: [{name, sha256, bytes}]}]: what a job may name, and of what it is made
// fathom-models/<sha256>     content
// fathom-models/part-<key>   a download that is not finished, and part-<key>.json, which of its pieces are there

const PIECE_BYTES = 4 << 20;
const PARALLEL = 4;
const TRIES = 6;
const FOLDER = 'fathom-models';
const INDEX = 'index.json';
/** The path of the model that is served beside the page. */
export const DEFAULT = 'default';

/** What went wrong, in one line, and its kind: `offline`, `http`, `checksum`, `quota`, `changed`, `cancelled`, `not-a-model`. */
export class ModelError extends Error {
    constructor(code, message) {
        super(message);
        this.code = code;
    }
}

const sleep = ms => new Promise(done => setTimeout(done, ms));
export const mib = bytes => `${(bytes / (1 << 20)).toFixed(bytes < 10 << 20 ? 1 : 0)} MiB`;
const fileName = url => {
    const name = new URL(url).pathname.split('/').pop() || url;
    try {
        return decodeURIComponent(name);
    } catch {
        return name;
    }
};

/** Handles that are asked something. One that nothing refers to may be collected, and Chromium then never answers its promise. */
const asked = new Set();

/** What `ask` of a handle gives. */
async function answer(handle, ask) {
    asked.add(handle);
    try {
        return await ask(handle);
    } finally {
        asked.delete(handle);
    }
}

/** A file to read and write at once, made if absent. */
const openFile = async (folder, name) => answer(await folder.getFileHandle(name, { create: true }), file => file.createSyncAccessHandle());

/** A file as it is now. */
const readFile = async (folder, name) => answer(await folder.getFileHandle(name), file => file.getFile());

/** Writes all of the bytes; a full disk may take a part. */
function writeAll(handle, bytes, at) {
    for (let done = 0; done < bytes.length; ) {
        const wrote = handle.write(bytes.subarray(done), { at: at + done });
        if (!wrote) throw new DOMException('nothing more is written', 'QuotaExceededError');
        done += wrote;
    }
}

/** A file that is called a GGUF begins like one: a page of an error, or a pointer to the file, is found before all of it is fetched. */
function checkBeginning(what, name, bytes) {
    const found = new TextDecoder('latin1').decode(bytes.subarray(0, 4));
    if (bytes.length >= 4 && /\.gguf$/i.test(name) && found != 'GGUF') {
        throw new ModelError('not-a-model', `${what}: expected a GGUF file, which begins with "GGUF", found ${JSON.stringify(found)}; check that the address is the file's own and not that of a page about it`);
    }
}

function writeJson(handle, value) {
    const bytes = new TextEncoder().encode(JSON.stringify(value));
    // In this order: what only grows is never without its beginning.
    writeAll(handle, bytes, 0);
    handle.truncate(bytes.length);
    handle.flush();
}

/** An error of the file system in the words of a user. */
function storageError(error, what, bytes) {
    if (error.name == 'AbortError') return new ModelError('cancelled', `${what}: stopped`);
    if (error.name == 'QuotaExceededError') {
        return new ModelError('quota', `${what}: expected room for ${bytes == null ? 'it' : mib(bytes)} in the browser's storage, found it full; delete a model in the settings, or free disk space, and try again: what is here already is kept`);
    }
    return error instanceof ModelError ? error : new ModelError('storage', `${what}: ${error.message}`);
}

export class ModelFiles {
    /** `Sha256` is the wasm's: `update(bytes)`, `hex()`. `base` is where the page lies. */
    constructor(Sha256, base) {
        this.Sha256 = Sha256;
        this.base = base;
        /** Blobs by hash, and the index, where nothing can be stored. */
        this.memory = new Map();
        this.memoryIndex = [];
        this.denied = null;
    }

    /** The folder; none where the browser denies storage, as private windows do. */
    async folder() {
        if (this.denied) return null;
        try {
            const root = await navigator.storage.getDirectory();
            return await root.getDirectoryHandle(FOLDER, { create: true });
        } catch (error) {
            this.denied = `this browser stores nothing for this page (${error.message || error.name}), as in a private window: models stay in memory and are gone with the tab`;
            return null;
        }
    }

    async readJson(folder, name) {
        try {
            return JSON.parse(await (await readFile(folder, name)).text());
        } catch {
            // Absent, or half written by a tab that died: what it described is fetched again.
            return null;
        }
    }

    async writeIndex(folder, index) {
        const handle = await openFile(folder, INDEX);
        try {
            writeJson(handle, index);
        } finally {
            handle.close();
        }
    }

    /** All models that are here whole: `[{path, name, files}]`. */
    async list() {
        const folder = await this.folder();
        if (!folder) return this.memoryIndex;
        return (await this.readJson(folder, INDEX)) ?? [];
    }

    async remember(entry) {
        await navigator.locks.request('fathom-models-index', async () => {
            const others = (await this.list()).filter(({ path }) => path != entry.path);
            const folder = await this.folder();
            if (folder) await this.writeIndex(folder, [...others, entry]);
            else this.memoryIndex = [...others, entry];
        });
    }

    async blob(sha256, bytes) {
        if (this.memory.has(sha256)) return this.memory.get(sha256);
        const folder = await this.folder();
        try {
            const file = await readFile(folder, sha256);
            return file.size == bytes ? file : null;
        } catch {
            return null;
        }
    }

    async stored(path) {
        const entry = (await this.list()).find(entry => entry.path == path);
        if (!entry) return null;
        const files = [];
        for (const { name, sha256, bytes } of entry.files) {
            const blob = await this.blob(sha256, bytes);
            if (!blob) return null;
            files.push({ name, blob });
        }
        return { ...entry, files };
    }

    /** The files of a model, from the store or by download: `{path, name, files: [{name, blob}]}`. */
    async open(path, options = {}) {
        try {
            return await this.found(path, options);
        } catch (error) {
            throw storageError(error, path);
        }
    }

    async found(path, { signal, onProgress = () => {} }) {
        const here = await this.stored(path);
        if (here) return here;
        if (path == DEFAULT) {
            const { name, file, bytes, sha256 } = await this.manifest(signal);
            const url = new URL(`models/${file}`, this.base).href;
            return this.kept({ path, name }, await this.fetchAll([{ url, name: file, bytes, sha256 }], { signal, onProgress }));
        }
        if (!/^https?:/.test(path)) {
            throw new ModelError('not-a-model', `${path}: expected a stored model or an address, found nothing of that name; add the file again`);
        }
        const url = new URL(path);
        const sha256 = /^#sha256=([0-9a-f]{64})$/i.exec(url.hash)?.[1].toLowerCase();
        if (/^#sha256/i.test(url.hash) && !sha256) {
            throw new ModelError('checksum', `${path}: expected 64 hexadecimal digits after #sha256=, found ${JSON.stringify(url.hash.slice(8, 80))}`);
        }
        url.hash = '';
        const wanted = url.pathname.endsWith('/') ? await this.directory(url.href, signal) : [{ url: url.href, name: fileName(url.href), sha256 }];
        return this.kept({ path, name: fileName(url.href.replace(/\/$/, '')) }, await this.fetchAll(wanted, { signal, onProgress }));
    }

    /** What the page says of the default model. */
    async manifest(signal) {
        const response = await this.get(new URL('models/default.json', this.base).href, { signal });
        return response.json();
    }

    async kept({ path, name }, files) {
        await this.remember({ path, name, files: files.map(({ name, sha256, blob }) => ({ name, sha256, bytes: blob.size })) });
        return { path, name, files };
    }

    /** The files of a directory in the Hugging Face layout. */
    async directory(base, signal) {
        const optional = async name => {
            const response = await this.get(base + name, { signal, may404: true });
            return response && response.json();
        };
        if (!(await optional('config.json'))) throw new ModelError('not-a-model', `${base}: expected a config.json in it, found none`);
        const index = await optional('model.safetensors.index.json');
        const shards = index ? [...new Set(Object.values(index.weight_map ?? {}))] : ['model.safetensors'];
        const strange = shards.find(name => typeof name != 'string' || !/^[\w.-]+$/.test(name));
        if (strange) throw new ModelError('not-a-model', `${base}model.safetensors.index.json: expected names of files beside it, found ${JSON.stringify(strange)}`);
        const side = ['generation_config.json', 'tokenizer.json', 'tokenizer_config.json', 'special_tokens_map.json', 'chat_template.jinja'];
        return [
            { url: `${base}config.json`, name: 'config.json' },
            ...(index ? [{ url: `${base}model.safetensors.index.json`, name: 'model.safetensors.index.json' }] : []),
            ...side.map(name => ({ url: base + name, name, optional: true })),
            ...shards.map(name => ({ url: base + name, name })),
        ];
    }

    /** Keeps files of the user's: one file, or those of one directory. */
    async add(path, files, { signal, onProgress = () => {} } = {}) {
        const total = files.reduce((sum, file) => sum + file.size, 0);
        await this.checkRoom(path, total);
        let done = 0;
        const kept = [];
        for (const file of files) {
            const folder = await this.folder();
            const hash = new this.Sha256();
            const part = `part-${crypto.randomUUID()}`;
            const handle = folder && (await openFile(folder, part));
            try {
                for (let at = 0; at < file.size; at += PIECE_BYTES) {
                    if (signal?.aborted) throw new ModelError('cancelled', `${path}: stopped`);
                    const bytes = new Uint8Array(await file.slice(at, at + PIECE_BYTES).arrayBuffer());
                    if (at == 0) checkBeginning(path, file.name, bytes);
                    hash.update(bytes);
                    if (handle) writeAll(handle, bytes, at);
                    onProgress((done += bytes.length), total);
                }
                handle?.flush();
                handle?.close();
            } catch (error) {
                handle?.close();
                if (folder) await folder.removeEntry(part).catch(() => {});
                throw storageError(error, path, total);
            }
            const sha256 = hash.hex();
            if (folder) await this.rename(folder, part, sha256);
            else this.memory.set(sha256, file);
            kept.push({ name: file.name, sha256, blob: await this.blob(sha256, file.size) });
        }
        return this.kept({ path, name: path.split('/').pop() }, kept);
    }

    async rename(folder, from, to) {
        const handle = await folder.getFileHandle(from);
        if (handle.move) return answer(handle, handle => handle.move(to));
        // Older browsers cannot rename.
        const writable = await answer(await folder.getFileHandle(to, { create: true }), file => file.createWritable());
        await (await readFile(folder, from)).stream().pipeTo(writable);
        await folder.removeEntry(from);
    }

    /** Forgets a model, and deletes the content that no other one is made of. */
    async remove(path) {
        await navigator.locks.request('fathom-models-index', async () => {
            const all = await this.list();
            const rest = all.filter(entry => entry.path != path);
            const needed = new Set(rest.flatMap(entry => entry.files.map(file => file.sha256)));
            const gone = all.filter(entry => entry.path == path).flatMap(entry => entry.files.map(file => file.sha256));
            const folder = await this.folder();
            if (folder) await this.writeIndex(folder, rest);
            else this.memoryIndex = rest;
            for (const sha256 of gone.filter(sha256 => !needed.has(sha256))) {
                this.memory.delete(sha256);
                if (folder) await folder.removeEntry(sha256).catch(() => {});
            }
        });
    }

    /** What is taken and what the browser allows, in bytes. */
    async space() {
        await this.folder();
        const { usage = 0, quota = 0 } = (await navigator.storage?.estimate?.().catch(() => null)) ?? {};
        const persisted = (await navigator.storage?.persisted?.().catch(() => false)) ?? false;
        return { usage_bytes: usage, quota_bytes: quota, persisted, denied: this.denied };
    }

    async checkRoom(what, bytes) {
        const { usage_bytes, quota_bytes, denied } = await this.space();
        if (!denied && quota_bytes && usage_bytes + bytes > quota_bytes) {
            throw new ModelError('quota', `${what}: expected ${mib(bytes)} of free storage, found ${mib(Math.max(0, quota_bytes - usage_bytes))} of ${mib(quota_bytes)} that the browser allows; delete a model in the settings or free disk space`);
        }
    }

    /** A response that is fine; network errors and busy servers are tried again. */
    async get(url, { signal, headers = {}, may404 = false, read = async response => response } = {}) {
        for (let tries = 1; ; tries++) {
            let reason;
            let code = 'http';
            try {
                const response = await fetch(url, { signal, headers, cache: 'no-store' });
                if (response.ok) return await read(response);
                if (response.status == 404 && may404) return null;
                reason = `the server answers ${response.status} ${response.statusText}`.trim();
                if (response.status < 500 && response.status != 429 && response.status != 408) tries = TRIES;
            } catch (error) {
                if (signal?.aborted) throw new ModelError('cancelled', `${url}: stopped`);
                if (error instanceof ModelError || error.name == 'QuotaExceededError') throw error;
                code = 'offline';
                reason = `no connection (${error.message})`;
            }
            if (tries >= TRIES) throw new ModelError(code, `${url}: ${reason}; check the address and the connection, and try again: what is here already is kept`);
            await sleep(150 * 2 ** tries);
        }
    }

    /** Several files, one after another, with one account of progress. */
    async fetchAll(wanted, { signal, onProgress }) {
        const sizes = wanted.map(({ bytes }) => bytes ?? null);
        const done = wanted.map(() => 0);
        const tell = () => onProgress(done.reduce((a, b) => a + b, 0), sizes.every(size => size != null) ? sizes.reduce((a, b) => a + b, 0) : null);
        const files = [];
        for (const [i, file] of wanted.entries()) {
            const fetched = await this.fetchFile(file, {
                signal,
                onProgress: (bytes, total) => {
                    done[i] = bytes;
                    sizes[i] = total ?? sizes[i];
                    tell();
                },
            });
            if (fetched) files.push({ name: file.name, ...fetched });
            else sizes[i] = 0;
        }
        return files;
    }

    /** One file, whole and checked: `{sha256, blob}`; null if it is optional and absent. */
    async fetchFile({ url, sha256, bytes, optional }, progress) {
        const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', new TextEncoder().encode(url)));
        const key = [...digest.slice(0, 12)].map(byte => byte.toString(16).padStart(2, '0')).join('');
        // Two tabs that want the same file: the second waits and finds it.
        return navigator.locks.request(`fathom-download-${key}`, { signal: progress.signal }, async () => {
            const here = sha256 && (await this.blob(sha256, bytes ?? -1));
            if (here) return { sha256, blob: here };
            for (let again = 0; ; again++) {
                const download = new Download(this, { url, sha256, key, optional }, progress);
                try {
                    return await download.run();
                } catch (error) {
                    // The file was another one in the middle: from the beginning, once.
                    if (error.code != 'changed' || again) throw storageError(error, url, download.journal.total);
                }
            }
        });
    }
}

/** One file on its way. */
class Download {
    constructor(files, { url, sha256, key, optional }, { signal, onProgress }) {
        Object.assign(this, { files, url, expected: sha256, optional, signal, onProgress });
        this.part = `part-${key}`;
        this.journal = { etag: null, total: null, done: [] };
    }

    async run() {
        this.folder = await this.files.folder();
        this.pieces = [];
        try {
            if (this.folder) {
                this.journal = (await this.files.readJson(this.folder, `${this.part}.json`)) ?? this.journal;
                this.handle = await openFile(this.folder, this.part);
                this.notes = await openFile(this.folder, `${this.part}.json`);
                // A journal without its file is of no use.
                if (this.journal.total != null && this.handle.getSize() == 0) this.journal = { etag: null, total: null, done: [] };
            }
            if (!(await this.fetch())) return null;
            return await this.finish();
        } finally {
            this.close();
            // An optional file that is absent leaves nothing behind.
            if (this.folder && this.journal.total == null) await this.forget();
        }
    }

    /** Of what is not a model nothing is kept. */
    check(bytes) {
        try {
            checkBeginning(this.url, fileName(this.url), bytes);
        } catch (error) {
            this.journal = { etag: null, total: null, done: [] };
            throw error;
        }
    }

    close() {
        this.handle?.close();
        this.notes?.close();
        this.handle = this.notes = null;
    }

    async forget() {
        this.close();
        for (const name of [this.part, `${this.part}.json`]) await this.folder.removeEntry(name).catch(() => {});
    }

    write(at, bytes) {
        if (at == 0) this.check(bytes);
        if (this.handle) writeAll(this.handle, bytes, at);
        else this.pieces.push([at, bytes]);
    }

    /** Everything that is missing; false if the file is optional and absent. */
    async fetch() {
        if (this.journal.total != null && !this.missing().length) return true;
        const first = await this.piece(this.missing()[0] ?? 0, true);
        if (!first) return false;
        const queue = this.missing();
        const work = async () => {
            for (let piece; (piece = queue.shift()) !== undefined; ) await this.piece(piece);
        };
        const workers = Array.from({ length: PARALLEL }, work);
        const results = await Promise.allSettled(workers);
        const failed = results.find(result => result.status == 'rejected');
        if (failed) throw failed.reason;
        return true;
    }

    missing() {
        const count = this.journal.total == null ? 1 : Math.ceil(this.journal.total / PIECE_BYTES);
        const done = new Set(this.journal.done);
        return Array.from({ length: count }, (_, piece) => piece).filter(piece => !done.has(piece));
    }

    /** Fetches and writes one piece. */
    async piece(piece, isFirst = false) {
        const begin = piece * PIECE_BYTES;
        const end = Math.min(begin + PIECE_BYTES, this.journal.total ?? Infinity);
        if (begin >= end && this.journal.total != null) return true;
        const range = `bytes=${begin}-${end == Infinity ? begin + PIECE_BYTES - 1 : end - 1}`;
        const read = async response => {
            const etag = response.headers.get('etag');
            const [, from, total] = /^bytes (\d+)-\d+\/(\d+)$/.exec(response.headers.get('content-range') ?? '') ?? [];
            const isPart = response.status == 206 && Number(from) == begin;
            const size = isPart ? Number(total) : null;
            await this.settle(isPart ? size : Number(response.headers.get('content-length')) || null, etag, response.headers.get('x-linked-etag'));
            if (!isPart) return this.stream(response);
            const bytes = new Uint8Array(await response.arrayBuffer());
            if (bytes.length != Math.min(PIECE_BYTES, size - begin)) throw new TypeError('the connection was cut');
            this.write(begin, bytes);
            this.mark(piece);
            return true;
        };
        return this.files.get(this.url, { signal: this.signal, headers: { Range: range }, may404: isFirst && this.optional, read });
    }

    /** Size and version of the file as the server tells them now: the first time they are noted, then they must stay. */
    async settle(total, etag, linked) {
        const { journal } = this;
        const sha256 = /^"?([0-9a-f]{64})"?$/.exec(linked ?? '')?.[1];
        this.expected ??= sha256;
        const changed = journal.total != null && ((total != null && total != journal.total) || (etag && journal.etag && etag != journal.etag));
        if (changed) {
            this.journal = { etag: null, total: null, done: [] };
            throw new ModelError('changed', `${this.url}: the file changed on the server while it was downloaded`);
        }
        if (journal.total == null && total != null) {
            await this.files.checkRoom(this.url, total);
            Object.assign(journal, { total, etag });
        }
    }

    /** A server that knows no ranges sends all of it, from the beginning. */
    async stream(response) {
        this.journal.done = [];
        this.pieces = [];
        let at = 0;
        for (const reader = response.body.getReader(); ; ) {
            const { done, value } = await reader.read();
            if (done) break;
            this.write(at, value);
            at += value.length;
            this.onProgress(at, this.journal.total);
        }
        if (this.journal.total != null && at < this.journal.total) throw new TypeError('the connection was cut');
        this.journal.total = at;
        this.journal.done = Array.from({ length: Math.ceil(at / PIECE_BYTES) }, (_, piece) => piece);
        return true;
    }

    mark(piece) {
        this.journal.done.push(piece);
        if (this.folder) {
            this.handle.flush();
            writeJson(this.notes, this.journal);
        }
        // What is told is safe.
        const { total, done } = this.journal;
        this.onProgress(Math.min(total, done.length * PIECE_BYTES), total);
    }

    /** Checks the whole and gives it its name. */
    async finish() {
        const hash = new this.files.Sha256();
        let blob = null;
        if (this.handle) {
            this.handle.truncate(this.journal.total);
            const bytes = new Uint8Array(PIECE_BYTES);
            for (let at = 0; at < this.journal.total; at += PIECE_BYTES) {
                const size = this.handle.read(bytes, { at });
                hash.update(bytes.subarray(0, size));
            }
            this.handle.flush();
            this.close();
        } else {
            this.pieces.sort(([a], [b]) => a - b);
            this.pieces.forEach(([, bytes]) => hash.update(bytes));
            blob = new Blob(this.pieces.map(([, bytes]) => bytes));
            this.pieces = [];
        }
        const sha256 = hash.hex();
        if (this.expected && sha256 != this.expected) {
            if (this.folder) await this.forget();
            throw new ModelError('checksum', `${this.url}: expected sha256 ${this.expected}, found ${sha256}: the bytes were damaged on the way, or it is another file; nothing of it was kept, try again`);
        }
        if (blob) {
            this.files.memory.set(sha256, blob);
            return { sha256, blob };
        }
        await this.files.rename(this.folder, this.part, sha256);
        await this.folder.removeEntry(`${this.part}.json`).catch(() => {});
        return { sha256, blob: await this.files.blob(sha256, this.journal.total) };
    }
}
