//! The inside view: which experts the tokens of an answer used, how even the load is, how decided the router was, what the latent
//! cache saves, where the time goes, and what each token could have been. Nothing here runs while the panel is closed.

use eframe::egui;
use egui::{
    Align, Align2, Color32, ColorImage, Layout, Rect, RichText, ScrollArea, Sense, Stroke, StrokeKind, TextureHandle, TextureOptions, Ui,
    pos2, vec2,
};

use super::widgets;
use super::{View, icons, keys};
use crate::app::i18n::Texts;
use crate::app::theme::Palette;
use crate::app::{App, Command, Message, MessageId, theme};
use crate::engine::{ModelInside, TokenInside};
use crate::text::Role;

/// Tokens that the confidence's line shows.
const LINE_TOKENS: usize = 160;
const ROW_HEIGHT: f32 = 20.0;

#[derive(Default)]
pub struct Inside {
    load: Load,
    /// The token under the pointer, in the answer or in the panel.
    hovered: Option<(MessageId, usize)>,
    /// The same for the next frame: the panel is drawn before the chat.
    next: Option<(MessageId, usize)>,
    image: Option<(TextureHandle, Key)>,
}

/// What the heat map's picture depends on.
type Key = (Option<MessageId>, usize, bool);

impl Inside {
    /// Called once a frame.
    pub fn begin_frame(&mut self, ctx: &egui::Context) {
        let next = self.next.take();
        if self.hovered != next {
            self.hovered = next;
            ctx.request_repaint();
        }
    }
}

/// How often each expert was used, counted on as tokens come.
#[derive(Default)]
struct Load {
    message: Option<MessageId>,
    tokens: usize,
    /// `[MoE layer][expert]`
    uses: Vec<Vec<u32>>,
    /// Mean over the layers, a number a token.
    confidence: Vec<f32>,
}

impl Load {
    fn count(&mut self, message: MessageId, tokens: &[TokenInside], model: &ModelInside) {
        let fits = self.message == Some(message) && self.tokens <= tokens.len() && self.uses.len() == model.moe_layers.len();
        if !fits || self.uses.first().is_some_and(|layer| layer.len() != model.experts) {
            *self = Self { message: Some(message), uses: vec![vec![0; model.experts]; model.moe_layers.len()], ..Self::default() };
        }
        for token in &tokens[self.tokens..] {
            for routing in &token.layers {
                let Ok(row) = model.moe_layers.binary_search(&routing.layer) else { continue };
                for (expert, _) in &routing.experts {
                    if let Some(uses) = self.uses[row].get_mut(*expert as usize) {
                        *uses += 1;
                    }
                }
            }
            let sum: f32 = token.layers.iter().map(|routing| routing.confidence()).sum();
            self.confidence.push(sum / token.layers.len().max(1) as f32);
        }
        self.tokens = tokens.len();
    }

    /// How even the load is: 1 when every expert is used alike, 0 when one does everything; a mean over the layers.
    fn evenness(&self) -> f32 {
        let layers: Vec<f32> = self.uses.iter().filter_map(|layer| evenness(layer)).collect();
        if layers.is_empty() { 0.0 } else { layers.iter().sum::<f32>() / layers.len() as f32 }
    }

    fn most(&self) -> u32 {
        self.uses.iter().flatten().copied().max().unwrap_or(0)
    }
}

/// Entropy over its greatest possible value; none without uses.
fn evenness(uses: &[u32]) -> Option<f32> {
    let total: u32 = uses.iter().sum();
    if total == 0 || uses.len() < 2 {
        return None;
    }
    let entropy: f32 = uses.iter().filter(|uses| **uses > 0).map(|uses| *uses as f32 / total as f32).map(|share| -share * share.ln()).sum();
    Some(entropy / (uses.len() as f32).ln())
}

/// The answer that the panel tells of: the one under the pointer, or the newest that was watched.
fn subject<'a>(app: &'a App, view: &View) -> Option<(MessageId, &'a [TokenInside])> {
    let hovered = view.inside.hovered.map(|(message, _)| message);
    let newest = app.chat().path().rev().filter(|message| message.role == Role::Assistant).map(|message| message.id);
    hovered.into_iter().chain(newest).find_map(|id| Some((id, app.inside(id)?))).filter(|(_, tokens)| !tokens.is_empty())
}

