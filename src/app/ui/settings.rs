//! Settings: of the chat in front, of the program, of the device.

use eframe::egui;
use egui::{Align, ComboBox, DragValue, Layout, RichText, ScrollArea, Slider, TextEdit, Ui, vec2};

use super::dialogs::Ask;
use super::widgets::{self, Look};
use super::{View, icons};
use crate::app::i18n::Texts;
use crate::app::worker::StorageSpace;
use crate::app::{App, ChatSettings, Command, Language, Settings, Theme, Thinking, ZOOM, theme};
use crate::sampler::Sampling;

const LABEL_WIDTH: f32 = 168.0;
/// What the widest control takes.
const CONTROLS_WIDTH: f32 = 330.0;
const GIB: f64 = (1_u64 << 30) as f64;

#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum Tab {
    #[default]
    Chat,
    General,
    Device,
}

pub fn show(ui: &mut Ui, app: &App, view: &mut View) {
    let texts = view.texts;
    super::dialog_title(ui, view, texts.settings);
    ui.horizontal(|ui| {
        for (tab, name) in [(Tab::Chat, texts.this_chat), (Tab::General, texts.general), (Tab::Device, texts.device)] {
            let on = view.tab == tab;
            let palette = theme::palette(ui);
            let text = RichText::new(name).color(if on { palette.text } else { palette.text_weak });
            let fill = if on { palette.selected } else { egui::Color32::TRANSPARENT };
            let response = ui.add(egui::Button::new(text).fill(fill).frame_when_inactive(on));
            response.widget_info(|| egui::WidgetInfo::selected(egui::accesskit::Role::Tab, true, on, name));
            if response.clicked() {
                view.tab = tab;
            }
        }
    });
    ui.add_space(theme::SMALL);
    let height = (ui.ctx().content_rect().height() - 190.0).max(160.0);
    ScrollArea::vertical().id_salt(("settings", view.tab as u8)).auto_shrink([false, true]).max_height(height).show(ui, |ui| {
        ui.spacing_mut().item_spacing.y = theme::SMALL;
        match view.tab {
            Tab::Chat => chat(ui, app, view),
            Tab::General => general(ui, app, view),
            Tab::Device => device(ui, app, view),
        }
    });
}

/// A label at the left and a control beside it; where there is no room, the control below.
fn row(ui: &mut Ui, label: &str, hint: &str, control: impl FnOnce(&mut Ui)) {
    let palette = theme::palette(ui);
    if ui.available_width() < LABEL_WIDTH + CONTROLS_WIDTH {
        let response = ui.label(RichText::new(label).font(theme::small()).color(palette.text));
        if !hint.is_empty() {
            response.on_hover_text(hint);
        }
        ui.horizontal_wrapped(control);
        ui.add_space(theme::TINY);
        return;
    }
    ui.horizontal(|ui| {
        let (rect, response) = ui.allocate_exact_size(vec2(LABEL_WIDTH, theme::CONTROL_HEIGHT), egui::Sense::hover());
        let galley = ui.fonts_mut(|fonts| fonts.layout(label.to_owned(), theme::small(), palette.text, LABEL_WIDTH));
        ui.painter().galley(rect.left_center() - vec2(0.0, galley.size().y / 2.0), galley, palette.text);
        if !hint.is_empty() {
            response.on_hover_text(hint);
        }
        control(ui);
    });
}

/// Names the last widget for screen readers.
fn named(response: &egui::Response, role: egui::accesskit::Role, name: &str) {
    response.widget_info(|| egui::WidgetInfo::labeled(role, true, name));
}

