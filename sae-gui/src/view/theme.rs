//! Colors, sizes, fonts, and the few symbols that are painted. Knows no data.

use crate::load::fonts::SystemFont;
use crate::state::writing::Shade;
use egui::{
    Color32, Context, CornerRadius, FontData, FontDefinitions, FontFamily, FontId, Margin, Pos2, Rect, Shape, Stroke,
    TextStyle, Theme, Ui, Visuals, vec2,
};
use std::sync::Arc;

/// Size of small text: class names, tiles, axes.
pub const SMALL: f32 = 11.0;

/// The bundled font for characters that egui's own fonts lack: arrows, Greek, Cyrillic, Arabic, mathematics.
const BUNDLED: &[u8] = sae_workbench::assets::FONT;

/// Uses the bundled font, and then fonts of the system, for characters that egui's own fonts lack.
pub fn install_fonts(ctx: &Context, system: Vec<SystemFont>) {
    let mut fonts = FontDefinitions::default();
    let system = system.into_iter().map(|font| (font.script, FontData::from_owned(font.bytes)));
    for (name, data) in std::iter::once(("bundled", FontData::from_static(BUNDLED))).chain(system) {
        fonts.font_data.insert(name.into(), Arc::new(data));
        for family in [FontFamily::Proportional, FontFamily::Monospace] {
            fonts.families.entry(family).or_default().push(name.into());
        }
    }
    ctx.set_fonts(fonts);
}

/// Sets sizes, spacing and the two sets of colors.
pub fn install(ctx: &Context) {
    for theme in [Theme::Light, Theme::Dark] {
        ctx.set_visuals_of(theme, visuals(theme == Theme::Dark));
    }
    ctx.all_styles_mut(|style| {
        let font = |size, family| FontId::new(size, family);
        style.text_styles = [
            (TextStyle::Small, font(SMALL, FontFamily::Proportional)),
            (TextStyle::Body, font(13.5, FontFamily::Proportional)),
            (TextStyle::Button, font(13.5, FontFamily::Proportional)),
            (TextStyle::Heading, font(23.0, FontFamily::Proportional)),
            (TextStyle::Monospace, font(12.5, FontFamily::Monospace)),
        ]
        .into();
        style.spacing.item_spacing = vec2(8.0, 6.0);
        style.spacing.button_padding = vec2(8.0, 4.0);
        style.spacing.menu_margin = Margin::same(6);
    });
}

fn visuals(dark: bool) -> Visuals {
    let mut visuals = if dark { Visuals::dark() } else { Visuals::light() };
    let [ground, raised, sunk, line, text] = match dark {
        true => [0x17191e, 0x1f2229, 0x121418, 0x30343d, 0xd5d9e0],
        false => [0xf7f8fa, 0xffffff, 0xffffff, 0xdde1e7, 0x22262d],
    }
    .map(rgb);
    visuals.panel_fill = ground;
    visuals.window_fill = raised;
    visuals.extreme_bg_color = sunk;
    visuals.faint_bg_color = if dark { rgb(0x1a1d23) } else { rgb(0xf0f2f5) };
    visuals.window_stroke = Stroke::new(1.0, line);
    visuals.override_text_color = None;
    visuals.hyperlink_color = accent(dark);
    visuals.selection.bg_fill = if dark { rgb(0x2b4266) } else { rgb(0xcfe0fb) };
    visuals.selection.stroke = Stroke::new(1.0, if dark { rgb(0xf2f5fa) } else { rgb(0x10233f) });
    let widgets = &mut visuals.widgets;
    widgets.noninteractive.bg_stroke = Stroke::new(1.0, line);
    widgets.noninteractive.fg_stroke = Stroke::new(1.0, text);
    widgets.inactive.fg_stroke = Stroke::new(1.0, text);
    widgets.inactive.weak_bg_fill = if dark { rgb(0x262a32) } else { rgb(0xe9ecf1) };
    widgets.hovered.bg_fill = if dark { rgb(0x262b35) } else { rgb(0xe6ebf3) };
    widgets.hovered.weak_bg_fill = if dark { rgb(0x30353f) } else { rgb(0xdde3ec) };
    for state in [&mut widgets.inactive, &mut widgets.hovered, &mut widgets.active, &mut widgets.open] {
        state.corner_radius = CornerRadius::same(5);
    }
    visuals
}

const fn rgb(hex: u32) -> Color32 {
    Color32::from_rgb((hex >> 16) as u8, (hex >> 8) as u8, hex as u8)
}

fn accent(dark: bool) -> Color32 {
    if dark { rgb(0x7fb0ff) } else { rgb(0x1b62d6) }
}

