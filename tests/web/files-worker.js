// Calls the methods of ModelFiles for tests/web_files.rs: {id, method, args} in, {id, value | error} and {id, progress} out.
import init, { Sha256 } from '/fathom_web.js';
import { ModelFiles } from '/models.js';

const parameters = new URL(import.meta.url).searchParams;
if (parameters.has('denied')) navigator.storage.getDirectory = () => Promise.reject(new DOMException('It is not allowed here', 'SecurityError'));
await init();
const files = new ModelFiles(Sha256, new URL('/', import.meta.url));
const aborts = new Map();

const plain = async value => {
    if (!value?.files) return value ?? null;
    const hex = async blob => [...new Uint8Array(await crypto.subtle.digest('SHA-256', await blob.arrayBuffer()))].map(byte => byte.toString(16).padStart(2, '0')).join('');
    return { path: value.path, name: value.name, files: await Promise.all(value.files.map(async ({ name, blob, ...rest }) => (blob ? { name, bytes: blob.size, sha256: await hex(blob) } : { name, ...rest }))) };
};

onmessage = async ({ data: { id, method, args } }) => {
    if (method == 'abort') return aborts.get(id)?.abort();
    const abort = new AbortController();
    aborts.set(id, abort);
    const options = { signal: abort.signal, onProgress: (done, total) => postMessage({ id, progress: { done, total } }) };
    try {
        postMessage({ id, value: await plain(await files[method](...args, options)) });
    } catch (error) {
        postMessage({ id, error: { code: error.code ?? error.name, message: error.message } });
    }
};
postMessage({ ready: true });
