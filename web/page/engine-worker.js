// The engine beside the page. Takes {job: text}, {job: text, files}, {cancel: ticket} and {bench: true}; gives {report: text}, {fatal: text}.
// A job that opens a model waits here until its files are in the browser; everything else goes to the wasm at once.

import './subgroups.js';
import init, { EngineHost, Sha256, default_model_path, mount, unmount } from './fathom_web.js';
import { DEFAULT, ModelFiles } from './models.js';

const report = text => postMessage({ report: text });
const tell = value => report(JSON.stringify(value));
const files = new ModelFiles(Sha256, new URL('.', import.meta.url));
/** Downloads that can be given up, by ticket. */
const downloads = new Map();

// Jobs that come while the wasm is still loading wait.
const ready = init().then(() => new EngineHost(report));
ready.catch(error => postMessage({ fatal: `the engine does not start: ${error.message ?? error}` }));

/** A model's files under the path that the job names. */
async function place(path, options) {
    const model = await files.open(path, options);
    mountAll(model);
}

function mountAll({ path, files }) {
    const at = path == DEFAULT ? default_model_path() : path;
    unmount(at);
    const isFile = files.length == 1;
    for (const { name, blob } of files) mount(isFile ? at : `${at.replace(/\/$/, '')}/${name}`, blob);
}

async function open(job, picked) {
    const { ticket, options } = job.Open;
    const path = options.model ?? DEFAULT;
    const abort = new AbortController();
    downloads.set(ticket, abort);
    const onProgress = (done_bytes, total_bytes) => tell({ Downloading: { ticket, done_bytes, total_bytes } });
    try {
        if (picked) {
            await files.add(path, picked, { signal: abort.signal, onProgress });
            tell({ Added: { ticket, result: { Ok: path } } });
        }
        await place(path, { signal: abort.signal, onProgress });
        return true;
    } catch (error) {
        const isCancelled = error.code == 'cancelled' || error.name == 'AbortError';
        // What runs goes on: the engine has not heard of this job.
        tell(isCancelled ? { OpenCancelled: { ticket, kept: true } } : { OpenFailed: { ticket, reason: error.message ?? String(error), kept: true } });
        return false;
    } finally {
        downloads.delete(ticket);
    }
}

/** What is stored, for the wasm to look at. */
async function scan(job) {
    const stored = await files.list();
    for (const { path } of stored) {
        const model = await files.stored(path);
        if (model) mountAll(model);
    }
    job.Scan.paths = stored.map(({ path }) => path).filter(path => path != DEFAULT);
    job.Scan.folders = [];
    return job;
}

async function take(text, picked) {
    const job = JSON.parse(text);
    const host = await ready;
    if (job.Open) {
        if (await open(job, picked)) host.send(text);
    } else if (job.Scan) {
        host.send(JSON.stringify(await scan(job)));
    } else if (job.Space) {
        tell({ Space: { ticket: job.Space.ticket, space: await files.space() } });
    } else if (job.RemoveModel) {
        const { ticket, path } = job.RemoveModel;
        const result = await files.remove(path).then(() => ({ Ok: null }), error => ({ Err: error.message }));
        tell({ Removed: { ticket, path, result } });
    } else {
        host.send(text);
    }
}

onmessage = async ({ data }) => {
    try {
        if (data.job !== undefined) await take(data.job, data.files);
        if (data.cancel !== undefined) {
            downloads.get(data.cancel)?.abort();
            (await ready).cancel(data.cancel);
        }
    } catch (error) {
        postMessage({ fatal: error.message ?? String(error) });
    }
};
