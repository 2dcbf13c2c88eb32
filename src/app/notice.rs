//! What the user must be told: banners. Views put them into the user's language; reasons are one-line errors as they came.

use std::path::PathBuf;

use super::App;

/// A banner's number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct NoticeId(pub u64);

/// One banner.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Notice {
    /// Chats are kept in memory only, until the program ends.
    NotStored {
        reason: String,
    },
    /// Changes wait in memory until the store takes them; goes away by itself.
    StoreFailing {
        reason: String,
    },
    /// The chats' file was damaged; it is kept under another name and a new one was begun.
    StoreDamaged {
        reason: String,
    },
    /// The engine broke and is being built anew.
    Rebuilding {
        reason: String,
    },
    /// It works again; the answer went on.
    Rebuilt {
        reason: String,
    },
    /// It does not.
    RebuildFailed {
        reason: String,
    },
    /// `kept`: the model from before still runs.
    ModelFailed {
        name: String,
        reason: String,
        kept: bool,
    },
    /// The self-test turned an ability off.
    TurnedOff {
        what: String,
    },
    FileFailed {
        reason: String,
    },
    Exported {
        path: PathBuf,
    },
    Imported {
        chats: usize,
    },
}

/// Banners that are kept at most; the oldest go first.
const MOST: usize = 20;

impl App {
    /// Adds a banner, or renews one that says the same.
    pub fn notify(&mut self, notice: Notice) {
        self.notices.retain(|(_, other)| *other != notice);
        self.next_notice += 1;
        self.notices.push((NoticeId(self.next_notice), notice));
        if self.notices.len() > MOST {
            self.notices.remove(0);
        }
    }

    /// Takes away banners that no longer hold.
    pub(super) fn settle(&mut self, is_over: impl Fn(&Notice) -> bool) {
        self.notices.retain(|(_, notice)| !is_over(notice));
    }
}
