//! Sequences over one model: prefill in chunks, decoding with steps run ahead, rewinding, forking.
//!
//! A step takes rows of any sequences at any positions. The sampled id stays on the device and feeds the next step there, so
//! steps are submitted ahead of the four bytes that come back.

use crate::gpu::{Download, Gpu, KernelTime, Recorder, Recording};
use crate::kernels::{BatchRow, CacheFormat, FEW_ROWS, MAX_ROWS, PAGE, Rows, SAMPLED, TILE};
use crate::model::{Activations, Cache, Model, ModelConfig, ModelError, Room, Seen, Step, Trace, Watch};
use crate::sampler::Sampling;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use web_time::Instant;

/// Steps submitted before the first of them is read back.
const RUN_AHEAD: usize = 2;

/// Logits are at most this large: rows that want them are fed in smaller chunks.
const LOGITS_BYTES: usize = 64 << 20;

/// Ids from all over a vocabulary, the same every time: what is measured with them keeps experts as busy as a prompt does.
pub fn spread_ids(vocab: usize) -> impl Iterator<Item = u32> {
    (0u64..).map(move |i| (i.wrapping_mul(2_654_435_761) % vocab as u64) as u32)
}

#[derive(Clone, Debug)]
pub struct RuntimeOptions {
    /// Tokens that a sequence may hold.
    pub context: usize,
    /// Sequences that may exist at once.
    pub sequences: usize,
    /// Rows of a prefill step.
    pub chunk: usize,
    /// Use the few-rows kernels for any number of rows, so that a row's bits never depend on the rows beside it.
    pub deterministic: bool,
    /// What the latent cache keeps its numbers in.
    pub cache: CacheFormat,
    /// Keep hidden states and routing of the last step.
    pub trace: bool,
}

impl Default for RuntimeOptions {
    fn default() -> Self {
        Self { context: 4096, sequences: 1, chunk: 128, deterministic: false, cache: CacheFormat::default(), trace: false }
    }
}

/// One sequence in a [`Runtime`]'s cache.
#[derive(Debug)]
pub struct Session {
    /// Its row of the page table.
    slot: usize,
    pages: Vec<u32>,
    /// Positions fed so far, steps run ahead included.
    fed: usize,
    /// Positions that count: those of ids the caller knows.
    len: usize,
    pending: VecDeque<Pending>,
    /// Its sampling steps are watched.
    watched: bool,
}

/// A sampled id on its way back.
struct Pending {
    download: Download,
    submitted: Instant,
    cost: f64,
    /// More than the id is on its way.
    watched: bool,
}

impl std::fmt::Debug for Pending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "id on its way")
    }
}

impl Session {
    /// Tokens whose latents are cached.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A row that feeds a token at a position that has its page.
    fn row(&self, token: u32, position: usize) -> BatchRow {
        let entry = self.pages[position / PAGE] * PAGE as u32 + (position % PAGE) as u32;
        BatchRow { token, position: position as u32, sequence: self.slot as u32, entry }
    }
}

/// What a traced step saw, rows as they were fed.
#[derive(Debug)]
pub struct Traced {
    /// `[layers + 1, rows, hidden]`: 0 the embedding, i after layer i - 1
    pub hidden: Vec<Vec<f32>>,
    /// `[layers]`, each `[rows, top_k]`
    pub chosen: Vec<Vec<u32>>,
    pub weights: Vec<Vec<f32>>,
}

/// The cache, activations and recordings over one model.
pub struct Runtime {
    model: Arc<Model>,
    options: RuntimeOptions,
    room: Room,
    cache: Cache,
    activations: Activations,
    trace: Option<Trace>,
    /// Made when a step is first watched.
    watch: Option<Watch>,
    /// By room for rows and outputs, and whether the step is watched.
    recordings: HashMap<(usize, usize, bool), Recording>,
    free_slots: Vec<usize>,
    /// Token ids that may be sampled.
    token_limit: usize,
}

