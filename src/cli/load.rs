//! Opening an engine with a progress bar where somebody watches and has to wait.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use fathom::engine::{Engine, OpenEvent};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::args::DeviceArgs;

/// Bars appear only for what takes longer than this.
const PATIENCE: Duration = Duration::from_secs(1);

/// A bar on stderr that stays away from quick work and from pipes.
pub struct LateBar {
    bar: ProgressBar,
    since: Instant,
    shown: bool,
}

impl LateBar {
    /// `template` as indicatif has it.
    pub fn new(template: &str) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self { bar, since: Instant::now(), shown: false }
    }

    pub fn at(&mut self, done: u64, total: u64) {
        if !self.shown && self.since.elapsed() > PATIENCE && done < total && std::io::stderr().is_terminal() {
            self.shown = true;
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        if self.bar.length() != Some(total) {
            self.bar.set_length(total);
        }
        self.bar.set_position(done);
    }

    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

/// Opens the model on the device that the flags ask for.
pub async fn open(model: Option<PathBuf>, device: &DeviceArgs) -> anyhow::Result<Engine> {
    let mut bar = LateBar::new("loading {wide_bar} {bytes}/{total_bytes}");
    let mut tuning = LateBar::new("measuring this device, once {wide_bar} {pos}/{len}");
    let mut on_event = |event| match event {
        OpenEvent::Load(progress) => bar.at(progress.done_bytes, progress.total_bytes),
        OpenEvent::TurnedOff(off) => eprintln!("warning: {off}"),
        OpenEvent::Tune { done, total } => tuning.at(done as u64, total as u64),
        OpenEvent::Device(_) => tuning.clear(),
    };
    let opened = Engine::open(device.open(model), &mut on_event).await;
    bar.clear();
    tuning.clear();
    Ok(opened?)
}
