//! LaTeX formulas: RaTeX parses and lays them out as KaTeX does; glyphs are drawn as text in KaTeX's fonts, the rest as shapes.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use eframe::egui;
use egui::epaint::{Mesh, PathShape, PathStroke, Vertex, WHITE_UV};
use egui::{Color32, FontFamily, FontId, Pos2, Rect, Shape, Ui, Vec2, pos2, vec2};
use lyon_tessellation::path::Path;
use lyon_tessellation::{BuffersBuilder, FillOptions, FillTessellator, FillVertex, VertexBuffers, math};
use ratex_layout::{LayoutOptions, layout, to_display_list, validate_layout};
use ratex_types::{DisplayItem, MathStyle, PathCommand};

use crate::app::fonts::FORMULA_FONTS;

/// Longer ones are shown as they are written.
const MAX_BYTES: usize = 8_000;
/// The width of lines that the layout leaves to the one who draws, in em.
const LINE_WIDTH: f32 = 0.05;

/// A formula laid out, in em from the left end of its baseline, y downwards.
#[derive(Debug, PartialEq)]
pub struct Formula {
    pub width: f32,
    pub ascent: f32,
    pub descent: f32,
    items: Vec<Item>,
}

#[derive(Debug, PartialEq)]
enum Item {
    Glyph { at: Pos2, size: f32, family: &'static str, text: char, colour: Option<Color32> },
    Rule { rect: Rect, colour: Option<Color32> },
    Fill { points: Vec<Pos2>, indices: Vec<u32>, outlines: Vec<Vec<Pos2>>, colour: Option<Color32> },
    Line { points: Vec<Pos2>, colour: Option<Color32> },
}

impl Formula {
    /// `None` where it cannot be set: the text is shown instead.
    pub fn new(latex: &str, display: bool) -> Option<Self> {
        if latex.len() > MAX_BYTES || latex.is_empty() {
            return None;
        }
        // Others' code on a model's text: a fault there costs this formula's looks, not the window.
        catch_unwind(AssertUnwindSafe(|| Self::set(latex, display))).ok().flatten()
    }

    fn set(latex: &str, display: bool) -> Option<Self> {
        let nodes = ratex_parser::parse(latex).ok()?;
        let style = if display { MathStyle::Display } else { MathStyle::Text };
        let root = layout(&nodes, &LayoutOptions { style, ..LayoutOptions::default() });
        validate_layout(&root).ok()?;
        let list = to_display_list(&root);
        let fits = [list.width, list.height, list.depth].iter().all(|size| size.is_finite() && size.abs() < 1000.0);
        let baseline = list.height as f32;
        let items = list.items.into_iter().filter_map(|item| convert(item, baseline)).collect();
        fits.then_some(Self { width: list.width as f32, ascent: baseline, descent: list.depth as f32, items })
    }

    /// Its size where an em is `em` points.
    pub fn size(&self, em: f32) -> Vec2 {
        vec2(self.width, self.ascent + self.descent) * em
    }