/// The color of a class of features, and of a modality.
pub fn class(ui: &Ui, name: &str) -> Color32 {
    let dark = ui.visuals().dark_mode;
    // A side of several modalities has the color of its first one.
    match (name.split(',').next().unwrap_or(name), dark) {
        ("text", true) => rgb(0x74adff),
        ("text", false) => rgb(0x1f66d0),
        ("image", true) => rgb(0xf3ac63),
        ("image", false) => rgb(0xb8610a),
        ("action", true) => rgb(0x63c9a4),
        ("action", false) => rgb(0x0b7f58),
        ("audio", true) => rgb(0xe98aa8),
        ("audio", false) => rgb(0xb3295b),
        ("video", true) => rgb(0xd9c65c),
        ("video", false) => rgb(0x857200),
        ("other", true) => rgb(0x9fb0c8),
        ("other", false) => rgb(0x5c6f8a),
        ("cross", true) => rgb(0xd08df2),
        ("cross", false) => rgb(0x8b35c9),
        (_, true) => rgb(0x747b87),
        (_, false) => rgb(0x8a919c),
    }
}

/// The color that marks a patch in a picture. It is drawn with a dark rim, so that it is visible on any picture.
pub const MARK: Color32 = rgb(0xffd84d);

/// The background of the marked token, and its text.
pub fn hit(ui: &Ui) -> (Color32, Color32) {
    if ui.visuals().dark_mode { (rgb(0xffd84d), rgb(0x1b1600)) } else { (rgb(0xffdf66), rgb(0x221b00)) }
}

/// The background of cards and tiles, and the line around them.
pub fn card(ui: &Ui) -> (Color32, Stroke) {
    (ui.visuals().window_fill, ui.visuals().window_stroke)
}

/// The color of what matters less, with enough contrast to be read.
pub fn muted(ui: &Ui) -> Color32 {
    if ui.visuals().dark_mode { rgb(0x979eaa) } else { rgb(0x5f6773) }
}

/// Small secondary text.
pub fn small(ui: &Ui, text: &str) -> egui::RichText {
    egui::RichText::new(text).small().color(muted(ui))
}

/// The background of a text by its severity: blue below the threshold, orange above it, stronger with the distance.
pub fn severity(ui: &Ui, shade: Shade) -> Color32 {
    let amount = shade.amount as f32;
    if shade.is_flagged {
        flagged(ui).gamma_multiply(0.2 + 0.4 * amount)
    } else {
        class(ui, "text").gamma_multiply(0.06 + 0.24 * amount)
    }
}

/// The color of what a guard flags.
pub fn flagged(ui: &Ui) -> Color32 {
    if ui.visuals().dark_mode { rgb(0xf2873a) } else { rgb(0xd95f0e) }
}

/// The colors of promoted and of suppressed tokens.
pub fn promoted(ui: &Ui, promoted: bool) -> Color32 {
    match (promoted, ui.visuals().dark_mode) {
        (true, true) => rgb(0x7ccf8d),
        (true, false) => rgb(0x1d7a36),
        (false, true) => rgb(0xef8b94),
        (false, false) => rgb(0xb3293a),
    }
}

/// The title of a part of a page, with space above it.
pub fn section(ui: &mut Ui, text: &str, hint: &str) {
    ui.add_space(8.0);
    title(ui, text, hint);
}

/// The title of a part of a page, for a row with other widgets in it.
pub fn title(ui: &mut Ui, title: &str, hint: &str) {
    let label = ui.label(egui::RichText::new(title).size(15.0).strong());
    if !hint.is_empty() {
        label.on_hover_text(hint);
    }
}

/// A sentence in place of what cannot be shown, with its hints on lines of their own.
pub fn note(ui: &mut Ui, text: &str) {
    for line in text.lines() {
        ui.add(egui::Label::new(egui::RichText::new(line).color(muted(ui))).wrap());
    }
}

/// Where a painted triangle points.
#[derive(Clone, Copy)]
pub enum Direction {
    /// To the left.
    Left,
    /// To the right.
    Right,
    /// Up.
    Up,
    /// Down.
    Down,
}

/// A small triangle in the middle of `rect`.
pub fn triangle(rect: Rect, direction: Direction, color: Color32) -> Shape {
    let (center, r) = (rect.center(), 4.0);
    let at = |x: f32, y: f32| Pos2::new(center.x + x * r, center.y + y * r);
    let points = match direction {
        Direction::Left => vec![at(-0.8, 0.0), at(0.6, -1.0), at(0.6, 1.0)],
        Direction::Right => vec![at(0.8, 0.0), at(-0.6, 1.0), at(-0.6, -1.0)],
        Direction::Up => vec![at(0.0, -0.8), at(1.0, 0.6), at(-1.0, 0.6)],
        Direction::Down => vec![at(0.0, 0.8), at(-1.0, -0.6), at(1.0, -0.6)],
    };
    Shape::convex_polygon(points, color, Stroke::NONE)
}
