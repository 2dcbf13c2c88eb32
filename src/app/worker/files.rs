//! The thread for files: models' headers, attachments, imports and exports. A slow disk holds up nothing but itself.

use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, SystemTime};

use super::attachment::{ATTACHMENT_BYTES, IMPORT_BYTES, attachment_of};
use super::engine::Reports;
use super::hall::panic_text;
use super::{Job, Report};
use crate::app::chat::Attachment;
use crate::app::library;
use crate::files::write_whole;
use crate::gpu::{GpuOptions, adapters};

/// How often other windows' writing is looked for.
const WATCH: Duration = Duration::from_secs(1);

pub(super) struct Files {
    reports: Reports,
    /// The store's log, which grows when any window writes.
    watched: Option<PathBuf>,
    seen: Option<(u64, SystemTime)>,
}

impl Files {
    pub fn new(reports: Reports, watched: Option<PathBuf>) -> Self {
        let mut files = Self { reports, watched, seen: None };
        files.look();
        files
    }

    pub fn work(mut self, jobs: &Receiver<Job>) {
        loop {
            match jobs.recv_timeout(WATCH) {
                Ok(job) => self.job(job),
                Err(RecvTimeoutError::Timeout) => {
                    if self.look() {
                        self.reports.wake();
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Whether the watched file changed since the last look.
    fn look(&mut self) -> bool {
        let Some(path) = &self.watched else { return false };
        let now = std::fs::metadata(path).ok().and_then(|file| Some((file.len(), file.modified().ok()?)));
        std::mem::replace(&mut self.seen, now) != now
    }

    fn job(&self, job: Job) {
        match job {
            Job::Scan { ticket, folders, paths } => {
                let models = guarded(|| Ok(library::scan(&folders, &paths))).unwrap_or_default();
                self.reports.send(Report::Models { ticket, models });
            }
            Job::Adapters { ticket, backend } => {
                let options = GpuOptions { backend, ..GpuOptions::default() };
                let adapters = guarded(|| Ok(pollster::block_on(adapters(&options)))).unwrap_or_default();
                self.reports.send(Report::Adapters { ticket, adapters });
            }
            Job::Attach { ticket, path } => {
                self.reports.send(Report::Attached { ticket, result: guarded(|| attachment(&path)) });
            }
            Job::Read { ticket, path } => {
                let result = guarded(|| read(&path, IMPORT_BYTES));
                self.reports.send(Report::Read { ticket, path, result });
            }
            Job::Write { ticket, path, bytes } => {
                let result = guarded(|| write_whole(&path, &bytes));
                self.reports.send(Report::Written { ticket, path, result });
            }
            _ => {}
        }
    }
}

fn guarded<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(panic_text(&*panic)))
}

fn read(path: &Path, most: u64) -> Result<Vec<u8>, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    let file = std::fs::File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.is_dir() {
        return Err(format!("{}: expected a file, found a folder", path.display()));
    }
    let mut bytes = vec![];
    file.take(most + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > most {
        return Err(format!("{}: expected at most {} MiB, found more", path.display(), most >> 20));
    }
    Ok(bytes)
}

fn attachment(path: &Path) -> Result<Attachment, String> {
    attachment_of(path, read(path, ATTACHMENT_BYTES)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attachments_are_text_of_a_bearable_size() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            attachment(&path)
        };
        assert_eq!(file("a.txt", "grüße".as_bytes()).unwrap(), Attachment { name: "a.txt".into(), text: "grüße".into() });
        assert_eq!(file("b.txt", b"\xEF\xBB\xBFx").unwrap().text, "x");
        assert_eq!(file("c.txt", b"\xFF\xFEh\0i\0").unwrap().text, "hi");
        assert_eq!(file("d.txt", b"\xFE\xFF\0h").unwrap().text, "h");
        assert!(file("e.png", b"\x89PNG\xFF\xFF").unwrap_err().ends_with("e.png: expected text in UTF-8 or UTF-16, found other bytes"));
        assert!(file("f.bin", b"a\0b").is_err());
        assert!(file("g.txt", &vec![b'x'; (4 << 20) + 1]).unwrap_err().ends_with("expected at most 4 MiB, found more"));
        assert!(attachment(folder.path()).unwrap_err().ends_with("expected a file, found a folder"));
        assert!(attachment(&folder.path().join("absent")).is_err());
    }
}