/// A number that is as the model recommends until the user takes it in hand.
fn own_number(
    ui: &mut Ui,
    texts: &Texts,
    label: &str,
    hint: &str,
    value: &mut Option<f32>,
    recommended: f32,
    range: std::ops::RangeInclusive<f32>,
) {
    row(ui, label, hint, |ui| {
        let mut number = value.unwrap_or(recommended);
        let shown = range.clone();
        let mut slid = number;
        let slider = Slider::new(&mut slid, range).max_decimals(2).step_by(0.01);
        let palette = theme::palette(ui);
        let response = ui
            .scope(|ui| {
                ui.spacing_mut().slider_width = if ui.available_width() < CONTROLS_WIDTH { 130.0 } else { 190.0 };
                ui.spacing_mut().interact_size.y = 20.0;
                let widgets = &mut ui.visuals_mut().widgets;
                for state in [&mut widgets.inactive, &mut widgets.hovered, &mut widgets.active] {
                    state.fg_stroke = egui::Stroke::new(1.5, palette.accent);
                }
                ui.visuals_mut().selection.bg_fill = palette.accent;
                ui.add(slider.show_value(false))
            })
            .inner;
        let typed = ui.add(DragValue::new(&mut number).range(shown).speed(0.01).max_decimals(2));
        named(&typed, egui::accesskit::Role::SpinButton, label);
        named(&response, egui::accesskit::Role::Slider, label);
        if response.changed() {
            *value = Some(slid);
        } else if typed.changed() {
            *value = Some(number);
        }
        reset(ui, texts, value);
    });
}

/// Gives a value back to the model, where the user had taken it.
fn reset<T>(ui: &mut Ui, texts: &Texts, value: &mut Option<T>) {
    if value.is_some() && widgets::icon_button_of(ui, icons::UNDO, texts.as_recommended, Look { small: true, ..Look::default() }).clicked()
    {
        *value = None;
    }
    if value.is_none() {
        let palette = theme::palette(ui);
        ui.label(RichText::new(texts.recommended).font(theme::tiny()).color(palette.text_faint));
    }
}

fn own_count(
    ui: &mut Ui,
    label: &str,
    hint: &str,
    value: &mut Option<usize>,
    unset: &str,
    first: usize,
    range: std::ops::RangeInclusive<usize>,
) {
    row(ui, label, hint, |ui| {
        let mut on = value.is_some();
        let response = ui.checkbox(&mut on, "");
        named(&response, egui::accesskit::Role::CheckBox, label);
        if response.changed() {
            *value = on.then_some(first);
        }
        match value {
            Some(count) => {
                let response = ui.add(DragValue::new(count).range(range).speed(8.0));
                named(&response, egui::accesskit::Role::SpinButton, label);
            }
            None => {
                widgets::weak(ui, unset);
            }
        }
    });
}

fn chat(ui: &mut Ui, app: &App, view: &mut View) {
    let texts = view.texts;
    let before = &app.chat().head.settings;
    let mut settings = before.clone();
    presets(ui, app, view);
    ui.add_space(theme::TINY);
    widgets::caption(ui, texts.instructions);
    let field = TextEdit::multiline(&mut settings.system)
        .hint_text(RichText::new(texts.instructions_hint).color(theme::palette(ui).text_faint))
        .desired_rows(4)
        .desired_width(f32::INFINITY);
    let response = ui.add(field);
    named(&response, egui::accesskit::Role::MultilineTextInput, texts.instructions);
    ui.add_space(theme::TINY);
    widgets::caption(ui, texts.sampling);
    let model = app.model.as_ref();
    let recommended = model.map_or_else(Sampling::default, |model| model.default_sampling);
    numbers(ui, texts, &mut settings, recommended);
    if model.is_none_or(|model| model.thinking_is_a_choice) {
        row(ui, texts.thinking_setting, texts.thinking_hint, |ui| {
            for (thinking, name) in
                [(Thinking::Auto, texts.thinking_auto), (Thinking::On, texts.thinking_on), (Thinking::Off, texts.thinking_off)]
            {
                ui.radio_value(&mut settings.thinking, thinking, name);
            }
        });
    }
    widgets::caption(ui, texts.lengths);
    let most = model.map_or(1 << 20, |model| model.max_positions.max(1));
    own_count(
        ui,
        texts.context,
        texts.context_setting_hint,
        &mut settings.context,
        texts.automatic,
        model.map_or(8192, |model| model.context),
        256..=most.max(256),
    );
    own_count(ui, texts.most_tokens, texts.most_tokens_hint, &mut settings.max_tokens, texts.no_limit, 1024, 1..=most);
    if settings != *before {
        view.commands.push(Command::SetChatSettings(settings.clone()));
    }
    ui.add_space(theme::TINY);
    ui.horizontal(|ui| {
        let same = app.settings.new_chat == settings;
        ui.add_enabled_ui(!same, |ui| {
            if widgets::plain_button(ui, texts.use_for_new_chats).clicked() {
                let settings = Settings { new_chat: settings.clone(), ..app.settings.clone() };
                view.commands.push(Command::SetSettings(Box::new(settings)));
            }
        });
        if settings != ChatSettings::default() && widgets::text_button(ui, texts.reset_all).clicked() {
            view.commands.push(Command::SetChatSettings(ChatSettings::default()));
        }
    });
}

