//! The window that eframe calls, natively and in a tab: an app and its view.

use eframe::egui;

use super::View;
use crate::app::{App, Command};

/// Draws an app and carries out what its view asks for.
pub struct Window {
    pub app: App,
    view: View,
    commands: Vec<Command>,
    drawn: bool,
    started: bool,
}

impl Window {
    /// Opens the model of the last time after the first frame.
    pub fn new(app: App, view: View) -> Self {
        Self { app, view, commands: vec![], drawn: false, started: false }
    }
}

impl eframe::App for Window {
    /// Also called while the window is hidden, so that answers are stored all the same.
    fn logic(&mut self, ctx: &egui::Context, _frame: &mut eframe::Frame) {
        if self.drawn && !self.started {
            self.started = true;
            self.app.start();
        }
        self.app.poll();
        if let Some(wake) = self.app.next_wake_ms() {
            let millis = (wake - self.app.now_ms()).clamp(5, 60_000);
            ctx.request_repaint_after(std::time::Duration::from_millis(millis as u64));
        }
    }

    fn ui(&mut self, ui: &mut egui::Ui, _frame: &mut eframe::Frame) {
        self.view.show(ui, &self.app, &mut self.commands);
        for command in std::mem::take(&mut self.commands) {
            self.app.apply(command);
        }
        if !self.drawn {
            self.drawn = true;
            ui.ctx().request_repaint();
        }
    }

    fn on_exit(&mut self) {
        self.app.close();
    }
}
