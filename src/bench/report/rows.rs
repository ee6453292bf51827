//! A chart of rows: a name, a track with bars, lines and dots on it, a figure.
//!
//! ```text
//! wide      name │ ▓▓▓▓▓▓▓▓░░░          │ figure      narrow   name            figure
//!           name │     ├──●───┤         │ figure               │ ▓▓▓▓▓▓▓▓░░░          │
//! ```

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use crate::report::axis::{Axis, pixel};
use crate::report::svg::{Area, Failed, Layout, Role, TEXT_PX, drawing, ink, width_px};
use ringest_base::text::figures::cut;

/// On a row's track; places are values of the axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Mark {
    /// Filled, from one value to another; what is not nothing is at least visible.
    Bar(f64, f64, Role),
    /// Thin, with ends.
    Span(f64, f64, Role),
    /// A point.
    Dot(f64, Role),
}

/// One row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    /// What stands before it.
    pub(crate) name: String,
    /// What stands behind it.
    pub(crate) figure: String,
    /// What is on it, in the order it is drawn.
    pub(crate) marks: Vec<Mark>,
}

/// All rows over one axis.
#[derive(Debug)]
pub(crate) struct Rows<'a> {
    /// Top to bottom.
    pub(crate) rows: &'a [Row],
    /// Values of the tracks.
    pub(crate) axis: Axis,
    /// What the axis measures; `None`: the axis is not drawn, the figures say it all.
    pub(crate) axis_title: Option<&'a str>,
}

/// Where things are, pixels.
struct Places {
    track: (i32, i32),
    row_px: i32,
    top: i32,
    bottom: i32,
}

/// Half a bar.
const BAR_PX: i32 = 8;
const GAP_PX: i32 = 10;

impl Rows<'_> {
    /// As SVG.
    pub(crate) fn draw(&self, layout: Layout) -> Result<String, Failed> {
        let places = self.places(layout);
        let height = places.bottom + self.axis_title.map_or(4, |_| 44);
        let height = u32::try_from(height).unwrap_or(1);
        drawing((layout.width(), height), |root| {
            if let Some(title) = self.axis_title {
                self.axis(root, layout, &places, title)?;
            }
            for (index, row) in (0..).zip(self.rows) {
                let top = places.top + index * places.row_px;
                draw_row(root, row, layout, (&self.axis, &places, top))?;
            }
            Ok(())
        })
    }

    fn places(&self, layout: Layout) -> Places {
        let width = i32::try_from(layout.width()).unwrap_or(i32::MAX);
        let widest = |text: fn(&Row) -> &str| {
            self.rows.iter().map(|row| width_px(text(row))).max().unwrap_or(0)
        };
        let row_px = layout.pick(30, 46);
        // A name is cut rather than let take more than this.
        let name_px = widest(|row| &row.name).min(300);
        let figure_px = widest(|row| &row.figure).min(220);
        let track = match layout {
            Layout::Wide => (name_px + GAP_PX, width - figure_px - GAP_PX),
            Layout::Narrow => (6, width - 6),
        };
        let rows = i32::try_from(self.rows.len().min(500)).unwrap_or(0);
        Places { track, row_px, top: 4, bottom: 4 + rows * row_px }
    }

    fn axis(
        &self,
        root: &Area<'_>,
        layout: Layout,
        places: &Places,
        title: &str,
    ) -> Result<(), Failed> {
        // Where names stand above the tracks, lines do not run through them.
        let above_px = layout.pick(0, 19);
        let bottom = places.bottom + 2;
        let ticks = self.axis.named().map(|(value, name)| (self.axis.fraction(value), name));
        let ends = ticks.clone().count().saturating_sub(1);
        for (index, (fraction, name)) in ticks.enumerate() {
            let x = pixel(fraction, places.track);
            for top in (0..).zip(self.rows).map(|(row, _)| places.top + row * places.row_px) {
                let line = [(x, top + above_px), (x, top + places.row_px)];
                root.draw(&PathElement::new(line, Role::Grid.color()))?;
            }
            // The outermost names stay within the drawing.
            let h = match index {
                0 => HPos::Left,
                last if last == ends && fraction > 0.9 => HPos::Right,
                _ => HPos::Center,
            };
            root.draw(&Text::new(
                name.to_owned(),
                (x, bottom + 5),
                ink(Role::Muted, h, VPos::Top),
            ))?;
        }
        let at = (places.track.1, bottom + 7 + TEXT_PX);
        root.draw(&Text::new(title.to_owned(), at, ink(Role::Muted, HPos::Right, VPos::Top)))
    }
}

fn draw_row(
    root: &Area<'_>,
    row: &Row,
    layout: Layout,
    (axis, places, top): (&Axis, &Places, i32),
) -> Result<(), Failed> {
    let width = i32::try_from(layout.width()).unwrap_or(i32::MAX);
    let figure_px = width_px(&row.figure);
    let room_px = layout.pick(places.track.0 - GAP_PX, width - figure_px - GAP_PX);
    let room = usize::try_from(room_px / width_px("x")).unwrap_or(4).max(4);
    let (text_y, track_y) = layout.pick((top + 15, top + 15), (top + 12, top + 31));
    let name = ink(Role::Ink, HPos::Left, VPos::Center);
    root.draw(&Text::new(cut(&row.name, room), (0, text_y), name))?;
    let figure = ink(Role::Ink, HPos::Right, VPos::Center);
    root.draw(&Text::new(row.figure.clone(), (width, text_y), figure))?;
    let at = |value| pixel(axis.fraction(value), places.track);
    for mark in &row.marks {
        match *mark {
            Mark::Bar(from, to, role) => {
                let (left, right) = (at(from.min(to)), at(from.max(to)));
                let right = right.max(left + 2).min(places.track.1.max(left));
                let left = left.min(right - 2);
                let corners = [(left, track_y - BAR_PX), (right, track_y + BAR_PX)];
                root.draw(&Rectangle::new(corners, role.color().filled()))?;
            }
            Mark::Span(from, to, role) => {
                let style = role.color().stroke_width(2);
                root.draw(&PathElement::new([(at(from), track_y), (at(to), track_y)], style))?;
                for end in [at(from), at(to)] {
                    let ends = [(end, track_y - 5), (end, track_y + 5)];
                    root.draw(&PathElement::new(ends, style))?;
                }
            }
            Mark::Dot(value, role) => {
                root.draw(&Circle::new((at(value), track_y), 5, role.color().filled()))?;
            }
        }
    }
    Ok(())
}