fn numbers(ui: &mut Ui, texts: &Texts, settings: &mut ChatSettings, recommended: Sampling) {
    own_number(ui, texts, texts.temperature, texts.temperature_hint, &mut settings.temperature, recommended.temperature, 0.0..=2.0);
    own_number(ui, texts, "Top-p", texts.top_p_hint, &mut settings.top_p, recommended.top_p, 0.01..=1.0);
    row(ui, "Top-k", texts.top_k_hint, |ui| {
        let mut top_k = settings.top_k.unwrap_or(recommended.top_k);
        let response = ui.add(DragValue::new(&mut top_k).range(0..=1000));
        named(&response, egui::accesskit::Role::SpinButton, "Top-k");
        if response.changed() {
            settings.top_k = Some(top_k);
        }
        reset(ui, texts, &mut settings.top_k);
    });
    own_number(ui, texts, "Min-p", texts.min_p_hint, &mut settings.min_p, recommended.min_p, 0.0..=1.0);
    row(ui, texts.seed, texts.seed_hint, |ui| {
        let mut fixed = settings.seed.is_some();
        let response = ui.checkbox(&mut fixed, "");
        named(&response, egui::accesskit::Role::CheckBox, texts.seed);
        if response.changed() {
            settings.seed = fixed.then_some(0);
        }
        match &mut settings.seed {
            Some(seed) => {
                let response = ui.add(DragValue::new(seed).speed(1.0));
                named(&response, egui::accesskit::Role::SpinButton, texts.seed);
            }
            None => {
                widgets::weak(ui, texts.seed_random);
            }
        }
    });
}

fn presets(ui: &mut Ui, app: &App, view: &mut View) {
    let texts = view.texts;
    widgets::caption(ui, texts.presets);
    ui.horizontal_wrapped(|ui| {
        for (index, preset) in app.presets.iter().enumerate() {
            let on = preset.settings == app.chat().head.settings;
            let response = ui.add(egui::Button::new(&preset.name).selected(on));
            response.context_menu(|ui| {
                if ui.button(texts.delete_preset).clicked() {
                    view.commands.push(Command::DeletePreset(preset.name.clone()));
                }
            });
            if response.clicked() {
                view.commands.push(Command::ApplyPreset(preset.name.clone()));
            }
            let name = format!("{}: {}", texts.delete_preset, preset.name);
            ui.push_id(index, |ui| {
                if widgets::icon_button_of(ui, icons::CLOSE, &name, Look { small: true, ..Look::default() }).clicked() {
                    view.commands.push(Command::DeletePreset(preset.name.clone()));
                }
            });
        }
        let field = TextEdit::singleline(&mut view.preset_name)
            .hint_text(RichText::new(texts.preset_name).color(theme::palette(ui).text_faint))
            .desired_width(150.0);
        let response = ui.add(field);
        named(&response, egui::accesskit::Role::TextInput, texts.preset_name);
        let entered = response.lost_focus() && ui.input(|input| input.key_pressed(egui::Key::Enter));
        let named = !view.preset_name.trim().is_empty();
        let saved = ui.add_enabled(named, egui::Button::new(texts.save_preset)).clicked();
        if named && (saved || entered) {
            view.commands.push(Command::SavePreset(std::mem::take(&mut view.preset_name).trim().to_owned()));
        }
    });
}