    /// Draws it with the left end of its baseline at `origin`.
    pub fn paint(&self, ui: &Ui, origin: Pos2, em: f32, colour: Color32) {
        let at = |point: Pos2| origin + point.to_vec2() * em;
        let painter = ui.painter();
        for item in &self.items {
            match item {
                Item::Glyph { at: point, size, family, text, colour: own } => {
                    let family = if family.is_empty() { FontFamily::Proportional } else { FontFamily::Name((*family).into()) };
                    let galley = painter.layout_no_wrap(text.to_string(), FontId::new(size * em, family), own.unwrap_or(colour));
                    if let Some((row, glyph)) = galley.rows.first().and_then(|row| Some((row, row.glyphs.first()?))) {
                        let baseline = row.pos.y + glyph.pos.y;
                        painter.galley(at(*point) - vec2(0.0, baseline), galley, colour);
                    }
                }
                Item::Rule { rect, colour: own } => {
                    // Never thinner than a pixel, which it fills sharply.
                    let pixel = 1.0 / ui.pixels_per_point();
                    let mut rect = Rect::from_min_max(at(rect.min), at(rect.max));
                    let height = (rect.height() / pixel).round().max(1.0) * pixel;
                    rect.min.y = (rect.min.y / pixel).round() * pixel;
                    rect.max.y = rect.min.y + height;
                    painter.rect_filled(rect, 0.0, own.unwrap_or(colour));
                }
                Item::Fill { points, indices, outlines, colour: own } => {
                    let colour = own.unwrap_or(colour);
                    let vertices = points.iter().map(|point| Vertex { pos: at(*point), uv: WHITE_UV, color: colour });
                    painter.add(Shape::mesh(Mesh { indices: indices.clone(), vertices: vertices.collect(), ..Mesh::default() }));
                    // A mesh has hard edges; thin lines around it soften them.
                    for outline in outlines {
                        let points = outline.iter().map(|point| at(*point)).collect();
                        painter.add(PathShape::closed_line(points, PathStroke::new(0.4, colour)));
                    }
                }
                Item::Line { points, colour: own } => {
                    let points = points.iter().map(|point| at(*point)).collect();
                    painter.add(PathShape::line(points, PathStroke::new((LINE_WIDTH * em).max(1.0), own.unwrap_or(colour))));
                }
            }
        }
    }
}

fn convert(item: DisplayItem, baseline: f32) -> Option<Item> {
    let point = |x: f64, y: f64| pos2(x as f32, y as f32 - baseline);
    // Black is what a formula says nothing about.
    let own = |colour: ratex_types::Color| {
        let channel = |value: f32| (value.clamp(0.0, 1.0) * 255.0).round() as u8;
        let colour = Color32::from_rgba_unmultiplied(channel(colour.r), channel(colour.g), channel(colour.b), channel(colour.a));
        (colour != Color32::BLACK).then_some(colour)
    };
    Some(match item {
        DisplayItem::GlyphPath { x, y, scale, font, char_code, color } => {
            let family = FORMULA_FONTS.iter().find(|family| **family == font).copied().unwrap_or_default();
            Item::Glyph { at: point(x, y), size: scale as f32, family, text: char::from_u32(char_code)?, colour: own(color) }
        }
        DisplayItem::Line { x, y, width, thickness, color, dashed: _ } => {
            let rect = Rect::from_min_size(point(x, y - thickness / 2.0), vec2(width as f32, thickness as f32));
            Item::Rule { rect, colour: own(color) }
        }
        DisplayItem::Rect { x, y, width, height, color } => {
            Item::Rule { rect: Rect::from_min_size(point(x, y), vec2(width as f32, height as f32)), colour: own(color) }
        }
        DisplayItem::Path { x, y, commands, fill, color } => {
            let outlines = flattened(&commands, point(x, y).to_vec2());
            if !fill {
                return Some(Item::Line { points: outlines.into_iter().flatten().collect(), colour: own(color) });
            }
            let (points, indices) = filled(&outlines)?;
            Item::Fill { points, indices, outlines, colour: own(color) }
        }
    })
}

/// The paths with curves as short lines.
fn flattened(commands: &[PathCommand], offset: Vec2) -> Vec<Vec<Pos2>> {
    const STEPS: usize = 12;
    let point = |x: f64, y: f64| pos2(x as f32, y as f32) + offset;
    let mut paths: Vec<Vec<Pos2>> = vec![];
    for command in commands {
        if let PathCommand::MoveTo { x, y } = *command {
            paths.push(vec![point(x, y)]);
            continue;
        }
        let Some(path) = paths.last_mut() else { continue };
        let Some(&from) = path.last() else { continue };
        match *command {
            PathCommand::LineTo { x, y } => path.push(point(x, y)),
            PathCommand::QuadTo { x1, y1, x, y } => {
                let (a, b) = (point(x1, y1), point(x, y));
                path.extend((1..=STEPS).map(|step| {
                    let t = step as f32 / STEPS as f32;
                    from.lerp(a, t).lerp(a.lerp(b, t), t)
                }));
            }
            PathCommand::CubicTo { x1, y1, x2, y2, x, y } => {
                let (a, b, c) = (point(x1, y1), point(x2, y2), point(x, y));
                path.extend((1..=STEPS).map(|step| {
                    let t = step as f32 / STEPS as f32;
                    let (left, middle, right) = (from.lerp(a, t), a.lerp(b, t), b.lerp(c, t));
                    left.lerp(middle, t).lerp(middle.lerp(right, t), t)
                }));
            }
            PathCommand::MoveTo { .. } | PathCommand::Close => {}
        }
    }
    paths.retain(|path| path.len() > 1 && path.iter().all(|point| point.any_nan().then_some(()).is_none()));
    paths
}

/// Triangles that fill the paths.
fn filled(outlines: &[Vec<Pos2>]) -> Option<(Vec<Pos2>, Vec<u32>)> {
    let mut path = Path::builder();
    for outline in outlines {
        let mut points = outline.iter().map(|point| math::point(point.x, point.y));
        path.begin(points.next()?);
        points.for_each(|point| {
            path.line_to(point);
        });
        path.end(true);
    }
    let mut buffers: VertexBuffers<Pos2, u32> = VertexBuffers::new();
    let mut builder = BuffersBuilder::new(&mut buffers, |vertex: FillVertex<'_>| pos2(vertex.position().x, vertex.position().y));
    let options = FillOptions::non_zero().with_tolerance(0.001);
    FillTessellator::new().tessellate_path(&path.build(), &options, &mut builder).ok()?;
    Some((buffers.vertices, buffers.indices))
}

/// Formulas that were set, by their text and whether they stand alone.
#[derive(Default)]
pub struct Formulas {
    set: HashMap<(Arc<str>, bool), Option<Arc<Formula>>>,
}

impl Formulas {
    pub fn get(&mut self, latex: &Arc<str>, display: bool) -> Option<Arc<Formula>> {
        // A formula that is being written leaves all its beginnings behind.
        if self.set.len() > 2000 {
            self.set.clear();
        }
        self.set.entry((latex.clone(), display)).or_insert_with(|| Formula::new(latex, display).map(Arc::new)).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_formulas_are_set() {
        for latex in [
            r"x = \frac{-b \pm \sqrt{b^2 - 4ac}}{2a}",
            r"\int_0^\infty e^{-x^2}\,dx = \frac{\sqrt{\pi}}{2}",
            r"\begin{pmatrix} a & b \\ c & d \end{pmatrix}",
            r"\begin{cases} 1 & x > 0 \\ 0 & \text{otherwise} \end{cases}",
            r"\sum_{i=1}^{n} i^2 \le \prod_{k} \alpha_k",
            r"\begin{aligned} a &= b \\ &= c \end{aligned}",
            r"\mathbb{R} \to \mathcal{L}(\theta) \quad \hat{y} \vec{v} \overline{z}",
            r"\left( \frac{\partial f}{\partial x} \right)_{n}",
            r"\underbrace{a + b}_{c} \xrightarrow{f} d",
        ] {
            let formula = Formula::new(latex, true).unwrap_or_else(|| panic!("{latex} is not set"));
            assert!(formula.width > 1.0 && formula.ascent > 0.3 && formula.items.len() > 3, "{latex}: {formula:?}");
        }
    }

    #[test]
    fn a_fraction_is_higher_in_its_own_line() {
        let [inline, block] = [false, true].map(|display| Formula::new(r"\frac{a}{b}", display).unwrap());
        assert!(block.ascent > inline.ascent);
    }

    #[test]
    fn sizes_are_bounded() {
        let formula = Formula::new(r"\rule{1e30em}{1e30em}", false);
        assert!(formula.is_none_or(|formula| formula.width < 1000.0 && formula.ascent < 1000.0));
    }

    #[test]
    fn hostile_formulas_are_refused() {
        for latex in [
            r"\frac{a".to_owned(),
            "{".repeat(3000),
            r"\left(".repeat(1000),
            r"\def\a{\a\a}\a".to_owned(),
            r"\no-such-command".to_owned(),
            "x".repeat(MAX_BYTES + 1),
            String::new(),
        ] {
            assert_eq!(Formula::new(&latex, false), None, "{}", &latex[..latex.len().min(40)]);
        }
    }
}
