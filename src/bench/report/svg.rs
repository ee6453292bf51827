//! From a drawing to a figure of the page: drawn twice, for a wide and for a narrow screen, with
//! colours that are named there and chosen by the style sheet, so that dark is not light inverted.
//!
//! plotters knows colours only as numbers. Each [`Role`] is drawn in a number that stands for it, and
//! [`finish`] turns the number into a class. Text from outside is escaped by plotters before that: it
//! holds no quotes, so it cannot look like an attribute.

use std::fmt::Write;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use ringest_base::text::figures::escape;

/// Only a drawing that goes to a file can fail to be written; this is for the types' sake.
pub(crate) type Failed = DrawingAreaErrorKind<std::io::Error>;
/// All of a drawing, in pixels.
pub(crate) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// What a colour stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// What is to be read first.
    Ink,
    /// What is read after it.
    Muted,
    /// Lines that guide the eye.
    Grid,
    /// What was meant, against what came of it.
    Whole,
    /// What arrived.
    Kept,
    /// What did not.
    Lost,
    /// One of several of a kind; those beyond [`Role::SERIES`] begin again.
    Series(usize),
}

impl Role {
    /// Kinds that can be told apart, also by those who do not see all colours: each has its own
    /// lightness and its own dashes.
    pub(crate) const SERIES: usize = 8;

    fn index(self) -> usize {
        match self {
            Self::Ink => 0,
            Self::Muted => 1,
            Self::Grid => 2,
            Self::Whole => 3,
            Self::Kept => 4,
            Self::Lost => 5,
            Self::Series(index) => 6 + index % Self::SERIES,
        }
    }

    /// The number that stands for it until [`finish`].
    pub(crate) fn color(self) -> RGBColor {
        RGBColor(0xFE, 0x01, u8::try_from(self.index()).unwrap_or(0))
    }
}

/// How a kind is shown in the key: as it is in the chart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Swatch {
    /// With its dashes.
    Line,
    /// Filled.
    Dot,
    /// Not filled.
    Ring,
    /// A piece of a bar.
    Bar,
}

/// Height of the text in charts, pixels; the style sheet says the same.
pub(crate) const TEXT_PX: i32 = 13;
/// What a character takes at most, on average: a wide font's digit.
pub(crate) const CHAR_PX: f64 = 8.0;

/// How much room there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Beside each other.
    Wide,
    /// Below each other.
    Narrow,
}

impl Layout {
    /// Pixels across. Narrow: a phone of 390 less the page's margins.
    pub(crate) fn width(self) -> u32 {
        match self {
            Self::Wide => 880,
            Self::Narrow => 352,
        }
    }

    /// `wide` or `narrow`.
    pub(crate) fn pick<T>(self, wide: T, narrow: T) -> T {
        match self {
            Self::Wide => wide,
            Self::Narrow => narrow,
        }
    }
}

/// Width of `text`, generously.
#[expect(clippy::cast_possible_truncation, reason = "some hundred pixels")]
pub(crate) fn width_px(text: &str) -> i32 {
    let chars = u16::try_from(text.chars().count()).unwrap_or(u16::MAX);
    (f64::from(chars) * CHAR_PX).ceil() as i32
}

/// How a text lies to its point.
pub(crate) fn ink(role: Role, h: HPos, v: VPos) -> TextStyle<'static> {
    ("sans-serif", TEXT_PX).into_font().color(&role.color()).pos(Pos::new(h, v))
}

/// A drawing of `size`, as SVG.
pub(crate) fn drawing(
    size: (u32, u32),
    draw: impl FnOnce(&Area<'_>) -> Result<(), Failed>,
) -> Result<String, Failed> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        draw(&root)?;
        root.present()?;
    }
    Ok(svg)
}

/// What a figure says of itself.
#[derive(Debug)]
pub(crate) struct Caption<'a> {
    /// Unique on the page; letters and dashes.
    pub(crate) id: &'a str,
    /// A few words.
    pub(crate) title: &'a str,
    /// What to see in it, also for those who do not see it. Text, not HTML.
    pub(crate) says: &'a str,
    /// What is told apart by colour.
    pub(crate) legend: Vec<(Swatch, Role, String)>,
}

/// The figure, or nothing if it cannot be drawn.
pub(crate) fn figure(
    caption: &Caption<'_>,
    draw: impl Fn(Layout) -> Result<String, Failed>,
) -> String {
    let (Ok(wide), Ok(narrow)) = (draw(Layout::Wide), draw(Layout::Narrow)) else {
        return String::new();
    };
    let Caption { id, title, says, legend } = caption;
    let mut html = format!(
        "<figure id=\"{id}\">\n<figcaption><b>{}</b> {}</figcaption>\n",
        escape(title),
        escape(says)
    );
    html += &key(legend);
    html += &finish(&wide, caption, Layout::Wide);
    html += &finish(&narrow, caption, Layout::Narrow);
    html + "</figure>\n"
}