impl Runtime {
    /// # Errors
    /// A context that the device cannot hold; memory that runs out.
    pub fn new(model: Arc<Model>, options: RuntimeOptions) -> Result<Self, ModelError> {
        let gpu = model.gpu();
        let config = model.config();
        let options =
            RuntimeOptions { chunk: options.chunk.clamp(1, MAX_ROWS), sequences: options.sequences.clamp(1, MAX_ROWS), ..options };
        let context = options.context.max(1).next_multiple_of(PAGE);
        let pages = context / PAGE * options.sequences;
        let entry_bytes = 4 * options.cache.words(config.cache_entry()) as u64;
        let rotary_bytes = 4 * config.rope as u64;
        let most = gpu.caps().max_binding_bytes / (entry_bytes * options.sequences as u64).max(rotary_bytes);
        if context as u64 > most.max(PAGE as u64) {
            let reason = format!("one binding holds {} bytes of a layer's cache", gpu.caps().max_binding_bytes);
            return Err(ModelError::ContextTooLong { context: options.context, most: most as usize / PAGE * PAGE, reason });
        }
        let chunk = options.chunk.min(context);
        let rows = if chunk <= FEW_ROWS { chunk } else { chunk.next_multiple_of(TILE) };
        let rows = rows.max(options.sequences);
        let outputs = (LOGITS_BYTES / (4 * config.vocab_size)).clamp(options.sequences.min(rows), rows);
        let outputs = if outputs > FEW_ROWS { outputs / TILE * TILE } else { outputs };
        let room = Room { rows, outputs, sequences: options.sequences, context, deterministic: options.deterministic };
        Ok(Self {
            cache: Cache::new(gpu, config, options.cache, pages)?,
            activations: Activations::new(gpu, config, room)?,
            trace: options.trace.then(|| Trace::new(gpu, config, rows)).transpose()?,
            watch: None,
            recordings: HashMap::new(),
            free_slots: (0..options.sequences).rev().collect(),
            token_limit: config.vocab_size,
            model,
            options,
            room,
        })
    }

    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    fn gpu(&self) -> &Gpu {
        self.model.gpu()
    }

    fn config(&self) -> &ModelConfig {
        self.model.config()
    }

    /// Tokens that a sequence may hold.
    pub fn context(&self) -> usize {
        self.room.context
    }

    /// Never sample ids from this one on: those without a token.
    pub fn set_token_limit(&mut self, limit: usize) {
        self.token_limit = limit.clamp(1, self.config().vocab_size);
    }

    /// An empty sequence.
    pub fn session(&mut self) -> Result<Session, ModelError> {
        let slot = self.free_slots.pop().ok_or(ModelError::NoSequence(self.options.sequences))?;
        Ok(Session { slot, pages: vec![], fed: 0, len: 0, pending: VecDeque::new(), watched: false })
    }

    /// Another sequence with the same past: whole pages are shared, the last one is copied.
    pub fn fork(&mut self, session: &Session) -> Result<Session, ModelError> {
        let mut fork = self.session()?;
        let whole = session.len / PAGE;
        for &page in &session.pages[..whole] {
            self.cache.share(page);
            fork.pages.push(page);
        }
        let rest = session.len % PAGE;
        if rest > 0 {
            let Some(page) = self.cache.take() else {
                self.release(fork);
                return Err(ModelError::NoSequence(self.options.sequences));
            };
            self.cache.copy_page(self.gpu(), session.pages[whole], page, rest);
            fork.pages.push(page);
        }
        fork.len = session.len;
        fork.fed = session.len;
        self.write_pages(&fork);
        Ok(fork)
    }

    /// Forgets everything from position `len` on.
    pub fn rewind(&mut self, session: &mut Session, len: usize) {
        session.pending.clear();
        session.len = session.len.min(len);
        session.fed = session.len;
        let keep = session.len.div_ceil(PAGE);
        for page in session.pages.drain(keep.min(session.pages.len())..) {
            self.cache.give(page);
        }
    }

