//! A chart as SVG, drawn twice: for a wide and for a narrow screen; the style sheet shows one of them.
//!
//! ```text
//! values   y │   ·  ╱        rows, wide    name │ ▓▓▓▓░░      │ figure
//!            │ ·  ╱ ·                      name │   ├──●──┤   │ figure
//!            └────────── x   rows, narrow  name             figure
//!                                          │ ▓▓▓▓░░               │
//! ```
//! Colours are classes (`f3` fills, `s3` strokes) that the style sheet defines, for light and dark.

use maud::{Markup, html};

use crate::report::axis::{Axis, pixel};
use ringest_base::text::figures::cut;

/// The meaning of a colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The most important text and lines.
    Ink,
    /// Less important text and lines.
    Muted,
    /// Lines that guide the eye.
    Grid,
    /// The intended amount.
    Whole,
    /// The part that arrived.
    Kept,
    /// The part that was lost.
    Lost,
    /// One of several series; the ninth has the colour of the first. Each has its own lightness and
    /// dashes, so that they can be told apart without seeing all colours.
    Series(usize),
}

impl Role {
    fn class(self, kind: char) -> String {
        let index = match self {
            Self::Ink => 0,
            Self::Muted => 1,
            Self::Grid => 2,
            Self::Whole => 3,
            Self::Kept => 4,
            Self::Lost => 5,
            Self::Series(index) => 6 + index % 8,
        };
        format!("{kind}{index}")
    }

    fn fill(self) -> String {
        self.class('f')
    }

    fn stroke(self) -> String {
        self.class('s')
    }
}

/// The sample of a series in the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Swatch {
    Line,
    Dot,
    Ring,
    Bar,
}

/// A shape in the plane, in values of the axes. With rows, y is the number of the row, from 0.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Mark {
    /// A line through all points, of this width in pixels.
    Line(Vec<(f64, f64)>, Role, u8),
    /// A line between two points, with a bar across each end.
    Range([(f64, f64); 2], Role),
    /// A bar from one x to another at y; at least 2 pixels long.
    Bar([f64; 2], f64, Role),
    /// A dot, filled.
    Dot((f64, f64), Role),
    /// A dot, not filled.
    Ring((f64, f64), Role),
    /// A line at y over the whole width.
    Level(f64, Role),
    /// A line at x over the whole height, named above the plane.
    Limit(f64, String),
}

/// The vertical side of a chart.
#[derive(Clone, Debug)]
pub(crate) enum Side {
    /// A second axis.
    Values(Axis),
    /// Rows from top to bottom: the name before it, the figure behind it.
    Rows(Vec<(String, String)>),
}

/// A chart with its caption and key.
#[derive(Debug)]
pub(crate) struct Chart<'a> {
    /// Unique on the page; letters, digits and dashes.
    pub(crate) id: &'a str,
    /// A few words.
    pub(crate) title: &'a str,
    /// How to read it; also read to users who cannot see it.
    pub(crate) says: &'a str,
    /// The meaning of each colour.
    pub(crate) key: Vec<(Swatch, Role, String)>,
    pub(crate) x: Axis,
    pub(crate) y: Side,
    /// In the order they are drawn.
    pub(crate) marks: Vec<Mark>,
}

/// The mean width of a character, pixels: a digit of a wide font at the style sheet's 13 pixels.
const CHAR_PX: i32 = 8;
/// The most rows that are drawn.
const ROWS_MAX: usize = 500;

fn width_px(text: &str) -> i32 {
    i32::try_from(text.chars().count()).unwrap_or(i32::MAX / CHAR_PX).saturating_mul(CHAR_PX)
}

fn text((x, y): (i32, i32), role: Role, anchor: &str, text: &str) -> Markup {
    html! { text class=(role.fill()) x=(x) y=(y) text-anchor=(anchor) { (text) } }
}

fn line((x1, y1): (i32, i32), (x2, y2): (i32, i32), role: Role, width: u8) -> Markup {
    html! { line class=(role.stroke()) x1=(x1) y1=(y1) x2=(x2) y2=(y2) stroke-width=(width) {} }
}

impl Chart<'_> {
    /// Returns the figure: caption, key and both drawings.
    pub(crate) fn figure(&self) -> Markup {
        html! {
            figure id=(self.id) {
                figcaption { b { (self.title) } " " (self.says) }
                @if !self.key.is_empty() {
                    ul.key {
                        @for (swatch, role, name) in &self.key { li { (swatch.draw(*role)) (name) } }
                    }
                }
                (self.draw(false))
                (self.draw(true))
            }
        }
    }

    fn draw(&self, narrow: bool) -> Markup {
        let plane = Plane::new(self, narrow);
        let class = if narrow { "narrow" } else { "wide" };
        let [title, desc] = ["title", "desc"].map(|part| format!("{}-{class}-{part}", self.id));
        html! {
            svg class=(format!("chart {class}"))
                viewBox=(format!("0 0 {} {}", plane.width, plane.height))
                role="img" aria-labelledby=(format!("{title} {desc}")) {
                title id=(title) { (self.title) }
                desc id=(desc) { (self.says) }
                (plane.across())
                (plane.side())
                @for mark in &self.marks { (plane.mark(mark)) }
                (plane.limits())
            }
        }
    }
}