pub fn show(ui: &mut Ui, app: &App, view: &mut View) {
    let texts = view.texts;
    let palette = theme::palette(ui);
    ui.spacing_mut().item_spacing = vec2(theme::SMALL, theme::TINY);
    ui.horizontal(|ui| {
        ui.label(RichText::new(texts.inside).font(theme::strong(theme::TEXT)));
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            if widgets::icon_button_of(ui, icons::CLOSE, texts.close_inside, widgets::Look::key(keys::INSIDE)).clicked() {
                view.toggle_inside(app);
            }
        });
    });
    let Some(model) = &app.model else {
        ui.add_space(theme::SMALL);
        widgets::weak(ui, texts.no_model);
        return;
    };
    ScrollArea::vertical().id_salt("inside").auto_shrink(false).show(ui, |ui| {
        let inside = &model.inside;
        ui.add(egui::Label::new(RichText::new(shape(texts, inside)).font(theme::tiny()).color(palette.text_weak)).wrap());
        let subject = subject(app, view);
        match subject {
            Some((message, tokens)) => {
                view.inside.load.count(message, tokens, inside);
                if inside.chooses() {
                    routing(ui, view, inside, message, tokens);
                } else {
                    note(ui, if inside.experts > 0 { texts.takes_all_experts } else { texts.dense_model });
                }
                token_section(ui, view, inside, message, tokens);
            }
            None => {
                note(
                    ui,
                    if inside.chooses() {
                        texts.inside_empty
                    } else if inside.experts > 0 {
                        texts.takes_all_experts
                    } else {
                        texts.dense_model
                    },
                );
                if !inside.chooses() {
                    note(ui, texts.inside_empty);
                }
            }
        }
        cache(ui, app, texts, inside);
        kernels(ui, app, view);
        ui.add_space(theme::LARGE);
    });
}

fn shape(texts: &Texts, inside: &ModelInside) -> String {
    let parameters = format!("{:.1}", inside.parameters as f64 / 1e9);
    let layers = texts.layers_of.fill(&[&inside.layers.to_string(), &parameters]);
    if !inside.chooses() {
        return layers;
    }
    let experts = texts.experts_of.fill(&[&inside.experts.to_string(), &inside.top_k.to_string()]);
    let shared = if inside.shared_experts > 0 { texts.shared_experts.fill(&[&inside.shared_experts.to_string()]) } else { String::new() };
    format!("{layers} · {experts}{shared}")
}

fn note(ui: &mut Ui, text: &str) {
    let palette = theme::palette(ui);
    ui.add_space(theme::TINY);
    egui::Frame::new().fill(palette.raised).corner_radius(theme::RADIUS).inner_margin(10.0).show(ui, |ui| {
        ui.add(egui::Label::new(RichText::new(text).color(palette.text_weak)).wrap());
    });
}

fn heading(ui: &mut Ui, text: &str, value: &str) {
    let palette = theme::palette(ui);
    ui.add_space(theme::MEDIUM);
    ui.horizontal(|ui| {
        ui.label(RichText::new(text).font(theme::strong(theme::TEXT_SMALL)).color(palette.text));
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| ui.label(RichText::new(value).color(palette.text_weak)));
    });
}

fn percent(share: f32) -> String {
    let digits = usize::from(share < 0.0995) + usize::from(share < 0.00995);
    format!("{:.digits$} %", share * 100.0)
}

/// The token to show: the one under the pointer, or the newest.
fn shown_token(view: &View, message: MessageId, tokens: &[TokenInside]) -> usize {
    view.inside.hovered.filter(|(hovered, _)| *hovered == message).map_or(tokens.len() - 1, |(_, at)| at.min(tokens.len() - 1))
}