    /// Gives a sequence's pages back.
    pub fn release(&mut self, session: Session) {
        for page in session.pages {
            self.cache.give(page);
        }
        self.free_slots.push(session.slot);
    }

    fn write_pages(&self, session: &Session) {
        let table = &self.activations.page_table;
        let row_bytes = 4 * u64::from(table.dim(1));
        self.gpu().write(table, session.slot as u64 * row_bytes, bytemuck::cast_slice(&session.pages));
    }

    /// Makes sure that the sequence can be fed `count` more tokens.
    fn reserve(&mut self, session: &mut Session, count: usize) -> Result<(), ModelError> {
        let (needed, context) = (session.fed + count, self.room.context);
        let full = ModelError::ContextFull { needed, context, max_positions: self.config().max_positions };
        if needed > context {
            return Err(full);
        }
        let mut changed = false;
        // After a rewind the last page may still be another sequence's too.
        let cache = &mut self.cache;
        let shared = |page: &&mut u32| !session.fed.is_multiple_of(PAGE) && cache.is_shared(**page);
        if let Some(last) = session.pages.last_mut().filter(shared) {
            let Some(own) = self.cache.take() else { return Err(full) };
            self.cache.copy_page(self.model.gpu(), *last, own, session.fed % PAGE);
            self.cache.give(*last);
            *last = own;
            changed = true;
        }
        while session.pages.len() * PAGE < needed {
            let Some(page) = self.cache.take() else { return Err(full) };
            session.pages.push(page);
            changed = true;
        }
        if changed {
            self.write_pages(session);
        }
        Ok(())
    }

    /// Room that a recording has for `count` rows.
    fn bucket(count: usize, most: usize) -> usize {
        if count <= FEW_ROWS { count } else { count.next_power_of_two().max(2 * TILE).min(most) }
    }

    fn recording(&mut self, rows: usize, outputs: usize, watched: bool) -> Result<&Recording, ModelError> {
        let key = (Self::bucket(rows, self.room.rows), Self::bucket(outputs, self.room.outputs), watched);
        if !self.recordings.contains_key(&key) {
            let s = &self.activations;
            let few = |count: usize| self.options.deterministic || count <= FEW_ROWS;
            let rows = Rows { count: key.0, few: few(key.0), step: s.step.clone() };
            let outputs = (key.1 > 0).then(|| Rows { count: key.1, few: few(key.1), step: s.head_step.clone() });
            let (config, weights) = (self.model.config(), self.model.weights());
            let watch = self.watch.as_ref().filter(|_| watched);
            let step = Step { config, weights, cache: &self.cache, s, trace: self.trace.as_ref(), watch, rows, outputs };
            let mut recorder = Recorder::new(self.model.gpu());
            step.record(&mut recorder);
            self.recordings.insert(key, recorder.finish()?);
        }
        Ok(&self.recordings[&key])
    }

    /// The dispatches of one decoded token.
    pub fn decode_plan(&mut self) -> Result<&Recording, ModelError> {
        self.recording(1, 1, false)
    }

    /// The dispatches of a prefill step of `rows` rows that samples after the last.
    pub fn prefill_plan(&mut self, rows: usize) -> Result<&Recording, ModelError> {
        self.recording(rows.clamp(1, self.room.rows), 1, false)
    }

    /// The GPU time by kernel of one more step of so many rows that samples after the last: one row is a decoded token, more a
    /// prompt's chunk; none where the device has no timestamp queries.
    /// What it writes lies beyond the sequence's end, which goes back where the context is full.
    pub async fn kernel_times(&mut self, session: &mut Session, rows: usize) -> Result<Option<Vec<KernelTime>>, ModelError> {
        let rows = rows.clamp(1, self.room.rows);
        let len = session.len.min(self.room.context - rows);
        self.rewind(session, len);
        self.reserve(session, rows)?;
        let ids = spread_ids(self.config().vocab_size).take(rows);
        let fed: Vec<BatchRow> = ids.enumerate().map(|(i, id)| session.row(id, session.fed + i)).collect();
        self.submit(&fed, &[rows - 1], false)?;
        let gpu = self.gpu().clone();
        Ok(gpu.kernel_times(self.prefill_plan(rows)?).await?)
    }

