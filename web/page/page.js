// What the window cannot do from wasm: workers, the user's files, chats in IndexedDB, the browser's storage. See web/src/page.rs.

const CHATS = 'fathom-chats';
const ROWS = 'rows';

const asked = request => new Promise((done, failed) => {
    request.onsuccess = () => done(request.result);
    request.onerror = () => failed(request.error);
});

export class Page {
    #rows = [];
    #database = null;
    #unwritten = [];
    #channel = 'BroadcastChannel' in globalThis ? new BroadcastChannel(CHATS) : null;
    #failed = () => {};
    #files = new Map();
    /** Why chats cannot be stored, or undefined. */
    chatsDenied = undefined;
    onDrop = () => {};

    /** `onShown` is called after the window's first frame, `onState` whenever what it shows has changed. */
    constructor({ onShown = () => {}, onState = () => {} } = {}) {
        this.shown = onShown;
        this.state = onState;
    }

    /** Opens the chats' database and reads all of it. */
    async open() {
        try {
            const request = indexedDB.open(CHATS, 1);
            request.onupgradeneeded = () => request.result.createObjectStore(ROWS);
            this.#database = await asked(request);
            const rows = this.#database.transaction(ROWS).objectStore(ROWS);
            const [keys, values] = await Promise.all([asked(rows.getAllKeys()), asked(rows.getAll())]);
            this.#rows = keys.map((key, i) => [key, values[i]]);
        } catch (error) {
            this.chatsDenied = `this browser stores nothing for this page (${error?.message || error?.name || error}), as in a private window: export what you want to keep`;
        }
    }

    chats() {
        return this.#rows.splice(0);
    }

    /** Writes `[{key, row}]` in one transaction, with whatever an earlier one could not. */
    keepChats(json) {
        const edits = [...this.#unwritten.splice(0), ...JSON.parse(json)];
        const failed = error => {
            this.#unwritten.unshift(...edits);
            const what = error?.name == 'QuotaExceededError' ? 'the browser\'s storage is full: delete a model or old chats' : (error?.message ?? error?.name ?? 'it was given up');
            this.#failed(`chats cannot be written now: ${what}`);
        };
        try {
            const transaction = this.#database.transaction(ROWS, 'readwrite', { durability: 'strict' });
            const rows = transaction.objectStore(ROWS);
            for (const { key, row } of edits) {
                if (row == null) rows.delete(key);
                else rows.put(row, key);
            }
            transaction.oncomplete = () => this.#channel?.postMessage(JSON.stringify(edits));
            transaction.onabort = () => failed(transaction.error);
        } catch (error) {
            failed(error);
        }
    }

    watchChats(take, failed) {
        this.#failed = failed;
        if (this.#channel) this.#channel.onmessage = ({ data }) => take(data);
    }

    spawn() {
        return new Worker(new URL('engine-worker.js', import.meta.url), { type: 'module' });
    }

    /** Files under one name; several are those of a model's folder. */
    #name(name, files) {
        this.#files.set(name, files);
        return name;
    }

    /** A name for each file, or one for all that together are a model. */
    #names(files) {
        const isModel = files.some(({ name }) => /\.(gguf|safetensors)$/i.test(name));
        if (!isModel) return files.map(file => [this.#name(file.name, [file]), false]);
        const whole = files.length == 1 ? files[0].name : files.find(({ name }) => name.endsWith('.safetensors'))?.name.replace(/(-\d+-of-\d+)?\.safetensors$/, '') ?? files[0].name;
        return [[this.#name(`picked/${whole}`, files), true]];
    }

    pick(accept, multiple) {
        const input = Object.assign(document.createElement('input'), { type: 'file', accept, multiple, hidden: true });
        document.body.append(input);
        return new Promise(done => {
            const end = files => {
                input.remove();
                done(this.#names(files).map(([name]) => name));
            };
            input.addEventListener('change', () => end([...input.files]));
            input.addEventListener('cancel', () => end([]));
            input.click();
        });
    }

    /** What is dropped anywhere on the page; caught before the canvas hears of it. */
    watchDrops(element) {
        const caught = handler => event => {
            if (![...(event.dataTransfer?.types ?? [])].includes('Files')) return;
            event.preventDefault();
            event.stopPropagation();
            handler(event);
        };
        element.addEventListener('dragover', caught(() => {}), true);
        element.addEventListener('drop', caught(event => {
            for (const [name, isModel] of this.#names([...event.dataTransfer.files])) this.onDrop(name, isModel);
        }), true);
    }

    files(name) {
        return this.#files.get(name);
    }

    async read(name, most) {
        const [file] = this.#files.get(name) ?? [];
        if (!file) throw new Error(`${name}: expected a file chosen just now, found none; choose it again`);
        if (file.size > most) throw new Error(`${name}: expected at most ${most / (1 << 20)} MiB, found more`);
        return new Uint8Array(await file.arrayBuffer());
    }

    save(name, bytes) {
        const address = URL.createObjectURL(new Blob([bytes.slice()]));
        Object.assign(document.createElement('a'), { href: address, download: name }).click();
        setTimeout(() => URL.revokeObjectURL(address), 60_000);
    }

    async persist() {
        return (await navigator.storage?.persist?.()) ?? false;
    }
}