fn routing(ui: &mut Ui, view: &mut View, model: &ModelInside, message: MessageId, tokens: &[TokenInside]) {
    let texts = view.texts;
    let palette = theme::palette(ui);
    heading(ui, texts.experts_used, &texts.tokens_count.fill(&[&widgets::count(tokens.len())]));
    let token = &tokens[shown_token(view, message, tokens)];
    heat_map(ui, view, model, message, token);
    ui.label(RichText::new(texts.heat_map_hint).font(theme::tiny()).color(palette.text_faint));
    let load = &view.inside.load;
    heading(ui, texts.evenness, &percent(load.evenness()));
    layers_evenness(ui, texts, load, model);
    let mean = load.confidence.iter().sum::<f32>() / load.confidence.len().max(1) as f32;
    heading(ui, texts.confidence, &percent(mean));
    confidence_line(ui, texts, &load.confidence);
}

/// From the ground to the accent, so that small shares can be told from none.
fn heat(palette: &Palette, share: f32) -> Color32 {
    palette.raised.lerp_to_gamma(palette.accent, share.clamp(0.0, 1.0).sqrt())
}

fn heat_map(ui: &mut Ui, view: &mut View, model: &ModelInside, message: MessageId, token: &TokenInside) {
    let palette = theme::palette(ui);
    let texts = view.texts;
    let (rows, columns) = (model.moe_layers.len(), model.experts);
    let load = &view.inside.load;
    let key: Key = (Some(message), load.tokens, palette.dark);
    if view.inside.image.as_ref().is_none_or(|(_, drawn)| *drawn != key) {
        let most = load.most().max(1) as f32;
        let pixels = load.uses.iter().flatten().map(|uses| heat(palette, *uses as f32 / most)).collect();
        let image = ColorImage::new([columns, rows], pixels);
        match &mut view.inside.image {
            Some((texture, drawn)) => {
                texture.set(image, TextureOptions::NEAREST);
                *drawn = key;
            }
            none => *none = Some((ui.ctx().load_texture("experts", image, TextureOptions::NEAREST), key)),
        }
    }
    let row_height = (260.0 / rows as f32).clamp(3.0, 10.0);
    let (rect, response) = ui.allocate_exact_size(vec2(ui.available_width(), row_height * rows as f32), Sense::hover());
    response.widget_info(|| egui::WidgetInfo::labeled(egui::accesskit::Role::Image, true, texts.experts_used));
    if let Some((texture, _)) = &view.inside.image {
        egui::Image::from_texture((texture.id(), rect.size())).corner_radius(4).paint_at(ui, rect);
    }
    let cell = vec2(rect.width() / columns as f32, row_height);
    // What the shown token used.
    for routing in &token.layers {
        let Ok(row) = model.moe_layers.binary_search(&routing.layer) else { continue };
        for (expert, _) in &routing.experts {
            let min = rect.min + vec2(*expert as f32 * cell.x, row as f32 * cell.y);
            let mark = Rect::from_min_size(min, cell).shrink(0.5);
            ui.painter().rect_stroke(mark, 1.0, Stroke::new(1.0, palette.text), StrokeKind::Inside);
        }
    }
    if let Some(pointer) = response.hover_pos() {
        let at = (pointer - rect.min) / cell;
        let (row, expert) = ((at.y as usize).min(rows - 1), (at.x as usize).min(columns - 1));
        let uses = view.inside.load.uses[row][expert];
        let share = uses as f32 / view.inside.load.tokens.max(1) as f32;
        let text = texts.heat_map_cell.fill(&[
            &model.moe_layers[row].to_string(),
            &expert.to_string(),
            &widgets::count(uses as usize),
            &percent(share),
        ]);
        response.on_hover_text_at_pointer(text);
    }
}

