//! The one place for colours and sizes: two palettes of neutral greys with one accent, a spacing scale, and egui's style made
//! from them.

use eframe::egui;
use egui::style::{HandleShape, ScrollStyle, Selection, WidgetVisuals, Widgets};
use egui::{Color32, CornerRadius, FontFamily, FontId, Margin, Shadow, Stroke, TextStyle, Vec2, Visuals};

/// Spacing scale, in points.
pub const TINY: f32 = 4.0;
pub const SMALL: f32 = 8.0;
pub const MEDIUM: f32 = 12.0;
pub const LARGE: f32 = 16.0;
pub const HUGE: f32 = 28.0;

/// Text sizes, in points.
pub const TEXT: f32 = 15.0;
pub const TEXT_SMALL: f32 = 13.0;
pub const TEXT_TINY: f32 = 11.5;
pub const CODE: f32 = 13.0;
pub const HEADINGS: [f32; 6] = [23.0, 20.0, 17.5, 16.0, 15.0, 15.0];
pub const TITLE: f32 = 26.0;
/// The height of a line of running text.
pub const LINE_HEIGHT: f32 = 24.0;
pub const CODE_LINE_HEIGHT: f32 = 20.0;

/// The text column of a chat: 75 to 80 characters of running text.
pub const COLUMN_WIDTH: f32 = 640.0;
pub const SIDEBAR_WIDTH: f32 = 252.0;
pub const INSIDE_WIDTH: f32 = 348.0;
/// What can be clicked is at least this high.
pub const CONTROL_HEIGHT: f32 = 30.0;
pub const ICON: f32 = 16.0;

pub const RADIUS: u8 = 8;
pub const RADIUS_SMALL: u8 = 6;
pub const RADIUS_LARGE: u8 = 16;

/// Semi-bold text; `fonts` installs it.
pub const STRONG: &str = "strong";
/// Italic text; `fonts` installs it.
pub const EMPHASIS: &str = "emphasis";

/// A colour for everything that is drawn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Palette {
    pub dark: bool,
    /// Behind the chat.
    pub page: Color32,
    /// Behind the sidebar and the meters.
    pub side: Color32,
    /// Bubbles, the composer, cards.
    pub raised: Color32,
    /// Menus and dialogs.
    pub floating: Color32,
    /// What the pointer is over.
    pub hover: Color32,
    /// The selected row.
    pub selected: Color32,
    pub border: Color32,
    pub text: Color32,
    pub text_weak: Color32,
    pub text_faint: Color32,
    pub accent: Color32,
    /// Text on the accent.
    pub on_accent: Color32,
    /// A tint of the accent for large areas.
    pub accent_soft: Color32,
    pub danger: Color32,
    pub danger_soft: Color32,
    pub warning: Color32,
    pub warning_soft: Color32,
    pub code: Color32,
    pub selection: Color32,
    pub syntax: Syntax,
}

/// Colours of code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Syntax {
    pub comment: Color32,
    pub keyword: Color32,
    pub string: Color32,
    pub number: Color32,
    pub function: Color32,
    pub type_name: Color32,
    pub punctuation: Color32,
}

const fn rgb(hex: u32) -> Color32 {
    Color32::from_rgb((hex >> 16) as u8, (hex >> 8) as u8, hex as u8)
}

pub const DARK: Palette = Palette {
    dark: true,
    page: rgb(0x18191c),
    side: rgb(0x121315),
    raised: rgb(0x25272b),
    floating: rgb(0x212327),
    hover: rgb(0x2b2d32),
    selected: rgb(0x26282d),
    border: rgb(0x2f3237),
    text: rgb(0xe4e5e8),
    text_weak: rgb(0xa3a7af),
    text_faint: rgb(0x7d828b),
    accent: rgb(0x4fc1b6),
    on_accent: rgb(0x06201e),
    accent_soft: rgb(0x1b3534),
    danger: rgb(0xf0807f),
    danger_soft: rgb(0x3a2224),
    warning: rgb(0xe5b567),
    warning_soft: rgb(0x362c1b),
    code: rgb(0x1e2024),
    selection: rgb(0x24504d),
    syntax: Syntax {
        comment: rgb(0x7d828b),
        keyword: rgb(0xc79be6),
        string: rgb(0x9ac98a),
        number: rgb(0xe0a878),
        function: rgb(0x7db3ee),
        type_name: rgb(0x62c8bd),
        punctuation: rgb(0xa3a7af),
    },
};