impl Swatch {
    fn draw(self, role: Role) -> Markup {
        let (fill, stroke) = (role.fill(), role.stroke());
        let width = if self == Self::Line { 30 } else { 14 };
        html! {
            svg viewBox=(format!("0 0 {width} 12")) width=(width) height="12" aria-hidden="true" {
                @match self {
                    Self::Line => {
                        polyline class=(stroke) points="0,6 30,6" fill="none" stroke-width="3" {}
                    }
                    Self::Dot => circle class=(fill) cx="7" cy="6" r="5" {},
                    Self::Ring => {
                        circle class=(stroke) cx="7" cy="6" r="4" fill="none" stroke-width="2" {}
                    }
                    Self::Bar => rect class=(fill) width="14" height="12" {},
                }
            }
        }
    }
}

/// A chart laid out for one screen width. All lengths are pixels.
struct Plane<'a> {
    chart: &'a Chart<'a>,
    narrow: bool,
    width: i32,
    height: i32,
    /// Left and right end of the x axis.
    x: (i32, i32),
    /// Top and bottom of the plane.
    y: (i32, i32),
    /// Height of a row.
    row_px: i32,
}

impl<'a> Plane<'a> {
    fn new(chart: &'a Chart<'a>, narrow: bool) -> Self {
        // Narrow: a phone of 390 pixels less the page's margins.
        let (width, row_px) = if narrow { (352, 46) } else { (880, 30) };
        let (x, y) = match &chart.y {
            Side::Values(axis) => {
                let labels = axis.ticks().map(|(_, label)| width_px(label)).max().unwrap_or(0);
                let has_limits = chart.marks.iter().any(|mark| matches!(mark, Mark::Limit(..)));
                let top = if has_limits { 64 } else { 28 };
                let (right, bottom) = if narrow { (20, 253) } else { (28, 313) };
                ((labels + 14, width - right), (top, bottom))
            }
            Side::Rows(rows) => {
                let names = rows.iter().map(|(name, _)| width_px(name)).max().unwrap_or(0);
                let figures = rows.iter().map(|(_, figure)| width_px(figure)).max().unwrap_or(0);
                let x = (names.min(300) + 10, width - figures.min(220) - 10);
                let count = i32::try_from(rows.len().min(ROWS_MAX)).unwrap_or(0);
                (if narrow { (6, width - 6) } else { x }, (4, 4 + count * row_px))
            }
        };
        Self { chart, narrow, width, height: y.1 + 47, x, y, row_px }
    }

    /// Returns the point of two values.
    fn at(&self, (x, y): (f64, f64)) -> (i32, i32) {
        let across = self.chart.x.pixel(x, self.x);
        match &self.chart.y {
            Side::Values(axis) => (across, axis.pixel(y, (self.y.1, self.y.0))),
            Side::Rows(rows) => {
                let rows = f64::from(u32::try_from(rows.len().clamp(1, ROWS_MAX)).unwrap_or(1));
                let middle = pixel((y + 0.5) / rows, self.y);
                // On a narrow screen the name stands in the upper part of the row.
                (across, middle + if self.narrow { 8 } else { 0 })
            }
        }
    }

    /// Draws the x axis. Labels that would run into the one before are left out with their lines.
    fn across(&self) -> Markup {
        let spans: Vec<(i32, i32)> = match &self.chart.y {
            Side::Values(_) => vec![self.y],
            Side::Rows(rows) => {
                let above = if self.narrow { 19 } else { 0 };
                let tops = (0..).zip(rows).map(|(row, _)| self.y.0 + row * self.row_px);
                tops.take(ROWS_MAX).map(|top| (top + above, top + self.row_px)).collect()
            }
        };
        let mut free = 0;
        let mut shown = Vec::new();
        for (value, label) in self.chart.x.ticks() {
            let (at, half) = (self.chart.x.pixel(value, self.x), width_px(label) / 2 + 4);
            let middle = at.min(self.width - half).max(half);
            if middle - half >= free {
                free = middle + half;
                shown.push((at, middle, label));
            }
        }
        html! {
            @for (at, middle, label) in shown {
                @for (top, bottom) in &spans { (line((at, *top), (at, *bottom), Role::Grid, 1)) }
                (text((middle, self.y.1 + 18), Role::Muted, "middle", label))
            }
            (text((self.x.1, self.height - 9), Role::Muted, "end", self.chart.x.title))
        }
    }

