//! The model picker: what is on this machine, whether it fits, and how far loading is.

use eframe::egui;
use egui::{Align, Color32, Layout, RichText, ScrollArea, Sense, Stroke, StrokeKind, Ui, vec2};

use super::dialogs::Ask;
use super::widgets::{self, Look};
use super::{View, icons, keys};
use crate::app::i18n::Texts;
use crate::app::{App, Command, Fit, ModelEntry, ModelHeader, ModelRef, Opening, Stage, theme};

/// The button in the bar above the chat: the running model, or how far the next one is.
pub fn button(ui: &mut Ui, app: &App, view: &mut View) {
    let texts = view.texts;
    let palette = theme::palette(ui);
    if let Some(opening) = &app.opening {
        let far = before_loading(texts, opening).unwrap_or_else(|| texts.loading.fill(&[&opening.name]));
        const BAR: f32 = 96.0;
        let beside = BAR + theme::CONTROL_HEIGHT + 2.0 * ui.spacing().item_spacing.x;
        ui.scope(|ui| {
            ui.set_max_width((ui.available_width() - beside).max(0.0));
            ui.add(egui::Label::new(RichText::new(far).color(palette.text_weak)).truncate());
        });
        widgets::bar(ui, BAR, share(opening), palette.accent, texts.load_progress);
        if widgets::icon_button_of(ui, icons::CLOSE, texts.cancel_loading, Look { small: true, ..Look::default() }).clicked() {
            view.commands.push(Command::CancelOpening);
        }
        return;
    }
    let (name, colour) = match &app.model {
        Some(model) => (model.name.as_str(), palette.text),
        None => (texts.choose_model, palette.accent),
    };
    let text = RichText::new(format!("{}  {name}  {}", icons::MODEL, icons::EXPANDED)).color(colour);
    let response = ui.add(egui::Button::new(text).frame_when_inactive(false).corner_radius(theme::RADIUS).truncate());
    response.widget_info(|| egui::WidgetInfo::labeled(egui::accesskit::Role::Button, true, format!("{}: {name}", texts.model)));
    if response.on_hover_text(keys::named(ui.ctx(), texts.models, &keys::MODELS)).clicked() {
        view.open_models();
    }
}

fn share(opening: &Opening) -> f32 {
    let (done, total) = match opening.stage {
        Stage::Device | Stage::Download(_, None) => return 0.0,
        Stage::Download(done, Some(total)) => (done, total),
        Stage::Measuring(done, total) => (done as u64, total as u64),
        Stage::Loading(progress) => (progress.done_bytes, progress.total_bytes),
    };
    done as f32 / total.max(1) as f32
}

/// What comes before loading and takes its time: how far the download is, or that the device is being measured.
pub fn before_loading(texts: &Texts, opening: &Opening) -> Option<String> {
    match opening.stage {
        Stage::Download(done, Some(total)) => Some(texts.downloading.fill(&[&widgets::bytes(done), &widgets::bytes(total)])),
        Stage::Download(done, None) => Some(texts.downloading_unknown.fill(&[&widgets::bytes(done)])),
        Stage::Measuring(..) => Some(texts.measuring_device.to_owned()),
        Stage::Device | Stage::Loading(_) => None,
    }
}

pub fn show(ui: &mut Ui, app: &App, view: &mut View) {
    let texts = view.texts;
    super::dialog_title(ui, view, texts.models);
    if let Some(opening) = &app.opening {
        loading(ui, view, opening);
    }
    let height = (ui.ctx().content_rect().height() - 280.0).max(120.0);
    ScrollArea::vertical().id_salt("models").max_height(height).show(ui, |ui| {
        ui.spacing_mut().item_spacing.y = theme::TINY;
        if app.library.models.is_empty() {
            let text = if app.library.scanning { texts.looking_for_models } else { texts.no_models };
            ui.add_space(theme::MEDIUM);
            ui.vertical_centered(|ui| widgets::weak(ui, text));
            ui.add_space(theme::MEDIUM);
        }
        for (index, entry) in app.library.models.iter().enumerate() {
            row(ui, app, view, index, entry);
        }
    });
    ui.add_space(theme::SMALL);
    ui.horizontal(|ui| {
        if widgets::plain_button(ui, &format!("{}  {}", icons::FILE, texts.open_file)).clicked() {
            view.asks.push(Ask::ModelFile);
        }
        // A browser gives a folder's files, not the folder.
        let has_folders = cfg!(not(target_arch = "wasm32"));
        if has_folders && widgets::plain_button(ui, &format!("{}  {}", icons::FOLDER, texts.open_folder)).clicked() {
            view.asks.push(Ask::ModelFolder);
        }
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            if widgets::icon_button(ui, icons::REGENERATE, texts.look_again).clicked() {
                view.commands.push(Command::ScanModels);
            }
        });
    });
    if cfg!(target_arch = "wasm32") {
        address(ui, view);
    }
    ui.add_space(theme::TINY);
    ui.add(egui::Label::new(RichText::new(texts.models_hint).font(theme::tiny()).color(theme::palette(ui).text_faint)).wrap());
}

/// A field for a model's address.
fn address(ui: &mut Ui, view: &mut View) {
    let texts = view.texts;
    ui.add_space(theme::TINY);
    ui.horizontal(|ui| {
        let width = (ui.available_width() - 80.0).max(80.0);
        let field = egui::TextEdit::singleline(&mut view.model_address).hint_text(texts.model_address).desired_width(width);
        let response = ui.add(field);
        response.widget_info(|| egui::WidgetInfo::labeled(egui::accesskit::Role::TextInput, true, texts.model_address));
        let entered = response.lost_focus() && ui.input(|input| input.key_pressed(egui::Key::Enter));
        if (widgets::plain_button(ui, texts.add).clicked() || entered) && !view.model_address.trim().is_empty() {
            let address = std::mem::take(&mut view.model_address);
            view.commands.push(Command::OpenModel(ModelRef::Path(address.trim().into())));
        }
    });
}