pub const LIGHT: Palette = Palette {
    dark: false,
    page: rgb(0xffffff),
    side: rgb(0xf6f6f4),
    raised: rgb(0xf2f2ef),
    floating: rgb(0xffffff),
    hover: rgb(0xeaeae6),
    selected: rgb(0xe9e9e5),
    border: rgb(0xe2e2de),
    text: rgb(0x1e2022),
    text_weak: rgb(0x5f636a),
    text_faint: rgb(0x74787f),
    accent: rgb(0x0b7a73),
    on_accent: rgb(0xffffff),
    accent_soft: rgb(0xdff0ee),
    danger: rgb(0xc13a3a),
    danger_soft: rgb(0xfbe9e8),
    warning: rgb(0x8a5a00),
    warning_soft: rgb(0xfaf0da),
    code: rgb(0xf7f7f5),
    selection: rgb(0xbfe3df),
    syntax: Syntax {
        comment: rgb(0x74787f),
        keyword: rgb(0x8137b5),
        string: rgb(0x33762b),
        number: rgb(0xa8560e),
        function: rgb(0x1c62b0),
        type_name: rgb(0x0b7a73),
        punctuation: rgb(0x5f636a),
    },
};

/// The palette that `ui` is drawn in.
pub fn palette(ui: &egui::Ui) -> &'static Palette {
    of(ui.visuals())
}

pub fn of(visuals: &Visuals) -> &'static Palette {
    if visuals.dark_mode { &DARK } else { &LIGHT }
}

pub fn text() -> FontId {
    FontId::proportional(TEXT)
}

pub fn small() -> FontId {
    FontId::proportional(TEXT_SMALL)
}

pub fn tiny() -> FontId {
    FontId::proportional(TEXT_TINY)
}

pub fn strong(size: f32) -> FontId {
    FontId::new(size, FontFamily::Name(STRONG.into()))
}

pub fn code() -> FontId {
    FontId::monospace(CODE)
}

/// Makes both styles from the palettes; `preference` chooses between them.
pub fn install(ctx: &egui::Context) {
    ctx.set_style_of(egui::Theme::Dark, style(&DARK));
    ctx.set_style_of(egui::Theme::Light, style(&LIGHT));
}

fn style(palette: &Palette) -> egui::Style {
    let mut style = egui::Style { visuals: visuals(palette), animation_time: 0.1, ..egui::Style::default() };
    style.text_styles = [
        (TextStyle::Heading, strong(HEADINGS[1])),
        (TextStyle::Body, small()),
        (TextStyle::Button, small()),
        (TextStyle::Small, tiny()),
        (TextStyle::Monospace, code()),
    ]
    .into();
    let spacing = &mut style.spacing;
    spacing.item_spacing = Vec2::splat(SMALL);
    spacing.button_padding = Vec2::new(MEDIUM - 2.0, 5.0);
    spacing.window_margin = Margin::same(LARGE as i8);
    spacing.menu_margin = Margin::same(6);
    spacing.interact_size = Vec2::new(40.0, CONTROL_HEIGHT);
    spacing.icon_width = 16.0;
    spacing.icon_width_inner = 10.0;
    spacing.slider_rail_height = 4.0;
    spacing.text_edit_width = 240.0;
    spacing.tooltip_width = 420.0;
    spacing.scroll = ScrollStyle { bar_width: 8.0, floating_width: 4.0, ..ScrollStyle::floating() };
    style.interaction.tooltip_delay = 0.35;
    style.interaction.selectable_labels = false;
    style.url_in_tooltip = true;
    // A caret that blinks would wake an idle window twice a second.
    style.visuals.text_cursor.blink = false;
    style
}