    /// Draws the y axis, or the names and figures of the rows.
    fn side(&self) -> Markup {
        match &self.chart.y {
            Side::Values(axis) => html! {
                @for (value, label) in axis.ticks() {
                    @let y = axis.pixel(value, (self.y.1, self.y.0));
                    (line((self.x.0, y), (self.x.1, y), Role::Grid, 1))
                    (text((self.x.0 - 8, y + 5), Role::Muted, "end", label))
                }
                (line((self.x.0, self.y.1), (self.x.1, self.y.1), Role::Muted, 1))
                (text((0, 13), Role::Muted, "start", axis.title))
            },
            Side::Rows(rows) => html! {
                @for (row, (name, figure)) in (0..).zip(rows).take(ROWS_MAX) {
                    @let y = self.y.0 + row * self.row_px + if self.narrow { 17 } else { 20 };
                    @let beside = if self.narrow { self.width - width_px(figure) } else { self.x.0 };
                    @let room = usize::try_from((beside - 10) / CHAR_PX).unwrap_or(0).max(4);
                    (text((0, y), Role::Ink, "start", &cut(name, room)))
                    (text((self.width, y), Role::Ink, "end", figure))
                }
            },
        }
    }

    fn mark(&self, mark: &Mark) -> Markup {
        match mark {
            Mark::Line(points, role, width) => {
                let points = points.iter().map(|point| self.at(*point));
                let points: Vec<String> = points.map(|(x, y)| format!("{x},{y}")).collect();
                html! {
                    polyline class=(role.stroke()) points=(points.join(" ")) fill="none"
                        stroke-width=(width) {}
                }
            }
            Mark::Range(ends, role) => {
                let [from, to] = ends.map(|end| self.at(end));
                let (across, down) =
                    if matches!(self.chart.y, Side::Rows(_)) { (0, 5) } else { (4, 0) };
                html! {
                    (line(from, to, *role, 2))
                    @for (x, y) in [from, to] {
                        (line((x - across, y - down), (x + across, y + down), *role, 2))
                    }
                }
            }
            Mark::Bar([from, to], row, role) => {
                let ((a, y), (b, _)) = (self.at((*from, *row)), self.at((*to, *row)));
                let left = a.min(b).min(self.x.1 - 2);
                let width = (a.max(b) - left).max(2);
                html! { rect class=(role.fill()) x=(left) y=(y - 8) width=(width) height="16" {} }
            }
            Mark::Dot(point, role) => {
                let (x, y) = self.at(*point);
                html! { circle class=(role.fill()) cx=(x) cy=(y) r="4" {} }
            }
            Mark::Ring(point, role) => {
                let (x, y) = self.at(*point);
                html! { circle class=(role.stroke()) cx=(x) cy=(y) r="4" fill="none" stroke-width="2" {} }
            }
            Mark::Level(y, role) => {
                let (_, y) = self.at((0.0, *y));
                line((self.x.0, y), (self.x.1, y), *role, 2)
            }
            Mark::Limit(x, _) => {
                let x = self.chart.x.pixel(*x, self.x);
                line((x, self.y.0), (x, self.y.1), Role::Ink, 1)
            }
        }
    }

    /// Names the limits above the plane. A name that would meet another is set higher.
    fn limits(&self) -> Markup {
        let mut taken: Vec<(i32, i32)> = Vec::new();
        let mut names = Vec::new();
        for mark in &self.chart.marks {
            let Mark::Limit(x, name) = mark else { continue };
            let (at, half) = (self.chart.x.pixel(*x, self.x), width_px(name) / 2);
            let middle = at.min(self.width - half).max(half);
            let span = (middle - half - 4, middle + half + 4);
            let meets = taken.iter().any(|other| span.0 < other.1 && other.0 < span.1);
            taken.push(span);
            names.push(text((middle, if meets { 37 } else { 55 }), Role::Ink, "middle", name));
        }
        html! { @for name in names { (name) } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringest_base::text::figures::short;

    #[test]
    fn colours_and_fonts_are_left_to_the_style_sheet() {
        let axis = Axis::from_zero([5.0], 5, short).titled("fill=\"#FE0103\"<");
        let chart = Chart {
            id: "x",
            title: "<b>",
            says: "\"",
            key: vec![(Swatch::Line, Role::Lost, "<i>".into())],
            x: axis.clone(),
            y: Side::Values(axis),
            marks: vec![Mark::Dot((1.0, 1.0), Role::Series(9))],
        };
        let html = chart.figure().into_string();
        for wanted in ["class=\"f1\"", "class=\"f7\"", "class=\"s2\"", "class=\"s5\"", "&lt;i&gt;"]
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