fn general(ui: &mut Ui, app: &App, view: &mut View) {
    let texts = view.texts;
    let mut settings = app.settings.clone();
    row(ui, texts.theme, "", |ui| {
        for (theme, name) in [(Theme::System, texts.theme_system), (Theme::Light, texts.theme_light), (Theme::Dark, texts.theme_dark)] {
            ui.radio_value(&mut settings.theme, theme, name);
        }
    });
    row(ui, texts.language, "", |ui| {
        for (language, name) in [(Language::System, texts.language_system), (Language::English, "English"), (Language::Chinese, "简体中文")]
        {
            ui.radio_value(&mut settings.language, language, name);
        }
    });
    row(ui, texts.zoom, texts.zoom_hint, |ui| {
        let mut percent = (settings.zoom * 100.0).round();
        let response = ui.add(DragValue::new(&mut percent).range(ZOOM.start() * 100.0..=ZOOM.end() * 100.0).suffix(" %").speed(1.0));
        named(&response, egui::accesskit::Role::SpinButton, texts.zoom);
        // While it is dragged the whole window would jump below the pointer.
        if response.drag_stopped() || (response.changed() && !response.dragged()) {
            settings.zoom = percent / 100.0;
        }
    });
    widgets::caption(ui, texts.chats);
    if cfg!(not(target_arch = "wasm32")) {
        data_folder(ui, app, view);
    }
    row(ui, texts.backup, "", |ui| {
        if widgets::plain_button(ui, texts.export_all).clicked() {
            view.asks.push(Ask::ExportAll);
        }
        if widgets::plain_button(ui, texts.import).clicked() {
            view.asks.push(Ask::Import);
        }
    });
    match &app.library.space {
        Some(space) => storage(ui, space, view),
        None => model_folders(ui, app, view),
    }
    if settings != app.settings {
        view.commands.push(Command::SetSettings(Box::new(settings)));
    }
}

fn data_folder(ui: &mut Ui, app: &App, view: &mut View) {
    let texts = view.texts;
    row(ui, texts.data_folder, texts.data_folder_hint, |ui| {
        if widgets::plain_button(ui, texts.change_folder).clicked() {
            view.asks.push(Ask::DataFolder);
        }
        let folder = app.places.data.as_ref().map_or_else(|| texts.in_memory.to_owned(), |folder| folder.display().to_string());
        let palette = theme::palette(ui);
        ui.add(egui::Label::new(RichText::new(folder).color(palette.text_weak)).truncate().selectable(true));
    });
}

fn model_folders(ui: &mut Ui, app: &App, view: &mut View) {
    let texts = view.texts;
    widgets::caption(ui, texts.model_folders);
    let mut folders = app.settings.model_folders.clone();
    if let Some(models) = app.places.models() {
        folders.insert(0, models);
    }
    for (index, folder) in folders.iter().enumerate() {
        ui.horizontal(|ui| {
            let palette = theme::palette(ui);
            ui.label(RichText::new(icons::FOLDER).color(palette.text_faint));
            ui.add(egui::Label::new(RichText::new(folder.display().to_string()).color(palette.text_weak)).truncate());
            if app.settings.model_folders.contains(folder) {
                let name = texts.remove_folder.fill(&[&folder.display().to_string()]);
                ui.push_id(index, |ui| {
                    if widgets::icon_button_of(ui, icons::CLOSE, &name, Look { small: true, ..Look::default() }).clicked() {
                        view.commands.push(Command::RemoveModelFolder(folder.clone()));
                    }
                });
            }
        });
    }
    if widgets::plain_button(ui, texts.add_folder).clicked() {
        view.asks.push(Ask::AddModelFolder);
    }
}