    /// Submits one step. Everything the device needs to know goes before it in the queue; nothing is waited for.
    fn submit(&mut self, rows: &[BatchRow], outputs: &[usize], watched: bool) -> Result<f64, ModelError> {
        let listed: Vec<u32> = outputs.iter().map(|&row| row as u32).collect();
        let (gpu, s) = (self.model.gpu().clone(), &self.activations);
        gpu.write(&s.batch, 0, bytemuck::cast_slice(rows));
        gpu.write(&s.step, 0, bytemuck::cast_slice(&[rows.len() as u32, outputs.len() as u32, 0, 0]));
        if !outputs.is_empty() {
            gpu.write(&s.listed, 0, bytemuck::cast_slice(&listed));
            gpu.write(&s.head_step, 0, bytemuck::cast_slice(&[outputs.len() as u32, outputs.len() as u32, 0, 0]));
        }
        let recording = self.recording(rows.len(), outputs.len(), watched)?;
        recording.replay(&gpu);
        Ok(recording.cost())
    }

    fn check_ids(&self, ids: &[u32]) -> Result<(), ModelError> {
        let vocab = self.config().vocab_size;
        match ids.iter().find(|&&id| id as usize >= vocab) {
            Some(&id) => Err(ModelError::UnknownToken { id, vocab }),
            None if ids.is_empty() => Err(ModelError::Empty),
            None => Ok(()),
        }
    }

    /// Starts reading the sequence's last sampled id and, where it is watched, what was seen of its `row`.
    fn pending(&self, slot: usize, row: usize, cost: f64, watched: bool) -> Pending {
        let mut runs = vec![(&self.activations.sampled, 4 * slot as u64, 4)];
        runs.extend(self.watch.iter().filter(|_| watched).flat_map(|watch| watch.runs(row)));
        Pending { download: self.gpu().download_runs(&runs), submitted: Instant::now(), cost, watched }
    }

    /// Whether [`Self::next_seen`] tells how each id came about, from the next [`Self::begin`] on. The ids are the same.
    ///
    /// # Errors
    /// Memory that runs out.
    pub fn watch(&mut self, session: &mut Session, watched: bool) -> Result<(), ModelError> {
        if watched && self.watch.is_none() {
            self.watch = Some(Watch::new(&self.model, self.room.rows, self.room.outputs)?);
        }
        session.watched = watched;
        Ok(())
    }

    /// Feeds ids in chunks of `chunk`, the last one with `outputs`; false when `progress` stopped it.
    async fn feed(
        &mut self,
        session: &mut Session,
        ids: &[u32],
        sample: bool,
        progress: &mut dyn FnMut(usize, usize) -> bool,
    ) -> Result<bool, ModelError> {
        self.check_ids(ids)?;
        session.pending.clear();
        session.fed = session.len;
        self.reserve(session, ids.len())?;
        let (start, mut done) = (session.fed, 0);
        // A chunk is submitted while the one before it runs; its end is told by the download behind it.
        let mut running: Option<(Pending, usize)> = None;
        for chunk in ids.chunks(self.room.rows) {
            let rows: Vec<BatchRow> = chunk.iter().enumerate().map(|(i, &id)| session.row(id, session.fed + i)).collect();
            let is_last = done + chunk.len() == ids.len();
            let outputs = if is_last && sample { vec![chunk.len() - 1] } else { vec![] };
            let watched = session.watched && !outputs.is_empty();
            let cost = self.submit(&rows, &outputs, watched)?;
            session.fed += chunk.len();
            done += chunk.len();
            let pending = self.pending(session.slot, chunk.len() - 1, cost, watched);
            if let Some((before, upto)) = running.replace((pending, done)) {
                before.download.await?;
                session.len = start + upto;
                if !progress(upto, ids.len()) {
                    // The chunk in flight is let go; what it wrote lies beyond the sequence's end.
                    self.rewind_to(session);
                    return Ok(false);
                }
            }
        }
        if let Some((last, _)) = running {
            if sample {
                session.pending.push_back(last);
            } else {
                last.download.await?;
                self.gpu().observe(last.cost, last.submitted.elapsed().as_secs_f64());
            }
            session.len = session.fed;
        }
        Ok(progress(ids.len(), ids.len()) || !sample)
    }

