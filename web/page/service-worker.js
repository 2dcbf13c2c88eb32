// Keeps the page itself for visits without network. What belongs to it, and its version, is in precache.json, written at build.
// Models are not its affair: they are stored by models.js.

const PREFIX = 'fathom-page-';

async function precache() {
    const { version, files } = await (await fetch('precache.json', { cache: 'no-store' })).json();
    const cache = await caches.open(PREFIX + version);
    const have = new Set((await cache.keys()).map(({ url }) => url));
    // All of one version or none: what is missing fails the installation, and the version before stays.
    await Promise.all(files.filter(file => !have.has(new URL(file, self.registration.scope).href)).map(file => cache.add(new Request(file, { cache: 'no-store' }))));
    return version;
}

self.addEventListener('install', event => event.waitUntil(precache().then(() => self.skipWaiting())));

self.addEventListener('activate', event => event.waitUntil((async () => {
    const names = (await caches.keys()).filter(name => name.startsWith(PREFIX));
    // The newest comes last.
    await Promise.all(names.slice(0, -1).map(name => caches.delete(name)));
    await self.clients.claim();
})()));

self.addEventListener('fetch', event => {
    const url = new URL(event.request.url);
    if (event.request.method != 'GET' || url.origin != location.origin || event.request.headers.has('range')) return;
    url.search = '';
    event.respondWith((async () => {
        const kept = await caches.match(url.href, { ignoreSearch: true });
        return kept ?? fetch(event.request);
    })());
});