/// What a tab takes of the browser's storage; models are deleted where they are listed.
fn storage(ui: &mut Ui, space: &StorageSpace, view: &mut View) {
    let texts = view.texts;
    widgets::caption(ui, texts.storage);
    row(ui, texts.storage_used, "", |ui| {
        let text = texts.storage_of.fill(&[&widgets::bytes(space.usage_bytes), &widgets::bytes(space.quota_bytes)]);
        ui.label(space.denied.clone().unwrap_or(text));
    });
    if space.denied.is_none() {
        row(ui, if space.persisted { texts.storage_kept } else { texts.storage_may_go }, "", |ui| {
            if !space.persisted && widgets::plain_button(ui, texts.storage_keep).clicked() {
                view.commands.push(Command::Persist);
            }
        });
    }
}

fn device(ui: &mut Ui, app: &App, view: &mut View) {
    let texts = view.texts;
    let palette = theme::palette(ui);
    let settings = view.device.get_or_insert_with(|| app.settings.clone());
    ui.add(egui::Label::new(RichText::new(texts.device_hint).color(palette.text_weak)).wrap());
    row(ui, texts.adapter, texts.adapter_hint, |ui| {
        let shown = settings.adapter.clone().unwrap_or_else(|| texts.automatic.to_owned());
        let response = ComboBox::from_id_salt("adapter").selected_text(shown).width(260.0).show_ui(ui, |ui| {
            ui.selectable_value(&mut settings.adapter, None, texts.automatic);
            for adapter in app.library.adapters.iter().flatten() {
                let name = format!("{} · {}", adapter.name, adapter.backend);
                ui.selectable_value(&mut settings.adapter, Some(adapter.name.clone()), name);
            }
        });
        named(&response.response, egui::accesskit::Role::ComboBox, texts.adapter);
    });
    row(ui, texts.backend, "", |ui| {
        let shown = settings.backend.clone().unwrap_or_else(|| texts.automatic.to_owned());
        let response = ComboBox::from_id_salt("backend").selected_text(shown).show_ui(ui, |ui| {
            ui.selectable_value(&mut settings.backend, None, texts.automatic);
            for backend in ["vulkan", "metal", "dx12", "gl"] {
                ui.selectable_value(&mut settings.backend, Some(backend.to_owned()), backend);
            }
        });
        named(&response.response, egui::accesskit::Role::ComboBox, texts.backend);
    });
    row(ui, texts.memory_budget, texts.memory_budget_hint, |ui| {
        let mut limited = settings.memory_bytes.is_some();
        let response = ui.checkbox(&mut limited, "");
        named(&response, egui::accesskit::Role::CheckBox, texts.memory_budget);
        if response.changed() {
            let all = app.library.memory_bytes.unwrap_or(4 << 30);
            settings.memory_bytes = limited.then_some(all);
        }
        match &mut settings.memory_bytes {
            Some(bytes) => {
                let mut gib = *bytes as f64 / GIB;
                let response = ui.add(DragValue::new(&mut gib).range(0.1..=4096.0).suffix(" GiB").speed(0.05).max_decimals(2));
                named(&response, egui::accesskit::Role::SpinButton, texts.memory_budget);
                if response.changed() {
                    *bytes = (gib * GIB) as u64;
                }
            }
            None => {
                widgets::weak(ui, texts.automatic);
            }
        }
    });
    row(ui, texts.abilities, texts.abilities_hint, |ui| {
        for ability in ["subgroups", "f16", "coop", "images"] {
            let mut on = !settings.disabled.iter().any(|other| other == ability);
            if ui.checkbox(&mut on, ability).changed() {
                settings.disabled.retain(|other| other != ability);
                if !on {
                    settings.disabled.push(ability.to_owned());
                }
            }
        }
    });
    row(ui, texts.deterministic, texts.deterministic_hint, |ui| {
        let response = ui.checkbox(&mut settings.deterministic, texts.deterministic_on);
        named(&response, egui::accesskit::Role::CheckBox, texts.deterministic);
    });
    let changed = *settings != app.settings;
    ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
        ui.add_enabled_ui(changed, |ui| {
            if widgets::primary_button(ui, texts.apply_device).clicked()
                && let Some(settings) = view.device.take()
            {
                view.commands.push(Command::SetSettings(Box::new(settings)));
            }
        });
        if changed && widgets::text_button(ui, texts.cancel).clicked() {
            view.device = None;
        }
    });
}