fn layers_evenness(ui: &mut Ui, texts: &Texts, load: &Load, model: &ModelInside) {
    let palette = theme::palette(ui);
    let (rect, response) = ui.allocate_exact_size(vec2(ui.available_width(), 34.0), Sense::hover());
    let step = rect.width() / load.uses.len().max(1) as f32;
    for (row, uses) in load.uses.iter().enumerate() {
        let share = evenness(uses).unwrap_or(0.0);
        let left = rect.left() + row as f32 * step;
        let bar = Rect::from_min_max(pos2(left + 0.5, rect.bottom() - rect.height() * share), pos2(left + step - 0.5, rect.bottom()));
        ui.painter().rect_filled(bar, 1.5, palette.accent.gamma_multiply(0.35 + 0.5 * share));
    }
    if let Some(pointer) = response.hover_pos() {
        let row = (((pointer.x - rect.left()) / step) as usize).min(load.uses.len().saturating_sub(1));
        let share = load.uses.get(row).and_then(|uses| evenness(uses)).unwrap_or(0.0);
        let layer = model.moe_layers.get(row).copied().unwrap_or(0);
        response.on_hover_text_at_pointer(texts.layer_share.fill(&[&layer.to_string(), &percent(share)]));
    } else {
        response.on_hover_text(texts.evenness_hint);
    }
}

fn confidence_line(ui: &mut Ui, texts: &Texts, confidence: &[f32]) {
    let palette = theme::palette(ui);
    let (rect, response) = ui.allocate_exact_size(vec2(ui.available_width(), 34.0), Sense::hover());
    ui.painter().hline(rect.x_range(), rect.bottom(), Stroke::new(1.0, palette.border));
    let last = &confidence[confidence.len().saturating_sub(LINE_TOKENS)..];
    let most = last.iter().copied().fold(0.05_f32, f32::max);
    let step = rect.width() / (LINE_TOKENS.min(last.len().max(2)) - 1) as f32;
    let points: Vec<_> = last
        .iter()
        .enumerate()
        .map(|(at, value)| pos2(rect.left() + at as f32 * step, rect.bottom() - 2.0 - (rect.height() - 4.0) * value / most))
        .collect();
    ui.painter().add(egui::Shape::line(points, Stroke::new(1.5, palette.accent)));
    response.on_hover_text(texts.confidence_hint);
}

fn token_section(ui: &mut Ui, view: &mut View, model: &ModelInside, message: MessageId, tokens: &[TokenInside]) {
    let texts = view.texts;
    let at = shown_token(view, message, tokens);
    let token = &tokens[at];
    let hovered = view.inside.hovered.is_some_and(|(hovered, _)| hovered == message);
    heading(ui, if hovered { texts.this_token } else { texts.newest_token }, &format!("{} / {}", at + 1, tokens.len()));
    candidates(ui, token);
    if model.chooses() {
        experts(ui, texts, token);
    }
    if !hovered {
        let palette = theme::palette(ui);
        ui.label(RichText::new(texts.hover_hint).font(theme::tiny()).color(palette.text_faint));
    }
}

/// A token so that spaces and line breaks are seen.
fn visible(text: &str) -> String {
    let shown: String = text
        .chars()
        .map(|c| match c {
            ' ' => '·',
            '\n' => '↵',
            '\t' => '⇥',
            c => c,
        })
        .collect();
    if shown.is_empty() { "∅".to_owned() } else { shown }
}

fn candidates(ui: &mut Ui, token: &TokenInside) {
    let palette = theme::palette(ui);
    let mut rows: Vec<(&str, f32, bool)> =
        token.candidates.iter().map(|candidate| (candidate.text.as_str(), candidate.probability, candidate.id == token.id)).collect();
    if !rows.iter().any(|(.., taken)| *taken) {
        rows.push((&token.text, token.probability, true));
    }
    for (text, probability, taken) in rows {
        let (rect, response) = ui.allocate_exact_size(vec2(ui.available_width().max(220.0), ROW_HEIGHT), Sense::hover());
        response.widget_info(|| {
            egui::WidgetInfo::labeled(egui::accesskit::Role::Label, true, format!("{} {}", visible(text), percent(probability)))
        });
        let ground = Rect::from_min_size(rect.min + vec2(0.0, 1.0), vec2(rect.width() * probability.clamp(0.0, 1.0), ROW_HEIGHT - 2.0));
        ui.painter().rect_filled(ground, 3.0, if taken { palette.accent_soft } else { palette.raised });
        let colour = if taken { palette.accent } else { palette.text_weak };
        let mut job = egui::text::LayoutJob::simple_singleline(visible(text), theme::code(), colour);
        job.wrap = egui::text::TextWrapping::truncate_at_width(rect.width() - 70.0);
        let galley = ui.fonts_mut(|fonts| fonts.layout_job(job));
        ui.painter().galley(rect.left_center() + vec2(6.0, -galley.size().y / 2.0), galley, colour);
        ui.painter().text(rect.right_center() - vec2(6.0, 0.0), Align2::RIGHT_CENTER, percent(probability), theme::tiny(), colour);
    }
}

