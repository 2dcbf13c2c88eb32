//! Fonts: Inter for text, egui's bundled Hack for code, KaTeX's for formulas, Lucide's for icons, and the system's for whatever
//! these lack, found by a thread of its own when a character first asks for one.

use std::borrow::Cow;
use std::sync::Arc;

use eframe::egui;
use egui::{FontData, FontDefinitions, FontFamily, FontTweak};

use super::theme;

/// Adds a bundled font to `families`, before the others.
fn add(fonts: &mut FontDefinitions, name: &str, data: FontData, families: &[FontFamily]) {
    fonts.font_data.insert(name.to_owned(), Arc::new(data));
    for family in families {
        fonts.families.entry(family.clone()).or_default().insert(0, name.to_owned());
    }
}

fn definitions() -> FontDefinitions {
    let mut fonts = FontDefinitions::default();
    let strong = FontFamily::Name(theme::STRONG.into());
    let emphasis = FontFamily::Name(theme::EMPHASIS.into());
    let fallback = fonts.families.get(&FontFamily::Proportional).cloned().unwrap_or_default();
    fonts.families.insert(strong.clone(), fallback.clone());
    fonts.families.insert(emphasis.clone(), fallback);
    // Its icons stand on the baseline and reach above capitals.
    let icons = FontData::from_static(include_bytes!("../../assets/fonts/lucide.ttf"));
    let icons = icons.tweak(FontTweak { y_offset_factor: 0.1, hinting: Some(false), ..FontTweak::default() });
    add(&mut fonts, "Lucide", icons, &[FontFamily::Proportional, strong.clone()]);
    let regular = FontData::from_static(include_bytes!("../../assets/fonts/Inter-Regular.otf"));
    add(&mut fonts, "Inter", regular, &[FontFamily::Proportional]);
    let semi_bold = FontData::from_static(include_bytes!("../../assets/fonts/Inter-SemiBold.otf"));
    add(&mut fonts, "Inter SemiBold", semi_bold, &[strong]);
    let italic = FontData::from_static(include_bytes!("../../assets/fonts/Inter-Italic.otf"));
    add(&mut fonts, "Inter Italic", italic, &[emphasis]);
    // Signs that the font of code lacks.
    fonts.families.entry(FontFamily::Monospace).or_default().push("Inter".to_owned());
    for font in FORMULA_FONTS {
        if let Some(data) = ratex_katex_fonts::ttf_bytes(&format!("KaTeX_{font}.ttf")) {
            let data = match data {
                Cow::Borrowed(data) => FontData::from_static(data),
                Cow::Owned(data) => FontData::from_owned(data),
            };
            let data = data.tweak(FontTweak { hinting: Some(false), ..FontTweak::default() });
            add(&mut fonts, font, data, &[FontFamily::Name((*font).into())]);
        }
    }
    fonts
}

/// The families that formulas are set in, by RaTeX's names.
pub const FORMULA_FONTS: &[&str] = &[
    "AMS-Regular",
    "Caligraphic-Bold",
    "Caligraphic-Regular",
    "Fraktur-Bold",
    "Fraktur-Regular",
    "Main-Bold",
    "Main-BoldItalic",
    "Main-Italic",
    "Main-Regular",
    "Math-BoldItalic",
    "Math-Italic",
    "SansSerif-Bold",
    "SansSerif-Italic",
    "SansSerif-Regular",
    "Script-Regular",
    "Size1-Regular",
    "Size2-Regular",
    "Size3-Regular",
    "Size4-Regular",
    "Typewriter-Regular",
];

/// Installs the bundled fonts. The system's come with eframe's `system_fonts`.
pub fn install(ctx: &egui::Context) {
    ctx.set_fonts(definitions());
}
