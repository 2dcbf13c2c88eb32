//! Keyboard shortcuts: one table that the window obeys, and that tooltips and the palette show.

use eframe::egui;
use egui::{Key, KeyboardShortcut, Modifiers};

const COMMAND: Modifiers = Modifiers::COMMAND;
const COMMAND_SHIFT: Modifiers = Modifiers::COMMAND.plus(Modifiers::SHIFT);

pub const NEW_CHAT: KeyboardShortcut = KeyboardShortcut::new(COMMAND, Key::N);
pub const SEARCH: KeyboardShortcut = KeyboardShortcut::new(COMMAND, Key::F);
pub const PALETTE: KeyboardShortcut = KeyboardShortcut::new(COMMAND, Key::K);
pub const SETTINGS: KeyboardShortcut = KeyboardShortcut::new(COMMAND, Key::Comma);
pub const MODELS: KeyboardShortcut = KeyboardShortcut::new(COMMAND, Key::L);
pub const SIDEBAR: KeyboardShortcut = KeyboardShortcut::new(COMMAND, Key::B);
pub const INSIDE: KeyboardShortcut = KeyboardShortcut::new(COMMAND, Key::I);
pub const ATTACH: KeyboardShortcut = KeyboardShortcut::new(COMMAND, Key::O);
pub const REGENERATE: KeyboardShortcut = KeyboardShortcut::new(COMMAND, Key::R);
pub const EDIT_LAST: KeyboardShortcut = KeyboardShortcut::new(COMMAND, Key::E);
pub const COPY_LAST: KeyboardShortcut = KeyboardShortcut::new(COMMAND_SHIFT, Key::C);
pub const UNDO: KeyboardShortcut = KeyboardShortcut::new(COMMAND_SHIFT, Key::Z);
pub const PREVIOUS_CHAT: KeyboardShortcut = KeyboardShortcut::new(Modifiers::ALT, Key::ArrowUp);
pub const NEXT_CHAT: KeyboardShortcut = KeyboardShortcut::new(Modifiers::ALT, Key::ArrowDown);
pub const STOP: KeyboardShortcut = KeyboardShortcut::new(Modifiers::NONE, Key::Escape);
pub const SEND: KeyboardShortcut = KeyboardShortcut::new(Modifiers::NONE, Key::Enter);
pub const NEW_LINE: KeyboardShortcut = KeyboardShortcut::new(Modifiers::SHIFT, Key::Enter);

/// Whether this shortcut was pressed; no one else sees it then.
pub fn pressed(ctx: &egui::Context, shortcut: &KeyboardShortcut) -> bool {
    ctx.input_mut(|input| input.consume_shortcut(shortcut))
}

/// Return by itself: with shift it breaks the line, and egui would take it for the same.
pub fn entered(ctx: &egui::Context) -> bool {
    ctx.input_mut(|input| input.modifiers.is_none() && input.consume_shortcut(&SEND))
}

/// A shortcut as it is written on keys.
pub fn text(ctx: &egui::Context, shortcut: &KeyboardShortcut) -> String {
    ctx.format_shortcut(shortcut).replace("Comma", ",").replace("Escape", "Esc")
}

/// A name with its shortcut, for tooltips.
pub fn named(ctx: &egui::Context, name: &str, shortcut: &KeyboardShortcut) -> String {
    format!("{name}  ({})", text(ctx, shortcut))
}