/// The experts of a token, a layer a column of dots by weight; the words only for the layers there is room for.
fn experts(ui: &mut Ui, texts: &Texts, token: &TokenInside) {
    const MOST: usize = 4;
    let palette = theme::palette(ui);
    for routing in token.layers.iter().take(MOST) {
        let mut chosen = routing.experts.clone();
        chosen.sort_by(|a, b| b.1.total_cmp(&a.1));
        let list: Vec<String> = chosen.iter().map(|(expert, _)| expert.to_string()).collect();
        let text = texts.layer_experts.fill(&[&routing.layer.to_string(), &list.join(" · ")]);
        ui.add(egui::Label::new(RichText::new(text).font(theme::tiny()).color(palette.text_weak)).truncate());
    }
    if token.layers.len() > MOST {
        let text = texts.more_layers.fill(&[&(token.layers.len() - MOST).to_string()]);
        ui.label(RichText::new(text).font(theme::tiny()).color(palette.text_faint));
    }
}

/// The token under the pointer in an answer: a small table beside it, and the panel's marks.
pub fn hover(ui: &mut Ui, app: &App, view: &mut View, message: &Message, byte: usize) {
    let Some(tokens) = app.inside(message.id) else { return };
    // A token's text ends where the answer stood when it came.
    let at = tokens.partition_point(|token| token.answer_end <= byte);
    let Some(token) = tokens.get(at) else { return };
    view.inside.next = Some((message.id, at));
    let id = ui.scope_id().with("token");
    let tip = egui::Tooltip::always_open(ui.ctx().clone(), ui.layer_id(), id, egui::PopupAnchor::Pointer).gap(14.0).width(260.0);
    tip.show(|ui| {
        ui.set_width(240.0);
        candidates(ui, token);
        if app.model.as_ref().is_some_and(|model| model.inside.chooses()) {
            ui.add_space(theme::TINY);
            experts(ui, view.texts, token);
        }
    });
}

fn cache(ui: &mut Ui, app: &App, texts: &Texts, inside: &ModelInside) {
    let palette = theme::palette(ui);
    let tokens = app.context.map_or(0, |used| used.tokens).max(1) as u64;
    let (latent, full) = (inside.latent_bytes_per_token.max(1), inside.full_kv_bytes_per_token);
    heading(ui, texts.latent_cache, &texts.times_smaller.fill(&[&format!("{:.1}", full as f64 / latent as f64)]));
    for (name, bytes, colour) in [(texts.latent, latent, palette.accent), (texts.full_keys_values, full, palette.text_faint)] {
        let share = bytes as f32 / latent.max(full) as f32;
        ui.horizontal(|ui| {
            let (label, _) = ui.allocate_exact_size(vec2(112.0, 16.0), Sense::hover());
            ui.painter().text(label.left_center(), Align2::LEFT_CENTER, name, theme::tiny(), palette.text_weak);
            widgets::bar(ui, (ui.available_width() - 74.0).max(20.0), share, colour, name);
            ui.label(RichText::new(widgets::bytes(bytes * tokens)).font(theme::tiny()).color(palette.text_weak));
        });
    }
    let text = texts.cache_at.fill(&[&widgets::count(tokens as usize), &widgets::bytes(latent), &widgets::bytes(full)]);
    ui.label(RichText::new(text).font(theme::tiny()).color(palette.text_faint));
}

