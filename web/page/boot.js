// The gate: says what this browser and its GPU can do and how much is to be downloaded, before anything is; then opens the window.

import { ModelFiles, mib } from './models.js';
import { Page } from './page.js';

const element = id => document.getElementById(id);
const parameters = new URLSearchParams(location.search);

// The window is gone with the device that drew it. Chats are stored, so the page begins anew where it was: once, lest it never stops.
const LOST = 'fathom-lost';
const lost = remembered();

function remembered() {
    try {
        const lost = JSON.parse(sessionStorage.getItem(LOST));
        if (lost) sessionStorage.setItem(LOST, JSON.stringify({ at: lost.at }));
        return lost;
    } catch {
        return null;
    }
}

globalThis.fathomLost = reason => {
    try {
        if (lost && Date.now() - lost.at < 60_000) throw new Error('for the second time within a minute');
        sessionStorage.setItem(LOST, JSON.stringify({ at: Date.now(), reason: reason || 'its driver was reset' }));
        location.reload();
    } catch (error) {
        fail(`The graphics device was lost (${reason || error.message}). Close other programs that use it, then reload the page to go on: chats that could be stored are there.`);
    }
};

function row(name, text, kind = '') {
    const line = document.createElement('div');
    line.className = `row ${kind}`;
    line.append(Object.assign(document.createElement('dt'), { textContent: name }), Object.assign(document.createElement('dd'), { textContent: text }));
    element('facts').append(line);
}

function fail(text) {
    element('status').textContent = text;
    element('status').className = 'bad';
    element('start').hidden = true;
    element('gate').hidden = false;
}

/** The adapter; none after the gate has said why. */
async function adapter() {
    if (!isSecureContext) return void fail('This page must come over https (or from localhost): browsers give WebGPU to no other.');
    if (!navigator.gpu) {
        return void fail('This browser has no WebGPU. Chrome and Edge have it from 113 on, Safari from 26, Firefox from 141 on Windows and 145 on macOS; on Linux, Chrome may want chrome://flags/#enable-unsafe-webgpu.');
    }
    const found = await navigator.gpu.requestAdapter({ powerPreference: 'high-performance' }).catch(() => null);
    if (!found) return void fail('This browser has WebGPU but gives no graphics adapter: its driver may be blocked or too old. Update the driver, or look at chrome://gpu.');
    return found;
}

async function gate() {
    const gpu = await adapter();
    if (!gpu) return false;
    // Only asked what there is: nothing is hashed here.
    const files = new ModelFiles(null, new URL('.', import.meta.url));
    const { vendor, architecture, description, isFallbackAdapter } = gpu.info ?? {};
    const name = description || [vendor, architecture].filter(Boolean).join(' ') || 'not named by the browser';
    row('Graphics', isFallbackAdapter ? `${name}: software, so answers come slowly` : name, isFallbackAdapter ? 'warn' : 'good');
    const extras = [['subgroups', 'subgroups'], ['shader-f16', '16-bit floats']].filter(([feature]) => gpu.features.has(feature)).map(([, words]) => words);
    row('It offers', `tensors in pieces of up to ${mib(gpu.limits.maxStorageBufferBindingSize)}${extras.map(extra => `, ${extra}`).join('')}`, 'good');

    const model = parameters.get('model');
    let bytes = null;
    let stored = false;
    if (model) {
        row('Model', `${model}: its size is told once its server answers`);
    } else {
        const manifest = await files.manifest();
        stored = (await files.blob(manifest.sha256, manifest.bytes)) != null;
        bytes = manifest.bytes;
        row('Model', stored ? `${manifest.name}: stored here already, nothing to download` : `${manifest.name}: ${mib(bytes)} to download, once`, 'good');
    }
    const { quota_bytes, usage_bytes, denied } = await files.space();
    const free = quota_bytes - usage_bytes;
    if (denied) row('Storage', 'denied, as in a private window: the model and chats are gone when the tab closes', 'warn');
    else row('Storage', `${mib(free)} free of ${mib(quota_bytes)} that the browser allows`, !stored && bytes > free ? 'warn' : 'good');
    element('start').textContent = stored || bytes == null ? 'Start' : `Start (${mib(bytes)})`;
    return stored;
}

async function start() {
    element('start').disabled = true;
    element('status').textContent = 'Starting…';
    const page = new Page({
        onShown: () => {
            element('gate').hidden = true;
            element('window').focus();
            performance.mark('fathom-shown');
        },
        onState: json => {
            globalThis.fathomState = JSON.parse(json);
            const [last] = globalThis.fathomState.last;
            if (last && !globalThis.fathomState.phase && element('spoken').textContent != last.text) element('spoken').textContent = last.text;
        },
    });
    try {
        const [{ default: init, start_window }] = await Promise.all([import('./fathom_web.js'), page.open()]);
        await init();
        page.watchDrops(document);
        await start_window(element('window'), page, parameters.get('model') ?? undefined, lost?.reason ? undefined : (parameters.get('prompt') ?? undefined), lost?.reason);
    } catch (error) {
        fail(`Fathom does not start: ${error?.message ?? error}. Reload the page to try again.`);
    }
}

addEventListener('error', event => {
    // A trap of the wasm leaves a frozen picture: better to say so.
    if (event.error instanceof WebAssembly.RuntimeError) fail('The window broke; your chats are stored. Reload the page to go on.');
});
if ('serviceWorker' in navigator) {
    navigator.serviceWorker.register(new URL('service-worker.js', import.meta.url)).catch(error => console.warn(`the page is not kept for offline use: ${error.message}`));
}
element('start').addEventListener('click', start);
if (parameters.has('bench')) {
    location.replace(new URL(`bench.html${location.search}`, import.meta.url));
} else {
    gate().then(stored => (stored || lost?.reason) && start(), error => fail(`The page is not complete: models/default.json cannot be read (${error.message}).`));
}
