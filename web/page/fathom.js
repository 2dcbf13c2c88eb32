// Fathom's engine in a page, without its window. See fathom.d.ts for the types and example.html for all of it in use.
//
//     import { Fathom } from './fathom.js';
//     const fathom = await Fathom.load({ onProgress: ({ phase, done, total }) => … });
//     for await (const piece of fathom.chat([{ role: 'user', content: 'Hello!' }])) console.log(piece.text);

/** An engine with a model. */
export class Fathom {
    #worker = new Worker(new URL('engine-worker.js', import.meta.url), { type: 'module' });
    #tickets = 0;
    #listeners = new Map();
    #running = new Set();
    /** What the engine says of the model: name, context, device, ... */
    model = null;

    constructor() {
        this.#worker.onmessage = ({ data }) => {
            if (data.fatal) return this.#fail(data.fatal);
            const [[kind, body]] = Object.entries(JSON.parse(data.report));
            this.#listeners.get(body?.ticket)?.(kind, body);
            if (kind == 'Rebuilt') this.model = body.model;
            if (kind == 'Broken' || kind == 'RebuildFailed') this.#listeners.get(body.ticket)?.('Answer', { event: { Failed: body.reason } });
        };
        this.#worker.onerror = event => this.#fail(event.message || 'the worker ended');
    }

    #fail(reason) {
        for (const listener of this.#listeners.values()) listener('Fatal', { reason });
    }

    #ask(make, listener) {
        const ticket = ++this.#tickets;
        this.#listeners.set(ticket, listener);
        this.#worker.postMessage({ job: JSON.stringify(make(ticket)) });
        return ticket;
    }

    #cancel(ticket) {
        this.#worker.postMessage({ cancel: ticket });
    }

    static async load(options) {
        const fathom = new Fathom();
        return fathom.open(options).then(() => fathom, error => {
            fathom.unload();
            throw error;
        });
    }

    /** Opens another model, on the same device: kernels that both need are compiled already. */
    async open({ model = null, context = null, disable = [], onProgress = () => {}, signal } = {}) {
        const options = { model, context, gpu: { disabled: disable } };
        let ticket;
        const cancel = () => this.#cancel(ticket);
        try {
            this.model = await new Promise((done, failed) => {
                const listener = (kind, body) => {
                    if (kind == 'Downloading') onProgress({ phase: 'download', done: body.done_bytes, total: body.total_bytes });
                    if (kind == 'Loading') onProgress({ phase: 'load', done: body.progress.done_bytes, total: body.progress.total_bytes });
                    if (kind == 'Opened') done(body.model);
                    // The model before may have had to make room.
                    if (body.kept == false) this.model = null;
                    if (kind == 'OpenCancelled') failed(new DOMException('loading was stopped', 'AbortError'));
                    if (kind == 'OpenFailed' || kind == 'Fatal') failed(new Error(body.reason));
                };
                ticket = this.#ask(ticket => ({ Open: { ticket, options } }), listener);
                signal?.addEventListener('abort', cancel, { once: true });
                if (signal?.aborted) cancel();
            });
        } finally {
            this.#listeners.delete(ticket);
            signal?.removeEventListener('abort', cancel);
        }
    }

    /** An answer piece by piece; the last one has `done`: why it ended, its ids and its times. Leaving the loop stops it. */
    async *chat(messages, options = {}) {
        yield* this.#answer({ Chat: messages }, options);
    }

    /** The same for token ids, fed as they are. */
    async *generate(ids, options = {}) {
        yield* this.#answer({ Ids: ids }, options);
    }

    async *#answer(input, { maxTokens = null, sampling, stop = [], thinking = null, ignoreEos = false, signal } = {}) {
        if (!this.model) throw new Error('no model is open');
        const chosen = sampling ? { ...this.model.default_sampling, ...sampling } : this.model.default_sampling;
        const request = { input, sampling: chosen, max_tokens: maxTokens, stop, thinking, ignore_eos: ignoreEos };
        const queue = [];
        let wake = () => {};
        const ticket = this.#ask(
            ticket => ({ Answer: { ticket, request, context: null } }),
            (...report) => {
                queue.push(report);
                wake();
            },
        );
        this.#running.add(ticket);
        const cancel = () => this.#cancel(ticket);
        signal?.addEventListener('abort', cancel, { once: true });
        let ended = false;
        try {
            while (!ended) {
                if (!queue.length) await new Promise(resolve => (wake = resolve));
                const [kind, body] = queue.shift() ?? [];
                if (kind == 'Fatal') throw new Error(body.reason);
                if (kind == 'TooLong') throw new Error(`the conversation has ${body.tokens} tokens, the context holds ${body.context}`);
                if (kind != 'Answer') continue;
                const [[event, value]] = Object.entries(body.event);
                if (event == 'Failed') throw new Error(value);
                ended = event == 'Done';
                if (event == 'Prefill') yield { text: '', prefill: value };
                if (event == 'Reasoning') yield { text: '', reasoning: value };
                if (event == 'Text') yield { text: value };
                if (event == 'Done') yield { text: '', done: value };
            }
        } finally {
            if (!ended) cancel();
            this.#running.delete(ticket);
            this.#listeners.delete(ticket);
            signal?.removeEventListener('abort', cancel);
        }
    }

    /** Stops every answer that runs. */
    stop() {
        this.#running.forEach(ticket => this.#cancel(ticket));
    }

    /** Ends the engine and frees the GPU; stored models stay. */
    unload() {
        this.#worker.terminate();
        this.model = null;
        this.#fail('the engine was unloaded');
    }
}
