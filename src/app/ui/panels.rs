//! The panels beside the chat: next to it where there is room, drawn over it like drawers where there is none (a phone).

use eframe::egui;
use egui::{Align2, Frame, Margin, Panel, Ui, Vec2};

use super::{View, inside, sidebar};
use crate::app::{App, Command, Settings, theme};

/// What a chat needs beside a panel, in points.
const CHAT_WIDTH: f32 = 380.0;
/// What a drawer leaves of the chat, to be tapped.
const LEFT_FREE: f32 = 48.0;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Drawer {
    Sidebar,
    Inside,
}

/// Which panels are beside the chat when they are wanted; the others are drawers.
#[derive(Clone, Copy, Default)]
pub struct Beside {
    pub sidebar: bool,
    pub inside: bool,
}

impl Beside {
    /// In a window of this width: the view inside was asked for later than the sidebar, which makes room for it.
    pub fn of(width: f32, wants_inside: bool) -> Self {
        let inside = width >= CHAT_WIDTH + theme::INSIDE_WIDTH;
        let rest = if inside && wants_inside { width - theme::INSIDE_WIDTH } else { width };
        Self { sidebar: rest >= CHAT_WIDTH + theme::SIDEBAR_WIDTH, inside }
    }

    fn has(self, drawer: Drawer) -> bool {
        match drawer {
            Drawer::Sidebar => self.sidebar,
            Drawer::Inside => self.inside,
        }
    }
}

fn frame(ui: &Ui, drawer: Drawer) -> Frame {
    let margin = match drawer {
        Drawer::Sidebar => Margin::symmetric(10, 10),
        Drawer::Inside => Margin::symmetric(14, 10),
    };
    Frame::new().fill(theme::palette(ui).side).inner_margin(margin)
}

fn content(ui: &mut Ui, app: &App, view: &mut View, drawer: Drawer) {
    match drawer {
        Drawer::Sidebar => sidebar::show(ui, app, view),
        Drawer::Inside => inside::show(ui, app, view),
    }
}

/// The panels that are beside the chat.
pub fn show(ui: &mut Ui, app: &App, view: &mut View) {
    view.drawer = view.drawer.filter(|drawer| !view.beside.has(*drawer));
    if app.settings.sidebar && view.beside.sidebar {
        let panel = Panel::left("sidebar").default_size(theme::SIDEBAR_WIDTH).size_range(200.0..=420.0);
        let panel = panel.frame(frame(ui, Drawer::Sidebar)).show_separator_line(false);
        panel.show(ui, |ui| content(ui, app, view, Drawer::Sidebar));
    }
    if app.settings.inside && view.beside.inside {
        let panel = Panel::right("inside").default_size(theme::INSIDE_WIDTH).size_range(280.0..=560.0);
        let panel = panel.frame(frame(ui, Drawer::Inside)).show_separator_line(false);
        panel.show(ui, |ui| content(ui, app, view, Drawer::Inside));
    }
}

/// The drawer that is open, over everything.
pub fn drawer(ui: &mut Ui, app: &App, view: &mut View) {
    let Some(drawer) = view.drawer else { return };
    let frame = frame(ui, drawer);
    let screen = ui.ctx().content_rect();
    let (anchor, usual) = match drawer {
        Drawer::Sidebar => (Align2::LEFT_TOP, theme::SIDEBAR_WIDTH + 40.0),
        Drawer::Inside => (Align2::RIGHT_TOP, theme::INSIDE_WIDTH),
    };
    let size = Vec2::new(usual.min(screen.width() - LEFT_FREE), screen.height()) - frame.inner_margin.sum();
    let id = egui::Id::unique(("drawer", drawer as u8));
    let area = egui::Modal::default_area(id).default_size(screen.size()).anchor(anchor, Vec2::ZERO).fade_in(false);
    let backdrop = super::backdrop(theme::palette(ui));
    let modal = egui::Modal::new(id).area(area).frame(frame).backdrop_color(backdrop).show(ui.ctx(), |ui| {
        ui.set_min_size(size);
        ui.set_max_size(size);
        content(ui, app, view, drawer);
    });
    if modal.should_close() {
        view.drawer = None;
    }
}

impl View {
    pub(super) fn toggle_sidebar(&mut self, app: &App) {
        if !self.beside.sidebar {
            self.drawer = (self.drawer != Some(Drawer::Sidebar)).then_some(Drawer::Sidebar);
            return;
        }
        let settings = Settings { sidebar: !app.settings.sidebar, ..app.settings.clone() };
        self.commands.push(Command::SetSettings(Box::new(settings)));
    }

    /// Opens the sidebar if it is not there.
    pub(super) fn open_sidebar(&mut self, app: &App) {
        let is_there = if self.beside.sidebar { app.settings.sidebar } else { self.drawer == Some(Drawer::Sidebar) };
        if !is_there {
            self.toggle_sidebar(app);
        }
    }

    /// Answers are watched while the panel is wanted, also where it is a drawer that is shut for now.
    pub(super) fn toggle_inside(&mut self, app: &App) {
        let mut wanted = !app.settings.inside;
        if !self.beside.inside {
            wanted = self.drawer != Some(Drawer::Inside);
            self.drawer = wanted.then_some(Drawer::Inside);
        }
        let settings = Settings { inside: wanted, ..app.settings.clone() };
        self.commands.push(Command::SetSettings(Box::new(settings)));
    }
}