fn kernels(ui: &mut Ui, app: &App, view: &mut View) {
    let texts = view.texts;
    let palette = theme::palette(ui);
    let times = app.kernel_times.as_deref();
    let total: f64 = times.unwrap_or_default().iter().map(|time| time.secs).sum();
    let value = if total > 0.0 { format!("{:.2} ms", total * 1000.0) } else { String::new() };
    heading(ui, texts.kernel_times, &value);
    for time in times.unwrap_or_default() {
        let share = (time.secs / total.max(1e-12)) as f32;
        let (rect, response) = ui.allocate_exact_size(vec2(ui.available_width(), 17.0), Sense::hover());
        let ground = Rect::from_min_size(rect.min + vec2(0.0, 1.0), vec2(rect.width() * share, 15.0));
        ui.painter().rect_filled(ground, 3.0, palette.accent_soft);
        ui.painter().text(rect.left_center() + vec2(5.0, 0.0), Align2::LEFT_CENTER, &*time.kernel, theme::tiny(), palette.text_weak);
        let ms = format!("{:.3} ms  ×{}", time.secs * 1000.0, time.dispatches);
        ui.painter().text(rect.right_center() - vec2(5.0, 0.0), Align2::RIGHT_CENTER, &ms, theme::tiny(), palette.text_faint);
        response.widget_info(|| egui::WidgetInfo::labeled(egui::accesskit::Role::Label, true, format!("{} {ms}", time.kernel)));
    }
    ui.add_space(theme::TINY);
    let busy = !app.answers.is_empty();
    ui.add_enabled_ui(!busy, |ui| {
        if widgets::plain_button(ui, texts.measure_kernels).on_hover_text(texts.measure_kernels_hint).clicked() {
            view.commands.push(Command::MeasureKernels);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::LayerRouting;

    fn token(experts: &[&[u32]]) -> TokenInside {
        let routing = |(at, experts): (usize, &&[u32])| LayerRouting {
            layer: at + 1,
            experts: experts.iter().map(|expert| (*expert, 0.5)).collect(),
        };
        TokenInside {
            id: 1,
            text: "a".to_owned(),
            reasoning_end: 0,
            answer_end: 1,
            probability: 0.5,
            candidates: vec![],
            layers: experts.iter().enumerate().map(routing).collect(),
        }
    }

    fn model() -> ModelInside {
        ModelInside {
            layers: 3,
            moe_layers: vec![1, 2],
            experts: 4,
            top_k: 2,
            shared_experts: 0,
            parameters: 1,
            latent_bytes_per_token: 1,
            full_kv_bytes_per_token: 1,
        }
    }

    #[test]
    fn uses_are_counted_once_a_token() {
        let tokens = [token(&[&[0, 1], &[2, 3]]), token(&[&[0, 2], &[2, 9]])];
        let mut load = Load::default();
        load.count(MessageId(1), &tokens[..1], &model());
        load.count(MessageId(1), &tokens, &model());
        load.count(MessageId(1), &tokens, &model());
        // An expert that the model does not have is left out.
        assert_eq!(load.uses, [[2, 1, 1, 0], [0, 0, 2, 1]]);
        assert_eq!(load.confidence.len(), 2);
        load.count(MessageId(2), &tokens[1..], &model());
        assert_eq!(load.uses, [[1, 0, 1, 0], [0, 0, 1, 0]]);
    }

    #[test]
    fn evenness_is_between_one_expert_and_all() {
        assert_eq!(evenness(&[5, 0, 0, 0]), Some(0.0));
        assert!((evenness(&[5, 5, 5, 5]).unwrap() - 1.0).abs() < 1e-6);
        assert!((evenness(&[5, 5, 0, 0]).unwrap() - 0.5).abs() < 1e-6);
        assert_eq!(evenness(&[0, 0]), None);
    }

    #[test]
    fn blanks_of_a_token_are_seen() {
        assert_eq!(visible(" a\n"), "·a↵");
        assert_eq!(visible(""), "∅");
        assert_eq!((percent(0.5), percent(0.051), percent(0.001)), ("50 %".into(), "5.1 %".into(), "0.10 %".into()));
    }
}