fn visuals(palette: &Palette) -> Visuals {
    let base = if palette.dark { Visuals::dark() } else { Visuals::light() };
    let shadow = Shadow { offset: [0, 6], blur: 24, spread: 0, color: Color32::from_black_alpha(if palette.dark { 110 } else { 36 }) };
    Visuals {
        widgets: widgets(palette),
        selection: Selection { bg_fill: palette.selection, stroke: Stroke::new(1.0, palette.text) },
        hyperlink_color: palette.accent,
        weak_text_color: Some(palette.text_weak),
        faint_bg_color: palette.raised,
        extreme_bg_color: palette.code,
        text_edit_bg_color: Some(palette.raised),
        code_bg_color: palette.raised,
        warn_fg_color: palette.warning,
        error_fg_color: palette.danger,
        window_corner_radius: CornerRadius::same(RADIUS_LARGE - 4),
        window_shadow: shadow,
        window_fill: palette.floating,
        window_stroke: Stroke::new(1.0, palette.border),
        menu_corner_radius: CornerRadius::same(RADIUS + 2),
        popup_shadow: shadow,
        panel_fill: palette.page,
        slider_trailing_fill: true,
        handle_shape: HandleShape::Circle,
        disabled_alpha: 0.45,
        ..base
    }
}

fn widgets(palette: &Palette) -> Widgets {
    let quiet = WidgetVisuals {
        bg_fill: palette.raised,
        weak_bg_fill: palette.raised,
        bg_stroke: Stroke::new(1.0, palette.border),
        corner_radius: CornerRadius::same(RADIUS),
        fg_stroke: Stroke::new(1.0, palette.text),
        expansion: 0.0,
    };
    Widgets {
        noninteractive: WidgetVisuals { bg_fill: palette.page, weak_bg_fill: palette.page, ..quiet },
        // The fill of boxes to tick, on any ground.
        inactive: WidgetVisuals { bg_fill: palette.border, bg_stroke: Stroke::NONE, ..quiet },
        hovered: WidgetVisuals { bg_fill: palette.hover, weak_bg_fill: palette.hover, bg_stroke: Stroke::NONE, ..quiet },
        // Also what has the keyboard's focus.
        active: WidgetVisuals { bg_fill: palette.hover, weak_bg_fill: palette.hover, bg_stroke: Stroke::new(1.5, palette.accent), ..quiet },
        open: WidgetVisuals { bg_fill: palette.hover, weak_bg_fill: palette.hover, bg_stroke: Stroke::new(1.0, palette.border), ..quiet },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// WCAG's contrast of two colours.
    fn contrast(a: Color32, b: Color32) -> f32 {
        let luminance = |color: Color32| {
            let [r, g, b, _] = egui::Rgba::from(color).to_array();
            0.2126 * r + 0.7152 * g + 0.0722 * b
        };
        let (a, b) = (luminance(a), luminance(b));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    #[test]
    fn text_can_be_read_on_every_ground() {
        for palette in [DARK, LIGHT] {
            for ground in [palette.page, palette.side, palette.raised, palette.floating, palette.code, palette.selected] {
                assert!(contrast(palette.text, ground) > 7.0, "text on {ground:?}");
                assert!(contrast(palette.text_weak, ground) > 4.5, "weak text on {ground:?}");
                assert!(contrast(palette.text_faint, ground) > 3.0, "faint text on {ground:?}");
                assert!(contrast(palette.accent, ground) > 4.0, "accent on {ground:?}");
            }
            assert!(contrast(palette.on_accent, palette.accent) > 4.5);
            assert!(contrast(palette.danger, palette.danger_soft) > 4.0);
            assert!(contrast(palette.warning, palette.warning_soft) > 4.0);
            let Syntax { comment, keyword, string, number, function, type_name, punctuation } = palette.syntax;
            for colour in [comment, keyword, string, number, function, type_name, punctuation] {
                assert!(contrast(colour, palette.code) > 4.0, "{colour:?} on code");
            }
        }
    }
}
