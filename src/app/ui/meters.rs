//! The quiet bar at the bottom: speed, context, memory, and on what device all of it runs.

use eframe::egui;
use egui::{Align, Layout, RichText, Ui, vec2};

use super::{View, widgets};
use crate::app::i18n::Texts;
use crate::app::{App, theme};
use crate::engine::Stats;
use crate::sampler::Sampling;

/// New tokens a second, after the first.
pub fn tokens_per_sec(stats: &Stats) -> f64 {
    if stats.decode_secs > 0.0 { stats.new_tokens.saturating_sub(1) as f64 / stats.decode_secs } else { 0.0 }
}

/// Everything that is needed to get the same answer again.
pub fn made_by(texts: &Texts, model: Option<&str>, sampling: &Sampling) -> String {
    let Sampling { temperature, top_p, top_k, min_p, seed } = sampling;
    let model = model.unwrap_or("?");
    format!("{model}\n{} {temperature} · top-p {top_p} · top-k {top_k} · min-p {min_p}\n{} {seed}", texts.temperature, texts.seed)
}

pub fn show(ui: &mut Ui, app: &App, view: &mut View) {
    let texts = view.texts;
    let palette = theme::palette(ui);
    let small = |text: String| RichText::new(text).font(theme::tiny()).color(palette.text_faint);
    ui.spacing_mut().item_spacing = vec2(theme::MEDIUM, 0.0);
    // What there is no room for is left out, the least needed first.
    let room = ui.available_width();
    ui.horizontal_centered(|ui| {
        let stats = app.answering().and_then(|answer| answer.stats).or_else(|| app.chat().leaf().and_then(|message| message.stats));
        if let Some(stats) = stats {
            let speed = tokens_per_sec(&stats);
            if speed > 0.0 {
                ui.label(small(texts.tokens_per_sec.fill(&[&format!("{speed:.1}")])));
            }
            if room > 760.0 {
                ui.label(small(texts.first_token.fill(&[&widgets::duration(texts, stats.first_token_secs)])));
            }
        }
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            if let Some(model) = &app.model {
                let kind = if model.caps.is_cpu { texts.software_adapter } else { "" };
                let device = format!("{} · {}{kind}", model.caps.adapter, model.caps.backend);
                let width = (room * 0.3).max(60.0);
                ui.scope(|ui| {
                    ui.set_max_width(width);
                    ui.add(egui::Label::new(small(device)).truncate())
                        .on_hover_text(format!("{}\n{}", model.caps.adapter, model.caps.driver));
                });
                let memory = match model.memory_limit_bytes {
                    Some(limit) => texts.memory_of.fill(&[&widgets::bytes(model.held_bytes), &widgets::bytes(limit)]),
                    None => texts.memory.fill(&[&widgets::bytes(model.held_bytes)]),
                };
                if room > 440.0 {
                    ui.label(small(memory)).on_hover_text(texts.memory_hint);
                }
            }
            if let Some(used) = app.context {
                let share = used.tokens as f32 / used.context.max(1) as f32;
                let colour = if used.is_full() {
                    palette.danger
                } else if used.is_near() {
                    palette.warning
                } else {
                    palette.accent
                };
                let text = texts.context_of.fill(&[&widgets::count(used.tokens), &widgets::count(used.context)]);
                ui.label(small(text)).on_hover_text(texts.context_hint);
                if room > 620.0 {
                    widgets::bar(ui, 64.0, share, colour, texts.context);
                }
            }
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speed_leaves_out_the_first_token() {
        let stats = |new_tokens, decode_secs| Stats { prompt_tokens: 9, reused_tokens: 0, new_tokens, first_token_secs: 1.0, decode_secs };
        assert_eq!(tokens_per_sec(&stats(11, 2.0)), 5.0);
        assert_eq!(tokens_per_sec(&stats(1, 0.0)), 0.0);
        assert_eq!(tokens_per_sec(&stats(0, 1.0)), 0.0);
    }
}