    fn rewind_to(&mut self, session: &mut Session) {
        let len = session.len;
        self.rewind(session, len);
    }

    /// Feeds ids; `progress(done, total)` after each chunk, false stops (the session then holds what was done).
    ///
    /// # Errors
    /// An empty list, an id beyond the vocabulary, a full context, a broken device.
    pub async fn prefill(
        &mut self,
        session: &mut Session,
        ids: &[u32],
        progress: &mut dyn FnMut(usize, usize) -> bool,
    ) -> Result<(), ModelError> {
        self.feed(session, ids, false, progress).await.map(drop)
    }

    /// Feeds ids and samples after the last; then [`next`](Self::next) gives one id after another. False when `progress` stopped it.
    pub async fn begin(
        &mut self,
        session: &mut Session,
        ids: &[u32],
        sampling: &Sampling,
        progress: &mut dyn FnMut(usize, usize) -> bool,
    ) -> Result<bool, ModelError> {
        let row = sampling.gpu_row(self.token_limit);
        self.gpu().write(&self.activations.sampling, 32 * session.slot as u64, bytemuck::cast_slice(&row));
        let going = self.feed(session, ids, true, progress).await?;
        if !going {
            self.rewind_to(session);
        }
        Ok(going)
    }

    /// Feeds the id that only the device knows yet.
    fn run_ahead(&mut self, session: &mut Session) -> Result<(), ModelError> {
        self.reserve(session, 1)?;
        let row = session.row(SAMPLED, session.fed);
        let watched = session.watched;
        let cost = self.submit(&[row], &[0], watched)?;
        session.fed += 1;
        session.pending.push_back(self.pending(session.slot, 0, cost, watched));
        Ok(())
    }

    /// The next sampled id. Its own latent is cached by the step after, so the session's length does not count it yet.
    ///
    /// # Errors
    /// A full context; a broken device.
    pub async fn next(&mut self, session: &mut Session) -> Result<u32, ModelError> {
        Ok(self.next_seen(session).await?.0)
    }

    /// [`next`](Self::next) and, for a sequence that is watched, how the id came about.
    pub async fn next_seen(&mut self, session: &mut Session) -> Result<(u32, Option<Seen>), ModelError> {
        if session.pending.is_empty() {
            // Every position is taken: the id before this one had no place to be fed.
            self.reserve(session, 1)?;
            return Err(ModelError::Empty);
        }
        while session.pending.len() <= RUN_AHEAD && session.fed < self.room.context {
            self.run_ahead(session)?;
        }
        let Some(first) = session.pending.pop_front() else { return Err(ModelError::Empty) };
        let bytes = first.download.await?;
        self.gpu().observe(first.cost * (1.0 + session.pending.len() as f64), first.submitted.elapsed().as_secs_f64());
        session.len = session.fed - session.pending.len();
        let words: Vec<u32> = bytemuck::pod_collect_to_vec(&bytes);
        Ok((words[0], self.watch.as_ref().filter(|_| first.watched).map(|watch| watch.seen(&words[1..]))))
    }