fn loading(ui: &mut Ui, view: &mut View, opening: &Opening) {
    let texts = view.texts;
    let palette = theme::palette(ui);
    egui::Frame::new().fill(palette.accent_soft).corner_radius(theme::RADIUS).inner_margin(egui::Margin::symmetric(12, 8)).show(ui, |ui| {
        ui.horizontal(|ui| {
            ui.vertical(|ui| {
                ui.label(texts.loading.fill(&[&opening.name]));
                let far = before_loading(texts, opening).unwrap_or_else(|| match opening.stage {
                    Stage::Loading(progress) => {
                        texts.memory_of.fill(&[&widgets::bytes(progress.done_bytes), &widgets::bytes(progress.total_bytes)])
                    }
                    _ => texts.opening_device.to_owned(),
                });
                ui.label(RichText::new(far).font(theme::tiny()).color(palette.text_weak));
                widgets::bar(ui, (ui.available_width() - 110.0).max(40.0), share(opening), palette.accent, texts.load_progress);
            });
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                if widgets::plain_button(ui, texts.cancel_loading).clicked() {
                    view.commands.push(Command::CancelOpening);
                }
            });
        });
    });
    ui.add_space(theme::TINY);
}

/// What a header says, on one line.
fn describe(texts: &Texts, header: &ModelHeader) -> String {
    let size = widgets::bytes(header.weight_bytes);
    let mut text = format!("{size} · {} · {} · {}", header.layout, header.formats, header.architecture);
    if let Some((experts, chosen)) = header.experts.filter(|(experts, chosen)| experts > chosen) {
        text += &format!(" · {}", texts.experts_of.fill(&[&experts.to_string(), &chosen.to_string()]));
    }
    text
}

fn fit_chip(ui: &mut Ui, texts: &Texts, fit: Fit) {
    let palette = theme::palette(ui);
    let (text, colour, fill, hint) = match fit {
        Fit::Fits => (texts.fits, palette.accent, palette.accent_soft, texts.fits_hint),
        Fit::Tight => (texts.tight, palette.warning, palette.warning_soft, texts.tight_hint),
        Fit::TooLarge => (texts.too_large, palette.danger, palette.danger_soft, texts.too_large_hint),
        Fit::Unknown => (texts.fit_unknown, palette.text_weak, palette.raised, texts.fit_unknown_hint),
    };
    widgets::chip(ui, text, colour, fill).on_hover_text(hint);
}

fn row(ui: &mut Ui, app: &App, view: &mut View, index: usize, entry: &ModelEntry) {
    let texts = view.texts;
    let palette = theme::palette(ui);
    let running = app.model.as_ref().is_some_and(|model| model.path == entry.path);
    let (rect, response) = ui.allocate_exact_size(vec2(ui.available_width(), 52.0), Sense::click());
    let name = if entry.model == ModelRef::Default { texts.default_model.fill(&[&entry.name]) } else { entry.name.clone() };
    response.widget_info(|| egui::WidgetInfo::selected(egui::accesskit::Role::Button, true, running, texts.open_model.fill(&[&name])));
    let lit = response.hovered() || response.has_focus();
    let fill = match (running, lit) {
        (true, _) => palette.selected,
        (false, true) => palette.hover,
        (false, false) => Color32::TRANSPARENT,
    };
    let stroke = if response.has_focus() { Stroke::new(1.5, palette.accent) } else { Stroke::NONE };
    ui.painter().rect(rect, theme::RADIUS, fill, stroke, StrokeKind::Inside);
    let mut child = ui.new_child(
        egui::UiBuilder::new()
            .id_salt(("model", index))
            .max_rect(rect.shrink2(vec2(12.0, 0.0)))
            .layout(Layout::right_to_left(Align::Center)),
    );
    let ui = &mut child;
    if running {
        if widgets::plain_button(ui, texts.unload).clicked() {
            view.commands.push(Command::UnloadModel);
        }
    } else if let Ok(header) = &entry.header {
        fit_chip(ui, texts, header.fit(app.library.memory_bytes));
    }
    let stored = app.library.space.is_some() && entry.model != ModelRef::Default;
    if stored
        && !running
        && widgets::icon_button_of(ui, icons::CLOSE, texts.remove_model, Look { small: true, ..Look::default() }).clicked()
    {
        view.commands.push(Command::RemoveModel(entry.path.clone()));
    }
    let recent = app.settings.recent_models.contains(&entry.path);
    if recent
        && !stored
        && !running
        && lit
        && widgets::icon_button_of(ui, icons::CLOSE, texts.forget_model, Look { small: true, ..Look::default() }).clicked()
    {
        view.commands.push(Command::ForgetModel(entry.path.clone()));
    }
    ui.with_layout(Layout::top_down(Align::LEFT), |ui| {
        ui.spacing_mut().item_spacing.y = 2.0;
        ui.add_space(9.0);
        ui.add(egui::Label::new(RichText::new(&name).font(theme::strong(theme::TEXT_SMALL)).color(palette.text)).truncate());
        let (text, colour) = match &entry.header {
            Ok(header) => (describe(texts, header), palette.text_weak),
            Err(reason) => (reason.clone(), palette.danger),
        };
        ui.add(egui::Label::new(RichText::new(text).font(theme::tiny()).color(colour)).truncate());
    });
    let path = entry.path.display().to_string();
    let clicked = response.clicked();
    response.on_hover_text(path);
    if clicked && !running {
        view.commands.push(Command::OpenModel(entry.model.clone()));
        view.overlay = None;
    }
}