fn key(legend: &[(Swatch, Role, String)]) -> String {
    if legend.is_empty() {
        return String::new();
    }
    let mut html = String::from("<ul class=\"key\">\n");
    for (swatch, role, name) in legend {
        let index = role.index();
        let (width, shape) = match swatch {
            Swatch::Line => (
                30,
                format!(
                    "<polyline class=\"s{index}\" points=\"0,6 30,6\" fill=\"none\" stroke-width=\"3\"/>"
                ),
            ),
            Swatch::Dot => (12, format!("<circle class=\"f{index}\" cx=\"6\" cy=\"6\" r=\"5\"/>")),
            Swatch::Ring => (
                12,
                format!(
                    "<circle class=\"s{index}\" cx=\"6\" cy=\"6\" r=\"4\" fill=\"none\" stroke-width=\"2\"/>"
                ),
            ),
            Swatch::Bar => (16, format!("<rect class=\"f{index}\" width=\"16\" height=\"12\"/>")),
        };
        let _ = writeln!(
            html,
            "<li><svg viewBox=\"0 0 {width} 12\" width=\"{width}\" height=\"12\" \
             aria-hidden=\"true\">{shape}</svg>{}</li>",
            escape(name)
        );
    }
    html + "</ul>\n"
}

/// Gives a drawing its name for those who do not see it, and the page's colours and font.
fn finish(svg: &str, caption: &Caption<'_>, layout: Layout) -> String {
    let class = layout.pick("wide", "narrow");
    let Caption { id, title, says, .. } = caption;
    let view = svg.split_once("viewBox=\"").and_then(|(_, rest)| rest.split_once('"'));
    let body = svg.split_once('>').map_or("", |(_, body)| body);
    let mut html = format!(
        "<svg class=\"chart {class}\" viewBox=\"{}\" role=\"img\" \
         aria-labelledby=\"{id}-{class}-title {id}-{class}-desc\">\n\
         <title id=\"{id}-{class}-title\">{}</title>\n<desc id=\"{id}-{class}-desc\">{}</desc>",
        view.map_or("0 0 1 1", |(view, _)| view),
        escape(title),
        escape(says)
    );
    let mut body = body.replace(" opacity=\"1\"", "").replace(" stroke=\"none\"", "");
    for (attribute, class) in [("fill", 'f'), ("stroke", 's')] {
        for index in 0..6 + Role::SERIES {
            let number = format!("{attribute}=\"#FE01{index:02X}\"");
            body = body.replace(&number, &format!("class=\"{class}{index}\""));
        }
    }
    html += &without_attributes(&body, [" font-family=\"", " font-size=\""]);
    html
}

/// Removes attributes with their values.
fn without_attributes(svg: &str, names: [&str; 2]) -> String {
    names.iter().fold(svg.to_owned(), |svg, name| {
        let mut parts = svg.split(name);
        let first = parts.next().unwrap_or_default().to_owned();
        parts.fold(first, |kept, part| kept + part.split_once('"').map_or("", |(_, rest)| rest))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_and_fonts_are_left_to_the_style_sheet() {
        let caption = Caption {
            id: "x",
            title: "<b>",
            says: "\"",
            legend: vec![(Swatch::Line, Role::Lost, "<i>".into())],
        };
        let html = figure(&caption, |layout| {
            drawing((layout.width(), 40), |root| {
                root.draw(&Text::new(
                    "fill=\"#FE0103\"<",
                    (1, 1),
                    ink(Role::Ink, HPos::Left, VPos::Top),
                ))?;
                root.draw(&Circle::new((5, 5), 2, Role::Series(9).color().filled()))?;
                root.draw(&PathElement::new([(0, 0), (9, 9)], Role::Grid.color()))
            })
        });
        for wanted in ["class=\"f0\"", "class=\"f7\"", "class=\"s2\"", "class=\"s5\"", "&lt;i&gt;"]
        {
            assert!(html.contains(wanted), "{wanted} is not in {html}");
        }
        for unwanted in ["<b></b>", "<i>", "font-", "class=\"f3\"", "=\"#", "xmlns"] {
            assert!(!html.contains(unwanted), "{unwanted} is in {html}");
        }
        assert_eq!(html.matches("role=\"img\"").count(), 2);
        assert_eq!(html.matches("</svg>").count(), 3);
    }
}