    /// Drops steps run ahead: the session ends before the last id that [`next`](Self::next) gave.
    pub async fn end(&mut self, session: &mut Session) -> Result<(), ModelError> {
        self.rewind_to(session);
        Ok(())
    }

    /// Feeds ids and gives every one's logits, `[ids, vocab]`.
    pub async fn logits(&mut self, session: &mut Session, ids: &[u32]) -> Result<Vec<f32>, ModelError> {
        self.check_ids(ids)?;
        self.rewind_to(session);
        self.reserve(session, ids.len())?;
        let vocab = self.config().vocab_size;
        let mut all = Vec::with_capacity(ids.len() * vocab);
        for chunk in ids.chunks(self.room.outputs.min(self.room.rows)) {
            let rows: Vec<BatchRow> = chunk.iter().enumerate().map(|(i, &id)| session.row(id, session.fed + i)).collect();
            let outputs: Vec<usize> = (0..chunk.len()).collect();
            self.submit(&rows, &outputs, false)?;
            session.fed += chunk.len();
            let bytes = self.gpu().download(&self.activations.logits, 0, 4 * (chunk.len() * vocab) as u64).await?;
            all.extend(bytemuck::pod_collect_to_vec::<u8, f32>(&bytes));
            session.len = session.fed;
        }
        Ok(all)
    }

    /// Feeds one id to each of several sequences in one step and gives their logits, `[sessions, vocab]`.
    pub async fn step(&mut self, sessions: &mut [(&mut Session, u32)]) -> Result<Vec<f32>, ModelError> {
        let ids: Vec<u32> = sessions.iter().map(|(_, id)| *id).collect();
        self.check_ids(&ids)?;
        let mut rows = vec![];
        for (session, id) in sessions.iter_mut() {
            self.rewind_to(session);
            self.reserve(session, 1)?;
            rows.push(session.row(*id, session.fed));
        }
        let outputs: Vec<usize> = (0..rows.len()).collect();
        self.submit(&rows, &outputs, false)?;
        let vocab = self.config().vocab_size;
        let bytes = self.gpu().download(&self.activations.logits, 0, 4 * (rows.len() * vocab) as u64).await?;
        for (session, _) in sessions.iter_mut() {
            session.fed += 1;
            session.len = session.fed;
        }
        Ok(bytemuck::pod_collect_to_vec::<u8, f32>(&bytes))
    }

    /// Hidden states and routing of the last step's `rows` rows, with [`RuntimeOptions::trace`].
    pub async fn traced(&self, rows: usize) -> Result<Option<Traced>, ModelError> {
        let Some(trace) = &self.trace else { return Ok(None) };
        let config = self.config();
        let hidden: Vec<f32> = self.gpu().read(&trace.hidden).await?;
        let chosen: Vec<u32> = self.gpu().read(&trace.chosen).await?;
        let weights: Vec<f32> = self.gpu().read(&trace.weights).await?;
        let (room, cols) = (self.room.rows, trace.hidden.shape[2]);
        let top_k = config.moe.as_ref().map_or(1, |moe| moe.top_k);
        // Of every row's slots the first are the router's choice.
        fn routed<T: Copy>(all: &[T], rows: usize, slots: usize, top_k: usize) -> Vec<T> {
            all.chunks(slots.max(top_k)).take(rows).flat_map(|row| &row[..top_k]).copied().collect()
        }
        let layers = |i: usize| self.model.slots(i);
        let states =
            hidden.chunks(room * cols).map(|state| state.chunks(cols).take(rows).flat_map(|row| &row[..config.hidden]).copied().collect());
        Ok(Some(Traced {
            hidden: states.collect(),
            chosen: chosen.chunks(room * trace.slots).enumerate().map(|(i, layer)| routed(layer, rows, layers(i), top_k)).collect(),
            weights: weights.chunks(room * trace.slots).enumerate().map(|(i, layer)| routed(layer, rows, layers(i), top_k)).collect(),
        }))
    }
}
